package ca

import (
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"strings"
)

// The environment variables that LoadPassphrase reads.
const (
	PassphraseEnv     = "POSTERN_PASSPHRASE"
	PassphraseFileEnv = "POSTERN_PASSPHRASE_FILE"
)

// Passphrase protects the keys of an issuer on disk. However it is printed, logged or encoded, it shows nothing of itself.
type Passphrase struct{ secret string }

// NewPassphrase returns a passphrase of 1 to 1024 octets. A line break at the end is not part of it, so that files and variables agree.
func NewPassphrase(s string) (Passphrase, error) {
	s = strings.TrimRight(s, "\r\n")
	if s == "" || len(s) > 1024 {
		return Passphrase{}, errors.New("passphrase: want 1 to 1024 octets")
	}
	return Passphrase{s}, nil
}

// Format implements fmt.Formatter for every verb.
func (Passphrase) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, "[passphrase]") }

// MarshalText implements encoding.TextMarshaler, and with it JSON and slog.
func (Passphrase) MarshalText() ([]byte, error) { return []byte("[passphrase]"), nil }

// PassphraseSource says where LoadPassphrase looks.
type PassphraseSource struct {
	Getenv   func(string) string // os.Getenv
	Data     string              // the data directory; it is there
	Generate bool                // make <data>/passphrase if there is no passphrase yet
}

// LoadPassphrase returns the passphrase from POSTERN_PASSPHRASE, else from the file that POSTERN_PASSPHRASE_FILE names, else from <data>/passphrase,
// which it may make: 32 random octets in base64, readable by its owner alone. A file that others may read is refused.
func LoadPassphrase(src PassphraseSource) (Passphrase, error) {
	if s := src.Getenv(PassphraseEnv); s != "" {
		return NewPassphrase(s)
	}
	if path := src.Getenv(PassphraseFileEnv); path != "" {
		return readPassphrase(path)
	}
	path := filepath.Join(src.Data, "passphrase")
	p, err := readPassphrase(path)
	if !errors.Is(err, fs.ErrNotExist) {
		return p, err
	}
	if !src.Generate {
		return p, fmt.Errorf("%w; or set %s or %s", err, PassphraseEnv, PassphraseFileEnv)
	}
	var raw [32]byte
	_, _ = rand.Read(raw[:]) // never fails: it ends the process instead
	err = writeNew(path, []byte(base64.StdEncoding.EncodeToString(raw[:])+"\n"), 0o600)
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return p, fmt.Errorf("make passphrase: %w", err)
	}
	return readPassphrase(path) // also when another process was first
}

func readPassphrase(path string) (Passphrase, error) {
	data, err := readSecret(path)
	if err != nil {
		return Passphrase{}, fmt.Errorf("read passphrase: %w", err)
	}
	p, err := NewPassphrase(string(data))
	if err != nil {
		return p, fmt.Errorf("%s: %w", path, err)
	}
	return p, nil
}

package server

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"postern/internal/ca"
)

// InitOptions say what Init makes.
type InitOptions struct {
	Dir      string
	File     File // as Example made it
	Getenv   func(string) string
	Now      func() time.Time
	Progress io.Writer

	// OfflineRoot is a directory that must not exist yet: the root's key goes there, to be taken away from this machine. Empty: it stays with the others.
	OfflineRoot string
}

// ConfigName is the name of the configuration file that Init writes.
const ConfigName = "postern.yaml"

// Init writes a configuration, generates the keys of its issuers and a stand-in TLS certificate for the edge. Nothing that exists is replaced, so it can be
// repeated after a failure, and adds the keys of an issuer that was added to an existing configuration's data directory.
func Init(o InitOptions) (path string, err error) {
	if err := os.MkdirAll(o.Dir, 0o700); err != nil {
		return "", fmt.Errorf("make directory: %w", err)
	}
	dir, err := filepath.Abs(o.Dir)
	if err != nil {
		return "", fmt.Errorf("make directory: %w", err)
	}
	cfg, err := o.File.Validate(dir)
	if err != nil {
		return "", err
	}
	path = filepath.Join(o.Dir, ConfigName)
	if _, err := os.Stat(path); err == nil {
		return "", fmt.Errorf("%s is there already: remove it, or choose another directory", path)
	}
	if err := os.MkdirAll(cfg.Data, 0o700); err != nil {
		return "", fmt.Errorf("make data directory: %w", err)
	}
	pass, err := ca.LoadPassphrase(ca.PassphraseSource{Getenv: o.Getenv, Data: cfg.Data, Generate: true})
	if err != nil {
		return "", err
	}
	if o.OfflineRoot != "" && len(cfg.Issuers) != 1 {
		return "", fmt.Errorf("an offline root is made for one issuer, and the configuration has %d", len(cfg.Issuers))
	}
	for _, i := range cfg.Issuers {
		fmt.Fprintf(o.Progress, "generating keys of issuer %s ...\n", i.ID)
		if err := makeIssuer(o, cfg, i, pass); err != nil {
			return "", err
		}
	}
	text, err := o.File.Write()
	if err != nil {
		return "", err
	}
	// The configuration comes last: where it is, everything is.
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return "", fmt.Errorf("write configuration: %w", err)
	}
	_, err = f.Write(text)
	return path, errors.Join(err, f.Close())
}

// makeIssuer makes an issuer's keys, unless they are there, and the edge's certificate from the first one.
func makeIssuer(o InitOptions, cfg *Config, i Issuer, pass ca.Passphrase) error {
	dir := IssuerDir(cfg.Data, i.ID)
	if err := ca.CreateWith(dir, i.Spec(), pass, o.Now(), ca.Options{OfflineRoot: o.OfflineRoot}); err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("generate keys of issuer %s: %w", i.ID, err)
	}
	is, err := ca.Open(dir, i.Spec(), pass, o.Now, slog.New(slog.DiscardHandler))
	if err != nil {
		return err
	}
	if cfg.Edge != nil {
		err = is.ServerCertificate(cfg.Edge.Certificate, cfg.Edge.Key, cfg.Edge.Hostname, "localhost", "127.0.0.1", "::1")
		if errors.Is(err, fs.ErrExist) {
			err = nil
		}
	}
	return errors.Join(err, is.Close())
}

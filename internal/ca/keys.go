package ca

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"

	"go.step.sm/crypto/kms/apiv1"

	"postern/certs"
	"postern/internal/trust"
)

// Keys says where the private keys of an issuer are made, each as a URI. Where a key is once it has been made is kept beside its certificate, and changing
// the configuration moves no key. {n} in a URI stands for the number of the key's generation, so that a rotation makes another one.
//
//	"", file:PATH                     an encrypted PEM file: beside the certificate, or at PATH
//	pkcs11:token=T;object=O?pin-source=/FILE    in a token (RFC 7512); module-path=/LIB.so names its library
//	awskms:, azurekms:, cloudkms:     in a cloud's key service, as go.step.sm/crypto names keys there
//
// All but files need a binary that was built with the tag of the same name. A key that the URI names and that is there is used, otherwise it is made.
type Keys struct {
	Root, Issuing string
	RA            string // a file or a token: it signs and decrypts, and the clouds' keys do one of the two
}

// kinds of keys that are made.
type keyKind int

const (
	caKey keyKind = iota // P-256
	raKey                // RSA 2048
)

func (k Keys) check() error {
	for what, s := range map[string]string{"root": k.Root, "issuing": k.Issuing, "ra": k.RA} {
		if err := checkKeyURI(strings.ReplaceAll(s, "{n}", "1")); err != nil {
			return fmt.Errorf("key of %s: %w", what, err)
		}
	}
	switch scheme, _, _ := strings.Cut(k.RA, ":"); scheme {
	case "", "file", "pkcs11":
		return nil
	default:
		return fmt.Errorf("key of ra: %s %w: the RA's key signs and decrypts, which only file: and pkcs11: keys do", scheme, trust.ErrInvalid)
	}
}

// checkKeyURI reports what is wrong with the URI of a key, without asking for the key. An error never quotes what may be a secret.
func checkKeyURI(s string) error {
	if s == "" {
		return nil
	}
	if len(s) > 2048 || strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return fmt.Errorf("URI %w: want at most 2048 printable characters without blanks", trust.ErrInvalid)
	}
	u, err := url.Parse(s)
	if err != nil || u.Scheme == "" {
		return fmt.Errorf("URI %w: want file:, pkcs11:, awskms:, azurekms: or cloudkms:", trust.ErrInvalid)
	}
	for _, word := range []string{"pin-value", "pin-prompt", "secret"} {
		if strings.Contains(strings.ToLower(s), word) {
			return fmt.Errorf("%s URI %w: a secret is not part of it, and nobody answers a prompt; name the file with the PIN: pin-source=/path", u.Scheme, trust.ErrInvalid)
		}
	}
	switch u.Scheme {
	case "file":
		if path, err := filePath(s); err != nil || path == "" {
			return fmt.Errorf("file URI %w: want file:/path/to/key", trust.ErrInvalid)
		}
	case "pkcs11", "awskms", "azurekms", "cloudkms":
	default:
		return fmt.Errorf("URI of kind %q %w: want file:, pkcs11:, awskms:, azurekms: or cloudkms:", u.Scheme, trust.ErrInvalid)
	}
	return nil
}

// filePath returns the path of a file URI (RFC 8089): file:/path, file:///path, or relative to the working directory, file:path.
func filePath(uri string) (string, error) {
	rest, ok := strings.CutPrefix(uri, "file:")
	if !ok {
		return "", fmt.Errorf("%q is no file URI", uri)
	}
	if after, ok := strings.CutPrefix(rest, "//"); ok {
		if !strings.HasPrefix(after, "/") {
			return "", errors.New("a file URI names no host")
		}
		rest = after
	}
	return url.PathUnescape(rest)
}

// keyring opens keys by URI. Tokens and services stay open until it is closed.
type keyring struct {
	mu       sync.Mutex
	managers map[string]apiv1.KeyManager
}

// Close closes tokens and services. No key that came from the keyring may be used after it.
func (k *keyring) Close() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	var errs []error
	for _, m := range k.managers {
		errs = append(errs, m.Close())
	}
	k.managers = nil
	return errors.Join(errs...)
}

// manager opens what holds the key of the URI, once for all keys in it.
func (k *keyring) manager(uri string) (apiv1.KeyManager, error) {
	scheme, _, _ := strings.Cut(uri, ":")
	open, ok := apiv1.LoadKeyManagerNewFunc(apiv1.Type(scheme))
	if !ok {
		return nil, fmt.Errorf("%s keys are not part of this binary: build it with -tags %s%s", scheme, scheme, map[bool]string{true: " and CGO_ENABLED=1"}[scheme == "pkcs11"])
	}
	name := holder(uri)
	k.mu.Lock()
	defer k.mu.Unlock()
	if m, ok := k.managers[name]; ok {
		return m, nil
	}
	if err := checkPIN(uri); err != nil {
		return nil, err
	}
	m, err := open(context.Background(), apiv1.Options{Type: apiv1.Type(scheme), URI: uri})
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", scheme, err)
	}
	if k.managers == nil {
		k.managers = map[string]apiv1.KeyManager{}
	}
	k.managers[name] = m
	return m, nil
}

// holder is the URI without what names a key in it.
func holder(uri string) string {
	path, query, _ := strings.Cut(uri, "?")
	parts := slices.DeleteFunc(strings.Split(path, ";"), func(p string) bool {
		_, attribute, found := strings.Cut(p, ":")
		if !found {
			attribute = p
		}
		return strings.HasPrefix(attribute, "object=") || strings.HasPrefix(attribute, "id=")
	})
	return strings.SplitN(uri, ":", 2)[0] + "|" + strings.Join(parts, ";") + "?" + query
}

// checkPIN refuses a file with a PIN that others than its owner may read.
func checkPIN(uri string) error {
	for part := range strings.FieldsFuncSeq(uri, func(r rune) bool { return r == ';' || r == '?' || r == '&' }) {
		if source, ok := strings.CutPrefix(part, "pin-source="); ok {
			path, err := url.PathUnescape(strings.TrimPrefix(source, "file:"))
			if err != nil {
				return fmt.Errorf("pin-source: %w", err)
			}
			if _, err := readSecret(path); err != nil {
				return fmt.Errorf("pin-source: %w", err)
			}
		}
	}
	return nil
}

// load opens a key that exists.
func (k *keyring) load(uri string, p Passphrase) (crypto.Signer, error) {
	if err := checkKeyURI(uri); err != nil {
		return nil, err
	}
	if path, err := filePath(uri); err == nil {
		data, err := readSecret(path)
		if err != nil {
			return nil, err
		}
		return openKey(data, p)
	}
	m, err := k.manager(uri)
	if err != nil {
		return nil, err
	}
	s, err := m.CreateSigner(&apiv1.CreateSignerRequest{SigningKey: uri})
	if err != nil {
		return nil, fmt.Errorf("open key: %w", err)
	}
	return foreign(s), nil
}

// make returns the key of the URI, which it makes unless it is there, and the URI by which load finds it. A key of a file is returned only: it is written with
// its certificate.
func (k *keyring) make(uri string, number int, kind keyKind) (crypto.Signer, string, error) {
	uri = strings.ReplaceAll(uri, "{n}", strconv.Itoa(number))
	if err := checkKeyURI(uri); err != nil {
		return nil, "", err
	}
	if uri == "" || strings.HasPrefix(uri, "file:") {
		if kind == raKey {
			s, err := rsa.GenerateKey(rand.Reader, 2048)
			return s, uri, err
		}
		s, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		return s, uri, err
	}
	uri = withID(uri)
	m, err := k.manager(uri)
	if err != nil {
		return nil, "", err
	}
	s, missing := m.CreateSigner(&apiv1.CreateSignerRequest{SigningKey: uri})
	if missing != nil {
		req := &apiv1.CreateKeyRequest{Name: uri, SignatureAlgorithm: apiv1.ECDSAWithSHA256}
		if kind == raKey {
			req.SignatureAlgorithm, req.Bits = apiv1.SHA256WithRSA, 2048
		}
		made, err := m.CreateKey(req)
		if err != nil {
			return nil, "", fmt.Errorf("make key: %w", errors.Join(missing, err))
		}
		uri = made.CreateSignerRequest.SigningKey
		if s, err = m.CreateSigner(&apiv1.CreateSignerRequest{SigningKey: uri}); err != nil {
			return nil, "", fmt.Errorf("make key: %w", err)
		}
	}
	s = foreign(s)
	return s, uri, kind.check(s)
}

// withID gives a PKCS #11 URI the id that a new key needs beside its label.
func withID(uri string) string {
	path, query, asked := strings.Cut(uri, "?")
	if !strings.HasPrefix(uri, "pkcs11:") || strings.Contains(path, ";id=") || strings.HasPrefix(path, "pkcs11:id=") {
		return uri
	}
	sum := sha256.Sum256([]byte(path))
	path += ";id=" + hex.EncodeToString(sum[:8])
	if asked {
		path += "?" + query
	}
	return path
}

// check refuses a key that cannot do what is asked of it.
func (k keyKind) check(s crypto.Signer) error {
	if k == raKey {
		_, decrypts := s.(crypto.Decrypter)
		if _, ok := s.Public().(*rsa.PublicKey); !ok || !decrypts {
			return errors.New("the RA's key must be an RSA key that signs and decrypts")
		}
	}
	return checkKey(s.Public(), certs.KeyTypes())
}

// foreign makes a key outside of this process decrypt as crypto/rsa does.
func foreign(s crypto.Signer) crypto.Signer {
	d, ok := s.(crypto.Decrypter)
	if _, isRSA := s.Public().(*rsa.PublicKey); !ok || !isRSA {
		return s
	}
	return tokenKey{s, d}
}

// tokenKey is an RSA key outside of this process.
type tokenKey struct {
	crypto.Signer
	decrypter crypto.Decrypter
}

// Decrypt implements crypto.Decrypter. Tokens do not know rsa.PKCS1v15DecryptOptions.SessionKeyLen: what it asks for, a random key in place of one that cannot
// be read (RFC 3218, section 2.3.2), is made here. The time that the token takes is the token's affair.
func (k tokenKey) Decrypt(random io.Reader, msg []byte, opts crypto.DecrypterOpts) ([]byte, error) {
	o, ok := opts.(*rsa.PKCS1v15DecryptOptions)
	if !ok || o.SessionKeyLen <= 0 {
		return k.decrypter.Decrypt(random, msg, opts)
	}
	key := make([]byte, o.SessionKeyLen)
	if _, err := io.ReadFull(random, key); err != nil {
		return nil, err
	}
	if got, err := k.decrypter.Decrypt(random, msg, &rsa.PKCS1v15DecryptOptions{}); err == nil && len(got) == len(key) {
		copy(key, got)
	}
	return key, nil
}

// removeFile is for a file that a failed attempt has left.
func removeFile(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

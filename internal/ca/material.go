package ca

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// Material is the keys of an issuer and their certificates: root, issuing CA, and the RSA key of the SCEP registration authority.
type Material struct {
	root, issuing pair
	ra            pair // its key is an *rsa.PrivateKey
}

// pair is a key and its certificate.
type pair struct {
	cert *x509.Certificate
	key  crypto.Signer
}

// Generate makes new keys and their certificates, in memory: P-256 for both CAs and RSA 2048 for the registration authority, since SCEP's
// key transport needs RSA (RFC 8894, section 3.1).
func Generate(spec Spec, now time.Time) (*Material, error) {
	if err := spec.Check(); err != nil {
		return nil, err
	}
	now = now.UTC().Truncate(time.Second)
	m := new(Material)
	var err error
	if m.root.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		return nil, fmt.Errorf("make root key: %w", err)
	}
	if m.root.cert, err = sign(rootTemplate(spec, now), nil, m.root.key.Public(), m.root.key); err != nil {
		return nil, err
	}
	if m.issuing.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		return nil, fmt.Errorf("make issuing key: %w", err)
	}
	t := issuingTemplate(spec, now)
	if err := spec.point(t, RootCA); err != nil {
		return nil, err
	}
	if m.issuing.cert, err = sign(t, m.root.cert, m.issuing.key.Public(), m.root.key); err != nil {
		return nil, err
	}
	if m.ra.key, err = rsa.GenerateKey(rand.Reader, 2048); err != nil {
		return nil, fmt.Errorf("make RA key: %w", err)
	}
	t = raTemplate(spec, now)
	if err := spec.point(t, IssuingCA); err != nil {
		return nil, err
	}
	m.ra.cert, err = sign(t, m.issuing.cert, m.ra.key.Public(), m.issuing.key)
	return m, err
}

// Create generates the keys of an issuer and saves them in dir, which must not exist yet.
func Create(dir string, spec Spec, passphrase Passphrase, now time.Time) error {
	m, err := Generate(spec, now)
	if err != nil {
		return fmt.Errorf("create issuer %s: %w", spec.ID, err)
	}
	if err := m.Save(dir, passphrase); err != nil {
		return fmt.Errorf("create issuer %s: %w", spec.ID, err)
	}
	return nil
}

// Save writes root.crt, root.key, issuing.crt, issuing.key, ra.crt and ra.key into dir: all of them or, whatever happens, none. The keys are encrypted
// PKCS #8 in PEM. When Save returns nil they survive the death of the machine. A dir with something in it is never touched: fs.ErrExist.
func (m *Material) Save(dir string, passphrase Passphrase) (err error) {
	dir = filepath.Clean(dir)
	parent := filepath.Dir(dir)
	if err := os.MkdirAll(parent, 0o700); err != nil {
		return fmt.Errorf("save keys: %w", err)
	}
	tmp, err := os.MkdirTemp(parent, ".new-*") // mode 0700
	if err != nil {
		return fmt.Errorf("save keys: %w", err)
	}
	defer func() {
		if err != nil {
			err = fmt.Errorf("save keys: %w", errors.Join(err, os.RemoveAll(tmp)))
		}
	}()
	for _, p := range m.named() {
		key, err := encryptKey(p.key, passphrase)
		if err != nil {
			return err
		}
		if err := writeNew(filepath.Join(tmp, p.name+".key"), key, 0o600); err != nil {
			return err
		}
		if err := writeNew(filepath.Join(tmp, p.name+".crt"), encodeCertificates(p.cert), 0o644); err != nil {
			return err
		}
	}
	if err := os.Rename(tmp, dir); err != nil { // fails if dir is there, unless it is empty
		return err
	}
	return errors.Join(syncDir(parent), syncDir(filepath.Dir(parent)))
}

type namedPair struct {
	*pair
	name string
}

func (m *Material) named() []namedPair {
	return []namedPair{{&m.root, RootCA}, {&m.issuing, IssuingCA}, {&m.ra, "ra"}}
}

// Load reads what Save has written. New checks that it is all of one piece.
func Load(dir string, passphrase Passphrase) (*Material, error) {
	m := new(Material)
	pairs := m.named()
	done := make(chan error, len(pairs))
	for _, p := range pairs {
		go func() { done <- p.load(dir, passphrase) }() // deriving a key from a passphrase is slow on purpose
	}
	var err error
	for range pairs {
		err = errors.Join(err, <-done)
	}
	if err != nil {
		return nil, fmt.Errorf("load keys: %w", err)
	}
	return m, nil
}

func (p namedPair) load(dir string, passphrase Passphrase) error {
	data, err := readFile(filepath.Join(dir, p.name+".crt"))
	if err != nil {
		return err
	}
	if p.cert, err = decodeCertificate(data); err != nil {
		return fmt.Errorf("%s.crt: %w", p.name, err)
	}
	data, err = readSecret(filepath.Join(dir, p.name+".key"))
	if err != nil {
		return err
	}
	if p.key, err = decryptKey(data, passphrase); err != nil {
		return fmt.Errorf("%s.key: %w", p.name, err)
	}
	return nil
}

// check verifies that keys, certificates, spec and clock fit each other.
func (m *Material) check(spec Spec, now time.Time, log *slog.Logger) error {
	for _, p := range m.named() {
		if pub, ok := p.key.Public().(interface{ Equal(crypto.PublicKey) bool }); !ok || !pub.Equal(p.cert.PublicKey) {
			return fmt.Errorf("%s.key is not the key of %s.crt", p.name, p.name)
		}
		if now.Before(p.cert.NotBefore) || now.After(p.cert.NotAfter) {
			return fmt.Errorf("%s.crt is valid from %s to %s, and it is %s now", p.name, stamp(p.cert.NotBefore), stamp(p.cert.NotAfter), stamp(now))
		}
		if len(p.cert.SubjectKeyId) == 0 {
			return fmt.Errorf("%s.crt has no subject key identifier", p.name)
		}
		if o := p.cert.Subject.Organization; len(o) != 1 || o[0] != spec.Organization {
			log.Warn("certificate names another organization than the configuration", "certificate", p.name, "organization", o)
		}
	}
	if _, ok := m.ra.key.(*rsa.PrivateKey); !ok {
		return errors.New("ra.key is not an RSA key")
	}
	for _, link := range []struct{ child, parent *pair }{{&m.root, &m.root}, {&m.issuing, &m.root}, {&m.ra, &m.issuing}} {
		if err := signedBy(link.child.cert, link.parent.cert); err != nil {
			return err
		}
	}
	if m.ra.cert.IsCA || !m.issuing.cert.IsCA {
		return errors.New("issuing.crt must be a CA, and ra.crt must not")
	}
	usages := m.ra.cert.ExtKeyUsage
	if len(usages) == 0 || slices.Contains(usages, x509.ExtKeyUsageClientAuth) || slices.Contains(usages, x509.ExtKeyUsageAny) {
		return errors.New("ra.crt would pass as a device certificate")
	}
	// The id is in the URLs that the issuing CA's certificate names; a directory put in another's place would publish under the wrong ones.
	points := m.issuing.cert.CRLDistributionPoints
	if len(points) != 1 || !strings.HasSuffix(points[0], "/"+spec.ID+"/"+RootCA+".crl") {
		return fmt.Errorf("issuing.crt is not of issuer %s: its CRL is at %q", spec.ID, points)
	}
	if points[0] != spec.CRLURL(RootCA) {
		log.Warn("issuing CA's certificate names another URL than the configuration", "certificate", points[0], "configuration", spec.CRLURL(RootCA))
	}
	return nil
}

// signedBy verifies name, key identifiers and signature. It works for a root and itself.
func signedBy(child, parent *x509.Certificate) error {
	if !bytes.Equal(child.RawIssuer, parent.RawSubject) || !bytes.Equal(child.AuthorityKeyId, parent.SubjectKeyId) {
		return fmt.Errorf("%q was not issued by %q", child.Subject.CommonName, parent.Subject.CommonName)
	}
	if err := child.CheckSignatureFrom(parent); err != nil {
		return fmt.Errorf("%q was not signed by %q: %w", child.Subject.CommonName, parent.Subject.CommonName, err)
	}
	return nil
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }

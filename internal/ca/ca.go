// Package ca holds the keys of an issuer: a root, an issuing CA and the RSA key of the SCEP registration authority. It issues device certificates,
// signs CRLs and OCSP answers, and hands out the RSA key that opens SCEP envelopes.
//
// It knows nothing of the registry, of HTTP and of policy: whoever calls Issue has settled that the device may have a certificate, and stores it.
// What it settles itself is what must hold whoever calls: the public key comes from the request and nothing else does, names are of the issuer's own
// mail domains, and every signed object is parsed back and compared with what was promised before anybody gets it.
//
// It is the only package that imports github.com/smallstep/certificates and go.step.sm/crypto. The embedded authority signs the device
// certificates; it has no provisioners, no database and no listeners.
package ca

import (
	"crypto"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"log/slog"
	"math/big"
	"sync"
	"time"

	"github.com/smallstep/certificates/authority"
	"github.com/smallstep/certificates/authority/config"
	"github.com/smallstep/pkcs7"
)

// Issuer is one open issuer. All methods may be called at the same time.
type Issuer struct {
	spec  Spec
	now   func() time.Time
	log   *slog.Logger
	auth  *authority.Authority
	cas   []*signer // issuing CA, root
	ra    pair
	close func() error
}

// signer is one CA of the issuer, with its OCSP responder.
type signer struct {
	id string
	pair
	spec      Spec
	names     map[crypto.Hash]certIDHashes // what OCSP requests call it
	mu        sync.Mutex
	responder *responder // guarded by mu
}

// CACertificate is a certificate of one of the issuer's CAs.
type CACertificate struct {
	ID   string // RootCA or IssuingCA
	Cert *x509.Certificate
}

// Open loads the keys of an issuer from dir and makes it ready to sign.
func Open(dir string, spec Spec, passphrase Passphrase, now func() time.Time, log *slog.Logger) (*Issuer, error) {
	m, err := Load(dir, passphrase)
	if err != nil {
		return nil, fmt.Errorf("open issuer %s: %w", spec.ID, err)
	}
	return New(spec, m, now, log)
}

// New makes an issuer of keys that are already in memory. It fails unless keys, certificates, chain, validity and id all fit each other.
func New(spec Spec, m *Material, now func() time.Time, log *slog.Logger) (*Issuer, error) {
	if err := spec.Check(); err != nil {
		return nil, err
	}
	log = log.With("issuer", spec.ID)
	if err := m.check(spec, now(), log); err != nil {
		return nil, fmt.Errorf("open issuer %s: %w", spec.ID, err)
	}
	i := &Issuer{spec: spec, now: now, log: log, ra: m.ra}
	for _, c := range []*signer{{id: IssuingCA, pair: m.issuing, spec: spec}, {id: RootCA, pair: m.root, spec: spec}} {
		if err := c.prepare(now()); err != nil {
			return nil, fmt.Errorf("open issuer %s: %w", spec.ID, err)
		}
		i.cas = append(i.cas, c)
	}
	var err error
	i.auth, err = authority.NewEmbedded(
		authority.WithConfig(&config.Config{AuthorityConfig: &config.AuthConfig{}}),
		authority.WithX509RootCerts(m.root.cert),
		authority.WithX509SignerChain([]*x509.Certificate{m.issuing.cert}, m.issuing.key),
		authority.WithQuietInit(),
	)
	if err != nil {
		return nil, fmt.Errorf("open issuer %s: %w", spec.ID, err)
	}
	i.close = sync.OnceValue(i.auth.Shutdown)
	return i, nil
}

// Close releases the embedded authority. Nothing may be signed after it.
func (i *Issuer) Close() error { return i.close() }

// Spec returns what the issuer was opened with.
func (i *Issuer) Spec() Spec { return i.spec }

// ca returns the CA of that id.
func (i *Issuer) ca(id string) (*signer, error) {
	for _, c := range i.cas {
		if c.id == id {
			return c, nil
		}
	}
	return nil, fmt.Errorf("issuer %s has no CA %q", i.spec.ID, id)
}

// Certificates returns the certificates of all CAs, the issuing CA first.
func (i *Issuer) Certificates() []CACertificate {
	out := make([]CACertificate, 0, len(i.cas))
	for _, c := range i.cas {
		out = append(out, CACertificate{c.id, c.cert})
	}
	return out
}

// Chain returns the chain of a device certificate, without it: issuing CA, root.
func (i *Issuer) Chain() []*x509.Certificate {
	out := make([]*x509.Certificate, 0, len(i.cas))
	for _, c := range i.cas {
		out = append(out, c.cert)
	}
	return out
}

// PKCS7Chain returns the chain as a degenerate SignedData in DER, what a .p7b file holds (RFC 5652, section 5.1).
func (i *Issuer) PKCS7Chain() ([]byte, error) {
	var raw []byte
	for _, c := range i.cas {
		raw = append(raw, c.cert.Raw...)
	}
	return pkcs7.DegenerateCertificate(raw)
}

// RACertificate returns the certificate to which SCEP requests are encrypted and with which replies are signed (RFC 8894, section 2.1.2).
func (i *Issuer) RACertificate() *x509.Certificate { return i.ra.cert }

// RAKey returns the key of RACertificate. It decrypts with PKCS #1 v1.5 and OAEP.
func (i *Issuer) RAKey() interface {
	crypto.Signer
	crypto.Decrypter
} {
	return i.ra.key.(*rsa.PrivateKey) // checked by New
}

// Own reports whether the CA has issued a certificate of that serial number to the issuer itself: root, issuing CA or registration authority. They are in
// no list of device certificates, and OCSP is asked for them too.
func (i *Issuer) Own(caID string, serial *big.Int) bool {
	issuing, root := i.cas[0], i.cas[1]
	switch caID {
	case root.id:
		return serial.Cmp(root.cert.SerialNumber) == 0 || serial.Cmp(issuing.cert.SerialNumber) == 0
	case issuing.id:
		return serial.Cmp(i.ra.cert.SerialNumber) == 0
	default:
		return false
	}
}

// Fingerprint returns the SHA-256 of a certificate in lower-case hex.
func Fingerprint(c *x509.Certificate) string {
	sum := sha256.Sum256(c.Raw)
	return hex.EncodeToString(sum[:])
}

// Package ca holds the keys of an issuer: a root, an issuing CA and the RSA key of the SCEP registration authority. It issues device certificates,
// signs CRLs and OCSP answers, and hands out the RSA key that opens SCEP envelopes.
//
// It knows nothing of the registry, of HTTP and of policy: whoever calls Issue has settled that the device may have a certificate, and stores it.
// What it settles itself is what must hold whoever calls: the public key comes from the request and nothing else does, names are of the issuer's own
// mail domains, and every signed object is parsed back and compared with what was promised before anybody gets it.
//
// Issuing CA and RA are rotated: Rotate prepares a generation that is published and signs nothing, Activate puts it in force, and what was in force before
// is retired. All of that changes files; an Issuer that is open takes it up with Reload, while it signs.
//
// It is the only package that imports github.com/smallstep/certificates and go.step.sm/crypto. The signing service of the former, SoftCAS, signs the device
// certificates. Its authority, which would hand each one to the same service, is not used: it makes certificates of a text template and JSON, and verifies
// the request once more, which takes ten times as long as the signature.
package ca

import (
	"crypto"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"math/big"
	"sync"
	"sync/atomic"
	"time"

	"github.com/smallstep/certificates/cas/softcas"
	"github.com/smallstep/pkcs7"
)

// ErrOffline is why a CA does not sign: its key is not on this machine.
var ErrOffline = errors.New("the key of this CA is not here")

// Issuer is one open issuer. All methods may be called at the same time.
type Issuer struct {
	spec  Spec
	now   func() time.Time
	log   *slog.Logger
	lint  *linter
	state atomic.Pointer[state]

	dir        string // where Reload reads; empty if the keys came from memory
	passphrase Passphrase
	reload     sync.Mutex // one at a time; guards closers
	closers    []func() error
}

// state is what an issuer signs with at one moment. It never changes: Reload puts another in its place, and who has begun with one ends with it.
type state struct {
	signs   *softcas.SoftCAS // for the issuing CA in force
	cas     []*signer        // the issuing CA in force, the root, those that are next or retired
	chain   []*x509.Certificate
	ras     []RA // the one in force first
	next    []*x509.Certificate
	history history
	rootCRL []byte        // of an offline root, as imported
	over    chan struct{} // closed when another state is in its place
}

// signer is one CA of the issuer, with its OCSP responder. An offline root has no key.
type signer struct {
	id string
	pair
	state     State
	until     time.Time
	spec      Spec
	own       map[string]bool              // serial numbers of what it has signed for the issuer itself
	names     map[crypto.Hash]certIDHashes // what OCSP requests call it
	mu        sync.Mutex
	responder *responder // guarded by mu
}

// CACertificate is a certificate of one of the issuer's CAs.
type CACertificate struct {
	ID   string // RootCA, IssuingCA, or that of a later issuing CA: "issuing-2", "issuing-3" ...
	Cert *x509.Certificate
}

// RA is a key of the registration authority and its certificate.
type RA struct {
	Cert *x509.Certificate
	Key  interface { // it decrypts with PKCS #1 v1.5 and OAEP
		crypto.Signer
		crypto.Decrypter
	}
	State State
}

// Open loads the keys of an issuer from dir and makes it ready to sign.
func Open(dir string, spec Spec, passphrase Passphrase, now func() time.Time, log *slog.Logger) (*Issuer, error) {
	ring := new(keyring)
	m, err := load(dir, passphrase, now(), ring)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open issuer %s: %w", spec.ID, err), ring.Close())
	}
	crl, err := readRootCRL(dir, m)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open issuer %s: %w", spec.ID, err), ring.Close())
	}
	i, err := newIssuer(spec, m, crl, now, log)
	if err != nil {
		return nil, errors.Join(err, ring.Close())
	}
	i.dir, i.passphrase = dir, passphrase
	return i, nil
}

// New makes an issuer of keys that are already in memory. It fails unless keys, certificates, chain, validity and id all fit each other. Reload does nothing to it.
func New(spec Spec, m *Material, now func() time.Time, log *slog.Logger) (*Issuer, error) {
	return newIssuer(spec, m, nil, now, log)
}

func newIssuer(spec Spec, m *Material, crl []byte, now func() time.Time, log *slog.Logger) (*Issuer, error) {
	if err := spec.Check(); err != nil {
		return nil, err
	}
	i := &Issuer{spec: spec, now: now, log: log.With("issuer", spec.ID)}
	var err error
	if i.lint, err = newLinter(); err != nil {
		return nil, fmt.Errorf("open issuer %s: %w", spec.ID, err)
	}
	s, err := i.assemble(m, crl)
	if err != nil {
		return nil, fmt.Errorf("open issuer %s: %w", spec.ID, err)
	}
	i.closers = append(i.closers, m.ring.Close)
	i.state.Store(s)
	return i, nil
}

// assemble checks keys and makes a state of them.
func (i *Issuer) assemble(m *Material, crl []byte) (*state, error) {
	now := i.now()
	if err := m.check(i.spec, now, i.log); err != nil {
		return nil, err
	}
	s := &state{history: m.history, rootCRL: crl, over: make(chan struct{}), ras: []RA{newRA(m.ra, Current)}}
	s.cas = []*signer{{id: generationName(IssuingCA, current(m.history.Issuing).Number), pair: m.issuing, state: Current}, {id: RootCA, pair: m.root, state: Current}}
	for _, c := range m.cas {
		s.cas = append(s.cas, &signer{id: c.id, pair: c.pair, state: c.state, until: c.until})
	}
	for _, ra := range m.ras {
		s.ras = append(s.ras, newRA(ra.pair, ra.state))
	}
	s.chain = append(append([]*x509.Certificate{m.issuing.cert}, m.issuing.above...), m.root.cert)
	s.next = nextChain(m)
	for _, c := range s.cas {
		c.spec = i.spec
		if err := c.prepare(s, now); err != nil {
			return nil, err
		}
	}
	s.signs = &softcas.SoftCAS{CertificateChain: s.chain[:len(s.chain)-1], Signer: m.issuing.key}
	return s, nil
}

// newRA is for a pair that checkRA has seen.
func newRA(p pair, s State) RA {
	return RA{Cert: p.cert, Key: p.key.(interface {
		crypto.Signer
		crypto.Decrypter
	}), State: s}
}

// Reload takes up what Rotate, Activate, Import and ImportCRL have changed on disk since, without a pause: what has begun ends with the old keys. After an
// error everything is as it was. changed says whether there was anything new; then CAs may have come or gone in Certificates.
//
// announce, unless nil, gets what Certificates will return, before anything is signed with it: who verifies certificates has to know a CA before the first
// one of it. An error of announce keeps the old keys.
func (i *Issuer) Reload(announce func([]CACertificate) error) (changed bool, err error) {
	i.reload.Lock()
	defer i.reload.Unlock()
	old := i.state.Load()
	if i.dir == "" {
		return false, nil
	}
	ring := new(keyring)
	m, crl, err := i.reread(old, ring)
	if err != nil || m == nil {
		return false, errors.Join(err, ring.Close())
	}
	s, err := i.assemble(m, crl)
	if err != nil {
		return false, errors.Join(fmt.Errorf("reload issuer %s: %w", i.spec.ID, err), ring.Close())
	}
	if announce != nil {
		if err := announce(s.certificates()); err != nil {
			return false, errors.Join(fmt.Errorf("reload issuer %s: %w", i.spec.ID, err), ring.Close())
		}
	}
	i.closers = append(i.closers, ring.Close) // the old keys may be in use: they are closed in the end
	i.state.Store(s)
	close(old.over)
	return true, nil
}

// Changed returns a channel that is closed when Reload next takes something up. Ask for it before reading what may change.
func (i *Issuer) Changed() <-chan struct{} { return i.state.Load().over }

// reread loads the keys, or nothing if nothing has changed.
func (i *Issuer) reread(old *state, ring *keyring) (*Material, []byte, error) {
	h, err := readHistory(i.dir)
	if err != nil {
		return nil, nil, fmt.Errorf("reload issuer %s: %w", i.spec.ID, err)
	}
	crl, err := readRootCRL(i.dir, &Material{root: pair{cert: old.chain[len(old.chain)-1]}, history: h})
	if err != nil {
		return nil, nil, fmt.Errorf("reload issuer %s: %w", i.spec.ID, err)
	}
	if h.sequence == old.history.sequence && string(crl) == string(old.rootCRL) && !old.outlived(i.now()) {
		return nil, nil, nil
	}
	m, err := load(i.dir, i.passphrase, i.now(), ring)
	if err != nil {
		return nil, nil, fmt.Errorf("reload issuer %s: %w", i.spec.ID, err)
	}
	return m, crl, nil
}

// outlived reports whether a retired CA has outlived its last certificate.
func (s *state) outlived(now time.Time) bool {
	for _, c := range s.cas {
		if c.state == Retired && now.After(c.until) {
			return true
		}
	}
	return false
}

// Close releases tokens and services. Nothing may be signed after it.
func (i *Issuer) Close() error {
	i.reload.Lock()
	defer i.reload.Unlock()
	var errs []error
	for _, c := range i.closers {
		errs = append(errs, c())
	}
	i.closers = nil
	return errors.Join(errs...)
}

// Spec returns what the issuer was opened with.
func (i *Issuer) Spec() Spec { return i.spec }

// ca returns the CA of that id.
func (s *state) ca(id string) (*signer, error) {
	for _, c := range s.cas {
		if c.id == id {
			return c, nil
		}
	}
	return nil, fmt.Errorf("the issuer has no CA %q", id)
}

// Certificates returns the certificates of all CAs: the issuing CA in force first, the root, then issuing CAs that are next or retired. A retired one is there
// until its last certificate has expired, so that its CRLs are published until then.
func (i *Issuer) Certificates() []CACertificate { return i.state.Load().certificates() }

func (s *state) certificates() []CACertificate {
	out := make([]CACertificate, 0, len(s.cas))
	for _, c := range s.cas {
		out = append(out, CACertificate{c.id, c.cert})
	}
	return out
}

// Online reports whether the CA signs CRLs and OCSP answers here. The CRL of one that does not is StoredCRL, if it is ours at all.
func (i *Issuer) Online(caID string) bool {
	c, err := i.state.Load().ca(caID)
	return err == nil && c.key != nil
}

// IssuingCA returns the id of the CA that signs certificates now.
func (i *Issuer) IssuingCA() string { return i.state.Load().cas[0].id }

// Chain returns the chain of a device certificate, without it: issuing CA, root, and between them what a company's PKI has.
func (i *Issuer) Chain() []*x509.Certificate {
	return append([]*x509.Certificate(nil), i.state.Load().chain...)
}

// PKCS7Chain returns the chain as a degenerate SignedData in DER, what a .p7b file holds (RFC 5652, section 5.1).
func (i *Issuer) PKCS7Chain() ([]byte, error) {
	var raw []byte
	for _, c := range i.Chain() {
		raw = append(raw, c.Raw...)
	}
	return pkcs7.DegenerateCertificate(raw)
}

// RACertificate returns the certificate to which SCEP requests are encrypted and with which replies are signed (RFC 8894, section 2.1.2).
func (i *Issuer) RACertificate() *x509.Certificate { return i.state.Load().ras[0].Cert }

// RAKey returns the key of RACertificate. It decrypts with PKCS #1 v1.5 and OAEP. RAs returns both at once, which matters while a Reload goes on.
func (i *Issuer) RAKey() interface {
	crypto.Signer
	crypto.Decrypter
} {
	return i.state.Load().ras[0].Key
}

// RAs returns the registration authority in force first, then those that are next or retired: a client may have kept an older certificate, and its message
// is opened with the key for which it was encrypted.
func (i *Issuer) RAs() []RA { return append([]RA(nil), i.state.Load().ras...) }

// Own reports whether the CA has issued a certificate of that serial number to the issuer itself: root, issuing CA or registration authority. They are in
// no list of device certificates, and OCSP is asked for them too.
func (i *Issuer) Own(caID string, serial *big.Int) bool {
	c, err := i.state.Load().ca(caID)
	return err == nil && c.own[serial.String()]
}

// Fingerprint returns the SHA-256 of a certificate in lower-case hex.
func Fingerprint(c *x509.Certificate) string {
	sum := sha256.Sum256(c.Raw)
	return hex.EncodeToString(sum[:])
}

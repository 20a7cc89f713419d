package ca

import (
	"crypto"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/smallstep/pkcs7"

	"postern/internal/trust"
)

// What is rotated.
type What string

// The keys of an issuer that are rotated. A new root is a new issuer.
const (
	RotateIssuing What = "issuing" // the issuing CA, and the RA with it: clients want an RA that is certified by the CA
	RotateRA      What = "ra"      // the RA alone
)

// Rotate makes the next generation of the issuing CA or of the RA in dir and leaves everything else as it is: what is next is published, after Reload, and signs
// nothing until Activate. With an offline root, or a company's own, the issuing CA is rotated by CSR and Import: ErrOffline. While a generation is next there is
// no other: trust.ErrConflict.
func Rotate(dir string, spec Spec, passphrase Passphrase, now time.Time, what What) (err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("rotate %s of issuer %s: %w", what, spec.ID, err)
		}
	}()
	if what != RotateIssuing && what != RotateRA {
		return fmt.Errorf("%q %w: want %s or %s", what, trust.ErrInvalid, RotateIssuing, RotateRA)
	}
	m, err := loadChecked(dir, spec, passphrase, now)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, m.ring.Close()) }()
	if err := m.history.free(); err != nil {
		return err
	}
	now = now.UTC().Truncate(time.Second)
	if what == RotateRA {
		caID := generationName(IssuingCA, current(m.history.Issuing).Number)
		return m.prepareRA(dir, spec, passphrase, m.issuing, caID, m.history.clone(), now)
	}
	if m.root.key == nil {
		return fmt.Errorf("the root: %w: make a request for it, have it signed, and import the answer", ErrOffline)
	}
	return m.prepareIssuing(dir, spec, passphrase, now)
}

// loadChecked loads the keys in dir and checks them as Open does.
func loadChecked(dir string, spec Spec, passphrase Passphrase, now time.Time) (*Material, error) {
	if err := spec.Check(); err != nil {
		return nil, err
	}
	ring := new(keyring)
	m, err := load(dir, passphrase, now, ring)
	if err == nil {
		err = m.check(spec, now, discard)
	}
	if err != nil {
		return nil, errors.Join(err, ring.Close())
	}
	return m, nil
}

// free reports that nothing is next.
func (h history) free() error {
	for _, list := range [][]Generation{h.Issuing, h.RA} {
		if g, ok := h.next(list); ok {
			return fmt.Errorf("generation %d is prepared since %s: activate or withdraw it first: %w", g.Number, stamp(g.Since), trust.ErrConflict)
		}
	}
	return nil
}

// prepareIssuing makes the next issuing CA and its RA.
func (m *Material) prepareIssuing(dir string, spec Spec, passphrase Passphrase, now time.Time) error {
	number, err := freeNumber(dir, IssuingCA, m.history.Issuing)
	if err != nil {
		return err
	}
	var p pair
	if p.key, p.uri, err = m.ring.make(spec.Keys.Issuing, number, caKey); err != nil {
		return fmt.Errorf("make issuing key: %w", err)
	}
	if p.cert, err = signIssuing(spec, m.root, m.history.Root, issuingName(spec, number), p.key.Public(), now); err != nil {
		return err
	}
	name := generationName(IssuingCA, number)
	if err := m.distinct(p.key.Public()); err != nil {
		return err
	}
	if err := p.save(dir, name, passphrase); err != nil {
		return err
	}
	h := m.history.clone()
	h.Issuing = append(h.Issuing, Generation{Number: number, State: Next, Since: now})
	return m.prepareRA(dir, spec, passphrase, p, name, h, now)
}

// prepareRA makes the next RA, certified by the issuing CA, and writes the history with it.
func (m *Material) prepareRA(dir string, spec Spec, passphrase Passphrase, issuing pair, caID string, h history, now time.Time) error {
	number, err := freeNumber(dir, raName, h.RA)
	if err != nil {
		return err
	}
	ra, err := m.makeRA(spec, issuing, caID, number, now)
	if err != nil {
		return err
	}
	if err := m.distinct(ra.key.Public()); err != nil {
		return err
	}
	if err := ra.save(dir, generationName(raName, number), passphrase); err != nil {
		return err
	}
	h.Issuer = spec.ID
	h.RA = append(h.RA, Generation{Number: number, State: Next, Since: now})
	return h.write(dir)
}

// distinct refuses a key that the issuer has already: a URI without {n} would name the same one again.
func (m *Material) distinct(pub crypto.PublicKey) error {
	for _, p := range m.named() {
		if k, ok := p.cert.PublicKey.(interface{ Equal(crypto.PublicKey) bool }); ok && k.Equal(pub) {
			return fmt.Errorf("the new key is that of %s: put {n} into the URI, or name another key: %w", p.name, trust.ErrConflict)
		}
	}
	return nil
}

// freeNumber returns the number after the last one, and after what a crash has left.
func freeNumber(dir, first string, list []Generation) (int, error) {
	number := 1
	if len(list) > 0 {
		number = list[len(list)-1].Number + 1
	}
	for ; ; number++ {
		taken := false
		for _, ext := range []string{".key", ".uri", ".crt"} {
			_, err := os.Lstat(filepath.Join(dir, generationName(first, number)+ext))
			if err != nil && !errors.Is(err, fs.ErrNotExist) {
				return 0, err
			}
			taken = taken || err == nil
		}
		if !taken {
			return number, nil
		}
	}
}

// Activate puts in force what is next, and retires what was. Issuers that are open go on with the old keys until Reload.
func Activate(dir string, now time.Time) error {
	if err := activate(dir, now.UTC().Truncate(time.Second)); err != nil {
		return fmt.Errorf("activate keys: %w", err)
	}
	return nil
}

func activate(dir string, now time.Time) error {
	h, err := readHistory(dir)
	if err != nil {
		return err
	}
	h = h.clone()
	var ras []*x509.Certificate
	for _, g := range h.RA {
		if g.State == Withdrawn {
			continue
		}
		c, err := readCertificate(dir, generationName(raName, g.Number))
		if err != nil {
			return err
		}
		ras = append(ras, c)
	}
	moved := false
	for first, list := range map[string][]Generation{IssuingCA: h.Issuing, raName: h.RA} {
		next, ok := h.next(list)
		if !ok {
			continue
		}
		c, err := readCertificate(dir, generationName(first, next.Number))
		if err != nil {
			return err
		}
		if now.Before(c.NotBefore) || !now.Before(c.NotAfter) {
			return fmt.Errorf("%s is valid from %s to %s, and it is %s now", generationName(first, next.Number), stamp(c.NotBefore), stamp(c.NotAfter), stamp(now))
		}
		old, err := readCertificate(dir, generationName(first, current(list).Number))
		if err != nil {
			return err
		}
		until := old.NotAfter.UTC()
		if first == IssuingCA {
			if err := notRevoked(dir, h, generationName(first, next.Number), c); err != nil {
				return err
			}
			until = lastOf(old, ras, now)
		}
		move(list, now, until)
		moved = true
	}
	if !moved {
		return fmt.Errorf("nothing is next: %w", trust.ErrConflict)
	}
	return h.write(dir)
}

// move puts what is next in force.
func move(list []Generation, now, until time.Time) {
	for n := range list {
		switch g := &list[n]; g.State {
		case Current:
			g.State, g.Since, g.Until = Retired, now, until
		case Next:
			g.State, g.Since = Current, now
		}
	}
}

// Withdraw gives up what is next and removes the files of its keys; a key in a token or a service has to be removed there.
func Withdraw(dir string, now time.Time) error {
	h, err := readHistory(dir)
	if err != nil {
		return fmt.Errorf("withdraw keys: %w", err)
	}
	h = h.clone()
	var names []string
	for first, list := range map[string][]Generation{IssuingCA: h.Issuing, raName: h.RA} {
		for n := range list {
			if g := &list[n]; g.State == Next {
				g.State, g.Since = Withdrawn, now.UTC().Truncate(time.Second)
				names = append(names, generationName(first, g.Number))
			}
		}
	}
	if names == nil {
		return fmt.Errorf("withdraw keys: nothing is next: %w", trust.ErrConflict)
	}
	if err := h.write(dir); err != nil {
		return fmt.Errorf("withdraw keys: %w", err)
	}
	for _, name := range names {
		err = errors.Join(err, removeFile(filepath.Join(dir, name+".key")))
	}
	if err != nil {
		return fmt.Errorf("withdraw keys: %w", err)
	}
	return nil
}

func readCertificate(dir, name string) (*x509.Certificate, error) {
	data, err := readFile(filepath.Join(dir, name+".crt"))
	if err != nil {
		return nil, err
	}
	list, err := decodeCertificates(data)
	if err != nil {
		return nil, fmt.Errorf("%s.crt: %w", name, err)
	}
	return list[0], nil
}

// nextChain is what GetNextCACert tells: the RA, the issuing CA and the root that come next; nil if no CA does.
func nextChain(m *Material) (out []*x509.Certificate) {
	i := slices.IndexFunc(m.cas, func(c member) bool { return c.state == Next })
	if i < 0 {
		return nil
	}
	for _, ra := range m.ras {
		if ra.state == Next {
			out = append(out, ra.cert)
		}
	}
	return append(append(append(out, m.cas[i].cert), m.cas[i].above...), m.root.cert)
}

// NextCA returns the certificates that will be in force after the next Activate, as GetNextCACert names them (RFC 8894, section 4.7.1): RA, issuing CA, root. It
// is empty unless an issuing CA is next.
func (i *Issuer) NextCA() []*x509.Certificate { return slices.Clone(i.state.Load().next) }

// NextCAMessage returns the answer to GetNextCACert in DER: a SignedData around the degenerate SignedData of NextCA, signed with the key of the issuing CA in
// force, so that a client that trusts it trusts the next one (RFC 8894, section 4.7.1). Without a next CA: trust.ErrNotFound.
func (i *Issuer) NextCAMessage() ([]byte, error) {
	s := i.state.Load()
	if s.next == nil {
		return nil, fmt.Errorf("no CA is next: %w", trust.ErrNotFound)
	}
	var all []byte
	for _, c := range s.next {
		all = append(all, c.Raw...)
	}
	inner, err := pkcs7.DegenerateCertificate(all)
	if err != nil {
		return nil, fmt.Errorf("sign next CA: %w", err)
	}
	outer, err := pkcs7.NewSignedData(inner)
	if err != nil {
		return nil, fmt.Errorf("sign next CA: %w", err)
	}
	outer.SetDigestAlgorithm(pkcs7.OIDDigestAlgorithmSHA256)
	issuing := s.cas[0]
	if err := outer.AddSignerChain(issuing.cert, issuing.key, s.chain[1:], pkcs7.SignerInfoConfig{}); err != nil {
		return nil, fmt.Errorf("sign next CA: %w", err)
	}
	if _, ok := issuing.cert.PublicKey.(*rsa.PublicKey); ok {
		// The library writes sha256WithRSAEncryption, which some clients do not know here (RFC 3370, section 3.2). The field is not signed.
		infos := outer.GetSignedData().SignerInfos
		infos[0].DigestEncryptionAlgorithm = pkix.AlgorithmIdentifier{Algorithm: pkcs7.OIDEncryptionAlgorithmRSA, Parameters: asn1.NullRawValue}
	}
	der, err := outer.Finish()
	if err != nil {
		return nil, fmt.Errorf("sign next CA: %w", err)
	}
	p, err := pkcs7.Parse(der)
	if err == nil {
		err = p.Verify()
	}
	if err != nil {
		return nil, fmt.Errorf("sign next CA: read back what was signed: %w", err)
	}
	return der, nil
}

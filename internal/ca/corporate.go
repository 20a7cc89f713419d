package ca

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"postern/internal/trust"
)

// CSR makes the key of an issuing CA that somebody else certifies, a company's own PKI or the offline root, and writes the request for it into dir: issuing.csr
// for a new issuer, issuing-2.csr and so on for one that is there. It returns the path. Asked again before Import, it returns the same request.
func CSR(dir string, spec Spec, passphrase Passphrase) (path string, err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("request certificate of the issuing CA of issuer %s: %w", spec.ID, err)
		}
	}()
	if err := spec.Check(); err != nil {
		return "", err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", err
	}
	h, fresh, err := readOrBegin(dir)
	if err != nil {
		return "", err
	}
	if !fresh {
		if err := h.free(); err != nil {
			return "", err
		}
	}
	if name, ok := pendingRequest(dir, h); ok {
		return filepath.Join(dir, name+".csr"), nil
	}
	number, err := freeNumber(dir, IssuingCA, h.Issuing)
	if err != nil {
		return "", err
	}
	ring := new(keyring)
	defer func() { err = errors.Join(err, ring.Close()) }()
	var p pair
	if p.key, p.uri, err = ring.make(spec.Keys.Issuing, number, caKey); err != nil {
		return "", fmt.Errorf("make key: %w", err)
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{
		Subject: pkix.Name{Organization: []string{spec.Organization}, CommonName: issuingName(spec, number)},
		// What a CA has to grant (RFC 5280, sections 4.2.1.3 and 4.2.1.9): cA TRUE, pathLenConstraint 0; digitalSignature, keyCertSign, cRLSign.
		ExtraExtensions: []pkix.Extension{
			{Id: oidBasicConstraints, Critical: true, Value: []byte{0x30, 6, 1, 1, 0xff, 2, 1, 0}},
			{Id: oidKeyUsage, Critical: true, Value: []byte{3, 2, 1, 0x86}},
		},
	}, p.key)
	if err != nil {
		return "", err
	}
	name := generationName(IssuingCA, number)
	if err := p.saveKey(dir, name, passphrase); err != nil {
		return "", err
	}
	path = filepath.Join(dir, name+".csr")
	return path, writeNew(path, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}), 0o644)
}

// readOrBegin reads the history of an issuer, or begins one where nothing but a request may be: fresh.
func readOrBegin(dir string) (h history, fresh bool, err error) {
	if h, err = readHistory(dir); err != nil || h.sequence > 0 {
		return h, false, err
	}
	for _, name := range []string{"root.key", "root.uri"} { // of an issuer from before there were histories
		switch _, err := os.Lstat(filepath.Join(dir, name)); {
		case err == nil:
			return h, false, nil
		case !errors.Is(err, fs.ErrNotExist):
			return h, false, err
		}
	}
	return history{Root: rootForeign}, true, nil
}

// pendingRequest returns the name of the generation whose request was not answered yet: the history does not know it.
func pendingRequest(dir string, h history) (string, bool) {
	number := 1
	if len(h.Issuing) > 0 {
		number = h.Issuing[len(h.Issuing)-1].Number + 1
	}
	for ; number < 1<<20; number++ {
		name := generationName(IssuingCA, number)
		exists := func(ext string) bool { _, err := os.Lstat(filepath.Join(dir, name+ext)); return err == nil }
		switch {
		case exists(".csr"):
			return name, true
		case !exists(".key") && !exists(".uri"):
			return "", false
		}
	}
	return "", false
}

// Import takes the answer to CSR: the certificate of the issuing CA, whatever lies above it, and the root, in PEM or PKCS #7 and any order. It verifies that the key is the
// request's, that the certificate is a CA's that may sign certificates and CRLs, that it has a subject key identifier (Entra ID builds chains by it), and that
// device certificates of every mail domain will pass under it. For a new issuer, it makes the RA and is then complete; the root is there as a certificate only.
// For one that is there, the root must be its own, and the issuing CA is next: Activate puts it in force.
func Import(dir string, spec Spec, passphrase Passphrase, now time.Time, answer []byte) error {
	if err := importChain(dir, spec, passphrase, now.UTC().Truncate(time.Second), answer); err != nil {
		return fmt.Errorf("import issuing CA of issuer %s: %w", spec.ID, err)
	}
	return nil
}

func importChain(dir string, spec Spec, passphrase Passphrase, now time.Time, answer []byte) (err error) {
	if err := spec.Check(); err != nil {
		return err
	}
	h, fresh, err := readOrBegin(dir)
	if err != nil {
		return err
	}
	name, ok := pendingRequest(dir, h)
	if !ok {
		return fmt.Errorf("no request is open: make one first: %w", trust.ErrNotFound)
	}
	ring := new(keyring)
	defer func() { err = errors.Join(err, ring.Close()) }()
	issuing := pair{}
	if issuing.key, issuing.uri, err = loadKey(dir, name, passphrase, ring); err != nil {
		return err
	}
	root, err := issuing.take(answer, now)
	if err != nil {
		return err
	}
	m := &Material{history: h.clone(), ring: ring, root: pair{cert: root}, issuing: issuing}
	if !fresh {
		return m.importNext(dir, name, spec, passphrase, now)
	}
	return m.importFirst(dir, spec, passphrase, now)
}

// importFirst completes a new issuer.
func (m *Material) importFirst(dir string, spec Spec, passphrase Passphrase, now time.Time) error {
	m.history = firstHistory(spec.ID, rootForeign, now)
	for _, name := range []string{"root.crt", "ra.crt", "ra.key", "ra.uri"} { // what an attempt has left that ended in a crash
		if err := removeFile(filepath.Join(dir, name)); err != nil {
			return err
		}
	}
	var err error
	if m.ra, err = m.makeRA(spec, m.issuing, IssuingCA, 1, now); err != nil {
		return err
	}
	if err := m.try(spec, now); err != nil {
		return err
	}
	if err := m.ra.save(dir, raName, passphrase); err != nil {
		return err
	}
	if err := writeNew(filepath.Join(dir, "root.crt"), encodeCertificates(m.root.cert), 0o644); err != nil {
		return err
	}
	if err := m.saveImported(dir, IssuingCA); err != nil {
		return err
	}
	return m.history.write(dir)
}

// importNext makes an issuing CA the next one of an issuer that is there.
func (m *Material) importNext(dir, name string, spec Spec, passphrase Passphrase, now time.Time) (err error) {
	known, err := loadChecked(dir, spec, passphrase, now)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, known.ring.Close()) }()
	if !known.root.cert.Equal(m.root.cert) {
		return errors.New("the chain ends in another root than the issuer's: a new root is a new issuer")
	}
	if err := known.history.free(); err != nil {
		return err
	}
	if err := known.distinct(m.issuing.key.Public()); err != nil {
		return err
	}
	trial := &Material{history: firstHistory(spec.ID, known.history.Root, now), ring: new(keyring), root: m.root, issuing: m.issuing}
	ra, err := trial.makeRA(Spec{ID: spec.ID, Organization: spec.Organization, URL: spec.URL}, m.issuing, name, 1, now)
	if err != nil {
		return err
	}
	trial.ra = ra
	if err := trial.try(spec, now); err != nil {
		return err
	}
	if err := m.saveImported(dir, name); err != nil {
		return err
	}
	h := known.history.clone()
	number := numberOf(name)
	h.Issuing = append(h.Issuing, Generation{Number: number, State: Next, Since: now})
	return known.prepareRA(dir, spec, passphrase, m.issuing, name, h, now)
}

// saveImported writes the certificate, also over one of an attempt that ended in a crash: the history does not know it.
func (m *Material) saveImported(dir, name string) error {
	return replaceFile(filepath.Join(dir, name+".crt"), encodeCertificates(append([]*x509.Certificate{m.issuing.cert}, m.issuing.above...)...), 0o644)
}

// take finds the certificate of the pair's key and its chain, verifies them, and returns the root.
func (p *pair) take(answer []byte, now time.Time) (*x509.Certificate, error) {
	all, err := readChain(answer)
	if err != nil {
		return nil, err
	}
	pub, ok := p.key.Public().(interface{ Equal(crypto.PublicKey) bool })
	n := slices.IndexFunc(all, func(c *x509.Certificate) bool { return ok && pub.Equal(c.PublicKey) })
	if n < 0 {
		return nil, errors.New("none of the certificates is for the key of the request")
	}
	p.cert = all[n]
	if err := mayIssue(p.cert, now); err != nil {
		return nil, err
	}
	at := p.cert
	for {
		parent := slices.IndexFunc(all, func(c *x509.Certificate) bool {
			return c != at && bytes.Equal(c.RawSubject, at.RawIssuer) && signedBy(at, c) == nil
		})
		if parent < 0 {
			break
		}
		at = all[parent]
		p.above = append(p.above, at)
		if bytes.Equal(at.RawSubject, at.RawIssuer) || len(p.above) >= maxChain {
			break
		}
	}
	if err := signedBy(at, at); err != nil || at == p.cert {
		return nil, fmt.Errorf("the chain ends at %q, which is no root: add what lies above it, up to the root", at.Subject.CommonName)
	}
	p.above = p.above[:len(p.above)-1]
	return at, p.verify(at, now)
}

// verify builds the chain as everybody will.
func (p *pair) verify(root *x509.Certificate, now time.Time) error {
	roots, between := x509.NewCertPool(), x509.NewCertPool()
	roots.AddCert(root)
	for _, c := range p.above {
		between.AddCert(c)
	}
	_, err := p.cert.Verify(x509.VerifyOptions{Roots: roots, Intermediates: between, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}})
	return err
}

// mayIssue verifies that a certificate is an issuing CA's.
func mayIssue(c *x509.Certificate, now time.Time) error {
	switch {
	case !c.BasicConstraintsValid || !c.IsCA:
		return fmt.Errorf("%q is not a CA: basicConstraints must say cA TRUE", c.Subject.CommonName)
	case c.KeyUsage&x509.KeyUsageCertSign == 0 || c.KeyUsage&x509.KeyUsageCRLSign == 0:
		return fmt.Errorf("%q may not sign certificates and CRLs: keyUsage must have keyCertSign and cRLSign", c.Subject.CommonName)
	case len(c.SubjectKeyId) == 0 || len(c.AuthorityKeyId) == 0:
		return fmt.Errorf("%q has no subject or authority key identifier, by which Entra ID builds chains", c.Subject.CommonName)
	case bytes.Equal(c.RawSubject, c.RawIssuer):
		return fmt.Errorf("%q is a root: want the certificate of the request, issued by your CA", c.Subject.CommonName)
	case now.Before(c.NotBefore) || !now.Before(c.NotAfter):
		return fmt.Errorf("%q is valid from %s to %s, and it is %s now", c.Subject.CommonName, stamp(c.NotBefore), stamp(c.NotAfter), stamp(now))
	}
	return nil
}

// try issues a certificate for an address of each mail domain, which nobody gets, and verifies it under the root: path length, extended key usages and name
// constraints of a CA above show only there.
func (m *Material) try(spec Spec, now time.Time) error {
	spec.Profile.KeyTypes = nil
	i, err := New(spec, m, func() time.Time { return now }, discard) // and no Close: the keys are needed
	if err != nil {
		return err
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	if err != nil {
		return err
	}
	csr, err := x509.ParseCertificateRequest(der)
	if err != nil {
		return err
	}
	roots, between := x509.NewCertPool(), x509.NewCertPool()
	chain := i.Chain()
	roots.AddCert(chain[len(chain)-1])
	for _, c := range chain[:len(chain)-1] {
		between.AddCert(c)
	}
	for _, domain := range spec.Domains {
		mail := "postern-trial@" + domain
		got, err := i.Issue(context.Background(), Request{CSR: csr, Device: trust.Device{ID: "trial", Issuer: spec.ID, Owner: mail}, Owner: trust.Owner{Mail: mail}})
		if err != nil {
			return err
		}
		_, err = got.Cert.Verify(x509.VerifyOptions{Roots: roots, Intermediates: between, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
		if err != nil {
			return fmt.Errorf("a device certificate for %s would not be accepted: %w", domain, err)
		}
	}
	return nil
}

package ca_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha1" //nolint:gosec // as company PKIs name keys
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"postern/internal/ca"
	"postern/internal/ca/catest"
)

// company is a PKI that is not ours: a root and an intermediate CA.
type company struct {
	root, between       *x509.Certificate
	rootKey, betweenKey *ecdsa.PrivateKey
}

func certificate(t *testing.T, tmpl, parent *x509.Certificate, pub *ecdsa.PublicKey, key *ecdsa.PrivateKey) *x509.Certificate {
	t.Helper()
	raw, err := x509.CreateCertificate(rand.Reader, tmpl, parent, pub, key)
	if err != nil {
		t.Fatal(err)
	}
	c, err := x509.ParseCertificate(raw)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func newCompany(t *testing.T) company {
	t.Helper()
	c := company{rootKey: ecKey(t, elliptic.P384()), betweenKey: ecKey(t, elliptic.P384())}
	tmpl := func(name string, id byte) *x509.Certificate {
		return &x509.Certificate{SerialNumber: big.NewInt(int64(id)), Subject: pkix.Name{Organization: []string{"Contoso Group"}, CommonName: name}, NotBefore: time.Now().Add(-time.Hour),
			NotAfter: time.Now().AddDate(15, 0, 0), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign, SubjectKeyId: []byte{id, 2, 3}}
	}
	root := tmpl("Contoso Group Root", 1)
	c.root = certificate(t, root, root, &c.rootKey.PublicKey, c.rootKey)
	c.between = certificate(t, tmpl("Contoso Group Policy CA", 2), c.root, &c.betweenKey.PublicKey, c.rootKey)
	return c
}

// sign answers a request as the change says, and returns the chain in PEM.
func (c company) sign(t *testing.T, path string, change func(*x509.Certificate)) []byte {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(data)
	csr, err := x509.ParseCertificateRequest(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	if err := csr.CheckSignature(); err != nil || !slices.Equal(csr.Subject.Organization, []string{"Contoso"}) {
		t.Fatal(err)
	}
	id := sha1.Sum(csr.RawSubjectPublicKeyInfo) //nolint:gosec // see the import
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: csr.Subject, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().AddDate(8, 0, 0), IsCA: true,
		BasicConstraintsValid: true, MaxPathLenZero: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign | x509.KeyUsageDigitalSignature, SubjectKeyId: id[:],
		CRLDistributionPoints: []string{"http://pki.contoso-group.test/policy.crl"}}
	if change != nil {
		change(tmpl)
	}
	cert := certificate(t, tmpl, c.between, csr.PublicKey.(*ecdsa.PublicKey), c.betweenKey)
	return pemOf(c.root, cert, c.between) // in no order
}

func pemOf(list ...*x509.Certificate) (out []byte) {
	for _, c := range list {
		out = append(out, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})...)
	}
	return out
}

func TestCompanyCA(t *testing.T) {
	t.Parallel()
	c := newCompany(t)
	d := &disk{t: t, dir: filepath.Join(t.TempDir(), "issuers", "contoso"), phrase: phrase(t, "x")}
	d.clock.Store(time.Now().Unix())
	path, err := ca.CSR(d.dir, catest.Spec(), d.phrase)
	d.must(err)
	if err := ca.Import(filepath.Join(t.TempDir(), "empty"), catest.Spec(), d.phrase, d.now(), c.sign(t, path, nil)); err == nil {
		t.Error("imported without a request")
	}
	refusedChains(t, c, d, path)
	if _, err := ca.Open(d.dir, catest.Spec(), d.phrase, d.now, quiet); err == nil {
		t.Error("opened before the import")
	}
	// What a crash has left does not matter.
	d.must(os.WriteFile(filepath.Join(d.dir, "ra.key"), []byte("left"), 0o600))
	d.must(os.WriteFile(filepath.Join(d.dir, "issuing.crt"), []byte("left"), 0o600))
	d.must(ca.Import(d.dir, catest.Spec(), d.phrase, d.now(), c.sign(t, path, nil)))
	d.open()
	if chain := d.Chain(); len(chain) != 3 || !chain[1].Equal(c.between) || !chain[2].Equal(c.root) || d.Online(ca.RootCA) || len(d.Certificates()) != 2 {
		t.Errorf("chain %v", chain)
	}
	if _, err := os.Stat(filepath.Join(d.dir, "root.key")); err == nil {
		t.Error("there is a root key")
	}
	old := issue(t, d.Issuer, catest.Request(t, d.Issuer, "alice@contoso.com", ecKey(t, elliptic.P256()))).Cert
	d.openssl(old)
	if _, err := d.StoredCRL(ca.RootCA); err == nil {
		t.Error("the company's CRL is here")
	}
	// Rotation goes the same way.
	if err := ca.Import(d.dir, catest.Spec(), d.phrase, d.now(), c.sign(t, path, nil)); err == nil {
		t.Error("imported twice")
	}
	path, err = ca.CSR(d.dir, catest.Spec(), d.phrase)
	d.must(err)
	if err := ca.Import(d.dir, catest.Spec(), d.phrase, d.now(), newCompany(t).sign(t, path, nil)); err == nil || !strings.Contains(err.Error(), "another root") {
		t.Errorf("another root: %v", err)
	}
	d.must(ca.Import(d.dir, catest.Spec(), d.phrase, d.now(), c.sign(t, path, nil)))
	d.must(ca.Activate(d.dir, d.now()))
	d.reload()
	got := issue(t, d.Issuer, catest.Request(t, d.Issuer, "alice@contoso.com", ecKey(t, elliptic.P256())))
	if got.Record.CA != "issuing-2" || !slices.Equal(d.ids(), []string{"issuing-2", "root", "issuing"}) {
		t.Errorf("%s, CAs %v", got.Record.CA, d.ids())
	}
	d.openssl(got.Cert)
	d.openssl(old)
	spec := catest.Spec()
	spec.ID = "fabrikam"
	if _, err := ca.Open(d.dir, spec, d.phrase, d.now, quiet); err == nil || !strings.Contains(err.Error(), "not of issuer fabrikam") {
		t.Errorf("another issuer's directory: %v", err)
	}
}

func refusedChains(t *testing.T, c company, d *disk, path string) {
	t.Helper()
	other := newCompany(t)
	good := c.sign(t, path, nil)
	block, rest := pem.Decode(good)
	leafOnly, _ := pem.Decode(rest)
	chains := map[string][]byte{
		"nothing":       nil,
		"noise":         []byte("noise"),
		"no root":       pemOf(c.between),
		"not the key":   pemOf(c.root, c.between),
		"leaf alone":    pem.EncodeToMemory(leafOnly),
		"without CA 2":  append(pem.EncodeToMemory(block), pem.EncodeToMemory(leafOnly)...),
		"another chain": append(pem.EncodeToMemory(leafOnly), pemOf(other.root, other.between)...),
	}
	for what, change := range map[string]func(*x509.Certificate){
		"no CA":         func(c *x509.Certificate) { c.IsCA, c.MaxPathLenZero = false, false },
		"no certSign":   func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageCRLSign },
		"no CRLSign":    func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageCertSign },
		"expired":       func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) },
		"later":         func(c *x509.Certificate) { c.NotBefore = time.Now().Add(time.Hour) },
		"server only":   func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} },
		"other domains": func(c *x509.Certificate) { c.PermittedEmailAddresses = []string{"fabrikam.com"} },
		"not ours":      func(c *x509.Certificate) { c.ExcludedEmailAddresses = []string{"contoso.com"} },
	} {
		chains[what] = c.sign(t, path, change)
	}
	for what, chain := range chains {
		if err := ca.Import(d.dir, catest.Spec(), d.phrase, d.now(), chain); err == nil {
			t.Errorf("%s: imported", what)
		} else {
			t.Logf("%s: %v", what, err)
		}
	}
}

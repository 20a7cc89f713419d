package ca

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"io"
	"log/slog"
	"math/big"
	"slices"
	"strings"
	"testing"
	"time"

	"postern/internal/trust"
)

// reissue signs a copy of c that was changed, with the same key and CA.
func reissue(t *testing.T, ca pair, c *x509.Certificate, change func(*x509.Certificate)) *x509.Certificate {
	t.Helper()
	copied := &x509.Certificate{
		SerialNumber: c.SerialNumber, RawSubject: c.RawSubject, NotBefore: c.NotBefore, NotAfter: c.NotAfter, PublicKey: c.PublicKey,
		ExtraExtensions: slices.Clone(c.Extensions),
	}
	change(copied)
	raw, err := x509.CreateCertificate(rand.Reader, copied, ca.cert, copied.PublicKey, ca.key)
	if err != nil {
		t.Fatal(err)
	}
	out, err := x509.ParseCertificate(raw)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// Whatever the library that signs gets wrong, or its template is changed to, is noticed.
func TestValidateNotices(t *testing.T) {
	t.Parallel()
	spec := Spec{ID: "contoso", Organization: "Contoso", Domains: []string{"contoso.com"}, URL: "http://127.0.0.1:8080"}
	m, err := Generate(spec, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	i, err := New(spec, m, time.Now, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	if err != nil {
		t.Fatal(err)
	}
	csr, err := x509.ParseCertificateRequest(raw)
	if err != nil {
		t.Fatal(err)
	}
	r := Request{CSR: csr, Device: trust.Device{ID: "dev-1", Issuer: "contoso", Owner: "alice@contoso.com"}, Owner: trust.Owner{Mail: "alice@contoso.com"}}
	got, err := i.Issue(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	p, err := i.promise(r, IssuingCA)
	if err != nil {
		t.Fatal(err)
	}
	c := got.Cert
	f := frame{c.SerialNumber, c.NotBefore, c.NotAfter}
	if err := i.validate(reissue(t, m.issuing, c, func(*x509.Certificate) {}), m.issuing.cert, p, f); err != nil {
		t.Fatalf("unchanged: %v", err)
	}
	for what, change := range changes(t) {
		if err := i.validate(reissue(t, m.issuing, c, change), m.issuing.cert, p, f); err == nil {
			t.Errorf("%s: not noticed", what)
		}
	}
	if err := i.validate(reissue(t, m.root, c, func(*x509.Certificate) {}), m.issuing.cert, p, f); err == nil {
		t.Error("another CA: not noticed")
	}
}

// faulty is a key that sometimes computes a wrong signature, as hardware does.
type faulty struct{ crypto.Signer }

func (f faulty) Sign(random io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	return f.Signer.Sign(random, append([]byte{digest[0] ^ 1}, digest[1:]...), opts)
}

func TestIssueNoticesAFaultySignature(t *testing.T) {
	t.Parallel()
	i, m := testIssuer(t, testSpec())
	i.state.Load().signs.Signer = faulty{m.issuing.key}
	if _, err := i.Issue(t.Context(), testRequest(t)); err == nil {
		t.Error("a certificate with a wrong signature is handed out")
	}
}

// A proof counts for the request that was verified, and for no other.
func TestProofIsOfOneRequest(t *testing.T) {
	t.Parallel()
	i, _ := testIssuer(t, testSpec())
	r, other := testRequest(t), testRequest(t)
	var err error
	if r.Proof, err = Prove(r.CSR); err != nil {
		t.Fatal(err)
	}
	if _, err := i.Issue(t.Context(), r); err != nil {
		t.Error(err)
	}
	other.CSR.Signature[len(other.CSR.Signature)-1] ^= 1
	r.CSR = other.CSR
	var refusal *Refusal
	if _, err := i.Issue(t.Context(), r); !errors.As(err, &refusal) || refusal.Part != PartProof {
		t.Errorf("a request that nobody signed: %v", err)
	}
	if _, err := Prove(other.CSR); err == nil {
		t.Error("a request that nobody signed is proved")
	}
}

// changes is what can go wrong with a certificate.
func changes(t *testing.T) map[string]func(*x509.Certificate) {
	t.Helper()
	other, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	swap := func(oid asn1.ObjectIdentifier, old, repl string) func(*x509.Certificate) {
		return func(c *x509.Certificate) {
			for n, e := range c.ExtraExtensions {
				if e.Id.Equal(oid) {
					if !strings.Contains(string(e.Value), old) {
						t.Errorf("no %q in %s", old, oid)
					}
					c.ExtraExtensions[n].Value = []byte(strings.Replace(string(e.Value), old, repl, 1))
				}
			}
		}
	}
	subject := func(old, repl string) func(*x509.Certificate) {
		return func(c *x509.Certificate) {
			if !strings.Contains(string(c.RawSubject), old) {
				t.Errorf("no %q in the subject", old)
			}
			c.RawSubject = []byte(strings.Replace(string(c.RawSubject), old, repl, 1))
		}
	}
	all := map[string]func(*x509.Certificate){
		"serial":      func(c *x509.Certificate) { c.SerialNumber = big.NewInt(1) },
		"not before":  func(c *x509.Certificate) { c.NotBefore = c.NotBefore.Add(-time.Second) },
		"not after":   func(c *x509.Certificate) { c.NotAfter = c.NotAfter.Add(time.Second) },
		"key":         func(c *x509.Certificate) { c.PublicKey = other.Public() },
		"UPN":         swap(oidSubjectAltName, "\x0c\x11alice", "\x0c\x11mlice"),
		"UPN type":    swap(oidSubjectAltName, "\x0c\x11alice", "\x16\x11alice"),
		"mail in SAN": swap(oidSubjectAltName, "\x81\x11alice", "\x81\x11mlice"),
		"EKU":         swap(oidExtKeyUsage, "\x03\x02", "\x03\x01"),
		"usage":       swap(oidKeyUsage, "\x07\x80", "\x02\x84"),
		"CRL":         swap(oidCRLDistribution, "8080", "8081"),
		"freshest":    swap(oidFreshestCRL, "delta", "omega"),
		"OCSP":        swap(oidAuthorityInfo, "ocsp", "oscp"),
		"O":           subject("Contoso", "Fabriko"),
		"CN":          subject("alice@", "mlice@"),
		"mail type":   subject("\x16\x11alice", "\x0c\x11alice"),
		"device":      subject("dev-1", "dev-2"),
		"one more": func(c *x509.Certificate) {
			c.ExtraExtensions = append(c.ExtraExtensions, pkix.Extension{Id: asn1.ObjectIdentifier{1, 2, 3}, Value: []byte{5, 0}})
		},
	}
	for _, oid := range []asn1.ObjectIdentifier{oidKeyUsage, oidBasicConstraints, oidFreshestCRL, oidExtKeyUsage, oidSubjectAltName, oidCRLDistribution, oidAuthorityInfo} {
		all["without "+oid.String()] = func(c *x509.Certificate) {
			c.ExtraExtensions = slices.DeleteFunc(c.ExtraExtensions, func(e pkix.Extension) bool { return e.Id.Equal(oid) })
		}
		if oid.Equal(oidAuthorityInfo) {
			continue // crypto/x509 itself does not read it as critical
		}
		all["critical "+oid.String()] = func(c *x509.Certificate) {
			for n, e := range c.ExtraExtensions {
				if e.Id.Equal(oid) {
					c.ExtraExtensions[n].Critical = !e.Critical
				}
			}
		}
	}
	return all
}

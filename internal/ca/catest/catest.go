// Package catest gives other packages' tests a real issuer, with keys in memory.
package catest

import (
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"log/slog"
	"testing"
	"time"

	"postern/internal/ca"
	"postern/internal/trust"
)

// Spec is the spec of the issuer that New makes.
func Spec() ca.Spec {
	return ca.Spec{ID: "contoso", Organization: "Contoso", Domains: []string{"contoso.com"}, URL: "http://127.0.0.1:8080"}
}

// Option changes what New makes.
type Option func(*options)

type options struct {
	spec ca.Spec
	now  func() time.Time
}

// WithSpec makes the issuer of another spec.
func WithSpec(s ca.Spec) Option { return func(o *options) { o.spec = s } }

// WithClock makes the issuer live by another clock than time.Now.
func WithClock(now func() time.Time) Option { return func(o *options) { o.now = now } }

// New returns an open issuer with fresh keys, which is closed when the test ends.
func New(t testing.TB, opts ...Option) *ca.Issuer {
	t.Helper()
	o := options{spec: Spec(), now: time.Now}
	for _, opt := range opts {
		opt(&o)
	}
	m, err := ca.Generate(o.spec, o.now())
	if err != nil {
		t.Fatal(err)
	}
	i, err := ca.New(o.spec, m, o.now, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := i.Close(); err != nil {
			t.Error(err)
		}
	})
	return i
}

// CSR returns a parsed certificate request for the key, with names that nobody should believe.
func CSR(t testing.TB, key crypto.Signer, extra ...func(*x509.CertificateRequest)) *x509.CertificateRequest {
	t.Helper()
	tmpl := &x509.CertificateRequest{EmailAddresses: []string{"mallory@evil.test"}, DNSNames: []string{"evil.test"}}
	tmpl.Subject.CommonName = "mallory"
	for _, f := range extra {
		f(tmpl)
	}
	raw, err := x509.CreateCertificateRequest(rand.Reader, tmpl, key)
	if err != nil {
		t.Fatal(err)
	}
	csr, err := x509.ParseCertificateRequest(raw)
	if err != nil {
		t.Fatal(err)
	}
	return csr
}

// Request returns a request that Issue grants: a device of the issuer with that owner.
func Request(t testing.TB, i *ca.Issuer, mail string, key crypto.Signer) ca.Request {
	t.Helper()
	d := trust.Device{ID: trust.DeviceID(trust.NewID("dev")), Issuer: i.Spec().ID, Owner: mail}
	return ca.Request{CSR: CSR(t, key), Device: d, Owner: trust.Owner{Mail: mail}, Evidence: trust.Evidence{Kind: "challenge"}}
}

package ca

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"log/slog"
	"math/big"
	"slices"
	"strings"
	"testing"
	"time"

	"postern/certs"
	"postern/internal/trust"
)

func testSpec() Spec {
	return Spec{ID: "contoso", Organization: "Contoso", Domains: []string{"contoso.com"}, URL: "http://127.0.0.1:8080"}
}

func testIssuer(t testing.TB, spec Spec) (*Issuer, *Material) {
	t.Helper()
	m, err := Generate(spec, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	i, err := New(spec, m, time.Now, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = i.Close() })
	return i, m
}

func testRequest(t testing.TB) Request {
	t.Helper()
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
	d := trust.Device{ID: "dev-1", Issuer: "contoso", Owner: "alice@contoso.com", SerialNumber: "C02XK1.3/4:5-6"}
	return Request{CSR: csr, Device: d, Owner: trust.Owner{Mail: "alice@contoso.com"}}
}

// Everything that an issuer signs passes, also with every extra name.
func TestLintPasses(t *testing.T) {
	t.Parallel()
	spec := testSpec()
	spec.Profile = certs.Overrides{PolicyOIDs: []string{"1.3.6.1.4.1.99999.1"}, ExtraNames: certs.Names()}
	i, m := testIssuer(t, spec)
	r := testRequest(t)
	r.SID, r.Owner.Proxies = "S-1-5-21-1004336348-1177238915-682003330-512", []string{"alice@contoso.com", "al@contoso.com"}
	got, err := i.Issue(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	for what, c := range map[string]*x509.Certificate{"device": got.Cert, "root": m.root.cert, "issuing": m.issuing.cert, "ra": m.ra.cert} {
		if err := i.lint.check(c.Raw); err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
}

func TestLintFinds(t *testing.T) {
	t.Parallel()
	i, m := testIssuer(t, testSpec())
	got, err := i.Issue(t.Context(), testRequest(t))
	if err != nil {
		t.Fatal(err)
	}
	for want, change := range map[string]func(*x509.Certificate){
		"e_": func(c *x509.Certificate) { // the authority key identifier comes from the signer: nothing but its absence can be made here
			c.ExtraExtensions = slices.DeleteFunc(c.ExtraExtensions, func(e pkix.Extension) bool { return e.Id.Equal(oidSubjectAltName) })
			c.RawSubject = []byte{0x30, 0}
		},
		"e_path_len_constraint_improperly_included": func(c *x509.Certificate) {
			for n, e := range c.ExtraExtensions {
				if e.Id.Equal(oidBasicConstraints) {
					c.ExtraExtensions[n].Value = []byte{0x30, 3, asn1.TagInteger, 1, 0}
				}
			}
		},
		"e_ext_san_empty_name": func(c *x509.Certificate) {
			for n, e := range c.ExtraExtensions {
				if e.Id.Equal(oidSubjectAltName) {
					c.ExtraExtensions[n].Value = []byte{0x30, 2, 0x81, 0}
				}
			}
		},
	} {
		c := reissue(t, m.issuing, got.Cert, change)
		if err := i.lint.check(c.Raw); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
	}
	if err := i.lint.check([]byte{0x30, 0}); err == nil {
		t.Error("no certificate, no error")
	}
}

func TestClosePrimes(t *testing.T) {
	t.Parallel()
	p, err := rand.Prime(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	q := new(big.Int).Add(p, big.NewInt(2))
	for !q.ProbablyPrime(10) {
		q.Add(q, big.NewInt(2))
	}
	if !closePrimes(new(big.Int).Mul(p, q)) || !closePrimes(new(big.Int).Mul(p, p)) {
		t.Error("close primes are not noticed")
	}
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	if closePrimes(key.N) {
		t.Error("a sound key is refused")
	}
}

func TestExtraNames(t *testing.T) {
	t.Parallel()
	spec := testSpec()
	spec.Profile.ExtraNames = certs.Names()
	i, _ := testIssuer(t, spec)
	r := testRequest(t)
	r.SID = "S-1-5-21-1-2-3-4294967295"
	r.Owner.Proxies = []string{"al@contoso.com", "alice@contoso.com", "alice@elsewhere.test"}
	got, err := i.Issue(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	c := got.Cert
	if c.Subject.SerialNumber != r.Device.SerialNumber || SIDOf(c.URIs) != r.SID || !slices.Equal(c.EmailAddresses, []string{"alice@contoso.com", "al@contoso.com"}) ||
		c.URIs[0].String() != "urn:postern:device:dev-1" || c.URIs[1].String() != "tag:microsoft.com,2022-09-14:sid:S-1-5-21-1-2-3-4294967295" {
		t.Errorf("subject %v, SAN %v %v", c.Subject, c.EmailAddresses, c.URIs)
	}
	for _, sid := range []string{
		"S-1-5-32-544", "S-1-5-21-1-2-3", "S-1-5-21-1-2-3-4-5", "S-1-5-21-01-2-3-4", "S-1-5-21-1-2-3-4294967296", "s-1-5-21-1-2-3-4", "S-1-5-21-1-2-3-4 ", " S-1-5-21-1-2-3-4",
		"S-1-5-21-1-2-3-4\n", "S-1-5-21-1-2-3--4", "tag:microsoft.com,2022-09-14:sid:S-1-5-21-1-2-3-4", "S-1-5-21-1-2-3-99999999999", `S-1-5-21-1-2-3-4"}`,
	} {
		bad := r
		bad.SID = sid
		if _, err := i.Issue(t.Context(), bad); err == nil {
			t.Errorf("SID %q was certified", sid)
		}
	}
	for what, change := range map[string]func(*Request){
		"serial number": func(r *Request) { r.Device.SerialNumber = "a b" },
		"long serial":   func(r *Request) { r.Device.SerialNumber = strings.Repeat("1", 65) },
		"alias":         func(r *Request) { r.Owner.Proxies = []string{"AL@contoso.com"} },
		"aliases":       func(r *Request) { r.Owner.Proxies = slices.Repeat([]string{"al@contoso.com"}, 17) },
	} {
		bad := r
		change(&bad)
		if _, err := i.Issue(t.Context(), bad); err == nil {
			t.Errorf("%s was certified", what)
		}
	}
	r.Device.SerialNumber, r.Owner.Proxies, r.SID = "", nil, ""
	if got, err = i.Issue(t.Context(), r); err != nil || got.Cert.Subject.SerialNumber != "" || len(got.Cert.URIs) != 1 || SIDOf(got.Cert.URIs) != "" {
		t.Errorf("nothing known: %v", err)
	}
}

func TestOverrides(t *testing.T) {
	t.Parallel()
	spec := testSpec()
	spec.Profile = certs.Overrides{Lifetime: 48 * time.Hour, PolicyOIDs: []string{"1.2.3", "2.999.1"}, KeyTypes: []string{certs.RSA3072, certs.P384}}
	i, _ := testIssuer(t, spec)
	r := testRequest(t)
	if _, err := i.Issue(t.Context(), r); err == nil || !strings.Contains(err.Error(), "want rsa3072 or p384") {
		t.Errorf("P-256: %v", err)
	}
	key, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	if err != nil {
		t.Fatal(err)
	}
	if r.CSR, err = x509.ParseCertificateRequest(raw); err != nil {
		t.Fatal(err)
	}
	for profile, want := range map[string]time.Duration{"": 48 * time.Hour, certs.Short: 48 * time.Hour} {
		r.Profile = profile
		got, err := i.Issue(t.Context(), r)
		if err != nil {
			t.Fatal(err)
		}
		if life := got.Cert.NotAfter.Sub(got.Cert.NotBefore); life != want+10*time.Minute || len(got.Cert.Policies) != 2 || got.Cert.Policies[1].String() != "2.999.1" {
			t.Errorf("%q: %s, policies %v", profile, life, got.Cert.Policies)
		}
	}
	for what, o := range map[string]certs.Overrides{
		"short":        {Lifetime: time.Minute},
		"negative":     {Lifetime: -time.Hour},
		"long":         {Lifetime: certs.MaxLifetime + time.Second},
		"fraction":     {Lifetime: time.Hour + time.Millisecond},
		"no OID":       {PolicyOIDs: []string{""}},
		"one arc":      {PolicyOIDs: []string{"1"}},
		"arc 3":        {PolicyOIDs: []string{"3.1"}},
		"second arc":   {PolicyOIDs: []string{"1.40"}},
		"leading zero": {PolicyOIDs: []string{"1.02"}},
		"twice":        {PolicyOIDs: []string{"1.2", "1.2"}},
		"key type":     {KeyTypes: []string{"rsa1024"}},
		"name":         {ExtraNames: []string{"dns"}},
		"many":         {PolicyOIDs: slices.Repeat([]string{"1.2"}, 17)},
	} {
		bad := testSpec()
		bad.Profile = o
		if err := bad.Check(); err == nil || !strings.Contains(err.Error(), "invalid") {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// BenchmarkLint is what linting adds to an enrolment.
func BenchmarkLint(b *testing.B) {
	i, m := testIssuer(b, testSpec())
	for b.Loop() {
		if err := i.lint.check(m.ra.cert.Raw); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkCheckKey is what a sound RSA key costs.
func BenchmarkCheckKey(b *testing.B) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if err := checkKey(key.Public(), certs.KeyTypes()); err != nil {
			b.Fatal(err)
		}
	}
}

package ca_test

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"math/big"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"postern/internal/ca"
	"postern/internal/ca/catest"
	"postern/internal/trust"
)

func ecKey(t testing.TB, curve elliptic.Curve) *ecdsa.PrivateKey {
	t.Helper()
	k, err := ecdsa.GenerateKey(curve, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func rsaKey(t testing.TB, bits int) *rsa.PrivateKey {
	t.Helper()
	k, err := rsa.GenerateKey(rand.Reader, bits)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func issue(t testing.TB, i *ca.Issuer, r ca.Request) *ca.Issued {
	t.Helper()
	got, err := i.Issue(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func TestIssueFields(t *testing.T) {
	t.Parallel()
	now := time.Now().UTC().Truncate(time.Second)
	i := catest.New(t, catest.WithClock(func() time.Time { return now }))
	for name, key := range map[string]crypto.Signer{"rsa": rsaKey(t, 2048), "p256": ecKey(t, elliptic.P256()), "p384": ecKey(t, elliptic.P384())} {
		r := catest.Request(t, i, "alice@contoso.com", key)
		r.Owner.UPN = "a.smith@contoso.com"
		got := issue(t, i, r)
		c := got.Cert
		if c.Subject.CommonName != "alice@contoso.com" || c.Subject.Organization[0] != "Contoso" || c.Subject.OrganizationalUnit[0] != string(r.Device.ID) {
			t.Errorf("%s: subject %v", name, c.Subject)
		}
		if len(c.DNSNames) != 0 || len(c.EmailAddresses) != 1 || c.EmailAddresses[0] != "alice@contoso.com" ||
			len(c.URIs) != 1 || c.URIs[0].String() != "urn:postern:device:"+string(r.Device.ID) {
			t.Errorf("%s: SAN %v %v %v", name, c.DNSNames, c.EmailAddresses, c.URIs)
		}
		if !strings.Contains(string(c.Raw), "a.smith@contoso.com") || strings.Contains(string(c.Raw), "evil.test") || strings.Contains(string(c.Raw), "mallory") {
			t.Errorf("%s: wrong names in the certificate", name)
		}
		want := x509.KeyUsageDigitalSignature
		if name == "rsa" {
			want |= x509.KeyUsageKeyEncipherment
		}
		if c.KeyUsage != want || len(c.ExtKeyUsage) != 1 || c.ExtKeyUsage[0] != x509.ExtKeyUsageClientAuth || len(c.UnknownExtKeyUsage) != 0 || c.IsCA {
			t.Errorf("%s: usage %v %v", name, c.KeyUsage, c.ExtKeyUsage)
		}
		if !c.NotBefore.Equal(now.Add(-10*time.Minute)) || !c.NotAfter.Equal(now.Add(365*24*time.Hour)) {
			t.Errorf("%s: valid from %v to %v", name, c.NotBefore, c.NotAfter)
		}
		rec := got.Record
		if !regexp.MustCompile(`^[4-7][0-9a-f]{31}$`).MatchString(string(rec.Serial)) || rec.Serial.Int().Cmp(c.SerialNumber) != 0 {
			t.Errorf("%s: serial %s", name, rec.Serial)
		}
		if rec.Issuer != "contoso" || rec.CA != ca.IssuingCA || rec.Device != r.Device.ID || rec.Owner != "alice@contoso.com" || rec.Status != trust.Good ||
			rec.Fingerprint != ca.Fingerprint(c) || rec.Evidence != r.Evidence || rec.Profile != "device" || len(rec.SKI) != 40 ||
			!strings.HasPrefix(rec.Subject, "emailAddress=alice@contoso.com,CN=alice@contoso.com,OU=dev-") {
			t.Errorf("%s: record %+v", name, rec)
		}
	}
}

func TestIssueChains(t *testing.T) {
	t.Parallel()
	i := catest.New(t)
	roots, inter := x509.NewCertPool(), x509.NewCertPool()
	chain := i.Chain()
	inter.AddCert(chain[0])
	roots.AddCert(chain[1])
	opts := x509.VerifyOptions{Roots: roots, Intermediates: inter, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}
	got := issue(t, i, catest.Request(t, i, "alice@contoso.com", ecKey(t, elliptic.P256())))
	if _, err := got.Cert.Verify(opts); err != nil {
		t.Error(err)
	}
	if _, err := i.RACertificate().Verify(opts); err == nil {
		t.Error("the RA certificate passes as a client certificate")
	}
	for caID, own := range map[string][]*x509.Certificate{ca.RootCA: chain, ca.IssuingCA: {i.RACertificate()}, "other": nil} {
		for _, c := range []*x509.Certificate{chain[0], chain[1], i.RACertificate(), got.Cert} {
			if i.Own(caID, c.SerialNumber) != slices.Contains(own, c) {
				t.Errorf("%s, %q: %t", caID, c.Subject.CommonName, i.Own(caID, c.SerialNumber))
			}
		}
	}
}

func TestIssueEndsWithTheCA(t *testing.T) {
	t.Parallel()
	now := time.Now().UTC().Truncate(time.Second)
	i := catest.New(t, catest.WithClock(func() time.Time { return now }))
	end := i.Chain()[0].NotAfter
	r := catest.Request(t, i, "alice@contoso.com", ecKey(t, elliptic.P256()))
	now = end.Add(-24 * time.Hour)
	if got := issue(t, i, r); !got.Cert.NotAfter.Equal(end) {
		t.Errorf("ends %v, the CA ends %v", got.Cert.NotAfter, end)
	}
	for _, at := range []time.Time{end, end.Add(time.Hour), i.Chain()[0].NotBefore.Add(-time.Hour)} {
		now = at
		if _, err := i.Issue(t.Context(), r); err == nil {
			t.Errorf("issued at %v", at)
		}
	}
}

func TestIssueRefusesKeys(t *testing.T) {
	t.Parallel()
	i := catest.New(t)
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	r := catest.Request(t, i, "alice@contoso.com", ecKey(t, elliptic.P256()))
	for name, csr := range map[string]*x509.CertificateRequest{
		"p521":     catest.CSR(t, ecKey(t, elliptic.P521())),
		"p224":     catest.CSR(t, ecKey(t, elliptic.P224())),
		"ed25519":  catest.CSR(t, ed),
		"rsa 1024": {PublicKey: &rsa.PublicKey{N: new(big.Int).SetBit(big.NewInt(1), 1023, 1), E: 65537}},
		"rsa 9000": {PublicKey: &rsa.PublicKey{N: new(big.Int).SetBit(big.NewInt(1), 8999, 1), E: 65537}},
		"even":     {PublicKey: &rsa.PublicKey{N: new(big.Int).SetBit(big.NewInt(0), 2047, 1), E: 65537}},
		"e3":       {PublicKey: &rsa.PublicKey{N: new(big.Int).SetBit(big.NewInt(1), 2047, 1), E: 3}},
	} {
		r.CSR = csr
		if _, err := i.Issue(t.Context(), r); part(err) != ca.PartKey || !errors.Is(err, trust.ErrForbidden) {
			t.Errorf("%s: %v", name, err)
		}
	}
	r.CSR = catest.CSR(t, ecKey(t, elliptic.P256()))
	r.CSR.Signature[len(r.CSR.Signature)-1] ^= 1
	if _, err := i.Issue(t.Context(), r); part(err) != ca.PartProof {
		t.Errorf("broken signature: %v", err)
	}
	r.CSR = nil
	if _, err := i.Issue(t.Context(), r); part(err) != ca.PartProof {
		t.Errorf("no request: %v", err)
	}
}

func part(err error) ca.Part {
	var r *ca.Refusal
	if errors.As(err, &r) {
		return r.Part
	}
	return ""
}

func TestIssueRefusesNames(t *testing.T) {
	t.Parallel()
	i := catest.New(t)
	key := ecKey(t, elliptic.P256())
	for _, mail := range []string{
		"", "alice", "@contoso.com", "alice@", "alice@evil.test", "alice@sub.contoso.com", "alice@contoso.com.evil.test", "alice@CONTOSO.COM", " alice@contoso.com",
		"alice@contoso.com\n", "alice@evil.test\x00@contoso.com", `a","commonName":"root"@contoso.com`, "a\u202e@contoso.com", "älice@contoso.com",
		"a,CN=root@contoso.com", strings.Repeat("a", 65) + "@contoso.com", "a@b@contoso.com", "alice@contoso.com.",
	} {
		r := catest.Request(t, i, mail, key)
		if _, err := i.Issue(t.Context(), r); part(err) != ca.PartName {
			t.Errorf("mail %q: %v", mail, err)
		}
		if mail == "" {
			continue // no UPN: the mail address is used
		}
		r = catest.Request(t, i, "alice@contoso.com", key)
		r.Owner.UPN = mail
		if _, err := i.Issue(t.Context(), r); part(err) != ca.PartName {
			t.Errorf("UPN %q: %v", mail, err)
		}
	}
	for what, change := range map[string]func(*ca.Request){
		"another owner":  func(r *ca.Request) { r.Device.Owner = "bob@contoso.com" },
		"another issuer": func(r *ca.Request) { r.Device.Issuer = "fabrikam" },
		"no issuer":      func(r *ca.Request) { r.Device.Issuer = "" },
		"no device":      func(r *ca.Request) { r.Device.ID = "" },
		"hostile device": func(r *ca.Request) { r.Device.ID = `dev-1"},{"` },
		"long device":    func(r *ca.Request) { r.Device.ID = trust.DeviceID(strings.Repeat("a", 65)) },
	} {
		r := catest.Request(t, i, "alice@contoso.com", key)
		change(&r)
		if _, err := i.Issue(t.Context(), r); part(err) != ca.PartName {
			t.Errorf("%s: %v", what, err)
		}
	}
	r := catest.Request(t, i, "alice@contoso.com", key)
	r.Profile = "root"
	if _, err := i.Issue(t.Context(), r); part(err) != ca.PartProfile {
		t.Errorf("profile: %v", err)
	}
}

// Names that are allowed and would mean something to a template, to JSON or to a shell come out as they went in.
func TestIssueInertNames(t *testing.T) {
	t.Parallel()
	spec := catest.Spec()
	spec.Organization = `Müller & "Söhne" {{ fail "x" }} </script>, O=Evil\`
	i := catest.New(t, catest.WithSpec(spec))
	for _, mail := range []string{
		`{{.insecure}}@contoso.com`, `a+b@contoso.com`, `#1@contoso.com`, `o'brien&co=1@contoso.com`, "`id`$x@contoso.com", `{{` + "`" + `x` + "`" + `}}@contoso.com`,
		"utf8%3ax/../y@contoso.com",
	} {
		r := catest.Request(t, i, mail, ecKey(t, elliptic.P256()))
		got := issue(t, i, r) // Issue itself compares every octet
		if got.Cert.Subject.CommonName != mail || got.Cert.Subject.Organization[0] != spec.Organization || got.Record.Owner != mail {
			t.Errorf("%q became %v", mail, got.Cert.Subject)
		}
	}
}

func TestIssueLongMail(t *testing.T) {
	t.Parallel()
	i := catest.New(t)
	mail := strings.Repeat("a", 60) + "@contoso.com"
	r := catest.Request(t, i, mail, ecKey(t, elliptic.P256()))
	c := issue(t, i, r).Cert
	if c.Subject.CommonName != string(r.Device.ID) || c.EmailAddresses[0] != mail || strings.Count(string(c.Raw), mail) != 3 {
		t.Errorf("subject %v, SAN %v", c.Subject, c.EmailAddresses)
	}
}

func TestIssueCancelled(t *testing.T) {
	t.Parallel()
	i := catest.New(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := i.Issue(ctx, catest.Request(t, i, "alice@contoso.com", ecKey(t, elliptic.P256()))); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

// Two issuers in one process work at the same time and never with each other's keys.
func TestTwoIssuers(t *testing.T) {
	t.Parallel()
	one := catest.New(t)
	spec := catest.Spec()
	spec.ID, spec.Organization, spec.Domains = "fabrikam", "Fabrikam", []string{"fabrikam.example"}
	two := catest.New(t, catest.WithSpec(spec))
	var wg sync.WaitGroup
	serials := make(chan trust.Serial, 200)
	for n := range 8 {
		i, mail := one, "alice@contoso.com"
		if n%2 == 1 {
			i, mail = two, "bob@fabrikam.example"
		}
		r := catest.Request(t, i, mail, ecKey(t, elliptic.P256()))
		wg.Go(func() {
			for range 10 {
				got, err := i.Issue(context.Background(), r)
				if err != nil || got.Cert.CheckSignatureFrom(i.Chain()[0]) != nil {
					t.Errorf("issuer %s: %v", i.Spec().ID, err)
					return
				}
				id, err := i.CertID(ca.IssuingCA, crypto.SHA256, got.Cert.SerialNumber)
				if err != nil {
					t.Error(err)
				}
				if _, err := i.SignOCSP(context.Background(), ca.IssuingCA, nil, good(id, time.Now())); err != nil {
					t.Error(err)
				}
				serials <- got.Record.Serial
			}
		})
	}
	wg.Wait()
	close(serials)
	seen := map[trust.Serial]bool{}
	for s := range serials {
		seen[s] = true
	}
	if len(seen) != 80 {
		t.Errorf("%d different serial numbers of 80", len(seen))
	}
	if _, err := one.Issue(t.Context(), catest.Request(t, one, "bob@fabrikam.example", ecKey(t, elliptic.P256()))); part(err) != ca.PartName {
		t.Errorf("one issuer certifies the other's domain: %v", err)
	}
}

package scep

import (
	"crypto/sha256"
	"crypto/x509"
	"log/slog"
	"math/big"
	"net/http"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/smallstep/pkcs7"

	"postern/internal/ca"
	"postern/internal/ca/catest"
	"postern/internal/registry"
	"postern/internal/trust"
)

// rotated is a gate over keys on disk, and a function that prepares the next generation, shows it to prepared, and puts it in force while the gate serves.
// g.issuer is one that stays with the first generation, so that the gate's phones go on as they were, until the test sets it to what the function returns.
func rotated(t *testing.T) (g *gate, rotate func(what ca.What, prepared func(*ca.Issuer)) *ca.Issuer) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "contoso")
	phrase, err := ca.NewPassphrase("x")
	open := func() *ca.Issuer {
		i, err := ca.Open(dir, catest.Spec(), phrase, time.Now, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = i.Close() })
		return i
	}
	if err == nil {
		err = ca.Create(dir, catest.Spec(), phrase, time.Now())
	}
	if err != nil {
		t.Fatal(err)
	}
	serving := open()
	g = newGate(t, func(c *Config) { c.Issuers = []*ca.Issuer{serving} })
	g.issuer = open()
	reload := func() {
		t.Helper()
		changed, err := serving.Reload(func(all []ca.CACertificate) error {
			for _, c := range all {
				g.must(g.reg.PutCA(t.Context(), trust.Principal{Kind: "system", Name: "test"},
					registry.CA{Issuer: "contoso", ID: c.ID, Organization: "Contoso", Domains: catest.Spec().Domains, DER: c.Cert.Raw}))
			}
			return nil
		})
		if g.must(err); !changed {
			t.Fatal("nothing to take up")
		}
	}
	return g, func(what ca.What, prepared func(*ca.Issuer)) *ca.Issuer {
		t.Helper()
		g.must(ca.Rotate(dir, catest.Spec(), phrase, time.Now(), what))
		reload()
		prepared(serving)
		g.must(ca.Activate(dir, time.Now()))
		reload()
		return serving
	}
}

// GetNextCACert (RFC 8894, section 4.7) is there while a rollover is prepared, and only then in the capabilities. The CA in force signs it.
func TestGetNextCACert(t *testing.T) {
	g, rotate := rotated(t)
	get := func(op string) (*http.Response, string) { return g.do("GET", "/scep/contoso?operation="+op, nil) }
	absent := func() {
		t.Helper()
		if r, _ := get("GetNextCACert"); r.StatusCode != http.StatusNotFound {
			t.Errorf("nothing prepared: %d", r.StatusCode)
		}
		if _, caps := get("GetCACaps"); strings.Contains(caps, "GetNextCACert") {
			t.Errorf("capabilities %q", caps)
		}
	}
	absent()
	rotate(ca.RotateIssuing, func(i *ca.Issuer) {
		if _, caps := get("GetCACaps"); !slices.Contains(strings.Split(caps, "\n"), "GetNextCACert") {
			t.Errorf("capabilities %q", caps)
		}
		r, body := get("GetNextCACert")
		if r.StatusCode != http.StatusOK || r.Header.Get("Content-Type") != "application/x-x509-next-ca-cert" {
			t.Fatalf("%d %s", r.StatusCode, r.Header)
		}
		p7, err := pkcs7.Parse([]byte(body))
		g.must(err)
		roots := x509.NewCertPool()
		roots.AddCert(i.Chain()[1])
		if err := p7.VerifyWithChain(roots); err != nil || !p7.GetOnlySigner().Equal(g.issuer.Chain()[0]) {
			t.Errorf("signature: %v", err)
		}
		checkCerts(t, p7.Content, i.NextCA()...)
	})
	absent()
}

// A phone that keeps the old RA's certificate enrols and is answered by that RA; a certificate of the retired CA renews under the new one.
func TestRotation(t *testing.T) {
	g, rotate := rotated(t)
	d := g.device()
	old := g.enrol(d, rsaKeys()[1])
	asking := g.challenge(g.device())
	before := g.issuer
	after := rotate(ca.RotateIssuing, func(*ca.Issuer) {})
	if after.IssuingCA() != "issuing-2" || after.RACertificate().Equal(before.RACertificate()) {
		t.Fatalf("not rotated: %s", after.IssuingCA())
	}
	first := g.send(ask{key: rsaKeys()[2], challenge: asking, id: "first"}) // g.issuer is the old: encrypted to it, and signed by it
	if first.cert == nil || g.record(first.cert).CA != "issuing-2" || first.cert.CheckSignatureFrom(after.Chain()[0]) != nil {
		t.Fatalf("to the old RA: %d %s %s", first.code, first.rep.failInfo, first.rep.failText)
	}
	// Both about certificates of the retired CA, to the new RA.
	g.issuer = after
	name := rawValue(before.Chain()[0].RawSubject)
	if got := g.about(GetCert, ask{signer: old}, []any{name, old.cert.SerialNumber}); got.cert == nil || !got.cert.Equal(old.cert) {
		t.Errorf("GetCert: %s %s", got.rep.failInfo, got.rep.failText)
	}
	if got := g.about(GetCert, ask{signer: old}, []any{rawValue(after.Chain()[0].RawSubject), old.cert.SerialNumber}); got.cert != nil {
		t.Error("GetCert under the name of another CA")
	}
	got := g.send(ask{kind: RenewalReq, signer: old, key: rsaKeys()[3], id: "renew"})
	if got.cert == nil {
		t.Fatalf("renewal: %s %s", got.rep.failInfo, got.rep.failText)
	}
	was, is := g.record(old.cert), g.record(got.cert)
	if was.CA != ca.IssuingCA || was.Status != trust.Superseded || is.CA != "issuing-2" || is.Device != d.ID || is.Evidence.Renews != was.Serial {
		t.Errorf("old %+v\nnew %+v", was, is)
	}
	_, body := g.do("GET", "/scep/contoso?operation=GetCACert", nil)
	p7, err := pkcs7.Parse([]byte(body))
	g.must(err)
	if c := p7.Certificates; len(c) != 3 || !c[0].Equal(after.RACertificate()) || !c[1].Equal(after.Chain()[0]) || !c[2].Equal(after.Chain()[1]) {
		t.Errorf("GetCACert has %d certificates", len(c))
	}
}

// The RA alone: a message that is encrypted to nobody here is refused by the RA in force.
func TestRotationOfRA(t *testing.T) {
	g, rotate := rotated(t)
	asking := g.challenge(g.device())
	before := g.issuer
	after := rotate(ca.RotateRA, func(*ca.Issuer) {})
	if got := g.send(ask{challenge: asking}); got.cert == nil || after.IssuingCA() != ca.IssuingCA || after.RACertificate().Equal(before.RACertificate()) {
		t.Errorf("to the old RA: %d %s %s", got.code, got.rep.failInfo, got.rep.failText)
	}
	g.issuer = after
	stranger := catest.New(t)
	envelope, err := seal(csrWith(g, rsaKeys()[2], ask{}.subject), stranger.RACertificate(), AES128)
	g.must(err)
	p := ask{key: rsaKeys()[2]}.party()
	if got := g.post(newMessage(PKCSReq, p, envelope).encode(g), p); got.rep.status != "2" || got.rep.failInfo != "1" {
		t.Errorf("to nobody: %d %+v", got.code, got.rep)
	}
}

// What Windows maps to its user stays in the renewed certificate, and no CSR or self-signed certificate brings it in.
func TestRenewalKeepsSID(t *testing.T) {
	const sid = "S-1-5-21-1004336348-1177238915-682003330-512"
	g := newGate(t)
	d := g.device()
	secret := g.challenge(d)
	r := catest.Request(t, g.issuer, d.Owner, rsaKeys()[1])
	r.Device, r.SID = d, sid
	issued, err := g.issuer.Issue(t.Context(), r)
	g.must(err)
	issued.Record.Evidence = trust.Evidence{Kind: "challenge"}
	_, err = g.reg.CommitEnrolment(t.Context(), trust.Principal{Kind: "scep", Name: "contoso"}, registry.Enrolment{Certificate: issued.Record, Challenge: secret,
		Transaction: registry.Transaction{Issuer: "contoso", ID: "sid", MessageType: "PKCSReq", Signer: sha256.Sum256([]byte("x"))}})
	g.must(err)
	got := g.send(ask{kind: RenewalReq, signer: party{rsaKeys()[1], issued.Cert}, key: rsaKeys()[2], id: "renew"})
	if got.cert == nil || ca.SIDOf(got.cert.URIs) != sid {
		t.Fatalf("renewal: %s %s", got.rep.failInfo, got.rep.failText)
	}
	uri, err := url.Parse("tag:microsoft.com,2022-09-14:sid:" + sid)
	g.must(err)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), IsCA: true, BasicConstraintsValid: true, URIs: []*url.URL{uri}}
	self := party{rsaKeys()[3], makeCert(template, party{rsaKeys()[3], template}, rsaKeys()[3].Public())}
	first := g.send(ask{signer: self, key: rsaKeys()[3], challenge: g.challenge(g.device()), id: "first"})
	if first.cert == nil || len(first.cert.URIs) != 1 {
		t.Errorf("first enrolment: %s %s", first.rep.failInfo, first.rep.failText)
	}
}

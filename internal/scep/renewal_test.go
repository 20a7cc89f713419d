package scep

import (
	"context"
	"crypto"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"postern/internal/ca"
	"postern/internal/ca/catest"
	"postern/internal/policy"
	"postern/internal/registry"
	"postern/internal/trust"
)

// A renewal is a message signed by a good certificate, whichever of the two types it has, with the same key or a new one.
func TestRenewal(t *testing.T) {
	g := newGate(t)
	for name, c := range map[string]struct {
		kind MessageType
		key  crypto.Signer
	}{
		"RenewalReq, new key":  {RenewalReq, rsaKeys()[2]},
		"RenewalReq, same key": {RenewalReq, rsaKeys()[1]},
		"PKCSReq, new key":     {PKCSReq, rsaKeys()[2]},
		"PKCSReq, same key":    {PKCSReq, rsaKeys()[1]},
	} {
		t.Run(name, func(t *testing.T) {
			g.T = t
			d := g.device()
			old := g.enrol(d, rsaKeys()[1])
			a := ask{kind: c.kind, signer: old, key: c.key, id: name, subject: pkix.Name{CommonName: "whoever"}}
			got := g.send(a)
			if got.cert == nil {
				t.Fatalf("refused: %s %s", got.rep.failInfo, got.rep.failText)
			}
			was, is := g.record(old.cert), g.record(got.cert)
			if was.Status != trust.Superseded || was.Successor != is.Serial || is.Device != d.ID || is.Evidence.Kind != "renewal" || is.Evidence.Renews != was.Serial {
				t.Errorf("old %+v\nnew %+v", was, is)
			}
			if again := g.send(a); again.cert == nil || !again.cert.Equal(got.cert) {
				t.Error("the retry got another answer")
			}
			a.subject.CommonName = "once more"
			if again := g.send(a); again.cert == nil || !again.cert.Equal(got.cert) {
				t.Error("a renewal for the same key got another answer")
			}
			// With another key, somebody has a copy of the old one: nobody can tell who is the device.
			a.key = rsaKeys()[3]
			g.wantRefused(BadCertID, func() answer { return g.send(a) })
			if now, err := g.reg.Device(t.Context(), d.ID); err != nil || now.State != trust.Quarantined || g.record(got.cert).Status != trust.Held {
				t.Errorf("device %+v, %v; certificate %s", now, err, g.record(got.cert).Status)
			}
		})
	}
	g.T = t
}

// Clients use the transactionID of the enrolment for its renewal.
func TestRenewalUnderSameTransactionID(t *testing.T) {
	g := newGate(t)
	first := ask{key: rsaKeys()[1], challenge: g.challenge(g.device())}
	got := g.send(first)
	renewed := g.send(ask{kind: RenewalReq, key: rsaKeys()[1], signer: party{rsaKeys()[1], got.cert}})
	if renewed.cert == nil || renewed.cert.Equal(got.cert) || len(g.certificates()) != 2 {
		t.Errorf("%s %s", renewed.rep.failInfo, renewed.rep.failText)
	}
}

// What a certificate has to be to renew: good, valid, of a device in service that is still its owner's.
func TestRenewalRefused(t *testing.T) {
	for name, c := range map[string]struct {
		want  FailInfo
		spoil func(g *gate, d trust.Device, s trust.Serial) error
	}{
		"revoked": {BadCertID, func(g *gate, _ trust.Device, s trust.Serial) error {
			_, err := g.reg.Revoke(g.Context(), admin, "contoso", s, trust.KeyCompromise, "")
			return err
		}},
		"held": {BadCertID, func(g *gate, _ trust.Device, s trust.Serial) error {
			_, err := g.reg.Hold(g.Context(), admin, "contoso", s, "")
			return err
		}},
		"superseded": {BadCertID, func(g *gate, d trust.Device, _ trust.Serial) error { g.enrol(d, rsaKeys()[3]); return nil }},
		"expired":    {BadCertID, func(g *gate, _ trust.Device, _ trust.Serial) error { g.pass(3 * 365 * 24 * time.Hour); return nil }},
		"retired": {BadCertID, func(g *gate, d trust.Device, _ trust.Serial) error {
			_, err := g.reg.RetireDevice(g.Context(), admin, d.ID, "")
			return err
		}},
		"reassigned": {BadCertID, func(g *gate, d trust.Device, _ trust.Serial) error {
			_, err := g.reg.ReassignDevice(g.Context(), admin, d.ID, trust.Owner{Mail: "bob@contoso.com"})
			return err
		}},
		"blocked": {BadRequest, func(g *gate, d trust.Device, _ trust.Serial) error {
			_, err := g.reg.SetDeviceState(g.Context(), admin, d.ID, trust.Blocked, "")
			return err
		}},
		"suspended": {BadRequest, func(g *gate, d trust.Device, _ trust.Serial) error {
			_, err := g.reg.SuspendDevice(g.Context(), admin, d.ID, trust.SuspendLost, "")
			return err
		}},
		"owner suspended": {BadRequest, func(g *gate, d trust.Device, _ trust.Serial) error {
			_, err := g.reg.SuspendOwner(g.Context(), admin, d.Owner, trust.SuspendUnassigned, "")
			return err
		}},
		"quarantined": {BadRequest, func(g *gate, d trust.Device, _ trust.Serial) error {
			_, err := g.reg.SetDeviceState(g.Context(), admin, d.ID, trust.Quarantined, "")
			return err
		}},
	} {
		t.Run(name, func(t *testing.T) {
			g := newGate(t)
			d := g.device()
			old := g.enrol(d, rsaKeys()[1])
			g.must(c.spoil(g, d, trust.SerialOf(old.cert.SerialNumber)))
			for _, kind := range []MessageType{RenewalReq, PKCSReq} {
				e := g.wantRefused(c.want, func() answer { return g.send(ask{kind: kind, signer: old, key: rsaKeys()[2]}) })
				if e.Action != registry.ActRenew || e.Object != string(d.ID) {
					t.Errorf("audit %+v", e)
				}
			}
		})
	}
}

// Who signs like a renewal and is none: strangers, other CAs, and this issuer's own other certificates.
func TestRenewalByOthers(t *testing.T) {
	g := newGate(t)
	d := g.device()
	real := g.enrol(d, rsaKeys()[1])
	foreign := catest.New(t)
	issue := func(i *ca.Issuer) party {
		c, err := i.Issue(t.Context(), ca.Request{CSR: catest.CSR(t, rsaKeys()[2]), Device: d, Owner: trust.Owner{Mail: d.Owner}})
		g.must(err)
		return party{rsaKeys()[2], c.Cert}
	}
	// A CA that says it is ours, and a certificate from it that says it is the device's.
	fakeCA := party{rsaKeys()[3], makeCert(&x509.Certificate{SerialNumber: big.NewInt(1), IsCA: true, BasicConstraintsValid: true, RawSubject: g.issuer.Chain()[0].RawSubject,
		SubjectKeyId: g.issuer.Chain()[0].SubjectKeyId}, party{rsaKeys()[3], &x509.Certificate{RawSubject: g.issuer.Chain()[0].RawSubject}}, rsaKeys()[3].Public())}
	twin := party{rsaKeys()[2], makeCert(&x509.Certificate{SerialNumber: real.cert.SerialNumber, RawSubject: real.cert.RawSubject}, fakeCA, rsaKeys()[2].Public())}
	if string(twin.cert.RawIssuer) != string(real.cert.RawIssuer) {
		t.Fatal("the forgery has another issuer")
	}
	ra := party{g.issuer.RAKey(), g.issuer.RACertificate()}
	for name, c := range map[string]struct {
		want   FailInfo
		signer party
	}{
		"self-signed":     {BadRequest, selfSignedOnce(rsaKeys()[2])},
		"foreign CA":      {BadRequest, issue(foreign)},
		"forged":          {BadRequest, twin},
		"forged CA":       {BadRequest, fakeCA},
		"never committed": {BadCertID, issue(g.issuer)},
		"the RA":          {BadCertID, ra},
		"another RA":      {BadRequest, party{foreign.RAKey(), foreign.RACertificate()}},
	} {
		t.Run(name, func(t *testing.T) {
			g.T = t
			for _, secret := range []string{"", g.challenge(d)} {
				g.wantRefused(c.want, func() answer {
					return g.send(ask{kind: RenewalReq, signer: c.signer, key: rsaKeys()[0], challenge: secret})
				})
			}
			g.wantRefused(c.want, func() answer { return g.send(ask{kind: PKCSReq, signer: c.signer, key: rsaKeys()[0]}) })
		})
	}
	g.T = t
	// Their certificates beside the real signature help nobody either.
	g.wantRefused(BadRequest, func() answer {
		return g.send(ask{kind: RenewalReq, key: rsaKeys()[2], change: func(m *message) { m.extra = []*x509.Certificate{real.cert, g.issuer.Chain()[0]} }})
	})
}

// With somebody else's certificate but one's own key, the signature is not valid.
func TestRenewalWithStolenCertificate(t *testing.T) {
	g := newGate(t)
	real := g.enrol(g.device(), rsaKeys()[1])
	got := g.send(ask{kind: RenewalReq, signer: party{rsaKeys()[2], real.cert}, key: rsaKeys()[2]})
	if got.rep.failInfo != "1" || len(g.certificates()) != 1 {
		t.Errorf("%+v", got.rep)
	}
}

// The renewal is about the signer's device: a certificate of another issuer of the same house is a stranger's.
func TestRenewalAtAnotherIssuer(t *testing.T) {
	g, _ := twoIssuers(t)
	real := g.enrol(g.device(), rsaKeys()[1])
	other := g.door.issuers["fabrikam"]
	if other.issued(real.cert) {
		t.Error("fabrikam takes contoso's certificate for its own")
	}
	if !g.door.issuers["contoso"].issued(real.cert) {
		t.Error("contoso does not know its own certificate")
	}
}

// A policy that cannot decide refuses nobody and lets nobody in: 503, and the client tries again.
func TestPolicyFault(t *testing.T) {
	g := newGate(t)
	dir := t.TempDir()
	g.must(os.WriteFile(filepath.Join(dir, "team.rego"), []byte("package postern.enroll.team.lab\n\n# A reason has to be a text.\ndeny contains input.now if input.device.serial_number == \"F2LX1\"\n"), 0o600))
	broken, err := policy.Load(t.Context(), policy.Options{Path: dir})
	g.must(err)
	before := g.policy.Swap(broken)
	a := ask{challenge: g.challenge(g.device())}
	r, body := g.do("POST", strings.TrimPrefix(g.url(), g.server.URL), strings.NewReader(string(g.encode(a))))
	if r.StatusCode != http.StatusServiceUnavailable || r.Header.Get("Retry-After") == "" || len(g.certificates()) != 0 || strings.Contains(body, "policy") {
		t.Errorf("%d %s, %d certificates", r.StatusCode, body, len(g.certificates()))
	}
	g.policy.Swap(before)
	if got := g.send(a); got.cert == nil {
		t.Errorf("the challenge was lost to a fault: %s", got.rep.failText)
	}
}

// A refusal by the team's policy is told with a reference under which the decision is found; nothing is issued and the challenge is not used up.
func TestPolicyDenies(t *testing.T) {
	g := newGate(t)
	dir := t.TempDir()
	g.must(os.WriteFile(filepath.Join(dir, "team.rego"), []byte("package postern.enroll.team.lab\n\ndeny contains \"no_phones\" if input.device.serial_number == \"F2LX1\"\n"), 0o600))
	team, err := policy.Load(context.Background(), policy.Options{Path: dir})
	g.must(err)
	before := g.policy.Swap(team)
	d := g.device()
	a := ask{challenge: g.challenge(d)}
	var text string
	e := g.wantRefused(BadRequest, func() answer { got := g.send(a); text = got.rep.failText; return got })
	_, ref, ok := strings.Cut(text, "reference ")
	rec, err := g.journal.Decision(t.Context(), strings.TrimSuffix(ref, ")"))
	if !ok || err != nil || rec.Door != "scep" || rec.Device != d.ID || len(rec.Reasons) != 1 || rec.Reasons[0].Code != "no_phones" || !strings.Contains(e.Detail, "no_phones") {
		t.Errorf("%q: %+v, %v; audit %+v", text, rec, err, e)
	}
	g.policy.Swap(before)
	if got := g.send(a); got.cert == nil {
		t.Errorf("the challenge was lost to a refusal: %s", got.rep.failText)
	}
}

// An address that the issuer may not certify is refused at the last moment, too.
func TestOwnerOutsideDomains(t *testing.T) {
	g := newGate(t)
	d := g.device()
	g.must(g.reg.PutOwner(t.Context(), admin, trust.Owner{Mail: d.Owner, UPN: "alice@evil.test"}))
	g.wantRefused(BadRequest, func() answer { return g.send(ask{challenge: g.challenge(d)}) })
}

// Weak algorithms only where the issuer says so.
func TestLegacy(t *testing.T) {
	for _, legacy := range []bool{false, true} {
		g := newGate(t, func(c *Config) { c.Legacy = map[string]bool{"contoso": legacy} })
		for _, cipher := range []Cipher{DES, TripleDES} {
			got := g.send(ask{challenge: g.challenge(g.device()), cipher: cipher, id: cipher.String()})
			if legacy != (got.cert != nil) || !legacy && got.rep.failInfo != "0" {
				t.Errorf("%s, legacy %v: status %s, failInfo %s", cipher, legacy, got.rep.status, got.rep.failInfo)
			}
		}
	}
}

// A message of which any byte was changed issues nothing new and never breaks the door.
func TestDamagedMessages(t *testing.T) {
	g := newGate(t)
	message := g.encode(ask{challenge: g.challenge(g.device())})
	for i := 0; i < len(message); i += 7 {
		bad := []byte(string(message))
		bad[i] ^= 0x15
		r, body := g.do("POST", strings.TrimPrefix(g.url(), g.server.URL), strings.NewReader(string(bad)))
		if r.StatusCode != 200 && r.StatusCode != 400 {
			t.Errorf("byte %d: %d %s", i, r.StatusCode, body)
		}
	}
	if n := len(g.certificates()); n > 1 { // a byte that means nothing may be changed
		t.Errorf("%d certificates", n)
	}
}

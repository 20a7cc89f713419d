package scep

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509/pkix"
	"fmt"
	"strings"
	"testing"
	"time"

	"postern/internal/ca"
	"postern/internal/registry"
	"postern/internal/trust"
)

// unbound makes a challenge for no device, as an NDES page does.
func (g *gate) unbound() string {
	g.Helper()
	secret, _, err := g.reg.CreateUnbound(g.Context(), trust.Principal{Kind: "mdm", Name: "ndes"}, registry.Unbound{Issuer: "contoso", TTL: time.Hour, Open: 100})
	g.must(err)
	return secret
}

// naming is a CSR with these values of serialNumber and emailAddress in its subject.
func naming(hardware string, mails ...string) pkix.Name {
	n := pkix.Name{CommonName: "phone", SerialNumber: hardware}
	for _, m := range mails {
		n.ExtraNames = append(n.ExtraNames, pkix.AttributeTypeAndValue{Type: oidEmailAddress, Value: m})
	}
	return n
}

// A challenge that was made for no device is for the one that the CSR names with an address of its owner, once.
func TestUnboundEnrols(t *testing.T) {
	g := newGate(t)
	d := g.device()
	secret := g.unbound()
	a := ask{key: rsaKeys()[1], challenge: secret, subject: naming(d.SerialNumber, "Alice@contoso.com")}
	got := g.send(a)
	if got.cert == nil {
		t.Fatalf("%d %s %s", got.code, got.rep.failInfo, got.rep.failText)
	}
	if c := g.record(got.cert); c.Device != d.ID || c.Owner != "alice@contoso.com" || c.Evidence.Kind != registry.EvidenceNDES || c.Evidence.Challenge == "" || c.Evidence.KeyAttested {
		t.Errorf("%+v", c)
	}
	if again := g.send(a); again.cert == nil || !again.cert.Equal(got.cert) {
		t.Errorf("a repetition: %s %s", again.rep.failInfo, again.rep.failText)
	}
	g.wantRefused(BadRequest, func() answer {
		return g.send(ask{key: rsaKeys()[2], challenge: secret, id: "second", subject: naming(d.SerialNumber, "alice@contoso.com")})
	})
}

// What could be somebody else is refused, and the challenge is void then: it is no tool to try names.
func TestUnboundNamesOneDeviceAndItsOwner(t *testing.T) {
	g, _ := twoIssuers(t)
	d, other := g.device(), g.deviceOf("contoso", "bob@contoso.com")
	foreign := g.deviceOf("fabrikam", "alice@fabrikam.com")
	for name, subject := range map[string]pkix.Name{
		"nobody": {}, "no device": naming("", "alice@contoso.com"), "an unknown device": naming("unknown", "alice@contoso.com"), "no address": naming(d.SerialNumber),
		"another's address": naming(d.SerialNumber, "bob@contoso.com"), "an unknown address": naming(d.SerialNumber, "x@contoso.com"),
		"two devices":               {SerialNumber: d.SerialNumber, OrganizationalUnit: []string{other.SerialNumber}, CommonName: "alice@contoso.com"},
		"a device of another owner": naming(other.SerialNumber, "alice@contoso.com"), "a device of another issuer": naming(string(foreign.ID), "alice@fabrikam.com"),
	} {
		secret := g.unbound()
		certs := len(g.certificates())
		got := g.send(ask{key: rsaKeys()[1], challenge: secret, id: name, subject: subject})
		if got.cert != nil || got.rep.failInfo != "2" || !strings.Contains(got.rep.failText, "one device and the address of its owner") || len(g.certificates()) != certs {
			t.Errorf("%s: %d %s %s", name, got.code, got.rep.failInfo, got.rep.failText)
		}
		if _, _, _, err := g.reg.Challenge(t.Context(), "contoso", secret); err == nil {
			t.Errorf("%s: the challenge may be tried again", name)
		}
	}
	// An address of the owner beside one of somebody else is the policy's to refuse.
	g.wantRefused(BadRequest, func() answer {
		return g.send(ask{challenge: g.unbound(), id: "beside", subject: naming(d.SerialNumber, "alice@contoso.com", "bob@contoso.com")})
	})
}

// A device that has a certificate gets none by such a challenge alone: an administrator approves it.
func TestUnboundPendsForAnActiveDevice(t *testing.T) {
	g := newGate(t)
	d := g.device()
	g.enrol(d, rsaKeys()[1])
	a := ask{key: rsaKeys()[2], challenge: g.unbound(), id: "again", subject: naming(d.SerialNumber, "alice@contoso.com")}
	if got := g.send(a); got.rep.status != "3" {
		t.Fatalf("%d %q %s", got.code, got.rep.status, got.rep.failText)
	}
	all, err := g.reg.PendingRequests(t.Context(), registry.PendingFilter{})
	g.must(err)
	if len(all) != 1 || all[0].Evidence.Kind != registry.EvidenceNDES || all[0].Reasons[0].Code != "ndes_approval_required" {
		t.Fatalf("%+v", all)
	}
	_, err = g.reg.Approve(t.Context(), admin, all[0].ID, "")
	g.must(err)
	if got := g.send(a); got.cert == nil || g.record(got.cert).Device != d.ID {
		t.Errorf("approved: %d %q %s", got.code, got.rep.status, got.rep.failText)
	}
}

// Intune compares the CSR's names with its profile, so its SID is certified; a webhook says who it is, and its CSR's SID is anybody's claim.
func TestSIDOfFirstEnrolment(t *testing.T) {
	const sid = "S-1-5-21-1004336348-1177238915-682003330-512"
	g, first, second := validating(t)
	attr := namesAttr(t, oidExtensionRequest, generalName(6, "tag:microsoft.com,2022-09-14:sid:"+sid))
	for i, c := range []struct {
		challenge, want string
	}{{first.challenge("SID1", "alice@contoso.com"), sid}, {second.challenge("SID2", "alice@contoso.com"), ""}, {g.challenge(g.device()), ""}} {
		got := g.send(ask{key: rsaKeys()[1], challenge: c.challenge, id: fmt.Sprint("sid ", i), attrs: []csrAttribute{attr}})
		if got.cert == nil || ca.SIDOf(got.cert.URIs) != c.want {
			t.Errorf("%d: %d %s %s", i, got.code, got.rep.failInfo, got.rep.failText)
		}
	}
}

// What the message layer refuses is audited too: old algorithms and small keys are how attacks begin, and old devices fail.
func TestUnreadIsAudited(t *testing.T) {
	g := newGate(t)
	small, err := rsa.GenerateKey(rand.Reader, 1024)
	g.must(err)
	for name, a := range map[string]ask{"DES": {cipher: DES}, "3DES": {cipher: TripleDES}, "RSA 1024": {key: small}} {
		e := g.wantRefused(BadAlg, func() answer { return g.send(a) })
		if e.Action != registry.ActEnrol || e.Object != "unknown device" || e.Detail == "" {
			t.Errorf("%s: %+v", name, e)
		}
	}
	// Strangers share a rate.
	audited := len(g.refusals())
	for range auditBurst + 50 {
		if _, ok := g.door.audits.take("strangers", g.now()); !ok {
			break
		}
	}
	if got := g.send(ask{cipher: DES}); got.rep.status != "2" || len(g.refusals()) > audited+1 {
		t.Errorf("%d refusals over the rate", len(g.refusals())-audited)
	}
}

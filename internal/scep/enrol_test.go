package scep

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"postern/internal/policy"
	"postern/internal/registry"
	"postern/internal/trust"
)

// A first enrolment: the key is the CSR's, the names are the registry's.
func TestEnrol(t *testing.T) {
	g := newGate(t)
	d := g.device()
	a := ask{challenge: g.challenge(d)}
	a.subject.CommonName = "Somebody"
	got := g.send(a)
	if got.cert == nil {
		t.Fatalf("refused: %d %s %s", got.code, got.rep.failInfo, got.rep.failText)
	}
	if got.rep.kind != "3" || got.rep.id != "tx1" || string(got.rep.recipientNonce) != strings.Repeat("\x07", 16) || len(got.rep.senderNonce) != 16 {
		t.Errorf("reply %+v", got.rep)
	}
	if err := got.cert.CheckSignatureFrom(g.issuer.Chain()[0]); err != nil {
		t.Error(err)
	}
	if s := got.cert.Subject; s.CommonName != "alice@contoso.com" || !slices.Equal(s.OrganizationalUnit, []string{string(d.ID)}) ||
		!slices.Equal(got.cert.EmailAddresses, []string{"alice@contoso.com"}) {
		t.Errorf("subject %s, mails %v", s, got.cert.EmailAddresses)
	}
	rec := g.record(got.cert)
	if rec.Device != d.ID || rec.Status != trust.Good || rec.Evidence.Kind != "challenge" || rec.Evidence.Challenge == "" || rec.Evidence.Remote != "127.0.0.1" || rec.Profile != "device" {
		t.Errorf("record %+v", rec)
	}
	if now, _ := g.reg.Device(t.Context(), d.ID); now.State != trust.Active {
		t.Errorf("device is %s", now.State)
	}
}

// A repeated request gets the certificate that it got before; anything else under its transactionID is a transaction of its own.
func TestRetry(t *testing.T) {
	g := newGate(t)
	a := ask{challenge: g.challenge(g.device())}
	first := g.send(a)
	if again := g.send(a); first.cert == nil || again.cert == nil || !again.cert.Equal(first.cert) || len(g.certificates()) != 1 {
		t.Fatalf("the retry got another answer; %d certificates", len(g.certificates()))
	}
	g.pass(registry.RetryWindow + time.Minute)
	g.wantRefused(BadRequest, func() answer { return g.send(a) })

	other := ask{challenge: g.challenge(g.device())}
	other.subject.CommonName = "another CSR"
	if got := g.send(other); got.cert == nil || got.cert.Equal(first.cert) {
		t.Errorf("another CSR under the same transactionID: %s %s", got.rep.failInfo, got.rep.failText)
	}
	other.subject.CommonName = "a third"
	g.wantRefused(BadRequest, func() answer { return g.send(other) })
}

// Sixteen identical requests at once: one certificate, and all of them get it.
func TestConcurrentRetries(t *testing.T) {
	g := newGate(t)
	d := g.device()
	for round, make := range []func() ask{
		func() ask { return ask{challenge: g.challenge(d), id: "first"} },
		func() ask {
			return ask{kind: RenewalReq, signer: g.enrol(d, rsaKeys()[1]), key: rsaKeys()[2], id: "renewal"}
		},
	} {
		a := make()
		message := g.encode(a)
		before, refusals := len(g.certificates()), len(g.refusals())
		var wg sync.WaitGroup
		answers := [16]answer{}
		for i := range answers {
			wg.Go(func() { answers[i] = g.post(message, a.party()) })
		}
		wg.Wait()
		for _, got := range answers {
			if got.cert == nil || !got.cert.Equal(answers[0].cert) {
				t.Errorf("round %d: %d %s %s", round, got.code, got.rep.failInfo, got.rep.failText)
			}
		}
		if n := len(g.certificates()); n != before+1 || len(g.refusals()) != refusals {
			t.Errorf("round %d: %d certificates, %d refusals", round, n-before, len(g.refusals())-refusals)
		}
	}
}

// Sixteen phones with one challenge: one certificate.
func TestConcurrentChallenge(t *testing.T) {
	g := newGate(t)
	secret := g.challenge(g.device())
	var wg sync.WaitGroup
	var mu sync.Mutex
	issued, failed := 0, 0
	for i := range 16 {
		a := ask{key: rsaKeys()[i%4], challenge: secret, id: fmt.Sprint("phone ", i)}
		message := g.encode(a)
		wg.Go(func() {
			got := g.post(message, a.party())
			mu.Lock()
			defer mu.Unlock()
			switch {
			case got.cert != nil:
				issued++
			case got.rep.status == "2":
				failed++
			}
		})
	}
	wg.Wait()
	if issued != 1 || failed != 15 || len(g.certificates()) != 1 || len(g.refusals()) != 15 {
		t.Errorf("%d issued, %d failed, %d stored, %d audited", issued, failed, len(g.certificates()), len(g.refusals()))
	}
}

// withPlaces is a policy that lets an owner have so many devices, behind a door whose index begins to follow the registry a moment later: until
// then every enrolment finds the same number of devices.
func withPlaces(t *testing.T, settings string) *gate {
	t.Helper()
	g := newGate(t, func(c *Config) {
		x, err := registry.NewIndex(t.Context(), c.Registry.Store(), c.Now, c.Log)
		if err != nil {
			t.Fatal(err)
		}
		var wg sync.WaitGroup
		ctx, cancel := context.WithCancel(context.Background())
		wg.Go(func() {
			select {
			case <-time.After(time.Second / 2):
			case <-ctx.Done():
			}
			_ = x.Run(ctx)
		})
		t.Cleanup(func() { cancel(); wg.Wait() })
		c.Index = x
	})
	e, err := policy.Load(t.Context(), policy.Options{Files: policy.Files{"x.yaml": []byte("postern: {config: {enroll: {" + settings + "}}}\n")}})
	g.must(err)
	g.policy.Swap(e)
	return g
}

// Eight phones of one owner who may have two enrol at once, several times: two certificates.
func TestConcurrentPlaces(t *testing.T) {
	for round := range 3 {
		g := withPlaces(t, "max_devices: 2, excess_devices: deny")
		answers := [8]answer{}
		var wg sync.WaitGroup
		for i := range answers {
			a := ask{key: rsaKeys()[i%4], challenge: g.challenge(g.device()), id: fmt.Sprint("phone ", i)}
			message := g.encode(a)
			wg.Go(func() { answers[i] = g.post(message, a.party()) })
		}
		wg.Wait()
		issued, refused := 0, 0
		for _, got := range answers {
			switch {
			case got.cert != nil:
				issued++
			case got.rep.status == "2" && strings.Contains(got.rep.failText, "too_many_devices"):
				refused++
			default:
				t.Errorf("%d %s, status %q %s", got.code, got.body[:min(len(got.body), 60)], got.rep.status, got.rep.failText)
			}
		}
		if n := len(g.certificates()); issued != 2 || refused != 6 || n != 2 {
			t.Errorf("round %d: %d issued, %d refused, %d stored", round, issued, refused, n)
		}
	}
}

// Approved requests take the last place one after the other as well.
func TestConcurrentPlacesOfApproved(t *testing.T) {
	g := withPlaces(t, "max_devices: 1, excess_devices: deny, approval: true")
	asks := [4]ask{}
	for i := range asks {
		asks[i] = ask{key: rsaKeys()[i], challenge: g.challenge(g.device()), id: fmt.Sprint("phone ", i)}
		g.wantPending(g.send(asks[i]))
	}
	all, err := g.reg.PendingRequests(t.Context(), registry.PendingFilter{State: registry.PendingWaiting})
	g.must(err)
	for _, p := range all {
		_, err := g.reg.Approve(t.Context(), admin, p.ID, "")
		g.must(err)
	}
	var wg sync.WaitGroup
	for _, a := range asks {
		wg.Go(func() { g.poll(a) })
	}
	wg.Wait()
	for _, a := range asks {
		g.poll(a)
	}
	if n := len(g.certificates()); n != 1 {
		t.Errorf("%d certificates", n)
	}
}

// The challenge is the authority of a first enrolment: without a good one there is none.
func TestChallengeRefused(t *testing.T) {
	for name, spoil := range map[string]func(g *gate, d trust.Device, a *ask){
		"none":       func(_ *gate, _ trust.Device, a *ask) { a.challenge = "" },
		"wrong":      func(_ *gate, _ trust.Device, a *ask) { a.challenge = "AAAABBBBCCCCDDDDEEEEFFFFGGGGHHHH" },
		"lower case": func(_ *gate, _ trust.Device, a *ask) { a.challenge = strings.ToLower(a.challenge) },
		"hash of it": func(g *gate, d trust.Device, a *ask) {
			_, c, err := g.reg.CreateChallenge(g.Context(), admin, d.ID, 0)
			g.must(err)
			a.challenge = c.ID
		},
		"used": func(g *gate, _ trust.Device, a *ask) {
			if got := g.send(ask{challenge: a.challenge, key: rsaKeys()[1]}); got.cert == nil {
				g.Fatal("not enrolled")
			}
		},
		"expired": func(g *gate, _ trust.Device, _ *ask) { g.pass(registry.DefaultChallengeTTL) },
		"reassigned": func(g *gate, d trust.Device, _ *ask) {
			_, err := g.reg.ReassignDevice(g.Context(), admin, d.ID, trust.Owner{Mail: "bob@contoso.com"})
			g.must(err)
		},
		"retired": func(g *gate, d trust.Device, _ *ask) {
			_, err := g.reg.RetireDevice(g.Context(), admin, d.ID, "")
			g.must(err)
		},
		"blocked": func(g *gate, d trust.Device, _ *ask) {
			_, err := g.reg.SetDeviceState(g.Context(), admin, d.ID, trust.Blocked, "")
			g.must(err)
		},
		"suspended": func(g *gate, d trust.Device, _ *ask) {
			_, err := g.reg.SuspendDevice(g.Context(), admin, d.ID, trust.SuspendLost, "")
			g.must(err)
		},
		"owner suspended": func(g *gate, d trust.Device, _ *ask) {
			_, err := g.reg.SuspendOwner(g.Context(), admin, d.Owner, trust.SuspendUnassigned, "")
			g.must(err)
		},
		"quarantined": func(g *gate, d trust.Device, _ *ask) {
			_, err := g.reg.SetDeviceState(g.Context(), admin, d.ID, trust.Quarantined, "")
			g.must(err)
		},
		"another key": func(_ *gate, _ trust.Device, a *ask) { a.signer = selfSignedOnce(rsaKeys()[3]) },
		"as renewal":  func(_ *gate, _ trust.Device, a *ask) { a.kind = RenewalReq },
	} {
		t.Run(name, func(t *testing.T) {
			g := newGate(t)
			d := g.device()
			a := ask{challenge: g.challenge(d)}
			secret := a.challenge
			spoil(g, d, &a)
			e := g.wantRefused(BadRequest, func() answer { return g.send(a) })
			if strings.Contains(e.Detail, secret) || e.Action != registry.ActEnrol {
				t.Errorf("audit %+v", e)
			}
		})
	}
}

// VU#971035: a challenge is good for the device and user it was made for; a CSR that says otherwise is refused.
func TestImpersonation(t *testing.T) {
	g := newGate(t)
	d, victim := g.device(), g.deviceOf("contoso", "bob@contoso.com")
	for name, names := range impersonations(t, victim) {
		for _, who := range []string{"challenge", "renewal"} {
			t.Run(name+" by "+who, func(t *testing.T) {
				g.T = t
				a := names
				if a.id = name; who == "challenge" {
					a.challenge = g.challenge(d)
				} else {
					a.kind, a.signer, a.key = RenewalReq, g.enrol(d, rsaKeys()[1]), rsaKeys()[2]
				}
				e := g.wantRefused(BadRequest, func() answer { return g.send(a) })
				if e.Object != string(d.ID) {
					t.Errorf("audit %+v", e)
				}
			})
		}
	}
	g.T = t
	if all, err := g.reg.Certificates(t.Context(), registry.CertificateFilter{Device: victim.ID}); err != nil || len(all) != 0 {
		t.Errorf("the victim has %d certificates, %v", len(all), err)
	}
}

// The device's and owner's own names are no contradiction.
func TestOwnNames(t *testing.T) {
	g := newGate(t)
	d := g.device()
	for name, a := range impersonations(t, trust.Device{ID: d.ID, SerialNumber: d.SerialNumber, UDID: d.UDID, Owner: d.Owner}) {
		a.challenge, a.id = g.challenge(d), name
		if got := g.send(a); got.cert == nil {
			t.Errorf("%s: %s %s", name, got.rep.failInfo, got.rep.failText)
		}
	}
}

// A challenge of another issuer is unknown here, and is not used up.
func TestChallengeOfAnotherIssuer(t *testing.T) {
	g, secret := twoIssuers(t)
	g.wantRefused(BadRequest, func() answer { return g.send(ask{challenge: secret}) })
	if _, _, _, err := g.reg.Challenge(t.Context(), "fabrikam", secret); err != nil {
		t.Errorf("the challenge is used up: %v", err)
	}
}

// Message types that nobody asked for never issue (CVE-2026-30836): whatever they carry, and also with a good challenge.
func TestOtherMessageTypes(t *testing.T) {
	g := newGate(t)
	d := g.device()
	for _, kind := range []MessageType{0, 1, 3, 18, 20, 21, 22, 99, 65535} {
		for _, signer := range []party{{}, g.enrol(d, rsaKeys()[1])} {
			before := len(g.certificates())
			got := g.send(ask{kind: kind, challenge: g.challenge(d), signer: signer, change: func(m *message) { m.kind = fmt.Sprint(int(kind)) }})
			if got.cert != nil || got.code == http.StatusOK && got.rep.status != "2" || len(g.certificates()) != before {
				t.Errorf("message type %d: %d, status %s", kind, got.code, got.rep.status)
			}
		}
	}
}

package scep

import (
	"context"
	"crypto/x509/pkix"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"postern/internal/policy"
	"postern/internal/registry"
	"postern/internal/trust"
)

// approval is the policy with which every first enrolment waits, built once.
var approval = sync.OnceValues(func() (*policy.Engine, error) {
	dir, err := os.MkdirTemp("", "postern-policy")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	if err := os.WriteFile(filepath.Join(dir, "approval.yaml"), []byte("postern: {config: {enroll: {approval: true}}}\n"), 0o600); err != nil {
		return nil, err
	}
	return policy.Load(context.Background(), policy.Options{Path: dir})
})

// newPendingGate is a door where first enrolments wait.
func newPendingGate(t *testing.T, change ...func(*Config)) *gate {
	t.Helper()
	g := newGate(t, change...)
	e, err := approval()
	g.must(err)
	g.policy.Swap(e)
	return g
}

// teamPolicy is the built-in policy and a team's.
func (g *gate) teamPolicy(rego string) {
	g.Helper()
	dir := g.TempDir()
	g.must(os.WriteFile(filepath.Join(dir, "team.rego"), []byte("package postern.enroll.team.test\n\n"+rego+"\n"), 0o600))
	e, err := policy.Load(g.Context(), policy.Options{Path: dir})
	g.must(err)
	g.policy.Swap(e)
}

// subjectOf is the DER name of the ask's CSR.
func subjectOf(t testing.TB, n pkix.Name) []byte {
	t.Helper()
	return mustMarshal(t, n.ToRDNSequence())
}

// poll asks what has become of the request. A fresh self-signed certificate for the same key, as some clients make it, is as good as the first.
func (g *gate) poll(a ask, change ...func(*message)) answer {
	g.Helper()
	return g.about(CertPoll, a, []any{rawValue(g.issuer.Chain()[0].RawSubject), rawValue(subjectOf(g, a.subject))}, change...)
}

// about sends a message with this content, under the id of the ask.
func (g *gate) about(kind MessageType, a ask, content []any, change ...func(*message)) answer {
	g.Helper()
	envelope, err := seal(mustMarshal(g, content), g.issuer.RACertificate(), AES128)
	g.must(err)
	m := newMessage(kind, a.party(), envelope)
	if m.id = printable("tx1"); a.id != "" {
		m.id = printable(a.id)
	}
	for _, c := range change {
		c(&m)
	}
	return g.post(m.encode(g), m.signer)
}

func (g *gate) wantPending(a answer) {
	g.Helper()
	if a.cert != nil || a.rep.status != "3" || len(a.rep.p7.Content) != 0 {
		g.Fatalf("got %d %s, status %q, %s %s; want PENDING", a.code, a.body[:min(len(a.body), 60)], a.rep.status, a.rep.failInfo, a.rep.failText)
	}
}

// waiting is the one request of the state.
func (g *gate) waiting(s registry.PendingState) registry.Pending {
	g.Helper()
	all, err := g.reg.PendingRequests(g.Context(), registry.PendingFilter{State: s})
	g.must(err)
	if len(all) != 1 {
		g.Fatalf("%d requests are %s", len(all), s)
	}
	return all[0]
}

func (g *gate) approve() {
	g.Helper()
	_, err := g.reg.Approve(g.Context(), admin, g.waiting(registry.PendingWaiting).ID, "seen the phone")
	g.must(err)
}

// PENDING until an administrator approves; then the poll, and the request itself once more, are answered with the certificate.
func TestPending(t *testing.T) {
	g := newPendingGate(t)
	d := g.device()
	a := ask{challenge: g.challenge(d), subject: pkix.Name{CommonName: "phone"}}
	g.wantPending(g.send(a))
	g.wantPending(g.send(a)) // once more: the same request
	g.wantPending(g.poll(a))
	p := g.waiting(registry.PendingWaiting)
	if p.Device != d.ID || len(p.Reasons) != 1 || p.Reasons[0].Code != "approval_required" {
		t.Errorf("%+v", p)
	}
	if dec, err := g.journal.Decision(t.Context(), p.ID); err != nil || dec.Action != trust.Pend {
		t.Errorf("decision %+v, %v", dec, err)
	}
	g.pass(2 * registry.DefaultChallengeTTL) // the challenge was reserved in time
	g.approve()
	if n := len(g.certificates()); n != 0 {
		t.Errorf("%d certificates before the poll", n)
	}
	got := g.poll(a)
	if got.cert == nil {
		t.Fatalf("%s %s", got.rep.failInfo, got.rep.failText)
	}
	rec := g.record(got.cert)
	if rec.Device != d.ID || rec.Evidence.Kind != "challenge" || rec.Evidence.Pending != p.ID || rec.Profile != "device" {
		t.Errorf("%+v", rec)
	}
	for name, again := range map[string]answer{"poll": g.poll(a), "PKCSReq": g.send(a)} {
		if again.cert == nil || !again.cert.Equal(got.cert) {
			t.Errorf("%s again: %s %s", name, again.rep.failInfo, again.rep.failText)
		}
	}
	if n := len(g.certificates()); n != 1 {
		t.Errorf("%d certificates", n)
	}
	g.pass(registry.RetryWindow + time.Minute)
	if late := g.poll(a); late.rep.failInfo != "4" {
		t.Errorf("a poll long after: %+v", late.rep)
	}
	g.wantRefused(BadRequest, func() answer { return g.send(a) })
}

// Sixteen polls at once: one certificate.
func TestConcurrentPolls(t *testing.T) {
	g := newPendingGate(t)
	a := ask{challenge: g.challenge(g.device())}
	g.wantPending(g.send(a))
	g.approve()
	var wg sync.WaitGroup
	answers := [16]answer{}
	for i := range answers {
		wg.Go(func() { answers[i] = g.poll(a) })
	}
	wg.Wait()
	for _, got := range answers {
		if got.cert == nil || !got.cert.Equal(answers[0].cert) {
			t.Errorf("%d %s %s", got.code, got.rep.failInfo, got.rep.failText)
		}
	}
	if n := len(g.certificates()); n != 1 {
		t.Errorf("%d certificates", n)
	}
}

// Who polls for what is not his: another key, transactionID, subject or issuer.
func TestPollOfOthers(t *testing.T) {
	g := newPendingGate(t)
	a := ask{challenge: g.challenge(g.device()), subject: pkix.Name{CommonName: "phone"}}
	g.wantPending(g.send(a))
	g.approve()
	ca := g.issuer.Chain()[0]
	for name, got := range map[string]answer{
		"another key":     g.poll(ask{key: rsaKeys()[1], subject: a.subject}),
		"another id":      g.poll(ask{id: "tx2", subject: a.subject}),
		"another subject": g.poll(ask{subject: pkix.Name{CommonName: "phone2"}}),
		"no subject":      g.poll(ask{}),
	} {
		if got.cert != nil || got.rep.status != "2" || got.rep.failInfo != "4" {
			t.Errorf("%s: %+v", name, got.rep)
		}
	}
	other := mustMarshal(t, pkix.Name{CommonName: "Other CA"}.ToRDNSequence())
	if got := g.about(CertPoll, a, []any{rawValue(other), rawValue(subjectOf(t, a.subject))}); got.cert != nil || got.rep.status != "2" {
		t.Errorf("another issuer: %+v", got.rep)
	}
	if n := len(g.certificates()); n != 0 {
		t.Fatalf("%d certificates", n)
	}
	fresh := selfSigned("phone", rsaKeys()[0])
	got := g.about(CertPoll, a, []any{rawValue(ca.RawSubject), rawValue(subjectOf(t, a.subject))}, func(m *message) { m.signer = fresh })
	if got.cert == nil {
		t.Errorf("another certificate of the same key: %s %s", got.rep.failInfo, got.rep.failText)
	}
}

// What is settled between the request and the poll counts: nothing that was found then is taken for granted.
func TestPendingChecksAgain(t *testing.T) {
	for name, c := range map[string]struct {
		spoil func(g *gate, d trust.Device, p registry.Pending) error
		want  FailInfo
	}{
		"rejected": {func(g *gate, _ trust.Device, p registry.Pending) error {
			_, err := g.reg.Reject(g.Context(), admin, p.ID, "not his")
			return err
		}, BadRequest},
		"blocked": {func(g *gate, d trust.Device, _ registry.Pending) error {
			_, err := g.reg.SetDeviceState(g.Context(), admin, d.ID, trust.Blocked, "")
			return err
		}, BadRequest},
		"quarantined": {func(g *gate, d trust.Device, _ registry.Pending) error {
			_, err := g.reg.SetDeviceState(g.Context(), admin, d.ID, trust.Quarantined, "")
			return err
		}, BadRequest},
		"retired": {func(g *gate, d trust.Device, _ registry.Pending) error {
			_, err := g.reg.RetireDevice(g.Context(), admin, d.ID, "")
			return err
		}, BadRequest},
		"reassigned": {func(g *gate, d trust.Device, _ registry.Pending) error {
			_, err := g.reg.ReassignDevice(g.Context(), admin, d.ID, trust.Owner{Mail: "bob@contoso.com"})
			return err
		}, BadRequest},
		"reassigned and back": {func(g *gate, d trust.Device, _ registry.Pending) error {
			for _, mail := range []string{"bob@contoso.com", "alice@contoso.com"} {
				if _, err := g.reg.ReassignDevice(g.Context(), admin, d.ID, trust.Owner{Mail: mail}); err != nil {
					return err
				}
			}
			return nil
		}, BadRequest},
		"denied by the policy": {func(g *gate, _ trust.Device, _ registry.Pending) error {
			g.teamPolicy("deny contains \"closed\" if input.kind == \"enrol\"")
			return nil
		}, BadRequest},
		"expired": {func(g *gate, _ trust.Device, _ registry.Pending) error { g.pass(registry.PendingTTL); return nil }, BadCertID},
	} {
		t.Run(name, func(t *testing.T) {
			g := newPendingGate(t)
			d := g.device()
			a := ask{challenge: g.challenge(d)}
			g.wantPending(g.send(a))
			g.approve()
			g.must(c.spoil(g, d, g.waitingAny()))
			got := g.poll(a)
			if got.cert != nil || got.rep.status != "2" || got.rep.failInfo != map[FailInfo]string{BadRequest: "2", BadCertID: "4"}[c.want] || len(g.certificates()) != 0 {
				t.Errorf("%+v", got.rep)
			}
			if strings.Contains(got.rep.failText, "not his") {
				t.Errorf("the comment reached the device: %s", got.rep.failText)
			}
		})
	}
}

func (g *gate) waitingAny() registry.Pending {
	g.Helper()
	all, err := g.reg.PendingRequests(g.Context(), registry.PendingFilter{})
	g.must(err)
	return all[0]
}

// A challenge that is reserved is nobody else's, and a rejection ends it.
func TestReservedChallenge(t *testing.T) {
	g := newPendingGate(t)
	d := g.device()
	a := ask{challenge: g.challenge(d)}
	g.wantPending(g.send(a))
	e, err := builtin()
	g.must(err)
	thief := ask{challenge: a.challenge, key: rsaKeys()[1], id: "thief"}
	g.wantRefused(BadRequest, func() answer { return g.send(thief) })
	g.policy.Swap(e) // nobody has to approve any more: still not the thief's
	g.wantRefused(BadRequest, func() answer { return g.send(thief) })
	if got := g.poll(a); got.cert == nil { // and the policy lets the first one in
		t.Errorf("%s %s", got.rep.failInfo, got.rep.failText)
	}

	g = newPendingGate(t)
	a = ask{challenge: g.challenge(g.device())}
	g.wantPending(g.send(a))
	_, err = g.reg.Reject(t.Context(), admin, g.waiting(registry.PendingWaiting).ID, "")
	g.must(err)
	g.wantRefused(BadRequest, func() answer { return g.send(a) })
	g.wantRefused(BadRequest, func() answer { return g.send(ask{challenge: a.challenge, id: "again"}) })
}

// A team may let a renewal wait; it is issued under the certificate that asked.
func TestPendingRenewal(t *testing.T) {
	g := newGate(t)
	d := g.device()
	old := g.enrol(d, rsaKeys()[1])
	g.teamPolicy("quarantine contains \"ask_first\" if input.kind == \"renew\"")
	a := ask{kind: RenewalReq, signer: old, key: rsaKeys()[2]}
	g.wantPending(g.send(a))
	g.wantPending(g.poll(a))
	g.approve()
	got := g.poll(a)
	if got.cert == nil {
		t.Fatalf("%s %s", got.rep.failInfo, got.rep.failText)
	}
	if rec := g.record(got.cert); rec.Evidence.Renews != trust.SerialOf(old.cert.SerialNumber) || g.record(old.cert).Status != trust.Superseded {
		t.Errorf("%+v", rec)
	}
	// The one that was revoked meanwhile renews no more.
	a = ask{kind: RenewalReq, signer: party{rsaKeys()[2], got.cert}, key: rsaKeys()[3], id: "tx2"}
	g.wantPending(g.send(a))
	g.approve()
	_, err := g.reg.Revoke(t.Context(), admin, "contoso", trust.SerialOf(got.cert.SerialNumber), trust.KeyCompromise, "")
	g.must(err)
	if got := g.poll(a); got.cert != nil || got.rep.status != "2" {
		t.Errorf("%+v", got.rep)
	}
}

// No device fills the list.
func TestPendingLimit(t *testing.T) {
	g := newPendingGate(t)
	d := g.device()
	for i := range registry.MaxPendingPerDevice {
		g.wantPending(g.send(ask{challenge: g.challenge(d), id: string(rune('a' + i))}))
	}
	more := ask{challenge: g.challenge(d), id: "more"}
	g.wantRefused(BadRequest, func() answer { return g.send(more) })
	g.wantPending(g.send(ask{challenge: g.challenge(g.device()), id: "another device"}))
	g.pass(registry.PendingTTL)
	if n, err := g.reg.SweepPending(t.Context(), trust.Principal{Kind: "scep", Name: "contoso"}, 0); err != nil || n != registry.MaxPendingPerDevice+1 {
		t.Errorf("swept %d, %v", n, err)
	}
	g.wantPending(g.send(ask{challenge: g.challenge(d), id: "later"}))
}

package registry_test

import (
	"testing"
	"time"

	"postern/internal/registry"
	"postern/internal/trust"
)

var mdmDoor = trust.Principal{Kind: "mdm", Name: "ndes"}

// unbound makes a challenge for no device.
func (w *world) unbound(open int) (string, error) {
	secret, _, err := w.reg.CreateUnbound(w.Context(), mdmDoor, registry.Unbound{Issuer: "contoso", TTL: time.Hour, Open: open})
	return secret, err
}

// asNDES is a first enrolment of the device with an unbound challenge.
func (w *world) asNDES(d trust.Device, secret string) registry.Enrolment {
	e := w.first(d, secret)
	e.Certificate.Evidence.Kind = registry.EvidenceNDES
	return e
}

// An unbound challenge authorises one enrolment, of any device of its issuer, as evidence of its own kind; then it is that device's.
func TestUnboundChallenge(t *testing.T) {
	w := newWorld(t)
	d, other, foreign := w.device("alice@contoso.com"), w.device("bob@contoso.com"), w.device("alice@fabrikam.com")
	secret, err := w.unbound(1)
	w.must(err)
	c, got, owner, err := w.reg.Challenge(t.Context(), "contoso", secret)
	w.must(err)
	if !c.Unbound || c.Device != "" || got.ID != "" || owner.Mail != "" {
		t.Errorf("%+v %+v %+v", c, got, owner)
	}
	_, err = w.commit(w.first(d, secret)) // as if it had been made for the device
	w.want(err, registry.ErrChallengeUnknown)
	_, err = w.commit(w.asNDES(d, w.challenge(d.ID)))
	w.want(err, registry.ErrChallengeUnknown)
	_, err = w.commit(w.asNDES(foreign, secret))
	w.want(err, registry.ErrChallengeUnknown)
	e := w.asNDES(d, secret)
	first, err := w.commit(e)
	w.must(err)
	if again, err := w.commit(e); err != nil || again.Serial != first.Serial {
		t.Errorf("again: %s %v", again.Serial, err)
	}
	_, err = w.commit(w.asNDES(d, secret))
	w.want(err, registry.ErrChallengeSpent)
	_, err = w.commit(w.asNDES(other, secret))
	w.want(err, registry.ErrChallengeUnknown)
	if c, got, _, err = w.reg.Challenge(t.Context(), "contoso", secret); c.Device != d.ID || got.ID != d.ID || c.Spent != first.Serial {
		t.Errorf("%+v %v", c, err)
	}
	_, err = w.unbound(1) // there is room again
	w.must(err)
}

// As many as the limit says are open at once; expired, spent and void ones do not count.
func TestUnboundLimits(t *testing.T) {
	w := newWorld(t)
	d := w.device("alice@contoso.com")
	first, err := w.unbound(2)
	w.must(err)
	second, err := w.unbound(2)
	w.must(err)
	_, err = w.unbound(2)
	w.want(err, registry.ErrUnboundFull)
	w.must(w.reg.Void(t.Context(), scepDoor, "fabrikam", first, "not theirs"))
	w.must(w.reg.Void(t.Context(), scepDoor, "contoso", "unknown", ""))
	_, err = w.unbound(2)
	w.want(err, registry.ErrUnboundFull)
	w.must(w.reg.Void(t.Context(), scepDoor, "contoso", first, "tried for nobody"))
	if e := w.newest(registry.AuditFilter{}); e.Outcome != registry.Refused || e.Object != "contoso" {
		t.Errorf("%+v", e)
	}
	_, err = w.commit(w.asNDES(d, first))
	w.want(err, registry.ErrChallengeExpired)
	_, err = w.unbound(2)
	w.must(err)
	w.pass(time.Hour)
	_, err = w.commit(w.asNDES(d, second))
	w.want(err, registry.ErrChallengeExpired)
	for range 2 {
		_, err = w.unbound(2)
		w.must(err)
	}
	for _, bad := range []registry.Unbound{{Issuer: "contoso", TTL: time.Hour}, {Issuer: "contoso", TTL: time.Hour + 1, Open: 1}, {Issuer: "contoso", Open: 1},
		{Issuer: "contoso", TTL: time.Hour, Open: registry.MaxUnboundOpen + 1}} {
		_, _, err := w.reg.CreateUnbound(t.Context(), mdmDoor, bad)
		w.want(err, trust.ErrInvalid)
	}
	_, _, err = w.reg.CreateUnbound(t.Context(), mdmDoor, registry.Unbound{Issuer: "nowhere", TTL: time.Hour, Open: 1})
	w.want(err, trust.ErrNotFound)
	for name, p := range principals {
		_, _, err := w.reg.CreateUnbound(t.Context(), p, registry.Unbound{Issuer: "contoso", TTL: time.Hour, Open: 9})
		if w.want(err, trust.ErrForbidden); err == nil {
			t.Errorf("made by %s", name)
		}
	}
}

// A request that pends binds its challenge to its device; when the request is gone, the challenge is still one that was made for no device.
func TestUnboundPending(t *testing.T) {
	w := newWorld(t)
	d, other := w.device("alice@contoso.com"), w.device("bob@contoso.com")
	secret, err := w.unbound(5)
	w.must(err)
	p, x, key := w.pending(d, secret)
	p.Evidence.Kind = registry.EvidenceNDES
	p, err = w.reg.Pend(t.Context(), scepDoor, p, x, key)
	w.must(err)
	w.must(w.reg.Void(t.Context(), scepDoor, "contoso", secret, "tried again")) // not while a request waits with it
	_, err = w.commit(w.asNDES(other, secret))
	w.want(err, registry.ErrChallengeUnknown)
	_, err = w.commit(w.asNDES(d, secret))
	w.want(err, registry.ErrChallengePending)
	p, err = w.reg.Approve(t.Context(), officer, p.ID, "")
	w.must(err)
	c, err := w.issuePending(p)
	w.must(err)
	if c.Device != d.ID || w.cert(c).Evidence.Kind != registry.EvidenceNDES {
		t.Errorf("%+v", c)
	}
	secret, err = w.unbound(5)
	w.must(err)
	p, x, key = w.pending(d, secret)
	p.Evidence.Kind = registry.EvidenceNDES
	_, err = w.reg.Pend(t.Context(), scepDoor, p, x, key)
	w.must(err)
	// Another request under the same transaction takes its place.
	q, y, _ := w.pending(d, w.challenge(d.ID))
	q.TransactionID, y.ID = p.TransactionID, x.ID
	_, err = w.reg.Pend(t.Context(), scepDoor, q, y, key)
	w.must(err)
	_, err = w.commit(w.first(d, secret))
	w.want(err, registry.ErrChallengeUnknown)
	_, err = w.commit(w.asNDES(d, secret))
	w.must(err)
}

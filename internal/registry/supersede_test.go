package registry_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"postern/internal/registry"
	"postern/internal/trust"
)

const (
	hour = time.Hour
	day  = 24 * time.Hour
)

// revoked sweeps and returns how many certificates that revoked.
func (w *world) revoked() int {
	w.Helper()
	n, err := w.reg.RevokeSuperseded(w.Context(), w.now())
	w.must(err)
	return n
}

func (w *world) used(c trust.Certificate) {
	w.Helper()
	w.must(w.reg.CertificateUsed(w.Context(), edgeDoor, c.Issuer, c.Serial, w.now()))
}

// A superseded certificate is revoked 72 hours after its successor is first used, or 30 days after that was issued, whichever comes first.
func TestRevokeSuperseded(t *testing.T) {
	for _, c := range []struct {
		used, due time.Duration // after the renewal
	}{{0, 72 * hour}, {5 * day, 5*day + 72*hour}, {29 * day, 30 * day}, {-1, 30 * day}} {
		t.Run(fmt.Sprint(c.used), func(t *testing.T) {
			w := newWorld(t)
			d := w.device("alice@contoso.com")
			old := w.enrol(d)
			next, err := w.renew(d, old.Serial)
			w.must(err)
			renewed := w.now()
			if c.used >= 0 {
				w.pass(c.used)
				w.used(next)
				w.used(next)
			}
			if got := w.cert(old).RevokeAt; !got.Equal(renewed.Add(c.due)) {
				t.Errorf("planned for %s, want %s", got, renewed.Add(c.due))
			}
			w.pass(renewed.Add(c.due - time.Second).Sub(w.now()))
			if n := w.revoked(); n != 0 || w.status(old) != trust.Superseded {
				t.Errorf("a second early: %d revoked, %s", n, w.status(old))
			}
			w.pass(time.Second)
			if n := w.revoked(); n != 1 {
				t.Errorf("%d revoked", n)
			}
			if got := w.cert(old); got.Status != trust.Revoked || got.Reason != trust.SupersededReason || !got.RevokeAt.IsZero() || !w.lists(old.Serial) || w.status(next) != trust.Good {
				t.Errorf("old %+v, new %s", got, w.status(next))
			}
			if e := w.newest(registry.AuditFilter{}); e.Action != registry.ActRevoke || e.Principal.Kind != "system" || e.Object != string(old.Serial) {
				t.Errorf("audit %+v", e)
			}
			before := w.audits()
			if n := w.revoked(); n != 0 || w.audits() != before {
				t.Error("the second sweep did something")
			}
		})
	}
}

// The first use of a later successor counts too: one that was renewed before it was used does not leave its predecessor without an end.
func TestSupersededChain(t *testing.T) {
	w := newWorld(t)
	w.reg = w.reg.WithRenewal(registry.RenewalRules{UsedGrace: 10 * hour, UnusedGrace: 100 * hour})
	d := w.device("alice@contoso.com")
	a := w.enrol(d)
	b, err := w.renew(d, a.Serial)
	w.must(err)
	w.pass(50 * hour)
	c, err := w.renew(d, b.Serial)
	w.must(err)
	w.used(c)
	w.pass(10 * hour)
	if n := w.revoked(); n != 2 || w.status(a) != trust.Revoked || w.status(b) != trust.Revoked || w.status(c) != trust.Good {
		t.Errorf("%d revoked: %s %s %s", n, w.status(a), w.status(b), w.status(c))
	}
	// The use of a certificate says nothing of those that came after it.
	next, err := w.renew(d, c.Serial)
	w.must(err)
	w.used(c)
	w.pass(99 * hour)
	if n := w.revoked(); n != 0 {
		t.Errorf("%d revoked: %s %s", n, w.status(c), w.status(next))
	}
}

// What became of a certificate meanwhile is respected: revoked and held ones are left alone, a released one gets its grace, an expired one needs no revocation.
func TestSupersededMeanwhile(t *testing.T) {
	w := newWorld(t)
	d := w.device("alice@contoso.com")
	revoked := w.enrol(d)
	held, err := w.renew(d, revoked.Serial)
	w.must(err)
	last, err := w.renew(d, held.Serial)
	w.must(err)
	_, err = w.reg.Revoke(t.Context(), officer, "contoso", revoked.Serial, trust.KeyCompromise, "")
	w.must(err)
	_, err = w.reg.Hold(t.Context(), desk, "contoso", held.Serial, "")
	w.must(err)
	w.pass(20 * day)
	w.used(last)
	w.pass(20 * day)
	if n := w.revoked(); n != 0 || w.cert(revoked).Reason != trust.KeyCompromise || w.status(held) != trust.Held {
		t.Errorf("%d revoked", n)
	}
	_, err = w.reg.Release(t.Context(), desk, "contoso", held.Serial, "")
	w.must(err)
	if n := w.revoked(); n != 1 || w.status(held) != trust.Revoked {
		t.Errorf("%d revoked after the release, %s", n, w.status(held))
	}
	expiring := last
	_, err = w.renew(d, expiring.Serial)
	w.must(err)
	w.pass(366 * day)
	if n := w.revoked(); n != 0 || w.lists(expiring.Serial) || !w.cert(expiring).RevokeAt.IsZero() {
		t.Errorf("%d expired ones revoked", n)
	}
}

// More than fits into one batch, swept by two at once.
func TestRevokeSupersededInBatches(t *testing.T) {
	w := newWorld(t)
	const many = 150
	d := w.device("alice@contoso.com")
	c := w.enrol(d)
	for range many {
		next, err := w.renew(d, c.Serial)
		w.must(err)
		c = next
	}
	w.pass(31 * day)
	other := make(chan int)
	go func() {
		n, err := w.reg.RevokeSuperseded(context.Background(), w.now())
		if err != nil {
			t.Error(err)
		}
		other <- n
	}()
	if n := w.revoked() + <-other; n != many {
		t.Errorf("%d revoked, want %d", n, many)
	}
	if all, _ := w.listed(); len(all) != many || w.status(c) != trust.Good {
		t.Errorf("%d listed, the last is %s", len(all), w.status(c))
	}
}

// Challenges are kept for 30 days after their end and transactions for as long as a retry may take.
func TestDeleteExpired(t *testing.T) {
	w := newWorld(t)
	d := w.device("alice@contoso.com")
	e := w.first(d, w.challenge(d.ID))
	_, err := w.commit(e)
	w.must(err)
	unused := w.challenge(d.ID)
	long, _, err := w.reg.CreateChallenge(t.Context(), officer, d.ID, 30*day)
	w.must(err)
	for _, c := range []struct {
		pass time.Duration
		n    int
	}{{hour, 0}, {1, 1 /* the transaction */}, {30*day - 1, 1 /* the spent one */}, {1, 1 /* the one that expired after an hour */}, {hour, 0}} {
		w.pass(c.pass)
		n, err := w.reg.DeleteExpired(t.Context(), w.now())
		w.must(err)
		if n != c.n {
			t.Errorf("at %s: %d deleted, want %d", w.now(), n, c.n)
		}
	}
	_, _, _, err = w.reg.Challenge(t.Context(), "contoso", e.Challenge)
	w.want(err, registry.ErrChallengeUnknown)
	_, _, _, err = w.reg.Challenge(t.Context(), "contoso", unused)
	w.want(err, registry.ErrChallengeUnknown)
	_, _, _, err = w.reg.Challenge(t.Context(), "contoso", long)
	w.want(err, registry.ErrChallengeExpired)
}

// The sweeper sweeps at once and ends with its context.
func TestRunSweeper(t *testing.T) {
	w := newWorld(t)
	d := w.device("alice@contoso.com")
	old := w.enrol(d)
	_, err := w.renew(d, old.Serial)
	w.must(err)
	w.pass(30 * day)
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- w.reg.RunSweeper(ctx) }()
	for end := time.Now().Add(10 * time.Second); w.status(old) != trust.Revoked && time.Now().Before(end); time.Sleep(time.Millisecond) {
	}
	stop()
	w.must(<-done)
	if w.status(old) != trust.Revoked {
		t.Error(w.status(old))
	}
}

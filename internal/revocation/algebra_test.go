package revocation_test

import (
	"crypto/x509"
	"fmt"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"postern/internal/ca"
	"postern/internal/revocation"
	"postern/internal/trust"
)

// world is what a relying party may have cached, and what is true.
type world struct {
	*lab
	rng    *rand.Rand
	certs  map[trust.Serial]*standing
	order  []trust.Serial
	bases  []*x509.RevocationList
	number uint64
	update time.Time
}

type standing struct {
	reason   int // what a CRL has to say; 0 for nothing
	final    bool
	notAfter time.Time
	onBase   bool // issued past its end, since it became what it is
}

// Whatever happens, for every base CRL that may be cached, base plus delta is the complete list; weeks of simulated time.
func TestDeltaAlgebra(t *testing.T) {
	t.Parallel()
	for _, seed := range []uint64{1, 2, 3, uint64(time.Now().UnixNano())} {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := &world{lab: newBareLab(t), rng: rand.New(rand.NewPCG(seed, 1)), certs: map[trust.Serial]*standing{}}
				w.config = func(c *revocation.Config) {
					c.Schedule = revocation.Schedule{BaseLifetime: 72 * time.Hour, BaseEvery: 24 * time.Hour, DeltaLifetime: 24 * time.Hour, DeltaEvery: 6 * time.Hour}
				}
				w.start()
				for step := 0; step < 100 && !t.Failed(); step++ {
					what := w.step()
					time.Sleep(3 * time.Second) // long enough for a base, its second, and the delta
					w.look(fmt.Sprintf("step %d, %s", step, what))
				}
				w.stop()
				w.rising()
			})
		})
	}
}

// step does one random thing.
func (w *world) step() string {
	switch n := w.rng.IntN(20); {
	case n < 4 || len(w.order) == 0:
		life := time.Duration(1+w.rng.IntN(200)) * time.Hour
		s := w.record(life)
		w.certs[s] = &standing{notAfter: w.now().Add(life)}
		w.order = append(w.order, s)
		return "issue"
	case n < 12:
		return w.change(w.order[w.rng.IntN(len(w.order))])
	case n < 16:
		time.Sleep(time.Duration(w.rng.IntN(int(14 * time.Hour))))
		return "wait"
	case n < 17:
		_, err := w.reg.RequestPublish(w.t.Context(), root, "contoso", w.rng.IntN(2) == 0)
		w.must(err)
		return "request"
	case n < 18: // the clock is set back, and is right again later
		w.skew.Store(-int64(time.Hour))
		what := w.change(w.order[w.rng.IntN(len(w.order))])
		time.Sleep(20 * time.Second)
		w.skew.Store(0)
		time.Sleep(20 * time.Second)
		return "clock back, " + what
	default:
		w.stop()
		what := "restart"
		for range w.rng.IntN(4) {
			what += ", " + w.change(w.order[w.rng.IntN(len(w.order))])
		}
		time.Sleep(time.Duration(w.rng.IntN(int(30 * time.Hour)))) // longer than a delta lives, at times
		w.start()
		return what
	}
}

// change moves a certificate to another standing, expired or not.
func (w *world) change(s trust.Serial) string {
	c := w.certs[s]
	var err error
	switch n := w.rng.IntN(3); {
	case c.final:
		return "nothing"
	case c.reason == 6 && n > 0:
		_, err = w.reg.Release(w.t.Context(), root, "contoso", s, "")
		c.reason, c.onBase = 0, false
	case c.reason == 0 && n > 0:
		_, err = w.reg.Hold(w.t.Context(), root, "contoso", s, "")
		c.reason, c.onBase = 6, false
	default:
		_, err = w.reg.Revoke(w.t.Context(), root, "contoso", s, trust.KeyCompromise, "")
		c.reason, c.final, c.onBase = 1, true, false
	}
	w.must(err)
	return fmt.Sprintf("%s becomes %d", s, c.reason)
}

// look fetches the pair and compares every cached base plus the delta with the truth.
func (w *world) look(when string) {
	w.t.Helper()
	base, delta := w.fetch()
	now := w.now()
	if now.After(base.NextUpdate) || now.After(delta.NextUpdate) || base.ThisUpdate.After(now) || delta.ThisUpdate.After(now) || !w.status().Valid {
		w.t.Errorf("%s: at %s base of %s to %s, delta of %s to %s", when, now, base.ThisUpdate, base.NextUpdate, delta.ThisUpdate, delta.NextUpdate)
	}
	if n := delta.Number.Uint64(); n < w.number || delta.ThisUpdate.Before(w.update) {
		w.t.Errorf("%s: delta %d of %s after %d of %s", when, n, delta.ThisUpdate, w.number, w.update)
	}
	w.number, w.update = delta.Number.Uint64(), delta.ThisUpdate
	if len(w.bases) == 0 || base.Number.Cmp(w.bases[len(w.bases)-1].Number) > 0 {
		w.bases = append(w.bases, base)
		for _, e := range base.RevokedCertificateEntries {
			if c := w.certs[trust.SerialOf(e.SerialNumber)]; c != nil && c.reason == e.ReasonCode && base.ThisUpdate.After(c.notAfter) {
				c.onBase = true
			}
		}
	}
	for len(w.bases) > 0 && now.After(w.bases[0].NextUpdate) {
		w.bases = w.bases[1:]
	}
	for _, b := range w.bases {
		w.compare(fmt.Sprintf("%s, base %d and delta %d", when, b.Number, delta.Number), combine(w.t, b, delta), now)
	}
}

func (w *world) compare(when string, got map[trust.Serial]int, now time.Time) {
	w.t.Helper()
	for s, c := range w.certs {
		reason := got[s]
		delete(got, s)
		if reason == c.reason || reason == 0 && now.After(c.notAfter) && c.onBase {
			continue // what has expired may go once a later base had it
		}
		w.t.Errorf("%s: %s has reason %d, want %d; expired %t, was on a later base %t", when, s, reason, c.reason, now.After(c.notAfter), c.onBase)
	}
	if len(got) > 0 {
		w.t.Errorf("%s: never issued by %s: %v", when, ca.IssuingCA, got)
	}
}

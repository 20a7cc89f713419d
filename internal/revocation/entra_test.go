package revocation_test

import (
	"crypto/x509"
	"encoding/asn1"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"postern/internal/ca"
	"postern/internal/registry"
	"postern/internal/registry/bolt"
	"postern/internal/revocation"
	"postern/internal/trust"
)

// entra caches the CRLs of the issuing CA as Entra ID does: it keeps what it has until nextUpdate, or fetches again from Next CRL Publish on; it refuses a number
// that goes back, and a sign-in fails unless base and delta are both there, in force, and fit each other.
type entra struct {
	name        string
	eager       bool // fetches from Next CRL Publish on
	base, delta *x509.RevocationList
}

// days is a world with such caches, whose registry is backed up and restored.
type days struct {
	*world
	caches  []*entra
	truth   map[uint64]map[trust.Serial]int // by CRL number: what was true up to the revision that it covers
	history []event                         // of this registry
	path    string
	backup  map[trust.Serial]standing // at the last backup; nil for none
	saved   time.Time
	order0  int // how many certificates there were
	count   map[string]int
}

type event struct {
	revision registry.Revision
	serial   trust.Serial
	reason   int
}

// Weeks of simulated time with revocations, holds, releases, restarts, a clock that is set, restores from a backup, and fetches that fail: never an invalid pair,
// never a wrong answer.
func TestEntraCache(t *testing.T) {
	t.Parallel()
	for _, seed := range []uint64{1, 2, 1795749727041351582, 12680342245237783727, 8645391337067605814, 8937020225756434921, 4923698101589237380, uint64(time.Now().UnixNano())} {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := newDays(t, seed)
				began := time.Now()
				for step := 0; step < 120 && !t.Failed(); step++ {
					what := w.day()
					time.Sleep(3 * time.Second) // long enough for a base, its second, and the delta
					when := fmt.Sprintf("step %d, %s", step, what)
					w.look(when)
					w.signIn(when)
				}
				w.stop()
				w.must(w.store.Close())
				t.Logf("%.0f days: %v", time.Since(began).Hours()/24, w.count)
			})
		})
	}
}

func newDays(t *testing.T, seed uint64) *days {
	l := newBareLab(t)
	w := &days{world: &world{lab: l, rng: rand.New(rand.NewPCG(seed, 7)), certs: map[trust.Serial]*standing{}}, path: filepath.Join(l.dir, "registry.db"),
		truth: map[uint64]map[trust.Serial]int{}, count: map[string]int{}, caches: []*entra{{name: "from Next CRL Publish", eager: true}, {name: "until nextUpdate"}}}
	w.config = func(c *revocation.Config) {
		c.Schedule = revocation.Schedule{BaseLifetime: 96 * time.Hour, BaseEvery: 24 * time.Hour, DeltaLifetime: 24 * time.Hour, DeltaEvery: 6 * time.Hour}
	}
	w.reopen()
	w.start()
	return w
}

func (w *days) reopen() {
	w.t.Helper()
	store, err := bolt.Open(w.path, bolt.Options{})
	w.must(err)
	w.open(store)
}

// day does one random thing.
func (w *days) day() string {
	n := w.rng.IntN(24)
	switch {
	case n < 2 && w.backup == nil || n == 0 && w.now().Sub(w.saved) > 12*time.Hour:
		w.save()
		return "backup"
	case n < 3 && w.backup != nil && w.now().Sub(w.saved) < 48*time.Hour:
		w.restore()
		return "restore"
	}
	before := map[trust.Serial]int{}
	for s, c := range w.certs {
		before[s] = c.reason
	}
	what := w.step()
	for s, c := range w.certs {
		if before[s] != c.reason {
			w.history = append(w.history, event{w.changed(s), s, c.reason})
		}
	}
	return what
}

// changed returns the revision at which the certificate became what it is.
func (w *days) changed(s trust.Serial) (rev registry.Revision) {
	all, _, err := w.reg.RevokedSince(w.t.Context(), "contoso", ca.IssuingCA, 0)
	w.must(err)
	for _, r := range all {
		if r.Serial == s {
			rev = registry.Revision(r.Revision)
		}
	}
	return rev
}

func (w *days) save() {
	w.t.Helper()
	w.stop()
	w.must(w.store.Close())
	raw, err := os.ReadFile(w.path)
	w.must(err)
	w.must(os.WriteFile(w.path+".backup", raw, 0o600))
	w.backup, w.saved, w.order0 = map[trust.Serial]standing{}, w.now(), len(w.order)
	for s, c := range w.certs {
		w.backup[s] = *c
	}
	w.reopen()
	w.start()
}

// restore puts the backup back. What is true then, of each certificate, is the stricter of two: what the pair that was served last said together (a hold that its
// base lists and its delta has ended is none), and what the backup has. So a hold of the backup whose end was told is a hold again, and one that was told and
// ended since leaves nothing behind. That a base issued past its end had listed a certificate counts on only for the standing that this base told: a revocation
// or hold that a delta has told since, though it looks like one of the backup, is due on a base.
func (w *days) restore() {
	w.t.Helper()
	w.stop()
	base, delta := w.fetch()
	told := combine(w.t, base, delta)
	w.must(w.store.Close())
	raw, err := os.ReadFile(w.path + ".backup")
	w.must(err)
	w.must(os.WriteFile(w.path, raw, 0o600))
	for s, c := range w.certs {
		was, known := w.backup[s]
		before := *c
		if known {
			was.onBase = was.onBase || c.onBase && c.reason == was.reason
			*c = was
		} else { // nobody can change it any more
			c.reason, c.final, c.notAfter = 0, true, w.now().AddDate(20, 0, 0)
		}
		if r := told[s]; r != 0 && c.reason != 1 {
			c.reason, c.final, c.onBase = r, c.final || r != 6, before.onBase && before.reason == r
		}
	}
	w.order = w.order[:w.order0]
	w.history = nil
	for s, c := range w.certs {
		w.history = append(w.history, event{0, s, c.reason})
	}
	w.reopen()
	w.start()
	w.backup = nil
}

// at returns what was true at a revision of this registry.
func (w *days) at(rev registry.Revision) map[trust.Serial]int {
	out := map[trust.Serial]int{}
	for _, e := range w.history {
		if e.revision <= rev {
			out[e.serial] = e.reason
		}
	}
	return out
}

// signIn lets the caches fetch what is due, some of it in vain, and compares their answers with what was true when that was signed.
func (w *days) signIn(when string) {
	w.t.Helper()
	base, delta := w.fetch()
	known, err := w.reg.CRLs(w.t.Context(), "contoso", ca.IssuingCA)
	w.must(err)
	for _, c := range known {
		if n := c.Number; w.truth[n] == nil && (n == base.Number.Uint64() || n == delta.Number.Uint64()) {
			w.truth[n] = w.at(c.Covers)
		}
	}
	for _, e := range w.caches {
		w.refresh(when, e, &e.base, base)
		w.refresh(when, e, &e.delta, delta)
		now := w.now()
		if e.base == nil || e.delta == nil || now.After(e.base.NextUpdate) || now.After(e.delta.NextUpdate) {
			w.count["sign-ins that failed with the network"]++
			continue
		}
		w.answer(fmt.Sprintf("%s: cache %s, base %d, delta %d", when, e.name, e.base.Number, e.delta.Number), e, now)
	}
}

// refresh fetches one CRL if it is time.
func (w *days) refresh(when string, e *entra, have **x509.RevocationList, served *x509.RevocationList) {
	w.t.Helper()
	now := w.now()
	if *have != nil && !now.After((*have).NextUpdate) && (!e.eager || now.Before(nextPublish(w.t, *have))) {
		return
	}
	if w.rng.IntN(4) == 0 {
		w.count["fetches that failed"]++
		return
	}
	w.count["fetches"]++
	if *have != nil && served.Number.Cmp((*have).Number) < 0 {
		w.t.Errorf("%s: number %d after %d", when, served.Number, (*have).Number)
	}
	*have = served
}

// answer checks every certificate that has not expired.
func (w *days) answer(when string, e *entra, now time.Time) {
	w.t.Helper()
	want, got := w.truth[e.delta.Number.Uint64()], map[trust.Serial]int{}
	if e.base.Number.Cmp(e.delta.Number) > 0 { // it says all that the delta does
		want = w.truth[e.base.Number.Uint64()]
		for _, r := range e.base.RevokedCertificateEntries {
			got[trust.SerialOf(r.SerialNumber)] = r.ReasonCode
		}
	} else {
		got = combine(w.t, e.base, e.delta)
	}
	w.count["answers"]++
	for s, c := range w.certs {
		if now.Before(c.notAfter) && got[s] != want[s] {
			w.t.Errorf("%s: %s has reason %d, and it was %d", when, s, got[s], want[s])
		}
	}
}

// nextPublish reads Next CRL Publish.
func nextPublish(t testing.TB, l *x509.RevocationList) time.Time {
	t.Helper()
	for _, e := range l.Extensions {
		if e.Id.String() == "1.3.6.1.4.1.311.21.4" {
			var at time.Time
			if _, err := asn1.Unmarshal(e.Value, &at); err != nil {
				t.Fatal(err)
			}
			return at
		}
	}
	t.Fatal("no Next CRL Publish")
	return time.Time{}
}

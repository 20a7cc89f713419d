package revocation_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"postern/internal/ca"
	"postern/internal/registry"
	"postern/internal/registry/registrytest"
	"postern/internal/revocation"
	"postern/internal/trust"
)

// numbers returns the CRL numbers of a CA in the order of their commits, from the audit log.
func (l *lab) numbers(id string) (out []uint64) {
	l.t.Helper()
	f := registry.AuditFilter{Action: registry.ActCRLCommit, Object: "contoso/" + id, Limit: registry.MaxLimit}
	all, err := l.reg.Audit(l.t.Context(), f)
	l.must(err)
	for _, e := range slices.Backward(all) {
		out = append(out, decode[registry.CRL](l.t, e.After).Number)
	}
	return out
}

func (l *lab) rising() {
	l.t.Helper()
	for _, id := range []string{ca.RootCA, ca.IssuingCA} {
		n := l.numbers(id)
		for i := 1; i < len(n); i++ {
			if n[i] <= n[i-1] {
				l.t.Errorf("%s: number %d after %d", id, n[i], n[i-1])
			}
		}
	}
}

func TestPairIsAlwaysThere(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	old := l.leaf()
	l.revoke(trust.SerialOf(old.SerialNumber))
	l.start()
	for _, id := range []string{ca.RootCA, ca.IssuingCA} {
		base, delta := l.crl("/contoso/"+id+".crl"), l.crl("/contoso/"+id+"-delta.crl")
		if b := baseNumber(t, delta); b != base.Number.Uint64() || baseNumber(t, base) != 0 || delta.Number.Cmp(base.Number) <= 0 {
			t.Errorf("%s: base %d, delta %d of base %d", id, base.Number, delta.Number, b)
		}
		if !delta.ThisUpdate.After(base.ThisUpdate) || delta.ThisUpdate.After(time.Now()) {
			t.Errorf("%s: base of %s, delta of %s", id, base.ThisUpdate, delta.ThisUpdate)
		}
		if got := base.NextUpdate.Sub(base.ThisUpdate); got != 7*24*time.Hour {
			t.Errorf("%s: base valid for %s", id, got)
		}
		if got := delta.NextUpdate.Sub(delta.ThisUpdate); got != 24*time.Hour {
			t.Errorf("%s: delta valid for %s", id, got)
		}
		if s := statusOf(l.pub, id); !s.Valid || s.Error != "" || s.Base.Number != base.Number.Uint64() || s.Delta.BaseNumber != base.Number.Uint64() {
			t.Errorf("%s: %+v", id, s)
		}
	}
	base, delta := l.fetch()
	if len(base.RevokedCertificateEntries) != 1 || len(delta.RevokedCertificateEntries) != 0 {
		t.Errorf("%d in base, %d in delta", len(base.RevokedCertificateEntries), len(delta.RevokedCertificateEntries))
	}
	for _, e := range [][]string{extensionIDs(base), extensionIDs(delta)} {
		if slices.Contains(e, "2.5.29.28") || !slices.Contains(e, "1.3.6.1.4.1.311.21.4") {
			t.Errorf("extensions %v", e)
		}
	}
	if !slices.Contains(extensionIDs(base), "2.5.29.46") || slices.Contains(extensionIDs(delta), "2.5.29.46") {
		t.Error("freshestCRL belongs into the base only")
	}
}

func TestRevocationIsInADeltaWithinASecond(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	s := trust.SerialOf(l.leaf().SerialNumber)
	l.start()
	before, _ := l.fetch()
	for _, step := range []struct {
		do   func(trust.Serial)
		want int
	}{{l.hold, 6}, {l.release, 8}, {l.revoke, 1}} {
		step.do(s)
		began := time.Now()
		l.published()
		t.Logf("published after %s", time.Since(began))
		base, delta := l.fetch()
		if base.Number.Cmp(before.Number) != 0 {
			t.Error("a new base")
		}
		if e := delta.RevokedCertificateEntries; len(e) != 1 || e[0].ReasonCode != step.want {
			t.Errorf("delta lists %v, want reason %d", e, step.want)
		}
	}
	l.rising()
}

func TestEnrolmentMakesNoCRL(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.start()
	_, before := l.fetch()
	for range 3 {
		l.leaf()
	}
	time.Sleep(400 * time.Millisecond)
	if _, after := l.fetch(); after.Number.Cmp(before.Number) != 0 {
		t.Errorf("delta %d after %d", after.Number, before.Number)
	}
}

func TestBulkMakesFewDeltas(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	const n = 1000
	serials := make([]trust.Serial, n)
	var wg sync.WaitGroup
	each := func(fn func(i int)) {
		for w := range 50 {
			wg.Go(func() {
				for i := w; i < n; i += 50 {
					fn(i)
				}
			})
		}
		wg.Wait()
	}
	each(func(i int) { serials[i] = l.record(time.Hour) })
	l.start()
	before := len(l.numbers(ca.IssuingCA))
	began := time.Now()
	each(func(i int) { l.revoke(serials[i]) })
	took := time.Since(began)
	l.published()
	_, delta := l.fetch()
	if got := len(delta.RevokedCertificateEntries); got != n {
		t.Errorf("%d entries", got)
	}
	deltas := len(l.numbers(ca.IssuingCA)) - before
	t.Logf("%d deltas for %d revocations in %s", deltas, n, took)
	if most := 3 + int(took/(300*time.Millisecond)); deltas > most {
		t.Errorf("%d deltas in %s, want at most %d", deltas, took, most)
	}
}

func TestRequests(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.start()
	base, delta := l.fetch()
	for _, withBase := range []bool{false, true} {
		rev, err := l.reg.RequestPublish(t.Context(), root, "contoso", withBase)
		l.settle(rev, err)
		l.eventually("request", func() bool {
			open, err := l.reg.PublishRequests(t.Context())
			l.must(err)
			return len(open) == 0 && l.status().Covers >= rev && statusOf(l.pub, ca.RootCA).Covers >= rev
		})
		newBase, newDelta := l.fetch()
		if (newBase.Number.Cmp(base.Number) > 0) != withBase || newDelta.Number.Cmp(delta.Number) <= 0 {
			t.Errorf("base %d -> %d, delta %d -> %d", base.Number, newBase.Number, delta.Number, newDelta.Number)
		}
		base, delta = newBase, newDelta
	}
	// With the older base still valid, the delta refers to that.
	if b := baseNumber(t, delta); b >= base.Number.Uint64() {
		t.Errorf("delta refers to %d, the newer of two valid bases", b)
	}
}

func TestRestart(t *testing.T) {
	t.Parallel()
	for name, damage := range map[string]func(t *testing.T, dir string){
		"clean":                          func(*testing.T, string) {},
		"before the names were switched": func(t *testing.T, dir string) { remove(t, filepath.Join(dir, "crl/contoso/*.crl")) },
		"before the commit": func(t *testing.T, dir string) {
			if err := os.WriteFile(filepath.Join(dir, "crl/contoso/sha256", "issuing-"+strings.Repeat("0", 64)+".crl"), []byte{0x30}, 0o600); err != nil {
				t.Fatal(err)
			}
		},
		"half a file": func(t *testing.T, dir string) {
			for _, f := range glob(t, filepath.Join(dir, "crl/contoso/sha256/*.crl")) {
				if err := os.Truncate(f, 100); err != nil { // also what it is linked to
					t.Fatal(err)
				}
			}
		},
		"all files lost": func(t *testing.T, dir string) {
			if err := os.RemoveAll(filepath.Join(dir, "crl")); err != nil {
				t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := newLab(t)
			revoked, held := l.record(time.Hour), l.record(time.Hour)
			l.start()
			l.revoke(revoked)
			l.hold(held)
			l.published()
			oldBase, oldDelta := l.fetch()
			l.stop()
			damage(t, l.dir)
			late := l.record(time.Hour)
			l.revoke(late) // acknowledged while no publisher runs
			l.start()
			base, delta := l.fetch()
			if delta.Number.Cmp(oldDelta.Number) <= 0 || base.Number.Cmp(oldBase.Number) < 0 || delta.ThisUpdate.Before(oldDelta.ThisUpdate) {
				t.Errorf("base %d -> %d, delta %d -> %d", oldBase.Number, base.Number, oldDelta.Number, delta.Number)
			}
			for _, b := range []map[trust.Serial]int{combine(t, base, delta), combine(t, oldBase, delta)} {
				if len(b) != 3 || b[revoked] != 1 || b[held] != 6 || b[late] != 1 {
					t.Errorf("listed: %v", b)
				}
			}
			l.rising()
		})
	}
}

// What the world was told stays told when the registry is restored from a backup of before.
func TestRegistryRestored(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	s := l.record(time.Hour)
	l.start()
	l.revoke(s)
	l.published()
	oldBase, oldDelta := l.fetch()
	l.stop()
	l.open(registrytest.Store(t)) // knows nothing at all
	d := l.newDevice()
	secret, _, err := l.reg.CreateChallenge(t.Context(), root, d.ID, 0)
	l.must(err)
	l.start()
	if _, _, _, err := l.reg.Challenge(t.Context(), "contoso", secret); !errors.Is(err, registry.ErrChallengeVoid) {
		t.Errorf("a challenge of before the restore: %v", err)
	}
	if listed, _, err := l.reg.Listed(t.Context(), "contoso", ca.IssuingCA); err != nil || len(listed) != 1 || listed[0].Serial != s {
		t.Errorf("the registry lists %v, %v", listed, err)
	}
	// Whoever has the base of before can combine it with the new delta.
	if _, delta := l.fetch(); combine(t, oldBase, delta)[s] != 1 {
		t.Error("forgotten in the base of before")
	}
	base, delta := l.fetch()
	if base.Number.Cmp(oldDelta.Number) <= 0 {
		t.Errorf("base %d after delta %d", base.Number, oldDelta.Number)
	}
	if got := combine(t, base, delta); got[s] != 1 || len(got) != 1 {
		t.Errorf("listed: %v", got)
	}
	l.stop()
	l.start()
	base, delta = l.fetch()
	if got := combine(t, base, delta); got[s] != 1 {
		t.Errorf("forgotten after another restart: %v", got)
	}
}

func TestClockBackwards(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	s := l.record(24 * time.Hour)
	l.skew.Store(int64(time.Hour))
	l.start()
	_, before := l.fetch()
	l.skew.Store(0)
	l.revoke(s)
	l.eventually("refusal", func() bool { return strings.Contains(l.status().Error, "the clock is wrong") })
	if st := l.status(); st.Pending.IsZero() || st.Failing.IsZero() || !st.Valid {
		t.Errorf("%+v", st)
	}
	if _, after := l.fetch(); after.Number.Cmp(before.Number) != 0 {
		t.Errorf("delta %d was signed on a clock that is wrong", after.Number)
	}
	l.skew.Store(int64(time.Hour))
	l.published()
	l.eventually("recovery", func() bool { return l.status().Error == "" && l.status().Pending.IsZero() })
}

func TestDiskUnwritable(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	s := l.record(time.Hour)
	l.start()
	_, before := l.fetch()
	dir := filepath.Join(l.dir, "crl", "contoso", "sha256")
	l.must(os.Rename(dir, dir+".away"))
	l.must(os.WriteFile(dir, nil, 0o600)) // permissions do not stop root
	l.revoke(s)
	l.eventually("failure", func() bool { return strings.Contains(l.status().Error, "save CRL") })
	if _, after := l.fetch(); after.Number.Cmp(before.Number) != 0 || !l.status().Valid {
		t.Errorf("delta %d replaced %d", after.Number, before.Number)
	}
	l.must(os.Remove(dir))
	l.must(os.Rename(dir+".away", dir))
	l.published()
	base, delta := l.fetch()
	if got := combine(t, base, delta); got[s] != 1 {
		t.Errorf("listed: %v", got)
	}
}

// Without any CRL, and no way to make one, there is nothing to open a listener for.
func TestPrimeFailsWithoutAPair(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.must(os.WriteFile(filepath.Join(l.dir, "crl"), nil, 0o600))
	p := l.publisher(l.dir)
	if err := p.Prime(t.Context()); err == nil || !strings.Contains(err.Error(), "save CRL") {
		t.Errorf("prime: %v", err)
	}
	if st := statusOf(p, ca.IssuingCA); st.Valid || st.Error == "" {
		t.Errorf("%+v", st)
	}
}

func TestConcurrentPublishers(t *testing.T) {
	t.Parallel()
	for _, shared := range []bool{true, false} {
		t.Run(map[bool]string{true: "one directory", false: "two directories"}[shared], func(t *testing.T) {
			t.Parallel()
			l := newLab(t)
			serials := make([]trust.Serial, 6)
			for i := range serials {
				serials[i] = l.record(time.Hour)
			}
			second := l.dir
			if !shared {
				second = t.TempDir()
			}
			other := l.publisher(second)
			var wg sync.WaitGroup
			wg.Go(func() { l.start() })
			wg.Go(func() {
				if err := other.Prime(t.Context()); err != nil {
					t.Errorf("prime: %v", err)
				}
			})
			wg.Wait()
			l.run(other)
			for _, s := range serials {
				l.revoke(s)
				time.Sleep(100 * time.Millisecond)
			}
			l.published()
			base, delta := l.fetch()
			if got := combine(t, base, delta); len(got) != len(serials) {
				t.Errorf("listed: %v", got)
			}
			covers := l.status().Covers
			l.eventually("the other publisher", func() bool {
				all, _, err := l.reg.RevokedSince(t.Context(), "contoso", ca.IssuingCA, statusOf(other, ca.IssuingCA).Covers)
				return err == nil && len(all) == 0 && statusOf(other, ca.IssuingCA).Covers > 0 && covers > 0
			})
			l.rising()
			quiet := len(l.numbers(ca.IssuingCA))
			time.Sleep(800 * time.Millisecond)
			if n := len(l.numbers(ca.IssuingCA)); n > quiet+1 {
				t.Errorf("%d CRLs while nothing changed", n-quiet)
			}
		})
	}
}

func TestConfig(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	if _, err := revocation.NewPublisher(revocation.Config{}); err == nil {
		t.Error("an empty configuration was taken")
	}
	for _, change := range []func(*revocation.Config){
		func(c *revocation.Config) { c.Schedule.BaseEvery = 6 * 24 * time.Hour },
		func(c *revocation.Config) { c.Schedule.DeltaLifetime = time.Minute },
		func(c *revocation.Config) { c.Schedule.DeltaEvery = -1 },
		func(c *revocation.Config) { c.OCSP.MaxAge = 2 * time.Hour },
		func(c *revocation.Config) { c.OCSP.Lifetime = 5 * 24 * time.Hour },
	} {
		cfg := revocation.Config{Issuers: []*ca.Issuer{l.issuer}, Registry: l.reg, Index: l.index, Dir: l.dir, Now: l.now, Log: discard()}
		change(&cfg)
		if _, err := revocation.NewPublisher(cfg); !errors.Is(err, trust.ErrInvalid) {
			t.Errorf("%+v: %v", cfg.Schedule, err)
		}
	}
}

func TestRunEndsWithTheContextAndTheStore(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.start()
	l.must(l.store.Close())
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if err := l.pub.Run(ctx); err != nil || ctx.Err() != nil {
		t.Errorf("run over a closed store: %v, %v", err, ctx.Err())
	}
}

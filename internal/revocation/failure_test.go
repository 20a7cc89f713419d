package revocation_test

import (
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"postern/internal/ca"
	"postern/internal/trust"
)

// A full disk, and a signer that fails for an hour: the old pair stays served, health says what is wrong and until when nobody notices, and it recovers by itself.
func TestFailures(t *testing.T) {
	t.Parallel()
	for name, failure := range map[string]func(*lab, error){
		"disk full": func(l *lab, err error) { l.pub.BreakDisk(ca.IssuingCA, err) },
		"signer":    func(l *lab, err error) { l.pub.BreakSigner(ca.IssuingCA, err) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				l := newBareLab(t)
				s := l.record(24 * time.Hour)
				l.start()
				base, delta := l.fetch()
				failure(l, syscall.ENOSPC)
				_, err := l.reg.Revoke(t.Context(), root, "contoso", s, trust.KeyCompromise, "")
				l.must(err)
				time.Sleep(time.Hour)
				st := l.status()
				if !st.Valid || !strings.Contains(st.Error, "no space left") || l.now().Sub(st.Failing) < 59*time.Minute || !st.Until.Equal(delta.NextUpdate) {
					t.Errorf("after an hour: %+v", st)
				}
				for _, want := range []string{"no space left", "holds until " + delta.NextUpdate.Format(time.RFC3339), st.Failing.Format(time.RFC3339)} {
					if !strings.Contains(st.Trouble(), want) {
						t.Errorf("health says %q, want %q", st.Trouble(), want)
					}
				}
				if b, d := l.fetch(); b.Number.Cmp(base.Number) != 0 || d.Number.Cmp(delta.Number) != 0 {
					t.Errorf("base %d, delta %d are served instead of the old pair", b.Number, d.Number)
				}
				failure(l, nil)
				time.Sleep(15 * time.Second)
				base, delta = l.fetch()
				if got := combine(t, base, delta); got[s] != 1 || l.status().Trouble() != "" {
					t.Errorf("listed: %v; %q", got, l.status().Trouble())
				}
				failure(l, syscall.ENOSPC)
				time.Sleep(4 * time.Hour)
				if st := l.status(); !st.Late || !st.Valid {
					t.Errorf("turns too late: %+v", st)
				}
				time.Sleep(24 * time.Hour)
				if st := l.status(); st.Valid || !strings.Contains(st.Trouble(), "sign-ins fail") {
					t.Errorf("expired: %q", st.Trouble())
				}
				failure(l, nil)
				time.Sleep(15 * time.Second)
				if st := l.status(); !st.Valid || st.Trouble() != "" {
					t.Errorf("after the recovery: %+v", st)
				}
				l.stop()
				l.rising()
				l.must(l.store.Close())
			})
		})
	}
}

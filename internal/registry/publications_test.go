package registry_test

import (
	"testing"
	"time"

	"postern/internal/registry"
	"postern/internal/trust"
)

// publishes commits a CRL that has everything so far and lives for a day.
func (w *world) publishes(kind registry.CRLKind, after, number uint64) {
	w.Helper()
	_, rev := w.listed()
	w.must(w.reg.CommitCRLs(w.Context(), publisher, after, registry.CRL{Issuer: "contoso", CA: "issuing", Kind: kind, Number: number, Covers: rev,
		ThisUpdate: w.now(), NextUpdate: w.now().Add(24 * time.Hour)}))
}

// What was replaced is remembered for 90 days after it has expired, and the time from a change to its CRL is counted once.
func TestPublications(t *testing.T) {
	w := newWorld(t)
	c := w.enrol(w.device("alice@contoso.com"))
	w.publishes(registry.Base, 0, 10)
	w.publishes(registry.Delta, 10, 11)
	_, err := w.reg.Revoke(t.Context(), officer, "contoso", c.Serial, trust.KeyCompromise, "")
	w.must(err)
	w.pass(3 * time.Second)
	w.publishes(registry.Delta, 11, 12)
	w.pass(time.Hour)
	w.publishes(registry.Delta, 12, 13)
	all, err := w.reg.Publications(t.Context(), "contoso", "issuing")
	w.must(err)
	if len(all) != 4 || all[2].Number != 12 || all[2].Kind != registry.Delta || !all[2].At.Equal(w.now().Add(-time.Hour)) || all[2].Covers <= all[1].Covers {
		t.Errorf("%+v", all)
	}
	if n := w.reg.PublishTimes().Counts(); n.Count != 1 || n.Sum != 3*time.Second || n.Buckets[2] != 0 || n.Buckets[5] != 1 || n.Buckets[3600] != 1 {
		t.Errorf("%+v", n)
	}
	if other, err := w.reg.Publications(t.Context(), "contoso", "root"); err != nil || len(other) != 0 {
		t.Errorf("of another CA: %+v, %v", other, err)
	}
	w.pass(92 * 24 * time.Hour)
	w.publishes(registry.Delta, 13, 14)
	if all, err = w.reg.Publications(t.Context(), "contoso", "issuing"); err != nil || len(all) != 1 || all[0].Number != 14 {
		t.Errorf("after 92 days: %+v, %v", all, err)
	}
}

// The last change of a certificate that a CRL tells of, also of one that none lists any more.
func TestStatusChange(t *testing.T) {
	w := newWorld(t)
	d := w.device("alice@contoso.com")
	c := w.enrol(d)
	change := func(of trust.Certificate, want trust.ReasonCode) {
		t.Helper()
		ev, err := w.reg.StatusChange(t.Context(), w.cert(of))
		if want == "" {
			w.want(err, trust.ErrNotFound)
			return
		}
		if w.must(err); ev.Reason != want || ev.Serial != of.Serial || !ev.At.Equal(w.now()) || ev.Revision == 0 {
			t.Errorf("%+v, want %s", ev, want)
		}
	}
	change(c, "")
	w.pass(time.Minute)
	_, err := w.reg.Hold(t.Context(), desk, "contoso", c.Serial, "")
	w.must(err)
	change(c, trust.CertificateHold)
	w.pass(time.Minute)
	_, err = w.reg.Release(t.Context(), desk, "contoso", c.Serial, "")
	w.must(err)
	change(c, trust.RemoveFromCRL)
	other := w.enrol(w.device("bob@contoso.com"))
	_, err = w.reg.Revoke(t.Context(), officer, "contoso", other.Serial, trust.KeyCompromise, "")
	w.must(err)
	change(c, trust.RemoveFromCRL)
	change(other, trust.KeyCompromise)
}

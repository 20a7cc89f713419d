package revocation_test

import (
	"crypto/x509"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"postern/internal/ca"
	"postern/internal/registry/bolt"
	"postern/internal/revocation"
	"postern/internal/trust"
)

// backedUp is a lab with one certificate, whose registry is restored from a backup.
type backedUp struct {
	*lab
	path     string
	s        trust.Serial
	bases    []*x509.RevocationList // that were published since the backup, or just before it
	restored int                    // how many of them before the restore
	delta    []byte                 // what is on disk at the restore, if not the last one
}

func newBackedUp(t *testing.T, life time.Duration) *backedUp {
	b := &backedUp{lab: newBareLab(t)}
	b.path = filepath.Join(b.dir, "registry.db")
	b.config = func(c *revocation.Config) {
		c.Schedule = revocation.Schedule{BaseLifetime: 96 * time.Hour, BaseEvery: 24 * time.Hour, DeltaLifetime: 24 * time.Hour, DeltaEvery: 6 * time.Hour}
	}
	b.reopen()
	b.s = b.record(life)
	b.start()
	return b
}

func (b *backedUp) reopen() {
	b.t.Helper()
	store, err := bolt.Open(b.path, bolt.Options{})
	b.must(err)
	b.open(store)
}

// copy puts one registry in place of another while nothing runs.
func (b *backedUp) copy(from, to string) {
	b.t.Helper()
	b.stop()
	b.must(b.store.Close())
	raw, err := os.ReadFile(from)
	b.must(err)
	b.must(os.WriteFile(to, raw, 0o600))
	b.reopen()
	b.start()
	b.look()
}

// do carries out what is named in order; each is published before the next.
func (b *backedUp) do(steps ...string) {
	b.t.Helper()
	for _, step := range steps {
		switch step {
		case "hold":
			_, err := b.reg.Hold(b.t.Context(), root, "contoso", b.s, "")
			b.must(err)
		case "release":
			_, err := b.reg.Release(b.t.Context(), root, "contoso", b.s, "")
			b.must(err)
		case "base":
			_, err := b.reg.RequestPublish(b.t.Context(), root, "contoso", true)
			b.must(err)
		case "week": // longer than any CRL lives
			time.Sleep(7 * 24 * time.Hour)
		case "disk": // it breaks for deltas
			raw, err := os.ReadFile(b.onDisk())
			b.must(err)
			b.delta = raw
		case "backup":
			b.bases = nil
			b.copy(b.path, b.path+".backup")
		case "restore":
			b.stop()
			if b.restored = len(b.bases); b.delta != nil {
				b.must(os.Remove(b.onDisk())) // it has another name too
				b.must(os.WriteFile(b.onDisk(), b.delta, 0o600))
			}
			b.copy(b.path+".backup", b.path)
		default:
			b.t.Fatalf("no step %q", step)
		}
		time.Sleep(3 * time.Second)
		b.look()
	}
}

func (b *backedUp) onDisk() string {
	return filepath.Join(b.dir, "crl", "contoso", "issuing-delta.crl")
}

// look keeps the base that is served now: relying parties may have it.
func (b *backedUp) look() {
	b.t.Helper()
	base, _ := b.fetch()
	if n := len(b.bases); n == 0 || base.Number.Cmp(b.bases[n-1].Number) > 0 {
		b.bases = append(b.bases, base)
	}
}

// After a restore every base that may be cached says the same with the new delta, and so does the registry: what was told, or where the backup has a hold whose
// end is lost, the hold.
func TestRestoredFromABackup(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		life  time.Duration
		steps []string
		want  int
	}{
		"hold since told and ended":    {9999 * time.Hour, []string{"backup", "hold", "base", "release", "restore"}, 0},
		"and not ended":                {9999 * time.Hour, []string{"backup", "hold", "base", "release", "hold", "restore"}, 6},
		"ended before the next base":   {9999 * time.Hour, []string{"backup", "hold", "base", "release", "base", "restore"}, 0},
		"ended before told again":      {9999 * time.Hour, []string{"backup", "hold", "release", "disk", "hold", "base", "restore"}, 6},
		"missing on a base since":      {9999 * time.Hour, []string{"hold", "week", "backup", "release", "base", "hold", "base", "restore"}, 6},
		"end lost, missing on a base":  {9999 * time.Hour, []string{"hold", "week", "backup", "release", "base", "hold", "base", "release", "restore"}, 6},
		"expired, first in a delta":    {time.Hour, []string{"hold", "week", "backup", "release", "hold", "restore"}, 6},
		"expired, and missing on base": {time.Hour, []string{"hold", "week", "backup", "release", "base", "hold", "restore"}, 6},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				b := newBackedUp(t, c.life)
				b.do(c.steps...)
				b.do("base")
				_, delta := b.fetch()
				for _, base := range b.bases {
					if got := combine(t, base, delta)[b.s]; got != c.want {
						t.Errorf("base %d and delta %d: reason %d, want %d", base.Number, delta.Number, got, c.want)
					}
				}
				onBase := 0
				for _, base := range b.bases[b.restored:] { // the second may leave out what has expired
					for _, e := range base.RevokedCertificateEntries {
						onBase = e.ReasonCode
					}
				}
				listed, _, err := b.reg.Listed(t.Context(), "contoso", ca.IssuingCA)
				if b.must(err); len(listed) != min(c.want, 1) || onBase != c.want {
					t.Errorf("the registry lists %v and bases since the restore reason %d, want %d", listed, onBase, c.want)
				}
				b.stop()
				b.must(b.store.Close())
			})
		})
	}
}

package bolt

import (
	"crypto/sha256"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"postern/internal/registry"
	"postern/internal/trust"
)

// Of plain allows, the share that is asked for is recorded: always the same facts, however often they come. Refusals are recorded all.
func TestShareOfPlainAllows(t *testing.T) {
	for _, c := range []struct {
		leaveOut  float64
		low, high int
	}{{0, 2000, 2000}, {0.75, 400, 600}, {1, 0, 0}} {
		j := openJournal(t, filepath.Join(t.TempDir(), "journal.db"), JournalOptions{LeaveOut: c.leaveOut, Queue: 1 << 20, MaxAge: 48 * time.Hour})
		for range 2 {
			for i := range 2000 {
				sum := sha256.Sum256([]byte(fmt.Sprint(i)))
				j.Record(trust.Decision{Action: trust.Allow, Profile: "p", Facts: string(sum[:16]), Input: []byte("facts")})
			}
			time.Sleep(2 * registry.FlushEvery)
		}
		j.Record(deny(1))
		time.Sleep(3 * registry.FlushEvery)
		all, _, err := j.Recorded(t.Context(), time.Now().Add(-time.Hour), "", 10_000)
		if err != nil {
			t.Fatal(err)
		}
		allows := len(all) - 1
		if allows < c.low || allows > c.high || all[len(all)-1].Action != trust.Deny {
			t.Errorf("%v left out: %d of 2000 sets of facts and a refusal are recorded", c.leaveOut, allows)
		}
		if s := j.Stats(); s.LeftOutAllowed != uint64(2*(2000-allows)) || s.SkippedAllowed != 0 {
			t.Errorf("%v left out: %+v with %d recorded", c.leaveOut, s, allows)
		}
		if r := j.Retention(); r.Allowed != 1-c.leaveOut || r.Age != 48*time.Hour || r.Bytes != 7<<29 {
			t.Errorf("%+v", r)
		}
		if n, _, err := j.AllowCount(t.Context(), ""); n != 4000 || err != nil {
			t.Errorf("%d allows are counted, %v", n, err)
		}
	}
}

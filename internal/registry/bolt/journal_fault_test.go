package bolt

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"postern/internal/registry"
	"postern/internal/trust"
)

func deny(i int) trust.Decision {
	return trust.Decision{Reference: fmt.Sprintf("R%06d", i), At: time.Now(), Action: trust.Deny, Serial: "0a", Input: []byte(strings.Repeat("i", 300))}
}

func openJournal(t *testing.T, path string, opts JournalOptions) *Journal {
	t.Helper()
	j, err := OpenJournal(path, opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = j.Close() })
	return j
}

func TestJournalOverload(t *testing.T) {
	path := filepath.Join(t.TempDir(), "journal.db")
	j := openJournal(t, path, JournalOptions{Queue: 100})
	free := fillDisk(t, path)
	for i := range 1000 {
		j.Record(deny(i))
		j.Record(trust.Decision{Action: trust.Allow, Profile: "p", Reference: fmt.Sprint("A", i), Reasons: []trust.Reason{{Code: "named"}}})
	}
	time.Sleep(2 * registry.FlushEvery) // lets a flush fail
	j.Record(deny(1000))
	ctx := context.Background()
	if _, err := j.Decision(ctx, "R001000"); err != nil {
		t.Errorf("the latest: %v", err)
	}
	if _, err := j.Decision(ctx, "R000000"); !errors.Is(err, trust.ErrNotFound) {
		t.Errorf("the oldest: %v, want it dropped", err)
	}
	if n := j.Dropped(); n < 900 {
		t.Errorf("%d dropped, want 900 or more", n)
	}
	j.mu.Lock()
	waiting := j.current.waiting()
	if j.flying != nil {
		waiting += j.flying.waiting()
	}
	j.mu.Unlock()
	if waiting > 100 {
		t.Errorf("%d wait, want at most 100", waiting)
	}
	free()
	if err := j.Close(); err != nil {
		t.Fatalf("Close once there is room: %v", err)
	}
	j = openJournal(t, path, JournalOptions{})
	ds, err := j.Decisions(ctx, registry.DecisionFilter{Limit: 1000})
	if err != nil || len(ds) != waiting || ds[0].Reference != "R001000" {
		t.Errorf("%d decisions reached the disk, %v, want %d", len(ds), err, waiting)
	}
	if n, _, err := j.AllowCount(ctx, "p"); n != 1000 || err != nil {
		t.Errorf("%d allows, %v: counts are not dropped", n, err)
	}
}

func TestJournalBounds(t *testing.T) {
	path := filepath.Join(t.TempDir(), "journal.db")
	j := openJournal(t, path, JournalOptions{MaxDecisions: 50, MaxReceipts: 120, MaxProfiles: 60})
	now := time.Now()
	for i := range 200 {
		j.Record(deny(i))
		at := now.Add(time.Duration(i) * time.Second)
		j.Record(trust.Decision{Action: trust.Allow, At: at, Profile: fmt.Sprint("p", i)})
		j.Fetched(registry.Receipt{Object: "o", Number: "1", Network: "192.0.2.0/24", UserAgent: fmt.Sprint("agent", i), Last: at})
		j.Fetched(registry.Receipt{Object: "p", Number: "1", Network: fmt.Sprint(i), Last: at})
		if i%50 == 49 {
			time.Sleep(2 * registry.FlushEvery)
		}
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	if n := j.Stats(); n != (registry.JournalStats{Evicted: 150}) {
		t.Errorf("%+v, want 150 evicted", n)
	}
	j = openJournal(t, path, JournalOptions{})
	ctx := context.Background()
	ds, err := j.Decisions(ctx, registry.DecisionFilter{Limit: 1000})
	if err != nil || len(ds) != 50 || ds[49].Reference != "R000150" {
		t.Errorf("%d decisions kept, %v, want the last 50", len(ds), err)
	}
	if n, _, _ := j.AllowCount(ctx, "p199"); n != 1 {
		t.Error("the profile seen last was forgotten")
	}
	if n, _, _ := j.AllowCount(ctx, "p0"); n != 0 {
		t.Error("the profile not seen for longest was kept")
	}
	if n, _, _ := j.AllowCount(ctx, ""); n != 200 {
		t.Errorf("%d allows in all, want 200", n)
	}
	rs, err := j.Receipts(ctx, "o", 1000)
	others := uint64(0)
	for _, r := range rs {
		if r.UserAgent == otherAgents {
			others = r.Count
		}
	}
	if err != nil || len(rs) > agentsEach+1 || others == 0 {
		t.Errorf("%d rows of made-up user agents, %d counted as others, %v", len(rs), others, err)
	}
	if rs, _ := j.Receipts(ctx, "p", 1000); len(rs) > 120 || len(rs) == 0 || rs[0].Network != "199" {
		t.Errorf("%d receipt rows", len(rs))
	}
}

// TestJournalDamaged overwrites pages of a journal in use and afterwards: recording goes on, nothing panics, and the file is kept aside.
func TestJournalDamaged(t *testing.T) {
	path := filepath.Join(t.TempDir(), "journal.db")
	j := openJournal(t, path, JournalOptions{})
	for i := range 2000 {
		j.Record(deny(i))
	}
	time.Sleep(2 * registry.FlushEvery)
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	info, _ := f.Stat()
	junk := strings.Repeat("\xa5", int(info.Size())-8192)
	if _, err := f.WriteAt([]byte(junk), 8192); err != nil { // all but the two root pages
		t.Fatal(err)
	}
	ctx := context.Background()
	_, _ = j.Decision(ctx, "R000001") // an error or not, but no panic
	_, _ = j.Decisions(ctx, registry.DecisionFilter{User: "nobody"})
	_, _ = j.Receipts(ctx, "o", 1)
	for i := range 700 {
		j.Record(deny(10_000 + i))
	}
	deadline := time.Now().Add(20 * time.Second)
	for aside := []string(nil); len(aside) == 0; aside, _ = filepath.Glob(path + ".damaged-*") {
		if time.Now().After(deadline) {
			t.Fatal("the damaged file was not moved aside")
		}
		time.Sleep(10 * time.Millisecond)
	}
	if _, err := j.Decision(ctx, "R010699"); err != nil {
		t.Errorf("recorded after the damage: %v", err)
	}
	if err := j.Close(); err != nil {
		t.Errorf("Close: %v", err)
	}
	j = openJournal(t, path, JournalOptions{})
	if ds, err := j.Decisions(ctx, registry.DecisionFilter{Limit: 1000}); err != nil || len(ds) != 700 {
		t.Errorf("%d decisions in the new file, %v, want 700", len(ds), err)
	}
}

func TestJournalDamagedBefore(t *testing.T) {
	for name, damage := range map[string]func(path string) error{
		"truncated": func(path string) error { return os.Truncate(path, 8192) },
		"cut":       func(path string) error { return os.Truncate(path, 100) },
		"garbage":   func(path string) error { return os.WriteFile(path, []byte(strings.Repeat("\xa5", 100_000)), 0o600) },
	} {
		path := filepath.Join(t.TempDir(), "journal.db")
		j := openJournal(t, path, JournalOptions{})
		j.Record(deny(0))
		if err := errors.Join(j.Close(), damage(path)); err != nil {
			t.Fatal(err)
		}
		j = openJournal(t, path, JournalOptions{})
		j.Record(deny(1))
		if _, err := j.Decision(context.Background(), "R000001"); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if err := j.Close(); err != nil {
			t.Errorf("%s: Close: %v", name, err)
		}
		if aside, _ := filepath.Glob(path + ".damaged-*"); len(aside) != 1 {
			t.Errorf("%s: set aside %v, want one file", name, aside)
		}
	}
}

func FuzzDecode(f *testing.F) {
	e, err := newEntry(deny(1))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(e.value)
	f.Add(encodeChanges([]registry.Change{{Kind: registry.KindDevice, ID: "d"}}))
	f.Fuzz(func(t *testing.T, raw []byte) {
		if d, ok, err := decodeEntry(raw, registry.DecisionFilter{}); ok && err == nil {
			_ = d
		}
		if c, err := decodeChanges(1, raw); err == nil {
			if again, err := decodeChanges(1, encodeChanges(c)); err != nil || len(again) != len(c) {
				t.Errorf("%v became %v, %v", c, again, err)
			}
		}
		decodeTally(raw)
		receiptOf(string(raw), tally{})
	})
}

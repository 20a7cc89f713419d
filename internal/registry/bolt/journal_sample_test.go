package bolt

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.etcd.io/bbolt"

	"postern/internal/registry"
	"postern/internal/trust"
)

func strangerAt(i int, remote string) trust.Decision {
	d := deny(i)
	d.Reference, d.Serial, d.Remote = "S"+d.Reference, "", remote
	return d
}

// TestJournalFlood lets 64 anonymous connections from 40 networks record 200,000 refusals, a tenth of them in the name of a known device.
func TestJournalFlood(t *testing.T) {
	const all, room = 200_000, 3000
	var text bytes.Buffer
	at := time.Now()
	opts := JournalOptions{MaxDecisions: 300, MaxStrangers: room, Now: func() time.Time { return at }, Log: slog.New(slog.NewTextHandler(&text, nil))}
	path := filepath.Join(t.TempDir(), "journal.db")
	j := openJournal(t, path, opts)
	ctx := context.Background()
	for i := range 100 {
		j.Record(deny(i))
	}
	const connections = 64
	var wg sync.WaitGroup
	for n := range connections {
		wg.Go(func() {
			for i := n; i < all; i += connections {
				d := strangerAt(i, fmt.Sprintf("10.0.%d.%d", n%40, n))
				if i%10 == 0 {
					d.Device = "known"
				}
				j.Record(d)
			}
		})
	}
	wg.Wait()
	j.Record(deny(100))
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	s := j.Stats()
	j = openJournal(t, path, opts)
	for i := range 101 {
		if _, err := j.Decision(ctx, deny(i).Reference); err != nil {
			t.Fatalf("evidence about a known device: %v", err)
		}
	}
	kept := map[string]uint64{}
	f := registry.DecisionFilter{Limit: 1000}
	for page, err := j.Decisions(ctx, f); len(page) > 0 || err != nil; page, err = j.Decisions(ctx, f) {
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range page {
			kept[d.Reference[:1]]++
		}
		f.Before = page[len(page)-1].Reference
	}
	if kept["R"] != 101 || kept["S"]+s.Sampled+s.Dropped+s.EvictedStrangers != all || kept["S"] != room+12 {
		t.Errorf("%d of known and %d of strangers kept, %+v, of %d", kept["R"], kept["S"], s, all)
	}
	if s.Evicted != 0 || s.Sampled < all*14/16 {
		t.Errorf("%+v", s)
	}
	logged := text.String()
	for _, want := range []string{"only_counted=", fmt.Sprintf("since_start=%d\n", s.Sampled), fmt.Sprintf("since_start=%d\n", s.EvictedStrangers)} {
		if !strings.Contains(logged, want) {
			t.Errorf("the log lacks %q", want)
		}
	}
	if n := strings.Count(logged, "\n"); n > 4 {
		t.Errorf("%d lines in the log within a minute: %s", n, logged)
	}
}

// TestJournalBudget has a budget of its own for each source and device, as far as memory for it is set aside, and begins anew each minute.
func TestJournalBudget(t *testing.T) {
	at := time.Now()
	j := openJournal(t, filepath.Join(t.TempDir(), "journal.db"), JournalOptions{Now: func() time.Time { return at }})
	for minute := range 2 {
		sampled := 0
		for i := range 3 * maxBuckets {
			d := strangerAt(i, fmt.Sprintf("2001:db8:%x::1", i))
			r, keep := j.admit(&d)
			if !keep {
				sampled++
			}
			if r != strangers || i < 600 && (!keep || d.Input == nil) {
				t.Fatalf("minute %d: source %d: ring %d, kept: %t", minute, i, r, keep)
			}
			d.Device = trust.DeviceID(fmt.Sprint("device", i))
			if r, keep = j.admit(&d); i < maxBuckets && (r != known || !keep) || i > maxBuckets+12 && r == known {
				t.Fatalf("minute %d: device %d: ring %d, kept: %t", minute, i, r, keep)
			}
		}
		if sampled < maxBuckets || len(j.budget.sources) > maxBuckets+1 || len(j.budget.devices) > maxBuckets+1 {
			t.Errorf("minute %d: %d only counted, memory for %d sources and %d devices", minute, sampled, len(j.budget.sources), len(j.budget.devices))
		}
		at = at.Add(time.Minute)
	}
}

func TestNetwork(t *testing.T) {
	for in, want := range map[string]string{
		"192.0.2.77": "192.0.2.0/24", "192.0.2.77:443": "192.0.2.0/24", "::ffff:192.0.2.77": "192.0.2.0/24", "2001:db8:1:2::3": "2001:db8:1::/48",
		"[2001:db8:1:2::3]:443": "2001:db8:1::/48", "fe80::1%eth0": "fe80::/48", "": "invalid Prefix", "nobody": "invalid Prefix",
	} {
		if got := network(in).String(); got != want {
			t.Errorf("network(%q) = %s, want %s", in, got, want)
		}
	}
}

// TestJournalOverloadOfStrangers fills the queue while the disk is full: a stranger's decisions give way.
func TestJournalOverloadOfStrangers(t *testing.T) {
	path := filepath.Join(t.TempDir(), "journal.db")
	j := openJournal(t, path, JournalOptions{Queue: 100, SourceRate: 10_000, StrangerRate: 10_000})
	free := fillDisk(t, path)
	for i := range 1000 {
		if i%20 == 0 {
			j.Record(deny(i))
		}
		j.Record(strangerAt(i, ""))
		if i == 500 {
			time.Sleep(2 * registry.FlushEvery)
		}
	}
	ctx := context.Background()
	for i := 0; i < 1000; i += 20 {
		if _, err := j.Decision(ctx, deny(i).Reference); err != nil {
			t.Errorf("of a known device: %v", err)
		}
	}
	if n := j.Stats(); n != (registry.JournalStats{Dropped: 950}) {
		t.Errorf("%+v, want 950 dropped", n)
	}
	free()
	if err := j.Close(); err != nil {
		t.Error(err)
	}
}

// TestJournalWithoutRings opens a file from before there was a ring of strangers.
func TestJournalWithoutRings(t *testing.T) {
	path := filepath.Join(t.TempDir(), "journal.db")
	j := openJournal(t, path, JournalOptions{})
	for i := range 10 {
		j.Record(deny(i))
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	db, err := bbolt.Open(path, 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	err = db.Update(func(tx *bbolt.Tx) error {
		state := tx.Bucket([]byte(bucketJournal))
		return errors.Join(tx.DeleteBucket(strangers.bucket()), state.Put([]byte(keyState), bytes.Clone(state.Get([]byte(keyState))[:40])))
	})
	if err = errors.Join(err, db.Close()); err != nil {
		t.Fatal(err)
	}
	j = openJournal(t, path, JournalOptions{MaxDecisions: 5})
	j.Record(strangerAt(10, ""))
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	j = openJournal(t, path, JournalOptions{})
	ds, err := j.Decisions(context.Background(), registry.DecisionFilter{})
	if err != nil || len(ds) != 6 || ds[0].Reference != "SR000010" || ds[5].Reference != "R000005" {
		t.Errorf("%d decisions, %v, want the last 5 and the new one", len(ds), err)
	}
}

func BenchmarkRecord(b *testing.B) {
	for name, d := range map[string]trust.Decision{"known": deny(0), "stranger": strangerAt(0, "192.0.2.1")} {
		b.Run(name, func(b *testing.B) {
			j, err := OpenJournal(filepath.Join(b.TempDir(), "journal.db"), JournalOptions{})
			if err != nil {
				b.Fatal(err)
			}
			defer j.Close()
			var next atomic.Int64
			b.ReportAllocs()
			b.RunParallel(func(p *testing.PB) {
				for p.Next() {
					d := d
					d.Reference = fmt.Sprintf("R%09d", next.Add(1))
					j.Record(d)
				}
			})
		})
	}
}

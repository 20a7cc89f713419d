package bolt

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"go.etcd.io/bbolt"

	"postern/internal/registry"
	"postern/internal/trust"
)

func plain(name string, at time.Time) trust.Decision {
	sum := sha256.Sum256([]byte(name))
	return trust.Decision{At: at, Door: "edge", Action: trust.Allow, Policy: "p1", User: "alice@contoso.com", Device: "D1", Serial: "0a", ClientID: "c1", Profile: "m1", Command: "sync",
		Remote: "192.0.2.1", ValidUntil: at.Add(time.Hour).UTC().Truncate(time.Second), Facts: string(sum[:factsSize]), Input: []byte(name + strings.Repeat(" facts", 100))}
}

// recordedNames returns what is recorded, in pages.
func recordedNames(t *testing.T, j *Journal, since time.Time, limit int) (out []string) {
	t.Helper()
	for after, more := "", true; more; more = after != "" {
		page, next, err := j.Recorded(t.Context(), since, after, limit)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range page {
			name, _, _ := strings.Cut(string(d.Input), " ")
			out = append(out, name)
		}
		after = next
	}
	return out
}

func settled(t *testing.T, j *Journal) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		j.mu.Lock()
		done := j.current.empty() && j.flying == nil
		j.mu.Unlock()
		if done {
			return
		}
		if time.Now().After(end) {
			t.Fatal("the journal is not written")
		}
	}
}

// A decision comes back as it was recorded.
func TestFactsRoundTrip(t *testing.T) {
	j := openJournal(t, filepath.Join(t.TempDir(), "journal.db"), JournalOptions{})
	for _, d := range []trust.Decision{plain("a", time.Unix(1_800_000_000, 123).UTC()), {At: time.Unix(1_800_000_001, 0).UTC(), Action: trust.Allow, Facts: strings.Repeat("f", factsSize), Input: []byte("i")}} {
		j.Record(d)
	}
	settled(t, j)
	all, _, err := j.Recorded(t.Context(), time.Unix(0, 0), "", 10)
	want := fmt.Sprintf("%+v", []trust.Decision{plain("a", time.Unix(1_800_000_000, 123).UTC()), {At: time.Unix(1_800_000_001, 0).UTC(), Action: trust.Allow, Facts: strings.Repeat("f", factsSize), Input: []byte("i")}})
	if got := fmt.Sprintf("%+v", all); err != nil || got != want {
		t.Errorf("%v\n got %s\nwant %s", err, got, want)
	}
}

// Whatever is recorded how often, in few blocks or many, before and after a restart: each set of facts is there once, as it was last, in the order of time.
func TestFactsOnce(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "journal.db")
	begin := time.Now().Add(-time.Hour)
	last := map[string]int{}
	n := 0
	for round := range 6 {
		j, err := OpenJournal(path, JournalOptions{})
		if err != nil {
			t.Fatal(err)
		}
		for i := range []int{3, 700, 1, 300, 40, 700}[round] {
			name := fmt.Sprint("n", i*(round+1)%701)
			j.Record(plain(name, begin.Add(time.Duration(n)*time.Second)))
			last[name] = n
			n++
			if i%350 == 349 {
				settled(t, j)
			}
		}
		settled(t, j)
		var want []string
		for name := range last {
			want = append(want, name)
		}
		slices.SortFunc(want, func(a, b string) int { return last[a] - last[b] })
		for _, limit := range []int{7, 100, 10_000} {
			if got := recordedNames(t, j, begin, limit); !slices.Equal(got, want) {
				t.Fatalf("round %d in pages of %d: %d sets of facts, want %d\n got %.300v\nwant %.300v", round, limit, len(got), len(want), got, want)
			}
		}
		since := begin.Add(time.Duration(n-10) * time.Second)
		if got := recordedNames(t, j, since, 3); len(got) > 10 || !slices.Equal(got, want[len(want)-len(got):]) {
			t.Fatalf("round %d since the last ten: %v", round, got)
		}
		checkRing(t, j)
		if err := j.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// checkRing compares what the ring knows with what it would read from the disk.
func checkRing(t *testing.T, j *Journal) {
	t.Helper()
	fresh := &factsRing{}
	err := j.view(t.Context(), fresh.load)
	if err != nil {
		t.Fatal(err)
	}
	j.facts.mu.RLock()
	defer j.facts.mu.RUnlock()
	if got, want := fmt.Sprint(j.facts.blocks, j.facts.bytes, len(j.facts.in)), fmt.Sprint(fresh.blocks, fresh.bytes, len(fresh.in)); got != want {
		t.Errorf("the ring has\n%s\nand on disk is\n%s", got, want)
	}
}

// A reader that goes page by page sees everything that was there when it began and is not recorded again, however blocks are joined, emptied and made smaller meanwhile.
func TestFactsReadWhileWritten(t *testing.T) {
	t.Parallel()
	j := openJournal(t, filepath.Join(t.TempDir(), "journal.db"), JournalOptions{MaxAllowedBytes: 600 << 10})
	begin := time.Now().Add(-time.Hour)
	for i := range 500 {
		j.Record(plain(fmt.Sprint("n", i), begin.Add(time.Duration(i)*time.Second)))
		if i%100 == 99 {
			settled(t, j)
		}
	}
	settled(t, j)
	seen := map[string]bool{}
	at := 500
	for after, more := "", true; more; more = after != "" {
		page, next, err := j.Recorded(t.Context(), begin, after, 20)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range page {
			name, _, _ := strings.Cut(string(d.Input), " ")
			seen[name] = true
		}
		if after = next; at < 1500 { // every other one is recorded again, until the room is full of what does not count
			for i := range 50 {
				j.Record(plain(fmt.Sprint("n", 2*i), begin.Add(time.Duration(at)*time.Second)))
				at++
			}
			settled(t, j)
			checkRing(t, j)
		}
	}
	if len(seen) != 500 {
		t.Errorf("%d of 500 sets of facts were seen", len(seen))
	}
	if n := j.Stats().EvictedAllowed; n != 0 {
		t.Errorf("%d sets of facts had to go although there was room for what counts", n)
	}
}

// The ring is bounded by sets of facts, by bytes and by age; what goes before its time is counted.
func TestFactsBounds(t *testing.T) {
	now := time.Now()
	for name, c := range map[string]struct {
		opts      JournalOptions
		low, high int
		evicted   bool
	}{
		"sets":  {JournalOptions{MaxAllowed: 200}, 100, 200, true},
		"bytes": {JournalOptions{MaxAllowedBytes: 300 << 10}, 200, 440, true},
		"age":   {JournalOptions{MaxAge: 100 * time.Hour}, 100, 200, false},
		"none":  {JournalOptions{MaxAge: 2000 * time.Hour}, 1000, 1000, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			j := openJournal(t, filepath.Join(t.TempDir(), "journal.db"), c.opts)
			for i := range 1000 {
				j.Record(plain(fmt.Sprint("n", i), now.Add(time.Duration(i-1000)*time.Hour)))
				if i%100 == 99 {
					settled(t, j)
				}
			}
			time.Sleep(3 * registry.FlushEvery)
			got := recordedNames(t, j, now.Add(-2000*time.Hour), 1000)
			if len(got) < c.low || len(got) > c.high || got[len(got)-1] != "n999" {
				t.Errorf("%d sets of facts, want %d to %d, and the last of all among them", len(got), c.low, c.high)
			}
			if n := j.Stats().EvictedAllowed; (n > 0) != c.evicted {
				t.Errorf("%d evicted", n)
			}
			checkRing(t, j)
		})
	}
}

// While the disk is full, a bounded number of facts waits, and what is beyond is counted; what waited is written afterwards.
func TestFactsWithoutDisk(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "journal.db")
	j := openJournal(t, path, JournalOptions{Queue: 400})
	j.Record(plain("first", time.Now()))
	settled(t, j)
	free := fillDisk(t, path)
	for i := range 3000 {
		j.Record(plain(fmt.Sprint("n", i), time.Now()))
		if i%500 == 499 {
			time.Sleep(2 * registry.FlushEvery)
		}
	}
	j.mu.Lock()
	waiting := j.current.sets
	if j.flying != nil {
		waiting += j.flying.sets
	}
	j.mu.Unlock()
	if waiting > 300 || waiting == 0 {
		t.Errorf("%d sets of facts wait, want at most 300", waiting)
	}
	free()
	for end := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
		if got := recordedNames(t, j, time.Now().Add(-time.Hour), 1000); len(got) > 1 {
			if skipped := int(j.Stats().SkippedAllowed); len(got)+skipped != 3001 || got[0] != "first" {
				t.Errorf("%d written and %d skipped, want 3001 in all; the first is %s", len(got), skipped, got[0])
			}
			break
		}
		if time.Now().After(end) {
			t.Fatal("nothing was written when there was room again")
		}
	}
	checkRing(t, j)
}

// A block that is damaged is passed over.
func TestFactsDamaged(t *testing.T) {
	j := openJournal(t, filepath.Join(t.TempDir(), "journal.db"), JournalOptions{})
	for i := range 300 {
		j.Record(plain(fmt.Sprint("n", i), time.Now()))
	}
	settled(t, j)
	err := j.db.Load().Update(func(tx *bbolt.Tx) error {
		v := slices.Clone(factsBucket(tx).Get(blockKey(1)))
		if _, err := decodeBlock(v); err != nil {
			return err
		}
		return errors.Join(factsBucket(tx).Put(blockKey(1), v[:len(v)-1]), factsBucket(tx).Put(blockKey(9), nil))
	})
	if err != nil {
		t.Fatal(err)
	}
	j.facts.mu.Lock()
	j.facts.loaded = false
	j.facts.mu.Unlock()
	if got := recordedNames(t, j, time.Now().Add(-time.Hour), 1000); len(got) == 0 || len(got) >= 300 || got[len(got)-1] != "n299" {
		t.Errorf("%d sets of facts", len(got))
	}
	j.Record(plain("after", time.Now()))
	settled(t, j)
	if got := recordedNames(t, j, time.Now().Add(-time.Hour), 1000); got[len(got)-1] != "after" {
		t.Errorf("the last is %s", got[len(got)-1])
	}
}

// Facts that a program before the first release has kept one by one go, and their references with them.
func TestFactsKeptSingly(t *testing.T) {
	path := filepath.Join(t.TempDir(), "journal.db")
	j := openJournal(t, path, JournalOptions{})
	j.Record(deny(1))
	settled(t, j)
	err := j.db.Load().Update(func(tx *bbolt.Tx) error {
		b, err := tx.CreateBucket([]byte(bucketAllowed))
		if err != nil {
			return err
		}
		for i := range 300 {
			key := []byte(fmt.Sprint(factsPrefix, i))
			if err := errors.Join(b.Put(key, key), tx.Bucket([]byte(bucketReferences)).Put(key, key)); err != nil {
				return err
			}
		}
		return nil
	})
	if err := errors.Join(err, j.Close()); err != nil {
		t.Fatal(err)
	}
	j = openJournal(t, path, JournalOptions{})
	if _, err := j.Decision(t.Context(), "R000001"); err != nil {
		t.Error(err)
	}
	_ = j.view(t.Context(), func(tx *bbolt.Tx) error {
		if n := tx.Bucket([]byte(bucketReferences)).Stats().KeyN; n != 1 || tx.Bucket([]byte(bucketAllowed)) != nil {
			t.Errorf("%d references are left", n)
		}
		return nil
	})
}

// FuzzBlock: whatever a block on disk is, it is read within its bounds or refused.
func FuzzBlock(f *testing.F) {
	var b factsBlock
	for i := range 3 {
		d := plain(fmt.Sprint(i), time.Unix(1, 0))
		b.add(&d)
	}
	f.Add(b.encode())
	f.Fuzz(func(t *testing.T, raw []byte) {
		b, err := decodeBlock(raw)
		if err != nil {
			return
		}
		b = b.only(func(factsKey) bool { return true })
		frames := b.frames
		for _, h := range b.heads {
			_, _ = decodeFrame(h.key, frames[:h.size])
			frames = frames[h.size:]
		}
		if len(frames) > 0 {
			t.Error("frames without a head")
		}
	})
}

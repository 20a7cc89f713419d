package bolt

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"

	"postern/internal/registry"
	"postern/internal/trust"
)

const (
	journalVersion = 1
	gather         = registry.FlushEvery * 3 / 4 // leaves time for the flush itself
	flushAt        = 512                         // decisions that are written without waiting longer
	queueBytes     = 32 << 20
	pruneEvery     = 10 * time.Minute
	maxBackoff     = 30 * time.Second
)

// JournalOptions of OpenJournal. Zero limits mean the defaults.
type JournalOptions struct {
	Log              *slog.Logger     // nil: nothing is logged
	Now              func() time.Time // nil: time.Now
	MaxDecisions     int              // that name a device or certificate, kept on disk; 400000
	MaxBytes         int64            // of those; 1.5 GiB
	MaxStrangers     int              // decisions of strangers, kept on disk; 100000
	MaxStrangerBytes int64            // of those; 0.5 GiB
	MaxAllowed       int              // sets of facts that were plainly allowed, kept on disk; 1000000; each takes 44 bytes of memory
	MaxAllowedBytes  int64            // of those; 1.5 GiB
	MaxAge           time.Duration    // of a decision; 30 days
	LeaveOut         float64          // share of the sets of facts that were plainly allowed that is not kept, 0 to 1; 0
	MaxReceipts      int              // rows of fetch receipts; 10000
	MaxProfiles      int              // mail profiles with an allow count of their own; 200000
	Queue            int              // decisions waiting for the disk, at most half of them of strangers; 8192. Beside them, half as many sets of facts
	DeviceRate       int              // decisions a minute that name a device without a certificate, before they count as a stranger's; 12
	SourceRate       int              // decisions a minute of the strangers of one /24 or /48 that are all kept; 60
	StrangerRate     int              // decisions a minute of all strangers that are all kept; 600
}

func (o *JournalOptions) defaults() {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	for _, limit := range []struct {
		n  *int
		or int
	}{{&o.MaxDecisions, 400_000}, {&o.MaxStrangers, 100_000}, {&o.MaxAllowed, 1_000_000}, {&o.MaxReceipts, 10_000}, {&o.MaxProfiles, 200_000}, {&o.Queue, 8192},
		{&o.DeviceRate, 12}, {&o.SourceRate, 60}, {&o.StrangerRate, 600}} {
		if *limit.n <= 0 {
			*limit.n = limit.or
		}
	}
	if o.MaxBytes <= 0 {
		o.MaxBytes = 3 << 29
	}
	if o.MaxAllowedBytes <= 0 {
		o.MaxAllowedBytes = 3 << 29
	}
	if o.MaxStrangerBytes <= 0 {
		o.MaxStrangerBytes = 1 << 29
	}
	if o.MaxAge <= 0 {
		o.MaxAge = 30 * 24 * time.Hour
	}
}

// Journal is a registry.Journal in one bbolt file. Make it with OpenJournal.
//
// Every allow is counted by its mail profile. An allow with reasons is kept as well, like a refusal; when the queue is half full, only one in 16 of
// those is. Strangers have a ring of their own and are sampled, as registry.Journal.Record says. Under a network, a published number has at most 32 user
// agents of its own; further ones are counted together as "(other)".
type Journal struct {
	path    string
	opts    JournalOptions
	db      atomic.Pointer[bbolt.DB]
	dropped atomic.Uint64
	sampled atomic.Uint64
	leftOut atomic.Uint64 // facts of plain allows, because only a share of them is kept
	skipped atomic.Uint64 // facts of plain allows, for want of room in the queue
	evicted [rings]atomic.Uint64

	evictedFacts atomic.Uint64

	dirty   chan struct{} // there is something to write
	full    chan struct{} // enough to write it now
	quit    chan struct{}
	stopped chan struct{}

	mu      sync.Mutex
	current *batch
	flying  *batch // being written; nil if none
	closed  bool
	budget  budget
	spare   []*factsBlock // to be filled again

	facts factsRing
}

var _ registry.Journal = (*Journal)(nil)

// batch is what one flush writes. Its number grows with each attempt and is written with it, so that a reader can tell whether what it saw in memory is
// already in what it sees on disk.
type batch struct {
	number   uint64
	entries  [rings][]*entry
	byRef    map[string]*entry
	bytes    [rings]int
	facts    []*factsBlock    // of plain allows
	sets     int              // decisions in them
	allows   map[string]tally // by mail profile
	total    tally
	receipts map[string]tally // by receiptKey
	applied  []registry.Reaction
}

func newBatch(number uint64) *batch {
	return &batch{number: number, byRef: map[string]*entry{}, allows: map[string]tally{}, receipts: map[string]tally{}}
}

// waiting returns the number of decisions.
func (b *batch) waiting() int {
	return len(b.entries[known]) + len(b.entries[strangers])
}

func (b *batch) empty() bool {
	return b.waiting() == 0 && b.sets == 0 && b.total.n == 0 && len(b.receipts) == 0 && len(b.applied) == 0
}

// OpenJournal opens the journal file, creating it in an existing directory. A damaged file is moved aside, with ".damaged" and the time behind its name,
// and a new one begun, because telemetry must not keep the gate from opening. If somebody else holds it, the error is a *HeldError.
func OpenJournal(path string, opts JournalOptions) (*Journal, error) {
	opts.defaults()
	j := &Journal{
		path: path, opts: opts,
		dirty: make(chan struct{}, 1), full: make(chan struct{}, 1), quit: make(chan struct{}), stopped: make(chan struct{}),
	}
	number, err := j.open()
	if errors.Is(err, errDamaged) {
		number, err = j.startAnew(err)
	}
	if err != nil {
		return nil, err
	}
	j.current = newBatch(number + 1)
	j.markDirty() // for what has expired meanwhile
	go j.run()
	return j, nil
}

// Record implements registry.Journal. A decision without a reference, or with one of more than 256 bytes, is dropped; an input of more than 64 KiB is
// left out. The decision is copied.
func (j *Journal) Record(d trust.Decision) {
	if d.At.IsZero() {
		d.At = j.opts.Now()
	}
	r := known
	if d.Action == trust.Allow && j.recordAllow(&d) {
		return
	}
	if !proved(d) {
		var keep bool
		if r, keep = j.admit(&d); !keep {
			j.sampled.Add(1)
			return
		}
	}
	e, err := newEntry(d)
	if err != nil {
		j.dropped.Add(1)
		j.opts.Log.Error("decision cannot be recorded", "reference", clip(d.Reference), "error", err)
		return
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.closed {
		j.dropped.Add(1)
		return
	}
	e.ring = r
	j.current.add(e)
	j.trim()
	j.markDirty()
	if j.current.waiting() >= flushAt {
		poke(j.full)
	}
}

// recordAllow counts an allow, takes up the facts of a plain one, and reports whether that was all there is to do.
func (j *Journal) recordAllow(d *trust.Decision) bool {
	plain := len(d.Reasons) == 0 || d.Reference == ""
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.closed {
		return true
	}
	one := tally{n: 1, first: d.At.UnixNano(), last: d.At.UnixNano()}
	b := j.current
	b.total.add(one)
	profile := clip(d.Profile)
	if t, ok := b.allows[profile]; profile != "" && (ok || len(b.allows) < j.opts.MaxProfiles) {
		t.add(one)
		b.allows[profile] = t
	}
	j.markDirty()
	switch {
	case plain:
		j.recordFacts(d)
		return true
	case len(b.entries[known]) < j.opts.Queue/2 || oneIn16():
		return false
	}
	j.sampled.Add(1)
	return true
}

// Fetched implements registry.Journal. Zero fields of r mean one fetch, now. Text fields are cut at 256 bytes.
func (j *Journal) Fetched(r registry.Receipt) {
	if r.Last.IsZero() {
		r.Last = j.opts.Now()
	}
	if r.First.IsZero() {
		r.First = r.Last
	}
	key := receiptKey(r)
	j.mu.Lock()
	defer j.mu.Unlock()
	t, ok := j.current.receipts[key]
	if j.closed || !ok && len(j.current.receipts) >= j.opts.MaxReceipts {
		return
	}
	t.add(tally{n: max(r.Count, 1), first: r.First.UnixNano(), last: r.Last.UnixNano()})
	j.current.receipts[key] = t
	j.markDirty()
}

// Dropped implements registry.Journal.
func (j *Journal) Dropped() uint64 { return j.dropped.Load() }

// Stats implements registry.Journal.
func (j *Journal) Stats() registry.JournalStats {
	return registry.JournalStats{Dropped: j.dropped.Load(), Sampled: j.sampled.Load(),
		Evicted: j.evicted[known].Load(), EvictedStrangers: j.evicted[strangers].Load(), EvictedAllowed: j.evictedFacts.Load(), SkippedAllowed: j.skipped.Load(), LeftOutAllowed: j.leftOut.Load()}
}

// Retention implements registry.Journal.
func (j *Journal) Retention() registry.Retention {
	return registry.Retention{Age: j.opts.MaxAge, Bytes: j.opts.MaxBytes + j.opts.MaxStrangerBytes + j.opts.MaxAllowedBytes, Allowed: math.Round((1-j.opts.LeaveOut)*1e6) / 1e6}
}

// Close implements registry.Journal. What is recorded afterwards is dropped.
func (j *Journal) Close() error {
	j.mu.Lock()
	if j.closed {
		j.mu.Unlock()
		return registry.ErrClosed
	}
	j.closed = true
	j.mu.Unlock()
	close(j.quit)
	<-j.stopped
	err := closeFile(j.db.Load(), j.path)
	if lost := j.current.waiting(); lost > 0 {
		j.dropped.Add(uint64(lost))
		err = errors.Join(err, fmt.Errorf("%d decisions could not be written", lost))
	}
	if err != nil {
		return fmt.Errorf("close journal: %w", err)
	}
	return nil
}

// trim drops the oldest decisions that are not being written while there are too many: those of strangers first, which never take more than half of the
// room, so that they cannot push out the others while the disk is slow. The caller holds j.mu.
func (j *Journal) trim() {
	var n, size [rings]int
	for _, b := range j.waiting() {
		for r := range rings {
			n[r], size[r] = n[r]+len(b.entries[r]), size[r]+b.bytes[r]
		}
	}
	for _, r := range []ring{strangers, known} {
		for len(j.current.entries[r]) > 0 {
			half := n[strangers] > j.opts.Queue/2 || size[strangers] > queueBytes/2
			all := n[known]+n[strangers] > j.opts.Queue || size[known]+size[strangers] > queueBytes
			if !all && (r != strangers || !half) {
				break
			}
			n[r]--
			size[r] -= j.current.dropOldest(r).size()
			j.dropped.Add(1)
		}
	}
}

func (b *batch) add(e *entry) {
	b.entries[e.ring] = append(b.entries[e.ring], e)
	b.byRef[e.reference()] = e
	b.bytes[e.ring] += e.size()
}

func (b *batch) dropOldest(r ring) *entry {
	e := b.entries[r][0]
	b.entries[r][0] = nil
	b.entries[r] = b.entries[r][1:]
	b.bytes[r] -= e.size()
	if b.byRef[e.reference()] == e {
		delete(b.byRef, e.reference())
	}
	return e
}

// latest yields the decisions whose reference was not recorded again.
func (b *batch) latest() iter.Seq[*entry] {
	return func(yield func(*entry) bool) {
		for _, entries := range b.entries {
			for _, e := range entries {
				if b.byRef[e.reference()] == e && !yield(e) {
					return
				}
			}
		}
	}
}

func (j *Journal) markDirty() { poke(j.dirty) }

func poke(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// view reads the file. fn must not keep anything of the transaction.
func (j *Journal) view(ctx context.Context, fn func(*bbolt.Tx) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	err := guard(func() error { return j.db.Load().View(fn) })
	if errors.Is(err, berrors.ErrDatabaseNotOpen) {
		return registry.ErrClosed
	}
	if err != nil {
		return fmt.Errorf("read journal: %w", err)
	}
	return nil
}

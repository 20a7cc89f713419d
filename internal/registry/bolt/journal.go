package bolt

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
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
	sampleOneIn    = 16
	pruneEvery     = 10 * time.Minute
	maxBackoff     = 30 * time.Second
)

// JournalOptions of OpenJournal. Zero limits mean the defaults.
type JournalOptions struct {
	Log          *slog.Logger     // nil: nothing is logged
	Now          func() time.Time // nil: time.Now
	MaxDecisions int              // kept on disk; 500000
	MaxBytes     int64            // of decisions kept on disk; 2 GiB
	MaxAge       time.Duration    // of a decision; 30 days
	MaxReceipts  int              // rows of fetch receipts; 10000
	MaxProfiles  int              // mail profiles with an allow count of their own; 200000
	Queue        int              // decisions waiting for the disk; 8192
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
	}{{&o.MaxDecisions, 500_000}, {&o.MaxReceipts, 10_000}, {&o.MaxProfiles, 200_000}, {&o.Queue, 8192}} {
		if *limit.n <= 0 {
			*limit.n = limit.or
		}
	}
	if o.MaxBytes <= 0 {
		o.MaxBytes = 2 << 30
	}
	if o.MaxAge <= 0 {
		o.MaxAge = 30 * 24 * time.Hour
	}
}

// Journal is a registry.Journal in one bbolt file. Make it with OpenJournal.
//
// Every allow is counted by its mail profile. An allow with reasons is kept as well, like a refusal; when the queue is half full, only one in 16 of
// those is. Under a network, a published number has at most 32 user agents of its own; further ones are counted together as "(other)".
type Journal struct {
	path    string
	opts    JournalOptions
	db      atomic.Pointer[bbolt.DB]
	dropped atomic.Uint64

	dirty   chan struct{} // there is something to write
	full    chan struct{} // enough to write it now
	quit    chan struct{}
	stopped chan struct{}

	mu      sync.Mutex
	current *batch
	flying  *batch // being written; nil if none
	closed  bool
	sampled uint64
}

var _ registry.Journal = (*Journal)(nil)

// batch is what one flush writes. Its number grows with each attempt and is written with it, so that a reader can tell whether what it saw in memory is
// already in what it sees on disk.
type batch struct {
	number   uint64
	entries  []*entry
	byRef    map[string]*entry
	bytes    int
	allows   map[string]tally // by mail profile
	total    tally
	receipts map[string]tally // by receiptKey
}

func newBatch(number uint64) *batch {
	return &batch{number: number, byRef: map[string]*entry{}, allows: map[string]tally{}, receipts: map[string]tally{}}
}

func (b *batch) empty() bool {
	return len(b.entries) == 0 && b.total.n == 0 && len(b.receipts) == 0
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
	if d.Action == trust.Allow && j.countAllow(d) {
		return
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
	j.current.add(e)
	j.trim()
	j.markDirty()
	if len(j.current.entries) >= flushAt {
		poke(j.full)
	}
}

// countAllow counts an allow and reports whether that was all there is to do.
func (j *Journal) countAllow(d trust.Decision) bool {
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
	if len(d.Reasons) == 0 {
		return true
	}
	if len(b.entries) < j.opts.Queue/2 {
		return false
	}
	j.sampled++
	return j.sampled%sampleOneIn != 0
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
	if lost := len(j.current.entries); lost > 0 {
		j.dropped.Add(uint64(lost))
		err = errors.Join(err, fmt.Errorf("%d decisions could not be written", lost))
	}
	if err != nil {
		return fmt.Errorf("close journal: %w", err)
	}
	return nil
}

// trim drops the oldest decisions that are not being written while there are too many. The caller holds j.mu.
func (j *Journal) trim() {
	n, size := len(j.current.entries), j.current.bytes
	if j.flying != nil {
		n, size = n+len(j.flying.entries), size+j.flying.bytes
	}
	for ; (n > j.opts.Queue || size > queueBytes) && len(j.current.entries) > 0; n-- {
		e := j.current.dropOldest()
		size -= e.size()
		j.dropped.Add(1)
	}
}

func (b *batch) add(e *entry) {
	b.entries = append(b.entries, e)
	b.byRef[e.reference()] = e
	b.bytes += e.size()
}

func (b *batch) dropOldest() *entry {
	e := b.entries[0]
	b.entries[0] = nil
	b.entries = b.entries[1:]
	b.bytes -= e.size()
	if b.byRef[e.reference()] == e {
		delete(b.byRef, e.reference())
	}
	return e
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

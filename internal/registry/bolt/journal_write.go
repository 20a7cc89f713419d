package bolt

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"time"

	"go.etcd.io/bbolt"
)

const (
	bucketJournal    = "journal"
	bucketReferences = "references" // reference -> key of the decision
	bucketAllows     = "allows"     // mail profile -> tally
	bucketReceipts   = "receipts"
	keyTotal         = "total"
	pruneAtOnce      = 2000
	agentsEach       = 32
	otherAgents      = "(other)"
)

// counts is what the journal knows about itself.
type counts struct {
	number           uint64 // of the last batch
	decisions, bytes [rings]int64
	allows, receipts int64
}

// fields lists the counts in the order in which they are stored. Those of strangers came later: they are zero in a file that has none.
func (c *counts) fields() []*int64 {
	return []*int64{&c.decisions[known], &c.allows, &c.receipts, &c.bytes[known], &c.decisions[strangers], &c.bytes[strangers]}
}

func readCounts(tx *bbolt.Tx) (c counts) {
	raw := tx.Bucket([]byte(bucketJournal)).Get([]byte(keyState))
	if len(raw) != 40 && len(raw) != 56 && len(raw) != 72 {
		return c
	}
	c.number = binary.BigEndian.Uint64(raw)
	for i, n := range c.fields()[:min(len(raw), 56)/8-1] {
		*n = int64(binary.BigEndian.Uint64(raw[8+8*i:]))
	}
	return c
}

func (c counts) write(tx *bbolt.Tx) error {
	raw := binary.BigEndian.AppendUint64(nil, c.number)
	for _, n := range c.fields() {
		raw = binary.BigEndian.AppendUint64(raw, uint64(*n))
	}
	return tx.Bucket([]byte(bucketJournal)).Put([]byte(keyState), raw)
}

// open opens the file and returns the number of the last batch in it.
func (j *Journal) open() (number uint64, err error) {
	db, note, err := openFile(j.path, j.opts.Now())
	if err != nil {
		return 0, err
	}
	if note != nil {
		j.opts.Log.Warn("journal file: cannot leave a note of who holds it", "path", j.path, "error", note)
	}
	err = guard(func() error {
		return db.Update(func(tx *bbolt.Tx) error {
			if err := checkFormat(tx, bucketJournal, journalVersion); err != nil {
				return err
			}
			for _, name := range [][]byte{known.bucket(), strangers.bucket(), []byte(bucketFacts), []byte(bucketReferences), []byte(bucketAllows), []byte(bucketReceipts), []byte(bucketReactions)} {
				if _, err := tx.CreateBucketIfNotExists(name); err != nil {
					return fmt.Errorf("create %s: %w", name, err)
				}
			}
			number = readCounts(tx).number
			return forgetSingles(tx)
		})
	})
	if err != nil {
		_ = closeFile(db, j.path)
		return 0, fmt.Errorf("open %s: %w", j.path, err)
	}
	j.db.Store(db)
	return number, nil
}

// startAnew moves the damaged file aside and begins a new one. A handle that is still open on the old one is left to its readers.
func (j *Journal) startAnew(why error) (number uint64, err error) {
	aside := j.path + ".damaged-" + j.opts.Now().UTC().Format("20060102T150405")
	if err := os.Rename(j.path, aside); err != nil && !errors.Is(err, os.ErrNotExist) {
		return 0, fmt.Errorf("move damaged journal aside: %w", err)
	}
	j.opts.Log.Error("journal is damaged: moved aside, a new one begins", "path", j.path, "aside", aside, "error", why)
	return j.open()
}

// run writes batches until the journal is closed.
func (j *Journal) run() {
	defer close(j.stopped)
	idle := time.NewTicker(pruneEvery)
	defer idle.Stop()
	backoff := time.Duration(0)
	var lost reporter
	defer func() { lost.report(j, true) }()
	for {
		closing := false
		select {
		case <-j.dirty:
			closing = j.pause(gather, j.full)
		case <-idle.C:
		case <-j.quit:
			closing = true
		}
		err := j.flush()
		lost.report(j, false)
		if closing {
			return
		}
		if err == nil {
			backoff = 0
			continue
		}
		backoff = min(max(2*backoff, time.Second), maxBackoff)
		j.markDirty()
		if j.pause(backoff, nil) {
			_ = j.flush() // what stays behind is counted by Close
			return
		}
	}
}

// pause waits for the time, for early, or for Close, of which it reports the last.
func (j *Journal) pause(d time.Duration, early <-chan struct{}) (closing bool) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-early:
	case <-j.quit:
		return true
	}
	return false
}

// flush writes what was gathered. What could not be written is gathered again, within the limits of the queue.
func (j *Journal) flush() error {
	j.mu.Lock()
	b := j.current
	j.flying, j.current = b, newBatch(b.number+1)
	j.mu.Unlock()

	more := false
	err := guard(func() (err error) {
		more, err = j.write(b)
		return err
	})
	if errors.Is(err, errDamaged) {
		if _, anew := j.startAnew(err); anew != nil {
			err = errors.Join(err, anew)
		}
	}
	if err != nil && j.written(b.number) {
		err = nil // the disk failed after the new root was written: what can be read is what counts
	}
	if err != nil {
		j.opts.Log.Error("journal cannot be written, decisions wait in memory", "path", j.path, "waiting", b.waiting(), "dropped", j.dropped.Load(), "error", err)
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	j.flying = nil
	if err != nil {
		j.takeBack(b)
		return err
	}
	j.reuse(b.facts)
	if more {
		j.markDirty()
	}
	return nil
}

func (j *Journal) written(number uint64) bool {
	found := uint64(0)
	err := guard(func() error {
		return j.db.Load().View(func(tx *bbolt.Tx) error {
			found = readCounts(tx).number
			return nil
		})
	})
	return err == nil && found >= number
}

// takeBack puts a batch that was not written in front of the current one, which keeps its higher number. The caller holds j.mu.
func (j *Journal) takeBack(b *batch) {
	late := j.current
	j.current = b
	b.number = late.number
	for e := range late.latest() {
		b.add(e)
	}
	j.takeBackFacts(b, late)
	b.total.add(late.total)
	merge(b.allows, late.allows, j.opts.MaxProfiles)
	merge(b.receipts, late.receipts, j.opts.MaxReceipts)
	b.applied = append(b.applied, late.applied...)
	b.applied = b.applied[max(0, len(b.applied)-maxApplied):]
	j.trim()
}

func merge(into, from map[string]tally, limit int) {
	for k, more := range from {
		t, ok := into[k]
		if ok || len(into) < limit {
			t.add(more)
			into[k] = t
		}
	}
}

// write writes a batch and removes what is too much or too old; more says that there is more to remove.
func (j *Journal) write(b *batch) (more bool, err error) {
	j.facts.mu.Lock()
	fit := false
	defer func() {
		j.facts.loaded = j.facts.loaded && fit // or it may know of blocks that are not there
		j.facts.mu.Unlock()
	}()
	var evicted [rings]uint64
	var evictedFacts uint64
	err = j.db.Load().Update(func(tx *bbolt.Tx) error {
		c := readCounts(tx)
		if err := j.facts.load(tx); err != nil {
			return fmt.Errorf("read facts: %w", err)
		}
		limits := j.factsLimits()
		if more = j.tooMuch(tx, c, known) != nil || j.tooMuch(tx, c, strangers) != nil || j.facts.tooMuch(limits); b.empty() && !more {
			return errNothing
		}
		c.number = b.number
		if err := j.writeBatch(tx, b, &c); err != nil {
			return err
		}
		more = false
		for r := range rings {
			n, left, err := j.prune(tx, &c, r, b.waiting()+pruneAtOnce)
			if err != nil {
				return fmt.Errorf("remove old decision: %w", err)
			}
			evicted[r], more = n, more || left
		}
		if evictedFacts, err = j.facts.prune(tx, limits); err != nil {
			return fmt.Errorf("remove old facts: %w", err)
		}
		more = more || j.facts.tooMuch(limits)
		return c.write(tx)
	})
	fit = err == nil || errors.Is(err, errNothing)
	if errors.Is(err, errNothing) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	for r, n := range evicted {
		j.evicted[r].Add(n)
	}
	j.evictedFacts.Add(evictedFacts)
	return more, nil
}

// writeBatch writes what a batch has.
func (j *Journal) writeBatch(tx *bbolt.Tx, b *batch, c *counts) error {
	for e := range b.latest() {
		if err := putDecision(tx, e, c); err != nil {
			return fmt.Errorf("write decision: %w", err)
		}
	}
	if err := j.facts.write(tx, b.facts); err != nil {
		return fmt.Errorf("write facts: %w", err)
	}
	if err := j.writeTallies(tx, b, c); err != nil {
		return err
	}
	if err := writeReactions(tx, b.applied); err != nil {
		return fmt.Errorf("write reactions: %w", err)
	}
	return nil
}

// errNothing rolls an empty flush back.
var errNothing = errors.New("nothing to write")

func putDecision(tx *bbolt.Tx, e *entry, c *counts) error {
	decisions, references := tx.Bucket(e.ring.bucket()), tx.Bucket([]byte(bucketReferences))
	decisions.FillPercent = 0.9 // nearly always appended to
	reference := []byte(e.reference())
	if old := references.Get(reference); old != nil {
		// The same reference again replaces what it stood for, in whichever ring.
		if err := forget(tx, bytes.Clone(old), c); err != nil {
			return err
		}
	}
	if err := references.Put(reference, []byte(e.key)); err != nil {
		return err
	}
	c.decisions[e.ring]++
	c.bytes[e.ring] += int64(e.size())
	return decisions.Put([]byte(e.key), e.value)
}

// forget removes a decision without its reference.
func forget(tx *bbolt.Tx, key []byte, c *counts) error {
	for r := range rings {
		b := tx.Bucket(r.bucket())
		v := b.Get(key)
		if v == nil {
			continue
		}
		c.decisions[r]--
		c.bytes[r] -= int64(len(key) + len(v))
		if err := b.Delete(key); err != nil {
			return err
		}
	}
	return nil
}

// prune removes the oldest decisions of a ring, at most so many. It returns how many were not past their time, and whether there is more to remove.
func (j *Journal) prune(tx *bbolt.Tx, c *counts, r ring, limit int) (evicted uint64, more bool, err error) {
	expiry := j.opts.Now().Add(-j.opts.MaxAge)
	for range limit {
		key := bytes.Clone(j.tooMuch(tx, *c, r))
		if key == nil {
			return evicted, false, nil
		}
		if !keyTime(key).Before(expiry) {
			evicted++
		}
		if err := errors.Join(forget(tx, key, c), tx.Bucket([]byte(bucketReferences)).Delete(key[8:])); err != nil {
			return evicted, true, err
		}
	}
	return evicted, j.tooMuch(tx, *c, r) != nil, nil
}

// tooMuch returns the key of the oldest decision of a ring if that has to go, and nil if not.
func (j *Journal) tooMuch(tx *bbolt.Tx, c counts, r ring) []byte {
	n := [rings]int{j.opts.MaxDecisions, j.opts.MaxStrangers}[r]
	size := [rings]int64{j.opts.MaxBytes, j.opts.MaxStrangerBytes}[r]
	k, _ := tx.Bucket(r.bucket()).Cursor().First()
	if len(k) >= 8 && (c.decisions[r] > int64(n) || c.bytes[r] > size || keyTime(k).Before(j.opts.Now().Add(-j.opts.MaxAge))) {
		return k
	}
	return nil
}

package bolt

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"go.etcd.io/bbolt"

	"postern/internal/registry"
	"postern/internal/trust"
)

const (
	defaultPage = 100
	maxPage     = 1000
	scanAtOnce  = 10_000 // decisions looked at in one transaction, which keeps pages from being reused
)

// Readers look at memory first and at the disk after it: what moves from one to the other in between is then seen twice, which can be told, and not missed.

// waiting returns the batches that are not known to be on disk.
func (j *Journal) waiting() []*batch {
	if j.flying != nil {
		return []*batch{j.current, j.flying}
	}
	return []*batch{j.current}
}

func (j *Journal) check(ctx context.Context) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.closed {
		return registry.ErrClosed
	}
	return ctx.Err()
}

// Decision implements registry.Journal.
func (j *Journal) Decision(ctx context.Context, reference string) (trust.Decision, error) {
	value, _, err := j.find(ctx, reference)
	if err != nil {
		return trust.Decision{}, err
	}
	d, _, err := decodeEntry(value, registry.DecisionFilter{})
	if err != nil {
		return trust.Decision{}, fmt.Errorf("read journal: %w", err)
	}
	return d, nil
}

// find returns value and key of the decision with the reference.
func (j *Journal) find(ctx context.Context, reference string) (value []byte, key string, err error) {
	if err := j.check(ctx); err != nil {
		return nil, "", err
	}
	j.mu.Lock()
	for _, b := range j.waiting() {
		if e := b.byRef[reference]; e != nil {
			j.mu.Unlock()
			return e.value, e.key, nil
		}
	}
	j.mu.Unlock()
	err = j.view(ctx, func(tx *bbolt.Tx) error {
		k := tx.Bucket([]byte(bucketReferences)).Get([]byte(reference))
		key = string(k)
		for r := range rings {
			if v := tx.Bucket(r.bucket()).Get(k); v != nil {
				value = bytes.Clone(v)
			}
		}
		return nil
	})
	if err == nil && value == nil {
		err = fmt.Errorf("decision with reference %q: %w%s", clip(reference), trust.ErrNotFound, j.notKept())
	}
	return value, key, err
}

// notKept says to whom a reference was given that what it refers to may never have been kept.
func (j *Journal) notKept() string {
	if n := j.sampled.Load(); n > 0 {
		return fmt.Sprintf(" (of unknown phones, %d decisions were only counted since the start, because there were too many)", n)
	}
	return ""
}

// found is a decision on its way to the reader, with its key to sort by.
type found struct {
	key string
	d   trust.Decision
}

// Decisions implements registry.Journal. A Before that is unknown, or not kept any more, is trust.ErrNotFound; a Limit outside its range is trust.ErrInvalid.
func (j *Journal) Decisions(ctx context.Context, f registry.DecisionFilter) ([]trust.Decision, error) {
	if f.Limit == 0 {
		f.Limit = defaultPage
	}
	if f.Limit < 0 || f.Limit > maxPage {
		return nil, fmt.Errorf("limit %d %w: want 1 to %d", f.Limit, trust.ErrInvalid, maxPage)
	}
	if err := j.check(ctx); err != nil {
		return nil, err
	}
	before := ""
	if f.Before != "" {
		var err error
		if _, before, err = j.find(ctx, f.Before); err != nil {
			return nil, err
		}
	}
	out, skip := j.inMemory(f, before)
	onDisk, err := j.onDisk(ctx, f, before, skip)
	if err != nil {
		return nil, err
	}
	out = append(out, onDisk...)
	slices.SortFunc(out, func(x, y found) int { return cmp.Compare(y.key, x.key) })
	decisions := make([]trust.Decision, 0, min(len(out), f.Limit))
	for _, o := range out[:min(len(out), f.Limit)] {
		decisions = append(decisions, o.d)
	}
	return decisions, nil
}

// inMemory returns the newest decisions that are not known to be on disk, and the references of all of those.
func (j *Journal) inMemory(f registry.DecisionFilter, before string) (out []found, skip map[string]bool) {
	var entries []*entry
	skip = map[string]bool{}
	j.mu.Lock()
	for _, b := range j.waiting() {
		for e := range b.latest() {
			if e.ring < listed && !skip[e.reference()] {
				entries = append(entries, e)
			}
		}
		for reference := range b.byRef {
			skip[reference] = true
		}
	}
	j.mu.Unlock()
	slices.SortFunc(entries, func(x, y *entry) int { return cmp.Compare(y.key, x.key) })
	for _, e := range entries {
		if before != "" && e.key >= before {
			continue
		}
		if d, selected, err := decodeEntry(e.value, f); err == nil && selected {
			out = append(out, found{e.key, d})
		}
		if len(out) == f.Limit {
			break
		}
	}
	return out, skip
}

// onDisk returns the newest decisions on disk before the key, in several short transactions if it has to look at many.
func (j *Journal) onDisk(ctx context.Context, f registry.DecisionFilter, before string, skip map[string]bool) (out []found, err error) {
	for more := true; more && len(out) < f.Limit; {
		err := j.view(ctx, func(tx *bbolt.Tx) error {
			c, k, v := seekBefore(tx, before)
			for n := 0; k != nil && n < scanAtOnce && len(out) < f.Limit; n++ {
				before = string(k)
				if len(k) > 8 && !skip[before[8:]] {
					d, selected, err := decodeEntry(v, f)
					if err != nil {
						j.opts.Log.Warn("journal: a decision is passed over", "reference", clip(before[8:]), "error", err)
					} else if selected {
						out = append(out, found{before, d})
					}
				}
				k, v = c.prev()
			}
			more = k != nil
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	return out, nil
}

// cursor goes backward through the listed rings as if they were one.
type cursor struct {
	of   [listed]*bbolt.Cursor
	k, v [listed][]byte
}

// seekBefore returns a cursor at the last key that is less than before, or at the last of all if before is "".
func seekBefore(tx *bbolt.Tx, before string) (c *cursor, k, v []byte) {
	c = &cursor{}
	for r := range listed {
		of := tx.Bucket(r.bucket()).Cursor()
		c.of[r] = of
		if k, _ := of.Seek([]byte(before)); before == "" || k == nil {
			c.k[r], c.v[r] = of.Last()
		} else {
			c.k[r], c.v[r] = of.Prev()
		}
	}
	k, v = c.prev()
	return c, k, v
}

// prev returns the greatest key that is left, or nil.
func (c *cursor) prev() (k, v []byte) {
	r := known
	if bytes.Compare(c.k[strangers], c.k[known]) > 0 {
		r = strangers
	}
	k, v = c.k[r], c.v[r]
	if k != nil {
		c.k[r], c.v[r] = c.of[r].Prev()
	}
	return k, v
}

// AllowCount implements registry.Journal. Of the profiles, those not seen for longest are forgotten beyond JournalOptions.MaxProfiles.
func (j *Journal) AllowCount(ctx context.Context, profile string) (n uint64, last time.Time, err error) {
	if err := j.check(ctx); err != nil {
		return 0, time.Time{}, err
	}
	type part struct {
		number uint64
		t      tally
	}
	var parts []part
	key := clip(profile)
	j.mu.Lock()
	for _, b := range j.waiting() {
		t := b.total
		if profile != "" {
			t = b.allows[key]
		}
		parts = append(parts, part{b.number, t})
	}
	j.mu.Unlock()
	var sum tally
	err = j.view(ctx, func(tx *bbolt.Tx) error {
		if profile == "" {
			sum = decodeTally(tx.Bucket([]byte(bucketJournal)).Get([]byte(keyTotal)))
		} else {
			sum = decodeTally(tx.Bucket([]byte(bucketAllows)).Get([]byte(key)))
		}
		for written := readCounts(tx).number; len(parts) > 0; parts = parts[1:] {
			if parts[0].number > written {
				sum.add(parts[0].t)
			}
		}
		return nil
	})
	if err != nil || sum.n == 0 {
		return 0, time.Time{}, err
	}
	return sum.n, time.Unix(0, sum.last).UTC(), nil
}

// Receipts implements registry.Journal. A limit below 1 means 100.
func (j *Journal) Receipts(ctx context.Context, object string, limit int) ([]registry.Receipt, error) {
	if err := j.check(ctx); err != nil {
		return nil, err
	}
	prefix := clip(object) + "\x00"
	sums, parts := map[string]tally{}, map[uint64]map[string]tally{}
	j.mu.Lock()
	for _, b := range j.waiting() {
		parts[b.number] = map[string]tally{}
		for key, t := range b.receipts {
			if strings.HasPrefix(key, prefix) {
				parts[b.number][key] = t
			}
		}
	}
	j.mu.Unlock()
	err := j.view(ctx, func(tx *bbolt.Tx) error {
		c := tx.Bucket([]byte(bucketReceipts)).Cursor()
		for k, v := c.Seek([]byte(prefix)); bytes.HasPrefix(k, []byte(prefix)); k, v = c.Next() {
			sums[string(k)] = decodeTally(v)
		}
		written := readCounts(tx).number
		for number, more := range parts {
			if number > written {
				merge(sums, more, j.opts.MaxReceipts)
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	out := make([]registry.Receipt, 0, len(sums))
	for key, t := range sums {
		out = append(out, receiptOf(key, t))
	}
	slices.SortFunc(out, func(x, y registry.Receipt) int {
		return cmp.Or(y.Last.Compare(x.Last), cmp.Compare(receiptKey(x), receiptKey(y)))
	})
	if limit < 1 {
		limit = defaultPage
	}
	return out[:min(limit, len(out))], nil
}

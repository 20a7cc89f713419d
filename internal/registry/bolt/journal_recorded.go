package bolt

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/fnv"
	"strconv"
	"strings"
	"time"

	"go.etcd.io/bbolt"

	"postern/internal/registry"
	"postern/internal/trust"
)

const (
	maxRecorded      = 10_000
	maxWaitingBlocks = 128 // of some 64 KiB, before further facts are skipped
	spareBlocks      = 32
)

// leavesOut reports whether facts are among those that are not kept. It is always the same for the same facts, which are a digest: so what is recorded of a
// phone's request is recorded every time.
func (j *Journal) leavesOut(facts string) bool {
	if j.opts.LeaveOut <= 0 {
		return false
	}
	h := fnv.New32a()
	_, _ = h.Write([]byte(facts))
	return float64(h.Sum32()) < j.opts.LeaveOut*(1<<32)
}

// recordFacts takes up the facts of a plain allow, if it has any, and there is room: refusals go first. The caller holds j.mu.
func (j *Journal) recordFacts(d *trust.Decision) {
	if len(d.Facts) != factsSize || len(d.Input) == 0 || len(d.Input) > maxInput {
		return
	}
	b := j.current
	switch {
	case j.leavesOut(d.Facts):
		j.leftOut.Add(1)
		return
	case b.sets >= j.opts.Queue/4 || len(b.facts) >= maxWaitingBlocks:
		j.skipped.Add(1)
		return
	}
	if n := len(b.facts); n == 0 || b.facts[n-1].size() >= fullBlock {
		b.facts = append(b.facts, j.blankBlock())
	}
	b.facts[len(b.facts)-1].add(d)
	if b.sets++; b.sets >= j.opts.Queue/8 {
		poke(j.full)
	}
}

// blankBlock returns a block to fill. The caller holds j.mu.
func (j *Journal) blankBlock() *factsBlock {
	n := len(j.spare)
	if n == 0 {
		return &factsBlock{}
	}
	b := j.spare[n-1]
	j.spare = j.spare[:n-1]
	return b
}

// reuse takes blocks back that are on disk. The caller holds j.mu.
func (j *Journal) reuse(blocks []*factsBlock) {
	for _, b := range blocks {
		if len(j.spare) < spareBlocks && cap(b.frames) <= 2*fullBlock {
			b.clear()
			j.spare = append(j.spare, b)
		}
	}
}

// takeBackFacts puts what was not written in front of what has come since, and lets the oldest go where that is too much. The caller holds j.mu.
func (j *Journal) takeBackFacts(b *batch, late *batch) {
	b.facts, b.sets = append(b.facts, late.facts...), b.sets+late.sets
	for b.sets > j.opts.Queue/2 || len(b.facts) > 2*maxWaitingBlocks {
		n := len(b.facts[0].heads)
		b.facts, b.sets = b.facts[1:], b.sets-n
		j.skipped.Add(uint64(n))
	}
}

func (j *Journal) factsLimits() factsLimits {
	return factsLimits{sets: j.opts.MaxAllowed, bytes: j.opts.MaxAllowedBytes, expiry: j.opts.Now().Add(-j.opts.MaxAge).UnixNano()}
}

// place is where a reader of Recorded goes on: behind a key of the listed rings, and behind a set of facts.
type place struct {
	key   []byte // empty: behind none
	facts factsPlace
}

func (p place) String() string { return fmt.Sprintf("%x.%x.%x", p.key, p.facts.block, p.facts.ordinal) }

func parsePlace(s string) (p place, err error) {
	parts := strings.Split(s, ".")
	if len(parts) != 3 {
		return p, trust.ErrInvalid
	}
	p.key, err = hex.DecodeString(parts[0])
	block, err2 := strconv.ParseUint(parts[1], 16, 32)
	ordinal, err3 := strconv.ParseUint(parts[2], 16, 32)
	if errors.Join(err, err2, err3) != nil || len(p.key) > 0 && len(p.key) < 8 {
		return p, trust.ErrInvalid
	}
	p.facts = factsPlace{uint32(block), uint32(ordinal)}
	return p, nil
}

// Recorded implements registry.Journal. A limit outside its range, or an after that is none, is trust.ErrInvalid.
func (j *Journal) Recorded(ctx context.Context, since time.Time, after string, limit int) (out []trust.Decision, next string, err error) {
	if limit < 1 || limit > maxRecorded {
		return nil, "", fmt.Errorf("limit %d %w: want 1 to %d", limit, trust.ErrInvalid, maxRecorded)
	}
	var from place
	if after != "" {
		if from, err = parsePlace(after); err != nil {
			return nil, "", fmt.Errorf("where to go on %q: %w", clip(after), err)
		}
	}
	if err := j.check(ctx); err != nil {
		return nil, "", err
	}
	if err := j.loadFacts(ctx); err != nil {
		return nil, "", err
	}
	j.facts.mu.RLock()
	defer j.facts.mu.RUnlock()
	err = j.view(ctx, func(tx *bbolt.Tx) error {
		c := &both{facts: j.facts.seek(tx, since, from.facts), listed: seekFrom(tx, since, from.key), at: from}
		for c.more() {
			if len(out) == limit {
				next = c.at.String()
				return nil
			}
			d, err := c.next()
			if err != nil {
				j.opts.Log.Warn("journal: a decision is passed over", "reference", clip(d.Reference), "error", err)
				continue
			}
			out = append(out, d)
		}
		return nil
	})
	if err != nil {
		return nil, "", err
	}
	return out, next, nil
}

// loadFacts makes the ring of facts if there is none.
func (j *Journal) loadFacts(ctx context.Context) error {
	j.facts.mu.Lock()
	defer j.facts.mu.Unlock()
	if j.facts.loaded {
		return nil
	}
	return j.view(ctx, j.facts.load)
}

// both goes forward through the listed decisions and the facts as if they were one.
type both struct {
	listed *forward
	facts  *factsCursor
	at     place // behind what was returned
}

func (c *both) more() bool {
	_, ok := c.facts.peek()
	return ok || c.listed.least() < listed
}

// next returns the older one of the two that come next.
func (c *both) next() (trust.Decision, error) {
	f, isFact := c.facts.peek()
	if r := c.listed.least(); r < listed && (!isFact || keyTime(c.listed.k[r]).UnixNano() <= f.at) {
		k, v := c.listed.take(r)
		c.at.key = k
		d, _, err := decodeEntry(v, registry.DecisionFilter{})
		if err != nil {
			d.Reference = string(k[min(8, len(k)):])
		}
		return d, err
	}
	c.facts.advance()
	c.at.facts = factsPlace{f.block, f.head.ordinal}
	return decodeFrame(f.head.key, f.frame)
}

// forward goes forward through the listed rings as if they were one.
type forward struct {
	of   [listed]*bbolt.Cursor
	k, v [listed][]byte
}

// seekFrom returns a cursor at the first decision since a time, or behind a key.
func seekFrom(tx *bbolt.Tx, since time.Time, behind []byte) *forward {
	from := behind
	if len(behind) == 0 {
		from = []byte(decisionKey(since, ""))
	}
	c := &forward{}
	for r := range listed {
		c.of[r] = tx.Bucket(r.bucket()).Cursor()
		c.k[r], c.v[r] = c.of[r].Seek(from)
		if len(behind) > 0 && bytes.Equal(c.k[r], behind) {
			c.k[r], c.v[r] = c.of[r].Next()
		}
	}
	return c
}

// least returns the ring with the least key that is left, or listed.
func (c *forward) least() ring {
	least := listed
	for r := range listed {
		if c.k[r] != nil && (least == listed || bytes.Compare(c.k[r], c.k[least]) < 0) {
			least = r
		}
	}
	return least
}

// take returns what is next in a ring.
func (c *forward) take(r ring) (k, v []byte) {
	k, v = c.k[r], c.v[r]
	c.k[r], c.v[r] = c.of[r].Next()
	return k, v
}

package bolt

import (
	"bytes"
	"context"
	"encoding/hex"
	"fmt"
	"hash/fnv"
	"time"

	"go.etcd.io/bbolt"

	"postern/internal/registry"
	"postern/internal/trust"
)

const (
	factsPrefix = "facts-" // of the reference under which facts are kept
	maxRecorded = 10_000
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

// crowded reports whether the queue has no room for the facts of plain allows: refusals go first.
func (j *Journal) crowded() bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	return len(j.current.entries[allowed]) >= j.opts.Queue/4
}

// Recorded implements registry.Journal. A limit outside its range, or an after that is none, is trust.ErrInvalid.
func (j *Journal) Recorded(ctx context.Context, since time.Time, after string, limit int) (out []trust.Decision, next string, err error) {
	if limit < 1 || limit > maxRecorded {
		return nil, "", fmt.Errorf("limit %d %w: want 1 to %d", limit, trust.ErrInvalid, maxRecorded)
	}
	from := []byte(decisionKey(since, ""))
	if after != "" {
		if from, err = hex.DecodeString(after); err != nil || len(from) < 8 {
			return nil, "", fmt.Errorf("where to go on %q: %w", clip(after), trust.ErrInvalid)
		}
	}
	if err := j.check(ctx); err != nil {
		return nil, "", err
	}
	err = j.view(ctx, func(tx *bbolt.Tx) error {
		c := seekFrom(tx, from, after != "")
		for k, v := c.next(); k != nil; k, v = c.next() {
			if len(out) == limit {
				return nil
			}
			next = hex.EncodeToString(k)
			d, _, err := decodeEntry(v, registry.DecisionFilter{})
			if err != nil {
				j.opts.Log.Warn("journal: a decision is passed over", "reference", clip(string(k[min(8, len(k)):])), "error", err)
				continue
			}
			if facts, ok := bytes.CutPrefix(k[8:], []byte(factsPrefix)); ok {
				raw, _ := hex.DecodeString(string(facts)) // written by Record
				d.Reference, d.Facts = "", string(raw)
			}
			out = append(out, d)
		}
		next = ""
		return nil
	})
	if err != nil {
		return nil, "", err
	}
	return out, next, nil
}

// forward goes forward through all rings as if they were one.
type forward struct {
	of   [rings]*bbolt.Cursor
	k, v [rings][]byte
}

// seekFrom returns a cursor before the first key that is at least from, or with beyond greater than it.
func seekFrom(tx *bbolt.Tx, from []byte, beyond bool) *forward {
	c := &forward{}
	for r := range rings {
		c.of[r] = tx.Bucket(r.bucket()).Cursor()
		c.k[r], c.v[r] = c.of[r].Seek(from)
		if beyond && bytes.Equal(c.k[r], from) {
			c.k[r], c.v[r] = c.of[r].Next()
		}
	}
	return c
}

// next returns the least key that is left, or nil.
func (c *forward) next() (k, v []byte) {
	least := rings
	for r := range rings {
		if c.k[r] != nil && (least == rings || bytes.Compare(c.k[r], c.k[least]) < 0) {
			least = r
		}
	}
	if least == rings {
		return nil, nil
	}
	k, v = c.k[least], c.v[least]
	c.k[least], c.v[least] = c.of[least].Next()
	return k, v
}

package bolt

import (
	"bytes"
	"context"
	"encoding/binary"
	"slices"
	"strings"
	"time"

	"go.etcd.io/bbolt"

	"postern/internal/registry"
)

const (
	bucketReactions = "reactions" // revision and node -> when, and the count of rows so far
	maxApplied      = 4096        // reactions that wait for the disk
	maxReactions    = 100_000     // on disk; the lowest revisions go first
	maxNodeRows     = 4096        // rows looked at for the nodes of one revision
)

// Applied implements registry.Journal. Beyond 4096 that wait for the disk the oldest are forgotten; on disk are the last 100,000.
func (j *Journal) Applied(r registry.Reaction) {
	if r.At.IsZero() {
		r.At = j.opts.Now()
	}
	r.Node = clip(r.Node)
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.closed {
		return
	}
	b := j.current
	if len(b.applied) >= maxApplied {
		b.applied = b.applied[1:]
	}
	b.applied = append(b.applied, r)
	j.markDirty()
}

func reactionKey(rev registry.Revision, node string) []byte {
	return append(binary.BigEndian.AppendUint64(nil, uint64(rev)), node...)
}

func writeReactions(tx *bbolt.Tx, all []registry.Reaction) error {
	b := tx.Bucket([]byte(bucketReactions))
	for _, r := range all {
		n, err := b.NextSequence()
		if err != nil {
			return err
		}
		value := binary.BigEndian.AppendUint64(nil, uint64(r.At.UnixNano()))
		if err := b.Put(reactionKey(r.Revision, r.Node), binary.BigEndian.AppendUint64(value, n)); err != nil {
			return err
		}
		// Rows are written about in the order of their keys, so that the first is about the oldest.
		if k, v := b.Cursor().First(); len(v) == 16 && n-binary.BigEndian.Uint64(v[8:]) >= maxReactions {
			if err := b.Delete(k); err != nil {
				return err
			}
		}
	}
	return nil
}

// Reactions implements registry.Journal.
func (j *Journal) Reactions(ctx context.Context, rev registry.Revision) ([]registry.Reaction, error) {
	if err := j.check(ctx); err != nil {
		return nil, err
	}
	first := map[string]registry.Reaction{}
	take := func(r registry.Reaction) {
		if known, ok := first[r.Node]; r.Revision >= rev && (!ok || r.Revision < known.Revision) {
			first[r.Node] = r
		}
	}
	j.mu.Lock()
	for _, b := range j.waiting() {
		for _, r := range b.applied {
			take(r)
		}
	}
	j.mu.Unlock()
	err := j.view(ctx, func(tx *bbolt.Tx) error {
		c := tx.Bucket([]byte(bucketReactions)).Cursor()
		n := 0
		for k, v := c.Seek(reactionKey(rev, "")); k != nil && n < maxNodeRows; k, v = c.Next() {
			if n++; len(k) >= 8 && len(v) == 16 {
				take(registry.Reaction{Node: string(bytes.Clone(k[8:])), Revision: registry.Revision(binary.BigEndian.Uint64(k)),
					At: time.Unix(0, int64(binary.BigEndian.Uint64(v))).UTC()})
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	out := make([]registry.Reaction, 0, len(first))
	for _, r := range first {
		out = append(out, r)
	}
	slices.SortFunc(out, func(x, y registry.Reaction) int { return strings.Compare(x.Node, y.Node) })
	return out, nil
}

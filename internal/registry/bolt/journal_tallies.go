package bolt

import (
	"bytes"
	"cmp"
	"fmt"
	"slices"
	"strings"

	"go.etcd.io/bbolt"
)

func (j *Journal) writeTallies(tx *bbolt.Tx, b *batch, c *counts) error {
	info, allows, receipts := tx.Bucket([]byte(bucketJournal)), tx.Bucket([]byte(bucketAllows)), tx.Bucket([]byte(bucketReceipts))
	if b.total.n > 0 {
		if err := addTally(info, keyTotal, b.total, new(int64)); err != nil {
			return fmt.Errorf("count allows: %w", err)
		}
	}
	for profile, t := range b.allows {
		if err := addTally(allows, profile, t, &c.allows); err != nil {
			return fmt.Errorf("count allows: %w", err)
		}
	}
	for key, t := range b.receipts {
		if receipts.Get([]byte(key)) == nil {
			key = foldAgent(receipts, key)
		}
		if err := addTally(receipts, key, t, &c.receipts); err != nil {
			return fmt.Errorf("count fetches: %w", err)
		}
	}
	if err := evict(allows, &c.allows, j.opts.MaxProfiles); err != nil {
		return fmt.Errorf("forget old allow counts: %w", err)
	}
	if err := evict(receipts, &c.receipts, j.opts.MaxReceipts); err != nil {
		return fmt.Errorf("forget old receipts: %w", err)
	}
	return nil
}

func addTally(b *bbolt.Bucket, key string, more tally, rows *int64) error {
	raw := b.Get([]byte(key))
	if raw == nil {
		*rows++
	}
	t := decodeTally(raw)
	t.add(more)
	return b.Put([]byte(key), t.encode())
}

// foldAgent returns the key to count a fetch by: somebody who makes up user agents must not push out what others have fetched.
func foldAgent(b *bbolt.Bucket, key string) string {
	prefix := key[:strings.LastIndexByte(key, 0)+1]
	n, c := 0, b.Cursor()
	for k, _ := c.Seek([]byte(prefix)); bytes.HasPrefix(k, []byte(prefix)); k, _ = c.Next() {
		if n++; n >= agentsEach {
			return prefix + otherAgents
		}
	}
	return key
}

// evict removes a tenth of the rows, those not counted for the longest time, once there are more than limit.
func evict(b *bbolt.Bucket, rows *int64, limit int) error {
	if *rows <= int64(limit) {
		return nil
	}
	type row struct {
		key  []byte
		last int64
	}
	var all []row
	c := b.Cursor()
	for k, v := c.First(); k != nil; k, v = c.Next() {
		all = append(all, row{bytes.Clone(k), decodeTally(v).last})
	}
	slices.SortFunc(all, func(x, y row) int { return cmp.Compare(x.last, y.last) })
	excess := max(0, len(all)-(limit-limit/10))
	for _, r := range all[:excess] {
		if err := b.Delete(r.key); err != nil {
			return err
		}
	}
	*rows = int64(len(all) - excess)
	return nil
}

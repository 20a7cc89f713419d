package bolt

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"slices"
	"sync"
	"time"

	"go.etcd.io/bbolt"
)

const (
	bucketFacts   = "facts"   // number of a block, four octets -> the block
	shrinkAtOnce  = 16        // blocks that one flush removes or makes smaller
	bucketAllowed = "allowed" // where facts were kept one by one, before the first release
	factsPrefix   = "facts-"  // of the references that they had
)

// factsRing knows in which block the last decision on each set of facts is. It is made of what is on disk, and made again after whatever went wrong. It is held
// for writing from before a transaction that changes blocks until that is over, and for reading while blocks are read, so that the two always fit.
//
// What is recorded again leaves behind what it replaces. A block in which nothing counts any more goes at once; when there is no room, the one with the least
// that counts is written anew first, and only where all are at least half full does the oldest go: half of the room is always of what counts.
type factsRing struct {
	mu     sync.RWMutex
	loaded bool
	in     map[factsKey]uint32 // number of the block; 44 bytes for each, measured at a million
	blocks []blockState        // in the order of their numbers
	top    uint32              // the greatest number so far: readers go on by it
	bytes  int64
}

// blockState is what the ring knows of one block.
type blockState struct {
	number      uint32
	first, last int64
	heads, live int
	size        int64
}

func blockKey(number uint32) []byte { return binary.BigEndian.AppendUint32(nil, number) }

func factsBucket(tx *bbolt.Tx) *bbolt.Bucket { return tx.Bucket([]byte(bucketFacts)) }

// load reads the heads of all blocks. A block that is damaged is passed over, and goes when it is the oldest. The caller holds r.mu for writing.
func (r *factsRing) load(tx *bbolt.Tx) error {
	if r.loaded {
		return nil
	}
	r.in, r.blocks, r.bytes = map[factsKey]uint32{}, nil, 0
	err := factsBucket(tx).ForEach(func(k, v []byte) error {
		if len(k) != 4 {
			return fmt.Errorf("block of facts under a key of %d bytes: %w", len(k), errDamaged)
		}
		b, err := decodeBlock(v)
		if err != nil {
			b = factsBlock{}
		}
		r.enter(binary.BigEndian.Uint32(k), &b, int64(len(v)))
		return nil
	})
	r.loaded = err == nil
	return err
}

func (r *factsRing) find(number uint32) (int, bool) {
	return slices.BinarySearchFunc(r.blocks, number, func(b blockState, n uint32) int { return cmp.Compare(b.number, n) })
}

// enter takes up a block that the ring does not have. It returns the numbers of those in which nothing counts any more because of it.
func (r *factsRing) enter(number uint32, b *factsBlock, size int64) (empty []uint32) {
	i, _ := r.find(number)
	r.blocks = slices.Insert(r.blocks, i, blockState{number: number, first: b.first, last: b.last, heads: len(b.heads), size: size})
	r.bytes, r.top = r.bytes+size, max(r.top, number)
	for _, h := range b.heads {
		old, ok := r.in[h.key]
		if ok && old == number {
			continue
		}
		r.in[h.key] = number
		r.blocks[i].live++
		if !ok {
			continue
		}
		if at, found := r.find(old); found {
			if r.blocks[at].live--; r.blocks[at].live == 0 {
				empty = append(empty, old)
			}
		}
	}
	return empty
}

// leave takes a block out of the ring.
func (r *factsRing) leave(number uint32, b *factsBlock) {
	i, found := r.find(number)
	if !found {
		return
	}
	for _, h := range b.heads {
		if r.in[h.key] == number {
			delete(r.in, h.key)
		}
	}
	r.bytes -= r.blocks[i].size
	r.blocks = slices.Delete(r.blocks, i, i+1)
}

// read returns a block on disk; of one that is damaged, an empty one. It shares its memory with the transaction.
func (r *factsRing) read(tx *bbolt.Tx, number uint32) factsBlock {
	b, err := decodeBlock(factsBucket(tx).Get(blockKey(number)))
	if err != nil {
		return factsBlock{}
	}
	return b
}

// remains returns what of a block counts, in memory of its own.
func (r *factsRing) remains(number uint32, b *factsBlock) factsBlock {
	return b.only(func(k factsKey) bool { in, ok := r.in[k]; return ok && in == number })
}

// write puts blocks behind those that are there; a small one into the last.
func (r *factsRing) write(tx *bbolt.Tx, fresh []*factsBlock) error {
	for _, b := range fresh {
		number := r.top + 1
		if n := len(r.blocks); n > 0 {
			last := r.blocks[n-1]
			if last.size < smallBlock && b.size() < fullBlock {
				old := r.read(tx, last.number)
				joined := r.remains(last.number, &old)
				joined.append(b)
				r.leave(last.number, &old)
				number, b = last.number, &joined
			}
		}
		if err := r.put(tx, number, b); err != nil {
			return err
		}
	}
	return nil
}

// put writes a block that the ring does not have, and removes those in which nothing counts any more because of it.
func (r *factsRing) put(tx *bbolt.Tx, number uint32, b *factsBlock) error {
	bucket := factsBucket(tx)
	bucket.FillPercent = 0.9 // nearly always appended to
	if err := bucket.Put(blockKey(number), b.encode()); err != nil {
		return err
	}
	for _, n := range r.enter(number, b, int64(b.size())) {
		if err := bucket.Delete(blockKey(n)); err != nil {
			return err
		}
		r.leave(n, &factsBlock{})
	}
	return nil
}

// factsLimits are what the ring may hold.
type factsLimits struct {
	sets   int
	bytes  int64
	expiry int64 // nanoseconds since 1970: what is older goes
}

// tooMuch reports whether something has to go.
func (r *factsRing) tooMuch(l factsLimits) bool {
	return len(r.blocks) > 0 && (r.blocks[0].last < l.expiry || r.bytes > l.bytes || len(r.in) > l.sets)
}

// prune removes what is too old or too much, at most so many blocks. It returns how many sets of facts went before their time.
func (r *factsRing) prune(tx *bbolt.Tx, l factsLimits) (evicted uint64, err error) {
	for n := 0; n < shrinkAtOnce && r.tooMuch(l); n++ {
		oldest := r.blocks[0]
		if wasteful, ok := r.emptiest(); ok && oldest.last >= l.expiry && len(r.in) <= l.sets {
			if err := r.shrink(tx, wasteful); err != nil {
				return evicted, err
			}
			continue
		}
		if oldest.last >= l.expiry {
			evicted += uint64(oldest.live)
		}
		b := r.read(tx, oldest.number)
		r.leave(oldest.number, &b)
		if err := factsBucket(tx).Delete(blockKey(oldest.number)); err != nil {
			return evicted, err
		}
	}
	return evicted, nil
}

// emptiest returns the block of which the least counts, if that is less than half. The last one, which grows, is left alone.
func (r *factsRing) emptiest() (number uint32, ok bool) {
	var best blockState
	for _, b := range r.blocks[:len(r.blocks)-1] {
		if 2*b.live < b.heads && (best.heads == 0 || b.live*best.heads < best.live*b.heads) {
			best = b
		}
	}
	return best.number, best.heads > 0
}

// shrink writes a block anew with what counts of it.
func (r *factsRing) shrink(tx *bbolt.Tx, number uint32) error {
	old := r.read(tx, number)
	kept := r.remains(number, &old)
	r.leave(number, &old)
	return r.put(tx, number, &kept)
}

// forgetSingles removes what a program before the first release has kept one by one.
func forgetSingles(tx *bbolt.Tx) error {
	if tx.Bucket([]byte(bucketAllowed)) == nil {
		return nil
	}
	c := tx.Bucket([]byte(bucketReferences)).Cursor()
	for k, _ := c.Seek([]byte(factsPrefix)); len(k) >= len(factsPrefix) && string(k[:len(factsPrefix)]) == factsPrefix; k, _ = c.Seek([]byte(factsPrefix)) {
		if err := c.Delete(); err != nil {
			return err
		}
	}
	return tx.DeleteBucket([]byte(bucketAllowed))
}

// liveFacts is a decision that counts.
type liveFacts struct {
	block uint32
	head  factsHead
	at    int64
	frame []byte
}

// factsCursor goes forward through what counts since a time. The ring is held for reading as long as it is in use.
type factsCursor struct {
	ring  *factsRing
	tx    *bbolt.Tx
	since int64
	next  int // of ring.blocks
	from  factsPlace
	block []liveFacts // what is left of the block before next
}

// factsPlace is a place between two decisions: everything up to an ordinal of a block is before it.
type factsPlace struct {
	block   uint32 // 0 before all
	ordinal uint32
}

// seek returns a cursor behind a place.
func (r *factsRing) seek(tx *bbolt.Tx, since time.Time, from factsPlace) *factsCursor {
	i, _ := r.find(from.block)
	return &factsCursor{ring: r, tx: tx, since: since.UnixNano(), next: i, from: from}
}

// peek returns the decision that comes next, false at the end.
func (c *factsCursor) peek() (liveFacts, bool) {
	for len(c.block) == 0 {
		if c.next == len(c.ring.blocks) {
			return liveFacts{}, false
		}
		if state := c.ring.blocks[c.next]; state.last >= c.since && state.live > 0 {
			c.block = c.open(state.number)
		}
		c.next++
	}
	return c.block[0], true
}

func (c *factsCursor) advance() { c.block = c.block[1:] }

// open returns what counts of a block, from the place where the cursor began.
func (c *factsCursor) open(number uint32) (out []liveFacts) {
	b := c.ring.read(c.tx, number)
	b = c.ring.remains(number, &b)
	frames := b.frames
	for _, h := range b.heads {
		frame := frames[:h.size]
		frames = frames[h.size:]
		at, n := binary.Varint(frame)
		if n > 0 && at >= c.since && (number != c.from.block || h.ordinal > c.from.ordinal) {
			out = append(out, liveFacts{number, h, at, frame})
		}
	}
	return out
}

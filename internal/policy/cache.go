package policy

import (
	"container/list"
	"crypto/sha256"
	"hash/maphash"
	"math"
	"sync"
	"sync/atomic"
)

// Limits of what is remembered.
const (
	cacheShards    = 64
	cacheBytes     = 64 << 20 // by estimate: some 100,000 phones with five kinds of request each
	perCertificate = 16       // decisions about one certificate; a further one takes the place of the oldest
)

// cache remembers decisions under the digest of their facts, which a changed fact changes, until the first moment at which the clock could change them. It
// belongs to one engine, so a new policy begins with nothing.
//
// Only decisions about a certificate that the registry knows are kept, and each certificate has its own few places: whoever invents DeviceIds has none,
// and a phone that varies what it says of itself pushes out nothing but its own.
type cache struct {
	seed   maphash.Seed
	shards [cacheShards]cacheShard
	again  atomic.Uint64 // hits that who asks had kept himself
}

// cacheShard is a part of the cache, with a lock of its own that is held for the time of a look.
type cacheShard struct {
	mu           sync.Mutex
	places       map[certificateKey]*list.Element // of *place
	order        list.List                        // the certificate that asked last in front
	bytes        int
	hits, misses uint64
	_            [64]byte // not in the cache line of its neighbour
}

type certificateKey struct{ issuer, serial string }

// place holds the decisions about one certificate.
type place struct {
	key       certificateKey
	decisions []remembered
	next      int // to be replaced when all places are taken
	bytes     int
}

type remembered struct {
	digest      [sha256.Size]byte
	from, until int64 // Unix seconds: from <= now < until
	decision    Decision
}

// CacheStats say how much deciding the cache has saved since the policy was loaded.
type CacheStats struct {
	Hits, Misses uint64 // of decisions that may be remembered
	Again        uint64 // of the hits, those that did not ask, see Engine.UsedAgain
	Certificates int    // with a decision remembered
	Bytes        int    // by estimate
}

func newCache() *cache {
	c := &cache{seed: maphash.MakeSeed()}
	for i := range c.shards {
		c.shards[i].places = map[certificateKey]*list.Element{}
	}
	return c
}

func (c *cache) shard(k certificateKey) *cacheShard {
	return &c.shards[maphash.String(c.seed, k.serial)%cacheShards]
}

// get returns the decision under the digest if it holds at now, and until when.
func (c *cache) get(k certificateKey, digest *[sha256.Size]byte, now int64) (d Decision, until int64, ok bool) {
	s := c.shard(k)
	s.mu.Lock()
	defer s.mu.Unlock()
	if at, ok := s.places[k]; ok {
		p := at.Value.(*place)
		for i := range p.decisions {
			if r := &p.decisions[i]; r.from <= now && now < r.until && r.digest == *digest {
				s.hits++
				s.order.MoveToFront(at)
				return r.decision, r.until, true
			}
		}
	}
	s.misses++
	return Decision{}, 0, false
}

// put remembers a decision made at from until the time given.
func (c *cache) put(k certificateKey, r remembered) {
	size := r.size()
	s := c.shard(k)
	s.mu.Lock()
	defer s.mu.Unlock()
	at, ok := s.places[k]
	if !ok {
		p := &place{key: k, bytes: placeBytes + len(k.issuer) + len(k.serial)}
		at = s.order.PushFront(p)
		s.places[k] = at
		s.bytes += p.bytes
	}
	s.order.MoveToFront(at)
	p := at.Value.(*place)
	i := p.position(&r)
	if i == len(p.decisions) {
		p.decisions = append(p.decisions, r)
	} else {
		size -= p.decisions[i].size()
		p.decisions[i] = r
	}
	p.bytes += size
	s.bytes += size
	for s.bytes > cacheBytes/cacheShards && s.order.Len() > 1 {
		last := s.order.Back()
		gone := s.order.Remove(last).(*place)
		delete(s.places, gone.key)
		s.bytes -= gone.bytes
	}
}

// position returns where a decision goes: in place of one with the same digest or of one that has run out, to the end while there is room, and otherwise
// in place of the oldest.
func (p *place) position(r *remembered) int {
	for i := range p.decisions {
		if old := &p.decisions[i]; old.digest == r.digest || old.until <= r.from {
			return i
		}
	}
	if len(p.decisions) < perCertificate {
		return len(p.decisions)
	}
	p.next = (p.next + 1) % perCertificate
	return p.next
}

// What a place and a decision take beside their texts.
const (
	placeBytes    = 400
	decisionBytes = 200
)

func (r *remembered) size() int {
	n := decisionBytes
	for _, x := range r.decision.Reasons {
		n += decisionBytes + len(x.Code) + len(x.Text) + len(x.Rule) + len(x.Remedy)
		for k, v := range x.Facts {
			n += 64 + len(k) + len(v)
		}
	}
	return n
}

// stats adds the shards up.
func (c *cache) stats() CacheStats {
	again := c.again.Load()
	out := CacheStats{Hits: again, Again: again}
	for i := range c.shards {
		s := &c.shards[i]
		s.mu.Lock()
		out.Hits, out.Misses, out.Certificates, out.Bytes = out.Hits+s.hits, out.Misses+s.misses, out.Certificates+s.order.Len(), out.Bytes+s.bytes
		s.mu.Unlock()
	}
	return out
}

// holdsUntil returns until when a decision made at now may be used again: the end that it gives itself, or, where it may have read the clock without saying
// so, the end of the very second.
func (e *Engine) holdsUntil(d *Decision, now int64) int64 {
	end := d.ValidUntil
	if end == 0 {
		end = math.MaxInt64
	}
	if e.Restless(*d) {
		end = min(end, now+1)
	}
	return end
}

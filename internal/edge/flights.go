package edge

import (
	"hash/maphash"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"postern/internal/policy"
	"postern/internal/registry"
)

const flightShards = 16

// maxFlights is how many commands of one certificate may be under way. Exchange allows a user 4 (Exchange Online) or 10 at once by default, on all devices
// together; this is for a phone that has lost count, and must not be in the way of one with several apps and mailboxes.
const maxFlights = 64

// flight is a command that was allowed and has not ended.
type flight struct {
	request *request
	cancel  func(error)

	// Under the lock of its shard.
	engine   *policy.Engine
	until    time.Time // when to decide again by the clock alone; zero: never
	keys     [dependencies]string
	next     [dependencies]*flight // those with the same key, in no particular order
	previous [dependencies]*flight
	in       bool
	answered bool // the upstream's answer has begun
	over     bool // it has ended, or is being ended

	queued bool // under the lock of flights.queue
}

// dependency is something in the registry that a decision depends on, as registry.Change names it.
type dependency struct {
	kind registry.Kind
	id   string
}

// kinds are what a flight depends on, one of each; the first is its certificate.
var kinds = [...]registry.Kind{registry.KindCertificate, registry.KindDevice, registry.KindOwner, registry.KindProfile}

const dependencies = len(kinds)

// dependenciesOf are what a decision on these facts depends on, by kinds.
func dependenciesOf(s *situation) [dependencies]string {
	in := s.input
	return [...]string{s.named, in.Device.ID, in.Owner.Mail, in.Profile.ID}
}

// noCertificate is the first dependency of a command that came without one of ours.
const noCertificate = "/"

// flights holds the commands in flight by what they depend on. A flight is in the shard of its phone, so that phones seldom wait for each other; a change,
// which is rare, looks into all of them.
type flights struct {
	seed   maphash.Seed
	shards [flightShards]flightShard
	queue  doubts
	recent atomic.Int64 // the most that were in flight lately
}

type flightShard struct {
	mu    sync.Mutex
	byKey [dependencies]map[string]*flight // by kinds: the first of those with a key
	count int
	_     [64]byte // not in the cache line of its neighbour
}

func newFlights() *flights {
	fs := &flights{seed: maphash.MakeSeed(), queue: doubts{wake: make(chan struct{}, 1)}}
	for i := range fs.shards {
		for kind := range kinds {
			fs.shards[i].byKey[kind] = map[string]*flight{}
		}
	}
	return fs
}

func (fs *flights) shard(f *flight) *flightShard {
	name := f.request.conn.fingerprint
	if name == "" {
		name = f.request.remote
	}
	return &fs.shards[maphash.String(fs.seed, name)%flightShards]
}

// enter makes an allowed command findable under what its decision depends on. It reports false where its phone has too many under way.
func (fs *flights) enter(f *flight, keys *[dependencies]string, engine *policy.Engine, until time.Time) bool {
	s := fs.shard(f)
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case f.over:
		return true // it ended while it was decided again
	case !f.in && keys[0] != noCertificate && s.full(keys[0]):
		return false
	}
	f.engine, f.until = engine, until
	if f.in && f.keys == *keys {
		return true
	}
	s.remove(f)
	f.keys, f.in = *keys, true
	s.count++
	for i, k := range keys {
		first := s.byKey[i][k]
		if f.next[i] = first; first != nil {
			first.previous[i] = f
		}
		s.byKey[i][k] = f
	}
	return true
}

// full reports whether a certificate has as many commands under way as it may.
func (s *flightShard) full(certificate string) bool {
	n := 0
	for f := s.byKey[0][certificate]; f != nil && n < maxFlights; f = f.next[0] {
		n++
	}
	return n == maxFlights
}

// leave ends the watch over f, and reports whether it was on.
func (fs *flights) leave(f *flight) bool {
	s := fs.shard(f)
	s.mu.Lock()
	defer s.mu.Unlock()
	was := !f.over
	f.over = true
	s.remove(f)
	return was
}

// remove takes f out.
func (s *flightShard) remove(f *flight) {
	if !f.in {
		return
	}
	f.in = false
	s.count--
	for i, k := range f.keys {
		next, previous := f.next[i], f.previous[i]
		if next != nil {
			next.previous[i] = previous
		}
		switch {
		case previous != nil:
			previous.next[i] = next
		case next != nil:
			s.byKey[i][k] = next
		default:
			delete(s.byKey[i], k)
		}
	}
	f.next, f.previous = [dependencies]*flight{}, [dependencies]*flight{}
}

// begun notes that the answer to f has begun: from here on it can only be cut off.
func (fs *flights) begun(f *flight) {
	s := fs.shard(f)
	s.mu.Lock()
	f.answered = true
	s.mu.Unlock()
}

// suspect has everything that depends on key decided again.
func (fs *flights) suspect(key dependency) {
	kind := slices.Index(kinds[:], key.kind)
	if kind < 0 {
		return
	}
	for i := range fs.shards {
		s := &fs.shards[i]
		s.mu.Lock()
		for f := s.byKey[kind][key.id]; f != nil; f = f.next[kind] {
			fs.queue.put(f)
		}
		s.mu.Unlock()
	}
}

// suspectAll has everything decided again.
func (fs *flights) suspectAll() {
	fs.each(func(f *flight) { fs.queue.put(f) })
}

// each calls fn for every flight, under the lock of its shard, and returns how many there are.
func (fs *flights) each(fn func(*flight)) (n int) {
	for i := range fs.shards {
		s := &fs.shards[i]
		s.mu.Lock()
		n += s.count
		for _, f := range s.byKey[0] { // every flight has one, if only an empty one
			for ; f != nil; f = f.next[0] {
				fn(f)
			}
		}
		s.mu.Unlock()
	}
	return n
}

// waiting returns the commands whose answer has not begun.
func (fs *flights) waiting() []*flight {
	var out []*flight
	fs.each(func(f *flight) {
		if !f.answered {
			out = append(out, f)
		}
	})
	return out
}

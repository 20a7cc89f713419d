package edge

import (
	"hash/maphash"
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
	keys     [dependencies]dependency
	at       [dependencies]int // its position among those with the same key
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

// dependencies is how many a flight has; the first is its certificate.
const dependencies = 4

// dependenciesOf are what a decision on these facts depends on.
func dependenciesOf(in *policy.AccessInput) *[dependencies]dependency {
	return &[dependencies]dependency{{registry.KindCertificate, in.Certificate.Issuer + "/" + in.Certificate.Serial}, {registry.KindDevice, in.Device.ID},
		{registry.KindOwner, in.Owner.Mail}, {registry.KindProfile, in.Profile.ID}}
}

// noCertificate is the first dependency of a command that came without one of ours.
var noCertificate = dependency{registry.KindCertificate, "/"}

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
	byKey map[dependency][]*flight
	count int
	_     [64]byte // not in the cache line of its neighbour
}

func newFlights() *flights {
	fs := &flights{seed: maphash.MakeSeed(), queue: doubts{wake: make(chan struct{}, 1)}}
	for i := range fs.shards {
		fs.shards[i].byKey = map[dependency][]*flight{}
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
func (fs *flights) enter(f *flight, keys *[dependencies]dependency, engine *policy.Engine, until time.Time) bool {
	s := fs.shard(f)
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case f.over:
		return true // it ended while it was decided again
	case !f.in && keys[0] != noCertificate && len(s.byKey[keys[0]]) >= maxFlights:
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
		f.at[i] = len(s.byKey[k])
		s.byKey[k] = append(s.byKey[k], f)
	}
	return true
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

// remove takes f out. The last of those with the same key takes its position.
func (s *flightShard) remove(f *flight) {
	if !f.in {
		return
	}
	f.in = false
	s.count--
	for i, k := range f.keys {
		list := s.byKey[k]
		end := len(list) - 1
		last := list[end]
		list[f.at[i]], last.at[i] = last, f.at[i]
		list[end] = nil
		if end == 0 {
			delete(s.byKey, k)
		} else {
			s.byKey[k] = list[:end]
		}
	}
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
	for i := range fs.shards {
		s := &fs.shards[i]
		s.mu.Lock()
		for _, f := range s.byKey[key] {
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
		for k, list := range s.byKey {
			if k.kind != registry.KindCertificate {
				continue // every flight has one, if only an empty one
			}
			for _, f := range list {
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

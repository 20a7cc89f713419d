package scep

import (
	"context"
	"net/netip"
	"runtime"
	"sync"
	"sync/atomic"
	"time"
)

// Limits bound what requesters may ask of the door. A zero field has the default.
type Limits struct {
	Address Rate           // for each network address: an IPv4 address, or an IPv6 network of 64 bits
	Device  Rate           // for each device that enrols or renews; the same request again does not count
	Exempt  []netip.Prefix // addresses without a limit of their own: proxies in front, MDMs that enrol on behalf of devices. Loopback always is
	Workers int            // requests worked on at the same time
}

// Rate is a token bucket: so many at once, and so many a second in the long run.
type Rate struct {
	Burst     float64
	PerSecond float64
}

// The defaults. A certificate takes three or four requests; an office of phones shares one address.
func (l Limits) complete() Limits {
	if l.Address == (Rate{}) {
		l.Address = Rate{500, 50}
	}
	if l.Device == (Rate{}) {
		l.Device = Rate{100, 0.2}
	}
	if l.Workers <= 0 {
		l.Workers = 4 * runtime.GOMAXPROCS(0)
	}
	return l
}

// exempt reports whether an address has no limit.
func (l Limits) exempt(a netip.Addr) bool {
	if a.IsLoopback() {
		return true
	}
	for _, p := range l.Exempt {
		if p.Contains(a) {
			return true
		}
	}
	return false
}

// bucket is a token bucket; the zero value is full.
type bucket struct {
	spent float64
	last  time.Time
}

func (b *bucket) refill(r Rate, now time.Time) {
	if d := now.Sub(b.last).Seconds(); d > 0 {
		b.spent = max(0, b.spent-d*r.PerSecond)
		b.last = now
	}
}

// maxBuckets bounds the memory of a set of buckets, to some ten megabytes with the map around them.
const maxBuckets = 1 << 16

// buckets holds a token bucket for each of many. Where there are too many, the newcomers share one.
type buckets[K comparable] struct {
	rate   Rate
	mu     sync.Mutex
	all    map[K]*bucket
	shared bucket
	swept  time.Time
}

func newBuckets[K comparable](r Rate) *buckets[K] {
	return &buckets[K]{rate: r, all: map[K]*bucket{}}
}

// take takes one token. Where there is none, wait is how long until there is one.
func (s *buckets[K]) take(key K, now time.Time) (wait time.Duration, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	b := s.all[key]
	if b == nil {
		b = s.add(key, now)
	}
	b.refill(s.rate, now)
	if b.spent+1 > s.rate.Burst {
		if s.rate.PerSecond <= 0 {
			return time.Hour, false
		}
		return time.Duration((b.spent + 1 - s.rate.Burst) / s.rate.PerSecond * float64(time.Second)), false
	}
	b.spent++
	return 0, true
}

// add makes room by dropping buckets that are full again, once a second at most.
func (s *buckets[K]) add(key K, now time.Time) *bucket {
	if len(s.all) >= maxBuckets && now.Sub(s.swept) >= time.Second {
		s.swept = now
		for k, b := range s.all {
			if b.refill(s.rate, now); b.spent == 0 {
				delete(s.all, k)
			}
		}
	}
	if len(s.all) >= maxBuckets {
		return &s.shared
	}
	b := &bucket{last: now}
	s.all[key] = b
	return b
}

// addressKey is what shares a limit.
func addressKey(a netip.Addr) netip.Prefix {
	bits := 32
	if a = a.Unmap(); a.Is6() {
		bits = 64
	}
	p, _ := a.WithZone("").Prefix(bits) // these lengths fit
	return p
}

// How long a request may wait for its turn, and how many may: longer queues only make clients give up what is then still worked on.
const (
	maxQueueTime = 5 * time.Second
	queuePerSlot = 16
)

// slots bounds how many requests are worked on at the same time.
type slots struct {
	free    chan struct{}
	waiting atomic.Int64
}

func newSlots(n int) *slots { return &slots{free: make(chan struct{}, n)} }

// enter waits for a slot; false means that there is too much to do.
func (s *slots) enter(ctx context.Context) bool {
	select {
	case s.free <- struct{}{}:
		return true
	default:
	}
	defer s.waiting.Add(-1)
	if s.waiting.Add(1) > int64(queuePerSlot*cap(s.free)) {
		return false
	}
	t := time.NewTimer(maxQueueTime)
	defer t.Stop()
	select {
	case s.free <- struct{}{}:
		return true
	case <-t.C:
	case <-ctx.Done():
	}
	return false
}

func (s *slots) leave() { <-s.free }

// away gives the slot to somebody else while fn waits for a disk or for another service. Others have their slot for milliseconds, so it is soon back.
func (s *slots) away(fn func()) {
	s.leave()
	defer func() { s.free <- struct{}{} }()
	fn()
}

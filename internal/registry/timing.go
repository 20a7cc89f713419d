package registry

import (
	"sync"
	"time"
)

// timingBounds are the upper ends of the buckets of a Timing: a reaction is to take milliseconds, and a CRL a second.
var timingBounds = [...]time.Duration{time.Millisecond, 5 * time.Millisecond, 25 * time.Millisecond, 100 * time.Millisecond, 250 * time.Millisecond, 500 * time.Millisecond,
	time.Second, 2 * time.Second, 5 * time.Second, 15 * time.Second, time.Minute, 5 * time.Minute, time.Hour}

// Timing counts how long something took, for who watches the process. The zero value is ready; all methods may be called at the same time.
type Timing struct {
	mu      sync.Mutex
	buckets [len(timingBounds) + 1]uint64
	count   uint64
	sum     time.Duration
}

// Observe counts one duration; a negative one, of clocks that differ, counts as none.
func (t *Timing) Observe(d time.Duration) {
	d = max(d, 0)
	t.mu.Lock()
	defer t.mu.Unlock()
	i := 0
	for i < len(timingBounds) && d > timingBounds[i] {
		i++
	}
	t.buckets[i]++
	t.count++
	t.sum += d
}

// TimingCounts is what a Timing has counted. Buckets holds how many took at most so many seconds, as Prometheus wants it.
type TimingCounts struct {
	Count   uint64
	Sum     time.Duration
	Buckets map[float64]uint64
}

// Counts returns what was counted so far.
func (t *Timing) Counts() TimingCounts {
	t.mu.Lock()
	defer t.mu.Unlock()
	c := TimingCounts{Count: t.count, Sum: t.sum, Buckets: map[float64]uint64{}}
	n := uint64(0)
	for i, bound := range timingBounds {
		n += t.buckets[i]
		c.Buckets[bound.Seconds()] = n
	}
	return c
}

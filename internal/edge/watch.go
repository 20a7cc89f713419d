package edge

import (
	"context"
	"math/rand/v2"
	"strconv"
	"sync"
	"time"
)

const (
	reconsiderers = 4                      // goroutines that decide again
	tick          = 100 * time.Millisecond // how often the clock, the policy and the age of the index are looked at
)

// How phones that lost their command are asked back: after a while, and not all at once. A phone's next request may cost a handshake with the edge, one with
// Exchange and a look into its mailbox there.
const (
	returnAfter = 15 * time.Second
	returnRate  = 100 // phones a second that are asked back
	leastSpread = 30 * time.Second
	mostSpread  = 10 * time.Minute

	lingerRate = 400 // answers a second to phones whose long polls the upstream broke off together
	mostLinger = 20 * time.Second
)

// doubts are the flights that are to be decided again, in the order in which they came into doubt.
type doubts struct {
	mu   sync.Mutex
	list []*flight
	wake chan struct{}
}

// put queues f once.
func (d *doubts) put(f *flight) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if f.queued {
		return
	}
	f.queued = true
	d.list = append(d.list, f)
	d.poke()
}

func (d *doubts) poke() {
	select {
	case d.wake <- struct{}{}:
	default:
	}
}

// take returns a flight to be decided again, or nil. Changes from here on queue it anew.
func (d *doubts) take() *flight {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.list) == 0 {
		d.list = nil
		return nil
	}
	f := d.list[0]
	d.list[0] = nil
	d.list = d.list[1:]
	f.queued = false
	if len(d.list) > 0 {
		d.poke()
	}
	return f
}

// watch decides again whatever is in doubt: by a change in the registry, by the clock, by a new policy, or because the registry is not heard of.
func (e *Edge) watch(ctx context.Context) {
	var workers sync.WaitGroup
	for range reconsiderers {
		workers.Go(func() {
			for {
				select {
				case <-ctx.Done():
					return
				case <-e.flights.queue.wake:
				}
				for f := e.flights.queue.take(); f != nil; f = e.flights.queue.take() {
					e.reconsider(ctx, f)
				}
			}
		})
	}
	ticker := time.NewTicker(tick)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			workers.Wait()
			return
		case <-ticker.C:
			now, engine := e.now(), e.cfg.Policy.Load()
			stale := e.isStale(now)
			e.flights.count(e.flights.each(func(f *flight) {
				if stale || f.engine != engine || !f.until.IsZero() && !now.Before(f.until) {
					e.flights.queue.put(f)
				}
			}))
		}
	}
}

// count keeps the most that were in flight lately: it is forgotten by a hundredth a second.
func (fs *flights) count(n int) {
	was := fs.recent.Load()
	fs.recent.Store(max(int64(n), was-was/1000))
}

// comeBack is the Retry-After of a phone that is to come back: each gets another, so that all together come at returnRate.
func (e *Edge) comeBack(after time.Duration) string {
	spread := min(max(time.Duration(e.flights.recent.Load())*time.Second/returnRate, leastSpread), mostSpread)
	return strconv.Itoa(int((after + rand.N(spread)) / time.Second))
}

// linger holds the answer to a long poll that the upstream broke off for a moment, because it has broken off all others too, and not every phone minds
// Retry-After. It ends with ctx.
func (e *Edge) linger(ctx context.Context) {
	spread := min(time.Duration(e.flights.recent.Load())*time.Second/lingerRate, mostLinger)
	if spread < tick {
		return
	}
	timer := time.NewTimer(rand.N(spread))
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

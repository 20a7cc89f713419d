package edge

import (
	"context"
	"sync"
	"time"

	"postern/internal/policy"
)

const (
	reconsiderers = 4                      // goroutines that decide again
	tick          = 100 * time.Millisecond // how often the clock, the policy and the age of the index are looked at
)

// flight is a command that was allowed and has not ended.
type flight struct {
	request *request
	cancel  context.CancelCauseFunc

	// Under the lock of flights.
	engine   *policy.Engine
	until    time.Time // when to decide again by the clock alone; zero: never
	keys     []string
	queued   bool
	answered bool // the upstream's answer has begun
	over     bool // it has ended, or is being ended
}

// flights holds the commands in flight by what they depend on.
type flights struct {
	mu    sync.Mutex
	all   map[*flight]bool
	byKey map[string]map[*flight]bool // certificate/ISSUER/SERIAL, device/ID, owner/MAIL, profile/ID
	queue []*flight
	wake  chan struct{}
}

func newFlights() *flights {
	return &flights{all: map[*flight]bool{}, byKey: map[string]map[*flight]bool{}, wake: make(chan struct{}, 1)}
}

// enter makes an allowed command findable under what its decision depends on.
func (fs *flights) enter(f *flight, in *policy.AccessInput, engine *policy.Engine, until time.Time) {
	keys := []string{"certificate/" + in.Certificate.Issuer + "/" + in.Certificate.Serial, "device/" + in.Device.ID, "owner/" + in.Owner.Mail, "profile/" + in.Profile.ID}
	fs.mu.Lock()
	defer fs.mu.Unlock()
	if f.over {
		return // it ended while it was decided again
	}
	fs.remove(f)
	f.engine, f.until, f.keys = engine, until, keys
	fs.all[f] = true
	for _, k := range keys {
		if fs.byKey[k] == nil {
			fs.byKey[k] = map[*flight]bool{}
		}
		fs.byKey[k][f] = true
	}
}

// leave ends the watch over f, and reports whether it was on.
func (fs *flights) leave(f *flight) bool {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	was := !f.over
	f.over = true
	fs.remove(f)
	return was
}

func (fs *flights) remove(f *flight) {
	delete(fs.all, f)
	for _, k := range f.keys {
		delete(fs.byKey[k], f)
		if len(fs.byKey[k]) == 0 {
			delete(fs.byKey, k)
		}
	}
}

// begun notes that the answer to f has begun: from here on it can only be cut off.
func (fs *flights) begun(f *flight) {
	fs.mu.Lock()
	f.answered = true
	fs.mu.Unlock()
}

// suspect has everything that depends on key decided again.
func (fs *flights) suspect(key string) {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	for f := range fs.byKey[key] {
		fs.put(f)
	}
}

// suspectAll has everything decided again.
func (fs *flights) suspectAll() { fs.suspectIf(func(*flight) bool { return true }) }

func (fs *flights) suspectIf(doubt func(*flight) bool) {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	for f := range fs.all {
		if doubt(f) {
			fs.put(f)
		}
	}
}

// put queues f once.
func (fs *flights) put(f *flight) {
	if f.queued {
		return
	}
	f.queued = true
	fs.queue = append(fs.queue, f)
	select {
	case fs.wake <- struct{}{}:
	default:
	}
}

// take returns a flight to be decided again, or nil. Changes from here on queue it anew.
func (fs *flights) take() *flight {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	if len(fs.queue) == 0 {
		fs.queue = nil
		return nil
	}
	f := fs.queue[0]
	fs.queue[0] = nil
	fs.queue = fs.queue[1:]
	f.queued = false
	if len(fs.queue) > 0 {
		select {
		case fs.wake <- struct{}{}:
		default:
		}
	}
	return f
}

// waiting returns the commands whose answer has not begun.
func (fs *flights) waiting() []*flight {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	var out []*flight
	for f := range fs.all {
		if !f.answered {
			out = append(out, f)
		}
	}
	return out
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
				case <-e.flights.wake:
				}
				for f := e.flights.take(); f != nil; f = e.flights.take() {
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
			e.flights.suspectIf(func(f *flight) bool {
				return stale || f.engine != engine || !f.until.IsZero() && !now.Before(f.until)
			})
		}
	}
}

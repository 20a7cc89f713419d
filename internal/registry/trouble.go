package registry

import (
	"context"
	"sync"
	"time"
)

// writing remembers whether the store takes changes.
type writing struct {
	mu      sync.Mutex
	err     error
	since   time.Time
	failing int
}

// saw takes the result of a change that no rule refused and nobody gave up.
func (w *writing) saw(ctx context.Context, now time.Time, err error) {
	if err != nil && ctx.Err() != nil {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if err == nil {
		w.err, w.failing = nil, 0
		return
	}
	if w.failing == 0 {
		w.since = now
	}
	w.err = err
	w.failing++
}

// Unwritable returns since when the store takes no change, how many have failed, and why the last one did; a nil error once a change has succeeded. Those that a
// rule refuses do not count.
func (r *Registry) Unwritable() (since time.Time, failed int, err error) {
	r.writes.mu.Lock()
	defer r.writes.mu.Unlock()
	return r.writes.since, r.writes.failing, r.writes.err
}

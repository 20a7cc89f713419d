package revocation

import (
	"context"
	"errors"
	"time"

	"postern/internal/registry"
)

const (
	// Between two publications of a CA: the first change is signed at once, and while changes go on coming the pace slows down to the last, so that ten thousand
	// revocations make a handful of deltas and the last of them still comes within two seconds.
	pace       = 300 * time.Millisecond
	lastPace   = 1200 * time.Millisecond
	firstRetry = 200 * time.Millisecond
	lastRetry  = 10 * time.Second
	patience   = time.Minute // between two looks at the clock, which may be set
)

// run publishes until ctx ends or the registry is closed.
func (a *authority) run(ctx context.Context, finish func(context.Context, registry.PublishRequest) error) {
	if a.imported {
		a.mirror(ctx)
		return
	}
	retry, wait := firstRetry, pace
	for ctx.Err() == nil {
		began := time.Now()
		rev, next, err := a.step(ctx, finish)
		switch {
		case errors.Is(err, registry.ErrClosed):
			return
		case err != nil && ctx.Err() == nil:
			if retry == firstRetry || retry == lastRetry {
				a.log.ErrorContext(ctx, "cannot publish a CRL, the old ones stay", "error", err)
			}
			_ = sleep(ctx, retry) // ends early with ctx
			retry = min(2*retry, lastRetry)
			continue
		}
		retry = firstRetry
		idle := next.After(a.now()) // nothing had to be published
		if idle {
			wait = pace
		}
		if a.rest(ctx, rev, next, began.Add(wait)); !idle {
			wait = min(2*wait, lastPace)
		}
	}
}

// rest waits until something changed after rev or it is time for the next scheduled publication, and after a publication at least until the pace allows
// another one, which is at allowed.
func (a *authority) rest(ctx context.Context, rev registry.Revision, next, allowed time.Time) {
	if !next.After(a.now()) { // something was published
		if sleep(ctx, time.Until(allowed)) != nil {
			return
		}
	}
	wait := patience
	if d := next.Sub(a.now()); d > 0 {
		wait = min(d, wait)
	} else {
		wait = 0
	}
	wctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	// Whatever comes first, a change or the time, the next step finds out what there is to do. An error other than time shows there too.
	_, _ = a.registry.Store().Wait(wctx, rev)
}

// sleep waits for d or until ctx ends.
func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

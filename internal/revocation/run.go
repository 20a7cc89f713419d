package revocation

import (
	"context"
	"errors"
	"time"

	"postern/internal/registry"
)

const (
	pace       = 300 * time.Millisecond // between two publications of a CA: the first change is signed at once, a flood of them together
	firstRetry = 200 * time.Millisecond
	lastRetry  = 10 * time.Second
	patience   = time.Minute // between two looks at the clock, which may be set
)

// run publishes until ctx ends or the registry is closed.
func (a *authority) run(ctx context.Context, finish func(context.Context, registry.PublishRequest) error) {
	if a.imported {
		a.follow(ctx)
		return
	}
	retry := firstRetry
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
		a.rest(ctx, rev, next, began)
	}
}

// rest waits until something changed after rev or it is time for the next scheduled publication, and at least until the pace allows another one.
func (a *authority) rest(ctx context.Context, rev registry.Revision, next, began time.Time) {
	if !next.After(a.now()) { // something was published
		if sleep(ctx, pace-time.Since(began)) != nil {
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

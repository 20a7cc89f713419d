package scep

import (
	"context"
	"errors"
	"time"

	"postern/internal/registry"
	"postern/internal/trust"
)

// How long a certificate may be owed to its validator before the door tells it again by itself, and before it is taken back untold. By then no client
// that repeats its request can have it.
const (
	tellAfter     = 5 * time.Minute
	withdrawAfter = registry.RetryWindow
	tidyEvery     = time.Minute
	tidyAtOnce    = 100
)

// Run tidies up until ctx ends: pending requests that expired, and certificates of which a validator could not be told because the process died.
func (d *Door) Run(ctx context.Context) error {
	t := time.NewTicker(tidyEvery)
	defer t.Stop()
	for {
		if err := d.tidy(ctx); err != nil && ctx.Err() == nil {
			d.cfg.Log.ErrorContext(ctx, "SCEP requests cannot be tidied up", "error", err)
		}
		select {
		case <-t.C:
		case <-ctx.Done():
			return nil
		}
	}
}

func (d *Door) tidy(ctx context.Context) error {
	_, err := d.cfg.Registry.SweepPending(ctx, trust.Principal{Kind: "scep", Name: "door"}, tidyAtOnce)
	if err != nil {
		return err
	}
	now := d.cfg.Now()
	owed, err := d.cfg.Registry.UnconfirmedBefore(ctx, now.Add(-tellAfter), tidyAtOnce)
	for _, o := range owed {
		if d.issuers[o.Issuer] == nil {
			continue // of another node
		}
		err = errors.Join(err, d.tellLate(ctx, o, now))
	}
	return err
}

// tellLate tells a validator of a certificate that nobody came back for, or takes it back.
func (d *Door) tellLate(ctx context.Context, o registry.Confirmation, now time.Time) error {
	if d.validator(o.Issuer, o.Validator) == nil || now.Sub(o.At) > withdrawAfter {
		return d.cfg.Registry.Withdraw(ctx, trust.Principal{Kind: "scep", Name: o.Issuer}, o.Issuer, o.Serial, o.Validator+" was not told of it in time")
	}
	c, err := d.cfg.Registry.Certificate(ctx, o.Issuer, o.Serial)
	if err != nil {
		return err
	}
	return d.tell(ctx, o, c)
}

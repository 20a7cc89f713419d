package revocation

import (
	"context"
	"errors"
	"fmt"
	"math/big"
	"time"

	"postern/internal/ca"
	"postern/internal/registry"
	"postern/internal/trust"
)

// errClock: the clock is behind what was published. Nothing is signed then: a thisUpdate that goes back would be refused, or worse, believed.
var errClock = errors.New("the clock is wrong")

// draft is a pair in the making.
type draft struct {
	known []registry.CRL // what the registry has
	after uint64         // the greatest number in it, for compare-and-swap
	floor uint64         // numbers must be greater
	last  time.Time      // thisUpdate must not be earlier
	old   *pair          // what the world has; nil for nothing
	next  pair
	fresh []*signed // those of next that are new, in order of their numbers

	covers  registry.Revision // of what was signed last
	expired []ca.Entry        // what a new base leaves out, in order of serial numbers
	ends    []uint32          // of the entries of a new base
}

// publish signs, checks, commits and serves a new delta, and a new base before it if asked. A publication by somebody else meanwhile is taken into
// account by starting over.
func (a *authority) publish(ctx context.Context, base bool) error {
	const tries = 5
	var err error
	for range tries {
		if err = a.attempt(ctx, base); !errors.Is(err, trust.ErrConflict) {
			return err
		}
		a.log.InfoContext(ctx, "another publisher was faster", "error", err)
	}
	return err
}

func (a *authority) attempt(ctx context.Context, base bool) error {
	known, err := a.registry.CRLs(ctx, a.name, a.id)
	if err != nil {
		return err
	}
	a.adopt(ctx, known)
	if err := a.follow(ctx, known); err != nil {
		return err
	}
	d := &draft{known: known, after: greatestNumber(known), old: a.served.Load(), last: a.last}
	d.floor = max(d.after, a.floor)
	for _, c := range known {
		d.rise(c)
	}
	if d.old != nil {
		d.next = *d.old
		d.rise(d.old.base.record)
		if d.old.delta != nil {
			d.rise(d.old.delta.record)
		}
	}
	if base || d.old == nil {
		if err := a.signBase(ctx, d); err != nil {
			return err
		}
		// A delta must have a later thisUpdate than its base, and what changes while we wait is in it.
		if err := a.passSecond(ctx, d.last); err != nil {
			return err
		}
		if err := a.follow(ctx, known); err != nil {
			return err
		}
	}
	if err := a.signDelta(ctx, d); err != nil {
		return err
	}
	if err := a.distrust(ctx, d); err != nil {
		return err
	}
	return a.commit(ctx, d)
}

// rise makes the draft's numbers and times follow those of c.
func (d *draft) rise(c registry.CRL) {
	d.floor = max(d.floor, c.Number)
	if c.ThisUpdate.After(d.last) {
		d.last = c.ThisUpdate
	}
}

// clock returns thisUpdate for a CRL signed now.
func (a *authority) clock(d *draft) (time.Time, error) {
	now := a.now().UTC().Truncate(time.Second)
	if now.Before(d.last) {
		return now, fmt.Errorf("%w: it is %s, and a CRL was published at %s", errClock, now.Format(time.RFC3339), d.last.Format(time.RFC3339))
	}
	return now, nil
}

// passSecond waits until the clock shows a later second than t.
func (a *authority) passSecond(ctx context.Context, t time.Time) error {
	for {
		d := t.Truncate(time.Second).Add(time.Second).Sub(a.now())
		if d <= 0 {
			return nil
		}
		if d > 2*time.Second {
			return fmt.Errorf("%w: it went back by %s", errClock, d)
		}
		if err := sleep(ctx, d); err != nil {
			return err
		}
	}
}

// number returns the next number of the CA: the sequence follows the clock where it can, so that it rises also after a loss of all records.
func (d *draft) number(now time.Time) uint64 {
	n := d.floor + 1
	if s := now.Unix(); s > 0 {
		n = max(n, uint64(s))
	}
	return n
}

// signBase signs a base CRL of everything that is listed.
func (a *authority) signBase(ctx context.Context, d *draft) error {
	now, err := a.clock(d)
	if err != nil {
		return err
	}
	c, err := a.ledger.complete(newest(d.known, registry.Base))
	if err != nil {
		return err
	}
	d.covers, d.expired = a.ledger.at, c.expired
	d.next.base, err = a.sign(ctx, d, ca.CRL{Number: new(big.Int).SetUint64(d.number(now)), ThisUpdate: now, NextUpdate: now.Add(a.schedule.BaseLifetime),
		NextPublish: now.Add(a.schedule.BaseEvery), Entries: c.entries, FreshestURL: a.issuer.Spec().DeltaURL(a.id)})
	d.ends = c.ends
	return err
}

// signDelta signs a delta CRL of every change since the oldest base that may be cached.
func (a *authority) signDelta(ctx context.Context, d *draft) error {
	now, err := a.clock(d)
	if err != nil {
		return err
	}
	known := d.known
	if len(d.fresh) > 0 {
		known = append(known[:len(known):len(known)], d.fresh[0].record)
	}
	base, ok := a.schedule.reference(known, now)
	if !ok {
		return errors.New("sign delta CRL: every base CRL has expired")
	}
	entries, err := a.ledger.since(base.Covers)
	if err != nil {
		return err
	}
	d.covers = a.ledger.at
	d.next.delta, err = a.sign(ctx, d, ca.CRL{Number: new(big.Int).SetUint64(d.number(now)), ThisUpdate: now, NextUpdate: now.Add(a.schedule.DeltaLifetime),
		NextPublish: now.Add(a.schedule.DeltaEvery), BaseNumber: new(big.Int).SetUint64(base.Number), Entries: entries})
	return err
}

// sign signs a CRL and adds it to the draft. Package ca has read it back then, verified it and compared it with c.
func (a *authority) sign(ctx context.Context, d *draft, c ca.CRL) (*signed, error) {
	l, err := a.signCRL(ctx, a.id, c)
	if err != nil {
		return nil, err
	}
	s, err := a.signedOf(l)
	if err != nil {
		return nil, err
	}
	s.record.Covers = d.covers
	d.rise(s.record)
	d.fresh = append(d.fresh, s)
	return s, nil
}

// distrust compares the signed pair with itself and with what the world has.
func (a *authority) distrust(ctx context.Context, d *draft) error {
	base, delta := d.next.base.record, d.next.delta.record
	switch {
	case base.Kind != registry.Base || delta.Kind != registry.Delta:
		return errors.New("check CRLs: base and delta are mixed up")
	case delta.BaseNumber > base.Number || base.Number >= delta.Number || !base.ThisUpdate.Before(delta.ThisUpdate):
		return fmt.Errorf("check CRLs: base %d and delta %d cannot be combined", base.Number, delta.Number)
	case d.old != nil && delta.Number <= d.old.base.record.Number, d.old != nil && d.old.delta != nil && delta.Number <= d.old.delta.record.Number:
		return fmt.Errorf("check CRLs: number %d does not rise", delta.Number)
	}
	return a.explain(ctx, d)
}

// commit makes the pair the published one.
func (a *authority) commit(ctx context.Context, d *draft) error {
	records := make([]registry.CRL, 0, len(d.fresh))
	for _, s := range d.fresh {
		if err := a.files.save(s); err != nil {
			return err
		}
		records = append(records, s.record)
	}
	if err := a.registry.CommitCRLs(ctx, principal(), d.after, records...); err != nil {
		return err
	}
	for _, s := range d.fresh {
		s.since = a.now()
		a.log.InfoContext(ctx, "published a CRL", "kind", s.record.Kind, "number", s.record.Number, "entries", s.record.Entries, "covers", s.record.Covers)
	}
	if d.ends != nil {
		a.ledger.fold(d.next.base.entries, d.ends, d.next.base.record.Covers)
	}
	a.served.Store(&d.next)
	for _, s := range d.fresh {
		if err := a.files.serve(s); err != nil {
			a.log.ErrorContext(ctx, "CRL is served from memory only", "error", err)
		}
	}
	if err := a.files.tidy(d.next.base, d.next.delta); err != nil {
		a.log.WarnContext(ctx, "old CRLs stay on disk", "error", err)
	}
	return nil
}

package revocation

import (
	"context"
	"crypto/x509"
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
	gone  map[trust.Serial]bool
	next  pair
	fresh []*signed // those of next that are new, in order of their numbers
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
	d := &draft{known: known, after: greatestNumber(known), old: a.served.Load(), gone: map[trust.Serial]bool{}, last: a.last}
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
	}
	if err := a.signDelta(ctx, d); err != nil {
		return err
	}
	if err := a.distrust(d); err != nil {
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
	all, covers, err := a.registry.Listed(ctx, a.name, a.id)
	if err != nil {
		return err
	}
	entries, expired := baseContent(all, newest(d.known, registry.Base), now)
	d.gone = expired
	told, err := a.keep(ctx, d, listingOf(entries), nil, now)
	if err != nil {
		return err
	}
	entries = append(entries, told...)
	sortEntries(entries)
	d.next.base, err = a.sign(ctx, d, covers, ca.CRL{Number: new(big.Int).SetUint64(d.number(now)), ThisUpdate: now, NextUpdate: now.Add(a.schedule.BaseLifetime),
		NextPublish: now.Add(a.schedule.BaseEvery), Entries: entries, FreshestURL: a.issuer.Spec().DeltaURL(a.id)})
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
	base, ok := oldestBase(known, now)
	if !ok {
		return errors.New("sign delta CRL: every base CRL has expired")
	}
	changes, covers, err := a.registry.RevokedSince(ctx, a.name, a.id, base.Covers)
	if err != nil {
		return err
	}
	entries := deltaContent(changes, now)
	told, err := a.keep(ctx, d, d.next.base.content, listingOf(entries), now)
	if err != nil {
		return err
	}
	entries = append(entries, told...)
	sortEntries(entries)
	d.next.delta, err = a.sign(ctx, d, covers, ca.CRL{Number: new(big.Int).SetUint64(d.number(now)), ThisUpdate: now, NextUpdate: now.Add(a.schedule.DeltaLifetime),
		NextPublish: now.Add(a.schedule.DeltaEvery), BaseNumber: new(big.Int).SetUint64(base.Number), Entries: entries})
	return err
}

// sign signs a CRL, reads back what was signed and adds it to the draft.
func (a *authority) sign(ctx context.Context, d *draft, covers registry.Revision, c ca.CRL) (*signed, error) {
	der, err := a.issuer.SignCRL(ctx, a.id, c)
	if err != nil {
		return nil, err
	}
	s, err := readCRL(der, a.name, a.id, a.cert)
	if err != nil {
		return nil, fmt.Errorf("read back what was signed: %w", err)
	}
	var base uint64
	if c.BaseNumber != nil {
		base = c.BaseNumber.Uint64()
	}
	if s.record.Number != c.Number.Uint64() || s.record.BaseNumber != base || !s.record.ThisUpdate.Equal(c.ThisUpdate) || !s.record.NextUpdate.Equal(c.NextUpdate) {
		return nil, errors.New("read back what was signed: another number or time")
	}
	for _, e := range c.Entries {
		if got, ok := s.content[trust.SerialOf(e.SerialNumber)]; !ok || got.ReasonCode != e.ReasonCode {
			return nil, fmt.Errorf("read back what was signed: %x is missing", e.SerialNumber)
		}
	}
	s.record.Covers = covers
	d.rise(s.record)
	d.fresh = append(d.fresh, s)
	return s, nil
}

// keep returns entries for serial numbers that the world was told are revoked and that base and delta would not list, without a release or an expiry to
// explain it: a registry that was restored from an old backup must not un-revoke. The explained ones are noted in the draft.
func (a *authority) keep(ctx context.Context, d *draft, base, delta listing, now time.Time) (told []x509.RevocationListEntry, err error) {
	oldBase, oldDelta := d.old.listings()
	candidates := vanished(oldBase, oldDelta, base, delta, d.old != nil && d.next.base == d.old.base && delta != nil)
	if delta != nil {
		candidates = append(candidates, dropped(oldDelta, base, delta)...)
	}
	var since map[trust.Serial]trust.Revocation // what changed after the old pair
	for _, s := range candidates {
		if d.gone[s] {
			continue
		}
		if e, ok := delta[s]; ok && e.ReasonCode == removed {
			d.gone[s] = true
			continue
		}
		if since == nil {
			changes, _, err := a.registry.RevokedSince(ctx, a.name, a.id, d.old.covers())
			if err != nil {
				return nil, err
			}
			since = lastChanges(changes)
		}
		if since[s].Reason == trust.RemoveFromCRL {
			d.gone[s] = true
			continue
		}
		switch c, err := a.registry.Certificate(ctx, a.name, s); {
		case err != nil && !errors.Is(err, trust.ErrNotFound):
			return nil, err
		case err == nil && now.After(c.NotAfter):
			d.gone[s] = true
			continue
		case err == nil && (c.Status == trust.Revoked || c.Status == trust.Held):
			if _, still := base[s]; still {
				continue // every base to which this delta can be applied has it
			}
		}
		e, _ := listed(oldBase, oldDelta, s)
		a.log.ErrorContext(ctx, "the registry has forgotten a revocation that was published: it stays listed", "serial", s)
		told = append(told, e)
	}
	return told, nil
}

// dropped returns what the old delta lists as revoked, and the new one no longer mentions although the base has it: right if the change is older than
// the base of the delta, and not if the registry does not know of it, for then an older base does not have it.
func dropped(oldDelta, base, delta listing) (out []trust.Serial) {
	for s, e := range oldDelta {
		_, inBase := base[s]
		if _, in := delta[s]; !in && inBase && e.ReasonCode != removed {
			out = append(out, s)
		}
	}
	return out
}

// distrust compares the signed pair with itself and with what the world has.
func (a *authority) distrust(d *draft) error {
	base, delta := d.next.base.record, d.next.delta.record
	switch {
	case base.Kind != registry.Base || delta.Kind != registry.Delta:
		return errors.New("check CRLs: base and delta are mixed up")
	case delta.BaseNumber > base.Number || base.Number >= delta.Number || !base.ThisUpdate.Before(delta.ThisUpdate):
		return fmt.Errorf("check CRLs: base %d and delta %d cannot be combined", base.Number, delta.Number)
	case d.old != nil && delta.Number <= d.old.base.record.Number, d.old != nil && d.old.delta != nil && delta.Number <= d.old.delta.record.Number:
		return fmt.Errorf("check CRLs: number %d does not rise", delta.Number)
	}
	oldBase, oldDelta := d.old.listings()
	for _, s := range vanished(oldBase, oldDelta, d.next.base.content, d.next.delta.content, d.old != nil && d.old.base == d.next.base) {
		if !d.gone[s] {
			return fmt.Errorf("check CRLs: %s vanished without release or expiry", s)
		}
	}
	return nil
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

package revocation

import (
	"context"
	"errors"
	"fmt"

	"postern/internal/ca"
	"postern/internal/registry"
	"postern/internal/trust"
)

// follow brings the ledger up to the registry's state, given the CRLs that it knows: by what has changed since, or from the beginning if there is no ledger, or
// it is not of this registry's history or not deep enough for a delta.
func (a *authority) follow(ctx context.Context, known []registry.CRL) error {
	floor, bounded := a.floorOf(known)
	if a.ledger != nil && (!bounded || a.ledger.floor <= floor) {
		changes, rev, err := a.registry.RevokedSince(ctx, a.name, a.id, a.ledger.at)
		if err != nil {
			return err
		}
		if rev >= a.ledger.at {
			if err := a.ledger.apply(changes, rev, a.now()); err != nil {
				return err
			}
			if bounded {
				return a.ledger.raise(floor)
			}
			return nil
		}
		a.log.WarnContext(ctx, "the registry went back: it was restored from a backup", "revision", rev, "known", a.ledger.at)
		a.restored = true
	}
	var err error
	a.ledger, err = a.readLedger(ctx, floor, bounded)
	return err
}

// floorOf returns the revision after which every change has to be known one by one: what the base covers to which deltas refer, or if none is
// valid, the newest. Without any base there is no bound.
func (a *authority) floorOf(known []registry.CRL) (floor registry.Revision, bounded bool) {
	base, ok := a.schedule.reference(known, a.now())
	if !ok {
		base = newest(known, registry.Base)
	}
	return base.Covers, base.Number != 0
}

// readLedger reads what the registry lists, which takes a few seconds for a million.
func (a *authority) readLedger(ctx context.Context, floor registry.Revision, bounded bool) (*ledger, error) {
	l := new(ledger)
	var raw []byte
	var last []byte
	var stray []change        // what does not come in order: serial numbers of fewer octets than others
	var rev registry.Revision // what changes after it is applied below, seen or not
	err := a.registry.Store().View(ctx, func(r registry.Reader) error { rev = r.Revision(); return nil })
	if err != nil {
		return nil, err
	}
	var bad error
	err = a.registry.EachListed(ctx, a.name, a.id, func(r trust.Revocation) bool {
		var c change
		if c, bad = encode(r, a.now()); bad != nil {
			return false
		}
		l.latest = max(l.latest, c.revision)
		if ca.CompareSerials(last, c.serial()) >= 0 {
			stray = append(stray, c)
			return true
		}
		raw, l.ends, last = append(raw, c.entry...), append(l.ends, c.end), c.serial()
		return true
	})
	if err = errors.Join(err, bad); err != nil {
		return nil, err
	}
	if l.list, err = ca.ReadEntries(raw); err != nil {
		return nil, err
	}
	if len(stray) > 0 {
		l.recent = sortChanges(stray)
		c, err := l.complete(registry.CRL{})
		if err != nil {
			return nil, err
		}
		l.list, l.ends, l.recent = c.entries, c.ends, nil
	}
	if !bounded || floor > rev {
		floor = rev
	}
	l.floor, l.folded = floor, rev
	changes, rev, err := a.registry.RevokedSince(ctx, a.name, a.id, floor)
	if err != nil {
		return nil, err
	}
	if err := l.apply(changes, rev, a.now()); err != nil {
		return nil, fmt.Errorf("read revocations: %w", err)
	}
	return l, nil
}

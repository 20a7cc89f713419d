package revocation

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"math/big"
	"slices"

	"postern/internal/ca"
	"postern/internal/registry"
	"postern/internal/trust"
)

// What the world was told is revoked stays revoked, also when the registry was restored from a backup of before: the CRLs that were published last are merged
// back into it before anything is served or signed. It shows by a number on disk that is greater than all it knows, or by a revision that goes back.

// restore takes up what the published pair says and the registry does not know, and makes outstanding challenges void: one that was spent since the backup looks
// as if it had not been. Doing it again changes nothing more.
func (a *authority) restore(ctx context.Context, told *pair) error {
	known, err := a.registry.CRLs(ctx, a.name, a.id)
	if err != nil {
		return err
	}
	if err := a.follow(ctx, known); err != nil {
		return err
	}
	if err := a.registry.VoidChallenges(ctx, principal(), "the registry was restored from a backup of before CRLs that are published"); err != nil {
		return err
	}
	// Bases that were published since the backup, and then replaced, may be cached: deltas have to fit those too.
	if err := a.registry.KeepBases(ctx, principal(), a.name, a.id, a.now().Add(a.schedule.BaseLifetime)); err != nil {
		return err
	}
	if told != nil && told.base != nil && told.base.record.Number > greatestNumber(known) {
		if err := a.restoreBase(ctx, told, known); err != nil {
			return err
		}
	}
	if told != nil && told.delta != nil {
		if err := a.restoreDelta(ctx, told.delta.entries); err != nil {
			return err
		}
	}
	a.restored = false
	return nil
}

// restoreBase makes the base known again: relying parties have it, and the next delta must be one that they can put on it. A hold that it lists and the delta
// after it has ended was told, and so was its end: it is no hold any more.
func (a *authority) restoreBase(ctx context.Context, told *pair, known []registry.CRL) error {
	base := told.base
	unsaid := a.ledger.unsaid(base.entries, endOf(base.record.ThisUpdate))
	forgotten := slices.DeleteFunc(a.ledger.forgotten(base.entries), func(e ca.Entry) bool { return e.Reason() == onHold && told.ended(e.Serial()) })
	if err := a.mergeBack(ctx, forgotten); err != nil {
		return err
	}
	if err := a.follow(ctx, known); err != nil {
		return err
	}
	r := base.record
	r.Covers = a.ledger.at
	if err := a.registry.CommitCRLs(ctx, principal(), greatestNumber(known), r); err != nil && !errors.Is(err, trust.ErrConflict) {
		return err
	}
	return a.registry.Retell(ctx, principal(), a.name, a.id, serialsOf(unsaid))
}

// restoreDelta makes the next delta speak of everything that the last one did. It said wherein the bases differ that may be cached, among them such as the
// registry has forgotten: what it knows as a hold of long ago may be missing on one of them, because it was released and held again. And a revocation that
// was first told by a delta has to come to be on a base (RFC 5280, section 5.2.4), whatever an earlier base told of the same certificate.
func (a *authority) restoreDelta(ctx context.Context, told ca.Entries) error {
	var forgotten, again []ca.Entry
	for e := range told.All() {
		_, listed := a.ledger.find(e.Serial())
		if e.Removed() && !listed || !e.Removed() && a.ledger.less(e) {
			forgotten = append(forgotten, e)
		} else { // also a hold whose end is lost
			again = append(again, e)
		}
	}
	if err := a.mergeBack(ctx, forgotten); err != nil {
		return err
	}
	return a.registry.Retell(ctx, principal(), a.name, a.id, serialsOf(again))
}

// mergeBack takes up entries of published CRLs that the registry knows nothing of.
func (a *authority) mergeBack(ctx context.Context, entries []ca.Entry) error {
	told := make([]registry.Told, 0, len(entries))
	for _, e := range entries {
		told = append(told, registry.Told{Serial: serialOf(e), Reason: trust.ReasonOf(e.Reason()), At: e.At()})
	}
	n, err := a.registry.MergeBack(ctx, principal(), a.name, a.id, a.cert.NotAfter, told)
	if n > 0 {
		a.log.ErrorContext(ctx, "the registry had forgotten revocations that were published: they stay revoked", "revocations", n)
	}
	return err
}

func serialOf(e ca.Entry) trust.Serial { return trust.SerialOf(new(big.Int).SetBytes(e.Serial())) }

// octetsOf is the serial number as entries have it, see ca.Entry.Serial.
func octetsOf(s trust.Serial) []byte {
	raw := s.Int().Bytes()
	if len(raw) > 0 && raw[0] >= 0x80 {
		return append([]byte{0}, raw...)
	}
	return raw
}

func serialsOf(entries []ca.Entry) []trust.Serial {
	out := make([]trust.Serial, 0, len(entries))
	for _, e := range entries {
		out = append(out, serialOf(e))
	}
	return out
}

// explain looks suspects up in the registry itself, and merges back those that it has forgotten; then the draft has to be made anew. What the registry lists and
// has not expired should have been in the draft: that is an error of ours, and nothing is published.
func (a *authority) explain(ctx context.Context, d *draft) error {
	suspects := d.suspects(a.ledger)
	if len(suspects) == 0 {
		return nil
	}
	listed, err := a.registry.RevocationsOf(ctx, a.name, a.id, serialsOf(suspects))
	if err != nil {
		return err
	}
	changes, _, err := a.registry.RevokedSince(ctx, a.name, a.id, d.old.covers())
	if err != nil {
		return err
	}
	released := map[trust.Serial]bool{}
	for _, c := range changes {
		released[c.Serial] = c.Reason == trust.RemoveFromCRL
	}
	var forgotten []ca.Entry
	for _, e := range suspects {
		s := serialOf(e)
		r, known := listed[s]
		switch {
		case known && d.next.base.record.ThisUpdate.After(r.NotAfter), !known && released[s]:
		case known && registry.Revision(r.Revision) <= d.covers:
			return fmt.Errorf("check CRLs: %s vanished without release or expiry", s)
		case known: // it changed since the draft was made: in the next one it is
			return fmt.Errorf("%s has changed meanwhile: %w", s, trust.ErrConflict)
		default:
			forgotten = append(forgotten, e)
		}
	}
	if len(forgotten) == 0 {
		return nil
	}
	if err := a.mergeBack(ctx, forgotten); err != nil {
		return err
	}
	return fmt.Errorf("%d published revocations were merged back into the registry: %w", len(forgotten), trust.ErrConflict)
}

// hash names a CRL in its record and on disk.
func hash(sum [32]byte) string { return hex.EncodeToString(sum[:]) }

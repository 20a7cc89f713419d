package revocation

import (
	"time"

	"postern/internal/registry"
)

// What a CRL says is a function of the registry's history.
//
// A base CRL lists everything that is revoked or held, but for what has expired and has been on a base since: see ledger.complete. A delta CRL refers to the
// oldest base that has not expired, unless Schedule says otherwise, so that whichever base a relying party has cached can be combined with it. For every serial number whose status changed
// after that base it says what the last change was: revoked, held, or removeFromCRL.

// oldestBase returns the base with the lowest number that is still valid at now.
func oldestBase(known []registry.CRL, now time.Time) (oldest registry.CRL, ok bool) {
	for _, c := range known {
		if c.Kind == registry.Base && c.Usable(now) && (!ok || c.Number < oldest.Number) {
			oldest, ok = c, true
		}
	}
	return oldest, ok
}

// reference returns the base to which a delta refers.
func (s Schedule) reference(known []registry.CRL, now time.Time) (registry.CRL, bool) {
	if s.DeltaOfNewest {
		base := newest(known, registry.Base)
		return base, base.Number != 0 && !now.After(base.NextUpdate)
	}
	return oldestBase(known, now)
}

// newest returns the CRL of that kind with the greatest number, or a zero record.
func newest(known []registry.CRL, kind registry.CRLKind) (c registry.CRL) {
	for _, k := range known {
		if k.Kind == kind && k.Number > c.Number {
			c = k
		}
	}
	return c
}

// greatestNumber returns the greatest number of any kind; 0 for none.
func greatestNumber(known []registry.CRL) uint64 {
	return max(newest(known, registry.Base).Number, newest(known, registry.Delta).Number)
}

package revocation

import (
	"crypto/x509"
	"slices"
	"strings"
	"time"

	"postern/internal/registry"
	"postern/internal/trust"
)

// What a CRL says is a function of the registry's history.
//
// A base CRL lists everything that is revoked or held. An entry must not go before it was on one complete CRL issued beyond the certificate's validity
// (RFC 5280, section 3.3), and a revocation first seen in a delta must come to be on a complete one even past expiry (section 5.2.4). Hence the rule: an
// entry is left out if the certificate had expired when an earlier base was issued, and that base covered the entry's last change.
//
// A delta CRL refers to the oldest base that has not expired, so that whichever base a relying party has cached can be combined with it. For every
// serial number whose status changed after that base it says what the last change was: revoked, held, or removeFromCRL.

// oldestBase returns the base to which a delta refers: the one with the lowest number that is still valid at now.
func oldestBase(known []registry.CRL, now time.Time) (oldest registry.CRL, ok bool) {
	for _, c := range known {
		if c.Kind == registry.Base && !now.After(c.NextUpdate) && (!ok || c.Number < oldest.Number) {
			oldest, ok = c, true
		}
	}
	return oldest, ok
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

// baseContent returns the entries of a base CRL signed at now, where earlier is the base published last, and the serial numbers that are left out because
// they have expired.
func baseContent(listed []trust.Revocation, earlier registry.CRL, now time.Time) (entries []x509.RevocationListEntry, expired map[trust.Serial]bool) {
	expired = map[trust.Serial]bool{}
	for _, r := range listed {
		if earlier.ThisUpdate.After(r.NotAfter) && registry.Revision(r.Revision) <= earlier.Covers {
			expired[r.Serial] = true
			continue
		}
		entries = append(entries, entry(r, now))
	}
	return entries, expired
}

// deltaContent returns the entries of a delta CRL for the changes since its base, oldest first.
func deltaContent(changes []trust.Revocation, now time.Time) []x509.RevocationListEntry {
	last := lastChanges(changes)
	entries := make([]x509.RevocationListEntry, 0, len(last))
	for _, r := range last {
		entries = append(entries, entry(r, now))
	}
	sortEntries(entries)
	return entries
}

func lastChanges(changes []trust.Revocation) map[trust.Serial]trust.Revocation {
	last := make(map[trust.Serial]trust.Revocation, len(changes))
	for _, r := range changes {
		last[r.Serial] = r
	}
	return last
}

// entry encodes one change. A revocation that another node with a faster clock has written is not dated in the future.
func entry(r trust.Revocation, now time.Time) x509.RevocationListEntry {
	at := r.At
	if at.After(now) {
		at = now
	}
	return x509.RevocationListEntry{SerialNumber: r.Serial.Int(), RevocationTime: at.UTC().Truncate(time.Second), ReasonCode: r.Reason.Number()}
}

func sortEntries(entries []x509.RevocationListEntry) {
	slices.SortFunc(entries, func(a, b x509.RevocationListEntry) int { return a.SerialNumber.Cmp(b.SerialNumber) })
}

// removed is the reason code removeFromCRL, RFC 5280, section 5.3.1.
const removed = 8

// listing is the content of a CRL by serial number.
type listing map[trust.Serial]x509.RevocationListEntry

func listingOf(entries []x509.RevocationListEntry) listing {
	l := make(listing, len(entries))
	for _, e := range entries {
		l[trust.SerialOf(e.SerialNumber)] = e
	}
	return l
}

// listed returns the entry that a relying party finds for a serial number when it combines base and delta (RFC 5280, section 5.2.4).
func listed(base, delta listing, s trust.Serial) (x509.RevocationListEntry, bool) {
	if e, ok := delta[s]; ok {
		return e, e.ReasonCode != removed
	}
	e, ok := base[s]
	return e, ok
}

// vanished returns, sorted, the serial numbers that the old base and delta list and the new ones do not. It looks only at what can differ.
func vanished(oldBase, oldDelta, base, delta listing, sameBase bool) []trust.Serial {
	gone := map[trust.Serial]bool{}
	look := func(l listing) {
		for s := range l {
			_, before := listed(oldBase, oldDelta, s)
			if _, after := listed(base, delta, s); before && !after {
				gone[s] = true
			}
		}
	}
	if !sameBase {
		look(oldBase)
	}
	look(oldDelta)
	look(delta)
	out := make([]trust.Serial, 0, len(gone))
	for s := range gone {
		out = append(out, s)
	}
	slices.SortFunc(out, func(a, b trust.Serial) int { return strings.Compare(string(a), string(b)) })
	return out
}

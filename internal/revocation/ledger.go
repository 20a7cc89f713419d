package revocation

import (
	"fmt"
	"math"
	"slices"
	"time"

	"postern/internal/ca"
	"postern/internal/registry"
	"postern/internal/trust"
)

// ledger is what a CA has revoked, encoded as CRLs list it: a large list that is touched when a base is made, and beside it the few changes that deltas are
// made of. A base is the list with the changes put in; a delta costs the changes alone. It follows the registry and is a function of its history.
type ledger struct {
	at     registry.Revision // every change up to it is in here
	floor  registry.Revision // recent has the last change of every serial number that changed after it
	folded registry.Revision // list has every change up to it
	latest registry.Revision // of the last change
	list   ca.Entries        // shares its memory with the base that was signed last
	ends   []uint32          // of list: when the certificate expires, see endOf
	recent []change          // in order of serial numbers, each once; holds for what list says otherwise
}

// change is the last that happened to a certificate.
type change struct {
	entry    ca.Entry // of a release: removeFromCRL
	end      uint32
	revision registry.Revision
}

func (c change) serial() []byte { return c.entry.Serial() }

// endOf keeps notAfter in four octets: seconds since 1970, the last for whatever ends in 2106 or later.
func endOf(t time.Time) uint32 { return uint32(max(0, min(t.Unix(), math.MaxUint32))) }

// encode makes a change of one of the registry's. A revocation that another node with a faster clock has written is not dated in the future.
func encode(r trust.Revocation, now time.Time) (change, error) {
	at := r.At
	if at.After(now) {
		at = now
	}
	entry, err := ca.AppendEntry(nil, r.Serial.Int(), at, r.Reason.Number())
	if err != nil {
		return change{}, fmt.Errorf("revocation of %s: %w", r.Serial, err)
	}
	return change{entry: entry, end: endOf(r.NotAfter), revision: registry.Revision(r.Revision)}, nil
}

// sortChanges orders changes, oldest first, by serial number, and leaves the last of each.
func sortChanges(all []change) []change {
	slices.SortStableFunc(all, func(a, b change) int { return ca.CompareSerials(a.serial(), b.serial()) })
	out := all[:0]
	for _, c := range all {
		if n := len(out); n > 0 && ca.CompareSerials(out[n-1].serial(), c.serial()) == 0 {
			out[n-1] = c
			continue
		}
		out = append(out, c)
	}
	return out
}

// apply takes up every change after l.at up to a revision, oldest first.
func (l *ledger) apply(changes []trust.Revocation, rev registry.Revision, now time.Time) error {
	fresh := make([]change, 0, len(changes))
	for _, r := range changes {
		c, err := encode(r, now)
		if err != nil {
			return err
		}
		fresh = append(fresh, c)
		l.latest = max(l.latest, c.revision)
	}
	l.at = rev
	if len(fresh) == 0 {
		return nil
	}
	fresh = sortChanges(fresh)
	merged := make([]change, 0, len(l.recent)+len(fresh))
	i := 0
	for _, c := range fresh {
		for i < len(l.recent) && ca.CompareSerials(l.recent[i].serial(), c.serial()) < 0 {
			merged = append(merged, l.recent[i])
			i++
		}
		if i < len(l.recent) && ca.CompareSerials(l.recent[i].serial(), c.serial()) == 0 {
			i++
		}
		merged = append(merged, c)
	}
	l.recent = append(merged, l.recent[i:]...)
	return nil
}

// last returns the last change of a serial number after the floor.
func (l *ledger) last(serial []byte) (change, bool) {
	i, ok := slices.BinarySearchFunc(l.recent, serial, func(c change, s []byte) int { return ca.CompareSerials(c.serial(), s) })
	if !ok {
		return change{}, false
	}
	return l.recent[i], true
}

// find returns what the registry says of a serial number, if it is revoked or held; of expired ones, only as long as bases list them.
func (l *ledger) find(serial []byte) (ca.Entry, bool) {
	if c, ok := l.last(serial); ok {
		return c.entry, !c.entry.Removed()
	}
	return l.list.Find(serial)
}

// raise forgets the changes up to a revision that no delta will speak of any more.
func (l *ledger) raise(floor registry.Revision) error {
	if floor <= l.floor {
		return nil
	}
	old := func(c change) bool { return c.revision <= floor }
	if slices.ContainsFunc(l.recent, old) && l.folded < floor {
		c, err := l.complete(registry.CRL{})
		if err != nil {
			return err
		}
		l.fold(c.entries, c.ends, l.at)
	}
	l.floor = floor
	l.recent = slices.DeleteFunc(slices.Clone(l.recent), old)
	return nil
}

// fold makes what a base lists the list. The changes stay beside it until raise.
func (l *ledger) fold(entries ca.Entries, ends []uint32, covers registry.Revision) {
	l.list, l.ends, l.folded = entries, ends, covers
}

// complete is the content of a base CRL.
type complete struct {
	entries ca.Entries
	ends    []uint32
	expired []ca.Entry // what it leaves out, in order
}

// complete puts the changes into the list, where earlier is the base published last: what expired before that was issued, and was in it, is left out.
//
// An entry must not go before it was on one complete CRL issued beyond the certificate's validity (RFC 5280, section 3.3), and a revocation first seen in a
// delta must come to be on a complete one even past expiry (section 5.2.4).
func (l *ledger) complete(earlier registry.CRL) (complete, error) {
	out := complete{ends: make([]uint32, 0, len(l.ends)+len(l.recent))}
	size := l.list.Size()
	for _, c := range l.recent {
		size += len(c.entry)
	}
	raw := make([]byte, 0, size)
	bound := uint32(0) // what ends before it had expired when the earlier base was issued
	if !earlier.ThisUpdate.IsZero() {
		bound = endOf(earlier.ThisUpdate)
	}
	put := func(c change) {
		switch {
		case c.entry.Removed():
		case c.end < bound && c.revision <= earlier.Covers:
			out.expired = append(out.expired, c.entry)
		default:
			raw, out.ends = append(raw, c.entry...), append(out.ends, c.end)
		}
	}
	i, n, at, from := 0, 0, 0, 0 // in recent, in the list: entry, octet, and where the stretch begins that is copied at once
	all := l.list.Bytes()
	for e := range l.list.All() {
		order := 1
		for i < len(l.recent) {
			if order = ca.CompareSerials(l.recent[i].serial(), e.Serial()); order >= 0 {
				break
			}
			raw, from = append(raw, all[from:at]...), at
			put(l.recent[i])
			i++
		}
		switch {
		case i < len(l.recent) && order == 0:
			raw, from = append(raw, all[from:at]...), at+len(e)
			put(l.recent[i])
			i++
		case l.ends[n] < bound:
			raw, from = append(raw, all[from:at]...), at+len(e)
			out.expired = append(out.expired, e)
		default:
			out.ends = append(out.ends, l.ends[n])
		}
		n, at = n+1, at+len(e)
	}
	raw = append(raw, all[from:]...)
	for _, c := range l.recent[i:] {
		put(c)
	}
	var err error
	out.entries, err = ca.ReadEntries(raw)
	if err == nil && out.entries.Count() != len(out.ends) {
		err = fmt.Errorf("%d entries and %d ends", out.entries.Count(), len(out.ends))
	}
	return out, err
}

// since is the content of a delta CRL: the last change of every serial number that changed after a revision, not below the floor.
func (l *ledger) since(covers registry.Revision) (ca.Entries, error) {
	if covers < l.floor {
		return ca.Entries{}, fmt.Errorf("changes after %d are asked for, and known after %d", covers, l.floor)
	}
	var raw []byte
	for _, c := range l.recent {
		if c.revision > covers {
			raw = append(raw, c.entry...)
		}
	}
	return ca.ReadEntries(raw)
}

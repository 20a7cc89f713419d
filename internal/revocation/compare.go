package revocation

import (
	"slices"

	"postern/internal/ca"
)

// onHold is the reason code certificateHold, RFC 5280, section 5.3.1.
const onHold = 6

// view is a base and a delta as a relying party combines them (RFC 5280, section 5.2.4).
type view struct{ base, delta ca.Entries }

// find returns the entry that counts for a serial number; ok is false where it is not listed, or removed.
func (v view) find(serial []byte) (e ca.Entry, ok bool) {
	if e, ok := v.delta.Find(serial); ok {
		return e, !e.Removed()
	}
	return v.base.Find(serial)
}

// vanished returns, in order, what the old pair lists and the new one does not. It looks only at what can differ: where the base is the same, at the deltas.
func vanished(old, now view, sameBase bool) (gone []ca.Entry) {
	look := func(e ca.Entry) {
		was, before := old.find(e.Serial())
		if _, after := now.find(e.Serial()); before && !after {
			gone = append(gone, was)
		}
	}
	for e := range old.delta.All() {
		look(e)
	}
	for e := range now.delta.All() {
		if _, both := old.delta.Find(e.Serial()); !both {
			look(e)
		}
	}
	if !sameBase {
		oldDelta, base, delta := old.delta.Walk(), now.base.Walk(), now.delta.Walk()
		for e := range old.base.All() {
			s := e.Serial()
			if _, changed := oldDelta.Find(s); changed {
				continue // seen above
			}
			if d, changed := delta.Find(s); changed {
				if d.Removed() {
					gone = append(gone, e)
				}
				continue
			}
			if _, still := base.Find(s); !still {
				gone = append(gone, e)
			}
		}
	}
	slices.SortFunc(gone, func(a, b ca.Entry) int { return ca.CompareSerials(a.Serial(), b.Serial()) })
	return slices.CompactFunc(gone, func(a, b ca.Entry) bool { return ca.CompareSerials(a.Serial(), b.Serial()) == 0 })
}

// suspects returns what a draft would un-revoke, though the ledger knows of no release since, and it did not expire: what has vanished; and what the old delta
// lists and the new one does not though the ledger knows nothing of it: an older base would not have it.
func (d *draft) suspects(l *ledger) (out []ca.Entry) {
	old, now := d.old.view(), d.next.view()
	for _, e := range vanished(old, now, d.old != nil && d.old.base == d.next.base) {
		c, known := l.last(e.Serial())
		if known && c.entry.Removed() && c.revision > d.old.covers() || d.left(e) {
			continue
		}
		out = append(out, e)
	}
	for e := range old.delta.All() {
		if _, still := now.delta.Find(e.Serial()); still || e.Removed() || d.left(e) {
			continue
		}
		_, known := l.find(e.Serial())
		if _, in := now.base.Find(e.Serial()); in && !known {
			out = append(out, e)
		}
	}
	return out
}

// left reports whether the new base leaves the entry out because it has expired.
func (d *draft) left(e ca.Entry) bool {
	_, ok := slices.BinarySearchFunc(d.expired, e, func(a, b ca.Entry) int { return ca.CompareSerials(a.Serial(), b.Serial()) })
	return ok
}

// less reports whether the registry says less of a serial number than an entry that the world was told: nothing, or a hold where it was revoked for good.
func (l *ledger) less(e ca.Entry) bool {
	known, ok := l.find(e.Serial())
	return !ok || known.Reason() == onHold && e.Reason() != onHold
}

// forgotten returns the entries that say more than the ledger. All of them are gone through, but for those that are removed.
func (l *ledger) forgotten(told ca.Entries) (out []ca.Entry) {
	for e := range told.All() {
		if !e.Removed() && l.less(e) {
			out = append(out, e)
		}
	}
	return out
}

// unsaid returns what the registry lists and the base does not, unless it had expired when the base was issued.
func (l *ledger) unsaid(base ca.Entries, issued uint32) (out []ca.Entry) {
	walk, n := base.Walk(), 0
	for e := range l.list.All() {
		if _, told := walk.Find(e.Serial()); !told && l.ends[n] >= issued {
			out = append(out, e)
		}
		n++
	}
	return out
}

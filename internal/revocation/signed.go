package revocation

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"time"

	"postern/internal/ca"
	"postern/internal/registry"
)

// signed is a CRL as the world gets it. It is immutable.
type signed struct {
	record  registry.CRL
	der     []byte
	entries ca.Entries // of a CRL of ours; they share the memory of der
	etag    string
	since   time.Time // when it was first served by this process
	told    bool      // found on disk without a record: what it covers is not known, and it is to be replaced
}

// pair is what is served for a CA. A base is always there; delta is nil only while the publisher primes.
type pair struct{ base, delta *signed }

// valid reports whether relying parties accept both at now.
func (p *pair) valid(now time.Time) bool {
	return p != nil && p.delta != nil && !now.After(p.base.record.NextUpdate) && !now.After(p.delta.record.NextUpdate)
}

// covers returns the revision up to which every change is in the pair.
func (p *pair) covers() registry.Revision {
	if p == nil {
		return 0
	}
	if p.delta == nil {
		return p.base.record.Covers
	}
	return p.delta.record.Covers
}

// has reports whether the pair holds a CRL of exactly these bytes.
func (p *pair) has(der []byte) bool {
	return p != nil && (bytes.Equal(p.base.der, der) || p.delta != nil && bytes.Equal(p.delta.der, der))
}

// without leaves out what the other pair holds too.
func (p *pair) without(other *pair) {
	for _, slot := range []**signed{&p.base, &p.delta} {
		if *slot != nil && other.has((*slot).der) {
			*slot = nil
		}
	}
}

// record returns the CRL of a record, if it is one of the pair's; nil otherwise.
func (p *pair) record(r registry.CRL) (*signed, error) {
	switch {
	case p == nil:
	case p.base.matches(r):
		return p.base, nil
	case p.delta != nil && p.delta.matches(r):
		return p.delta, nil
	}
	return nil, nil
}

// ahead reports whether this process has published what the registry knows nothing of: it was restored meanwhile.
func (p *pair) ahead(known []registry.CRL) bool {
	return p != nil && p.delta != nil && !p.delta.told && p.delta.record.Number > greatestNumber(known)
}

// asTold is the pair without what the registry knew of it.
func (p *pair) asTold() *pair {
	if p == nil {
		return nil
	}
	out := *p
	for _, slot := range []**signed{&out.base, &out.delta} {
		if *slot != nil {
			s := **slot
			s.told, s.record.Covers = true, 0
			*slot = &s
		}
	}
	return &out
}

// as is the CRL as its record knows it; since stays if it was served before.
func (s *signed) as(r registry.CRL, now time.Time) *signed {
	out := &signed{record: r, der: s.der, entries: s.entries, etag: s.etag, since: s.since}
	if out.since.IsZero() {
		out.since = now
	}
	return out
}

func (p *pair) view() (v view) {
	if p == nil {
		return v
	}
	v.base = p.base.entries
	if p.delta != nil {
		v.delta = p.delta.entries
	}
	return v
}

// ended reports whether the delta ends a hold that the base lists. A delta from before the base says nothing of it.
func (p *pair) ended(serial []byte) bool {
	if p.delta == nil || p.delta.record.Number < p.base.record.Number {
		return false
	}
	e, ok := p.delta.entries.Find(serial)
	return ok && e.Removed()
}

// readSigned reads and verifies a CRL that this CA has signed; Covers, which no CRL says, is left zero.
func (a *authority) readSigned(der []byte) (*signed, error) {
	l, err := ca.ReadCRL(der, a.cert)
	if err != nil {
		return nil, err
	}
	return a.signedOf(l)
}

// signedOf makes a record of what was read.
func (a *authority) signedOf(l *ca.List) (*signed, error) {
	if !l.Number.IsUint64() || l.BaseNumber != nil && !l.BaseNumber.IsUint64() {
		return nil, errors.New("read CRL: its number does not fit 64 bits")
	}
	sum := hash(sha256.Sum256(l.DER))
	r := registry.CRL{Issuer: a.name, CA: a.id, Kind: registry.Base, Number: l.Number.Uint64(), ThisUpdate: l.ThisUpdate.UTC(), NextUpdate: l.NextUpdate.UTC(),
		NextPublish: l.NextPublish.UTC(), Hash: sum, Size: len(l.DER), Entries: l.Entries.Count()}
	if l.BaseNumber != nil {
		r.Kind, r.BaseNumber = registry.Delta, l.BaseNumber.Uint64()
	}
	if r.NextPublish.IsZero() {
		r.NextPublish = r.NextUpdate
	}
	return &signed{record: r, der: l.DER, entries: l.Entries, etag: `"` + sum + `"`}, nil
}

// matches reports whether the CRL is the one of the record.
func (s *signed) matches(r registry.CRL) bool {
	got := s.record
	return got.Hash == r.Hash && got.Kind == r.Kind && got.Number == r.Number && got.BaseNumber == r.BaseNumber &&
		got.ThisUpdate.Equal(r.ThisUpdate) && got.NextUpdate.Equal(r.NextUpdate)
}

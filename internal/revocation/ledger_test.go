package revocation

import (
	"fmt"
	"math/big"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"postern/internal/ca"
	"postern/internal/registry"
	"postern/internal/trust"
)

// model is the history of a CA, as simple as it can be.
type model struct {
	rng     *rand.Rand
	history []trust.Revocation
	ends    map[trust.Serial]time.Time
	bases   []baseOf
	ledger  *ledger
	rev     registry.Revision
	now     time.Time
	onBase  map[trust.Serial]bool // listed by a base that was issued past its end, since it became what it is
}

type baseOf struct {
	record registry.CRL
	list   ca.Entries
}

// now is the standing of everything: reason by serial number.
func (m *model) truth() map[trust.Serial]int {
	out := map[trust.Serial]int{}
	for _, r := range m.history {
		if out[r.Serial] = r.Reason.Number(); r.Reason == trust.RemoveFromCRL {
			delete(out, r.Serial)
		}
	}
	return out
}

// Whatever happens, and whichever base a relying party has: base and delta together are the complete list, and what a base leaves out had expired and been on one.
func TestLedgerAlgebra(t *testing.T) {
	t.Parallel()
	for seed := range uint64(30) {
		m := &model{rng: rand.New(rand.NewPCG(seed, 3)), ends: map[trust.Serial]time.Time{}, ledger: new(ledger), now: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC), onBase: map[trust.Serial]bool{}}
		for step := 0; step < 80 && !t.Failed(); step++ {
			m.now = m.now.Add(time.Duration(m.rng.IntN(20)) * time.Hour)
			if err := m.step(); err != nil {
				t.Fatal(err)
			}
			m.check(t, fmt.Sprintf("seed %d, step %d", seed, step))
		}
	}
}

// step lets some certificates change, and then perhaps a base be issued and the oldest one expire.
func (m *model) step() error {
	var changes []trust.Revocation
	known := m.truth()
	for range m.rng.IntN(8) {
		s := trust.SerialOf(serialNumber(m.rng))
		if _, ok := m.ends[s]; !ok {
			m.ends[s] = m.now.Add(time.Duration(m.rng.IntN(300)) * time.Hour)
		}
		m.rev++
		r := trust.Revocation{Serial: s, At: m.now, NotAfter: m.ends[s], Revision: uint64(m.rev), Reason: trust.KeyCompromise}
		switch was := known[s]; {
		case was == 1:
			continue
		case was == onHold && m.rng.IntN(2) == 0:
			r.Reason = trust.RemoveFromCRL
		case was == 0 && m.rng.IntN(2) == 0:
			r.Reason = trust.CertificateHold
		}
		known[s] = r.Reason.Number() % 8
		m.onBase[s] = false
		changes = append(changes, r)
	}
	m.history = append(m.history, changes...)
	if err := m.ledger.apply(changes, m.rev, m.now); err != nil {
		return err
	}
	if len(m.bases) == 0 || m.rng.IntN(3) == 0 {
		if err := m.issue(); err != nil {
			return err
		}
	}
	for len(m.bases) > 1 && m.rng.IntN(3) == 0 {
		m.bases = m.bases[1:]
	}
	return m.ledger.raise(m.bases[0].record.Covers)
}

func (m *model) issue() error {
	earlier := registry.CRL{}
	if n := len(m.bases); n > 0 {
		earlier = m.bases[n-1].record
	}
	c, err := m.ledger.complete(earlier)
	if err != nil {
		return err
	}
	m.bases = append(m.bases, baseOf{registry.CRL{Kind: registry.Base, Number: uint64(m.rev) + 1, ThisUpdate: m.now, Covers: m.rev}, c.entries})
	m.ledger.fold(c.entries, c.ends, m.rev)
	for e := range c.entries.All() {
		if s := serialOf(e); m.now.After(m.ends[s]) {
			m.onBase[s] = true
		}
	}
	return nil
}

func (m *model) check(t *testing.T, when string) {
	t.Helper()
	want := m.truth()
	delta, err := m.ledger.since(m.bases[0].record.Covers)
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range m.bases {
		v := view{b.list, delta}
		for s := range m.ends {
			reason := 0
			if e, ok := v.find(octetsOf(s)); ok {
				reason = e.Reason()
			}
			if reason != want[s] && !(reason == 0 && m.onBase[s]) {
				t.Errorf("%s, base %d: %s has reason %d, want %d", when, b.record.Number, s, reason, want[s])
			}
		}
		last := m.bases[len(m.bases)-1]
		if gone := vanished(v, view{last.list, delta}, false); slices.ContainsFunc(gone, func(e ca.Entry) bool { return !m.onBase[serialOf(e)] }) {
			t.Errorf("%s: %x vanished between bases %d and %d", when, gone, b.record.Number, last.record.Number)
		}
	}
	if _, err := m.ledger.since(m.bases[0].record.Covers - 1); err == nil && m.ledger.floor == m.bases[0].record.Covers && m.ledger.floor > 0 {
		t.Errorf("%s: a delta of changes that are forgotten", when)
	}
}

// serialNumber returns one of two hundred, of one to twenty octets.
func serialNumber(rng *rand.Rand) *big.Int {
	n := rng.IntN(200) + 1
	return new(big.Int).Lsh(big.NewInt(int64(n)), uint(n%20)*8)
}

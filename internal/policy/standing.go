package policy

import (
	"hash/maphash"
	"sync/atomic"

	"github.com/open-policy-agent/opa/v1/ast"
)

// standing is what stays the same from one request of a phone to the next, as terms; making them costs a fifth of a decision.
type standing struct {
	facts                      string // that they were made from, as for the digest
	certificate, device, owner *ast.Term
}

func (in *AccessInput) standing() *standing {
	return &standing{certificate: in.Certificate.value(), device: in.Device.value(), owner: in.Owner.value()}
}

// termsCache holds the terms of the phones that were decided about last. Which phone displaces which is left to chance.
type termsCache struct {
	seed  maphash.Seed
	table []atomic.Pointer[standing] // empty: nothing is kept
}

// keptStandings takes some 4 MB.
const keptStandings = 1024

func newTermsCache() termsCache {
	return termsCache{seed: maphash.MakeSeed(), table: make([]atomic.Pointer[standing], keptStandings)}
}

// of returns the terms for an input: those that are there, if every fact is the same, or new ones. Terms never change, so they may be shared.
func (c *termsCache) of(in *AccessInput) *standing {
	if len(c.table) == 0 || in.Certificate.Serial == "" {
		return in.standing()
	}
	var room [1024]byte
	facts := in.Owner.append(in.Device.append(in.Certificate.append(room[:0])))
	at := &c.table[maphash.String(c.seed, in.Certificate.Serial)%uint64(len(c.table))]
	if known := at.Load(); known != nil && known.facts == string(facts) {
		return known
	}
	made := in.standing()
	made.facts = string(facts)
	at.Store(made)
	return made
}

package api

import (
	"time"

	"postern/internal/trust"
)

// Timeline says who has learnt when that a certificate was revoked, held or released, and until when others may believe what was before.
type Timeline struct {
	Change    trust.ReasonCode `json:"change"` // the reason; removeFromCRL for a release
	At        time.Time        `json:"at"`
	Revision  uint64           `json:"revision"`
	Edges     []EdgeApplied    `json:"edges"`     // each edge that has applied it
	Published []Published      `json:"published"` // the first delta and the first base that have it
	Fetched   *Fetch           `json:"fetched"`   // the first fetch of one that has it, by anybody
	Microsoft *Fetch           `json:"microsoft"` // by an address of Microsoft
	Old       *OldState        `json:"old"`       // the fetch by an address of Microsoft that is believed for longest without it; null if none is known
	Latest    *time.Time       `json:"latest"`    // when the last delta (without deltas, base) without it expires, whoever has it
	Networks  string           `json:"networks"`  // the date of the list of Microsoft's networks
}

// EdgeApplied says when an edge decided by the change.
type EdgeApplied struct {
	Node string    `json:"node"`
	At   time.Time `json:"at"`
}

// Published is one CRL.
type Published struct {
	Kind   string    `json:"kind"` // base or delta
	Number uint64    `json:"number"`
	At     time.Time `json:"at"`
}

// Fetch is one fetch of a CRL.
type Fetch struct {
	Kind      string    `json:"kind"`
	Number    uint64    `json:"number"`
	At        time.Time `json:"at"`
	Network   string    `json:"network"`
	Service   string    `json:"service,omitempty"` // of Microsoft
	UserAgent string    `json:"user_agent"`
}

// OldState is the last that somebody was told before.
type OldState struct {
	Fetch
	Until time.Time `json:"until"` // nextUpdate of that CRL
}

// Receipt is one line of GET /receipts: the fetches of one CRL from one network by one user agent.
type Receipt struct {
	Object    string    `json:"object"` // path below the issuer's url
	Number    string    `json:"number"`
	Network   string    `json:"network"` // /24 of IPv4, /48 of IPv6
	Service   string    `json:"service,omitempty"`
	UserAgent string    `json:"user_agent"`
	First     time.Time `json:"first"`
	Last      time.Time `json:"last"`
	Count     uint64    `json:"count"`
}

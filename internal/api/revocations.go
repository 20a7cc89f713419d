package api

import (
	"time"

	"postern/internal/trust"
)

// MaxTargets is how many targets one POST /revocations takes.
const MaxTargets = 1000

// RevokeMany asks for POST /revocations: revoke many certificates for good. Repeating it is safe.
type RevokeMany struct {
	Reason  string   `json:"reason,omitempty"` // a CRLReason by its name; unspecified if left out
	Comment string   `json:"comment,omitempty"`
	DryRun  bool     `json:"dry_run,omitempty"` // only say what would be revoked
	Targets []Target `json:"targets"`           // 1 to MaxTargets
}

// Target names what to revoke, by exactly one of Serial, Device and Owner: one certificate with those it has superseded, or all that are not expired of a
// device or an owner.
type Target struct {
	Line   int            `json:"line,omitempty"` // of the file it was read from; the server ignores it
	Issuer string         `json:"issuer,omitempty"`
	Serial trust.Serial   `json:"serial,omitempty"`
	Device trust.DeviceID `json:"device,omitempty"`
	Owner  string         `json:"owner,omitempty"`
}

// String names the target for people.
func (t Target) String() string { return string(t.Serial) + string(t.Device) + t.Owner }

// Revocations is its answer, with a result for each target in order.
type Revocations struct {
	DryRun   bool            `json:"dry_run"`
	Results  []Outcome       `json:"results"`
	Proposal *RevokeProposal `json:"proposal,omitempty"` // nothing was revoked: it waits for a second person
}

// RevokeProposal is a revocation that a second person has to agree to.
type RevokeProposal struct {
	ID           string     `json:"id"`
	State        string     `json:"state"` // waiting, agreed (begun), done, withdrawn, expired
	Count        int        `json:"count"` // of certificates
	Reason       string     `json:"reason"`
	Comment      string     `json:"comment,omitempty"`
	By           string     `json:"by"`
	Second       string     `json:"second,omitempty"` // who agreed, or withdrew it
	Created      time.Time  `json:"created"`
	Until        time.Time  `json:"until"` // when it expires, unless somebody agrees
	Done         *time.Time `json:"done,omitempty"`
	Digest       string     `json:"digest"`                 // SHA-256 of the reason and the certificates, in hexadecimal
	Certificates []string   `json:"certificates,omitempty"` // issuer/serial; only of one that is shown alone
}

// Approved is the answer to POST /revocations/proposals/ID/approve.
type Approved struct {
	Proposal RevokeProposal `json:"proposal"`
	Revoked  int            `json:"revoked"`
	Already  int            `json:"already"` // were revoked before
}

// Outcome says what became of one target.
type Outcome struct {
	Revoked []trust.Serial `json:"revoked"` // now, or in a dry run: would be
	Already int            `json:"already"` // were revoked before
	Expired int            `json:"expired"` // passed over
	Error   string         `json:"error,omitempty"`
}

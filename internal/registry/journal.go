package registry

import (
	"context"
	"time"

	"postern/internal/trust"
)

// Journal records what was decided. It is telemetry: written in batches, bounded, and never moving the revision of the Store. A crash loses at most
// the last FlushEvery of it.
type Journal interface {
	// Record takes a decision without blocking on the disk. Refusals and faults are kept and found by Decision at once, also before they are on disk.
	// Under overload the oldest unwritten ones are dropped, those of strangers first, and counted by Dropped; plain allows are only counted (see
	// AllowCount).
	//
	// Strangers are sampled under attack, so that they can erase neither the evidence about known devices nor that of each other. A decision is a
	// stranger's if it names neither a certificate nor a device and is not of the door "scep", where only who is authorised gets as far as a decision. A
	// device without a certificate is only claimed: beyond 12 decisions a minute about one, further ones are a stranger's. Of strangers, up to 60
	// decisions a minute from one network (Remote cut to /24 or /48) are kept and up to 600 a minute in all; beyond that one in 16 is, found at once by
	// its reference like any other, and the others are only counted by Stats. Beyond the budget of its network, a decision is kept without its Input. The
	// reference of one that was only counted is trust.ErrNotFound, although a phone may show it; a line in the log, at most one a minute, says how many
	// those are. Strangers' decisions are kept apart, with limits of their own, and listed together with the others.
	//
	// An allow with reasons is kept under its Reference, as every decision a later one with the same reference takes the place of: who gives all with the same
	// facts one reference has them kept once. Without a reference it is only counted.
	//
	// A plain allow that has Facts and Input is remembered by them, once for as many requests as there are, with the time of the last that was handed in
	// with its Input; only Recorded returns it. Where only a share of
	// these is recorded, the others are counted by Stats.
	Record(d trust.Decision)
	// Decision returns the decision with the reference, or trust.ErrNotFound.
	Decision(ctx context.Context, reference string) (trust.Decision, error)
	// Decisions lists decisions, newest first.
	Decisions(ctx context.Context, f DecisionFilter) ([]trust.Decision, error)
	// AllowCount returns how often the mail profile, or "" for all, was plainly allowed since the journal began, and when last.
	AllowCount(ctx context.Context, profile string) (n uint64, last time.Time, err error)
	// Recorded returns decisions that can be decided again, since a time, the oldest first, and at most limit of them (1 to 10000): refusals, faults and
	// allows with reasons as they were recorded, one for each reference, and of plain allows one for each set of facts. after is where to go on, "" to begin; next is "" at the end.
	// What was recorded within FlushEvery may be missing.
	Recorded(ctx context.Context, since time.Time, after string, limit int) (out []trust.Decision, next string, err error)
	// Fetched counts a fetch of a published object (for example "contoso/issuing.crl" with its CRL number) from a network by a user agent.
	Fetched(r Receipt)
	// Receipts lists the fetches of an object, aggregated by network, user agent and number, newest first.
	Receipts(ctx context.Context, object string, limit int) ([]Receipt, error)
	// Applied remembers when a door had applied the registry's changes up to a revision, for a while.
	Applied(r Reaction)
	// Reactions returns, for each node, when it had applied the change that a revision made: its first Reaction at or after that revision. Nodes that have
	// not, or of which it is not remembered, are not among them.
	Reactions(ctx context.Context, rev Revision) ([]Reaction, error)
	// Dropped returns how many decisions were lost to overload since the start.
	Dropped() uint64
	// Retention returns what is kept by intention.
	Retention() Retention
	// Stats returns what was not kept since the start.
	Stats() JournalStats
	// Close writes what is outstanding and releases the journal.
	Close() error
}

// JournalStats counts, since the start, the decisions that cannot be looked up any more or never could, although they are not too old.
type JournalStats struct {
	Dropped          uint64 // lost to overload, as Journal.Dropped
	Sampled          uint64 // only counted: of strangers under attack, and allows with reasons under overload
	Evicted          uint64 // of known devices and certificates, removed from the disk for want of room: keep more, or find who floods with a good certificate
	EvictedAllowed   uint64 // sets of facts that were plainly allowed, removed from the disk for want of room
	LeftOutAllowed   uint64 // the same, not recorded because only a share of them is; a set of facts counts as often as it was decided anew
	SkippedAllowed   uint64 // the same, never written for want of room in the queue
	EvictedStrangers uint64 // of strangers, removed from the disk for want of room, as has to be expected under attack
}

// Retention is what a journal keeps by intention.
type Retention struct {
	Age     time.Duration // of a decision, at most
	Bytes   int64         // of all decisions on disk, at most
	Allowed float64       // share of the sets of facts of plain allows that are recorded, 0 to 1; which ones is left to the facts
}

// FlushEvery is the longest time that a recorded decision stays only in memory.
const FlushEvery = 200 * time.Millisecond

// DecisionFilter selects decisions. Zero fields do not filter.
type DecisionFilter struct {
	Action trust.Action
	User   string
	Device trust.DeviceID
	Before string // reference of the last decision of the previous page
	Limit  int    // 1 to 1000; 0 means 100
}

// Reaction says that a door of a node has applied the registry's changes up to a revision: it decides by them, and what is open is decided again.
type Reaction struct {
	Node     string    `json:"node"`
	Revision Revision  `json:"revision"`
	At       time.Time `json:"at"`
}

// Receipt says that a published object was fetched.
type Receipt struct {
	Object    string    `json:"object"`
	Number    string    `json:"number"`  // of the CRL, decimal
	Network   string    `json:"network"` // address truncated to /24 or /48
	UserAgent string    `json:"user_agent"`
	First     time.Time `json:"first"`
	Last      time.Time `json:"last"`
	Count     uint64    `json:"count"`
}

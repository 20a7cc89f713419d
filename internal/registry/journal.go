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
	// Under overload the oldest unwritten ones are dropped and counted by Dropped; plain allows are only counted (see AllowCount).
	Record(d trust.Decision)
	// Decision returns the decision with the reference, or trust.ErrNotFound.
	Decision(ctx context.Context, reference string) (trust.Decision, error)
	// Decisions lists decisions, newest first.
	Decisions(ctx context.Context, f DecisionFilter) ([]trust.Decision, error)
	// AllowCount returns how often the mail profile, or "" for all, was plainly allowed since the journal began, and when last.
	AllowCount(ctx context.Context, profile string) (n uint64, last time.Time, err error)
	// Fetched counts a fetch of a published object (for example "contoso/issuing.crl" with its CRL number) from a network by a user agent.
	Fetched(r Receipt)
	// Receipts lists the fetches of an object, aggregated by network, user agent and number, newest first.
	Receipts(ctx context.Context, object string, limit int) ([]Receipt, error)
	// Dropped returns how many decisions were lost to overload since the start.
	Dropped() uint64
	// Close writes what is outstanding and releases the journal.
	Close() error
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

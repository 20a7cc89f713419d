// Package registry is what Postern knows, and the rules for changing it.
//
// Store keeps bytes in tables under a monotonic revision; there is one implementation for a single machine (bolt), and another may be added for
// several nodes. Registry holds the rules above it, so that every backend shares them: each change takes a principal and writes its audit entry in
// the same transaction. Index is the read model in memory that follows the revision. Journal records what was decided; it is telemetry, not state.
package registry

import "context"

// Table names one ordered table of keys and values in a Store.
type Table string

// The tables of the registry. A backend creates all of them; adding one needs no migration.
const (
	tableDevices      Table = "devices"
	tableOwners       Table = "owners"
	tableSuspensions  Table = "suspensions"  // device/id, owner/mail
	tableCertificates Table = "certificates" // issuer/serial
	tableDER          Table = "der"          // revision/serial: the bytes of certificates
	tableSuperseded   Table = "superseded"   // when/issuer/serial: what will be revoked
	tableRevocations  Table = "revocations"  // issuer/ca/revision/serial: history from which CRLs are made
	tableStatus       Table = "status"       // issuer/ca/serial: what a complete CRL lists
	tableProfiles     Table = "profiles"
	tableProfileKeys  Table = "profile_keys" // unique key -> id
	tableChallenges   Table = "challenges"   // by hash
	tableTransactions Table = "transactions" // SCEP, by hash of what makes a retry
	tableCAs          Table = "cas"
	tableCRLs         Table = "crls"
	tablePublications Table = "publications" // issuer/ca/number: CRLs, also those that are replaced
	tableRequests     Table = "requests"     // stored requests to another door, such as "publish now"
	tablePending      Table = "pending"      // SCEP requests that wait for an administrator, and their indexes: see pending.go
	tableConfirm      Table = "confirm"      // issuer/serial: certificates of which a validator has to be told
	tableTokens       Table = "tokens"
	tableTickets      Table = "tickets"      // by hash
	tableGrants       Table = "grants"       // device/keyed hash of a bearer token
	tableExceptions   Table = "exceptions"   // by id
	tableProposals    Table = "proposals"    // by id: revocations that a second person has to agree to
	tableAudit        Table = "audit"        // by revision
	tablePolicies     Table = "policies"     // by digest
	tablePolicyFiles  Table = "policy_files" // by digest: packed
	tableActivations  Table = "activations"  // by number: which policy was in force
	tableByDevice     Table = "by_device"
	tableMeta         Table = "meta"
)

// Tables lists every table of the registry, for backends to create.
func Tables() []Table {
	return []Table{tableDevices, tableOwners, tableSuspensions, tableCertificates, tableDER, tableSuperseded, tableRevocations, tableStatus, tableProfiles, tableProfileKeys, tableChallenges,
		tableTransactions, tableCAs, tableCRLs, tablePublications, tableRequests, tablePending, tableConfirm, tableTokens, tableTickets, tableGrants, tableExceptions, tableProposals, tablePolicies, tablePolicyFiles, tableActivations, tableAudit, tableByDevice, tableMeta}
}

// Appended lists the tables whose keys only rise: a backend may pack them tightly.
func Appended() []Table { return []Table{tableAudit, tableDER} }

// Revision counts the commits of state. It starts at 0 for an empty store and rises by one with every commit that changed something.
type Revision uint64

// Change names one object that a commit touched. Followers fetch what it says now; a Change does not carry it.
type Change struct {
	Revision Revision `json:"revision"`
	Kind     Kind     `json:"kind"`
	ID       string   `json:"id"`
}

// Kind is what a Change is about.
type Kind string

// The kinds of changes.
const (
	KindDevice      Kind = "device"
	KindOwner       Kind = "owner"
	KindCertificate Kind = "certificate" // id: issuer/serial
	KindProfile     Kind = "profile"
	KindCA          Kind = "ca"
	KindRequest     Kind = "request"
	KindCRL         Kind = "crl"
	KindToken       Kind = "token"
	KindTicket      Kind = "ticket" // id: its hash
	KindGrant       Kind = "grant"  // id: device/keyed hash
	KindException   Kind = "exception"
	KindProposal    Kind = "proposal"
	KindChallenge   Kind = "challenge"
	KindPending     Kind = "pending"
	KindPolicy      Kind = "policy" // id: the digest that came into force
)

// Store keeps the registry's state.
//
// Durability: when Update returns nil, its changes survive the death of the process and of the machine. When it returns an error, none of them is
// ever seen, unless the error wraps ErrUnknownOutcome.
//
// Concurrency: all methods may be called at the same time. Updates are serializable: each sees all that was committed before it and nothing else. The
// closure of an Update may run more than once, or run and then be rolled back, so it must have no side effect: sign and compute before. Commits of
// concurrent Updates may be grouped into one; the closures of a group still see each other's effects in order, and an error of one leaves the others untouched.
//
// A View sees one revision. Views are to be short: a long one keeps old pages from being reused.
type Store interface {
	// View runs fn on a read-only snapshot and returns fn's error. ctx is checked before fn runs.
	View(ctx context.Context, fn func(Reader) error) error

	// Update runs fn in a read-write transaction and commits unless fn fails, with the revision that this commit has made. An fn that writes and
	// touches nothing commits no revision: the revision returned is then the current one.
	Update(ctx context.Context, fn func(Writer) error) (Revision, error)

	// Changes returns what was touched after the given revision, oldest first, at most limit entries but always whole revisions, so that the last entry's
	// revision is where to go on. It returns ErrCompacted if the history no longer reaches back that far: read everything anew.
	Changes(ctx context.Context, after Revision, limit int) ([]Change, error)

	// Wait returns the current revision as soon as it is greater than after, or ctx's error.
	Wait(ctx context.Context, after Revision) (Revision, error)

	// Close waits for running transactions and releases the store. Later calls return ErrClosed.
	Close() error
}

// Reader reads tables. It is valid until its closure returns.
type Reader interface {
	// Revision is the revision of the snapshot; within an Update, the one this commit will make.
	Revision() Revision
	// Get returns the value, which the caller may keep and change, or nil and false.
	Get(t Table, key string) ([]byte, bool)
	// Scan calls fn for keys with the prefix that are greater than after (pass "" to begin at the first), in byte order, until fn returns false. The
	// value is valid only during the call.
	Scan(t Table, prefix, after string, fn func(key string, value []byte) bool)
	// ScanBack is Scan from the greatest key downwards; before "" begins at the last key.
	ScanBack(t Table, prefix, before string, fn func(key string, value []byte) bool)
}

// Writer reads and writes tables. Scans see the transaction's own writes; do not write to a table while scanning it.
type Writer interface {
	Reader
	Put(t Table, key string, value []byte)
	Delete(t Table, key string)
	// Touch records that the object changed in this commit. The same object touched twice is one Change.
	Touch(kind Kind, id string)
}

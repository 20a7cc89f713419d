package trust

import "time"

// MailProfile is one account on one mail client: what Exchange calls a device partnership. It is unique by tenant, protocol, client id, user and
// credential kind; a hand-made second account on a managed phone is a second MailProfile.
type MailProfile struct {
	ID         string    `json:"id"`
	Tenant     string    `json:"tenant"`    // the issuer whose domains the request was for
	Protocol   string    `json:"protocol"`  // "eas"
	ClientID   string    `json:"client_id"` // EAS DeviceId in canonical form: claimed by the client
	User       string    `json:"user"`      // normalised
	Credential string    `json:"credential"`
	Family     string    `json:"family"` // of the client application, claimed
	Model      string    `json:"model,omitempty"`
	Serial     Serial    `json:"certificate,omitempty"` // the certificate it came with; empty for none
	Device     DeviceID  `json:"device,omitempty"`      // the certificate's device, or the one an administrator linked
	Linked     bool      `json:"linked,omitempty"`      // bound to Device by an administrator
	Refused    bool      `json:"refused,omitempty"`     // by an administrator, until one settles it otherwise
	FirstSeen  time.Time `json:"first_seen"`
	LastSeen   time.Time `json:"last_seen"` // refreshed lazily: up to an hour behind
}

// ProfileKey is what makes a mail profile unique.
type ProfileKey struct{ Tenant, Protocol, ClientID, User, Credential string }

// Key returns the unique key of the profile.
func (p MailProfile) Key() ProfileKey {
	return ProfileKey{p.Tenant, p.Protocol, p.ClientID, p.User, p.Credential}
}

// Action is the outcome of a decision.
type Action string

// The actions. Fault is not a decision but the absence of one: the door answers it with "try again later".
const (
	Allow      Action = "allow"
	Quarantine Action = "quarantine"
	Deny       Action = "deny"
	Pend       Action = "pend" // enrolment only: an administrator decides
	Fault      Action = "fault"

	// What becomes of a device.
	Keep    Action = "keep"
	Notify  Action = "notify"
	Suspend Action = "suspend"
	Retire  Action = "retire"
)

// Reason is one reason of a decision: a stable snake_case code with the facts that led to it. Sentences are made from it for the reader.
type Reason struct {
	Code   string            `json:"code"`
	Text   string            `json:"text"`
	Facts  map[string]string `json:"facts,omitempty"`
	Remedy string            `json:"remedy,omitempty"`
	Rule   string            `json:"rule,omitempty"` // the policy package that said so
}

// Decision is what was decided about one request, with everything needed to explain it later and to decide it again.
type Decision struct {
	Reference  string    `json:"reference"` // given to the phone, looked up by the help desk
	At         time.Time `json:"at"`
	Door       string    `json:"door"` // "edge" or "scep"
	Action     Action    `json:"action"`
	Reasons    []Reason  `json:"reasons"`
	ValidUntil time.Time `json:"valid_until"` // zero: for as long as its facts hold
	Policy     string    `json:"policy"`      // digest of the policy that decided
	User       string    `json:"user,omitempty"`
	Device     DeviceID  `json:"device,omitempty"`
	Serial     Serial    `json:"certificate,omitempty"`
	ClientID   string    `json:"client_id,omitempty"`
	Profile    string    `json:"profile,omitempty"` // id of the mail profile
	Command    string    `json:"command,omitempty"`
	Remote     string    `json:"remote,omitempty"`
	Input      []byte    `json:"input,omitempty"` // the facts as the policy saw them: JSON, or of a plain allow the policy's own form
	Facts      string    `json:"-"`               // of an allow: the digest of those facts, 16 octets
}

// Role is what an administrator may do.
type Role string

// The roles of the admin API. Root is the operator on the machine, through the Unix socket; it cannot be given to a token.
const (
	Root         Role = "root"
	HelpDesk     Role = "help-desk"     // look things up, make challenges, hold and release, link mail profiles
	PolicyAuthor Role = "policy-author" // read decisions, test policies and bring them into force
	PKIOfficer   Role = "pki-officer"   // devices, certificates, revocation, CRLs
	Auditor      Role = "auditor"       // read everything, change nothing
)

// Principal is who asks for a change. Every change of state takes one and is recorded with it.
type Principal struct {
	Kind string `json:"kind"` // "cli", "token", "scep", "edge", "system"
	Name string `json:"name"`
	Role Role   `json:"role,omitempty"` // empty for doors, which act under their own rules
}

// String returns "kind:name".
func (p Principal) String() string { return p.Kind + ":" + p.Name }

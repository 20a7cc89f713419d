// Package api is the admin API: what it is asked and what it answers, and a client for it. The admin door and the command line share it.
//
// Standard library only. Times are RFC 3339; lists are paged with after and limit; unknown fields in a request are refused.
package api

import (
	"encoding/json"
	"time"

	"postern/internal/trust"
)

// Prefix is the path under which the API is served.
const Prefix = "/api/v1"

// Socket is the name of the Unix socket in the data directory. Whoever may open it is root: the directory is the operator's own.
const Socket = "admin.sock"

// MaxBody is the size limit of a request body in bytes.
const MaxBody = 1 << 20

// Error is the body of every answer that is not 2xx.
type Error struct {
	Status  int    `json:"status"`
	Code    string `json:"code"` // not_found, conflict, invalid, forbidden, unauthorized, internal
	Message string `json:"message"`
}

// Error returns the message.
func (e *Error) Error() string { return e.Message }

// NewDevice asks for POST /devices.
type NewDevice struct {
	Issuer       string            `json:"issuer"`
	Owner        string            `json:"owner"`
	UPN          string            `json:"upn,omitempty"`
	SAM          string            `json:"sam,omitempty"` // DOMAIN\name
	OID          string            `json:"oid,omitempty"`
	TID          string            `json:"tid,omitempty"`
	Aliases      []string          `json:"aliases,omitempty"`
	Delegations  []string          `json:"delegations,omitempty"`
	SerialNumber string            `json:"serial_number,omitempty"`
	UDID         string            `json:"udid,omitempty"`
	Model        string            `json:"model,omitempty"`
	OS           string            `json:"os,omitempty"`
	OSVersion    string            `json:"os_version,omitempty"`
	EASDeviceID  string            `json:"eas_device_id,omitempty"`
	Labels       map[string]string `json:"labels,omitempty"`
}

// Device answers GET /devices/{id}.
type Device struct {
	trust.Device
	OwnerNames   trust.Owner         `json:"owner_names"`
	Certificates []Certificate       `json:"certificates"`
	Profiles     []trust.MailProfile `json:"profiles"`
}

// DeviceUpdate asks for PATCH /devices/{id}. A field that is left out stays as it is.
type DeviceUpdate struct {
	EASDeviceID *string           `json:"eas_device_id,omitempty"`
	Model       *string           `json:"model,omitempty"`
	OS          *string           `json:"os,omitempty"`
	OSVersion   *string           `json:"os_version,omitempty"`
	Compliant   *trust.Compliance `json:"compliant,omitempty"`
	Labels      map[string]string `json:"labels,omitempty"` // an empty value removes the label
	UPN         string            `json:"upn,omitempty"`
	SAM         string            `json:"sam,omitempty"`
	OID         string            `json:"oid,omitempty"`
	TID         string            `json:"tid,omitempty"`
	Aliases     []string          `json:"aliases,omitempty"`     // added to those known
	Delegations []string          `json:"delegations,omitempty"` // added to those known
}

// OwnerUpdate asks for PATCH /owners/{mail}. A field that is left out stays as it is, and an empty one is taken away.
type OwnerUpdate struct {
	UPN             *string  `json:"upn,omitempty"`
	SAM             *string  `json:"sam,omitempty"`
	OID             *string  `json:"oid,omitempty"`              // object id in Entra ID
	TID             *string  `json:"tid,omitempty"`              // tenant
	Aliases         []string `json:"aliases,omitempty"`          // added to those known
	Delegations     []string `json:"delegations,omitempty"`      // added to those known
	DropAliases     []string `json:"drop_aliases,omitempty"`     // taken away; one that is not known is refused
	DropDelegations []string `json:"drop_delegations,omitempty"` // likewise
}

// NewChallenge asks for POST /challenges.
type NewChallenge struct {
	Device trust.DeviceID `json:"device"`
	TTL    string         `json:"ttl,omitempty"` // a Go duration; an hour if left out
}

// Challenge is its answer. It is shown once.
type Challenge struct {
	Device    trust.DeviceID `json:"device"`
	URL       string         `json:"url"` // of SCEP
	Challenge string         `json:"challenge"`
	Expires   time.Time      `json:"expires"`
}

// Comment asks for POST /devices/{id}/retire, for .../reinstate of a device or an owner, and for .../hold and .../release of a certificate.
type Comment struct {
	Issuer  string `json:"issuer,omitempty"` // of a certificate, where two issuers have the serial number
	Comment string `json:"comment,omitempty"`
}

// DeviceState asks for POST /devices/{id}/state.
type DeviceState struct {
	State   trust.State `json:"state"` // active, blocked or quarantined
	Comment string      `json:"comment,omitempty"`
}

// Suspend asks for POST /devices/{id}/suspend and POST /owners/{mail}/suspend; .../reinstate asks with a Comment.
type Suspend struct {
	Reason  string `json:"reason,omitempty"` // lost, unassigned, absent, investigation or other; other if left out
	Comment string `json:"comment,omitempty"`
}

// Reassign asks for POST /devices/{id}/reassign.
type Reassign struct {
	Owner   string   `json:"owner"`
	UPN     string   `json:"upn,omitempty"`
	Aliases []string `json:"aliases,omitempty"`
}

// Certificate is one certificate in a list. The bytes are in CertificateDetail.
type Certificate struct {
	Issuer      string           `json:"issuer"`
	CA          string           `json:"ca"`
	Serial      trust.Serial     `json:"serial"`
	Device      trust.DeviceID   `json:"device"`
	Owner       string           `json:"owner"`
	Subject     string           `json:"subject"`
	Status      string           `json:"status"` // good, held, superseded, revoked; expired once it is, unless revoked
	Reason      trust.ReasonCode `json:"reason,omitempty"`
	Comment     string           `json:"comment,omitempty"`
	NotBefore   time.Time        `json:"not_before"`
	NotAfter    time.Time        `json:"not_after"`
	ChangedAt   time.Time        `json:"changed_at"`
	Predecessor trust.Serial     `json:"predecessor,omitempty"`
	Successor   trust.Serial     `json:"successor,omitempty"`
	SKI         string           `json:"ski"`
	Fingerprint string           `json:"fingerprint"`
}

// CertificateDetail answers GET /certificates/{serial}.
type CertificateDetail struct {
	Certificate
	Evidence  trust.Evidence `json:"evidence"`
	FirstUsed *time.Time     `json:"first_used"`
	Timeline  *Timeline      `json:"timeline"` // of GET only; null if it was never in a CRL
	PEM       string         `json:"pem"`
}

// Revoke asks for POST /certificates/{serial}/revoke.
type Revoke struct {
	Issuer  string `json:"issuer,omitempty"`
	Reason  string `json:"reason,omitempty"` // a CRLReason by its name; unspecified if left out
	Comment string `json:"comment,omitempty"`
}

// Link asks for POST /profiles/{id}/link.
type Link struct {
	Device trust.DeviceID `json:"device"`
}

// NewToken asks for POST /tokens.
type NewToken struct {
	Name string     `json:"name"`
	Role trust.Role `json:"role"`
	TTL  string     `json:"ttl,omitempty"` // a Go duration; 2160h (90 days) if left out
}

// Token is an access token; Secret only in the answer that made it.
type Token struct {
	ID      string     `json:"id"`
	Name    string     `json:"name"`
	Role    trust.Role `json:"role"`
	Secret  string     `json:"secret,omitempty"`
	Created time.Time  `json:"created"`
	Expires time.Time  `json:"expires"`
	Revoked *time.Time `json:"revoked"`
}

// AuditEntry is one line of GET /audit.
type AuditEntry struct {
	Seq       uint64          `json:"seq"`
	Revision  uint64          `json:"revision"`
	At        time.Time       `json:"at"`
	Principal string          `json:"principal"` // kind:name
	Role      trust.Role      `json:"role,omitempty"`
	Action    string          `json:"action"`
	Object    string          `json:"object"`
	Outcome   string          `json:"outcome"` // done or refused
	Detail    string          `json:"detail,omitempty"`
	Before    json.RawMessage `json:"before,omitempty"`
	After     json.RawMessage `json:"after,omitempty"`
}

// CRL is one published CRL.
type CRL struct {
	Issuer      string    `json:"issuer"`
	CA          string    `json:"ca"`
	Kind        string    `json:"kind"` // base or delta
	Number      uint64    `json:"number"`
	BaseNumber  uint64    `json:"base_number,omitempty"`
	ThisUpdate  time.Time `json:"this_update"`
	NextUpdate  time.Time `json:"next_update"`
	NextPublish time.Time `json:"next_publish"`
	Entries     int       `json:"entries"`
	Size        int       `json:"size"`
	URL         string    `json:"url"`
}

// Publish asks for POST /crls/publish.
type Publish struct {
	Issuer string `json:"issuer"`
	Base   bool   `json:"base"` // a complete CRL too, not only a delta
}

// Decision is one decision, explained.
type Decision struct {
	Reference   string          `json:"reference"`
	At          time.Time       `json:"at"`
	Door        string          `json:"door"`
	Action      trust.Action    `json:"action"`
	Reasons     []trust.Reason  `json:"reasons"`
	User        string          `json:"user,omitempty"`
	Device      trust.DeviceID  `json:"device,omitempty"`
	Certificate trust.Serial    `json:"certificate,omitempty"`
	ClientID    string          `json:"client_id,omitempty"`
	Profile     string          `json:"profile,omitempty"`
	Command     string          `json:"command,omitempty"`
	Remote      string          `json:"remote,omitempty"`
	ValidUntil  *time.Time      `json:"valid_until"`
	Input       json.RawMessage `json:"input,omitempty"`
	Policy      string          `json:"policy"` // digest
}

// Status answers GET /status.
type Status struct {
	Version  string     `json:"version"`
	Started  time.Time  `json:"started"`
	Revision uint64     `json:"revision"`
	Policy   string     `json:"policy"`
	Replaced bool       `json:"policy_replaced"` // the built-in policies are not in force
	Shadow   string     `json:"policy_shadow"`   // that decides beside it on the node that answers; empty for none
	Problems []string   `json:"problems"`        // what makes it unhealthy; empty when all is well
	Warnings []string   `json:"warnings"`        // what to know though it is healthy
	CRLs     []CRL      `json:"crls"`
	Gate     GateStatus `json:"gate"`
}

// GateStatus says whether the edge can be walked around.
type GateStatus struct {
	State string `json:"state"` // open: nobody has shown that direct access to Exchange is closed
	Note  string `json:"note"`
}

// Package trust holds Postern's words: devices, owners, certificates, revocations, mail profiles, decisions, reasons and principals.
//
// It is the ground floor: the standard library only, no input or output, no clock. A value of this package says what is known; the rules for
// changing it live in package registry, and what follows from it is decided by package policy.
package trust

import (
	"crypto/rand"
	"encoding/base32"
	"encoding/binary"
	"errors"
	"strings"
	"time"
)

// Sentinel errors that every layer above understands. A door renders them in its own protocol; the text beside them may be shown to an
// administrator, never to a device.
var (
	ErrNotFound  = errors.New("not found")
	ErrConflict  = errors.New("conflict")
	ErrInvalid   = errors.New("invalid")
	ErrForbidden = errors.New("forbidden")
)

// DeviceID names a device for ever. It is Postern's own and never reused; what a phone claims as its identifier is an EAS DeviceId instead.
type DeviceID string

// NewID returns a fresh identifier of 128 random bits behind the prefix, lower-case letters and digits only: "dev-..." or "mp-...".
func NewID(prefix string) string {
	var raw [16]byte
	_, _ = rand.Read(raw[:]) // crypto/rand.Read never fails: it ends the process instead
	return prefix + "-" + strings.ToLower(base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(raw[:]))
}

// NewIDAt is NewID for what there is a lot of in the registry: 48 bits of the time in milliseconds stand before 80 random ones, so that identifiers sort by
// their age and what is new is stored together. It is no secret.
func NewIDAt(prefix string, at time.Time) string {
	var raw [16]byte
	binary.BigEndian.PutUint64(raw[:], uint64(max(0, at.UnixMilli()))<<16)
	_, _ = rand.Read(raw[6:])
	return prefix + "-" + strings.ToLower(base32.HexEncoding.WithPadding(base32.NoPadding).EncodeToString(raw[:]))
}

// State is where a device stands in its life.
type State string

// The states of a device. Only an active device can be managed in the sense of the access policy.
const (
	Pending     State = "pending"     // known, no certificate yet
	Active      State = "active"      // has been issued a certificate
	Quarantined State = "quarantined" // kept out until somebody settles it
	Blocked     State = "blocked"     // kept out by an administrator
	Retired     State = "retired"     // gone for good: its certificates are revoked
)

// Compliance is what the device's MDM says about its compliance. The empty string is never stored: absent means Unknown.
type Compliance string

// What an MDM can say of a device's compliance.
const (
	Compliant        Compliance = "yes"
	NonCompliant     Compliance = "no"
	ComplianceUnsure Compliance = "unknown"
)

// Device is one phone, tablet or computer as the registry knows it. Everything in it was said by an MDM or an administrator, nothing by the phone.
type Device struct {
	ID              DeviceID          `json:"id"`
	Issuer          string            `json:"issuer"`
	Owner           string            `json:"owner"`         // the owner's mail address, lower case
	SerialNumber    string            `json:"serial_number"` // of the hardware
	UDID            string            `json:"udid,omitempty"`
	EASDeviceID     string            `json:"eas_device_id,omitempty"` // canonical form, as the MDM reports it; empty where it reports none
	Model           string            `json:"model,omitempty"`         // the maker's hardware identifier, for example iPhone15,4
	OS              string            `json:"os,omitempty"`
	OSVersion       string            `json:"os_version,omitempty"`
	State           State             `json:"state"`
	Managed         bool              `json:"managed"`
	Compliant       Compliance        `json:"compliant"`
	ComplianceSince time.Time         `json:"compliance_since,omitzero"` // since when Compliant is what it is; zero: unknown
	Source          string            `json:"source"`                    // who reports it: "admin", or the name of an MDM
	SourceSync      time.Time         `json:"source_sync,omitzero"`      // the last successful sync of that source; zero for "admin", which does not sync
	Labels          map[string]string `json:"labels,omitempty"`
	Suspended       *Suspension       `json:"suspended,omitempty"` // nil: it is not
	Created         time.Time         `json:"created"`
	Enrolled        time.Time         `json:"enrolled,omitzero"` // the first certificate of its present owner; zero: none, or before this was recorded
	Updated         time.Time         `json:"updated"`
}

// SetCompliant takes over what an MDM says of the device's compliance at a moment, and keeps since when it says so. Nothing said is ComplianceUnsure.
func (d *Device) SetCompliant(c Compliance, at time.Time) {
	if c == "" {
		c = ComplianceUnsure
	}
	if d.Compliant != c {
		d.Compliant, d.ComplianceSince = c, at.UTC()
	}
}

// EnrolledAt returns when the device enrolled, or its age where that was not recorded; ok is false for one that has not.
func (d *Device) EnrolledAt() (at time.Time, ok bool) {
	if !d.Enrolled.IsZero() {
		return d.Enrolled, true
	}
	return d.Created, d.State != Pending
}

// Owner is the person a device belongs to, under all the names that a mail client may use. All names are lower case.
type Owner struct {
	Mail        string   `json:"mail"` // the primary address, and the key
	UPN         string   `json:"upn,omitempty"`
	Proxies     []string `json:"proxies,omitempty"`     // further addresses of the same mailbox
	SAM         string   `json:"sam,omitempty"`         // domain\name
	OID         string   `json:"oid,omitempty"`         // object id in the tenant
	TID         string   `json:"tid,omitempty"`         // tenant id
	Delegations []string `json:"delegations,omitempty"` // shared mailboxes this owner may open, granted explicitly

	Suspended *Suspension `json:"suspended,omitempty"` // nil: the owner is not
}

// Names lists every name under which the owner may sign in, delegations excluded, without duplicates.
func (o Owner) Names() []string {
	var names []string
	seen := map[string]bool{"": true}
	for _, n := range append([]string{o.Mail, o.UPN, o.SAM}, o.Proxies...) {
		if n = strings.ToLower(n); !seen[n] {
			seen[n] = true
			names = append(names, n)
		}
	}
	return names
}

// Mail reports whether s is a plausible, normalised mail address and returns it in lower case with its domain. It is deliberately
// narrow (RFC 5321, section 4.1.2, without quoted local parts and address literals): these addresses go into certificates as IA5String.
func Mail(s string) (mail, domain string, err error) {
	s = strings.ToLower(strings.TrimSpace(s))
	local, domain, ok := strings.Cut(s, "@")
	if !ok || local == "" || domain == "" || len(s) > 254 || len(local) > 64 {
		return "", "", errors.New("not a mail address")
	}
	for _, r := range local {
		if r <= ' ' || r >= 0x7f || strings.ContainsRune(`"(),:;<>@[\]`, r) {
			return "", "", errors.New("mail address with a character that is not allowed")
		}
	}
	if !Domain(domain) {
		return "", "", errors.New("mail address with a domain that is not one")
	}
	return s, domain, nil
}

// Domain reports whether s is a lower-case DNS name of at least two labels (RFC 1035, section 2.3.1).
func Domain(s string) bool {
	labels := strings.Split(s, ".")
	if len(labels) < 2 || len(s) > 253 {
		return false
	}
	for _, l := range labels {
		if l == "" || len(l) > 63 || l[0] == '-' || l[len(l)-1] == '-' {
			return false
		}
		for _, r := range l {
			if (r < 'a' || r > 'z') && (r < '0' || r > '9') && r != '-' {
				return false
			}
		}
	}
	return true
}

package policy

import "postern/internal/trust"

// Contract is the version of the inputs and outputs below. It rises when a field changes its meaning; new fields do not raise it.
const Contract = 1

// AccessInput is what data.postern.access.decision sees of one request at the edge. Every field is always present; names are lower case, versions
// numeric, times Unix seconds (0: never or unknown). Each part says who vouches for it, and parts never mix: "claimed" was said by the phone,
// "certificate" was proved on the connection, "device" and "owner" come from the registry.
type AccessInput struct {
	Now         int64            `json:"now"`
	Request     RequestFacts     `json:"request"`
	Claimed     ClaimedFacts     `json:"claimed"`
	Credential  CredentialFacts  `json:"credential"`
	Certificate CertFacts        `json:"certificate"`
	Device      DeviceFacts      `json:"device"`
	Owner       OwnerFacts       `json:"owner"`
	Profile     ProfileFacts     `json:"profile"`
	Duplicate   DuplicateFacts   `json:"duplicate"`
	Ticket      TicketFacts      `json:"ticket"`
	Exceptions  []ExceptionFacts `json:"exceptions"` // that were granted for this device or its owner, sorted by id; empty nearly always

	// Assurance is how the edge knows the device: certificate (a good one on this connection), token (a live ticket, or a bearer token that was obtained
	// through one) or claimed (nothing but what the phone says). AssuranceUntil is when such a token expires; 0 for the others.
	Assurance      string        `json:"assurance" enum:"certificate,token,claimed"`
	AssuranceUntil int64         `json:"assurance_until"`
	Snapshot       SnapshotFacts `json:"snapshot"`
}

// RequestFacts describe the request itself.
type RequestFacts struct {
	Class    string `json:"class" enum:"command,discovery,token"`       // discovery, command, or token: a request to the token endpoint of the OAuth front
	Protocol string `json:"protocol" enum:"eas,ews,autodiscover,oauth"` // eas, ews, autodiscover, oauth
	Tenant   string `json:"tenant"`                                     // the issuer whose gate this is
	Host     string `json:"host"`
	Method   string `json:"method"`
	Command  string `json:"command"` // EAS command, lower case; options for OPTIONS; at the token endpoint the grant type
	Version  int    `json:"version"` // EAS protocol version times ten: 161; 0 where none was given
	SourceIP string `json:"source_ip"`

	// Zones are the names of the networks and countries in the policy's data that SourceIP is in. The engine fills them in.
	Zones map[string]bool `json:"zones"`
}

// ClaimedFacts are what the phone says of itself. Anybody can say anything here.
type ClaimedFacts struct {
	DeviceID   string `json:"device_id"` // EAS DeviceId, canonical form
	DeviceType string `json:"device_type"`
	UserAgent  string `json:"user_agent"`
	Family     string `json:"family"`    // of the client application: apple_mail, gmail, outlook, ..., other
	Platform   string `json:"platform"`  // ios, android, windows, unknown
	Model      string `json:"model"`     // of the user agent, or of the DeviceInformation that the mail profile has once sent
	OS         string `json:"os"`        // of the DeviceInformation in this Provision or Settings; empty with every other command
	OSNumber   int64  `json:"os_number"` // what the user agent of Apple's clients tells of the system's version, as in device.os_number, with 999 for parts that it leaves open; 0: nothing
}

// CredentialFacts are what the Authorization header says. The edge does not verify tokens and passwords: Exchange does.
type CredentialFacts struct {
	Kind     string          `json:"kind" enum:"none,empty_bearer,bearer,basic"`                                                        // none, empty_bearer, bearer, basic
	Problem  string          `json:"problem" enum:",duplicate_credentials,unreadable_credentials,app_only,wrong_tenant,wrong_audience"` // empty, or duplicate_credentials, unreadable_credentials, app_only, wrong_tenant, wrong_audience
	User     string          `json:"user"`                                                                                              // the name that the request is for
	Names    map[string]bool `json:"names"`                                                                                             // every name that the credential carries, and User=
	OID      string          `json:"oid"`
	TID      string          `json:"tid"`
	Audience []string        `json:"audience"`
	AppID    string          `json:"app_id"`
	Expires  int64           `json:"expires"`
}

// CertFacts are what the client certificate on this connection proves.
type CertFacts struct {
	Present           bool   `json:"present"`
	Problem           string `json:"problem" enum:",untrusted,unreadable,not_yet_valid,expired,wrong_usage,unknown"` // empty for a good chain, else: untrusted, unreadable, not_yet_valid, expired, wrong_usage, unknown
	Status            string `json:"status" enum:"good,held,superseded,revoked,none"`                                // good, held, superseded, revoked; none without a certificate of ours
	Issuer            string `json:"issuer"`
	Serial            string `json:"serial"`
	Device            string `json:"device"`
	Reason            string `json:"reason"` // of the revocation
	NotAfter          int64  `json:"not_after"`
	ChangedAt         int64  `json:"changed_at"`          // when Status became what it is
	SuccessorFirstUse int64  `json:"successor_first_use"` // of the certificate that superseded this one
}

// DeviceFacts are what the registry knows of the certificate's device; without a certificate, of the device an administrator linked or the MDM reports for this DeviceId.
type DeviceFacts struct {
	Known           bool              `json:"known"`
	ID              string            `json:"id"`
	State           string            `json:"state" enum:",pending,active,quarantined,blocked,retired"`
	Managed         bool              `json:"managed"`
	Compliant       string            `json:"compliant" enum:"yes,no,unknown"` // yes, no, unknown
	ComplianceSince int64             `json:"compliance_since"`                // since when Compliant is what it is; 0: unknown
	EASDeviceID     string            `json:"eas_device_id"`
	SerialNumber    string            `json:"serial_number"`
	Model           string            `json:"model"`
	OS              string            `json:"os"`
	OSVersion       string            `json:"os_version"`
	OSNumber        int64             `json:"os_number"` // OSVersion as a number: 17.5.1 is 17005001; 0: it cannot be read
	Source          string            `json:"source"`
	SilentFor       int64             `json:"silent_for"` // seconds between the device's last report and its source's last successful sync; 0 for a device kept by an administrator
	Labels          map[string]string `json:"labels"`
	Bucket          int               `json:"bucket"` // 0 to 99 by the device's id, for a rollout to so many per cent; 99 for a device that is not known
	Place           int               `json:"place"`  // among the owner's devices in the order in which they enrolled, from 1; 0: it has not enrolled, or is blocked, retired or not managed
	Suspended       bool              `json:"suspended"`
	Revoked         bool              `json:"revoked"`                                                           // its newest certificate is revoked or held, whatever was presented
	SuspendedAt     int64             `json:"suspended_at"`                                                      // 0: it is not
	SuspendReason   string            `json:"suspend_reason" enum:",lost,unassigned,absent,investigation,other"` // lost, unassigned, absent, investigation, other; empty: it is not
}

// OwnerFacts are the owner of DeviceFacts, under all names.
type OwnerFacts struct {
	Known         bool            `json:"known"`
	Mail          string          `json:"mail"`
	Names         map[string]bool `json:"names"` // mail, UPN, proxy addresses, domain\sam
	OID           string          `json:"oid"`
	TID           string          `json:"tid"`
	Delegations   map[string]bool `json:"delegations"`
	Devices       int             `json:"devices"`   // of the owner that have enrolled and are managed, and neither blocked nor retired
	Groups        map[string]bool `json:"groups"`    // the groups in the policy's data that one of Names is in; the engine fills them in
	Suspended     bool            `json:"suspended"` // with every device
	SuspendedAt   int64           `json:"suspended_at"`
	SuspendReason string          `json:"suspend_reason" enum:",lost,unassigned,absent,investigation,other"`
}

// ProfileFacts are the mail profile that this request belongs to.
type ProfileFacts struct {
	Known       bool   `json:"known"`
	ID          string `json:"id"`
	FirstSeen   int64  `json:"first_seen"`
	Certificate string `json:"certificate"` // the serial number it was last seen with
	Refused     bool   `json:"refused"`     // by an administrator
	Linked      bool   `json:"linked"`      // an administrator bound this client id to the device
}

// DuplicateFacts say where else the same certificate, DeviceId or model is in use.
type DuplicateFacts struct {
	DeviceIDManaged bool   `json:"device_id_managed"` // the claimed DeviceId is that of a managed profile, or the MDM reports it for a managed device
	ManagedDevice   string `json:"managed_device"`    // that device
	OtherDeviceID   string `json:"other_device_id"`   // another DeviceId of the same client family that uses this certificate's device
	OtherLastSeen   int64  `json:"other_last_seen"`
	OtherFirstSeen  int64  `json:"other_first_seen"`
	OtherIsOlder    bool   `json:"other_is_older"`  // it was there before this request's profile, told to the nanosecond; true for a profile that is not known yet
	SameUserModel   bool   `json:"same_user_model"` // a managed profile of the same user and hardware model is active: a hint only
}

// TicketFacts are the per-device address of the OAuth front: the one that a sign-in came to, or the one through which the request's bearer token was
// obtained.
type TicketFacts struct {
	Status string `json:"status" enum:"live,revoked,unknown,none"` // live; revoked, by an administrator or with the owner that it was made for; unknown; none: without a ticket
	ID     string `json:"id"`
	Device string `json:"device"`
}

// ExceptionFacts are an exception that somebody granted by command, for the device or for its owner.
type ExceptionFacts struct {
	ID        string   `json:"id"`
	GrantedBy string   `json:"granted_by"`
	Until     int64    `json:"until"`
	Reasons   []string `json:"reasons"` // codes that it lifts, where the policy lets them be lifted
}

// SnapshotFacts say how fresh the registry's facts are.
type SnapshotFacts struct {
	Behind int64 `json:"behind"` // seconds since the edge last heard from the registry
}

// EnrollInput is what data.postern.enroll.decision sees of one SCEP request whose requester has proved who it is.
type EnrollInput struct {
	Now        int64            `json:"now"`
	Kind       string           `json:"kind" enum:"enrol,renew"` // enrol or renew
	Issuer     string           `json:"issuer"`
	Evidence   string           `json:"evidence" enum:"challenge,ndes,validated,renewal"` // challenge, ndes (a challenge that was made for no device), validated (by an MDM or a webhook) or renewal
	Approved   bool             `json:"approved"`                                         // an administrator approved this very request
	Key        KeyFacts         `json:"key"`
	Requested  RequestedFacts   `json:"requested"`
	Device     DeviceFacts      `json:"device"`
	Owner      OwnerFacts       `json:"owner"`
	Domain     string           `json:"domain"`  // of the owner's mail address
	Domains    []string         `json:"domains"` // that the issuer may certify
	Renews     RenewsFacts      `json:"renews"`
	SourceIP   string           `json:"source_ip"`
	Exceptions []ExceptionFacts `json:"exceptions"`
}

// KeyFacts describe the key to be certified.
type KeyFacts struct {
	Algorithm string `json:"algorithm" enum:"rsa,ecdsa,other"` // rsa, ecdsa, other
	Bits      int    `json:"bits"`
	Attested  bool   `json:"attested"` // a validator has proof that hardware holds the key and does not let it out; false unless one says so
}

// RequestedFacts are the names in the CSR. They are never certified; naming another user is a reason to refuse.
type RequestedFacts struct {
	Mails []string `json:"mails"` // every address in subject and SAN, lower case
}

// RenewsFacts are the certificate that a renewal was signed with.
type RenewsFacts struct {
	Serial    string `json:"serial"`
	Status    string `json:"status" enum:",good,held,superseded,revoked"`
	NotBefore int64  `json:"not_before"`
	NotAfter  int64  `json:"not_after"`
	SameKey   bool   `json:"same_key"`
}

// Decision is what an entry point answers. Where Action is allow, Reasons may hold notes: unknown_client, and the exceptions that were used.
type Decision struct {
	Action     trust.Action   `json:"action"`
	Reasons    []trust.Reason `json:"reasons"`           // the most telling first; at least one unless Action is allow
	ValidUntil int64          `json:"valid_until"`       // Unix seconds: the earliest end among the facts used; 0: for as long as the facts hold
	Profile    string         `json:"profile,omitempty"` // enrolment only: the certificate profile, empty for the issuer's default
	Rule       string         `json:"rule,omitempty"`    // what allowed it: managed_profile, discovery, sign_in, enrolment, renewal or exception
	Policy     string         `json:"policy"`            // digest of the policy that decided
}

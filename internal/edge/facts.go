package edge

import (
	"cmp"
	"strings"
	"time"

	"postern/internal/eas"
	"postern/internal/oauth"
	"postern/internal/policy"
	"postern/internal/registry"
	"postern/internal/trust"
)

// familyApple is the family of clients whose user agent tells the version of the system.
const familyApple = "apple_mail"

// protocolEAS is the protocol of requests and of mail profiles.
const protocolEAS = "eas"

// situation is a request beside what the registry knows of it at one moment.
type situation struct {
	input   *policy.AccessInput
	profile trust.MailProfile // the profile it belongs to: its key always, the rest where Known
	managed bool              // the device, however it was found, is managed and active
	proved  bool              // a good certificate came with it
	certUse bool              // that certificate has not been used before
	granted bool              // there are exceptions, whether they count now or not
}

// situation computes the facts of a request. It reads the index only.
func (e *Edge) situation(q *request, now time.Time) situation {
	return e.situationBy(e.cfg.Index.Read(), q, now)
}

// situationBy is situation with a Reading of the caller's.
func (e *Edge) situationBy(x *registry.Reading, q *request, now time.Time) situation {
	in := &policy.AccessInput{Now: now.Unix(), Credential: q.credential, Assurance: "claimed", Ticket: policy.TicketFacts{Status: "none"}, Device: policy.NoDevice(), Exceptions: []policy.ExceptionFacts{}}
	in.Claimed = policy.ClaimedFacts{DeviceID: q.eas.DeviceID.String(), DeviceType: strings.ToLower(q.eas.DeviceType), UserAgent: q.userAgent,
		Family: q.client.Family, Platform: q.client.Platform, Model: cmp.Or(q.client.Model, q.model), OS: q.os}
	if q.client.Family == familyApple && q.client.Platform == "ios" {
		in.Claimed.OSNumber = policy.HighestVersion(q.client.Version)
	}
	var used time.Time
	in.Certificate, used = e.certificate(x, q.conn, q.tenant, now)
	tenant := e.tenant(q, in)
	in.Request = policy.RequestFacts{Class: q.class, Protocol: q.protocol, Tenant: tenant, Host: q.host, Method: q.method,
		Command: strings.ToLower(q.eas.Command.String()), Version: int(q.eas.Version), SourceIP: q.remote}
	in.Snapshot.Behind = int64(e.behind(now) / time.Second)

	s := situation{input: in}
	if c := in.Certificate; c.Problem == "" && (c.Status == string(trust.Good) || c.Status == string(trust.Superseded)) {
		in.Assurance, s.proved, s.certUse = "certificate", true, used.IsZero()
	}
	if made := tokenFacts(x, in, q, now); in.Assurance == "token" {
		used = made
	}
	s.profile = trust.MailProfile{Tenant: tenant, Protocol: q.protocol, ClientID: in.Claimed.DeviceID, User: in.Credential.User, Credential: in.Credential.Kind}
	device, found := findDevice(x, in, s.profile)
	if found {
		s.granted = ownerFacts(x, in, device)
		s.managed = isManaged(device)
		if in.Owner.Names[s.profile.User] {
			// Alias, UPN and address of one mailbox are one user, and one profile.
			s.profile.User = in.Owner.Mail
		}
	}
	if in.Credential.Kind == string(oauth.KindBearer) && in.Credential.Problem == "" && q.class == classCommand && !q.named && (in.Credential.OID == "" || in.Credential.OID != in.Owner.OID) {
		// Nobody can tell whose this token is; a User parameter is no evidence.
		in.Credential.Problem = oauth.CodeUnreadable
	}
	if known, ok := x.Profile(s.profile.Key()); ok {
		s.profile = known
		in.Claimed.Model = cmp.Or(in.Claimed.Model, known.Model)
		in.Profile = policy.ProfileFacts{Known: true, ID: known.ID, FirstSeen: policy.Seconds(known.FirstSeen), Certificate: string(known.Serial), Linked: known.Linked && known.Device == device.ID, Refused: known.Refused}
	}
	duplicates(x, in, s.profile, device, used)
	return s
}

// tenant returns the issuer whose gate a request is at: that of the host, of the certificate, or of the user's mail domain.
func (e *Edge) tenant(q *request, in *policy.AccessInput) string {
	if q.tenant != "" {
		return q.tenant
	}
	if in.Certificate.Issuer != "" {
		return in.Certificate.Issuer
	}
	_, domain, _ := strings.Cut(in.Credential.User, "@")
	return e.anchors.Load().issuerOfDomain(domain)
}

// findDevice returns the device that the request is about: that of a certificate of ours, whatever its standing; without one the device that an administrator
// linked, or for which its MDM reports the DeviceId. A token that came through a ticket goes before these two.
func findDevice(x *registry.Reading, in *policy.AccessInput, own trust.MailProfile) (trust.Device, bool) {
	if in.Certificate.Status != "none" {
		return x.Device(trust.DeviceID(in.Certificate.Device))
	}
	if in.Assurance == "token" {
		return x.Device(trust.DeviceID(in.Ticket.Device))
	}
	if in.Claimed.DeviceID == "" {
		return trust.Device{}, false
	}
	var linked trust.DeviceID
	for _, p := range x.ProfilesOfClient(in.Claimed.DeviceID) {
		// The same user's link comes before another's on the same phone.
		if p.Linked && p.Tenant == own.Tenant && (linked == "" || p.User == own.User) {
			linked = p.Device
		}
	}
	if linked != "" {
		return x.Device(linked)
	}
	var found trust.Device
	for _, d := range x.DevicesByEAS(in.Claimed.DeviceID) {
		if d.Issuer == own.Tenant && (found.ID == "" || !isManaged(found) && isManaged(d)) {
			found = d
		}
	}
	return found, found.ID != ""
}

// ownerFacts fills in the device, its owner, and what was granted to these. It reports whether there are exceptions, whether they count now or not.
func ownerFacts(x *registry.Reading, in *policy.AccessInput, d trust.Device) (exceptions bool) {
	in.Device = policy.FactsOfDevice(d)
	in.Device.EASDeviceID = canonical(d.EASDeviceID)
	in.Device.Revoked = x.Withdrawn(d.ID)
	if owner, ok := x.Owner(d.Owner); ok {
		in.Owner = policy.FactsOfOwner(owner)
	}
	granted := x.ExceptionsFor(d)
	if granted != nil {
		in.Exceptions = policy.FactsOfExceptions(granted, time.Unix(in.Now, 0))
	}
	in.Owner.Devices, in.Device.Place = x.Fleet(d.Owner, d.ID)
	return granted != nil
}

// isManaged reports whether a device is what a managed profile may be on.
func isManaged(d trust.Device) bool { return d.Managed && d.State == trust.Active }

// canonical gives a DeviceId as an MDM reports it in the form that requests are compared in.
func canonical(reported string) string {
	if id, err := eas.ParseDeviceID(reported); err == nil {
		return id.String()
	}
	return strings.ToLower(reported)
}

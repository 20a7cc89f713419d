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
	profile *trust.MailProfile // it belongs to: its key always, the rest where Known. It may be the index's own and is never changed; nil of a sign-in
	named   string             // the certificate, as changes name it; "/" without one of ours
	managed bool               // the device, however it was found, is managed and active
	proved  bool               // a good certificate came with it
	certUse bool               // that certificate has not been used before
	granted bool               // there are exceptions, whether they count now or not
}

// situation computes the facts of a request. It reads the index only.
func (e *Edge) situation(q *request, now time.Time) situation {
	return e.situationBy(e.cfg.Index.Read(), q, now)
}

// situationBy is situation with a Reading of the caller's.
func (e *Edge) situationBy(x *registry.Reading, q *request, now time.Time) situation {
	in := inputOf(q, now)
	s := situation{input: in}
	claim := claimed{serial: q.conn.serial}
	s.named, claim.standing = e.certificate(x, &in.Certificate, q.conn, q.tenant, now)
	tenant, used := e.tenant(q, in), claim.standing.FirstUsed
	in.Request.Tenant, claim.tenant = tenant, tenant
	in.Snapshot.Behind = int64(e.behind(now) / time.Second)

	if c := &in.Certificate; c.Problem == "" && (c.Status == string(trust.Good) || c.Status == string(trust.Superseded)) {
		in.Assurance, s.proved, s.certUse = "certificate", true, used == 0
	}
	if made := tokenFacts(x, in, q, now); in.Assurance == "token" {
		used = policy.Seconds(made)
	}
	key := trust.ProfileKey{Tenant: tenant, Protocol: q.protocol, ClientID: in.Claimed.DeviceID, User: in.Credential.User, Credential: in.Credential.Kind}
	var device trust.DeviceID
	var devices [usualClaimants]*trust.Device
	var profiles [usualClaimants]*trust.MailProfile
	if in.Claimed.DeviceID != "" { // with a protocol that has none, every mailbox is under none
		claim.devices, claim.profiles = x.Claimants(devices[:], profiles[:], in.Claimed.DeviceID)
	}
	if d := findDevice(x, in, &claim); d != nil {
		device, claim.own = d.ID, d
		s.granted = ownerFacts(x, in, q.conn, d)
		s.managed = isManaged(d)
		if in.Owner.Names[key.User] {
			// Alias, UPN and address of one mailbox are one user, and one profile.
			key.User = in.Owner.Mail
		}
	} else {
		in.Device = policy.NoDevice()
	}
	if in.Credential.Kind == string(oauth.KindBearer) && in.Credential.Problem == "" && q.class == classCommand && !q.named && (in.Credential.OID == "" || in.Credential.OID != in.Owner.OID) {
		// Nobody can tell whose this token is; a User parameter is no evidence.
		in.Credential.Problem = oauth.CodeUnreadable
	}
	if known := claim.profile(x, &key); known != nil {
		s.profile = known
		in.Claimed.Model = cmp.Or(in.Claimed.Model, known.Model)
		in.Profile = policy.ProfileFacts{Known: true, ID: known.ID, FirstSeen: policy.Seconds(known.FirstSeen), Certificate: string(known.Serial), Linked: known.Linked && known.Device == device, Refused: known.Refused}
	} else {
		s.profile = &trust.MailProfile{Tenant: key.Tenant, Protocol: key.Protocol, ClientID: key.ClientID, User: key.User, Credential: key.Credential}
	}
	duplicates(x, in, &claim, s.profile, device, used)
	return s
}

// inputOf returns an input with what a request says itself.
func inputOf(q *request, now time.Time) *policy.AccessInput {
	in := &policy.AccessInput{Now: now.Unix(), Credential: q.credential, Assurance: "claimed", Ticket: policy.TicketFacts{Status: "none"}, Exceptions: []policy.ExceptionFacts{},
		Claimed: policy.ClaimedFacts{DeviceID: q.eas.DeviceID.String(), DeviceType: strings.ToLower(q.eas.DeviceType), UserAgent: q.userAgent,
			Family: q.client.Family, Platform: q.client.Platform, Model: cmp.Or(q.client.Model, q.model), OS: q.os},
		Request: policy.RequestFacts{Class: q.class, Protocol: q.protocol, Host: q.host, Method: q.method, Command: commandWord(q.eas.Command), Version: int(q.eas.Version),
			SourceIP: q.remote}}
	if q.client.Family == familyApple && q.client.Platform == "ios" {
		in.Claimed.OSNumber = policy.HighestVersion(q.client.Version)
	}
	return in
}

// commandWords are the commands as facts have them.
var commandWords = func() (words [eas.Find + 1]string) {
	for c := range words {
		words[c] = strings.ToLower(eas.Command(c).String())
	}
	return words
}()

func commandWord(c eas.Command) string {
	if int(c) < len(commandWords) {
		return commandWords[c]
	}
	return strings.ToLower(c.String())
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

// claimed is what the index has under the DeviceId that a request claims: what devices MDMs report by it, and whose mail profiles there are. None of it may be changed.
type claimed struct {
	tenant   string
	standing registry.Standing // of the certificate that came with it; none for one that is not in the registry
	serial   trust.Serial      // of that certificate
	own      *trust.Device     // that the request is about; nil for none
	devices  []*trust.Device
	profiles []*trust.MailProfile
}

// usualClaimants is how many a DeviceId, or a device, hardly has more of: room for so many costs no memory.
const usualClaimants = 4

// profile returns the mail profile with the key, which is one under the DeviceId; nil without one.
func (c *claimed) profile(x *registry.Reading, k *trust.ProfileKey) *trust.MailProfile {
	if k.ClientID == "" {
		p, _ := x.Profile(*k)
		return p
	}
	for _, p := range c.profiles {
		if p.ClientID == k.ClientID && p.User == k.User && p.Tenant == k.Tenant && p.Protocol == k.Protocol && p.Credential == k.Credential {
			return p
		}
	}
	return nil
}

// findDevice returns the device that the request is about: that of a certificate of ours, whatever its standing; without one the device that an administrator
// linked, or for which its MDM reports the DeviceId. A token that came through a ticket goes before these two. It is nil where there is none.
func findDevice(x *registry.Reading, in *policy.AccessInput, c *claimed) *trust.Device {
	of := func(id trust.DeviceID) *trust.Device { d, _ := x.Device(id); return d }
	if in.Certificate.Status != "none" {
		return of(trust.DeviceID(in.Certificate.Device))
	}
	if in.Assurance == "token" {
		return of(trust.DeviceID(in.Ticket.Device))
	}
	if in.Claimed.DeviceID == "" {
		return nil
	}
	var linked trust.DeviceID
	for _, p := range c.profiles {
		// The same user's link comes before another's on the same phone.
		if p.Linked && p.Tenant == c.tenant && (linked == "" || p.User == in.Credential.User) {
			linked = p.Device
		}
	}
	if linked != "" {
		return of(linked)
	}
	var found *trust.Device
	for _, d := range c.devices {
		if d.Issuer == c.tenant && (found == nil || !isManaged(found) && isManaged(d)) {
			found = d
		}
	}
	return found
}

// ownerFacts fills in the device, its owner, and what was granted to these. It reports whether there are exceptions, whether they count now or not.
func ownerFacts(x *registry.Reading, in *policy.AccessInput, c *connection, d *trust.Device) (exceptions bool) {
	around := x.Surroundings(d)
	in.Device = policy.FactsOfDevice(d)
	if claimed := in.Claimed.DeviceID; len(d.EASDeviceID) == len(claimed) && strings.EqualFold(d.EASDeviceID, claimed) {
		in.Device.EASDeviceID = claimed // which is canonical, and all ASCII, as the other must be to have the length
	} else {
		in.Device.EASDeviceID = canonical(d.EASDeviceID)
	}
	in.Device.Revoked, in.Device.Place = around.Withdrawn, around.Place
	if around.Owner != nil {
		in.Owner = *c.ownerFacts(around.Owner)
	}
	in.Owner.Devices = around.Devices
	if around.Exceptions != nil {
		in.Exceptions = policy.FactsOfExceptions(around.Exceptions, time.Unix(in.Now, 0))
	}
	return around.Exceptions != nil
}

// ownersFacts are the facts of an owner as the registry had him.
type ownersFacts struct {
	of    *trust.Owner
	facts policy.OwnerFacts
}

// ownerFacts returns the facts of an owner, which must not be changed. A connection with a certificate is of one owner, whose names it keeps for as long as the
// index has the very same owner: one who changes is another there, see registry.Index.Owner.
func (c *connection) ownerFacts(o *trust.Owner) *policy.OwnerFacts {
	if kept := c.owner.Load(); kept != nil && kept.of == o {
		return &kept.facts
	}
	made := &ownersFacts{o, policy.FactsOfOwner(o)}
	if c.leaf != nil {
		c.owner.Store(made)
	}
	return &made.facts
}

// isManaged reports whether a device is what a managed profile may be on.
func isManaged(d *trust.Device) bool { return d.Managed && d.State == trust.Active }

// canonical gives a DeviceId as an MDM reports it in the form that requests are compared in.
func canonical(reported string) string {
	if id, err := eas.ParseDeviceID(reported); err == nil {
		return id.String()
	}
	return strings.ToLower(reported)
}

package policy

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
)

const year = 365 * 24 * 3600

// remedies lists what could be different about a request that was refused: for the built-in rules, things that people can do; for the rules of a team, the
// facts that the rules which spoke read.
func (p *program) remedies(in *AccessInput, d Decision) []changeOf {
	all := slices.Concat(certificateRemedies(in), deviceRemedies(in), requestRemedies(in), p.networkRemedies(in), p.teamRemedies(in, d))
	return slices.DeleteFunc(all, func(c changeOf) bool {
		changed := in.clone()
		c.apply(changed)
		return changed.digest(true) == in.digest(true)
	})
}

func certificateRemedies(in *AccessInput) []changeOf {
	present := "The phone showed no certificate."
	if in.Certificate.Present {
		present = fmt.Sprintf("The certificate shown is %s (%s).", or(in.Certificate.Status, "unknown"), or(in.Certificate.Problem, "no fault in its form"))
	}
	return []changeOf{{Change{present, "The phone shows a good certificate of its device: let it enrol (again), and let the mail profile use that certificate."}, func(in *AccessInput) {
		c := &in.Certificate
		c.Present, c.Problem, c.Status, c.Reason, c.Device, c.NotAfter = true, "", "good", "", or(in.Device.ID, "dev"), in.Now+year
		c.Issuer, c.Serial, in.Assurance = or(c.Issuer, in.Request.Tenant), or(c.Serial, "00"), "certificate"
		if in.Duplicate.ManagedDevice != "" {
			in.Duplicate.ManagedDevice = c.Device
		}
	}}}
}

func deviceRemedies(in *AccessInput) []changeOf {
	d, o := in.Device, in.Owner
	return []changeOf{
		{Change{fmt.Sprintf("The device is %s in the registry.", known(d.Known, "known", "not known")) + managedText(d),
			"The device is registered, managed by its MDM and active."}, func(in *AccessInput) {
			d := &in.Device
			d.Known, d.Managed, d.State, d.ID = true, true, "active", or(d.ID, "dev")
			in.Owner.Known = in.Owner.Mail != ""
			if in.Owner.Mail == "" && in.Credential.User != "" {
				in.Owner = OwnerFacts{Known: true, Mail: in.Credential.User, Names: maps.Clone(in.Credential.Names), Delegations: map[string]bool{}}
			}
		}},
		{Change{fmt.Sprintf("The device was not heard of for %s.", span(d.SilentFor)), "The device checks in with its MDM."}, func(in *AccessInput) { in.Device.SilentFor = 0 }},
		{Change{fmt.Sprintf("The device is %s (%s).", known(d.Suspended, "suspended", "not suspended"), or(d.SuspendReason, "no reason given")),
			"The device is reinstated: `postern device reinstate`."}, func(in *AccessInput) {
			in.Device.Suspended, in.Device.SuspendReason, in.Device.SuspendedAt = false, "", 0
		}},
		{Change{fmt.Sprintf("The owner %s is %s.", o.Mail, known(o.Suspended, "suspended", "not suspended")), "The owner is reinstated: `postern owner reinstate`."}, func(in *AccessInput) {
			in.Owner.Suspended, in.Owner.SuspendReason, in.Owner.SuspendedAt = false, "", 0
		}},
		{Change{fmt.Sprintf("The device is %s as to compliance.", or(d.Compliant, "unknown")), "The MDM reports the device as compliant."}, func(in *AccessInput) {
			in.Device.Compliant, in.Device.ComplianceSince = "yes", in.Now
		}},
		{Change{fmt.Sprintf("The system of the device is %s %s.", or(d.OS, "unknown"), or(d.OSVersion, "of an unknown version")),
			"The system is updated, and the device checks in with its MDM, which reports the new version."}, func(in *AccessInput) {
			in.Device.OS, in.Device.OSVersion, in.Device.OSNumber = or(in.Device.OS, or(in.Claimed.Platform, "ios")), "999", VersionNumber("999")
		}},
		{Change{fmt.Sprintf("It is the owner's device number %d of %d in the order in which they enrolled.", d.Place, o.Devices),
			"Devices that the owner no longer uses are retired: `postern device list --owner`, `postern device retire`."}, func(in *AccessInput) {
			in.Device.Place, in.Owner.Devices = min(in.Device.Place, 1), min(in.Owner.Devices, 1)
		}},
		{Change{fmt.Sprintf("The MDM reports the DeviceId %s, and the phone says %s.", or(d.EASDeviceID, "none"), or(in.Claimed.DeviceID, "none")),
			"The phone uses the mail profile that the MDM installed, or the MDM's DeviceId is corrected: `postern device update --eas-device-id`."}, func(in *AccessInput) {
			in.Device.EASDeviceID = in.Claimed.DeviceID
		}},
	}
}

func requestRemedies(in *AccessInput) []changeOf {
	k, u := in.Credential, in.Duplicate
	return []changeOf{
		{Change{fmt.Sprintf("The request is for %s, and the device belongs to %s.", or(strings.Join(slices.Sorted(maps.Keys(k.Names)), ", "), or(k.User, "nobody")), or(in.Owner.Mail, "nobody that is known")),
			"The owner of the device signs in with an account of his own; for a shared mailbox, it is delegated to him."}, func(in *AccessInput) {
			if in.Owner.Mail != "" {
				k := &in.Credential
				k.User, k.Names, k.OID, k.TID = in.Owner.Mail, map[string]bool{in.Owner.Mail: true}, in.Owner.OID, in.Owner.TID
			}
		}},
		{Change{fmt.Sprintf("The sign-in is %s (%s).", or(k.Kind, "none"), or(k.Problem, "readable")), "The client signs in in a form that can be read."}, func(in *AccessInput) {
			k := &in.Credential
			k.Kind, k.Problem = "bearer", ""
			if k.User == "" && in.Owner.Mail != "" {
				k.User, k.Names = in.Owner.Mail, map[string]bool{in.Owner.Mail: true}
			}
		}},
		{Change{fmt.Sprintf("Another mail profile has this DeviceId or certificate (%s).", or(u.OtherDeviceID, or(u.ManagedDevice, "none"))),
			"The other mail profile is removed from the phone, or this one is bound by hand: `postern profile link`."}, func(in *AccessInput) { in.Duplicate = DuplicateFacts{} }},
		{Change{"An administrator has refused this mail profile.", "It is settled otherwise: `postern settle allow " + or(in.Profile.ID, "ID") + "`."}, func(in *AccessInput) { in.Profile.Refused = false }},
		{Change{fmt.Sprintf("The mail client is of the family %s.", or(in.Claimed.Family, "unknown")), "A mail client that is allowed is used."}, func(in *AccessInput) {
			in.Claimed.Family, in.Claimed.Platform = "apple_mail", "ios"
		}},
		{Change{fmt.Sprintf("The platform is %s.", or(in.Device.OS, or(in.Claimed.Platform, "unknown"))), "A device of a platform that is allowed is used."}, func(in *AccessInput) {
			in.Device.OS, in.Claimed.Platform = other(in.Device.OS), other(in.Claimed.Platform)
		}},
		{Change{fmt.Sprintf("The command is %s.", or(in.Request.Command, "none")), "Another command: this one is not allowed."}, func(in *AccessInput) { in.Request.Command = "sync" }},
		{Change{fmt.Sprintf("The protocol version is %d.", in.Request.Version), "A client that speaks EAS 16.1."}, func(in *AccessInput) { in.Request.Version = 161 }},
	}
}

// networkRemedies are the other networks that the policy's data knows, and one that it does not.
func (p *program) networkRemedies(in *AccessInput) (all []changeOf) {
	z := p.surroundings().zones
	is := strings.Join(slices.Sorted(maps.Keys(z.of(in.Request.SourceIP))), ", ")
	seen := map[string]bool{is: true}
	for i, address := range z.from {
		name := strings.Join(slices.Sorted(maps.Keys(z.in[i])), ", ")
		if seen[name] || len(all) == maxNetworks {
			continue
		}
		seen[name] = true
		all = append(all, changeOf{Change{fmt.Sprintf("The request comes from %s (zones: %s).", or(in.Request.SourceIP, "nowhere"), or(is, "none")),
			"The phone is in another network (zones: " + or(name, "none") + ")."}, func(in *AccessInput) { in.Request.SourceIP = address.String() }})
	}
	return all
}

// maxNetworks is how many other networks are tried.
const maxNetworks = 8

// spoilers lists what would stop a request that was allowed.
func spoilers(in *AccessInput) []changeOf {
	return []changeOf{
		{Change{"The certificate is good.", "The certificate is revoked or put on hold."}, func(in *AccessInput) { in.Certificate.Status = "revoked" }},
		{Change{"A certificate was shown.", "No certificate is shown."}, func(in *AccessInput) { in.Certificate, in.Assurance = CertFacts{Status: "none"}, "claimed" }},
		{Change{"The device is managed.", "The MDM no longer manages the device."}, func(in *AccessInput) { in.Device.Managed = false }},
		{Change{"The device was heard of.", "The device is silent for thirty days."}, func(in *AccessInput) { in.Device.SilentFor = 30 * 86400 }},
		{Change{"The owner signs in.", "Somebody else signs in."}, func(in *AccessInput) {
			in.Credential.User, in.Credential.Names = "somebody.else@example.com", map[string]bool{"somebody.else@example.com": true}
		}},
		{Change{"The DeviceId is " + or(in.Claimed.DeviceID, "none") + ".", "Another DeviceId is used."}, func(in *AccessInput) { in.Claimed.DeviceID = "another" }},
		{Change{"The client is of the family " + or(in.Claimed.Family, "unknown") + ".", "A client that nobody knows is used."}, func(in *AccessInput) { in.Claimed.Family = "other" }},
		{Change{"The device is " + or(in.Device.Compliant, "unknown") + " as to compliance.", "The device is not compliant."}, func(in *AccessInput) {
			in.Device.Compliant, in.Device.ComplianceSince = "no", in.Now-year
		}},
		{Change{"The system of the device is " + or(in.Device.OSVersion, "of an unknown version") + ".", "The version of the system is older."}, func(in *AccessInput) {
			in.Device.OSVersion, in.Device.OSNumber = "1", VersionNumber("1")
		}},
		{Change{fmt.Sprintf("The client speaks version %d of ActiveSync.", in.Request.Version), "The client speaks an older version, 12.0."}, func(in *AccessInput) { in.Request.Version = 120 }},
		{Change{fmt.Sprintf("It is the owner's device number %d.", in.Device.Place), "The owner enrolled nine others before it."}, func(in *AccessInput) {
			in.Device.Place, in.Owner.Devices = 10, 10
		}},
	}
}

// teamRemedies are the facts that the team rules which spoke compare with something: each with another value.
func (p *program) teamRemedies(in *AccessInput, d Decision) (all []changeOf) {
	seen := map[string]bool{}
	for _, reason := range d.Reasons {
		if !strings.HasPrefix(reason.Rule, "postern.access.team.") {
			continue
		}
		for _, m := range p.modules {
			if m.Package.Path.String() != "data."+reason.Rule {
				continue
			}
			for _, r := range m.Rules {
				if !strings.Contains(r.String(), reason.Code) {
					continue
				}
				ast.WalkRefs(r.Body, func(ref ast.Ref) bool {
					if path := groundPath(ref); len(path) > 2 && path[0] == "input" && len(path) == len(ref) && !seen[ref.String()] {
						seen[ref.String()] = true
						all = append(all, otherValues(in, path[1:], r)...)
					}
					return false
				})
			}
		}
	}
	return all
}

// other returns the most common platform that is not this one.
func other(platform string) string {
	if platform == "ios" {
		return "android"
	}
	return "ios"
}

func or(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}

func known(b bool, yes, no string) string {
	if b {
		return yes
	}
	return no
}

func managedText(d DeviceFacts) string {
	if !d.Known {
		return ""
	}
	return fmt.Sprintf(" It is %s, and its state is %s.", known(d.Managed, "managed", "not managed"), or(d.State, "unknown"))
}

package policy

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
)

const year = 365 * 24 * 3600

type accessChange = changeOf[AccessInput]

// remedies lists what could be different about a request that was refused: for the built-in rules, things that people can do; for the rules of a team, the
// facts that the rules which spoke read.
func (p *program) remedies(in *AccessInput, d Decision) []accessChange {
	all := slices.Concat(certificateRemedies(in), deviceRemedies(in), standingRemedies(in), signInRemedies(in), p.clientRemedies(in), p.networkRemedies(in),
		teamChanges(p, in, d, func(in *AccessInput, code string) {
			in.Exceptions = append(slices.Clone(in.Exceptions), supposed(in.Now, code))
		}))
	return told(slices.DeleteFunc(all, func(c accessChange) bool {
		changed := in.clone()
		c.apply(changed)
		return changed.digest(true) == in.digest(true)
	}), d.Reasons)
}

func certificateRemedies(in *AccessInput) []accessChange {
	c, managed := in.Certificate, in.Duplicate.ManagedDevice
	if c.Present && c.Problem == "" && c.Status == "good" && in.Now < c.NotAfter && (managed == "" || managed == c.Device) {
		return nil
	}
	is := "The phone showed no certificate."
	if c.Present {
		is = fmt.Sprintf("The certificate shown is %s (%s).", or(c.Status, "unknown"), or(c.Problem, "no fault in its form"))
	}
	return []accessChange{{Change: Change{Fact: is, Do: "The phone shows a good certificate of its device."},
		codes: "duplicate_profile_without_certificate certificate_revoked certificate_held certificate_superseded certificate_expired certificate_not_trusted token_of_revoked_device no_certificate no_certificate_or_ticket",
		apply: func(in *AccessInput) {
			c := &in.Certificate
			c.Present, c.Problem, c.Status, c.Reason, c.Device, c.NotAfter = true, "", "good", "", or(in.Device.ID, "dev"), in.Now+year
			c.Issuer, c.Serial, in.Assurance, in.Device.Revoked = or(c.Issuer, in.Request.Tenant), or(c.Serial, "00"), "certificate", false
			if in.Duplicate.ManagedDevice != "" {
				in.Duplicate.ManagedDevice = c.Device
			}
		}}}
}

// standingRemedies end what somebody did to the device or its owner.
func standingRemedies(in *AccessInput) (all []accessChange) {
	d, o := in.Device, in.Owner
	switch d.State {
	case "retired", "blocked", "quarantined":
		all = append(all, accessChange{Change: Change{Fact: "The device is " + d.State + ".", Do: "The device is active."}, codes: "device_retired device_blocked device_quarantined", about: "device.state",
			apply: func(in *AccessInput) { in.Device.State = "active" }})
	}
	return append(all,
		accessChange{Change: Change{Fact: fmt.Sprintf("The device is suspended (%s).", or(d.SuspendReason, "no reason given")), Do: "The device is reinstated: `postern device reinstate`."},
			codes: "device_suspended", apply: func(in *AccessInput) {
				in.Device.Suspended, in.Device.SuspendReason, in.Device.SuspendedAt = false, "", 0
			}},
		accessChange{Change: Change{Fact: "The owner " + o.Mail + " is suspended.", Do: "The owner is reinstated: `postern owner reinstate`."},
			codes: "owner_suspended", apply: func(in *AccessInput) { in.Owner.Suspended, in.Owner.SuspendReason, in.Owner.SuspendedAt = false, "", 0 }})
}

// deviceRemedies are about what the registry and the MDM know.
func deviceRemedies(in *AccessInput) (all []accessChange) {
	d, o := in.Device, in.Owner
	if d.Compliant != "yes" {
		all = append(all, accessChange{Change: Change{Fact: known(d.Compliant == "no", "The device is not compliant.", "Nobody says whether the device is compliant."), Do: "The MDM reports the device as compliant."},
			codes: "device_not_compliant compliance_unknown", about: "device.compliant", apply: func(in *AccessInput) { in.Device.Compliant, in.Device.ComplianceSince = "yes", in.Now }})
	}
	return append(all,
		accessChange{Change: Change{Fact: "The device is not registered, managed and enrolled.", Do: "The device is registered, managed by its MDM and enrolled."},
			codes: "unmanaged_device", apply: manage},
		accessChange{Change: Change{Fact: fmt.Sprintf("The device was not heard of for %s.", span(d.SilentFor)), Do: "The device checks in with its MDM."},
			codes: "device_silent", about: "device.silent_for", apply: func(in *AccessInput) { in.Device.SilentFor = 0 }},
		accessChange{Change: Change{Fact: "The system of the device is " + systemOf(in) + ".", Do: "The system is updated, and the device checks in with its MDM, which reports the new version."},
			codes: "os_too_old os_version_unknown", about: "device.os_number device.os_version", apply: func(in *AccessInput) {
				in.Device.OS, in.Device.OSVersion, in.Device.OSNumber = or(in.Device.OS, or(in.Claimed.Platform, "ios")), "999", VersionNumber("999")
			}},
		accessChange{Change: Change{Fact: fmt.Sprintf("It is the owner's device number %d of %d in the order in which they enrolled.", d.Place, o.Devices),
			Do: "Devices that the owner no longer uses are retired: `postern device list --owner`, `postern device retire`."},
			codes: "too_many_devices", apply: func(in *AccessInput) {
				in.Device.Place, in.Owner.Devices = min(in.Device.Place, 1), min(in.Owner.Devices, 1)
			}},
		accessChange{Change: Change{Fact: fmt.Sprintf("The MDM reports %s, and the phone says %s.", deviceIDText(d.EASDeviceID), deviceIDText(in.Claimed.DeviceID)),
			Do: "The MDM reports the DeviceId that the phone says."},
			codes: "device_id_mismatch", apply: func(in *AccessInput) { in.Device.EASDeviceID = in.Claimed.DeviceID }})
}

// manage makes the device one that is registered, managed and enrolled, and leaves what somebody did to it.
func manage(in *AccessInput) {
	d := &in.Device
	d.Known, d.Managed, d.ID = true, true, or(d.ID, "dev")
	switch d.State {
	case "blocked", "retired", "quarantined":
	default:
		d.State = "active"
	}
	if in.Certificate.Device != "" {
		in.Certificate.Device = d.ID
	}
	in.Owner.Known = in.Owner.Mail != ""
	if in.Request.Class == "token" && in.Owner.Mail == "" { // a sign-in has no user yet
		in.Owner = OwnerFacts{Known: true, Mail: "owner", Names: maps.Clone(in.Credential.Names), Delegations: map[string]bool{}}
	}
	if in.Owner.Mail == "" && in.Credential.User != "" {
		in.Owner = OwnerFacts{Known: true, Mail: in.Credential.User, Names: maps.Clone(in.Credential.Names), Delegations: map[string]bool{}}
	}
}

func systemOf(in *AccessInput) string {
	return platformName(or(in.Device.OS, in.Claimed.Platform)) + known(in.Device.OSVersion == "", ", version not reported", " "+in.Device.OSVersion)
}

func deviceIDText(id string) string {
	if id == "" {
		return "no DeviceId"
	}
	return "the DeviceId " + id
}

func signInRemedies(in *AccessInput) []accessChange {
	k, u := in.Credential, in.Duplicate
	return []accessChange{
		{Change: Change{Fact: "The address that the phone signs in at is of no ticket of its device that counts.", Do: "The phone signs in at the address of a ticket that was made for its device."},
			codes: "ticket_unknown ticket_revoked ticket_of_another_device", apply: func(in *AccessInput) {
				if in.Request.Class == "token" {
					in.Ticket = TicketFacts{Status: "live", ID: or(in.Ticket.ID, "ticket"), Device: or(in.Device.ID, "dev")}
				}
			}},
		{Change: Change{Fact: fmt.Sprintf("The request is for %s, and the device belongs to %s.", or(strings.Join(slices.Sorted(maps.Keys(k.Names)), ", "), or(k.User, "nobody")), or(in.Owner.Mail, "nobody that is known")),
			Do: "The owner of the device signs in."},
			codes: "owner_mismatch wrong_tenant app_only_credential", apply: func(in *AccessInput) {
				if in.Owner.Mail == "" {
					return
				}
				k := &in.Credential
				k.User, k.Names, k.OID, k.TID = in.Owner.Mail, map[string]bool{in.Owner.Mail: true}, in.Owner.OID, in.Owner.TID
				if k.Problem == "app_only" || k.Problem == "wrong_tenant" {
					k.Problem = ""
				}
			}},
		{Change: Change{Fact: fmt.Sprintf("The sign-in is %s (%s).", or(k.Kind, "none"), or(k.Problem, "readable")), Do: "The client signs in in a form that can be read."},
			codes: "duplicate_credentials unreadable_credentials no_user wrong_audience", apply: func(in *AccessInput) {
				k := &in.Credential
				k.Kind, k.Problem, k.Audience = "bearer", "", nil
				if k.User == "" && in.Owner.Mail != "" {
					k.User, k.Names = in.Owner.Mail, map[string]bool{in.Owner.Mail: true}
				}
			}},
		{Change: Change{Fact: fmt.Sprintf("Another mail profile has this certificate (%s).", deviceIDText(u.OtherDeviceID)),
			Do: "The other mail profile is removed from the phone, or this one is bound by hand: `postern profile link`."},
			codes: "duplicate_profile_second_device_id same_user_and_model", apply: func(in *AccessInput) {
				in.Duplicate = DuplicateFacts{DeviceIDManaged: in.Duplicate.DeviceIDManaged, ManagedDevice: in.Duplicate.ManagedDevice}
			}},
		{Change: Change{Fact: "An administrator has refused this mail profile.", Do: "It is settled otherwise: `postern settle allow " + or(in.Profile.ID, "ID") + "`."},
			codes: "profile_refused", apply: func(in *AccessInput) { in.Profile.Refused = false }},
	}
}

// clientRemedies are another client, platform, command and version: the first that the policy's data allows.
func (p *program) clientRemedies(in *AccessInput) []accessChange {
	family := or(p.first("allowed_clients"), "apple_mail")
	platform := func(now string) string { return or(p.first("allowed_platforms"), other(now)) }
	return []accessChange{
		{Change: Change{Fact: fmt.Sprintf("The mail client is %s.", or(in.Claimed.Family, "unknown")), Do: "Another mail client is used: " + family + "."},
			codes: "client_not_allowed unknown_client", about: "claimed.family", apply: func(in *AccessInput) {
				in.Claimed.Family, in.Claimed.DeviceID = family, or(in.Device.EASDeviceID, in.Claimed.DeviceID)
			}},
		{Change: Change{Fact: fmt.Sprintf("The system of the device is %s.", platformName(or(in.Device.OS, in.Claimed.Platform))), Do: "A device with " + platformName(platform(in.Device.OS)) + " is used."},
			codes: "platform_not_allowed", about: "device.os claimed.platform", apply: func(in *AccessInput) {
				in.Device.OS, in.Claimed.Platform = platform(in.Device.OS), platform(in.Claimed.Platform)
			}},
		{Change: Change{Fact: fmt.Sprintf("The command is %s.", or(in.Request.Command, "none")), Do: "Another command is sent."},
			codes: "command_not_allowed", about: "request.command", apply: func(in *AccessInput) { in.Request.Command = "sync" }},
		{Change: Change{Fact: fmt.Sprintf("The mail client speaks version %s of ActiveSync.", FactText("request.version", fmt.Sprint(in.Request.Version))), Do: "The mail client is updated, or another one is used: one that speaks version 16.1."},
			codes: "eas_version_too_old", about: "request.version", apply: func(in *AccessInput) { in.Request.Version = 161 }},
	}
}

// first returns the first text of a list in the configuration.
func (p *program) first(setting string) string {
	if o, ok := configOf(p.data, "access").Value.(ast.Object); ok {
		if t := o.Get(ast.StringTerm(setting)); t != nil {
			text, _, _ := strings.Cut(plain(t), ", ")
			return text
		}
	}
	return ""
}

// networkRemedies are the other networks that the policy's data knows, and one that it does not.
func (p *program) networkRemedies(in *AccessInput) (all []accessChange) {
	z := p.surroundings().zones
	is := strings.Join(slices.Sorted(maps.Keys(z.of(in.Request.SourceIP))), ", ")
	seen := map[string]bool{is: true}
	for i, address := range z.from {
		name := strings.Join(slices.Sorted(maps.Keys(z.in[i])), ", ")
		if seen[name] || len(all) == maxNetworks {
			continue
		}
		seen[name] = true
		all = append(all, accessChange{Change: Change{Fact: fmt.Sprintf("The phone is at %s (%s).", or(in.Request.SourceIP, "nowhere"), zonesText(is)),
			Do: "The phone is in another network (" + zonesText(name) + ")."}, codes: "zone_not_allowed", about: "request.source_ip", apply: func(in *AccessInput) { in.Request.SourceIP = address.String() }})
	}
	return all
}

func zonesText(names string) string {
	if names == "" {
		return "in no network or country that has a name here"
	}
	return "network or country: " + names
}

// maxNetworks is how many other networks are tried.
const maxNetworks = 8

// other returns the most common platform that is not this one.
func other(platform string) string {
	if platform == "ios" {
		return "android"
	}
	return "ios"
}

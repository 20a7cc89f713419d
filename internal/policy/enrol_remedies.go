package policy

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
)

type enrolChange = changeOf[EnrollInput]

// enrolRemedies lists what could be different about an enrolment that was refused or waits.
func (p *program) enrolRemedies(in *EnrollInput, d Decision) []enrolChange {
	all := slices.Concat(registryRemedies(in), scepRemedies(in), teamChanges(p, in, d, func(in *EnrollInput, code string) {
		in.Exceptions = append(slices.Clone(in.Exceptions), supposed(in.Now, code))
	}))
	return told(slices.DeleteFunc(all, func(c enrolChange) bool {
		changed := in.clone()
		c.apply(changed)
		return reflect.DeepEqual(changed, in.clone())
	}), d.Reasons)
}

// registryRemedies are about what is known of the device and its owner.
func registryRemedies(in *EnrollInput) (all []enrolChange) {
	d, o := in.Device, in.Owner
	switch d.State {
	case "retired", "blocked", "quarantined":
		all = append(all, enrolChange{Change: Change{Fact: "The device is " + d.State + ".", Do: "The device is active."}, codes: "device_retired device_blocked device_quarantined",
			apply: func(in *EnrollInput) { in.Device.State = "active" }})
	}
	return append(all,
		enrolChange{Change: Change{Fact: "The device is not registered and managed.", Do: "The device is registered, and its MDM manages it."}, codes: "device_unknown not_managed",
			apply: func(in *EnrollInput) {
				in.Device.Known, in.Device.Managed, in.Device.State = true, true, or(in.Device.State, "pending")
			}},
		enrolChange{Change: Change{Fact: "The device has no owner.", Do: "The device has an owner."}, codes: "owner_unknown",
			apply: func(in *EnrollInput) {
				if o := &in.Owner; !o.Known {
					o.Known, o.Mail, o.Names, in.Domain = true, or(o.Mail, "owner"), map[string]bool{}, strings.Join(in.Domains[:min(1, len(in.Domains))], "")
					for _, mail := range in.Requested.Mails {
						o.Names[mail] = true
					}
				}
			}},
		enrolChange{Change: Change{Fact: "The device is suspended.", Do: "The device is reinstated: `postern device reinstate`."}, codes: "device_suspended",
			apply: func(in *EnrollInput) {
				in.Device.Suspended, in.Device.SuspendedAt, in.Device.SuspendReason = false, 0, ""
			}},
		enrolChange{Change: Change{Fact: "The owner is suspended.", Do: "The owner is reinstated: `postern owner reinstate`."}, codes: "owner_suspended",
			apply: func(in *EnrollInput) { in.Owner.Suspended, in.Owner.SuspendedAt, in.Owner.SuspendReason = false, 0, "" }},
		enrolChange{Change: Change{Fact: "The issuer may not certify addresses of " + or(in.Domain, "the owner") + ".", Do: "It may, or the owner has another address."}, codes: "domain_not_allowed",
			apply: func(in *EnrollInput) {
				if in.Owner.Known && !slices.Contains(in.Domains, in.Domain) {
					in.Domains = append(slices.Clone(in.Domains), in.Domain)
				}
			}},
		enrolChange{Change: Change{Fact: fmt.Sprintf("The owner has enrolled devices: %d.", o.Devices), Do: "Devices that the owner no longer uses are retired: `postern device retire`."}, codes: "too_many_devices",
			apply: func(in *EnrollInput) { in.Owner.Devices = 0 }})
}

// scepRemedies are about the request itself.
func scepRemedies(in *EnrollInput) (all []enrolChange) {
	if r := in.Renews; in.Kind == "renew" && (r.Status != "good" || in.Now < r.NotBefore || in.Now >= r.NotAfter) {
		all = append(all, enrolChange{Change: Change{Fact: "The certificate that signed the renewal is not good.", Do: "A good certificate signs it."}, codes: "renewal_certificate_not_good renewal_certificate_expired",
			apply: func(in *EnrollInput) {
				in.Renews.Status, in.Renews.NotBefore, in.Renews.NotAfter = "good", in.Now-1, in.Now+1
			}})
	} else if in.Kind == "renew" {
		all = append(all, enrolChange{Change: Change{Fact: "The certificate is far from its end.", Do: "The renewal comes later."}, codes: "renewal_too_early",
			apply: func(in *EnrollInput) { in.Now = in.Renews.NotAfter - 1 }})
	}
	return append(all,
		enrolChange{Change: Change{Fact: "Nobody has approved the request.", Do: "When the device asks again, a PKI officer approves that request: `postern pending list` shows its ID, `postern pending approve ID`."}, codes: "approval_required ndes_approval_required",
			apply: func(in *EnrollInput) { in.Approved = true }},
		enrolChange{Change: Change{Fact: fmt.Sprintf("The key is %s with %d bits.", in.Key.Algorithm, in.Key.Bits), Do: "The SCEP profile asks for a stronger key."}, codes: "weak_key",
			apply: func(in *EnrollInput) { in.Key.Algorithm, in.Key.Bits = "rsa", 1<<14 }},
		enrolChange{Change: Change{Fact: "The request names " + or(strings.Join(in.Requested.Mails, ", "), "nobody") + ".", Do: "The request names the owner or nobody."}, codes: "names_another_user",
			apply: func(in *EnrollInput) { in.Requested.Mails = []string{} }})
}

// enrolSpoilers lists what would stop an enrolment that was allowed.
func enrolSpoilers() []enrolChange {
	change := func(is, instead string, apply func(*EnrollInput)) enrolChange {
		return enrolChange{Change: Change{Fact: is, Do: instead}, apply: apply}
	}
	return []enrolChange{
		change("The device is managed.", "The MDM no longer manages the device.", func(in *EnrollInput) { in.Device.Managed = false }),
		change("The device may enrol.", "The device is blocked.", func(in *EnrollInput) { in.Device.State = "blocked" }),
		change("The owner is in service.", "The owner is suspended.", func(in *EnrollInput) { in.Owner.Suspended = true }),
		change("The key is strong enough.", "The key is of RSA with 1024 bits.", func(in *EnrollInput) { in.Key.Algorithm, in.Key.Bits = "rsa", 1024 }),
		change("The request names the owner or nobody.", "The request names somebody else.", func(in *EnrollInput) { in.Requested.Mails = []string{"somebody.else@example.com"} }),
		change("The certificate that signs the renewal is good.", "It is revoked.", func(in *EnrollInput) { in.Renews.Status = "revoked" }),
	}
}

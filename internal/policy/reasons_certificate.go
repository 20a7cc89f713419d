package policy

import "strings"

// certificateSayings are about the client certificate, and the ticket that stands in for it.
var certificateSayings = []saying{
	{code: "certificate_revoked", page: "revoked",
		text: "The certificate {certificate.serial} was revoked on {certificate.changed_at|time} (reason: {certificate.reason}).",
		remedy: "A revocation is final. If the device may have mail again, make a new challenge (`postern device challenge {certificate.device|id}`) and let it enrol a new certificate. " +
			"Who revoked it: `postern audit list --object {certificate.serial}`.",
		facts: "certificate.device owner.mail", say: sayRevoked},
	{code: "certificate_held", page: "revoked",
		text: "The certificate {certificate.serial} has been on hold since {certificate.changed_at|time}.",
		remedy: "Release the certificate when the cause is settled (`postern cert release {certificate.serial}`): mail returns with it, and no new enrolment is needed. " +
			"Who put it on hold, and why: `postern audit list --object {certificate.serial}`.",
		facts: "certificate.device owner.mail"},
	{code: "certificate_not_trusted", page: "revoked",
		text:   "The certificate of the connection is not accepted (status {certificate.status}).",
		remedy: "If the phone has the mail profile of the MDM, install it again: it brings the right certificate. If it has none, it enrols first (`postern device challenge ID`; `postern device list` shows the ID).",
		facts:  "certificate.serial certificate.issuer certificate.problem", say: sayNotTrusted},
	{code: "certificate_expired", page: "revoked",
		text:   "The certificate {certificate.serial} expired on {certificate.not_after|time}.",
		remedy: "Let the device enrol again with a new challenge (`postern device challenge {certificate.device|id}`); an expired certificate cannot renew itself.",
		facts:  "certificate.device owner.mail"},
	{code: "certificate_superseded", page: "revoked",
		text:   "The certificate {certificate.serial} was replaced by a newer one (superseded), which has been in use since {certificate.successor_first_use|time}; the old one counts for {config.supersede_grace|span} after that, and these are over.",
		remedy: "The mail profile on the phone must use the newer certificate, which the device has already: install the profile again. No new enrolment is needed.",
		facts:  "certificate.device owner.mail", say: saySuperseded},
	{code: "token_of_revoked_device", page: "revoked",
		text:   "The phone came with a token instead of a certificate, and the newest certificate of its device {device.id} is revoked or on hold: its tokens count no longer either.",
		remedy: withdrawnRemedy + " Its tokens count again from then on.",
		facts:  "ticket.id owner.mail claimed.family request.source_ip", say: sayTokenOfRevoked},
	{code: "ticket_revoked", page: "managed",
		text:   "The phone signs in at an address that was made for the device {ticket.device} (its ticket {ticket.id}), and that ticket was revoked, or the device was given to another owner.",
		remedy: "If the device may have mail, a PKI officer makes a new ticket (`postern device ticket {ticket.device|id}`), and its two addresses go into the mail profile in the MDM. Who revoked the old one: `postern audit list --object {ticket.device|id}`.",
		facts:  "owner.mail request.source_ip"},
	{code: "ticket_of_another_device", page: "managed",
		text:   "The phone signs in at the address that was made for the device {ticket.device} (its ticket {ticket.id}), and shows the certificate of another device, {certificate.device}.",
		remedy: "Put the addresses of its own ticket into the mail profile of {certificate.device} in the MDM (`postern device tickets --device {certificate.device|id}`). If nobody mixed the two up, somebody copied the address: revoke it (`postern device revoke-ticket {ticket.id}`).",
		facts:  "certificate.serial owner.mail request.source_ip"},
	{code: "ticket_unknown", page: "managed",
		text:   "The phone signs in at an address for a device's ticket, and no such ticket was ever made.",
		remedy: "A PKI officer makes a ticket for the device (`postern device ticket ID`; `postern device list` shows the ID), and its two addresses go into the mail profile in the MDM.",
		facts:  "request.source_ip claimed.user_agent"},
	{code: "no_certificate_or_ticket", page: "managed",
		text:   "The phone signs in without the certificate of a device, and not at the address of a device's ticket, so the sign-in was not passed on to the identity provider.",
		remedy: "Use the mail profile that the MDM made: it brings the certificate, or has the two addresses of a ticket, which a PKI officer makes (`postern device ticket ID`; `postern device list` shows the ID).",
		facts:  "request.source_ip request.command claimed.user_agent"},
	{code: "no_certificate", page: "managed",
		text: "The phone showed no client certificate (DeviceId {claimed.device_id}, mail client {claimed.family}).",
		remedy: "`postern device show {device.id|id}` says whether the device has a good certificate. If it has, install the mail profile that brings the certificate (the one of the MDM) on the phone again, and remove any account that was made by hand. " +
			"If it has none, it enrols first: `postern device challenge {device.id|id}`.",
		facts: "assurance ticket.id credential.user claimed.user_agent claimed.model duplicate.same_user_model", say: sayNoCertificate},
	{code: "duplicate_profile_without_certificate", page: "duplicates",
		text:   "The DeviceId {claimed.device_id} belongs to the managed device {duplicate.managed_device}, and this request came without that device's certificate (as {credential.user}, mail client {claimed.family}, from {request.source_ip}): it is a second mail account on it, or a copy of its DeviceId.",
		remedy: "Remove the hand-made mail account from the phone; the managed mail profile keeps working. If nobody made one on {duplicate.managed_device|id}, somebody else's phone uses its DeviceId: the mail client and the address above say which.",
		facts:  "credential.user claimed.user_agent request.source_ip certificate.device", say: sayDuplicate},
}

func sayTokenOfRevoked(w words) (text, remedy string) {
	if w.is("request.class", "token") {
		return "The phone signs in at the address that was made for the device {device.id} (ticket {ticket.id}), and the newest certificate of that device is revoked or on hold: it gets no token.", ""
	}
	return "", ""
}

func sayRevoked(w words) (text, remedy string) {
	if w.is("device.state", "retired") {
		return "The certificate {certificate.serial} was revoked on {certificate.changed_at|time}, as those of a retired device are.", seeOther + "device_retired: the certificates of a retired device are revoked with it."
	}
	if w.of("certificate.reason") == "" {
		return "The certificate {certificate.serial} was revoked on {certificate.changed_at|time} (no reason is recorded).", ""
	}
	return "", ""
}

// sayNoCertificate says what the phone showed instead, and leaves what to do to the reason that tells why there is no certificate.
func sayNoCertificate(w words) (text, remedy string) {
	until, now := w.engine.fact(w.entry, "assurance_until", w.input), w.engine.fact(w.entry, "now", w.input)
	switch {
	case w.says("device.revoked", "true"):
		return "", withdrawnRemedy
	case w.says("duplicate.device_id_managed", "true"):
		return "", seeOther + "duplicate_profile_without_certificate: the managed mail profile of {duplicate.managed_device} has the certificate."
	case !w.says("device.known", "true"), !w.says("device.managed", "true"), w.says("device.state", "pending"):
		return "", seeOther + "unmanaged_device: the certificate comes when the device has enrolled."
	case w.says("assurance", "token") && w.says("ticket.status", "live") && len(until) == len(now) && until <= now:
		return "The phone showed no client certificate, and the token by which it was known as the device {device.id} ran out on {assurance_until|time} (client {claimed.family}).",
			"The phone gets a new token by itself. If it does not, sign in on the phone again."
	case w.says("assurance", "token") && w.says("ticket.status", "live"):
		return "The phone showed no client certificate but a token of the device {device.id}, and a token alone is not enough for the mail client {claimed.family}.",
			"Use the mail profile that brings the certificate. A policy author can accept tokens of this client (token_families in the policy's data)."
	}
	return "", ""
}

// withdrawnRemedy is what helps a device whose newest certificate is revoked or on hold.
const withdrawnRemedy = "`postern device show {device.id|id}` lists the certificates. If the newest one is on hold, release it when the cause is settled (`postern cert release SERIAL`). " +
	"If it is revoked and the device may have mail again, make a new challenge (`postern device challenge {device.id|id}`) and let it enrol."

func saySuperseded(w words) (text, remedy string) {
	if w.is("config.supersede_grace", "0") {
		return "The certificate {certificate.serial} was replaced by a newer one (superseded), which has been in use since {certificate.successor_first_use|time}; the old one counts no longer from then on.", ""
	}
	return "", ""
}

// sayNotTrusted says which of the things that make a certificate good is missing.
func sayNotTrusted(w words) (text, remedy string) {
	const lead = "The certificate of the connection is not accepted: "
	switch w.of("certificate.problem") {
	case "untrusted":
		return lead + "it was not issued by this Postern.", ""
	case "unreadable":
		return lead + "it cannot be read.", ""
	case "unknown":
		return lead + "it carries this Postern's signature, and no certificate {certificate.serial} is in the registry.",
			"Ask a PKI officer: a certificate that was signed and not registered may mean that a copy of the CA's key or an old backup is in use. The phone enrols anew: `postern device challenge ID`."
	case "wrong_usage":
		return lead + "{certificate.serial} is not made for signing in (its extended key usage lacks clientAuth).",
			"A PKI officer corrects the certificate profile; then the device enrols again (`postern device challenge {certificate.device|id}`)."
	case "not_yet_valid":
		return lead + "{certificate.serial} is not valid yet.", "Wait until it is valid. If it should be by now, the clock of a server is wrong: `postern status`."
	}
	return "", ""
}

func sayDuplicate(w words) (text, remedy string) {
	if w.of("certificate.device") == "" {
		return "", ""
	}
	owner := ""
	if w.of("owner.mail") != "" {
		owner = " (of {owner.mail})"
	}
	return strings.Join([]string{"A phone with the certificate of {certificate.device}", owner, " used the DeviceId {claimed.device_id}, which belongs to the managed device {duplicate.managed_device}."}, ""),
		"Install the mail profile of {certificate.device} on this phone again: each phone uses the one that was made for it. Only if {duplicate.managed_device} is out of use and this phone has its DeviceId now: " +
			"look up the old mail profile, the one with the DEVICEID {claimed.device_id} in `postern profile list --device {duplicate.managed_device}`. Its LAST SEEN must be as old as that. Then forget it: `postern profile forget ID`. " +
			"Where the MDM reports that DeviceId for {duplicate.managed_device}, a PKI officer takes it back as well: `postern device update {duplicate.managed_device} --eas-device-id \"\"`."
}

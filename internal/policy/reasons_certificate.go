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
		remedy: "The phone must use the certificate that its mail profile brought: install the profile again, or let the device enrol (`postern device challenge ID`).",
		facts:  "certificate.serial certificate.issuer certificate.problem", say: sayNotTrusted},
	{code: "certificate_expired", page: "revoked",
		text:   "The certificate {certificate.serial} expired on {certificate.not_after|time}.",
		remedy: "Let the device enrol again with a new challenge (`postern device challenge {certificate.device|id}`); an expired certificate cannot renew itself.",
		facts:  "certificate.device owner.mail"},
	{code: "certificate_superseded", page: "revoked",
		text:   "The certificate {certificate.serial} was superseded, and its successor has been in use since {certificate.successor_first_use|time}: longer than the grace of {config.supersede_grace|span}.",
		remedy: "The mail profile on the phone must use the newer certificate, which the device has already: install the profile again. No new enrolment is needed.",
		facts:  "certificate.device owner.mail", say: saySuperseded},
	{code: "ticket_revoked", page: "managed",
		text:   "The address of the OAuth front that the phone signs in at (ticket {ticket.id}, device {ticket.device}) was revoked, or the device was given to another owner.",
		remedy: "If the device may have mail, a PKI officer makes a new ticket (`postern device ticket {ticket.device|id}`), and its two addresses go into the mail profile.",
		facts:  "owner.mail request.source_ip"},
	{code: "ticket_of_another_device", page: "managed",
		text:   "The sign-in came to the address of the device {ticket.device} (ticket {ticket.id}) with the certificate of {certificate.device}.",
		remedy: "The mail profile has to hold the ticket of its own device. If nobody mixed them up, revoke the ticket (`postern device revoke-ticket {ticket.id}`).",
		facts:  "certificate.serial owner.mail request.source_ip"},
	{code: "ticket_unknown", page: "managed",
		text:   "The sign-in came to an address of the OAuth front that was never given out.",
		remedy: "A PKI officer makes a ticket for the device (`postern device ticket ID`), and its two addresses go into the mail profile.",
		facts:  "request.source_ip claimed.user_agent"},
	{code: "no_certificate_or_ticket", page: "managed",
		text:   "A sign-in asked for a token without the certificate and without the ticket of a device, so it was not passed on to the identity provider.",
		remedy: "Use the mail profile that brings the certificate, or one with the two addresses of a ticket, which a PKI officer makes (`postern device ticket ID`).",
		facts:  "request.source_ip request.command claimed.user_agent"},
	{code: "no_certificate", page: "managed",
		text:   "The connection brought no client certificate (DeviceId {claimed.device_id}, client {claimed.family}).",
		remedy: "Use the mail profile that brings the certificate. A device that has none yet enrols first: `postern device challenge {device.id|id}`.",
		facts:  "assurance ticket.id credential.user claimed.user_agent claimed.model duplicate.same_user_model"},
	{code: "duplicate_profile_without_certificate", page: "duplicates",
		text:   "The DeviceId {claimed.device_id} belongs to the managed device {duplicate.managed_device}, and this request came without that device's certificate: it is a second mail profile on it, or a copy of its DeviceId.",
		remedy: "Remove the hand-made mail account from the phone; the managed mail profile keeps working.",
		facts:  "credential.user claimed.user_agent certificate.device", say: sayDuplicate},
}

func sayRevoked(w words) (text, remedy string) {
	if w.is("device.state", "retired") {
		return "", "A revocation is final: what is registered anew enrols for a certificate of its own."
	}
	return "", ""
}

func saySuperseded(w words) (text, remedy string) {
	if w.is("config.supersede_grace", "0") {
		return "The certificate {certificate.serial} was superseded, and its successor has been in use since {certificate.successor_first_use|time}; no grace is allowed.", ""
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
		"Each phone uses the mail profile made for it: install the one of {certificate.device} again. If this phone should have that DeviceId, see `postern profile list --device {duplicate.managed_device}` " +
			"and forget the profile that is wrong (`postern profile forget ID`)."
}

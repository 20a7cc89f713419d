package policy

import (
	"strconv"
	"strings"
)

// enrolmentSayings are about a SCEP request.
var enrolmentSayings = []saying{
	{code: "device_unknown",
		text:   "The device {device.id} is not in the registry.",
		remedy: "A PKI officer registers the device (`postern device add`); then make a challenge for it (`postern device challenge ID`).",
		facts:  "source_ip"},
	{code: "not_managed",
		text:   "The device {device.id} is registered, but {device.source} does not report it as managed.",
		remedy: "Enrol the device in the MDM, and let it report the device as managed.",
		facts:  "owner.mail"},
	{code: "owner_unknown",
		text:   "The device {device.id} has no owner in the registry.",
		remedy: "A PKI officer assigns the device to its owner: `postern device reassign {device.id} --owner MAIL`.",
		facts:  "device.source"},
	{code: "names_another_user",
		text:   "The device {device.id} asks for a certificate for {requested.mails}, and belongs to {owner.mail}.",
		remedy: "In the MDM, correct the certificate profile (SCEP): it must name the owner, {owner.mail}, or nobody. If the device is somebody else's now, a PKI officer hands it over: `postern device reassign {device.id|id} --owner MAIL`.",
		facts:  "device.serial_number", say: sayNamesAnother},
	{code: "domain_not_allowed",
		text:   "The issuer {issuer} may not certify addresses of {domain} (owner {owner.mail}).",
		remedy: "The administrator of the server adds {domain} to the domains of the issuer {issuer} in the configuration; or the owner gets an address of {domains}.",
		facts:  "device.id"},
	{code: "weak_key",
		text:   "The device {device.id} asks for a certificate for a key that is too weak: {key.algorithm} with {key.bits} bits. RSA needs {config.min_rsa_bits} bits, ECDSA one of {config.ecdsa_bits}.",
		remedy: "In the MDM, set the key of the certificate profile (SCEP) to RSA with at least {config.min_rsa_bits} bits, and let the device install the profile again. Do not approve a request with such a key.",
		facts:  "owner.mail"},
	{code: "renewal_certificate_expired",
		text:   "The certificate {renews.serial} that signed the renewal is valid from {renews.not_before|time} to {renews.not_after|time} only.",
		remedy: "Let the device enrol again with a new challenge: `postern device challenge {device.id|id}`.",
		facts:  "device.id"},
	{code: "renewal_certificate_not_good",
		text:   "The certificate {renews.serial} that signed the renewal is {renews.status}.",
		remedy: "Renew with the device's current certificate, or let the device enrol again with a new challenge: `postern device challenge {device.id|id}`.",
		facts:  "device.id", say: sayRenewsNotGood},
	{code: "renewal_too_early",
		text:   "The certificate {renews.serial} is valid until {renews.not_after|time} and may be renewed in the last {config.renewal_window|span} only.",
		remedy: "Wait: mail is not affected, since the certificate is still valid. If it has to be replaced now, a PKI officer makes a challenge (`postern device challenge {device.id|id}`) and the device enrols again.",
		facts:  "device.id", say: sayTooEarly},
	{code: "ndes_approval_required",
		text: "The one-time password of the enrolment (challenge) was made for no device by name, and the device {device.id} has a certificate already: somebody else could ask in its place.",
		remedy: "Make sure that it is {owner.mail}'s device that asks; then a PKI officer approves the request (`postern pending list`, `postern pending approve ID`), or rejects it. " +
			"An MDM that names the device needs no approval.",
		facts: "device.serial_number source_ip requested.mails"},
	{code: "approval_required",
		text:   "A PKI officer has to approve the enrolment of the device {device.id}.",
		remedy: "See it with `postern pending list` and `postern pending show ID`; a PKI officer approves (`postern pending approve ID`) or rejects it (`postern pending reject ID`). The device asks again by itself until then.",
		facts:  "owner.mail device.serial_number source_ip"},
}

// sayNamesAnother names who would get the device.
func sayNamesAnother(w words) (text, remedy string) {
	if mails := w.of("requested.mails"); mails != "" && !strings.Contains(mails, ",") {
		return "", "In the MDM, correct the certificate profile (SCEP): it must name the owner, {owner.mail}, or nobody. If {requested.mails} has the device now, a PKI officer hands it over: `postern device reassign {device.id|id} --owner {requested.mails}`."
	}
	return "", ""
}

func sayRenewsNotGood(w words) (text, remedy string) {
	if w.is("renews.status", "held") {
		return "The certificate {renews.serial} that signed the renewal is on hold.", "Release the certificate when the cause is settled: `postern cert release {renews.serial}`. Who put it on hold: `postern audit list --object {renews.serial}`."
	}
	return "", ""
}

// sayTooEarly reckons from when on the renewal may be.
func sayTooEarly(w words) (text, remedy string) {
	end, err := strconv.ParseInt(w.of("renews.not_after"), 10, 64)
	window, err2 := strconv.ParseInt(w.of("config.renewal_window"), 10, 64)
	if err != nil || err2 != nil {
		return "", ""
	}
	return "", "Wait until " + show(strconv.FormatInt(end-window, 10), "|time") + ": mail is not affected, since the certificate is still valid. If it has to be replaced now, a PKI officer makes a challenge (`postern device challenge {device.id|id}`) and the device enrols again."
}

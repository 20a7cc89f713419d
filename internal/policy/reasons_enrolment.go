package policy

import "strconv"

// enrolmentSayings are about a SCEP request.
var enrolmentSayings = []saying{
	{code: "device_unknown",
		text:   "The device {device.id} is not in the registry.",
		remedy: "A PKI officer registers the device (`postern device add`); then make a challenge for it (`postern device challenge ID`).",
		facts:  "source_ip"},
	{code: "not_managed",
		text:   "The device {device.id} is not managed according to {device.source}.",
		remedy: "Enrol the device in the MDM, and let it report the device as managed.",
		facts:  "owner.mail"},
	{code: "owner_unknown",
		text:   "The device {device.id} has no owner in the registry.",
		remedy: "A PKI officer assigns the device to its owner: `postern device reassign {device.id} --owner MAIL`.",
		facts:  "device.source"},
	{code: "names_another_user",
		text:   "The request names {requested.mails}, and the device belongs to {owner.mail}.",
		remedy: "The SCEP profile must name the owner or nobody: correct it in the MDM. If the device is somebody else's, a PKI officer reassigns it (`postern device reassign {device.id|id} --owner MAIL`).",
		facts:  "device.id"},
	{code: "domain_not_allowed",
		text:   "The issuer {issuer} may not certify addresses of {domain} (owner {owner.mail}).",
		remedy: "The administrator of the server adds the domain to the issuer's configuration, or the owner gets an address of {domains}.",
		facts:  "device.id"},
	{code: "weak_key",
		text:   "A key of {key.algorithm} with {key.bits} bits is not certified; RSA needs {config.min_rsa_bits} bits, ECDSA one of {config.ecdsa_bits}.",
		remedy: "Set a stronger key in the SCEP profile of the MDM.",
		facts:  "device.id"},
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
		remedy: "Wait, or enrol with a challenge: `postern device challenge {device.id|id}`.",
		facts:  "device.id", say: sayTooEarly},
	{code: "ndes_approval_required",
		text: "The challenge was made for no device, and the device {device.id} has a certificate already.",
		remedy: "Make sure that it is {owner.mail}'s device that asks; then a PKI officer approves the request (`postern pending list`, `postern pending approve ID`), or rejects it. " +
			"An MDM that names the device needs no approval.",
		facts: "device.serial_number source_ip requested.mails"},
	{code: "approval_required",
		text:   "A PKI officer has to approve the enrolment of the device {device.id}.",
		remedy: "See it with `postern pending list` and `postern pending show ID`; a PKI officer approves (`postern pending approve ID`) or rejects it. The client polls until then.",
		facts:  "owner.mail device.serial_number source_ip"},
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
	return "", "Wait until " + show(strconv.FormatInt(end-window, 10), "|time") + ", or enrol with a challenge: `postern device challenge {device.id|id}`."
}

package policy

import "strings"

// stateSayings are about a device or owner that somebody took out of service.
var stateSayings = []saying{
	{code: "device_retired", page: "revoked",
		text: "The device {device.id} was retired.",
		remedy: "A retired device does not come back. If the phone may have mail again, a PKI officer registers it anew (`postern device add`), and it enrols with a challenge of its own. " +
			"Who retired it: `postern audit list --object {device.id}`.",
		facts: "owner.mail device.serial_number"},
	{code: "device_blocked", page: "revoked",
		text:   "The device {device.id} was blocked by an administrator.",
		remedy: "A PKI officer unblocks it when the cause is settled: `postern device unblock {device.id}`. Who blocked it, and why: `postern audit list --object {device.id}`.",
		facts:  "owner.mail device.serial_number"},
	{code: "device_suspended", page: "revoked",
		text: "The device {device.id} has been suspended since {device.suspended_at|time} (reason: {device.suspend_reason}).",
		remedy: "Reinstate the device when the cause is settled (`postern device reinstate {device.id}`): mail returns at once, with the same certificate. " +
			"Who suspended it: `postern audit list --object {device.id}`.",
		facts: "owner.mail device.serial_number", say: while("owner.suspended", "Reinstate the device when the cause is settled (`postern device reinstate {device.id}`); mail returns when its owner is reinstated too. "+
			"Who suspended it: `postern audit list --object {device.id}`.")},
	{code: "owner_suspended", page: "revoked",
		text: "The owner {owner.mail} has been suspended since {owner.suspended_at|time} (reason: {owner.suspend_reason}), with every device.",
		remedy: "Reinstate the owner when the cause is settled (`postern owner reinstate {owner.mail}`): mail returns at once, with the same certificates. " +
			"Who suspended the owner: `postern audit list --object {owner.mail}`.",
		facts: "device.id device.serial_number", say: while("device.suspended", "Reinstate the owner when the cause is settled (`postern owner reinstate {owner.mail}`): mail returns at once on the owner's other devices, and here when the "+
			"device is reinstated too. Who suspended the owner: `postern audit list --object {owner.mail}`.")},
	{code: "device_quarantined", page: "managed",
		text: "The device {device.id} is kept from mail until somebody has looked at it (quarantined).",
		remedy: "A PKI officer lets it in again when the cause is settled (`postern device unblock {device.id}`), or retires it (`postern device retire {device.id}`). " +
			"Who quarantined it, and why: `postern audit list --object {device.id}`.",
		facts: "owner.mail"},
}

// deviceSayings are about what the registry and the MDM know of the device.
var deviceSayings = []saying{
	{code: "unmanaged_device", page: "managed",
		text:   "The device {device.id} is not managed (state {device.state}).",
		remedy: "The device must be registered, reported as managed by its MDM, and enrolled.",
		facts:  "device.id device.state device.source claimed.device_id credential.user", say: sayUnmanaged},
	{code: "device_silent", page: "managed",
		text:   "The device {device.id} has not reported to {device.source} for {device.silent_for|span}; {config.max_silence|span} are allowed.",
		remedy: "Open the MDM's app on the phone and let it check in; mail returns with the next sync of {device.source}.",
		facts:  "owner.mail"},
	{code: "device_not_compliant", page: "compliance",
		text:   "The device {device.id} has not been compliant since {device.compliance_since|time}, according to {device.source}; {config.noncompliant_grace|span} are allowed to put that right.",
		remedy: "Open the MDM's app on the phone: it says what is missing. Mail returns with the report that the device is compliant.",
		facts:  "owner.mail device.os_version", say: sayNotCompliant},
	{code: "compliance_unknown", page: "compliance",
		text:   "{device.source} does not say whether the device {device.id} is compliant.",
		remedy: "Give the device a compliance policy in the MDM, and let it check in: mail returns when the MDM says that it is compliant. A policy author decides what becomes of such devices (unknown_compliance in the policy's data).",
		facts:  "owner.mail", say: sayComplianceUnknown},
	{code: "os_too_old", page: "versions",
		text:   "The device {device.id} has version {os.version|version} of {device.os|os}; mail needs {os.minimum|version} or later.",
		remedy: "Update the phone's system, then let it check in with its MDM; mail returns with its report.",
		facts:  "device.os_version claimed.os_number owner.mail", say: sayByHand("Update the phone's system; then a PKI officer writes it down: `postern device update {device.id} --os-version VERSION`.")},
	{code: "os_version_unknown", page: "versions",
		text:   "The version of the system of the device {device.id} is not known ({device.os|os}, version not reported).",
		remedy: "Open the MDM's app on the phone and let it check in; the MDM has to report the system and its version.",
		facts:  "device.source claimed.platform owner.mail", say: sayVersionUnknown},
	{code: "device_id_mismatch", page: "identity",
		text: "The mail client says that its DeviceId is {claimed.device_id}; the MDM reports {device.eas_device_id} for the device {device.id}. It is another mail account or another phone, or the phone was set up anew.",
		remedy: "Use the mail account of the managed profile on this device. If it is that one and the phone was set up anew, link it: `postern profile link {profile.id|id} {device.id}`. " +
			"If the device is kept by hand and not by an MDM, a PKI officer corrects its DeviceId instead: `postern device update {device.id} --eas-device-id {claimed.device_id|id}`.",
		facts: "claimed.family credential.user"},
	{code: "profile_refused", page: "duplicates",
		text:   "An administrator has refused the mail profile {profile.id} (DeviceId {claimed.device_id}, client {claimed.family}) of {credential.user}.",
		remedy: "`postern audit list --object {profile.id}` says who and why. When the cause is settled, let it in: `postern settle allow {profile.id}`.",
		facts:  "device.id certificate.serial"},
	{code: "duplicate_profile_second_device_id", page: "duplicates",
		text: "The device {device.id} has had mail under the DeviceId {duplicate.other_device_id} since {duplicate.other_first_seen|time}, last seen {duplicate.other_last_seen|time}; its {assurance} now comes under the DeviceId {claimed.device_id} as well, from a client of the same family ({claimed.family}).",
		remedy: "Ask whether the phone was wiped or restored. If so, `postern settle allow {profile.id|id} --replace` lets it in, and {duplicate.other_device_id} gets no more mail. If it was not, and there is a second account on it, " +
			"remove the account that the MDM did not install. If neither is so, another phone has a copy: do not let it in, and tell a PKI officer. Only if both are the owner's and wanted: the same command without --replace. " +
			"If nobody does anything, {claimed.device_id} gets mail when {duplicate.other_device_id} has been silent for {config.duplicate_window|span}.",
		facts: "certificate.serial ticket.id credential.user"},
	{code: "too_many_devices", page: "devices",
		remedy: "Retire a device that is no longer used: `postern device list --owner {owner.mail}`, and a PKI officer `postern device retire ID`. The next one takes its place at once.",
		facts:  "device.id device.place device.serial_number device.model", say: sayTooMany},
	{code: "same_user_and_model", page: "duplicates",
		text:   "{credential.user} has a managed mail profile in use on a device of the same model ({claimed.model}), and this request came without its certificate: it may be a second account on that phone, made by hand.",
		remedy: "Remove the hand-made mail account from the phone; the managed mail profile keeps working.",
		facts:  "claimed.device_id claimed.user_agent"},
}

// while returns another remedy for as long as a fact is true: who is suspended in two ways is not promised mail when one of them ends.
func while(fact, remedy string) func(words) (text, remedy string) {
	return func(w words) (string, string) {
		if w.says(fact, "true") {
			return "", remedy
		}
		return "", ""
	}
}

// sayUnmanaged says what is missing, and what helps first.
func sayUnmanaged(w words) (text, remedy string) {
	device := w.of("certificate.device")
	switch {
	case !w.is("device.known", "true") && device != "":
		return "The certificate {certificate.serial} is of the device {certificate.device}, which is not in the registry.", "A PKI officer registers the device (`postern device add`); then it enrols with a new challenge."
	case !w.is("device.known", "true"):
		text = "No registered device has the DeviceId {claimed.device_id}, which the phone named."
		if w.of("claimed.device_id") == "" {
			text = "The phone did not say which device it is, and nothing else does."
		}
		return text, "See first whether the phone is registered: `postern device list --owner MAIL` with the address of its user. If it is, remove any account that was made by hand and install the mail profile that brings the certificate (the one of the MDM). " +
			"If it is not, a PKI officer registers it (`postern device add`), or the MDM reports it; then it enrols (`postern device challenge ID`)."
	}
	var texts, remedies []string
	add := func(text, remedy string) { texts, remedies = append(texts, text), append(remedies, remedy) }
	if !w.is("device.managed", "true") {
		add("The device {device.id} is registered, but {device.source} does not report it as managed.", "Enrol the device in the MDM, and let it check in: mail returns when the MDM has reported it.")
	}
	switch w.of("device.state") {
	case "active", "blocked", "retired", "quarantined": // told by name
	case "pending":
		add("The device {device.id} is registered, but has not enrolled yet.", "Let it enrol (`postern device challenge {device.id}`); the mail profile that it gets then brings the certificate.")
	default:
		add("The device {device.id} is in the state {device.state}.", "A PKI officer looks at it: `postern device show {device.id}`.")
	}
	if device != "" && device != w.of("device.id") {
		add("The certificate belongs to the device {certificate.device}, and the request is of {device.id}.", "Install the mail profile of {device.id} again: it brings the certificate of that device.")
	}
	return strings.Join(texts, " "), strings.Join(remedies, " ")
}

func sayNotCompliant(w words) (text, remedy string) {
	since := "has not been compliant since {device.compliance_since|time}"
	if w.is("device.compliance_since", "", "0") {
		since = "is not compliant (since when is not recorded)"
	}
	grace := "{config.noncompliant_grace|span} are allowed to put that right"
	if w.is("config.noncompliant_grace", "", "0") {
		grace = "there is no period of grace"
	}
	source := "according to {device.source}"
	if w.is("device.source", "admin") {
		source = "as an administrator has recorded"
	}
	_, remedy = sayByHand("What is missing: whoever recorded it knows (`postern audit list --object {device.id}`). When it is put right, a PKI officer writes it down: `postern device update {device.id} --compliant yes`.")(w)
	return "The device {device.id} " + since + ", " + source + "; " + grace + ".", remedy
}

func sayComplianceUnknown(w words) (text, remedy string) {
	if w.is("device.source", "admin") {
		return "Nobody has said whether the device {device.id}, which is kept by hand, is compliant.", "A PKI officer writes it down: `postern device update {device.id} --compliant yes`."
	}
	return "", ""
}

// sayByHand is another remedy for a device that no MDM reports.
func sayByHand(by string) func(words) (text, remedy string) {
	return func(w words) (text, remedy string) {
		if w.is("device.source", "admin") {
			return "", by
		}
		return "", ""
	}
}

func sayVersionUnknown(w words) (text, remedy string) {
	if w.of("device.os_version") != "" {
		text = "The version of the system of the device {device.id} cannot be read ({device.os|os}, {device.os_version})."
	}
	_, remedy = sayByHand("A PKI officer writes it down: `postern device update {device.id} --os OS --os-version VERSION`.")(w)
	return text, remedy
}

func sayTooMany(w words) (text, remedy string) {
	text = "The owner {owner.mail} has {owner.devices} devices in use, and {config.max_devices} may have mail; "
	if w.is("owner.devices", "1") {
		text = "The owner {owner.mail} has 1 device in use, and {config.max_devices} may have mail; "
	}
	if w.is("device.place", "", "0") {
		return text + "the device {device.id} has not enrolled yet.", ""
	}
	return text + "the device {device.id} is number {device.place} in the order in which they enrolled.", ""
}

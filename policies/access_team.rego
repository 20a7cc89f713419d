# What the team packages add, and what their exceptions lift.
package postern.access

objection if count(data.postern.access.team[_].deny) > 0

objection if count(data.postern.access.team[_].quarantine) > 0

objection if {
	some exception in data.postern.access.team[_].except
	not well_formed(exception)
}

denials contains told(code) if {
	some code in denied
	not code in lifted
	stage_of(code, "deny") == "deny"
}

denials contains told(code) if {
	some code in quarantined
	not code in lifted
	stage_of(code, "quarantine") == "deny"
}

denials contains reason if {
	some name
	some said in data.postern.access.team[name].deny
	reason := named(name, said)
	not reason.code in lifted
	stage_of(object.get(reason, "code", ""), "deny") == "deny"
}

denials contains reason if {
	some name
	some said in data.postern.access.team[name].quarantine
	reason := named(name, said)
	not reason.code in lifted
	stage_of(object.get(reason, "code", ""), "quarantine") == "deny"
}

# A code that is no string makes the decision a fault: an exception that cannot be read is an error, not a detail.
denials contains {"code": exception, "rule": rule} if {
	some rule
	exception := malformed_exception[rule][_]
}

quarantines contains told(code) if {
	some code in quarantined
	not code in lifted
	stage_of(code, "quarantine") == "quarantine"
}

quarantines contains told(code) if {
	some code in denied
	not code in lifted
	stage_of(code, "deny") == "quarantine"
}

quarantines contains reason if {
	some name
	some said in data.postern.access.team[name].quarantine
	reason := named(name, said)
	not reason.code in lifted
	stage_of(object.get(reason, "code", ""), "quarantine") == "quarantine"
}

quarantines contains reason if {
	some name
	some said in data.postern.access.team[name].deny
	reason := named(name, said)
	not reason.code in lifted
	stage_of(object.get(reason, "code", ""), "deny") == "quarantine"
}

# A code with the facts that its sentence needs.
told(code) := {"code": code, "facts": facts_about[code]}

told(code) := code if not facts_about[code]

named(name, said) := object.union(said, {"rule": concat(".", ["postern.access.team", name])}) if is_object(said)

named(name, said) := {"code": said, "rule": concat(".", ["postern.access.team", name])} if not is_object(said)

# Nothing lifts these: not a good certificate, not the owner, not readable, or settled by an administrator in another place.
never_lifted := {
	"app_only_credential",
	"certificate_expired",
	"certificate_held",
	"certificate_not_trusted",
	"certificate_revoked",
	"device_blocked",
	"device_retired",
	"device_suspended",
	"duplicate_credentials",
	"no_certificate_or_ticket",
	"no_user",
	"owner_mismatch",
	"owner_suspended",
	"profile_refused",
	"ticket_of_another_device",
	"ticket_revoked",
	"ticket_unknown",
	"token_of_revoked_device",
	"unreadable_credentials",
	"wrong_audience",
	"wrong_tenant",
}

# What is said of a request that does not prove its device: whoever knows a DeviceId may claim it.
about_proof := {
	"device_id_mismatch",
	"duplicate_profile_without_certificate",
	"no_certificate",
	"same_user_and_model",
}

# A device whose certificate was revoked or is held must not do better without it, or with an older one: nothing lifts this then.
withheld contains code if {
	input.device.revoked
	some code in about_proof
}

withheld contains "certificate_superseded" if input.device.revoked

# The device is proved: by a certificate, also by one that was superseded too long ago, or by its token.
device_shown if token_accepted

device_shown if {
	input.certificate.present
	input.certificate.problem == ""
	input.certificate.status in {"good", "superseded"}
	input.now < input.certificate.not_after
}

# Those that team packages write, and those that were granted by command. Only for the owner of a known device: an exception never stands in for knowing who asks.
exceptions contains exception if {
	owner_asks
	some exception in data.postern.access.team[_].except
	well_formed(exception)
	input.now < exception.until
}

exceptions contains exception if {
	owner_asks
	some exception in input.exceptions
	input.now < exception.until
}

owner_asks if {
	credential_clean
	owner_matches
}

# A sign-in names nobody yet: the device, by certificate or ticket, stands for its owner.
owner_asks if {
	input.request.class == "token"
	sign_in_assured
	input.owner.known
}

lifted contains code if {
	some exception in exceptions
	some code in exception.reasons
	not code in never_lifted
	not code in withheld
}

applied contains exception if {
	some exception in exceptions
	some code in exception.reasons
	code in lifted
	code in spoken
}

spoken contains code if some code in denied

spoken contains code if some code in quarantined

spoken contains reason.code if some reason in team_said

team_said contains named(name, said) if {
	some name
	some said in data.postern.access.team[name].deny
}

team_said contains named(name, said) if {
	some name
	some said in data.postern.access.team[name].quarantine
}

malformed_exception[rule] contains exception if {
	some name
	some exception in data.postern.access.team[name].except
	not well_formed(exception)
	rule := concat(".", ["postern.access.team", name])
}

well_formed(exception) if {
	is_string(exception.id)
	exception.id != ""
	is_string(exception.granted_by)
	exception.granted_by != ""
	is_number(exception.until)
	count(exception.reasons) > 0
	every code in exception.reasons {
		is_string(code)
	}
}

# The request is proved and what else was said of it keeps nobody out.
exempt if {
	proved
	count(waived) > 0
}

# Every condition of a managed profile is proved, or the very reason for which it is not was waived.
exempt if {
	not proved
	count(waived) > 0
	every condition in unproved {
		some code, condition_of_code in conditions
		condition_of_code == condition
		code in waived
	}
}

exempt if {
	not proved
	input.request.class == "token"
	count(waived) > 0
	sign_in_assured
	in_service
	signed_in_owner
	every condition in sign_in_unproved {
		some code, condition_of_code in conditions
		condition_of_code == condition
		code in waived
	}
}

sign_in_unproved contains "device" if not device_managed

sign_in_unproved contains "report" if not device_heard

conditions := {
	"certificate_superseded": "certificate",
	"client_not_allowed": "client",
	"command_not_allowed": "command",
	"compliance_unknown": "compliance",
	"device_id_mismatch": "device_id",
	"device_not_compliant": "compliance",
	"device_quarantined": "device",
	"device_silent": "report",
	"duplicate_profile_second_device_id": "sole",
	"duplicate_profile_without_certificate": "sole",
	"eas_version_too_old": "version",
	"no_certificate": "certificate",
	"os_too_old": "os",
	"os_version_unknown": "os",
	"platform_not_allowed": "platform",
	"same_user_and_model": "hint",
	"sign_on_rule": "sign_on",
	"too_many_devices": "number",
	"unknown_client": "client",
	"unmanaged_device": "device",
	"zone_not_allowed": "zone",
}

unproved contains "class" if input.request.class != "command"

unproved contains "service" if not in_service

unproved contains "credential" if not credential_clean

unproved contains "owner" if not owner_matches

unproved contains "certificate" if not device_assured

unproved contains "device" if not device_managed

unproved contains "report" if not device_heard

unproved contains "device_id" if not device_id_matches

unproved contains "profile" if not profile_accepted

unproved contains "sole" if not sole_profile

unproved contains "client" if not client_accepted

unproved contains "client" if not client_listed

unproved contains "platform" if not platform_accepted

unproved contains "version" if not eas_version_accepted

unproved contains "compliance" if not compliance_accepted

unproved contains "os" if not os_accepted

unproved contains "number" if not place_in_line

unproved contains "hint" if not hint_accepted

unproved contains "zone" if not zone_accepted

unproved contains "sign_on" if not sign_on_accepted

unproved contains "command" if not command_accepted

exception_notes contains {"code": "exception", "facts": facts} if {
	some exception in applied
	facts := {
		"exception.id": exception.id,
		"exception.granted_by": exception.granted_by,
		"exception.until": sprintf("%d", [exception.until]),
		"exception.reasons": concat(", ", sort(exception.reasons)),
	}
}

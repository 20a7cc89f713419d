# Decides about one SCEP request whose requester has proved who it is. See README.md for the contract.
package postern.enroll

config := data.postern.config.enroll

decision := {"action": "allow", "rule": proved, "reasons": set(), "valid_until": 0, "profile": config.profile} if {
	proved
	not objection
} else := {"action": "deny", "reasons": (denials | (pends - approvals)), "valid_until": 0, "profile": ""} if {
	count(denials) > 0
} else := {"action": "pend", "reasons": pends, "valid_until": 0, "profile": ""} if {
	count(pends) > 0
} else := {"action": "allow", "rule": "exception", "reasons": exception_notes, "valid_until": 0, "profile": config.profile} if {
	exempt
}

proved := "enrolment" if enrolment

proved := "renewal" if renewal

# Nobody can approve what is denied, so a denial does not ask for it.
approvals := {"approval_required"}

# What is proved.

enrolment if {
	input.kind == "enrol"
	input.evidence in {"challenge", "validated", "ndes"}
	entitled
	place_free
}

renewal if {
	input.kind == "renew"
	input.evidence == "renewal"
	entitled
	renews_good
	in_window
}

entitled if {
	device_entitled
	owner_entitled
	names_own
	key_strong
}

device_entitled if {
	input.device.known
	input.device.managed
	input.device.state in {"pending", "active"}
	input.device.suspended == false
}

owner_entitled if {
	input.owner.known
	input.owner.suspended == false
	input.domain in input.domains
}

names_own if {
	every mail in input.requested.mails {
		input.owner.names[mail]
	}
}

key_strong if {
	input.key.algorithm == "rsa"
	input.key.bits >= config.min_rsa_bits
}

key_strong if {
	input.key.algorithm == "ecdsa"
	input.key.bits in config.ecdsa_bits
}

renews_good if {
	input.renews.status == "good"
	renews_unexpired
}

renews_unexpired if {
	input.renews.not_before <= input.now
	input.now < input.renews.not_after
}

in_window if config.renewal_window == 0

in_window if input.now >= input.renews.not_after - config.renewal_window

# A first enrolment of a device needs a place among those that its owner may have.
place_free if config.max_devices == 0

place_free if input.kind == "renew"

place_free if input.device.place > 0

place_free if input.owner.devices < config.max_devices

place_free if {
	config.excess_devices == "pend"
	input.approved
}

# What speaks against it: codes. Sentences and remedies are made from them outside.

denied contains "device_unknown" if not input.device.known

denied contains "device_retired" if input.device.state == "retired"

denied contains "device_blocked" if input.device.state == "blocked"

denied contains "device_suspended" if input.device.suspended

denied contains "owner_suspended" if input.owner.suspended

denied contains "device_quarantined" if input.device.state == "quarantined"

denied contains "not_managed" if {
	input.device.known
	not input.device.managed
}

denied contains "owner_unknown" if {
	input.device.known
	not input.owner.known
}

denied contains "domain_not_allowed" if {
	input.owner.known
	not input.domain in input.domains
}

denied contains "names_another_user" if not names_own

denied contains "weak_key" if not key_strong

denied contains "renewal_certificate_expired" if {
	input.kind == "renew"
	not renews_unexpired
}

denied contains "renewal_certificate_not_good" if {
	input.kind == "renew"
	input.renews.status != "good"
}

denied contains "renewal_too_early" if {
	input.kind == "renew"
	not in_window
}

denied contains "too_many_devices" if {
	not place_free
	config.excess_devices == "deny"
}

pends contains "too_many_devices" if {
	not place_free
	config.excess_devices == "pend"
}

# A first enrolment waits for an administrator, if so configured.
approval_missing if {
	config.approval
	input.kind == "enrol"
	not input.approved
}

pends contains "approval_required" if approval_missing

# A challenge that was made for no device says only that some MDM has asked. A device that has a certificate is somebody's already.
ndes_approval_missing if {
	input.evidence == "ndes"
	input.device.state != "pending"
	not config.ndes_again
	not input.approved
}

pends contains "ndes_approval_required" if ndes_approval_missing

# What the team packages add, and what their exceptions lift. A quarantine of an enrolment is pend: an administrator decides, and what he has approved
# pends no more.

objection if count(data.postern.enroll.team[_].deny) > 0

objection if {
	count(data.postern.enroll.team[_].quarantine) > 0
	not input.approved
}

objection if approval_missing

objection if ndes_approval_missing

objection if {
	some exception in data.postern.enroll.team[_].except
	not well_formed(exception)
}

denials contains reason if {
	some reason in denied
	not reason in lifted
}

denials contains reason if {
	some name
	some said in data.postern.enroll.team[name].deny
	reason := named(name, said)
	not reason.code in lifted
}

# A code that is no string makes the decision a fault: an exception that cannot be read is an error, not a detail.
denials contains {"code": exception, "rule": rule} if {
	some rule
	exception := malformed_exception[rule][_]
}

pends contains reason if {
	some name
	some said in data.postern.enroll.team[name].quarantine
	not input.approved
	reason := named(name, said)
	not reason.code in lifted
}

named(name, said) := object.union(said, {"rule": concat(".", ["postern.enroll.team", name])}) if is_object(said)

named(name, said) := {"code": said, "rule": concat(".", ["postern.enroll.team", name])} if not is_object(said)

# The built-in reasons that an exception may lift, with the condition that each stands for; what a team said may always be lifted.
conditions := {
	"not_managed": "device",
	"renewal_too_early": "window",
	"too_many_devices": "place",
}

lifted contains code if {
	some exception in exceptions
	some code in exception.reasons
	conditions[code]
}

lifted contains code if {
	some exception in exceptions
	some code in exception.reasons
	code in team_codes
	not code in denied
}

exceptions contains exception if {
	some exception in data.postern.enroll.team[_].except
	well_formed(exception)
	input.now < exception.until
}

exceptions contains exception if {
	some exception in input.exceptions
	input.now < exception.until
}

team_codes contains code if {
	some name
	some said in data.postern.enroll.team[name].deny
	code := named(name, said).code
}

team_codes contains code if {
	some name
	some said in data.postern.enroll.team[name].quarantine
	code := named(name, said).code
}

applied contains exception if {
	some exception in exceptions
	some code in exception.reasons
	code in lifted
	code in (denied | team_codes)
}

malformed_exception[rule] contains exception if {
	some name
	some exception in data.postern.enroll.team[name].except
	not well_formed(exception)
	rule := concat(".", ["postern.enroll.team", name])
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

# Every condition is proved, or the very reason for which it is not was lifted.
exempt if {
	count(applied) > 0
	every condition in unproved {
		some code, condition_of_code in conditions
		condition_of_code == condition
		code in lifted
		code in denied
	}
}

unproved contains "kind" if not [input.kind, input.evidence] in [["enrol", "challenge"], ["enrol", "validated"], ["enrol", "ndes"], ["renew", "renewal"]]

unproved contains "device" if not device_entitled

unproved contains "owner" if not owner_entitled

unproved contains "names" if not names_own

unproved contains "key" if not key_strong

unproved contains "renews" if {
	input.kind == "renew"
	not renews_good
}

unproved contains "place" if not place_free

unproved contains "window" if {
	input.kind == "renew"
	not in_window
}

exception_notes contains {"code": "exception", "facts": facts} if {
	some exception in applied
	facts := {
		"exception.id": exception.id,
		"exception.granted_by": exception.granted_by,
		"exception.until": sprintf("%d", [exception.until]),
		"exception.reasons": concat(", ", sort(exception.reasons)),
	}
}

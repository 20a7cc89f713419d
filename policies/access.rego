# Decides about one request at the edge. See README.md for the contract.
#
# A command is allowed because it comes from a managed profile, which is a conjunction of named conditions, each proved by facts that are there.
# Reasons are looked for only when that proof fails. A request with neither proof nor reason has no decision, and the edge treats that as a fault.
package postern.access

config := data.postern.config.access

decision := {"action": "allow", "rule": "managed_profile", "reasons": set(), "valid_until": input.certificate.not_after} if {
	plain
	not objection
} else := {"action": "allow", "rule": proved, "reasons": notes, "valid_until": valid_until} if {
	proved
	not objection
} else := {"action": "deny", "reasons": (denials | quarantines), "valid_until": valid_until} if {
	count(denials) > 0
} else := {"action": "quarantine", "reasons": quarantines, "valid_until": valid_until} if {
	count(quarantines) > 0
} else := {"action": "allow", "rule": "exception", "reasons": (notes | exception_notes), "valid_until": valid_until} if {
	exempt
}

proved := "managed_profile" if managed_profile

proved := "discovery" if discovery

# Almost every request: all conditions of a managed profile, each in its plainest form, in one rule because that is several times faster. It proves
# nothing that managed_profile does not; a test compares them.
plain if {
	input.certificate.status == "good"
	input.request.class == "command"
	input.certificate.present
	input.certificate.problem == ""
	input.now < input.certificate.not_after
	input.certificate.device == input.device.id
	input.device.known
	input.device.managed
	input.device.state == "active"
	input.credential.problem == ""
	input.credential.kind in {"basic", "bearer"}
	input.credential.user != ""
	input.owner.known
	input.owner.names[input.credential.user]
	object.subset(input.owner.names, input.credential.names)
	input.credential.oid in {"", input.owner.oid}
	input.credential.tid in {"", input.owner.tid}
	input.device.eas_device_id in {"", input.claimed.device_id}
	[input.duplicate.device_id_managed, input.duplicate.managed_device] in [[false, ""], [true, input.certificate.device]]
	input.duplicate.other_device_id == ""
	input.claimed.family != "other"
	c := config
	input.device.silent_for <= c.max_silence
	not input.claimed.family in c.denied_clients
	not input.request.command in c.denied_commands
}

# What is proved.

managed_profile if {
	input.request.class == "command"
	certificate_good
	device_managed
	device_heard
	credential_clean
	owner_matches
	device_id_matches
	sole_profile
	client_accepted
	command_accepted
}

# A phone that is being set up may be told how to sign in, and nothing else: not when its certificate is revoked, it is blocked or retired, or what it
# says of its user cannot be read in one way only.
discovery if {
	input.request.class == "discovery"
	input.credential.problem == ""
	input.certificate.status in {"none", "good", "held", "superseded"}
	input.device.state in {"", "pending", "active", "quarantined"}
}

certificate_good if {
	input.certificate.present
	input.certificate.problem == ""
	input.now < input.certificate.not_after
	certificate_current
}

certificate_current if input.certificate.status == "good"

certificate_current if {
	input.certificate.status == "superseded"
	input.certificate.successor_first_use == 0
}

certificate_current if {
	input.certificate.status == "superseded"
	input.now < grace_end
}

grace_end := input.certificate.successor_first_use + config.supersede_grace if input.certificate.successor_first_use > 0

device_managed if {
	input.device.known
	input.device.managed
	input.device.state == "active"
	device_bound
}

# Without a certificate that chains to this issuer there is nothing to bind; certificate_good asks for one.
device_bound if input.certificate.device == input.device.id

device_bound if input.certificate.status == "none"

device_heard if input.device.silent_for <= config.max_silence

credential_clean if {
	input.credential.problem == ""
	input.credential.kind in {"basic", "bearer"}
	input.credential.user != ""
}

owner_matches if {
	names_match
	oid_matches
	tid_matches
}

names_match if {
	input.owner.known
	input.owner.names[input.credential.user]
	object.subset(input.owner.names, input.credential.names)
}

# A shared mailbox: User= names it, and the owner to whom it was delegated signs in.
names_match if {
	input.owner.known
	input.owner.delegations[input.credential.user]
	said := object.remove(input.credential.names, [input.credential.user])
	count(said) > 0
	object.subset(input.owner.names, said)
}

oid_matches if input.credential.oid == input.owner.oid

oid_matches if input.credential.oid == ""

oid_matches if input.owner.oid == ""

tid_matches if input.credential.tid == input.owner.tid

tid_matches if input.credential.tid == ""

tid_matches if input.owner.tid == ""

device_id_matches if input.device.eas_device_id == ""

device_id_matches if input.device.eas_device_id == input.claimed.device_id

device_id_matches if not input.claimed.family in config.device_id_families

device_id_matches if input.profile.linked

device_id_matches if input.request.protocol == "autodiscover"

sole_profile if {
	not without_certificate
	first_device_id
}

# Duplicate (a): the DeviceId of a managed profile without its certificate.
without_certificate if {
	input.duplicate.device_id_managed
	input.certificate.status == "none"
}

without_certificate if {
	input.duplicate.device_id_managed
	input.duplicate.managed_device != input.certificate.device
}

# Duplicate (b): one certificate under a second DeviceId of the same client family. The one that the MDM reports wins; otherwise the newcomer waits
# until the first has been silent for the window.
first_device_id if input.duplicate.other_device_id in {"", input.claimed.device_id}

first_device_id if {
	input.claimed.device_id != ""
	input.claimed.device_id == input.device.eas_device_id
}

first_device_id if input.profile.linked

first_device_id if input.now > duplicate_end

first_device_id if {
	input.profile.known
	input.profile.first_seen < input.duplicate.other_first_seen
}

first_device_id if {
	input.profile.known
	input.profile.first_seen == input.duplicate.other_first_seen
	input.claimed.device_id < input.duplicate.other_device_id
}

duplicate_end := input.duplicate.other_last_seen + config.duplicate_window

client_accepted if {
	input.claimed.family != "other"
	not input.claimed.family in config.denied_clients
}

client_accepted if {
	input.claimed.family == "other"
	config.unknown_client == "allow"
	not "other" in config.denied_clients
}

command_accepted if not input.request.command in config.denied_commands

# What speaks against it: codes. Sentences and remedies are made from them outside.

denied contains "certificate_revoked" if input.certificate.status == "revoked"

denied contains "device_retired" if input.device.state == "retired"

denied contains "device_blocked" if input.device.state == "blocked"

denied contains code if {
	input.credential.problem != ""
	code := object.get(credential_codes, input.credential.problem, "unreadable_credentials")
}

denied contains code if {
	input.request.class == "command"
	some code in command_denied
}

credential_codes := {
	"duplicate_credentials": "duplicate_credentials",
	"app_only": "app_only_credential",
	"wrong_tenant": "wrong_tenant",
	"wrong_audience": "wrong_audience",
}

command_denied contains "no_certificate" if not input.certificate.present

command_denied contains "certificate_held" if input.certificate.status == "held"

command_denied contains "certificate_superseded" if {
	input.certificate.status == "superseded"
	input.now >= grace_end
}

command_denied contains "certificate_expired" if certificate_expired

certificate_expired if input.certificate.problem == "expired"

certificate_expired if {
	input.certificate.present
	input.certificate.problem == ""
	input.now >= input.certificate.not_after
}

command_denied contains "certificate_not_trusted" if {
	input.certificate.present
	not input.certificate.problem in {"", "expired"}
}

command_denied contains "certificate_not_trusted" if {
	input.certificate.present
	input.certificate.problem == ""
	not input.certificate.status in {"good", "held", "superseded", "revoked"}
}

command_denied contains "unmanaged_device" if unmanaged

unmanaged if not input.device.known

unmanaged if not input.device.managed

unmanaged if not input.device.state in {"active", "retired", "blocked", "quarantined"}

unmanaged if not device_bound

command_denied contains "device_silent" if not device_heard

command_denied contains "no_user" if {
	input.credential.problem == ""
	not credential_clean
}

command_denied contains "owner_mismatch" if {
	input.device.known
	credential_clean
	not names_match
}

command_denied contains "owner_mismatch" if not oid_matches

command_denied contains "wrong_tenant" if not tid_matches

command_denied contains "device_id_mismatch" if not device_id_matches

command_denied contains "duplicate_profile_without_certificate" if without_certificate

command_denied contains "client_not_allowed" if input.claimed.family in config.denied_clients

command_denied contains "unknown_client" if {
	input.claimed.family == "other"
	not config.unknown_client in {"allow", "quarantine"}
}

command_denied contains "command_not_allowed" if not command_accepted

quarantined contains code if {
	input.request.class == "command"
	some code in command_quarantined
}

command_quarantined contains "device_quarantined" if input.device.state == "quarantined"

command_quarantined contains "duplicate_profile_second_device_id" if not first_device_id

command_quarantined contains "unknown_client" if {
	input.claimed.family == "other"
	config.unknown_client == "quarantine"
}

# What the team packages add, and what their exceptions lift.

objection if count(data.postern.access.team[_].deny) > 0

objection if count(data.postern.access.team[_].quarantine) > 0

objection if {
	some exception in data.postern.access.team[_].except
	not well_formed(exception)
}

denials contains reason if {
	some reason in denied
	not reason in lifted
}

denials contains reason if {
	some name
	some said in data.postern.access.team[name].deny
	reason := named(name, said)
	not reason.code in lifted
}

# A code that is no string makes the decision a fault: an exception that cannot be read is an error, not a detail.
denials contains {"code": exception, "rule": rule} if {
	some rule
	exception := malformed_exception[rule][_]
}

quarantines contains reason if {
	some reason in quarantined
	not reason in lifted
}

quarantines contains reason if {
	some name
	some said in data.postern.access.team[name].quarantine
	reason := named(name, said)
	not reason.code in lifted
}

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
	"duplicate_credentials",
	"no_user",
	"owner_mismatch",
	"unreadable_credentials",
	"wrong_audience",
	"wrong_tenant",
}

# Only for the owner of a known device: an exception never stands in for knowing who asks.
exceptions contains exception if {
	credential_clean
	owner_matches
	some exception in data.postern.access.team[_].except
	well_formed(exception)
	input.now < exception.until
}

lifted contains code if {
	some exception in exceptions
	some code in exception.reasons
	not code in never_lifted
}

applied contains exception if {
	some exception in exceptions
	some code in exception.reasons
	code in lifted
	code in spoken
}

spoken contains code if some code in denied

spoken contains code if some code in quarantined

spoken contains code if {
	some name
	some said in data.postern.access.team[name].deny
	code := named(name, said).code
}

spoken contains code if {
	some name
	some said in data.postern.access.team[name].quarantine
	code := named(name, said).code
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

# The request is proved and what the team packages said was lifted.
exempt if {
	proved
	count(applied) > 0
}

# Every condition of a managed profile is proved, or the very reason for which it is not was lifted.
exempt if {
	not proved
	count(applied) > 0
	every condition in unproved {
		some code, condition_of_code in conditions
		condition_of_code == condition
		code in lifted
		code in spoken
	}
}

conditions := {
	"certificate_superseded": "certificate",
	"client_not_allowed": "client",
	"command_not_allowed": "command",
	"device_id_mismatch": "device_id",
	"device_quarantined": "device",
	"device_silent": "report",
	"duplicate_profile_second_device_id": "sole",
	"duplicate_profile_without_certificate": "sole",
	"no_certificate": "certificate",
	"unknown_client": "client",
	"unmanaged_device": "device",
}

unproved contains "class" if input.request.class != "command"

unproved contains "credential" if not credential_clean

unproved contains "owner" if not owner_matches

unproved contains "certificate" if not certificate_good

unproved contains "device" if not device_managed

unproved contains "report" if not device_heard

unproved contains "device_id" if not device_id_matches

unproved contains "sole" if not sole_profile

unproved contains "client" if not client_accepted

unproved contains "command" if not command_accepted

# What an allowed request should be remembered for.

notes contains "unknown_client" if {
	input.request.class == "command"
	input.claimed.family == "other"
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

# Until when the decision holds: the earliest end among the facts that it used; 0 for as long as they do.

valid_until := min(ends) if {
	count(ends) > 0
} else := 0

ends contains input.certificate.not_after if certificate_good

ends contains grace_end if {
	certificate_good
	input.certificate.status == "superseded"
}

ends contains duplicate_end + 1 if {
	not first_device_id
	input.request.class == "command"
}

ends contains exception.until if some exception in applied

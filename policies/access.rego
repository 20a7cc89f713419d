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
} else := {"action": "allow", "rule": exempted_by, "reasons": (notes | waiver_notes), "valid_until": valid_until} if {
	exempt
}

proved := "managed_profile" if managed_profile

proved := "discovery" if discovery

proved := "sign_in" if sign_in

# Almost every request: all conditions of a managed profile, each in its plainest form, in one rule because that is several times faster. It proves
# nothing that managed_profile does not; a test compares them. The names at its end are of the library, and cost nothing while its policies are off. The configuration is read by its
# whole name, for which the engine puts its value when it loads.
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
	input.device.suspended == false
	input.credential.problem == ""
	input.credential.kind in {"basic", "bearer"}
	input.credential.user != ""
	input.owner.known
	input.owner.suspended == false
	input.owner.names[input.credential.user]
	object.subset(input.owner.names, input.credential.names)
	input.credential.oid in ["", input.owner.oid]
	input.credential.tid in ["", input.owner.tid]
	input.device.eas_device_id in ["", input.claimed.device_id]
	device_id_own
	input.duplicate.other_device_id == ""
	input.profile.refused == false
	input.claimed.family != "other"
	input.device.silent_for <= data.postern.config.access.max_silence
	not input.claimed.family in data.postern.config.access.denied_clients
	not input.request.command in data.postern.config.access.denied_commands
	audience_matches
	client_listed
	platform_accepted
	eas_version_accepted
	compliance_plain
	os_accepted
	place_in_line
	hint_ignored
	zone_accepted
	sign_on_accepted
}

# The DeviceId is that of no managed device, or of this one.
device_id_own if {
	input.duplicate.device_id_managed == false
	input.duplicate.managed_device == ""
}

device_id_own if {
	input.duplicate.device_id_managed
	input.duplicate.managed_device == input.certificate.device
}

# What is proved.

managed_profile if {
	input.request.class == "command"
	device_assured
	device_managed
	device_heard
	in_service
	credential_clean
	owner_matches
	device_id_matches
	sole_profile
	profile_accepted
	client_accepted
	command_accepted
	client_listed
	platform_accepted
	eas_version_accepted
	compliance_accepted
	os_accepted
	place_in_line
	hint_accepted
	zone_accepted
	sign_on_accepted
}

# A phone that is being set up may be told how to sign in, and nothing else: not when its certificate is revoked, it is blocked, retired or suspended, or
# what it says of its user cannot be read in one way only.
discovery if {
	input.request.class == "discovery"
	input.credential.problem == ""
	input.certificate.status in {"none", "good", "held", "superseded"}
	input.device.state in {"", "pending", "active", "quarantined"}
	in_service
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

# Without a certificate that chains to this issuer there is nothing to bind; device_assured asks for one, or for the token of this device.
device_bound if input.certificate.device == input.device.id

device_bound if input.certificate.status == "none"

# Neither the device nor its owner is suspended; one that is not known is not.
in_service if {
	input.device.suspended == false
	input.owner.suspended == false
}

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
	audience_matches
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

# Where the data lists services, a token is made for one of them. Of a token that tells nothing this cannot be asked.
audience_matches if data.postern.config.access.token_audiences == []

audience_matches if input.credential.kind != "bearer"

audience_matches if input.credential.audience == []

audience_matches if {
	some audience in input.credential.audience
	audience in config.token_audiences
}

device_id_matches if input.device.eas_device_id == ""

device_id_matches if input.device.eas_device_id == input.claimed.device_id

device_id_matches if not input.claimed.family in config.device_id_families

device_id_matches if input.profile.linked

# These have no DeviceId.
device_id_matches if input.request.protocol in {"autodiscover", "ews"}

# What speaks against it: codes. Sentences and remedies are made from them outside.

denied contains "certificate_revoked" if input.certificate.status == "revoked"

denied contains "device_retired" if input.device.state == "retired"

denied contains "device_blocked" if input.device.state == "blocked"

denied contains "device_suspended" if input.device.suspended

denied contains "owner_suspended" if input.owner.suspended

denied contains code if {
	input.credential.problem != ""
	code := object.get(credential_codes, input.credential.problem, "unreadable_credentials")
}

denied contains code if {
	input.request.class == "command"
	some code in command_denied
}

denied contains code if {
	input.request.class == "token"
	some code in token_denied
}

credential_codes := {
	"duplicate_credentials": "duplicate_credentials",
	"app_only": "app_only_credential",
	"wrong_tenant": "wrong_tenant",
	"wrong_audience": "wrong_audience",
}

command_denied contains "no_certificate" if {
	not input.certificate.present
	not token_sound
}

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

command_denied contains "wrong_audience" if not audience_matches

command_denied contains "device_id_mismatch" if not device_id_matches

quarantined contains code if {
	input.request.class == "command"
	some code in command_quarantined
}

quarantined contains "device_quarantined" if {
	input.request.class == "token"
	input.device.state == "quarantined"
}

command_quarantined contains "device_quarantined" if input.device.state == "quarantined"

# Until when the decision holds: the earliest end among the facts that it may have used; 0 for as long as they do. Every moment at which a rule of this
# package could turn by the clock alone is an end until it has passed, because decisions are remembered that long, and teams read these rules too.

valid_until := min(ends) if {
	count(ends) > 0
} else := 0

ends contains input.certificate.not_after if {
	input.certificate.present
	input.now < input.certificate.not_after
}

ends contains grace_end if {
	input.certificate.status == "superseded"
	input.now < grace_end
}

ends contains input.assurance_until if {
	input.assurance == "token"
	input.now < input.assurance_until
}

ends contains exception.until if some exception in applied

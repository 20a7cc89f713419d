package postern.access

samples := data.postern.samples.access

# vary replaces facts of the managed sample: {"/certificate/status": "revoked"}.
vary(changes) := json.patch(samples.managed, [{"op": "replace", "path": path, "value": value} | some path, value in changes])

no_certificate := {
	"/certificate/present": false,
	"/certificate/status": "none",
	"/certificate/serial": "",
	"/certificate/device": "",
	"/certificate/not_after": 0,
}

discovery_facts := {
	"/request/class": "discovery",
	"/credential/kind": "empty_bearer",
	"/credential/user": "",
	"/credential/names": {},
}

# expect is for one case: the action, and exactly these reasons.
expect(d, action, codes) if {
	d.action == action
	{code_of(reason) | some reason in d.reasons} == codes
}

code_of(reason) := reason if is_string(reason)

code_of(reason) := reason.code if is_object(reason)

test_managed_profile if {
	d := decision with input as samples.managed
	expect(d, "allow", set())
	d.rule == "managed_profile"
	d.valid_until == samples.managed.certificate.not_after
}

# Everything that turns a managed request into a refusal by one or two changed facts: what is changed, the action, the reasons.
refusals := {
	"revoked": [{"/certificate/status": "revoked"}, "deny", {"certificate_revoked"}],
	"held": [{"/certificate/status": "held"}, "deny", {"certificate_held"}],
	"grace over": [
		{"/certificate/status": "superseded", "/certificate/successor_first_use": samples.managed.now - 259200},
		"deny",
		{"certificate_superseded"},
	],
	"expired": [{"/certificate/problem": "expired"}, "deny", {"certificate_expired"}],
	"expires now": [{"/certificate/not_after": samples.managed.now}, "deny", {"certificate_expired"}],
	"untrusted": [
		{"/certificate/problem": "untrusted", "/certificate/status": "none", "/certificate/device": ""},
		"deny",
		{"certificate_not_trusted"},
	],
	"not yet valid": [{"/certificate/problem": "not_yet_valid"}, "deny", {"certificate_not_trusted"}],
	"not of this issuer": [{"/certificate/status": "none"}, "deny", {"certificate_not_trusted"}],
	"no certificate": [no_certificate, "deny", {"no_certificate"}],
	"unknown device": [{"/device/known": false}, "deny", {"unmanaged_device"}],
	"not managed": [{"/device/managed": false}, "deny", {"unmanaged_device"}],
	"pending": [{"/device/state": "pending"}, "deny", {"unmanaged_device"}],
	"another device": [{"/certificate/device": "dev-bob"}, "deny", {"unmanaged_device"}],
	"retired": [{"/device/state": "retired"}, "deny", {"device_retired"}],
	"blocked": [{"/device/state": "blocked"}, "deny", {"device_blocked"}],
	"suspended": [{"/device/suspended": true}, "deny", {"device_suspended"}],
	"owner suspended": [{"/owner/suspended": true}, "deny", {"owner_suspended"}],
	"suspended twice, and held": [
		{"/device/suspended": true, "/owner/suspended": true, "/certificate/status": "held"},
		"deny",
		{"device_suspended", "owner_suspended", "certificate_held"},
	],
	"quarantined": [{"/device/state": "quarantined"}, "quarantine", {"device_quarantined"}],
	"silent": [{"/device/silent_for": 604801}, "deny", {"device_silent"}],
	"another user": [
		{"/credential/user": "bob@contoso.com", "/credential/names": {"bob@contoso.com": true}, "/credential/oid": ""},
		"deny",
		{"owner_mismatch"},
	],
	"two users": [
		{"/credential/names": {"alice@contoso.com": true, "bob@contoso.com": true}},
		"deny",
		{"owner_mismatch"},
	],
	"another object": [{"/credential/oid": "o-bob"}, "deny", {"owner_mismatch"}],
	"no owner": [{"/owner/known": false}, "deny", {"owner_mismatch"}],
	"opaque token for another": [
		{
			"/credential/user": "bob@contoso.com", "/credential/names": {"bob@contoso.com": true},
			"/credential/oid": "", "/credential/tid": "",
		},
		"deny",
		{"owner_mismatch"},
	],
	"shared mailbox as user": [
		{"/credential/user": "sales@contoso.com", "/credential/names": {"sales@contoso.com": true}},
		"deny",
		{"owner_mismatch"},
	],
	"shared mailbox by another": [
		{"/credential/user": "sales@contoso.com", "/credential/names": {"sales@contoso.com": true, "bob@contoso.com": true}},
		"deny",
		{"owner_mismatch"},
	],
	"no user": [{"/credential/user": "", "/credential/names": {}}, "deny", {"no_user"}],
	"no credential": [{"/credential/kind": "none"}, "deny", {"no_user"}],
	"empty bearer with a command": [{"/credential/kind": "empty_bearer"}, "deny", {"no_user"}],
	"duplicate credentials": [{"/credential/problem": "duplicate_credentials"}, "deny", {"duplicate_credentials"}],
	"unreadable credentials": [{"/credential/problem": "unreadable_credentials"}, "deny", {"unreadable_credentials"}],
	"unnamed problem": [{"/credential/problem": "anything"}, "deny", {"unreadable_credentials"}],
	"application": [{"/credential/problem": "app_only"}, "deny", {"app_only_credential"}],
	"tenant of the token": [{"/credential/problem": "wrong_tenant"}, "deny", {"wrong_tenant"}],
	"tenant of the owner": [{"/credential/tid": "t-fabrikam"}, "deny", {"wrong_tenant"}],
	"audience": [{"/credential/problem": "wrong_audience"}, "deny", {"wrong_audience"}],
	"DeviceId": [{"/claimed/device_id": "appl9"}, "deny", {"device_id_mismatch"}],
	"no DeviceId": [{"/claimed/device_id": ""}, "deny", {"device_id_mismatch"}],
	"duplicate a": [
		object.union(no_certificate, {
			"/duplicate/device_id_managed": true,
			"/duplicate/managed_device": "dev-alice",
		}),
		"deny",
		{"duplicate_profile_without_certificate", "no_certificate"},
	],
	"duplicate a with the certificate of another": [
		{"/duplicate/device_id_managed": true, "/duplicate/managed_device": "dev-bob"},
		"deny",
		{"duplicate_profile_without_certificate"},
	],
	"refused by an administrator": [{"/profile/refused": true}, "deny", {"profile_refused"}],
	"duplicate b": [
		object.union(second, {"/profile/first_seen": samples.managed.now}),
		"quarantine",
		{"duplicate_profile_second_device_id"},
	],
	"duplicate b, first request": [
		object.union(second, {"/profile/known": false, "/profile/first_seen": 0, "/duplicate/other_is_older": false}),
		"quarantine",
		{"duplicate_profile_second_device_id"},
	],
}

# A second DeviceId where the MDM reports none, the first seen a minute ago and first of all a day ago.
second := {
	"/claimed/device_id": "android2",
	"/claimed/family": "gmail",
	"/device/eas_device_id": "",
	"/duplicate/other_device_id": "android1",
	"/duplicate/other_last_seen": samples.managed.now - 60,
	"/duplicate/other_first_seen": samples.managed.now - 86400,
	"/duplicate/other_is_older": true,
}

test_refusals[name] if {
	some name, [changes, action, codes] in refusals
	d := decision with input as vary(changes)
	expect(d, action, codes)
}

# An exception is only accepted where all that is not proved was lifted: every refusal leaves something unproved, and none is plain.
test_refusals_leave_something_unproved[name] if {
	some name, [changes, _, _] in refusals
	facts := vary(changes)
	count(unproved) > 0 with input as facts
	not plain with input as facts
}

test_plain_case if {
	plain with input as samples.managed
	count(unproved) == 0 with input as samples.managed
}

# What looks odd and is in order.
allowed := {
	"grace not begun": {"/certificate/status": "superseded"},
	"in grace": {"/certificate/status": "superseded", "/certificate/successor_first_use": samples.managed.now - 259199},
	"another name of the owner": {"/credential/user": "contoso\\alice", "/credential/names": {"contoso\\alice": true}},
	"opaque token for the owner": {"/credential/oid": "", "/credential/tid": ""},
	"owner without ids": {"/owner/oid": "", "/owner/tid": ""},
	"shared mailbox": {
		"/credential/user": "sales@contoso.com",
		"/credential/names": {"sales@contoso.com": true, "alice@contoso.com": true},
	},
	"MDM reports no DeviceId": {"/device/eas_device_id": "", "/claimed/device_id": "anything"},
	"client with a DeviceId of its own": {"/claimed/device_id": "outlook1", "/claimed/family": "outlook"},
	"linked DeviceId": {"/claimed/device_id": "appl9", "/profile/linked": true},
	"Autodiscover has no DeviceId": {"/claimed/device_id": "", "/request/protocol": "autodiscover"},
	"own DeviceId is managed": {"/duplicate/device_id_managed": true, "/duplicate/managed_device": "dev-alice"},
	"the MDM's DeviceId wins": object.union(second, {
		"/profile/first_seen": samples.managed.now,
		"/device/eas_device_id": "android2",
	}),
	"the first of two": object.union(second, {
		"/profile/first_seen": samples.managed.now - 86400,
		"/duplicate/other_is_older": false,
	}),
	"linked second": object.union(second, {"/profile/first_seen": samples.managed.now, "/profile/linked": true}),
	"the first is silent": object.union(second, {
		"/profile/first_seen": samples.managed.now,
		"/duplicate/other_last_seen": samples.managed.now - 1209601,
	}),
	"silent for as long as allowed": {"/device/silent_for": 604800},
}

test_allowed[name] if {
	some name, changes in allowed
	d := decision with input as vary(changes)
	expect(d, "allow", set())
	d.rule == "managed_profile"
}

test_grace_bounds_validity if {
	d := decision with input as vary(allowed["in grace"])
	d.valid_until == samples.managed.now + 1
}

test_unknown_client_is_named if {
	d := decision with input as samples.unknown_client
	expect(d, "allow", {"unknown_client"})
}

test_unknown_client_settings[action] if {
	some action in ["quarantine", "deny"]
	d := decision with input as samples.unknown_client with data.postern.config.access.unknown_client as action
	expect(d, action, {"unknown_client"})
}

test_denied_client if {
	d := decision with input as samples.managed with data.postern.config.access.denied_clients as ["apple_mail"]
	expect(d, "deny", {"client_not_allowed"})
}

test_denied_unknown_client if {
	d := decision with input as samples.unknown_client with data.postern.config.access.denied_clients as ["other"]
	expect(d, "deny", {"client_not_allowed"})
}

test_denied_command if {
	d := decision with input as samples.managed with data.postern.config.access.denied_commands as ["sync"]
	expect(d, "deny", {"command_not_allowed"})
}

# Discovery.

test_discovery_of_an_unknown_phone if {
	d := decision with input as samples.discovery
	expect(d, "allow", set())
	d.rule == "discovery"
}

discovery_allowed := {
	"managed": {},
	"no certificate": no_certificate,
	"held": {"/certificate/status": "held"},
	"expired": {"/certificate/problem": "expired"},
	"quarantined": {"/device/state": "quarantined"},
	"silent": {"/device/silent_for": 9999999},
}

test_discovery_allowed[name] if {
	some name, changes in discovery_allowed
	d := decision with input as vary(object.union(discovery_facts, changes))
	expect(d, "allow", set())
	d.rule == "discovery"
}

discovery_refused := {
	"revoked": [{"/certificate/status": "revoked"}, {"certificate_revoked"}],
	"blocked": [{"/device/state": "blocked"}, {"device_blocked"}],
	"suspended": [{"/device/suspended": true}, {"device_suspended"}],
	"owner suspended": [{"/owner/suspended": true}, {"owner_suspended"}],
	"retired": [{"/device/state": "retired"}, {"device_retired"}],
	"duplicate credentials": [{"/credential/problem": "duplicate_credentials"}, {"duplicate_credentials"}],
	"unreadable credentials": [{"/credential/problem": "unreadable_credentials"}, {"unreadable_credentials"}],
}

test_discovery_refused[name] if {
	some name, [changes, codes] in discovery_refused
	d := decision with input as vary(object.union(discovery_facts, changes))
	expect(d, "deny", codes)
}

test_class_without_a_name_has_no_decision if {
	not decision with input as vary({"/request/class": ""})
}

# The samples and cases are in access_test.rego.
package postern.access

test_team_denies_what_is_managed if {
	d := decision with input as samples.managed with data.postern.access.team.night.deny as {"night"}
	expect(d, "deny", {"night"})
	some reason in d.reasons
	reason.rule == "postern.access.team.night"
}

test_team_quarantines if {
	d := decision with input as samples.managed with data.postern.access.team.night.quarantine as {{"code": "night", "text": "It is night."}}
	expect(d, "quarantine", {"night"})
}

test_deny_beats_quarantine if {
	d := decision with input as samples.managed
		with data.postern.access.team.a.quarantine as {"one"}
		with data.postern.access.team.b.deny as {"two"}
	expect(d, "deny", {"one", "two"})
}

exception(codes) := {
	"id": "EX-1",
	"granted_by": "help desk",
	"until": samples.managed.now + 60,
	"reasons": codes,
}

test_exception_lifts if {
	d := decision with input as samples.silent with data.postern.access.team.vip.except as {exception(["device_silent"])}
	expect(d, "allow", {"exception"})
	d.rule == "exception"
	d.valid_until == samples.managed.now + 60
}

test_exception_lifts_what_a_team_said if {
	d := decision with input as samples.managed
		with data.postern.access.team.night.deny as {"night"}
		with data.postern.access.team.vip.except as {exception(["night"])}
	expect(d, "allow", {"exception"})
}

test_exception_lifts_a_quarantine if {
	d := decision with input as samples.duplicate_second_device_id
		with data.postern.access.team.night.quarantine as {"night"}
		with data.postern.access.team.vip.except as {exception(["night", "duplicate_profile_second_device_id"])}
	expect(d, "allow", {"exception"})
}

test_exception_for_no_class if {
	not decision with input as vary({"/request/class": ""})
		with data.postern.access.team.night.deny as {"night"}
		with data.postern.access.team.vip.except as {exception(["night"])}
}

test_exception_lifts_commands_and_clients if {
	d := decision with input as samples.managed
		with data.postern.config.access.denied_commands as ["sync"]
		with data.postern.config.access.denied_clients as ["apple_mail"]
		with data.postern.access.team.vip.except as {exception(["command_not_allowed", "client_not_allowed"])}
	expect(d, "allow", {"exception"})
}

test_exception_lifts_for_discovery if {
	d := decision with input as vary({"/request/class": "discovery"})
		with data.postern.access.team.night.deny as {"night"}
		with data.postern.access.team.vip.except as {exception(["night"])}
	expect(d, "allow", {"exception"})
}

test_exception_has_ended if {
	d := decision with input as samples.silent
		with data.postern.access.team.vip.except as {object.union(exception(["device_silent"]), {"until": samples.managed.now})}
	expect(d, "deny", {"device_silent"})
}

test_exception_for_one_of_two_reasons if {
	d := decision with input as vary({"/device/silent_for": 9999999, "/claimed/device_id": "appl9"})
		with data.postern.access.team.vip.except as {exception(["device_silent"])}
	expect(d, "deny", {"device_id_mismatch"})
}

test_exception_leaves_a_quarantine if {
	d := decision with input as vary({"/device/silent_for": 9999999, "/device/state": "quarantined"})
		with data.postern.access.team.vip.except as {exception(["device_silent"])}
	expect(d, "quarantine", {"device_quarantined"})
}

test_exception_without_certificate if {
	d := decision with input as vary(no_certificate) with data.postern.access.team.token.except as {exception(["no_certificate"])}
	expect(d, "allow", {"exception"})
}

test_exception_never_lifts[name] if {
	settled := {name: refusal | some name, refusal in refusals; count(refusal[2] & never_lifted) > 0}
	some name, [changes, _, codes] in settled
	d := decision with input as vary(changes) with data.postern.access.team.vip.except as {exception([c | some c in codes])}
	expect(d, "deny", codes)
}

test_exception_needs_the_owner if {
	d := decision with input as samples.unmanaged
		with data.postern.access.team.vip.except as {exception(["no_certificate", "unmanaged_device"])}
	expect(d, "deny", {"no_certificate", "unmanaged_device"})
}

malformed := [
	{"id": "EX-1"},
	{"id": "", "granted_by": "x", "until": 1, "reasons": ["a"]},
	{"id": "EX-1", "granted_by": "", "until": 1, "reasons": ["a"]},
	{"id": "EX-1", "granted_by": "x", "until": "soon", "reasons": ["a"]},
	{"id": "EX-1", "granted_by": "x", "until": 1, "reasons": []},
	{"id": "EX-1", "granted_by": "x", "until": 1, "reasons": [1]},
]

# The engine makes a fault of a code that is not text.
test_malformed_exception[i] if {
	some i, bad in malformed
	d := decision with input as samples.managed with data.postern.access.team.vip.except as {bad}
	d.action == "deny"
	some reason in d.reasons
	reason.code == bad
}

test_granted_exception if {
	expect(decision, "allow", {"exception"}) with input as samples.excepted
	decision.valid_until == samples.excepted.exceptions[0].until with input as samples.excepted
}

test_granted_exception_ends if {
	late := json.patch(samples.excepted, [{"op": "replace", "path": "/now", "value": samples.excepted.exceptions[0].until}])
	expect(decision, "deny", {"device_silent"}) with input as late
}

test_granted_exception_never_lifts if {
	revoked := json.patch(samples.excepted, [
		{"op": "replace", "path": "/certificate/status", "value": "revoked"},
		{"op": "replace", "path": "/exceptions/0/reasons", "value": ["device_silent", "certificate_revoked"]},
	])
	expect(decision, "deny", {"certificate_revoked"}) with input as revoked
}

package postern.lifecycle

samples := data.postern.samples.lifecycle

vary(sample, changes) := json.patch(sample, [{"op": "replace", "path": path, "value": value} | some path, value in changes])

expect(d, action, codes) if {
	d.action == action
	{code | some reason in d.reasons; code := object.get({"x": reason}, ["x", "code"], reason)} == codes
}

on := {
	"silent_after": 7776000,
	"silent_action": "retire",
	"unused_after": 2592000,
	"unused_action": "notify",
	"no_mail_after": 5184000,
	"no_mail_action": "suspend",
}

test_off[name] if {
	some name, sample in samples
	expect(decision, "keep", set()) with input as sample
}

test_on if {
	expect(decision, "keep", set()) with input as samples.in_use with data.postern.config.lifecycle as on
	expect(decision, "retire", {"device_silent_long"}) with input as samples.silent with data.postern.config.lifecycle as on
	expect(decision, "notify", {"certificate_unused"}) with input as samples.unused with data.postern.config.lifecycle as on
	expect(decision, "suspend", {"no_mail"}) with input as samples.no_mail with data.postern.config.lifecycle as on
}

actions[action] contains code if {
	some action in ["notify", "suspend", "retire"]
	settings := object.union(on, {"silent_action": action, "unused_action": action, "no_mail_action": action})
	some sample in samples
	d := decision with input as sample with data.postern.config.lifecycle as settings
	d.action == action
	some code in d.reasons
}

test_every_action if {
	every action in ["notify", "suspend", "retire"] {
		actions[action] == {"device_silent_long", "certificate_unused", "no_mail"}
	}
}

test_settled_devices_stay[state] if {
	some state in ["retired", "blocked", ""]
	d := decision with input as vary(samples.silent, {"/device/state": state})
		with data.postern.config.lifecycle as on
		with data.postern.lifecycle.team.a.deny as {"gone"}
	d.action == "keep"
}

test_missing_facts_keep if {
	d := decision with input as {"now": 1} with data.postern.config.lifecycle as on
	d.action == "keep"
}

test_suspended_is_not_suspended_again if {
	d := decision with input as vary(samples.no_mail, {"/device/suspended": true})
		with data.postern.config.lifecycle as on
		with data.postern.lifecycle.team.a.quarantine as {"lent"}
	d.action == "keep"
}

test_teams if {
	d := decision with input as samples.in_use
		with data.postern.lifecycle.team.a.deny as {"gone"}
		with data.postern.lifecycle.team.b.quarantine as {"lent"}
	d.action == "retire"
	d.reasons == {{"code": "gone", "rule": "postern.lifecycle.team.a"}}
	e := decision with input as samples.in_use with data.postern.lifecycle.team.b.quarantine as {{"code": "lent", "text": "It is lent."}}
	e.action == "suspend"
	e.reasons == {{"code": "lent", "text": "It is lent.", "rule": "postern.lifecycle.team.b"}}
}

exception(codes, until) := {"id": "EX-1", "granted_by": "help desk", "until": until, "reasons": codes}

test_exceptions_keep if {
	now := samples.silent.now
	d := decision with input as samples.silent with data.postern.config.lifecycle as on
		with data.postern.lifecycle.team.a.deny as {"gone"}
		with data.postern.lifecycle.team.b.except as {exception(["device_silent_long", "gone"], now + 1)}
	d.action == "keep"
	over := decision with input as samples.silent with data.postern.config.lifecycle as on
		with data.postern.lifecycle.team.b.except as {exception(["device_silent_long"], now)}
	over.action == "retire"
	granted := decision with input as vary(samples.silent, {"/exceptions": [exception(["device_silent_long"], now + 1)]})
		with data.postern.config.lifecycle as on
	granted.action == "keep"
}

test_malformed_exception if {
	d := decision with input as samples.in_use with data.postern.lifecycle.team.a.except as {{"id": "EX-1"}}
	some reason in d.reasons
	reason.code == {"id": "EX-1"}
}

package postern.enroll

samples := data.postern.samples.enroll

vary(sample, changes) := json.patch(sample, [{"op": "replace", "path": path, "value": value} | some path, value in changes])

expect(d, action, codes) if {
	d.action == action
	{code_of(reason) | some reason in d.reasons} == codes
}

code_of(reason) := reason if is_string(reason)

code_of(reason) := reason.code if is_object(reason)

test_enrolment if {
	d := decision with input as samples.enrol
	expect(d, "allow", set())
	d.rule == "enrolment"
	d.profile == "device"
}

test_renewal if {
	d := decision with input as samples.renew
	expect(d, "allow", set())
	d.rule == "renewal"
}

allowed := {
	"no names": {"/requested/mails": []},
	"another name of the owner": {"/requested/mails": ["alice.a@contoso.com"]},
	"P-256": {"/key": {"algorithm": "ecdsa", "bits": 256}},
	"P-384": {"/key": {"algorithm": "ecdsa", "bits": 384}},
	"RSA 4096": {"/key": {"algorithm": "rsa", "bits": 4096}},
	"enrols again": {"/device/state": "active"},
}

test_allowed[name] if {
	some name, changes in allowed
	d := decision with input as vary(samples.enrol, changes)
	expect(d, "allow", set())
}

refusals := {
	"unknown": [{"/device/known": false}, {"device_unknown"}],
	"retired": [{"/device/state": "retired"}, {"device_retired"}],
	"blocked": [{"/device/state": "blocked"}, {"device_blocked"}],
	"quarantined": [{"/device/state": "quarantined"}, {"device_quarantined"}],
	"suspended": [{"/device/suspended": true}, {"device_suspended"}],
	"owner suspended": [{"/owner/suspended": true}, {"owner_suspended"}],
	"not managed": [{"/device/managed": false}, {"not_managed"}],
	"no owner": [{"/owner/known": false}, {"owner_unknown"}],
	"domain": [{"/domain": "fabrikam.com"}, {"domain_not_allowed"}],
	"names another": [{"/requested/mails": ["alice@contoso.com", "bob@contoso.com"]}, {"names_another_user"}],
	"names a delegation": [{"/requested/mails": ["sales@contoso.com"]}, {"names_another_user"}],
	"RSA 1024": [{"/key/bits": 1024}, {"weak_key"}],
	"P-224": [{"/key": {"algorithm": "ecdsa", "bits": 224}}, {"weak_key"}],
	"other algorithm": [{"/key": {"algorithm": "dsa", "bits": 4096}}, {"weak_key"}],
}

test_refusals[name] if {
	some name, [changes, codes] in refusals
	d := decision with input as vary(samples.enrol, changes)
	expect(d, "deny", codes)
}

renewal_refusals := {
	"held": [{"/renews/status": "held"}, {"renewal_certificate_not_good"}],
	"superseded": [{"/renews/status": "superseded"}, {"renewal_certificate_not_good"}],
	"revoked": [{"/renews/status": "revoked"}, {"renewal_certificate_not_good"}],
	"expired": [{"/renews/not_after": samples.renew.now}, {"renewal_certificate_expired"}],
	"not yet valid": [{"/renews/not_before": samples.renew.now + 1}, {"renewal_certificate_expired"}],
}

test_renewal_refusals[name] if {
	some name, [changes, codes] in renewal_refusals
	d := decision with input as vary(samples.renew, changes)
	expect(d, "deny", codes)
}

# An exception is only accepted where all that is not proved was lifted: every refusal leaves something unproved.
test_refusals_leave_something_unproved[name] if {
	some name, [changes, _] in refusals
	count(unproved) > 0 with input as vary(samples.enrol, changes)
}

test_renewal_refusals_leave_something_unproved[name] if {
	some name, [changes, _] in renewal_refusals
	count(unproved) > 0 with input as vary(samples.renew, changes)
}

test_unproved_kind if {
	"kind" in unproved with input as vary(samples.enrol, {"/evidence": "renewal"})
}

test_renewal_window if {
	d := decision with input as samples.renew with data.postern.config.enroll.renewal_window as 86399
	expect(d, "deny", {"renewal_too_early"})
}

test_in_renewal_window if {
	d := decision with input as samples.renew with data.postern.config.enroll.renewal_window as 86400
	expect(d, "allow", set())
}

test_kind_without_a_name_has_no_decision if {
	not decision with input as vary(samples.enrol, {"/kind": ""})
}

test_team_denies if {
	d := decision with input as samples.enrol with data.postern.enroll.team.keys.deny as {"old_phone"}
	expect(d, "deny", {"old_phone"})
}

test_team_pends if {
	d := decision with input as samples.enrol with data.postern.enroll.team.keys.quarantine as {{"code": "new_phone", "text": "Ask first."}}
	expect(d, "pend", {"new_phone"})
}

test_validated if {
	d := decision with input as vary(samples.enrol, {"/evidence": "validated"})
	expect(d, "allow", set())
	d.rule == "enrolment"
}

test_ndes if {
	d := decision with input as vary(samples.enrol, {"/evidence": "ndes"})
	expect(d, "allow", set())
	d.rule == "enrolment"
}

test_ndes_for_a_device_that_has_a_certificate if {
	again := vary(samples.enrol, {"/evidence": "ndes", "/device/state": "active"})
	d := decision with input as again
	expect(d, "pend", {"ndes_approval_required"})
	e := decision with input as vary(again, {"/approved": true})
	expect(e, "allow", set())
	f := decision with input as again with data.postern.config.enroll.ndes_again as true
	expect(f, "allow", set())
	g := decision with input as vary(again, {"/key/bits": 1024})
	expect(g, "deny", {"weak_key", "ndes_approval_required"})
}

test_attested_key if {
	every attested, action in {true: "allow", false: "deny"} {
		d := decision with input as vary(samples.enrol, {"/key/attested": attested})
			with data.postern.enroll.team.keys.deny as {"key_not_attested" | attested == false}
		d.action == action
	}
}

test_approval_required if {
	d := decision with input as samples.enrol with data.postern.config.enroll.approval as true
	expect(d, "pend", {"approval_required"})
}

test_approved if {
	d := decision with input as vary(samples.enrol, {"/approved": true})
		with data.postern.config.enroll.approval as true
		with data.postern.enroll.team.keys.quarantine as {"new_phone"}
	expect(d, "allow", set())
	d.profile == "device"
}

test_renewals_need_no_approval if {
	d := decision with input as samples.renew with data.postern.config.enroll.approval as true
	expect(d, "allow", set())
}

test_approval_lifts_no_denial[name] if {
	some name, [changes, codes] in refusals
	d := decision with input as vary(samples.enrol, object.union(changes, {"/approved": true}))
		with data.postern.config.enroll.approval as true
	expect(d, "deny", codes)
}

test_denied_before_approval if {
	d := decision with input as vary(samples.enrol, {"/device/state": "blocked"}) with data.postern.config.enroll.approval as true
	d.action == "deny"
}

test_exception_does_not_approve if {
	d := decision with input as vary(samples.enrol, {"/device/managed": false})
		with data.postern.config.enroll.approval as true
		with data.postern.enroll.team.vip.except as {exception(["not_managed", "approval_required"])}
	d.action == "pend"
}

exception(codes) := {
	"id": "EX-1",
	"granted_by": "help desk",
	"until": samples.enrol.now + 60,
	"reasons": codes,
}

test_exception_lifts if {
	d := decision with input as vary(samples.enrol, {"/device/managed": false})
		with data.postern.enroll.team.vip.except as {exception(["not_managed"])}
	expect(d, "allow", {"exception"})
	d.profile == "device"
}

test_exception_lifts_what_a_team_said if {
	d := decision with input as samples.enrol
		with data.postern.enroll.team.a.deny as {"one"}
		with data.postern.enroll.team.a.quarantine as {"two"}
		with data.postern.enroll.team.vip.except as {exception(["one", "two"])}
	expect(d, "allow", {"exception"})
}

test_exception_lifts_the_window if {
	d := decision with input as samples.renew with data.postern.config.enroll.renewal_window as 60
		with data.postern.enroll.team.vip.except as {exception(["renewal_too_early"])}
	expect(d, "allow", {"exception"})
}

test_exception_never_lifts[name] if {
	some name, [changes, codes] in object.remove(refusals, ["not managed"])
	d := decision with input as vary(samples.enrol, changes)
		with data.postern.enroll.team.vip.except as {exception([c | some c in codes])}
	expect(d, "deny", codes)
}

test_malformed_exception if {
	d := decision with input as samples.enrol with data.postern.enroll.team.vip.except as {{"id": "EX-1"}}
	d.action == "deny"
	some reason in d.reasons
	reason.code == {"id": "EX-1"}
}

test_granted_exception if {
	expect(decision, "allow", {"exception"}) with input as samples.excepted
}

test_granted_exception_ends if {
	late := json.patch(samples.excepted, [{"op": "replace", "path": "/now", "value": samples.excepted.exceptions[0].until}])
	expect(decision, "deny", {"not_managed"}) with input as late
}

# How many devices an owner may enrol: settings, facts, the action and the reasons.
places := {
	"no limit": [{}, {"/owner/devices": 99}, "allow", set()],
	"a place is free": [{"max_devices": 2}, {"/owner/devices": 1}, "allow", set()],
	"no place": [{"max_devices": 2}, {"/owner/devices": 2}, "pend", {"too_many_devices"}],
	"no place, deny": [{"max_devices": 2, "excess_devices": "deny"}, {"/owner/devices": 2}, "deny", {"too_many_devices"}],
	"no place, approved": [{"max_devices": 2}, {"/owner/devices": 2, "/approved": true}, "allow", set()],
	"approval gives no place": [
		{"max_devices": 2, "excess_devices": "deny"},
		{"/owner/devices": 2, "/approved": true},
		"deny", {"too_many_devices"},
	],
	"it has a place": [{"max_devices": 2}, {"/owner/devices": 3, "/device/place": 3, "/device/state": "active"}, "allow", set()],
}

test_places[name] if {
	some name, [settings, changes, action, codes] in places
	d := decision with input as vary(samples.enrol, changes) with data.postern.config.enroll as object.union(data.postern.config.enroll, settings)
	expect(d, action, codes)
}

test_renewal_needs_no_place if {
	d := decision with input as vary(samples.renew, {"/owner/devices": 9})
		with data.postern.config.enroll as object.union(data.postern.config.enroll, {"max_devices": 1, "excess_devices": "deny"})
	expect(d, "allow", set())
	weak := decision with input as vary(samples.renew, {"/owner/devices": 9, "/key/bits": 1024})
		with data.postern.config.enroll as object.union(data.postern.config.enroll, {"max_devices": 1, "excess_devices": "deny"})
	expect(weak, "deny", {"weak_key"})
}

test_exception_gives_a_place if {
	d := decision with input as vary(samples.enrol, {"/owner/devices": 9})
		with data.postern.config.enroll as object.union(data.postern.config.enroll, {"max_devices": 1, "excess_devices": "deny"})
		with data.postern.enroll.team.vip.except as {exception(["too_many_devices"])}
	expect(d, "allow", {"exception"})
}

package postern.access

with_token(changes) := json.patch(samples.token, [{"op": "replace", "path": path, "value": value} | some path, value in changes])

signing_in(changes) := json.patch(samples.sign_in, [{"op": "replace", "path": path, "value": value} | some path, value in changes])

# Commands with a token that was obtained through the device's ticket.

test_token_is_not_enough_unless_a_team_says_so if {
	d := decision with input as samples.token
	expect(d, "deny", {"no_certificate"})
}

test_token_of_a_named_family if {
	d := decision with input as samples.token with data.postern.config.access.token_families as ["gmail"]
	expect(d, "allow", set())
	d.rule == "managed_profile"
	d.valid_until == samples.token.assurance_until
}

test_token_under_its_own_device_id if {
	mine := with_token({"/duplicate/device_id_managed": true, "/duplicate/managed_device": "dev-alice"})
	d := decision with input as mine with data.postern.config.access.token_families as ["gmail"]
	expect(d, "allow", set())
}

token_refusals := {
	"expired": [{"/assurance_until": samples.token.now}, "deny", {"no_certificate"}],
	"claimed only": [{"/assurance": "claimed", "/ticket/status": "none", "/ticket/device": "", "/assurance_until": 0}, "deny", {"no_certificate"}],
	"ticket revoked": [{"/ticket/status": "revoked"}, "deny", {"no_certificate"}],
	"ticket of another device": [{"/ticket/device": "dev-bob"}, "deny", {"no_certificate"}],
	"basic": [{"/credential/kind": "basic"}, "deny", {"no_certificate"}],
	"another family": [{"/claimed/family": "nine"}, "deny", {"no_certificate"}],
	"a bad certificate beside it": [{"/certificate/present": true, "/certificate/problem": "untrusted"}, "deny", {"certificate_not_trusted"}],
	"another user": [
		{"/credential/user": "bob@contoso.com", "/credential/names": {"bob@contoso.com": true}, "/credential/oid": ""},
		"deny",
		{"owner_mismatch"},
	],
	"retired": [{"/device/state": "retired"}, "deny", {"device_retired"}],
	"suspended": [{"/device/suspended": true}, "deny", {"device_suspended"}],
	"of a device whose newest certificate is revoked": [{"/device/revoked": true}, "deny", {"token_of_revoked_device"}],
	"of such a device, under its own DeviceId": [
		{"/device/revoked": true, "/duplicate/device_id_managed": true, "/duplicate/managed_device": "dev-alice"},
		"deny",
		{"token_of_revoked_device"},
	],
	"quarantined": [{"/device/state": "quarantined"}, "quarantine", {"device_quarantined"}],
	"under the DeviceId of another": [
		{"/duplicate/device_id_managed": true, "/duplicate/managed_device": "dev-bob"},
		"deny",
		{"duplicate_profile_without_certificate"},
	],
}

test_token_refused[name] if {
	some name, [changes, action, codes] in token_refusals
	d := decision with input as with_token(changes) with data.postern.config.access.token_families as ["gmail"]
	expect(d, action, codes)
}

# Where tokens are not accepted, nothing is said of one.
test_token_of_a_revoked_device_where_none_counts if {
	d := decision with input as with_token({"/device/revoked": true})
	expect(d, "deny", {"no_certificate"})
}

# Neither an exception, nor a rollout, nor a break-glass account makes such a token count.
test_token_of_a_revoked_device_is_never_lifted if {
	d := decision with input as with_token({"/device/revoked": true})
		with data.postern.config.access.token_families as ["gmail"]
		with data.postern.access.team as excused(["token_of_revoked_device", "no_certificate"])
		with data.postern.config.access.rollout as {"token_of_revoked_device": [{"stage": "observe"}], "no_certificate": [{"stage": "observe"}]}
		with data.postern.config.access.break_glass as [{"user": "alice@contoso.com"}]
	expect(d, "deny", {"token_of_revoked_device"})
}

# Sign-ins at the OAuth front.

test_sign_in_by_ticket if {
	d := decision with input as samples.sign_in
	expect(d, "allow", set())
	d.rule == "sign_in"
}

by_certificate := {
	"/certificate": samples.managed.certificate,
	"/assurance": "certificate",
}

test_sign_in_by_certificate if {
	no_ticket := {"/ticket": {"status": "none", "id": "", "device": ""}}
	d := decision with input as signing_in(object.union(by_certificate, no_ticket))
	expect(d, "allow", set())
	d.rule == "sign_in"
	d.valid_until == samples.managed.certificate.not_after
}

test_sign_in_by_both if {
	d := decision with input as signing_in(by_certificate)
	expect(d, "allow", set())
}

no_ticket := {"status": "none", "id": "", "device": ""}

sign_in_refusals := {
	"neither": [{"/ticket": no_ticket}, "deny", {"no_certificate_or_ticket"}],
	"a status that nobody knows": [{"/ticket/status": "odd"}, "deny", {"no_certificate_or_ticket"}],
	"unknown ticket": [
		{"/ticket": {"status": "unknown", "id": "", "device": ""}, "/device/known": false},
		"deny",
		{"ticket_unknown", "unmanaged_device"},
	],
	"revoked ticket": [{"/ticket/status": "revoked"}, "deny", {"ticket_revoked"}],
	"ticket of a device whose newest certificate is revoked": [{"/device/revoked": true}, "deny", {"token_of_revoked_device"}],
	"ticket of another device": [object.union(by_certificate, {"/ticket/device": "dev-bob"}), "deny", {"ticket_of_another_device"}],
	"revoked certificate": [object.union(by_certificate, {"/certificate/status": "revoked"}), "deny", {"certificate_revoked"}],
	"held certificate": [object.union(by_certificate, {"/certificate/status": "held"}), "deny", {"certificate_held"}],
	"expired certificate": [object.union(by_certificate, {"/certificate/problem": "expired"}), "deny", {"certificate_expired"}],
	"a stranger's certificate beside a ticket": [
		object.union(by_certificate, {"/certificate/problem": "untrusted", "/certificate/status": "none", "/certificate/device": ""}),
		"deny",
		{"certificate_not_trusted"},
	],
	"retired": [{"/device/state": "retired"}, "deny", {"device_retired"}],
	"blocked": [{"/device/state": "blocked"}, "deny", {"device_blocked"}],
	"quarantined": [{"/device/state": "quarantined"}, "quarantine", {"device_quarantined"}],
	"suspended": [{"/device/suspended": true}, "deny", {"device_suspended"}],
	"owner suspended": [{"/owner/suspended": true}, "deny", {"owner_suspended"}],
	"pending": [{"/device/state": "pending"}, "deny", {"unmanaged_device"}],
	"silent": [{"/device/silent_for": 604801}, "deny", {"device_silent"}],
	"no owner": [{"/owner/known": false}, "deny", {"owner_unknown"}],
	"the token of another": [
		{"/credential/kind": "bearer", "/credential/user": "bob@contoso.com", "/credential/names": {"bob@contoso.com": true}},
		"deny",
		{"owner_mismatch"},
	],
	"a token without user": [{"/credential/kind": "bearer", "/credential/problem": "app_only"}, "deny", {"app_only_credential"}],
}

test_the_token_of_the_owner if {
	d := decision with input as signing_in({
		"/credential/kind": "bearer",
		"/credential/user": "alice.a@contoso.com",
		"/credential/names": {"alice.a@contoso.com": true},
	})
	expect(d, "allow", set())
}

test_sign_in_refused[name] if {
	some name, [changes, action, codes] in sign_in_refusals
	d := decision with input as signing_in(changes)
	expect(d, action, codes)
}

# An exception for the owner counts for the sign-in too, where it is about the device.

silent := signing_in({"/device/silent_for": 604801})

excused(reasons) := {"x": {"except": {{"id": "EX-1", "granted_by": "carol", "until": samples.managed.now + 60, "reasons": reasons}}}}

test_sign_in_of_a_silent_device_by_exception if {
	d := decision with input as silent with data.postern.access.team as excused(["device_silent"])
	expect(d, "allow", {"exception"})
	d.valid_until == samples.managed.now + 60
}

test_sign_in_of_a_quarantined_device_by_exception if {
	d := decision with input as signing_in({"/device/state": "quarantined"}) with data.postern.access.team as excused(["device_quarantined"])
	expect(d, "allow", {"exception"})
}

test_no_exception_for_a_sign_in_of_a_revoked_device if {
	d := decision with input as signing_in({"/device/revoked": true, "/device/silent_for": 604801})
		with data.postern.access.team as excused(["device_silent", "token_of_revoked_device"])
	expect(d, "deny", {"device_silent", "token_of_revoked_device"})
}

# With the new certificate the ticket counts again.
test_sign_in_by_both_after_a_revocation if {
	d := decision with input as signing_in(object.union(by_certificate, {"/device/revoked": false}))
	expect(d, "allow", set())
}

test_no_exception_without_device if {
	d := decision with input as signing_in({"/ticket": no_ticket}) with data.postern.access.team as excused(["no_certificate_or_ticket", "device_silent"])
	expect(d, "deny", {"no_certificate_or_ticket"})
}

test_ews_has_no_device_id if {
	d := decision with input as vary({"/request/protocol": "ews", "/request/command": "", "/claimed/device_id": ""})
	expect(d, "allow", set())
}

# Networks, the sign-on table and break-glass accounts. The samples and cases are in access_test.rego, tuned in access_library_test.rego.
package postern.access

from(zones) := json.patch(samples.managed, [{"op": "replace", "path": "/request/zones", "value": {zone: true | some zone in zones}}])

# Settings, the zones of the request, the action and the reasons.
zone_cases := {
	"off": [{}, {"abroad"}, "allow", set()],
	"denied": [{"denied_zones": ["abroad", "tor"]}, {"tor"}, "deny", {"zone_not_allowed"}],
	"denied, elsewhere": [{"denied_zones": ["abroad"]}, {"office"}, "allow", set()],
	"quarantined": [{"quarantined_zones": ["abroad"]}, {"abroad"}, "quarantine", {"zone_not_allowed"}],
	"quarantined, nowhere": [{"quarantined_zones": ["abroad"]}, set(), "allow", set()],
	"denied and quarantined": [{"denied_zones": ["tor"], "quarantined_zones": ["abroad"]}, {"tor", "abroad"}, "deny", {"zone_not_allowed"}],
	"allowed": [{"allowed_zones": ["office", "de"]}, {"de"}, "allow", set()],
	"not allowed": [{"allowed_zones": ["office", "de"]}, {"abroad"}, "deny", {"zone_not_allowed"}],
	"only from somewhere": [{"allowed_zones": ["office"]}, set(), "deny", {"zone_not_allowed"}],
	"allowed and denied": [{"allowed_zones": ["de"], "denied_zones": ["guests"]}, {"de", "guests"}, "deny", {"zone_not_allowed"}],
}

test_zones[name] if {
	some name, [settings, zones, action, codes] in zone_cases
	d := decision with input as from(zones) with data.postern.config.access as tuned(settings)
	expect(d, action, codes)
}

refused_zones := {name: case | some name, case in zone_cases; case[2] != "allow"}

test_zones_are_proved_and_lifted[name] if {
	some name, [settings, zones, _, codes] in refused_zones
	not plain with input as from(zones) with data.postern.config.access as tuned(settings)
	d := decision with input as from(zones)
		with data.postern.config.access as tuned(settings)
		with data.postern.access.team.vip.except as {exception([code | some code in codes])}
	expect(d, "allow", {"exception"})
}

# The rules of an identity provider's sign-on policy for Exchange ActiveSync, as one table.
sign_on_table := [
	{"name": "Outlook", "clients": ["outlook"], "action": "deny"},
	{"name": "managed phones of sales in the office", "clients": ["apple_mail"], "platforms": ["ios"], "groups": ["sales"], "zones": ["office", "de"], "action": "allow"},
	{"name": "iPhones elsewhere", "platforms": ["ios"], "action": "quarantine"},
	{"name": "everything else", "action": "deny"},
]

# Changed facts, the action, and the row.
sign_on_cases := {
	"Outlook": [{"/claimed/family": "outlook", "/device/eas_device_id": ""}, "deny", "1"],
	"sales in the office": [{"/owner/groups": {"sales": true}, "/request/zones": {"office": true}}, "allow", ""],
	"sales in the country": [{"/owner/groups": {"sales": true, "all": true}, "/request/zones": {"de": true, "x": true}}, "allow", ""],
	"sales elsewhere": [{"/owner/groups": {"sales": true}}, "quarantine", "3"],
	"others in the office": [{"/owner/groups": {"it": true}, "/request/zones": {"office": true}}, "quarantine", "3"],
	"another client of sales in the office": [
		{"/claimed/family": "nine", "/owner/groups": {"sales": true}, "/request/zones": {"office": true}},
		"quarantine", "3",
	],
	"Android": [{"/device/os": "android"}, "deny", "4"],
}

test_sign_on_table[name] if {
	some name, [changes, action, row] in sign_on_cases
	d := decision with input as vary(changes) with data.postern.config.access as tuned({"sign_on": sign_on_table})
	d.action == action
	{row} == {reason.facts["sign_on.row"] | some reason in d.reasons} | {"" | d.reasons == set()}
}

test_sign_on_row_has_a_name if {
	d := decision with input as samples.managed with data.postern.config.access as tuned({"sign_on": [{"name": "closed", "action": "deny"}]})
	d.reasons == {{"code": "sign_on_rule", "facts": {"sign_on.row": "1", "sign_on.name": "closed", "sign_on.action": "deny"}}}
}

test_sign_on_allows_nothing_by_itself if {
	d := decision with input as samples.silent with data.postern.config.access as tuned({"sign_on": [{"action": "allow"}]})
	expect(d, "deny", {"device_silent"})
}

test_sign_on_without_last_row_refuses if {
	d := decision with input as samples.managed with data.postern.config.access as tuned({"sign_on": [{"clients": ["gmail"], "action": "allow"}]})
	expect(d, "deny", {"sign_on_rule"})
}

test_sign_on_is_lifted[action] if {
	some action in ["deny", "quarantine"]
	facts := samples.managed
	count(unproved) > 0 with input as facts with data.postern.config.access as tuned({"sign_on": [{"action": action}]})
	d := decision with input as facts
		with data.postern.config.access as tuned({"sign_on": [{"action": action}]})
		with data.postern.access.team.vip.except as {exception(["sign_on_rule"])}
	expect(d, "allow", {"exception"})
}

# Break-glass accounts.

with_glass(account) := tuned({"break_glass": [{"user": "carol@contoso.com"}, account]})

alice := {"user": "alice@contoso.com", "why": "moving to the new MDM"}

test_break_glass if {
	d := decision with input as samples.silent with data.postern.config.access as with_glass(alice)
	expect(d, "allow", {"break_glass"})
	d.rule == "break_glass"
	some reason in d.reasons
	reason.facts == {"break_glass.user": "alice@contoso.com", "break_glass.why": "moving to the new MDM", "break_glass.lifts": "device_silent"}
}

test_break_glass_lifts_everything_that_may_be if {
	facts := vary({"/device/silent_for": 9999999, "/claimed/device_id": "appl9", "/device/managed": false, "/claimed/family": "other"})
	d := decision with input as facts
		with data.postern.access.team.night.deny as {"night"}
		with data.postern.config.access as object.union(with_glass(alice), {"noncompliant": "deny", "denied_clients": ["other"]})
	d.action == "allow"
	some reason in d.reasons
	reason.facts["break_glass.lifts"] == "client_not_allowed, device_silent, night, unmanaged_device"
}

test_break_glass_ends if {
	open := decision with input as samples.silent with data.postern.config.access as with_glass(object.union(alice, {"until": now + 1}))
	expect(open, "allow", {"break_glass"})
	open.valid_until == now + 1
	closed := decision with input as samples.silent with data.postern.config.access as with_glass(object.union(alice, {"until": now}))
	expect(closed, "deny", {"device_silent"})
}

test_break_glass_is_not_needed if {
	d := decision with input as samples.managed with data.postern.config.access as with_glass(alice)
	expect(d, "allow", set())
}

test_break_glass_of_another if {
	d := decision with input as samples.silent with data.postern.config.access as with_glass({"user": "bob@contoso.com"})
	expect(d, "deny", {"device_silent"})
}

test_break_glass_before_rollout if {
	d := decision with input as samples.silent
		with data.postern.config.access as object.union(with_glass(alice), {"rollout": {"device_silent": [{"stage": "observe"}]}})
	expect(d, "allow", {"break_glass"})
}

test_break_glass_never_lifts[name] if {
	settled := {name: refusal | some name, refusal in refusals; count(refusal[2] & never_lifted) > 0}
	some name, [changes, _, codes] in settled
	d := decision with input as vary(changes) with data.postern.config.access as with_glass(alice)
	expect(d, "deny", codes)
}

# The command of an owner's phone whose certificate was revoked, sent again without any: what it claims proves nothing.
bare := object.union(no_certificate, {"/assurance": "claimed"})

bare_claims := {
	"no certificate": [bare, {"no_certificate"}],
	"revoked certificate, then none presented": [object.union(bare, {"/device/revoked": true}), {"no_certificate"}],
	"as a duplicate": [
		object.union(bare, {"/device/revoked": true, "/duplicate/device_id_managed": true, "/duplicate/managed_device": "dev-alice"}),
		{"duplicate_profile_without_certificate", "no_certificate"},
	],
	"with another DeviceId": [
		object.union(bare, {"/device/revoked": true, "/claimed/device_id": "appl9"}),
		{"device_id_mismatch", "no_certificate"},
	],
	"of the same user and model": [
		object.union(bare, {"/device/revoked": true, "/duplicate/same_user_model": true}),
		{"no_certificate", "same_user_and_model"},
	],
}

test_break_glass_never_lifts_a_bare_claim[name] if {
	some name, [changes, codes] in bare_claims
	d := decision with input as vary(changes) with data.postern.config.access as object.union(with_glass(alice), {"same_user_model": "deny"})
	expect(d, "deny", codes)
}

test_break_glass_lifts_a_claim_of_a_device_that_is_proved[name] if {
	some name in ["another DeviceId", "another certificate"]
	facts := {
		"another DeviceId": {"/claimed/device_id": "appl9"},
		"another certificate": {"/duplicate/device_id_managed": true, "/duplicate/managed_device": "dev-bob"},
	}
	d := decision with input as vary(facts[name]) with data.postern.config.access as with_glass(alice)
	expect(d, "allow", {"break_glass"})
}

test_break_glass_lifts_a_claim_of_a_device_with_its_token if {
	facts := json.patch(samples.token, [
		{"op": "replace", "path": "/duplicate/device_id_managed", "value": true},
		{"op": "replace", "path": "/duplicate/managed_device", "value": "dev-bob"},
	])
	d := decision with input as facts with data.postern.config.access as object.union(with_glass(alice), {"token_families": ["gmail"]})
	expect(d, "allow", {"break_glass"})
}

# Neither exception nor stage lets the device of a revoked or held certificate in without it, or with the one before it.
withdrawn_claims := object.union(
	{name: [object.union(changes, {"/device/revoked": true}), codes] | some name, [changes, codes] in bare_claims},
	{"the one before it": [
		{"/device/revoked": true, "/certificate/status": "superseded", "/certificate/successor_first_use": now - 9999999},
		{"certificate_superseded"},
	]},
)

test_nothing_lifts_a_withdrawn_device[name] if {
	some name, [changes, codes] in withdrawn_claims
	settings := {"same_user_model": "deny"}
	staged_settings := object.union(settings, {"rollout": {code: [{"stage": "observe"}] | some code in codes}})
	granted := {"id": "ex-1", "granted_by": "token:desk", "until": now + 60, "reasons": [code | some code in codes]}
	glass_settings := object.union(with_glass(alice), settings)
	facts := vary(changes)
	by_stage := decision with input as facts with data.postern.config.access as tuned(staged_settings)
	expect(by_stage, "deny", codes)
	by_team := decision with input as facts
		with data.postern.config.access as tuned(settings)
		with data.postern.access.team.vip.except as {exception([code | some code in codes])}
	expect(by_team, "deny", codes)
	by_grant := decision with input as object.union(facts, {"exceptions": [granted]}) with data.postern.config.access as tuned(settings)
	expect(by_grant, "deny", codes)
	by_glass := decision with input as facts with data.postern.config.access as glass_settings
	expect(by_glass, "deny", codes)
}

# While nothing was withdrawn a new installation may observe who comes without a certificate.
test_no_certificate_is_observed if {
	d := decision with input as vary(bare) with data.postern.config.access as tuned({"rollout": {"no_certificate": [{"stage": "observe"}]}})
	expect(d, "allow", {"no_certificate"})
}

test_break_glass_needs_the_owner if {
	d := decision with input as samples.unmanaged with data.postern.config.access as with_glass(alice)
	expect(d, "deny", {"no_certificate", "unmanaged_device"})
}

# The samples and cases are in access_test.rego, tuned in access_library_test.rego.
package postern.access

by_steps(steps) := tuned({"rollout": {"device_silent": steps}})

# The silent sample has bucket 42; its owner is put into the group pilot. Steps, and what becomes of it.
rollouts := {
	"no steps": [[], "deny", {"device_silent"}],
	"observed by everybody": [[{"stage": "observe"}], "allow", {"device_silent"}],
	"quarantined for everybody": [[{"stage": "quarantine"}], "quarantine", {"device_silent"}],
	"denied for the pilot": [[{"stage": "deny", "group": "pilot"}, {"stage": "observe"}], "deny", {"device_silent"}],
	"observed for the pilot": [[{"stage": "observe", "group": "pilot"}], "allow", {"device_silent"}],
	"observed for others": [[{"stage": "observe", "group": "sales"}], "deny", {"device_silent"}],
	"denied for 43 per cent": [[{"stage": "deny", "percent": 43}, {"stage": "observe"}], "deny", {"device_silent"}],
	"denied for 42 per cent": [[{"stage": "deny", "percent": 42}, {"stage": "observe"}], "allow", {"device_silent"}],
	"for half of a group": [[{"stage": "quarantine", "percent": 50, "group": "pilot"}, {"stage": "observe"}], "quarantine", {"device_silent"}],
	"for half of another group": [[{"stage": "quarantine", "percent": 50, "group": "sales"}, {"stage": "observe"}], "allow", {"device_silent"}],
	"for nobody yet": [[{"stage": "deny", "percent": 0}, {"stage": "observe"}], "allow", {"device_silent"}],
}

pilot := json.patch(samples.silent, [{"op": "add", "path": "/owner/groups/pilot", "value": true}])

test_rollout[name] if {
	some name, [steps, action, codes] in rollouts
	d := decision with input as pilot with data.postern.config.access as by_steps(steps)
	expect(d, action, codes)
}

test_observed_is_marked if {
	d := decision with input as pilot with data.postern.config.access as by_steps([{"stage": "observe"}])
	d.rule == "rollout"
	d.reasons == {{"code": "device_silent", "facts": {"rollout.stage": "observe"}}}
	d.valid_until == samples.managed.certificate.not_after
}

# One of two reasons is observed: the other one counts.
test_observed_beside_a_refusal if {
	facts := json.patch(pilot, [{"op": "replace", "path": "/device/managed", "value": false}])
	d := decision with input as facts with data.postern.config.access as by_steps([{"stage": "observe"}])
	expect(d, "deny", {"unmanaged_device"})
}

test_observed_beside_a_quarantine if {
	facts := json.patch(pilot, [{"op": "replace", "path": "/device/state", "value": "quarantined"}])
	d := decision with input as facts with data.postern.config.access as by_steps([{"stage": "observe"}])
	expect(d, "quarantine", {"device_quarantined"})
}

# A rule that quarantines can be taken further, or only be observed.
test_stages_of_a_quarantine[stage] if {
	some stage, action in {"observe": "allow", "quarantine": "quarantine", "deny": "deny"}
	d := decision with input as samples.duplicate_second_device_id
		with data.postern.config.access as tuned({"rollout": {"duplicate_profile_second_device_id": [{"stage": stage}]}})
	expect(d, action, {"duplicate_profile_second_device_id"})
}

test_stages_of_what_a_team_denies[stage] if {
	some stage, action in {"observe": "allow", "quarantine": "quarantine", "deny": "deny"}
	d := decision with input as samples.managed
		with data.postern.access.team.night.deny as {"night"}
		with data.postern.config.access as tuned({"rollout": {"night": [{"stage": stage}]}})
	expect(d, action, {"night"})
}

test_stages_of_what_a_team_quarantines[stage] if {
	some stage, action in {"observe": "allow", "quarantine": "quarantine", "deny": "deny"}
	d := decision with input as samples.managed
		with data.postern.access.team.night.quarantine as {{"code": "night", "text": "It is night."}}
		with data.postern.config.access as tuned({"rollout": {"night": [{"stage": stage}]}})
	expect(d, action, {"night"})
}

test_observed_keeps_what_a_team_said if {
	d := decision with input as samples.managed
		with data.postern.access.team.night.quarantine as {{"code": "night", "text": "It is night.", "facts": {"hour": "3"}}}
		with data.postern.config.access as tuned({"rollout": {"night": [{"stage": "observe"}]}})
	some reason in d.reasons
	reason.text == "It is night."
	reason.facts == {"hour": "3", "rollout.stage": "observe"}
}

test_exception_before_rollout if {
	d := decision with input as pilot
		with data.postern.config.access as by_steps([{"stage": "observe"}])
		with data.postern.access.team.vip.except as {exception(["device_silent"])}
	expect(d, "allow", {"exception"})
	d.rule == "exception"
}

# What nothing lifts has no stages, and a stranger is in none.
test_never_lifted_is_never_observed[name] if {
	settled := {name: refusal | some name, refusal in refusals; count(refusal[2] & never_lifted) > 0}
	some name, [changes, _, codes] in settled
	d := decision with input as vary(changes)
		with data.postern.config.access as tuned({"rollout": {code: [{"stage": "observe"}] | some code in codes}})
	expect(d, "deny", codes)
}

test_strangers_are_never_observed if {
	d := decision with input as samples.unmanaged
		with data.postern.config.access as tuned({"rollout": {code: [{"stage": "observe"}] | some code in {"no_certificate", "unmanaged_device"}}})
	expect(d, "deny", {"no_certificate", "unmanaged_device"})
}

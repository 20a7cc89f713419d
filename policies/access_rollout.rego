# New reasons reach everybody in stages: observed, quarantined, denied, for some of the devices or a group of users at a time. And accounts that have to get
# their mail whatever a rule says.
package postern.access

# What becomes of a reason: what its rule says, unless a step of its rollout is for this request; the first such step counts. Only for the owner of a known
# device, and never for what nothing lifts.
stage_of(code, otherwise) := "break_glass" if {
	count(glass) > 0
	not code in never_lifted
	not code in withheld
	not code in unglazed
} else := stages[0] if {
	steps := config.rollout[code]
	not code in never_lifted
	not code in withheld
	owner_asks
	stages := [step.stage | some step in steps; in_step(step)]
	count(stages) > 0
} else := otherwise

in_step(step) if {
	input.device.bucket < object.get(step, "percent", 100)
	in_group(step)
}

in_group(step) if not step.group

in_group(step) if input.owner.groups[step.group]

# Codes that are only observed.
observed contains code if {
	some code in spoken
	not code in lifted
	stage_of(code, "") == "observe"
}

# Codes that keep nobody out: lifted by an exception, or observed.
waived contains code if some code in observed

waived contains code if {
	some code in lifted
	code in spoken
}

waiver_notes contains note if some note in exception_notes

waiver_notes contains {"code": code, "facts": object.union(object.get(facts_about, code, {}), staged)} if {
	some code in observed
	not code in {reason.code | some reason in team_said}
}

waiver_notes contains object.union(reason, {"facts": object.union(object.get(reason, "facts", {}), staged)}) if {
	some reason in team_said
	reason.code in observed
}

staged := {"rollout.stage": "observe"}

exempted_by := "exception" if {
	count(applied) > 0
} else := "break_glass" if {
	count(opened) > 0
} else := "rollout"

# Break-glass accounts: every reason that may be lifted is lifted for the owner, in his own name, and said aloud.
glass contains account if {
	some account in config.break_glass
	input.owner.names[account.user]
	owner_asks
	input.now < object.get(account, "until", input.now + 1)
}

# Without proof of its device a request only claims to be the owner's phone, and who has his password can claim as much.
unglazed contains code if {
	not device_shown
	some code in about_proof
}

opened contains code if {
	some code in spoken
	not code in lifted
	stage_of(code, "") == "break_glass"
}

waived contains code if some code in opened

waiver_notes contains {"code": "break_glass", "facts": facts} if {
	some account in glass
	count(opened) > 0
	facts := {
		"break_glass.user": account.user,
		"break_glass.why": object.get(account, "why", "not said"),
		"break_glass.lifts": concat(", ", sort(opened)),
	}
}

ends contains account.until if some account in glass

# Every policy of the library, off and on: what it refuses, and that it refuses nothing else.
package postern.access

# tuned are the settings with some of them changed.
tuned(changes) := object.union(data.postern.config.access, changes)

now := samples.managed.now

day := 86400

bearer_for(audience) := {"/credential/kind": "bearer", "/credential/audience": audience}

# Where a case changes nothing of the settings, none of the library's policies refuses the facts.
library := {
	# Non-compliant devices.
	"non-compliant, off": [{}, {"/device/compliant": "no"}, "allow", set()],
	"non-compliant": [{"noncompliant": "deny"}, {"/device/compliant": "no"}, "deny", {"device_not_compliant"}],
	"non-compliant, quarantine": [{"noncompliant": "quarantine"}, {"/device/compliant": "no"}, "quarantine", {"device_not_compliant"}],
	"compliant": [{"noncompliant": "deny", "unknown_compliance": "deny"}, {}, "allow", set()],
	"in grace": [
		{"noncompliant": "deny", "noncompliant_grace": 3 * day},
		{"/device/compliant": "no", "/device/compliance_since": (now - (3 * day)) + 1},
		"allow", set(),
	],
	"grace over": [
		{"noncompliant": "deny", "noncompliant_grace": 3 * day},
		{"/device/compliant": "no", "/device/compliance_since": now - (3 * day)},
		"deny", {"device_not_compliant"},
	],
	"non-compliant since nobody knows when": [
		{"noncompliant": "deny", "noncompliant_grace": 1000000 * day},
		{"/device/compliant": "no", "/device/compliance_since": 0},
		"deny", {"device_not_compliant"},
	],
	"unknown compliance, allowed": [{"noncompliant": "deny"}, {"/device/compliant": "unknown"}, "allow", set()],
	"unknown compliance": [{"unknown_compliance": "deny"}, {"/device/compliant": "unknown"}, "deny", {"compliance_unknown"}],
	"unknown compliance, quarantine": [{"unknown_compliance": "quarantine"}, {"/device/compliant": ""}, "quarantine", {"compliance_unknown"}],
	"non-compliant, only unknown is refused": [{"unknown_compliance": "deny"}, {"/device/compliant": "no"}, "allow", set()],
	# The service that a token is made for.
	"audience, off": [{}, bearer_for(["https://graph.microsoft.com"]), "allow", set()],
	"audience that is listed": [{"token_audiences": ["https://outlook.office365.com"]}, bearer_for(["https://outlook.office365.com"]), "allow", set()],
	"one audience of several": [{"token_audiences": ["https://outlook.office365.com"]}, bearer_for(["a", "https://outlook.office365.com"]), "allow", set()],
	"a token that tells no audience": [{"token_audiences": ["https://outlook.office365.com"]}, bearer_for([]), "allow", set()],
	"a password has no audience": [
		{"token_audiences": ["https://outlook.office365.com"]},
		{"/credential/kind": "basic", "/credential/audience": []},
		"allow", set(),
	],
	# Versions of the system.
	"old system, off": [{}, {"/device/os_version": "9.0", "/device/os_number": 9000000}, "allow", set()],
	"least version": [{"min_os_version": {"ios": 26001000}}, {}, "allow", set()],
	"old system": [{"min_os_version": {"ios": 26002000}}, {}, "deny", {"os_too_old"}],
	"old system, quarantine": [{"min_os_version": {"ios": 26002000}, "old_os": "quarantine"}, {}, "quarantine", {"os_too_old"}],
	"another system": [{"min_os_version": {"android": 99000000}}, {}, "allow", set()],
	"unreadable version, allowed": [{"min_os_version": {"ios": 1}}, {"/device/os_version": "x", "/device/os_number": 0}, "allow", set()],
	"unreadable version": [
		{"min_os_version": {"ios": 1}, "unknown_os_version": "deny"},
		{"/device/os_version": "x", "/device/os_number": 0},
		"deny", {"os_version_unknown"},
	],
	"no version, a claim does not count": [
		{"min_os_version": {"ios": 26000000}, "unknown_os_version": "quarantine"},
		{"/device/os_version": "", "/device/os_number": 0},
		"quarantine", {"os_version_unknown"},
	],
	"no version, a claim counts": [
		{"min_os_version": {"ios": 26000000}, "unknown_os_version": "deny", "claimed_os_version": true},
		{"/device/os_version": "", "/device/os_number": 0},
		"allow", set(),
	],
	"no version, an old claim counts": [
		{"min_os_version": {"ios": 27000000}, "claimed_os_version": true},
		{"/device/os_version": "", "/device/os_number": 0},
		"deny", {"os_too_old"},
	],
	"a claim is nothing beside what the MDM says": [
		{"min_os_version": {"ios": 26500000}, "claimed_os_version": true},
		{},
		"deny", {"os_too_old"},
	],
	"no system, no claim": [
		{"min_os_version": {"ios": 1}, "unknown_os_version": "deny"},
		{"/device/os": "", "/device/os_version": "", "/device/os_number": 0},
		"deny", {"os_version_unknown"},
	],
	"no system, a claimed one": [
		{"min_os_version": {"ios": 1}, "unknown_os_version": "deny", "claimed_os_version": true},
		{"/device/os": "", "/device/os_version": "", "/device/os_number": 0},
		"allow", set(),
	],
	# How many devices.
	"third device, off": [{}, {"/device/place": 3, "/owner/devices": 3}, "allow", set()],
	"second device of two": [{"max_devices": 2}, {"/device/place": 2, "/owner/devices": 3}, "allow", set()],
	"third device of two": [{"max_devices": 2}, {"/device/place": 3, "/owner/devices": 3}, "quarantine", {"too_many_devices"}],
	"third device of two, deny": [
		{"max_devices": 2, "excess_devices": "deny"},
		{"/device/place": 3, "/owner/devices": 3},
		"deny", {"too_many_devices"},
	],
	# Clients.
	"Apple Mail without certificate": [{"token_families": ["gmail"]}, no_certificate, "deny", {"no_certificate"}],
	"Outlook mobile by ActiveSync": [
		{"denied_clients": ["outlook"]},
		{"/claimed/family": "outlook", "/claimed/platform": "unknown", "/claimed/device_id": "0123456789abcdef"},
		"deny", {"client_not_allowed"},
	],
	"a listed client": [{"allowed_clients": ["apple_mail", "gmail"]}, {}, "allow", set()],
	"a client that is not listed": [
		{"allowed_clients": ["gmail"]},
		{},
		"deny", {"client_not_allowed"},
	],
	"an unknown client where some are listed": [
		{"allowed_clients": ["apple_mail"]},
		{"/claimed/family": "other", "/claimed/device_id": "x"},
		"deny", {"client_not_allowed"},
	],
	"an unknown client where it is listed": [
		{"allowed_clients": ["other"]},
		{"/claimed/family": "other", "/claimed/device_id": "x"},
		"allow", {"unknown_client"},
	],
	"a denied platform": [{"denied_platforms": ["ios"]}, {}, "deny", {"platform_not_allowed"}],
	"another denied platform": [{"denied_platforms": ["android"]}, {"/claimed/platform": "android"}, "allow", set()],
	"a denied platform that only the client says": [
		{"denied_platforms": ["android"]},
		{"/claimed/platform": "android", "/device/os": ""},
		"deny", {"platform_not_allowed"},
	],
	"an allowed platform": [{"allowed_platforms": ["ios"]}, {"/claimed/platform": "unknown"}, "allow", set()],
	"a platform that is not allowed": [{"allowed_platforms": ["android"]}, {"/claimed/platform": "android"}, "deny", {"platform_not_allowed"}],
	"an old protocol, off": [{}, {"/request/version": 25}, "allow", set()],
	"the least protocol": [{"min_eas_version": 161}, {}, "allow", set()],
	"an old protocol": [{"min_eas_version": 161}, {"/request/version": 160}, "deny", {"eas_version_too_old"}],
	"no protocol version": [{"min_eas_version": 25}, {"/request/version": 0}, "deny", {"eas_version_too_old"}],
	"another protocol": [{"min_eas_version": 161}, {"/request/version": 0, "/request/protocol": "ews"}, "allow", set()],
	# The hint that there are two profiles on one phone. Only a token has no certificate and may be allowed.
	"hint, off": [{}, {"/duplicate/same_user_model": true}, "allow", set()],
	"hint, note": [{"same_user_model": "note"}, {"/duplicate/same_user_model": true}, "allow", {"same_user_and_model"}],
	"hint, quarantine": [{"same_user_model": "quarantine"}, {"/duplicate/same_user_model": true}, "quarantine", {"same_user_and_model"}],
	"hint, deny": [{"same_user_model": "deny"}, {"/duplicate/same_user_model": true}, "deny", {"same_user_and_model"}],
	"no hint": [{"same_user_model": "deny"}, {}, "allow", set()],
}

test_library[name] if {
	some name, [settings, changes, action, codes] in library
	d := decision with input as vary(changes) with data.postern.config.access as tuned(settings)
	expect(d, action, codes)
}

# No exception lifts it.
test_token_for_another_service if {
	facts := vary(bearer_for(["https://graph.microsoft.com"]))
	d := decision with input as facts
		with data.postern.config.access as tuned({"token_audiences": ["https://outlook.office365.com"]})
		with data.postern.access.team.vip.except as {exception(["wrong_audience"])}
	expect(d, "deny", {"wrong_audience"})
	not plain with input as facts with data.postern.config.access as tuned({"token_audiences": ["https://outlook.office365.com"]})
}

refused_by_library := {name: case | some name, case in library; case[2] != "allow"}

# What the library refuses leaves something unproved, is not plain, and can be lifted by an exception.
test_library_is_proved_and_lifted[name] if {
	some name, [settings, changes, _, codes] in refused_by_library
	facts := vary(changes)
	count(unproved) > 0 with input as facts with data.postern.config.access as tuned(settings)
	not plain with input as facts with data.postern.config.access as tuned(settings)
	not managed_profile with input as facts with data.postern.config.access as tuned(settings)
	d := decision with input as facts
		with data.postern.config.access as tuned(settings)
		with data.postern.access.team.vip.except as {exception([code | some code in codes])}
	d.action == "allow"
	d.rule == "exception"
}

# What is allowed without a note is proved in the plain way as well, but for the cases that the clock or a switch decides.
by_the_long_way := {"in grace", "unknown compliance, allowed", "non-compliant, only unknown is refused"}

plain_in_library := {name: case | some name, case in library; case[2] == "allow"; case[3] == set(); not name in by_the_long_way}

test_library_plain[name] if {
	some name, [settings, changes, _, _] in plain_in_library
	plain with input as vary(changes) with data.postern.config.access as tuned(settings)
}

test_discovery_is_not_asked[name] if {
	some name, [settings, changes, _, _] in refused_by_library
	d := decision with input as vary(object.union(discovery_facts, changes)) with data.postern.config.access as tuned(settings)
	expect(d, "allow", set())
}

test_grace_of_compliance_bounds_validity if {
	d := decision with input as vary({"/device/compliant": "no", "/device/compliance_since": now - 10})
		with data.postern.config.access as tuned({"noncompliant": "deny", "noncompliant_grace": 60})
	expect(d, "allow", set())
	d.valid_until == now + 50
}

test_old_system_names_the_versions if {
	d := decision with input as samples.managed with data.postern.config.access as tuned({"min_os_version": {"ios": 26002000}})
	some reason in d.reasons
	reason.facts == {"os.minimum": "26002000", "os.version": "26001000"}
}

test_nothing_more_about_an_unknown_device if {
	d := decision with input as samples.unmanaged
		with data.postern.config.access as tuned({
			"noncompliant": "deny", "unknown_compliance": "deny",
			"min_os_version": {"ios": 26002000}, "unknown_os_version": "deny",
			"max_devices": 1, "excess_devices": "deny",
		})
	expect(d, "deny", {"no_certificate", "unmanaged_device"})
}

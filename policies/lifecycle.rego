# Decides what becomes of a device, when the server looks through all of them. See README.md for the contract.
#
# Nothing happens to a device by the absence of a fact: every rule names what has to be there, and a request with no reason keeps the device.
package postern.lifecycle

config := data.postern.config.lifecycle

decision := {"action": "retire", "reasons": retirements, "valid_until": 0} if {
	count(retirements) > 0
} else := {"action": "suspend", "reasons": suspensions, "valid_until": 0} if {
	count(suspensions) > 0
} else := {"action": "notify", "reasons": notices, "valid_until": 0} if {
	count(notices) > 0
} else := {"action": "keep", "reasons": set(), "valid_until": 0}

# A device that is retired or blocked is settled.
subject if {
	input.device.known
	input.device.state in {"pending", "active", "quarantined"}
}

# What the product has to say: each with the action that the configuration gives it. A time of 0 switches a rule off.

spoken contains {"code": "device_silent_long", "action": config.silent_action} if {
	subject
	config.silent_after > 0
	input.device.silent_for > config.silent_after
}

spoken contains {"code": "certificate_unused", "action": config.unused_action} if {
	subject
	config.unused_after > 0
	input.certificate.status == "good"
	input.certificate.first_used == 0
	input.certificate.issued_at > 0
	input.now - input.certificate.issued_at > config.unused_after
}

spoken contains {"code": "no_mail", "action": config.no_mail_action} if {
	subject
	config.no_mail_after > 0
	input.mail.last_seen > 0
	input.now - input.mail.last_seen > config.no_mail_after
}

# What is to be done: deny of a team is retire, quarantine is suspend.

retirements contains said.code if {
	some said in spoken
	said.action == "retire"
	not said.code in lifted
}

retirements contains reason if {
	subject
	some name
	some said in data.postern.lifecycle.team[name].deny
	reason := named(name, said)
	not reason.code in lifted
}

# A code that is no string makes the decision a fault, and the device stays as it is.
retirements contains {"code": exception, "rule": rule} if {
	some rule
	exception := malformed_exception[rule][_]
}

suspensions contains said.code if {
	input.device.suspended == false
	some said in spoken
	said.action == "suspend"
	not said.code in lifted
}

suspensions contains reason if {
	subject
	input.device.suspended == false
	some name
	some said in data.postern.lifecycle.team[name].quarantine
	reason := named(name, said)
	not reason.code in lifted
}

notices contains said.code if {
	some said in spoken
	said.action == "notify"
	not said.code in lifted
}

named(name, said) := object.union(said, {"rule": concat(".", ["postern.lifecycle.team", name])}) if is_object(said)

named(name, said) := {"code": said, "rule": concat(".", ["postern.lifecycle.team", name])} if not is_object(said)

# Exceptions, of teams and granted by command, keep a device for as long as they last.

lifted contains code if {
	some exception in exceptions
	some code in exception.reasons
}

exceptions contains exception if {
	some exception in data.postern.lifecycle.team[_].except
	well_formed(exception)
	input.now < exception.until
}

exceptions contains exception if {
	some exception in input.exceptions
	input.now < exception.until
}

malformed_exception[rule] contains exception if {
	some name
	some exception in data.postern.lifecycle.team[name].except
	not well_formed(exception)
	rule := concat(".", ["postern.lifecycle.team", name])
}

well_formed(exception) if {
	is_string(exception.id)
	exception.id != ""
	is_string(exception.granted_by)
	exception.granted_by != ""
	is_number(exception.until)
	count(exception.reasons) > 0
	every code in exception.reasons {
		is_string(code)
	}
}

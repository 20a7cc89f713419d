# The state of the device as its MDM attests it: compliance, the version of its system, and how many devices its owner has.
package postern.access

compliance_accepted if compliance_plain

compliance_accepted if {
	input.device.compliant == "no"
	config.noncompliant == "allow"
}

compliance_accepted if {
	input.device.compliant == "no"
	input.now < compliance_end
}

compliance_accepted if {
	not input.device.compliant in {"yes", "no"}
	config.unknown_compliance == "allow"
}

# Where the clock has no part in it.
compliance_plain if [data.postern.config.access.noncompliant, data.postern.config.access.unknown_compliance] == ["allow", "allow"]

compliance_plain if input.device.compliant == "yes"

# A device that has been non-compliant since nobody knows when has no grace.
compliance_end := input.device.compliance_since + config.noncompliant_grace if {
	input.device.compliant == "no"
	input.device.compliance_since > 0
} else := 0

# The least version for the system of the device; none where the data names none. What the phone claims of its system counts only where the MDM says
# nothing, and the data allows it.
os_platform := input.device.os if input.device.os != ""

os_platform := input.claimed.platform if {
	input.device.os == ""
	config.claimed_os_version
	input.claimed.platform != "unknown"
}

os_minimum := config.min_os_version[os_platform]

os_version := input.device.os_number if input.device.os_version != ""

os_version := input.claimed.os_number if {
	input.device.os_version == ""
	config.claimed_os_version
}

os_known if {
	os_platform
	not os_minimum
}

os_known if {
	os_minimum
	os_version > 0
}

os_accepted if data.postern.config.access.min_os_version == {}

# The common case, in its plainest form.
os_accepted if {
	input.device.os_number > 0
	input.device.os_number >= data.postern.config.access.min_os_version[input.device.os]
}

os_accepted if {
	os_known
	not os_minimum
}

os_accepted if {
	os_known
	os_version >= os_minimum
}

os_accepted if {
	not os_known
	config.unknown_os_version == "allow"
}

# The owner's devices beyond the limit, in the order in which they enrolled.
place_in_line if data.postern.config.access.max_devices == 0

place_in_line if input.device.place <= config.max_devices

# What speaks against it.

command_denied contains "device_not_compliant" if {
	noncompliant
	config.noncompliant == "deny"
}

command_quarantined contains "device_not_compliant" if {
	noncompliant
	config.noncompliant == "quarantine"
}

noncompliant if {
	input.device.compliant == "no"
	input.now >= compliance_end
}

command_denied contains "compliance_unknown" if {
	compliance_unsure
	config.unknown_compliance == "deny"
}

command_quarantined contains "compliance_unknown" if {
	compliance_unsure
	config.unknown_compliance == "quarantine"
}

compliance_unsure if {
	input.device.known
	not input.device.compliant in {"yes", "no"}
}

command_denied contains "os_too_old" if {
	os_behind
	config.old_os == "deny"
}

command_quarantined contains "os_too_old" if {
	os_behind
	config.old_os == "quarantine"
}

os_behind if {
	not os_accepted
	os_known
}

command_denied contains "os_version_unknown" if {
	os_unsure
	config.unknown_os_version == "deny"
}

command_quarantined contains "os_version_unknown" if {
	os_unsure
	config.unknown_os_version == "quarantine"
}

os_unsure if {
	input.device.known
	not os_accepted
	not os_known
}

command_denied contains "too_many_devices" if {
	not place_in_line
	config.excess_devices == "deny"
}

command_quarantined contains "too_many_devices" if {
	not place_in_line
	config.excess_devices == "quarantine"
}

# What the sentence about a code needs besides the input.
facts_about["os_too_old"] := {"os.minimum": sprintf("%d", [os_minimum]), "os.version": sprintf("%d", [os_version])} if os_behind

ends contains compliance_end if {
	input.device.compliant == "no"
	input.now < compliance_end
}

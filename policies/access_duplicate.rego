# Duplicate mail profiles: the same DeviceId, certificate, or user and model, twice.
package postern.access

sole_profile if {
	not without_certificate
	first_device_id
}

# Duplicate (a): the DeviceId of a managed profile without its certificate, or without its token where that is accepted.
without_certificate if {
	input.duplicate.device_id_managed
	input.certificate.status == "none"
	not token_sound
}

without_certificate if {
	input.duplicate.device_id_managed
	input.duplicate.managed_device != input.certificate.device
	not token_sound
}

without_certificate if {
	input.duplicate.device_id_managed
	input.duplicate.managed_device != input.device.id
	token_sound
}

# Duplicate (b): one certificate under a second DeviceId of the same client family. The one that the MDM reports wins; otherwise the newcomer waits
# until the first has been silent for the window.
first_device_id if input.duplicate.other_device_id in {"", input.claimed.device_id}

first_device_id if {
	input.claimed.device_id != ""
	input.claimed.device_id == input.device.eas_device_id
}

first_device_id if input.profile.linked

first_device_id if input.now > duplicate_end

first_device_id if {
	input.profile.known
	input.duplicate.other_is_older == false
}

duplicate_end := input.duplicate.other_last_seen + config.duplicate_window

# What an administrator has settled: a mail profile that is refused stays so, whatever becomes of the other.
profile_accepted if input.profile.refused == false

command_denied contains "profile_refused" if input.profile.refused

# Duplicate (c): a managed profile of the same user and hardware model is in use, and this request came without certificate. A hint, worth what the data says.
hint_accepted if not input.duplicate.same_user_model

hint_accepted if config.same_user_model in {"off", "note"}

hint_ignored if data.postern.config.access.same_user_model == "off"

hint_ignored if not input.duplicate.same_user_model

command_denied contains "duplicate_profile_without_certificate" if without_certificate

command_denied contains "same_user_and_model" if {
	input.duplicate.same_user_model
	config.same_user_model == "deny"
}

command_quarantined contains "duplicate_profile_second_device_id" if not first_device_id

command_quarantined contains "same_user_and_model" if {
	input.duplicate.same_user_model
	config.same_user_model == "quarantine"
}

notes contains "same_user_and_model" if {
	input.request.class == "command"
	input.duplicate.same_user_model
	config.same_user_model == "note"
}

ends contains duplicate_end + 1 if {
	input.duplicate.other_device_id != ""
	input.now <= duplicate_end
}

# What the OAuth front knows a device by: its certificate, or its ticket, which is an address of the front's own that the MDM put into the mail profile. A
# bearer token that was obtained through a ticket proves the device afterwards, where that is accepted.
package postern.access

# How a command is known to come from a device.

device_assured if certificate_good

device_assured if token_accepted

# A token does not outlast the certificates of its device: who has the newest one revoked or held must not go on by a token that was obtained before.
token_accepted if {
	token_sound
	input.device.revoked == false
}

token_sound if {
	input.assurance == "token"
	input.now < input.assurance_until
	input.ticket.status == "live"
	input.ticket.device == input.device.id
	not input.certificate.present
	input.credential.kind == "bearer"
	input.claimed.family in config.token_families
}

# A sign-in may go on to the identity provider: somebody else's code or refresh token is worth nothing here without the device.
sign_in if {
	input.request.class == "token"
	sign_in_assured
	device_managed
	device_heard
	in_service
	input.owner.known
	input.credential.problem == ""
	signed_in_owner
}

# Before the identity provider has answered there is no name. Afterwards the token may have one, and it is the owner's or the phone does not get it.
signed_in_owner if count(input.credential.names) == 0

signed_in_owner if owner_matches

sign_in_assured if {
	certificate_good
	input.ticket.status == "none"
}

sign_in_assured if {
	certificate_good
	ticket_of_device
}

sign_in_assured if {
	not input.certificate.present
	ticket_of_device
	input.device.revoked == false
}

ticket_of_device if {
	input.ticket.status == "live"
	input.ticket.device == input.device.id
}

# What speaks against it.

token_denied contains code if {
	some code in command_denied
	code in about_device
}

about_device := {
	"certificate_expired",
	"certificate_held",
	"certificate_not_trusted",
	"certificate_superseded",
	"device_silent",
	"unmanaged_device",
}

token_denied contains "no_certificate_or_ticket" if {
	not input.certificate.present
	not input.ticket.status in {"live", "revoked", "unknown"}
}

command_denied contains "token_of_revoked_device" if {
	token_sound
	input.device.revoked
}

token_denied contains "token_of_revoked_device" if {
	not input.certificate.present
	ticket_of_device
	input.device.revoked
}

token_denied contains "ticket_unknown" if input.ticket.status == "unknown"

token_denied contains "ticket_revoked" if input.ticket.status == "revoked"

token_denied contains "ticket_of_another_device" if {
	input.ticket.status == "live"
	input.ticket.device != input.device.id
}

token_denied contains "owner_mismatch" if not signed_in_owner

token_denied contains "owner_unknown" if {
	input.device.known
	not input.owner.known
}

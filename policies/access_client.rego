# The mail client: its family, its platform, the version of ActiveSync that it speaks, and the command.
package postern.access

client_accepted if {
	input.claimed.family != "other"
	not input.claimed.family in config.denied_clients
}

client_accepted if {
	input.claimed.family == "other"
	config.unknown_client == "allow"
	not "other" in config.denied_clients
}

command_accepted if not input.request.command in config.denied_commands

# Only the families that are listed, where any are.
client_listed if data.postern.config.access.allowed_clients == []

client_listed if input.claimed.family in config.allowed_clients

# The platform is what the MDM says, and what the client says only where no MDM does.
platform := input.device.os if input.device.os != ""

platform := input.claimed.platform if input.device.os == ""

platform_accepted if {
	platform_not_denied
	platform_listed
}

platform_not_denied if data.postern.config.access.denied_platforms == []

platform_not_denied if not platform in config.denied_platforms

platform_listed if data.postern.config.access.allowed_platforms == []

platform_listed if platform in config.allowed_platforms

eas_version_accepted if data.postern.config.access.min_eas_version == 0

eas_version_accepted if input.request.version >= config.min_eas_version

# Other protocols have versions of their own.
eas_version_accepted if input.request.protocol != "eas"

command_denied contains "client_not_allowed" if input.claimed.family in config.denied_clients

command_denied contains "unknown_client" if {
	input.claimed.family == "other"
	not config.unknown_client in {"allow", "quarantine"}
}

command_denied contains "command_not_allowed" if not command_accepted

command_denied contains "client_not_allowed" if not client_listed

command_denied contains "platform_not_allowed" if not platform_accepted

command_denied contains "eas_version_too_old" if not eas_version_accepted

command_quarantined contains "unknown_client" if {
	input.claimed.family == "other"
	config.unknown_client == "quarantine"
}

notes contains "unknown_client" if {
	input.request.class == "command"
	input.claimed.family == "other"
}

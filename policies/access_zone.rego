# Where a request comes from: the networks and countries of the data.
package postern.access

zone_accepted if {
	zone_not_refused
	zone_listed
}

zone_not_refused if [data.postern.config.access.denied_zones, data.postern.config.access.quarantined_zones] == [[], []]

zone_not_refused if {
	not zone_denied
	not zone_quarantined
}

zone_denied if {
	some zone in config.denied_zones
	input.request.zones[zone]
}

zone_quarantined if {
	some zone in config.quarantined_zones
	input.request.zones[zone]
}

# Only from the zones that are listed, where any are.
zone_listed if data.postern.config.access.allowed_zones == []

zone_listed if {
	some zone in config.allowed_zones
	input.request.zones[zone]
}

command_denied contains "zone_not_allowed" if zone_denied

command_denied contains "zone_not_allowed" if not zone_listed

command_quarantined contains "zone_not_allowed" if zone_quarantined

# The sign-on table: the first row that fits a request says what becomes of it.
package postern.access

sign_on_accepted if data.postern.config.access.sign_on == []

sign_on_accepted if sign_on_row.action == "allow"

sign_on_row := config.sign_on[sign_on_number]

sign_on_number := min({i | some i, row in config.sign_on; row_fits(row)})

# A column that a row leaves out fits everything.
row_fits(row) if {
	input.claimed.family in object.get(row, "clients", [input.claimed.family])
	platform in object.get(row, "platforms", [platform])
	names_one(row, "groups", input.owner.groups)
	names_one(row, "zones", input.request.zones)
}

names_one(row, column, _) if not row[column]

names_one(row, column, names) if {
	some name in row[column]
	names[name]
}

# A table has a last row for everything. One that has none refuses what fits no row.
command_denied contains "sign_on_rule" if {
	not sign_on_accepted
	not sign_on_row.action == "quarantine"
}

command_quarantined contains "sign_on_rule" if sign_on_row.action == "quarantine"

facts_about["sign_on_rule"] := {
	"sign_on.row": sprintf("%d", [sign_on_number + 1]),
	"sign_on.name": object.get(sign_on_row, "name", "without a name"),
	"sign_on.action": sign_on_row.action,
}

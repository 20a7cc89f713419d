package policy

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"postern/internal/trust"
)

// What is wrong with data is said at its place, with what to write instead.
func TestDataIsChecked(t *testing.T) {
	access := func(setting string) string { return "postern:\n  config:\n    access:\n      " + setting + "\n" }
	for name, c := range map[string]struct{ content, says string }{
		"group that is no list":       {"groups:\n  pilot: alice@contoso.com\n", "x.yaml:2:10: data.groups.pilot: must be a list"},
		"group of numbers":            {"groups:\n  pilot: [7]\n", `x.yaml:2:11: data.groups.pilot[0]: must be a list of texts; write it in quotes: "7"`},
		"name of a group":             {"groups:\n  Pilot!: []\n", `x.yaml:2:3: data.groups.Pilot!: "Pilot!": must be a name`},
		"network that is none":        {"networks:\n  office: [10.0.0.0/8, 10.0.0.300]\n", `x.yaml:2:24: data.networks.office[1]: "10.0.0.300" is neither`},
		"prefix that is too long":     {"networks: {office: 10.0.0.0/33}\n", `"10.0.0.0/33" is neither`},
		"IPv6 without quotes":         {"networks: {office: [2001:db8::/32]}\n", "write a text with colons in quotes"},
		"country that is none":        {"countries:\n  Germany: [192.0.2.0/24]\n", "must be a country of two letters"},
		"country and network":         {"networks: {de: [192.0.2.0/24]}\ncountries: {DE: [198.51.100.0/24]}\n", "data.countries.DE: networks.de is the same zone"},
		"exception without end":       {"exceptions:\n  - {id: EX-1, reasons: [device_silent]}\n", "x.yaml:2:6: data.exceptions[0]: until is missing"},
		"exception for no reason":     {"exceptions:\n  - {id: EX-1, by: carol, until: 1798761600, reasons: [device_silnt]}\n", "x.yaml:2:56: data.exceptions[0].reasons[0]: no rule gives the reason device_silnt; did you mean device_silent?"},
		"exception for a revocation":  {"exceptions:\n  - {id: EX-1, by: carol, until: 1798761600, reasons: [certificate_revoked]}\n", "no exception lifts certificate_revoked"},
		"exception by nobody":         {"exceptions:\n  - {id: EX-1, until: 1798761600, reasons: [device_silent]}\n", "data.exceptions[0]: by is missing; name who granted it"},
		"choice":                      {access("noncompliant: denny"), "x.yaml:4:21: postern.config.access.noncompliant: \"denny\": must be one of allow, quarantine, deny; did you mean deny?"},
		"off without quotes":          {access("same_user_model: false"), `must be text; write it in quotes: "false"`},
		"version as a number":         {access("min_os_version: {ios: 17.10}"), "postern.config.access.min_os_version.ios: must be text; write it in quotes: \"17.10\""},
		"version that is none":        {access(`min_os_version: {ios: "seventeen"}`), `"seventeen": must be a version of up to three parts, such as 17.5.1`},
		"EAS version as it is said":   {access("min_eas_version: 16.1"), "min_eas_version: 16.1: must be a whole number"},
		"zone that is not there":      {"networks: {office: 192.0.2.0/24}\n" + access("denied_zones: [offices]"), "x.yaml:5:22: postern.config.access.denied_zones[0]: neither data.networks nor data.countries has a zone offices; did you mean office?"},
		"family that is none":         {access("denied_clients: [outlok]"), "outlok is no client family; did you mean outlook?"},
		"platform as an MDM has it":   {access(`min_os_version: {iOS: "17.5.1"}`), "x.yaml:4:29: postern.config.access.min_os_version.iOS: iOS is no platform; did you mean ios?"},
		"platform by its phone":       {access(`min_os_version: {iphone: "17.5.1"}`), "iphone is no platform; did you mean ios?"},
		"platform that is none":       {access(`min_os_version: {andriod: "14"}`), "andriod is no platform; did you mean android?"},
		"denied platform":             {access("denied_platforms: [iPadOS]"), "denied_platforms[0]: iPadOS is no platform; did you mean ios?"},
		"allowed platform":            {access("allowed_platforms: [android, Windows Phone]"), "allowed_platforms[1]: Windows Phone is no platform; did you mean windows_phone?"},
		"row of a strange platform":   {access("sign_on: [{platforms: [iOS], action: deny}, {action: deny}]"), "sign_on[0].platforms[0]: iOS is no platform; did you mean ios?"},
		"command as Microsoft has it": {access("denied_commands: [Sync]"), "denied_commands[0]: Sync is no command of ActiveSync in lower case; did you mean sync?"},
		"table without a last row":    {access("sign_on: [{clients: [gmail], action: deny}]"), "the last row has to fit everything, and this one does not; add {action: deny}"},
		"row behind the last one":     {access("sign_on: [{action: deny}, {clients: [gmail], action: allow}, {action: deny}]"), "x.yaml:4:18: postern.config.access.sign_on[0]: this row fits everything, so no later one is ever reached"},
		"row without action":          {access("sign_on: [{clients: [gmail]}, {action: deny}]"), "x.yaml:4:18: postern.config.access.sign_on[0]: action is missing"},
		"row with an odd action":      {access("sign_on: [{action: block}]"), `"block": must be one of allow, quarantine, deny`},
		"row with an odd column":      {access("sign_on: [{client: [gmail], action: deny}, {action: deny}]"), "client is not known; did you mean clients?"},
		"row of no client":            {access("sign_on: [{clients: [], action: deny}, {action: deny}]"), "an empty list fits nothing; leave it out for everything"},
		"row of a strange group":      {access("sign_on: [{groups: [sales], action: deny}, {action: deny}]"), "data.groups has no group sales"},
		"row of a strange zone":       {access("sign_on: [{zones: [XX], action: deny}, {action: deny}]"), "has a zone XX"},
		"break glass for a name":      {access("break_glass: [{user: ceo}]"), `"ceo": must be a mail address`},
		"break glass without end":     {access("break_glass: [{user: ceo@contoso.com, until: never}]"), `until: "never": must be a time; write Unix seconds such as 1798761599, or a text`},
		"exception until a day": {"exceptions:\n  - {id: EX-1, by: carol, until: 2026-12-31, reasons: [device_silent]}\n",
			`x.yaml:2:34: data.exceptions[0].until: "2026-12-31" is a whole day, in no time zone; for its end in UTC write "2026-12-31T23:59:59Z" or 1798761599`},
		"exception in milliseconds": {"exceptions:\n  - {id: EX-1, by: carol, until: 1798761600000, reasons: [device_silent]}\n",
			`data.exceptions[0].until: 1798761600000: these are milliseconds, and a time is in seconds; write "2027-01-01T00:00:00Z" or 1798761600`},
		"break glass in nanoseconds": {access("break_glass: [{user: ceo@contoso.com, until: 1798761600000000000}]"), `these are nanoseconds, and a time is in seconds; write "2027-01-01T00:00:00Z"`},
		"break glass by a calendar":  {access("break_glass: [{user: ceo@contoso.com, until: 20261231}]"), `20261231: as Unix seconds that is 1970-08-23T12:07:11Z; for the end of that day write "2026-12-31T23:59:59Z" or 1798761599`},
		"break glass for some days":  {access("break_glass: [{user: ceo@contoso.com, until: 30}]"), "30: as Unix seconds that is 1970-01-01T00:00:30Z; write Unix seconds"},
		"break glass for a span":     {access("break_glass: [{user: ceo@contoso.com, until: 30d}]"), `"30d": must be a time; write Unix seconds`},
		"break glass before time":    {access("break_glass: [{user: ceo@contoso.com, until: -1}]"), "-1: must be a time from"},
		"break glass by a text":      {access(`break_glass: [{user: ceo@contoso.com, until: "1798761600"}]`), "write it without quotes: \"2027-01-01T00:00:00Z\" or 1798761600"},
		"break glass until no day":   {access("break_glass: [{user: ceo@contoso.com, until: 2026-02-30T00:00:00Z}]"), `"2026-02-30T00:00:00Z": must be a time`},
		"break glass in no zone":     {access("break_glass: [{user: ceo@contoso.com, until: 2026-12-31T18:00:00}]"), `is no date with a time and an offset (RFC 3339); in UTC write "2026-12-31T18:00:00Z" or 1798740000`},
		"break glass in a list":      {access("break_glass: [{user: ceo@contoso.com, until: [1798761600]}]"), "until: must be a time"},
		"break glass and a fraction": {access("break_glass: [{user: ceo@contoso.com, until: 1798761600.5}]"), "1798761600.5: must be a whole number of seconds"},
		"rollout of a misspelt code": {access("rollout: {device_silnt: [{stage: observe}]}"), "no rule gives the reason device_silnt; did you mean device_silent?"},
		"rollout of a revocation":    {access("rollout: {certificate_revoked: [{stage: observe}]}"), "certificate_revoked is never lifted, so it has no stages"},
		"rollout without stage":      {access("rollout: {device_silent: [{group: pilot}]}"), "stage is missing"},
		"rollout with an odd key":    {access("rollout: {device_silent: [{stage: observe, groups: pilot}]}"), "groups is not known; did you mean group?"},
		"rollout to a strange group": {access("rollout: {device_silent: [{stage: observe, group: pilto}]}") + "groups: {pilot: []}\n", "data.groups has no group pilto; did you mean pilot?"},
		"rollout to too many":        {access("rollout: {device_silent: [{stage: observe, percent: 101}]}"), "101: must be a whole number, 0 to 100"},
	} {
		t.Run(name, func(t *testing.T) {
			problems := refused(t, Options{}, map[string]string{"x.yaml": c.content})
			if !strings.Contains(fmt.Sprint(problems), c.says) {
				t.Errorf("want %q, have %v", c.says, problems)
			}
			for _, p := range problems {
				if p.File != "x.yaml" || p.Line == 0 {
					t.Errorf("no place: %+v", p)
				}
			}
		})
	}
	// A code of a team's own may be rolled out; data for a policy that replaces the built-in ones has any form.
	mustLoad(t, Options{Path: dir(t, map[string]string{"x.yaml": access("rollout: {no_mail_on_sunday: [{stage: observe}]}"), "a.rego": teamDeny})})
	mustLoad(t, Options{Path: dir(t, map[string]string{"x.yaml": "groups: 7\n", "a.rego": leanPolicy, "e.rego": leanEnroll}), Replace: true})
}

func TestDataSchemaIsCurrent(t *testing.T) {
	name := filepath.Join("..", "..", "policies", "schemas", "data.json")
	want, err := DataSchema()
	if err != nil {
		t.Fatal(err)
	}
	if *update {
		if err := os.WriteFile(name, want, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if have, err := os.ReadFile(name); err != nil || string(have) != string(want) {
		t.Errorf("%s is not what is checked (%v): go test ./internal/policy -update", name, err)
	}
	if !strings.Contains(string(want), "A device is silent when its last report is older than this") {
		t.Error("settings are not described")
	}
}

// Versions are texts in data and numbers in a decision; groups and zones are facts that the data adds, whatever the input says.
func TestDataTunesDecisions(t *testing.T) {
	e := mustLoad(t, Options{Path: dir(t, map[string]string{"a.yaml": `groups: {pilot: [Alice.A@contoso.com]}
networks: {guests: [203.0.113.0/28, "2001:db8::/32"]}
postern:
  config:
    access:
      min_os_version: {ios: "26.2"}
      rollout: {os_too_old: [{stage: observe, group: pilot}]}
`, "z.rego": "package postern.access.team.z\n\nquarantine contains \"guest\" if input.request.zones.guests\n"})})
	in := managedSample()
	in.Request.SourceIP = "198.51.100.1"
	d, err := e.Access(t.Context(), &in)
	if err != nil || d.Action != trust.Allow || d.Rule != "rollout" || codes(d.Reasons) != "os_too_old" {
		t.Fatalf("%+v, %v", d, err)
	}
	if want := "Only observed: The device dev-alice has version 26.1.0 of iOS; mail needs 26.2.0 or later."; d.Reasons[0].Text != want {
		t.Errorf("%q, want %q", d.Reasons[0].Text, want)
	}
	if len(in.Owner.Groups) > 0 {
		t.Error("a decision changed its input")
	}
	in.Owner = OwnerFacts{Known: true, Mail: "alice@contoso.com", Names: map[string]bool{"alice@contoso.com": true}, Groups: map[string]bool{"pilot": true}}
	if d, err = e.Access(t.Context(), &in); err != nil || d.Action != trust.Deny {
		t.Errorf("a group that an input claims: %+v, %v", d, err)
	}
	in = managedSample()
	in.Device.OSNumber = 26002000
	if d, err = e.Access(t.Context(), &in); err != nil || codes(d.Reasons) != "guest" {
		t.Errorf("from the guests' network: %+v, %v", d, err)
	}
	enrol := enrollSamples()[0].in
	enrol.Owner.Mail = "nobody"
	with := mustLoad(t, Options{Files: Files{"a.yaml": []byte("groups: {pilot: [alice.a@contoso.com]}\n"), "e.rego": []byte("package postern.enroll.team.e\n\nquarantine contains \"pilot\" if input.owner.groups.pilot\n")}})
	if d, err := with.Enroll(t.Context(), &enrol); err != nil || codes(d.Reasons) != "pilot" || len(enrol.Owner.Groups) > 0 {
		t.Errorf("the groups of an enrolment: %+v, %v", d, err)
	}
	e.Surround(&in)
	if !in.Request.Zones["guests"] || !in.Owner.Groups["pilot"] {
		t.Errorf("%v %v", in.Request.Zones, in.Owner.Groups)
	}
}

// A moment may be written as a date with a time and an offset: rules see the number of seconds that it is.
func TestTimesAreWrittenAsDates(t *testing.T) {
	for until, holds := range map[string]bool{"2026-06-01T14:00:01+02:00": true, "2026-06-01T12:00:01.5Z": true, "1780315201": true, "2026-06-01T14:00:00+02:00": false, "1780315200": false} {
		for name, files := range map[string]Files{
			"an exception":  {"a.yaml": []byte("exceptions: [{id: EX-1, by: carol, until: " + until + ", reasons: [device_silent]}]\n"), "a.rego": []byte(exceptByData)},
			"a break glass": {"a.yaml": []byte("postern: {config: {access: {break_glass: [{user: alice@contoso.com, until: " + until + "}]}}}\n")},
		} {
			e := mustLoad(t, Options{Files: files})
			in := managedSample()
			in.Device.SilentFor = 30 * 86400
			d, err := e.Access(t.Context(), &in)
			if err != nil || (d.Action == trust.Allow) != holds || holds && d.ValidUntil != sampleNow+1 {
				t.Errorf("%s until %s: %s, valid until %d, %v", name, until, d.Action, d.ValidUntil, err)
			}
		}
	}
}

const exceptByData = "package postern.access.team.a\n\nexcept contains {\"id\": granted.id, \"granted_by\": granted.by, \"until\": granted.until, \"reasons\": granted.reasons} if some granted in data.exceptions\n"

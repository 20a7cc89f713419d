package policy

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
)

// A rule that asks for what can never be is refused with the right word.
func TestRulesAskForWhatThereIs(t *testing.T) {
	data := Files{"d.yaml": []byte("groups: {pilot: [alice@contoso.com]}\nnetworks: {office: 192.0.2.0/24}\ncountries: {DE: [198.51.100.0/24]}\n")}
	for name, c := range map[string]struct{ condition, says string }{
		"number and text":        {`input.request.version < "141"`, `a.rego:3:46: input.request.version is a number, and is compared with the text "141"; write the number without quotes`},
		"text and number":        {`17 >= input.device.os_version`, "input.device.os_version is a text, and is compared with the number 17; versions are compared as numbers"},
		"group":                  {`input.owner.groups.pilto`, "data.groups has no group pilto, so nobody is ever in it; did you mean pilot?"},
		"no group":               {`not input.owner.groups.pilto`, "data.groups has no group pilto"},
		"zone":                   {`input.request.zones.offcie`, "has a zone offcie (in lower case), so nobody is ever in it; did you mean office?"},
		"zone in capitals":       {`input.request.zones["DE"]`, "has a zone DE (in lower case), so nobody is ever in it"},
		"state":                  {`input.device.state == "suspended"`, `a.rego:3:44: input.device.state is never "suspended"`},
		"class":                  {`input.request.class != "comand"`, `input.request.class is never "comand"; did you mean command? There are command, discovery, token`},
		"assurance in a set":     {`input.assurance in {"certificate", "tokens"}`, `input.assurance is never "tokens"; did you mean token?`},
		"status in a list":       {`input.certificate.status in ["hold"]`, `input.certificate.status is never "hold"; did you mean held?`},
		"family":                 {`input.claimed.family == "applemail"`, "did you mean apple_mail?"},
		"credential":             {`input.credential.kind == "Basic"`, "did you mean basic?"},
		"platform":               {`input.device.os == "iPadOS"`, `input.device.os is never "iPadOS"; did you mean ios?`},
		"command":                {`input.request.command == "Sync"`, `input.request.command is in lower case, so it is never "Sync"; did you mean "sync"?`},
		"platform of a client":   {`input.claimed.platform == "iphone"`, "did you mean ios?"},
		"unknown command":        {`input.request.command in ["sync", "synk"]`, `input.request.command is never "synk"; did you mean sync?`},
		"protocol":               {`input.request.protocol == "imap"`, `input.request.protocol is never "imap"`},
		"method":                 {`input.request.method == "post"`, `input.request.method is in capitals, so it is never "post"; did you mean "POST"?`},
		"address in capitals":    {`input.owner.mail == "Alice@contoso.com"`, `did you mean "alice@contoso.com"?`},
		"name in capitals":       {`input.owner.names["CONTOSO\\alice"]`, `names in input.owner.names are in lower case`},
		"suspension":             {`input.device.suspend_reason == "stolen"`, `there is lost, unassigned, absent, investigation, other`},
		"group in brackets":      {`input.owner.groups["pilto"]`, "data.groups has no group pilto, so nobody is ever in it; did you mean pilot?"},
		"group in groups":        {`"pilot" in input.owner.groups`, `input.owner.groups is a mapping of names to true, of which in sees true and never a name; write input.owner.groups["pilot"]`},
		"misspelt in groups":     {`not "pilto" in input.owner.groups`, `write input.owner.groups["pilto"]; did you mean pilot?`},
		"zone in zones":          {`"office" in input.request.zones`, `write input.request.zones["office"]`},
		"fact in groups":         {`input.device.model in input.owner.groups`, `write input.owner.groups[input.device.model]`},
		"group in keys":          {`"pilto" in object.keys(input.owner.groups)`, "data.groups has no group pilto"},
		"object.get":             {`object.get(input.owner.groups, "pilto", false)`, "data.groups has no group pilto"},
		"object.get by path":     {`object.get(input, ["request", "zones", "offcie"], false)`, "has a zone offcie"},
		"object.get no path":     {`object.get(input, ["request", "zone", "office"], false)`, "input.request.zone does not exist"},
		"common groups":          {`count({"pilto"} & object.keys(input.owner.groups)) > 0`, "data.groups has no group pilto"},
		"set of groups":          {`"pilto" in {g | input.owner.groups[g]}`, "data.groups has no group pilto"},
		"a comparison's value":   {`count([1 | same := input.device.state == "actve"; same]) == 1`, "did you mean active?"},
		"within a comprehension": {`count({1 | input.device.state == "actve"}) == 1`, "did you mean active?"},
	} {
		t.Run(name, func(t *testing.T) {
			files := map[string]string{"d.yaml": string(data["d.yaml"]), "a.rego": "package postern.access.team.a\n\ndeny contains \"x\" if " + c.condition + "\n"}
			problems := refused(t, Options{}, files)
			if len(problems) != 1 || !strings.Contains(problems[0].String(), c.says) || !strings.HasPrefix(problems[0].String(), "a.rego:3:") {
				t.Errorf("want %q, have %v", c.says, problems)
			}
		})
	}
	imported := "package postern.access.team.a\n\nimport input.device\nimport input.request as r\n\ndeny contains \"x\" if {\n\tdevice.state == \"actve\"\n\tr.version > \"3\"\n}\n"
	if said := fmt.Sprint(refused(t, Options{}, map[string]string{"a.rego": imported})); !strings.Contains(said, "a.rego:7") || !strings.Contains(said, "a.rego:8") {
		t.Errorf("through an import: %s", said)
	}
	for name, body := range map[string]string{
		"variable":          "state := input.device.state\n\tstate == \"actve\"",
		"literal variable":  "want := \"actve\"\n\tinput.device.state == want",
		"unified":           "state = input.device.state\n\tstate == \"actve\"",
		"some in a set":     "some state in {\"active\", \"actve\"}\n\tinput.device.state == state",
		"list in a name":    "states := [\"actve\"]\n\tinput.device.state in states",
		"every":             "every state in [\"actve\"] { input.device.state != state }",
		"part of the input": "d := input.device\n\td.state == \"actve\"",
		"group by name":     "group := \"pilto\"\n\tinput.owner.groups[group]",
		"groups by name":    "groups := input.owner.groups\n\tgroups.pilto",
		"key compared":      "some group\n\tinput.owner.groups[group]\n\tgroup == \"pilto\"",
		"key unified":       "some group\n\tinput.owner.groups[group]\n\tgroup = \"pilto\"",
		"some key":          "some group, _ in input.owner.groups\n\tgroup == \"pilto\"",
		"some key in":       "some group, _ in input.owner.groups\n\tgroup in {\"pilto\"}",
		"some value":        "some group in input.owner.groups\n\tgroup == \"pilot\"",
		"some listed":       "some group in {\"pilto\"}\n\tinput.owner.groups[group]",
	} {
		t.Run(name, func(t *testing.T) {
			files := map[string]string{"d.yaml": string(data["d.yaml"]), "a.rego": "package postern.access.team.a\n\ndeny contains \"x\" if {\n\t" + body + "\n}\n"}
			problems := refused(t, Options{}, files)
			if said := lines(problems); len(problems) != 1 || !strings.Contains(said, "did you mean active?") && !strings.Contains(said, "did you mean pilot?") && !strings.Contains(said, "write some group, _ in input.owner.groups") {
				t.Error(said)
			}
		})
	}
	mustLoad(t, Options{Files: Files{"d.yaml": data["d.yaml"], "a.rego": []byte(`package postern.access.team.a

deny contains "x" if {
	input.owner.groups.pilot
	not input.request.zones.office
	input.request.zones.de
	input.request.version < 141
	input.device.os_version < "17"
	input.device.state == ""
	input.device.os == "beos"
	input.claimed.platform != input.device.os
	input.assurance in {"certificate", "token"}
	input.request.zones[input.device.labels.zone]
	"x" in input.device.labels
	"pilot" in object.keys(input.owner.groups)
	"https://outlook.office365.com" in input.credential.audience
	input.request.command in {"sync", "options", "refresh_token"}
	some group, _ in input.owner.groups
	group in {"pilot"}
	count([x | some x in {"a"}; x == input.device.model]) == 0
	count([x | x := input.device.state; x != "active"]) == 0
}
`)}})
}

// What may be right, and would be a mistake nearly always, is a warning: a name that data lists, a system that some MDM may report.
func TestRulesAskForWhatMayBe(t *testing.T) {
	r, err := Check(t.Context(), Options{Timeout: patient, Files: Files{
		"d.yaml": []byte("groups: {pilot: [alice@contoso.com]}\nfree: [pilto]\nstates: {actve: x}\n"),
		"a.rego": []byte("package postern.access.team.a\n\ndeny contains \"x\" if {\n\tsome group in data.free\n\tinput.owner.groups[group]\n\tinput.device.os == \"androit\"\n\tsome state, _ in data.states\n\tinput.device.state == state\n}\n")}})
	if err != nil || !r.OK() {
		t.Fatalf("%v\n%s", err, lines(r.Problems))
	}
	for _, want := range []string{"a.rego:4:16: data.free: data.groups has no group pilto, so nobody is ever in it; did you mean pilot?",
		`a.rego:6:21: input.device.os is "androit" only if an MDM reports a system of this name; did you mean android?`, `data.states: input.device.state is never "actve"; did you mean active?`} {
		if !strings.Contains(lines(r.Warnings), want) {
			t.Errorf("%q is not in\n%s", want, lines(r.Warnings))
		}
	}
}

// Every sample is one that the schema of its entry point describes, closed lists of words among it.
func TestSamplesFitTheSchema(t *testing.T) {
	var check func(at string, schema map[string]any, v any)
	words := 0
	check = func(at string, schema map[string]any, v any) {
		if list, closed := schema["enum"].([]any); closed {
			words++
			if !strings.Contains(fmt.Sprintf("%q", list), fmt.Sprintf("%q", v)) {
				t.Errorf("%s is %q, none of %q", at, v, list)
			}
		}
		properties, _ := schema["properties"].(map[string]any)
		m, _ := v.(map[string]any)
		for name, p := range properties {
			check(at+"."+name, p.(map[string]any), m[name])
		}
	}
	for entry, samples := range withSamples(nil)["postern"].(map[string]any)["samples"].(map[string]any) {
		var schema map[string]any
		if err := json.Unmarshal(Schema(entry), &schema); err != nil {
			t.Fatal(err)
		}
		for name, v := range samples.(map[string]any) {
			check(entry+"/"+name, schema, v)
		}
	}
	if words < 50 {
		t.Errorf("%d words compared", words)
	}
}

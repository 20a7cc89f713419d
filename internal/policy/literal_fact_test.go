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
}
`)}})
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

package policy

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

const (
	closedAccess = "package postern.access\n\ndecision := {\"action\": \"deny\", \"reasons\": {\"closed\"}, \"valid_until\": 0} if input.now > 0\n"
	closedEnroll = "package postern.enroll\n\ndecision := {\"action\": \"deny\", \"reasons\": {\"closed\"}, \"valid_until\": 0} if input.now > 0\n"
)

func team(rules string) map[string]string {
	return map[string]string{"a.rego": "package postern.access.team.a\n\n" + rules}
}

func replacing(access string) map[string]string {
	return map[string]string{"access.rego": "package postern.access\n\n" + access, "enroll.rego": closedEnroll}
}

// TestRefused: what can never be in force is refused by check and at load, with the file, the line and what to do about it.
func TestRefused(t *testing.T) {
	loop := "\n\tsome x in numbers.range(1, 100000)\n\tsome y in numbers.range(1, 100000)\n\tx * y == -1\n}\n"
	big := map[string]string{}
	for i := range 17 {
		big[fmt.Sprintf("list%d.yaml", i)] = fmt.Sprintf("list%d:\n", i) + strings.Repeat("- aaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\n", maxFile/34)
	}
	for name, c := range map[string]struct {
		files   map[string]string
		replace bool
		at      string // file and line
		says    string
		advice  string
	}{
		"misspelt field":  {team("deny contains \"x\" if input.device.manged == false\n"), false, "a.rego:3", "undefined ref: input.device.manged", "did you mean managed?"},
		"unknown builtin": {team("deny contains \"x\" if strings.lower(input.claimed.model) == \"x\"\n"), false, "a.rego:3", "undefined function strings.lower", "did you mean lower?"},
		"reaches out":     {team("deny contains \"x\" if http.send({\"url\": \"http://x\", \"method\": \"get\"}).status_code == 200\n"), false, "a.rego:3", "undefined function http.send", "cannot reach out"},
		"type error":      {team("deny contains \"x\" if input.request.version == \"141\"\n"), false, "a.rego:3", "match error", "number"},
		"wrong argument":  {team("deny contains \"x\" if startswith(input.request.version, \"14\")\n"), false, "a.rego:3", "startswith: invalid argument", "string"},
		"endless rule":    {team("deny contains \"x\" if {\n\tinput.now > 0" + loop), false, "a.rego:", ErrTimeout.Error(), "look things up by key"},
		"endless comprehension": {team("deny contains \"x\" if {\n\tinput.now > 0\n\tcount([1 | x := numbers.range(1, 10000)[_]; y := numbers.range(1, 10000)[_]; x > y]) == 1\n}\n"), false,
			"a.rego:5", ErrTimeout.Error(), "look things up by key"},
		"a builtin that goes on": {team("deny contains \"x\" if count(numbers.range(1, 1000000000)) == input.now\n"), false, "a.rego:3", ErrTimeout.Error(), "look things up by key"},
		"calls itself":           {replacing("decision := decision if input.now > 0\n"), true, "access.rego:3", "recursive", "may not depend on itself"},
		"conflict": {replacing("decision := {\"action\": \"deny\", \"reasons\": {\"a\"}, \"valid_until\": 0} if input.now > 0\n\ndecision := {\"action\": \"deny\", \"reasons\": {\"b\"}, \"valid_until\": 0} if input.now > 1\n"), true,
			"access.rego:", "conflict", "write the second as else"},
		"no answer":     {replacing("decision := {\"action\": \"deny\", \"reasons\": {\"a\"}, \"valid_until\": 0} if input.now == 1\n"), true, "", ErrUndefined.Error(), "end it with an else that denies"},
		"a fault":       {team("deny contains \"x\" if time.parse_rfc3339_ns(input.claimed.model) > 0\n"), false, "a.rego:3", "time.parse_rfc3339_ns", "look first whether the fact has the form"},
		"data too deep": {map[string]string{"d.yaml": "a: " + strings.Repeat("[", 100) + strings.Repeat("]", 100) + "\n"}, false, "d.yaml:", "nested", ""},
		"too much data": {big, false, "list", "bytes together", "by key"},
		"widens":        {map[string]string{"w.rego": "package postern.access\n\nproved := \"managed_profile\" if input.now > 0\n"}, false, "w.rego:1", "not a team package", "use postern.access.team.NAME"},
	} {
		t.Run(name, func(t *testing.T) {
			o := Options{Path: dir(t, c.files), Replace: c.replace, Timeout: 100 * time.Millisecond}
			if !strings.Contains(c.says, ErrTimeout.Error()) {
				o.Timeout = patient
			}
			r, err := Check(t.Context(), o)
			if err != nil {
				t.Fatal(err)
			}
			_, err = Load(t.Context(), o)
			var refused *CheckError
			if !errors.As(err, &refused) {
				t.Fatalf("load: %v", err)
			}
			for who, list := range map[string][]Problem{"check": r.Problems, "load": refused.Problems} {
				found := false
				for _, p := range list {
					found = found || strings.Contains(p.String(), c.says) && strings.HasPrefix(p.String(), c.at) && strings.Contains(p.Advice, c.advice)
				}
				if !found {
					t.Errorf("%s: want %s ... %s ... %s, got\n%s", who, c.at, c.says, c.advice, lines(list))
				}
			}
		})
	}
}

func lines(all []Problem) string {
	var b strings.Builder
	for _, p := range all {
		b.WriteString(p.String() + "\n")
	}
	return b.String()
}

// TestLint: what may be used and is worth a word, by the line.
func TestLint(t *testing.T) {
	const tested = "package postern.access.team.a\n\ntest_all if {\n\tcount(deny) > 0 with input as data.postern.samples.access.managed\n" +
		"\tcount({e | some e in data.postern.access.team.a.except}) >= 0 with input as data.postern.samples.access.managed\n}\n"
	for name, c := range map[string]struct {
		rule string
		want string // of the one warning; empty: none
	}{
		"plain":                     {"deny contains \"x\" if input.claimed.family == \"apple_mail\"\n", ""},
		"a number":                  {"deny contains \"x\" if input.request.version > 150\n", ""},
		"computed":                  {"deny contains \"x\" if lower(input.claimed.family) == \"apple_mail\"\n", "a.rego:3:22: computed for every request, which costs several times a comparison: lower(input.claimed.family) == \"apple_mail\""},
		"regex":                     {"deny contains \"x\" if regex.match(`iPhone`, input.claimed.user_agent)\n", "a.rego:3:22: computed for every request"},
		"regex behind a fact":       {"deny contains \"x\" if {\n\tinput.claimed.family == \"apple_mail\"\n\tregex.match(`iPhone`, input.claimed.user_agent)\n}\n", ""},
		"a set":                     {"deny contains \"x\" if {\n\tinput.claimed.family in {\"apple_mail\", \"gmail\"}\n\tlower(input.claimed.model) == \"iphone15c4\"\n}\n", ""},
		"spoken by no test":         {"deny contains \"x\" if input.claimed.family == \"apple_mail\"\n\ndeny contains \"y\" if input.claimed.family == \"gmail\"\n", "a.rego:5:1: no test makes this rule of deny speak"},
		"an exception for nobody":   {"deny contains \"x\" if input.claimed.family == \"apple_mail\"\n\nexcept contains e if {\n\tnot input.device.labels.locked == \"yes\"\n\te := {\"id\": \"E\", \"granted_by\": \"c\", \"until\": 4102444800, \"reasons\": [\"y\"]}\n}\n", "a.rego:5:1: this exception rests on nothing that is there"},
		"an exception for somebody": {"deny contains \"x\" if input.claimed.family == \"apple_mail\"\n\nexcept contains e if {\n\tinput.owner.mail == \"alice@contoso.com\"\n\te := {\"id\": \"E\", \"granted_by\": \"c\", \"until\": 4102444800, \"reasons\": [\"y\"]}\n}\n", ""},
	} {
		r, err := Check(t.Context(), Options{Timeout: patient, Path: dir(t, map[string]string{"a.rego": "package postern.access.team.a\n\n" + c.rule, "a_test.rego": tested})})
		if err != nil || !r.OK() {
			t.Fatalf("%s: %v\n%s", name, err, lines(r.Problems))
		}
		// These rules stop the phones of the samples, of which others warn, without a place in a file.
		r.Warnings = slices.DeleteFunc(r.Warnings, func(p Problem) bool { return p.File == "" })
		switch {
		case c.want == "" && len(r.Warnings) > 0, c.want != "" && len(r.Warnings) != 1:
			t.Errorf("%s: %d warnings, want %q\n%s", name, len(r.Warnings), c.want, lines(r.Warnings))
		case c.want != "" && (!strings.HasPrefix(r.Warnings[0].String(), c.want) || r.Warnings[0].Advice == ""):
			t.Errorf("%s: %s, want %s", name, r.Warnings[0], c.want)
		}
	}
}

// TestAllowByAbsence: a policy that replaces the built-in one and allows what nothing speaks against is found, however it is written; one that proves is not.
func TestAllowByAbsence(t *testing.T) {
	const allow, deny = "{\"action\": \"allow\", \"rule\": \"r\", \"reasons\": set(), \"valid_until\": 0}", "{\"action\": \"deny\", \"reasons\": {\"x\"}, \"valid_until\": 0}"
	for name, c := range map[string]struct {
		rules string
		want  string
	}{
		"count":         {"deny contains \"x\" if input.device.state == \"blocked\"\n\ndecision := " + allow + " if count(deny) == 0\n\nelse := " + deny + "\n", "access.rego:5:1: allow by absence"},
		"not":           {"decision := " + allow + " if not input.device.state == \"blocked\"\n\nelse := " + deny + "\n", "access.rego:3:1: allow by absence"},
		"empty set":     {"deny contains \"x\" if input.device.state == \"blocked\"\n\ndecision := " + allow + " if deny == set()\n\nelse := " + deny + "\n", "access.rego:5:1: allow by absence"},
		"through rules": {"clean if not bad\n\nbad if input.device.state == \"blocked\"\n\ndecision := " + allow + " if clean\n\nelse := " + deny + "\n", "access.rego:7:1: allow by absence"},
		"the last else": {"decision := " + deny + " if input.device.state == \"blocked\"\n\nelse := " + allow + "\n", "access.rego:5:1: allow by absence"},
		"default":       {"default decision := " + allow + "\n\ndecision := " + deny + " if input.device.state == \"blocked\"\n", "access.rego:3:1: allow by default"},
		"allow":         {"default allow := true\n\nallow := false if input.device.state == \"blocked\"\n\ndecision := " + allow + " if {\n\tinput.device.managed\n\tallow\n}\n\nelse := " + deny + "\n", "access.rego:3:1: allow by default"},
		"proved":        {"decision := " + allow + " if {\n\tinput.device.managed\n\tnot input.device.state == \"blocked\"\n}\n\nelse := " + deny + "\n", ""},
		"proved deeper": {"clean if managed\n\nmanaged if input.device.managed\n\ndecision := " + allow + " if clean\n\nelse := " + deny + "\n", ""},
	} {
		r, err := Check(t.Context(), Options{Timeout: patient, Replace: true, Path: dir(t, replacing(c.rules))})
		if err != nil {
			t.Fatal(err)
		}
		got := lines(r.Problems)
		if c.want == "" && got != "" || c.want != "" && !strings.Contains(got, c.want) {
			t.Errorf("%s: want %q, got\n%s", name, c.want, got)
		}
	}
}

func TestMeasure(t *testing.T) {
	o := Options{Timeout: patient, Path: dir(t, team("deny contains \"x\" if {\n\tinput.claimed.model == \"x\"\n}\n"))}
	c, err := Measure(t.Context(), o)
	if err != nil || c.Decision <= 0 || c.BuiltIn <= 0 || c.Ratio <= 0 || c.Most < c.Decision || c.Slowest == "" {
		t.Errorf("%+v, %v", c, err)
	}
	var refused *CheckError
	if _, err := Measure(t.Context(), Options{Path: dir(t, team("allow if input.now > 0\n"))}); !errors.As(err, &refused) {
		t.Error(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Measure(ctx, o); err == nil {
		t.Error("measured although it was cancelled")
	}
}

// A rule that is said whatever comes is named; one that is for something is not, however it says so.
func TestSaidOfEverybody(t *testing.T) {
	const of = "package postern.access.team.a\n\n"
	for name, c := range map[string]struct {
		rule, data string
		want       string // empty: no warning of the kind
	}{
		"by the clock":               {of + "deny contains \"x\" if input.now > 0\n", "", "a.rego:3:1: deny is said of every sample of access, whoever and whatever it is: nobody would get mail, and no phone could be set up; add a condition"},
		"by the version":             {of + "quarantine contains \"x\" if input.request.version < 999\n", "", "a.rego:3:1: quarantine is said of every sample of access"},
		"by what is never":           {of + "deny contains \"x\" if not input.claimed.model == \"\"\n\ndeny contains \"y\" if input.claimed.model == \"\"\n", "", ""},
		"of commands":                {of + "deny contains \"x\" if {\n\tinput.request.class == \"command\"\n\tnot input.request.version == 0\n}\n", "", "a.rego:3:1: deny is said of every sample of a command, whoever and whatever it is: nobody would get mail"},
		"as an exception":            {of + "except contains {\"id\": \"E\", \"granted_by\": \"c\", \"until\": 4102444800, \"reasons\": [\"device_silent\"]} if input.now > 0\n", "", "a.rego:3:1: this exception is granted for every sample of access"},
		"enrolling":                  {"package postern.enroll.team.a\n\nquarantine contains \"x\" if input.key.bits > 0\n", "", "quarantine is said of every sample of enroll, whoever and whatever it is: no device would get a certificate"},
		"by lifecycle":               {"package postern.lifecycle.team.a\n\ndeny contains \"x\" if input.now > 0\n", "", "it would be done to every device"},
		"of other hosts":             {of + "deny contains \"x\" if input.request.host != \"mail.example.org\"\n", "", ""},
		"of others than in data":     {of + "deny contains \"x\" if not input.owner.mail in data.mailers\n", "mailers: [zoe@example.org]\n", ""},
		"without a label":            {of + "deny contains \"x\" if not input.device.labels.asset\n", "", ""},
		"without a label by get":     {of + "deny contains \"x\" if object.get(input.device.labels, \"asset\", \"\") == \"\"\n", "", ""},
		"outside a group":            {of + "deny contains \"x\" if not input.owner.groups.mailers\n", "groups: {mailers: [zoe@example.org]}\n", ""},
		"outside a zone":             {of + "deny contains \"x\" if not input.request.zones.office\n", "networks: {office: 192.0.2.0/24}\n", ""},
		"at night":                   {of + "deny contains \"x\" if {\n\tt := time.clock([input.now * 1000000000, \"UTC\"])\n\tt[0] < 20\n}\n", "", ""},
		"unattested":                 {"package postern.enroll.team.a\n\ndeny contains \"x\" if not input.key.attested\n", "", ""},
		"unapproved":                 {"package postern.enroll.team.a\n\nquarantine contains \"x\" if not input.approved\n", "", ""},
		"of a date in data":          {of + "quarantine contains \"x\" if {\n\tsome c in data.contracts\n\tc.user == input.owner.mail\n\tc.until - input.now < 86400\n}\n", "contracts: [{user: zoe@example.org, until: 2026-12-31T23:59:59Z}]\n", `a.rego:6:2: this would be a fault of one in which the user, the device or another name is "zoe@example.org": minus: operand 1 must be one of {number, set} but got string; look first`},
		"of a date that is a number": {of + "quarantine contains \"x\" if {\n\tsome c in data.contracts\n\tc.user == input.owner.mail\n\tc.until - input.now < 86400\n}\n", "contracts: [{user: zoe@example.org, until: 1798761599}]\n", ""},
		"of an address":              {of + "deny contains \"x\" if net.cidr_contains(\"10.0.0.0/8\", input.request.source_ip)\n", "", ""},
		"of a label":                 {of + "deny contains \"x\" if to_number(input.device.labels.floor) > 3\n", "", "a.rego:3:22: this would be a fault of a request of another company: to_number"},
		"unused":                     {"package postern.lifecycle.team.a\n\nquarantine contains \"x\" if input.mail.profiles < 2\n", "", ""},
	} {
		src, problems, err := read(Options{Files: Files{"a.rego": []byte(c.rule), "a.yaml": []byte(c.data)}})
		p, more := parse(src)
		if err != nil || len(problems)+len(more) > 0 {
			t.Fatalf("%s: %v\n%s%s", name, err, lines(problems), lines(more))
		}
		said := p.always(t.Context())
		if c.want == "" && len(said) > 0 || c.want != "" && (len(said) != 1 || !strings.Contains(said[0].String(), c.want)) {
			t.Errorf("%s: want %q, have\n%s", name, c.want, lines(said))
		}
	}
	r, err := Check(t.Context(), Options{Timeout: patient, Files: Files{"a.rego": []byte(of + "deny contains \"x\" if input.now > 0\n")}})
	if err != nil || !strings.Contains(lines(r.Warnings), "deny is said of every sample of access") {
		t.Errorf("check: %v\n%s", err, lines(r.Warnings))
	}
}

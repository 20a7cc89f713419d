package policy

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"postern/internal/trust"
)

const teamDeny = `package postern.access.team.a

deny contains "no_mail_on_sunday" if input.claimed.device_id == "sunday"
`

// refused loads files and returns what was wrong with them.
func refused(t *testing.T, o Options, files map[string]string) []Problem {
	t.Helper()
	o.Path = dir(t, files)
	e, err := Load(t.Context(), o)
	var bad *CheckError
	if !errors.As(err, &bad) || e != nil || len(bad.Problems) == 0 {
		t.Fatalf("accepted: %v", err)
	}
	return bad.Problems
}

// TestBreakOut tries to widen what is allowed by adding a file. Each attempt must be refused at the line that makes it.
func TestBreakOut(t *testing.T) {
	const head = "package postern.access.team.a\n\n"
	for name, c := range map[string]struct {
		content string
		line    int
		says    string
	}{
		"allow":                   {head + "allow if true\n", 3, "may not be defined"},
		"decision":                {head + "decision := {\"action\": \"allow\"}\n", 3, "may not be defined"},
		"built-in package":        {"package postern.access\n\nproved := \"managed_profile\"\n", 1, "not a team package"},
		"built-in helper":         {"package postern.access\n\ndevice_heard if true\n", 1, "not a team package"},
		"config package":          {"package postern.config.access\n\nmax_silence := 1\n", 1, "not a team package"},
		"team root":               {"package postern.access.team\n\ndeny contains \"x\" if input.now == 0\n", 1, "not a team package"},
		"nested team":             {"package postern.access.team.a.b\n\ndeny contains \"x\" if input.now == 0\n", 1, "not a team package"},
		"quoted team":             {"package postern.access.team[\"a-b\"]\n\ndeny contains \"x\" if input.now == 0\n", 1, "not a team package"},
		"other entry point":       {"package postern.other.team.a\n\ndeny contains \"x\" if input.now == 0\n", 1, "not a team package"},
		"foreign package":         {"package foo\n\ndeny contains \"x\" if input.now == 0\n", 1, "not a team package"},
		"system package":          {"package system.log\n\nmask contains \"x\" if input.now == 0\n", 1, "not a team package"},
		"default":                 {head + "default deny := set()\n", 3, "default"},
		"complete rule":           {head + "deny := set() if input.now == 0\n", 3, "must be a set"},
		"empty set":               {head + "deny := set()\n", 3, "must be a set"},
		"else":                    {head + "deny := {\"a\"} if input.now == 0 else := set()\n", 3, ""},
		"function":                {head + "deny(x) := x if input.now == x\n", 3, "function"},
		"own helper":              {head + "helper if input.now == 0\n", 3, "may not be defined"},
		"bracket head":            {head + "deny[\"x\"] if input.now == 0\n", 3, "may not be defined"},
		"dotted head":             {head + "deny.foo contains \"x\" if input.now == 0\n", 3, "may not be defined"},
		"escaping head":           {head + "deny[x].y := 1 if x := input.now\n", 3, "may not be defined"},
		"data head":               {head + "data.postern.access.allow := true\n", 3, ""},
		"with input":              {head + "deny contains \"x\" if data.postern.access.managed_profile with input as {}\n", 3, "with is for tests"},
		"with data":               {head + "deny contains \"x\" if {\n\tinput.now == 0\n\tcount(input.device.labels) == 0 with data.postern.config as {}\n}\n", 5, "with is for tests"},
		"with in a comprehension": {head + "deny contains \"x\" if {\n\tcount({1 | input.now == 0 with input as {}}) == 1\n}\n", 4, "with is for tests"},
		"without condition":       {head + "deny contains \"x\"\n", 3, "without a condition"},
		"always":                  {head + "except contains \"x\" if true\n", 3, "without a condition"},
		"all of data":             {head + "deny contains \"x\" if {\n\twalk(data, [_, v])\n\tv == 1\n}\n", 4, "must be known"},
		"dynamic data":            {head + "deny contains k if {\n\tsome k\n\tdata[k]\n}\n", 5, "must be known"},
		"dynamic postern":         {head + "deny contains k if {\n\tsome k\n\tdata.postern[k]\n}\n", 5, "may not be read"},
		"decision read":           {head + "deny contains \"x\" if data.postern.access.decision.action == \"deny\"\n", 3, "may not be read"},
		"other team":              {head + "deny contains \"x\" if data.postern.access.team.b.deny\n", 3, "may not be read"},
		"other entry":             {head + "deny contains \"x\" if data.postern.enroll.proved\n", 3, "may not be read"},
		"misspelt definition":     {head + "deny contains \"x\" if data.postern.access.manged_profile\n", 3, "is not defined; did you mean managed_profile?"},
		"misspelt data":           {head + "deny contains \"x\" if data.nothing.at_all\n", 3, "no data file defines data.nothing"},
		"import decision":         {"package postern.access.team.a\n\nimport data.postern.access.decision\n\ndeny contains \"x\" if decision\n", 3, "may not be read"},
		"import as input":         {"package postern.access.team.a\n\nimport data.postern.config as input\n\ndeny contains \"x\" if input.now\n", 3, ""},
		"import as deny":          {"package postern.access.team.a\n\nimport data.postern.config as deny\n\nquarantine contains \"x\" if deny.now\n", 3, "hide"},
		"import all":              {"package postern.access.team.a\n\nimport data as d\n\ndeny contains \"x\" if d.x\n", 3, ""},
		"import another language": {"package postern.access.team.a\n\nimport rego.v2\n\ndeny contains \"x\" if input.now == 0\n", 3, ""},
		"http.send":               {head + "deny contains \"x\" if http.send({\"url\": \"http://127.0.0.1/\", \"method\": \"GET\"}).status_code == 1\n", 3, "cannot reach out"},
		"clock":                   {head + "deny contains \"x\" if time.now_ns() > 0\n", 3, "input.now"},
		"random":                  {head + "deny contains \"x\" if rand.intn(\"a\", 2) == 1\n", 3, "random"},
		"environment":             {head + "deny contains \"x\" if opa.runtime().env.HOME\n", 3, "cannot reach out"},
		"name server":             {head + "deny contains \"x\" if net.lookup_ip_addr(\"localhost\")\n", 3, "cannot reach out"},
		"token with the clock":    {head + "deny contains \"x\" if io.jwt.decode_verify(\"a\", {})[0]\n", 3, "cannot reach out"},
		"misspelt field":          {head + "deny contains \"x\" if input.certificate.statsu == \"held\"\n", 3, "did you mean status?"},
		"misspelt part":           {head + "deny contains \"x\" if input.certificat.status == \"held\"\n", 3, "did you mean certificate?"},
		"field of enroll":         {head + "deny contains \"x\" if input.renews.same_key\n", 3, "undefined ref"},
		"type":                    {head + "deny contains \"x\" if startswith(input.now, \"1\")\n", 3, "type_error"},
		"unused variable":         {head + "deny contains \"x\" if {\n\ty := input.now\n\tinput.now == 0\n}\n", 4, "unused"},
		"old syntax":              {head + "deny[x] { x := 1 }\n", 3, "parse_error"},
		"recursion":               {head + "deny contains \"x\" if count(data.postern.access.denials) > 0\n", 0, "recursive"},
	} {
		t.Run(name, func(t *testing.T) {
			problems := refused(t, Options{}, map[string]string{"team/a.rego": c.content})
			for _, p := range problems {
				if p.File == "team/a.rego" && p.Line == c.line && p.Column > 0 && strings.Contains(p.String(), c.says) || c.line == 0 && strings.Contains(p.String(), c.says) {
					return
				}
			}
			t.Errorf("want line %d with %q, have %v", c.line, c.says, problems)
		})
	}
}

func TestBreakOutByData(t *testing.T) {
	for name, c := range map[string]struct{ file, content, says string }{
		"package path":    {"x.yaml", "a: 1\npostern:\n  access:\n    proved: managed_profile\n", "x.yaml:2:1: data.postern belongs to the product"},
		"team path":       {"x.json", "{\"postern\": {\"access\": {\"team\": {}}}}", "belongs to the product"},
		"both":            {"x.yaml", "postern:\n  config: {access: {max_silence: 1}}\n  access: {}\n", "belongs to the product"},
		"samples":         {"x.yaml", "postern: {samples: {}}\n", "belongs to the product"},
		"unknown setting": {"x.yaml", "postern:\n  config:\n    access:\n      max_silenc: 1\n", "x.yaml:4:7: postern.config.access.max_silenc is not known; did you mean max_silence?"},
		"unknown section": {"x.yaml", "postern: {config: {acces: {}}}\n", "not a section"},
		"wrong type":      {"x.yaml", "postern: {config: {access: {max_silence: forever}}}\n", "must be a number"},
		"negative":        {"x.yaml", "postern: {config: {access: {max_silence: -1}}}\n", "not negative"},
		"choice":          {"x.yaml", "postern: {config: {access: {unknown_client: alow}}}\n", "one of allow, quarantine, deny"},
		"list":            {"x.yaml", "postern: {config: {access: {denied_clients: [1]}}}\n", "list of texts"},
		"list of numbers": {"x.yaml", "postern: {config: {enroll: {ecdsa_bits: [p256]}}}\n", "list of numbers"},
		"syntax":          {"x.yaml", "a: 1\nb: [\n", "x.yaml:2"},
		"alias":           {"x.yaml", "a: &a [1]\nb: *a\n", "aliases"},
		"deep in a line":  {"x.yaml", strings.Repeat("- ", 5000), "deep"},
		"deep keys":       {"x.yaml", strings.Repeat("? ", 5000), "deep"},
		"deep":            {"x.yaml", "a: " + strings.Repeat("[", 5000), "deep"},
		"not a mapping":   {"x.yaml", "- a\n", "mapping"},
		"twice":           {"x.yaml", "a: 1\na: 2\n", "x.yaml:2"},
		"JSON syntax":     {"x.json", "{\n\"a\": }\n", "x.json:2"},
		"misnamed":        {"deny.rgeo", teamDeny, "neither a policy nor data"},
	} {
		t.Run(name, func(t *testing.T) {
			problems := refused(t, Options{}, map[string]string{c.file: c.content})
			if !strings.Contains(fmt.Sprint(problems), c.says) {
				t.Errorf("want %q, have %v", c.says, problems)
			}
		})
	}
	problems := refused(t, Options{}, map[string]string{"a.yaml": "groups: {}\n", "b.json": "{\"groups\": {}}"})
	if !strings.Contains(problems[0].Message, "already defined by a.yaml") {
		t.Error(problems)
	}
}

// TestTestFilesStayTests: a test may define what it likes in its own package, and never what decides.
func TestTestFilesStayTests(t *testing.T) {
	problems := refused(t, Options{}, map[string]string{"a_test.rego": teamDeny})
	if !strings.Contains(problems[0].Message, "would be tested and never decide") {
		t.Error(problems)
	}
	refused(t, Options{}, map[string]string{"a_test.rego": "package postern.access\n\nproved := \"x\"\n"})
	files := map[string]string{"a.rego": teamDeny, "a_test.rego": `package postern.access.team.a

sunday := json.patch(data.postern.samples.access.managed, [{"op": "replace", "path": "/claimed/device_id", "value": "sunday"}])

test_sunday if "no_mail_on_sunday" in deny with input as sunday

test_decision if data.postern.access.decision.action == "deny" with input as sunday

test_broken if deny == {"x"} with input as sunday
`}
	o := Options{Path: dir(t, files)}
	r, err := Test(t.Context(), o, TestOptions{Run: "team.a"})
	if err != nil || len(r.Results) != 3 || r.OK() || !r.Results[0].Pass || !r.Results[1].Pass || r.Results[2].Line != 9 {
		t.Errorf("%+v, %v", r, err)
	}
	report, err := Check(t.Context(), o)
	if err != nil || report.OK() || !strings.Contains(fmt.Sprint(report.Problems), "a_test.rego:9: test test_broken failed") {
		t.Errorf("%+v, %v", report, err)
	}
	without := mustLoad(t, Options{Path: dir(t, map[string]string{"a.rego": teamDeny})})
	if mustLoad(t, o).Digest() != without.Digest() || without.Digest() == mustLoad(t, Options{}).Digest() {
		t.Error("the digest covers what decides, and tests do not")
	}
}

func TestTeam(t *testing.T) {
	e := mustLoad(t, Options{Path: dir(t, map[string]string{
		"night.rego":      nightPolicy,
		"data/lists.yaml": "networks: {guest: 198.51.100.0/24}\nexceptions:\n  - {user: alice@contoso.com, id: EX-7, granted_by: carol, until: 1780400000, reasons: [device_silent]}\n",
		"data/tune.yaml":  "postern:\n  config:\n    access:\n      max_silence: 60\n",
		"README.md":       "# ours\n",
	})})
	for name, c := range map[string]struct {
		change func(*AccessInput)
		want   string
	}{
		"as before":  {func(in *AccessInput) { in.Device.SilentFor = 0 }, "allow managed_profile "},
		"deny":       {func(in *AccessInput) { in.Request.SourceIP, in.Device.SilentFor = "198.51.100.9", 0 }, "deny  guest_network"},
		"quarantine": {func(in *AccessInput) { in.Request.Version, in.Device.SilentFor = 140, 0 }, "quarantine  old_client"},
		"exception":  {func(*AccessInput) {}, "allow exception exception"},
		"ended":      {func(in *AccessInput) { in.Now = 1780400000 }, "deny  device_silent"},
		"other user": {func(in *AccessInput) { in.Owner.Mail = "bob@contoso.com" }, "deny  device_silent"},
	} {
		in := managedSample()
		c.change(&in)
		d, err := e.Access(t.Context(), &in)
		if got := string(d.Action) + " " + d.Rule + " " + codes(d.Reasons); err != nil || got != c.want {
			t.Errorf("%s: %q, %v, want %q", name, got, err, c.want)
		}
		switch name {
		case "deny":
			r := d.Reasons[0]
			if r.Text != "Not from the guest network." || r.Facts["network"] != "198.51.100.0/24" || r.Rule != "postern.access.team.night" {
				t.Errorf("%+v", r)
			}
		case "quarantine":
			if d.Reasons[0].Text != "Old client." {
				t.Errorf("%+v", d.Reasons[0])
			}
		case "exception":
			if r := d.Reasons[0]; d.ValidUntil != 1780400000 || r.Facts["exception.granted_by"] != "carol" || !strings.Contains(r.Text, "EX-7") {
				t.Errorf("%d %+v", d.ValidUntil, r)
			}
		}
	}
}

const nightPolicy = `package postern.access.team.night

import data.networks

deny contains {"code": "guest_network", "text": "Not from the guest network.", "facts": {"network": networks.guest}} if {
	net.cidr_contains(networks.guest, input.request.source_ip)
}

quarantine contains "old_client" if {
	input.request.version < 141
	data.postern.access.managed_profile
}

except contains exception if {
	some granted in data.exceptions
	granted.user == input.owner.mail
	exception := object.remove(granted, ["user"])
}
`

// TestBadReasons: a team that says something malformed is refused where it is written out, and is a fault where it is computed.
func TestBadReasons(t *testing.T) {
	for name, reason := range map[string]string{
		"number": "1", "boolean": "false", "null": "null", "empty": `""`, "sentence": `"Not today!"`, "list": `["a"]`, "no code": `{"text": "x"}`, "unknown field": `{"code": "a", "texd": "x"}`,
		"facts": `{"code": "a", "facts": {"n": 1}}`,
	} {
		rule := func(condition string) map[string]string {
			return map[string]string{"a.rego": "package postern.access.team.a\n\ndeny contains " + reason + " if " + condition + "\n"}
		}
		refused(t, Options{}, rule("input.now > 0"))
		refused(t, Options{}, rule(`input.claimed.model == "x"`))
		computed := fmt.Sprintf("package postern.access.team.a\n\ndeny contains r if {\n\tinput.claimed.model == \"x\"\n\tr := json.unmarshal(%q)\n}\n", reason)
		e := mustLoad(t, Options{Path: dir(t, map[string]string{"a.rego": computed})})
		in := managedSample()
		in.Claimed.Model = "x"
		var f *Fault
		if d, err := e.Access(t.Context(), &in); !errors.As(err, &f) || f.Policy != e.Digest() {
			t.Errorf("%s: %+v, %v, want a fault", name, d, err)
		}
	}
}

func TestReplace(t *testing.T) {
	const access = "package postern.access\n\ndecision := {\"action\": \"deny\", \"reasons\": {\"closed\"}, \"valid_until\": 0} if input.now > 0\n"
	const enroll = "package postern.enroll\n\ndecision := {\"action\": \"deny\", \"reasons\": [\"closed\"], \"valid_until\": 0} if lib.late(input.now)\n\n"
	const lib = "package lib\n\nlate(now) if now > 0\n"
	with := func(more map[string]string) map[string]string {
		files := map[string]string{"access.rego": access, "enroll.rego": strings.Replace(enroll, "\n\n", "\n\nimport data.lib\n\n", 1), "lib.rego": lib}
		for name, content := range more {
			files[name] = content
		}
		return files
	}
	e := mustLoad(t, Options{Path: dir(t, with(nil)), Replace: true})
	in := managedSample()
	if d, err := e.Access(t.Context(), &in); err != nil || d.Action != trust.Deny || d.Reasons[0].Text != "Closed." || !e.Replaced() {
		t.Errorf("%+v, %v", d, err)
	}
	for name, c := range map[string]struct{ content, says string }{
		"conflict":         {"package postern.access\n\ndecision := {\"action\": \"allow\", \"reasons\": [], \"valid_until\": 0, \"rule\": \"x\"} if input.now > 1\n", "conflict"},
		"undefined":        {strings.Replace(access, "> 0", "< 0", 1), "no decision"},
		"not an object":    {"package postern.access\n\ndecision := true if input.now > 0\n", "not an object"},
		"allow by nothing": {strings.NewReplacer("deny", "allow").Replace(access), "without the rule"},
		"no reason":        {strings.Replace(access, "{\"closed\"}", "[]", 1), "without a reason"},
		"action":           {strings.Replace(access, "deny", "pend", 1), "not an action"},
		"field":            {strings.Replace(access, "{\"action\"", "{\"acton\": 1, \"action\"", 1), "unknown field"},
		"builtin error":    {"package postern.access\n\ndecision := {\"action\": \"deny\", \"reasons\": [\"x\"], \"valid_until\": to_number(input.request.host)}\n", "access.rego:3"},
		"missing":          {"package postern.access\n\nother := true\n", "data.postern.access.decision is not defined"},
		"http.send":        {"package postern.access\n\ndecision := http.send({}).body\n", "cannot reach out"},
		"field of input":   {"package postern.access\n\ndecision := {\"action\": \"deny\", \"reasons\": [\"x\"], \"valid_until\": 0} if input.nwo > 0\n", "did you mean now?"},
	} {
		t.Run(name, func(t *testing.T) {
			file := "access.rego"
			if name == "conflict" {
				file = "more.rego"
			}
			if problems := refused(t, Options{Replace: true}, with(map[string]string{file: c.content})); !strings.Contains(fmt.Sprint(problems), c.says) {
				t.Errorf("want %q, have %v", c.says, problems)
			}
		})
	}
	if _, err := Load(t.Context(), Options{Replace: true}); err == nil {
		t.Error("replace without a path")
	}
	refused(t, Options{Replace: true}, with(map[string]string{"lib.yaml": "lib: {late: 1}\n"}))
}

// TestEndless: a policy that does not end is stopped, at load by the samples and later as a fault.
func TestEndless(t *testing.T) {
	endless := func(condition string) map[string]string {
		return map[string]string{"a.rego": "package postern.access.team.a\n\ndeny contains \"late\" if {\n\t" + condition +
			"\n\tsome x in numbers.range(1, 100000)\n\tsome y in numbers.range(1, 100000)\n\tx * y == -1\n}\n"}
	}
	if p := refused(t, Options{}, endless("input.now > 0")); !strings.Contains(fmt.Sprint(p), ErrTimeout.Error()) {
		t.Error(p)
	}
	e, err := Load(t.Context(), Options{Path: dir(t, endless(`input.claimed.model == "x"`))})
	if err != nil {
		t.Skipf("the machine is too busy for the usual limit: %v", err)
	}
	in := managedSample()
	in.Claimed.Model = "x"
	if d, err := e.Access(t.Context(), &in); !errors.Is(err, ErrTimeout) {
		t.Errorf("%+v, %v, want a timeout", d, err)
	}
}

func TestCheck(t *testing.T) {
	r, err := Check(t.Context(), Options{Timeout: patient})
	if err != nil || !r.OK() || len(r.Tests) < 40 || len(r.Samples) != len(accessSamples())+len(enrollSamples())+len(lifecycleSamples()) || r.Digest != mustLoad(t, Options{}).Digest() {
		t.Errorf("built-in: %+v, %v", r, err)
	}
	r, err = Check(t.Context(), Options{Timeout: patient, Path: dir(t, map[string]string{"a.rego": strings.ReplaceAll(teamDeny, "if input", "if  input"), "b.rego": "package x\n"})})
	if err != nil || len(r.Problems) != 2 || !strings.Contains(r.Problems[0].String(), "a.rego:3: not formatted") || !strings.Contains(r.Problems[1].String(), "b.rego:1:1") {
		t.Errorf("%+v, %v", r, err)
	}
	r, err = Check(t.Context(), Options{Timeout: patient, Path: dir(t, map[string]string{"a.rego": strings.ReplaceAll(teamDeny, "\n", "\r\n")})})
	if err != nil || len(r.Problems) != 1 || !strings.Contains(r.Problems[0].String(), "a.rego:1: not formatted: lines end as on Windows") || !strings.Contains(r.Problems[0].Advice, "opa fmt -w a.rego") {
		t.Errorf("%+v, %v", r.Problems, err)
	}
	for _, files := range []map[string]string{{}, {"README.md": "# Ours\n", ".hidden.rego": teamDeny}} {
		if _, err := Load(t.Context(), Options{Path: dir(t, files)}); err == nil || !strings.Contains(err.Error(), "holds neither policies nor data") {
			t.Errorf("%v: %v", files, err)
		}
	}
	if _, err := Check(t.Context(), Options{Path: "no/such/directory"}); err == nil {
		t.Error("a directory that is not there")
	}
}

func TestLimits(t *testing.T) {
	if _, err := Load(t.Context(), Options{Path: dir(t, map[string]string{"big.rego": strings.Repeat("#", maxFile+1)})}); err == nil || !strings.Contains(err.Error(), "larger than") {
		t.Error(err)
	}
	many := map[string]string{}
	for i := range maxFiles + 1 {
		many[fmt.Sprintf("f%d.yaml", i)] = "{}"
	}
	if _, err := Load(t.Context(), Options{Path: dir(t, many)}); err == nil || !strings.Contains(err.Error(), "more than") {
		t.Error(err)
	}
}

func FuzzData(f *testing.F) {
	f.Add("a: 1\nb: [x, {y: z}]\n")
	f.Add("postern: {config: {access: {max_silence: 60}}}")
	f.Add("a: |\n  text\n? b\n: c\n")
	f.Fuzz(func(t *testing.T, content string) {
		if len(content) > 4096 {
			return
		}
		src := sources{files: []file{{name: "x.yaml", content: []byte(content)}}}
		if doc, problems := src.document(); len(problems) > 0 && len(doc) > 0 && doc["postern"] != nil {
			t.Errorf("%v and %v", doc, problems)
		}
	})
}

func FuzzModule(f *testing.F) {
	f.Add(nightPolicy)
	f.Add(teamDeny)
	f.Fuzz(func(t *testing.T, content string) {
		if len(content) > 4096 {
			return
		}
		src := sources{files: []file{{name: "x.rego", content: []byte(content)}}}
		p, problems := parse(src)
		for _, m := range p.modules {
			if len(problems) == 0 && entryOf(m.Package) == "" {
				t.Errorf("accepted %s", m.Package)
			}
		}
	})
}

package policy

import (
	"strings"
	"testing"
)

// Problems of every kind are told in one go, in the order of files and lines, and what only follows from one of them is not told.
func TestAllProblemsAtOnce(t *testing.T) {
	files := map[string]string{
		"a.rego": `package postern.access.team.a

deny contains "one" if {
	input.device.statee == "active"
}

deny contains "two" if {
	"pilot" in input.owner.groups
	y == 3
}

deny contains "three" if {
	foo.bar(input.now)
}

helper if input.now > 0

quarantine contains "Bad Code" if {
	input.request.command == "synk"
	startswith(input.now, "1")
}

deny contains "fine" if helper

deny contains "four" if {
	input.request.version ==
}

deny contains "five" if data.nothing.x
`,
		"a_test.rego": "package postern.access.team.a\n\ntest_one if \"one\" in deny with input as data.postern.samples.access.managed\n\ntest_two if \"x\" in barr(deny)\n",
		"b.rego":      "package postern.access\n\nallow if input.request.clas == \"x\"\n",
		"c.rego":      "package postern.access.team.c\n\ndeny[x] { x := 1 }\n\nquarantine contains \"x\" if {\n\tinput.now > 0\n\ndeny contains \"y\" if input.nwo > 0\n",
		"d.yaml":      "groups:\n  pilots: [a@b.c, 1]\npostern: {config: {access: {max_silenc: 1}}}\n",
	}
	want := []string{
		"a.rego:4:2: type_error: undefined ref: input.device.statee; did you mean state?",
		"a.rego:8:2: input.owner.groups is a mapping",
		"a.rego:9:2: unsafe_var_error: var y is unsafe",
		"a.rego:13:2: type_error: undefined function foo.bar",
		"a.rego:16:1: helper may not be defined",
		`a.rego:18:21: "Bad Code" is not the code of a reason`,
		`a.rego:19:27: input.request.command is never "synk"; did you mean sync?`,
		"a.rego:20:2: type_error: startswith",
		"a.rego:27:1: parse_error: unexpected }",
		"a.rego:29:25: no data file defines data.nothing",
		"a_test.rego:5:20: type_error: undefined function barr",
		"b.rego:1:1: package postern.access is not a team package",
		"b.rego:3:10: type_error: undefined ref: input.request.clas; did you mean class?",
		"c.rego:3:1: parse_error: `if` keyword is required before rule body; this is Rego before version 1",
		"c.rego:3:1: parse_error: `contains` keyword is required",
		"c.rego:6:14: parse_error: unexpected eof token: expected \\n or ; or }; a { or ( or [ or a text before it is not closed",
		"c.rego:8:22: type_error: undefined ref: input.nwo; did you mean now?",
		"d.yaml:2:19: data.groups.pilots[1]: must be a list of texts",
		"d.yaml:3:29: postern.config.access.max_silenc is not known; did you mean max_silence?",
	}
	check, err := Check(t.Context(), Options{Path: dir(t, files)})
	if err != nil {
		t.Fatal(err)
	}
	for name, found := range map[string][]Problem{"load": refused(t, Options{}, files), "check": check.Problems} {
		for i, p := range found {
			if i >= len(want) || !strings.HasPrefix(p.String(), want[i]) {
				t.Errorf("%s: %s", name, p)
			}
		}
		if len(found) != len(want) {
			t.Errorf("%s: %d problems, want %d", name, len(found), len(want))
		}
	}
}

// What follows from a file that cannot be read is not told of those that can.
func TestNothingFollowsFromAProblem(t *testing.T) {
	for name, c := range map[string]struct {
		files map[string]string
		o     Options
	}{
		"data": {map[string]string{"d.yaml": "groups: {pilot: [\n", "a.rego": "package postern.access.team.a\n\ndeny contains \"x\" if {\n\tinput.owner.groups.pilot\n\tdata.other.x\n}\n"}, Options{}},
		"a library of a policy that replaces": {map[string]string{"lib.rego": "package lib\n\nlate(now) if now >\n", "access.rego": "package postern.access\n\nimport data.lib\n\ndecision := {} if lib.late(input.now)\n"},
			Options{Replace: true}},
		"a rule of its test": {map[string]string{"a.rego": "package postern.access.team.a\n\ndeny contains \"x\" if input.nwo > 0\n", "a_test.rego": "package postern.access.team.a\n\ntest_x if \"x\" in deny\n"}, Options{}},
		"a helper":           {map[string]string{"a.rego": "package postern.access.team.a\n\nlate(now) := now - 1\n\ndeny contains \"x\" if late(input.now) > 0\n"}, Options{}},
	} {
		if problems := refused(t, c.o, c.files); len(problems) != 1 {
			t.Errorf("%s: %s", name, lines(problems))
		}
	}
}

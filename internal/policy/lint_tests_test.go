package policy

import (
	"strings"
	"testing"
)

// A test that is skipped, cannot fail or is never run is warned of, and one that asks for something is not, however it does.
func TestIdleTests(t *testing.T) {
	const (
		rule = "package postern.access.team.a\n\ndeny contains \"x\" if input.claimed.family == \"nine\"\n"
		with = " with input as data.postern.samples.access.managed"
	)
	for name, c := range map[string]struct{ test, want string }{
		"true":                       {"test_a := true\n", "a_test.rego:3:1: test_a passes whatever the policy says: nothing in it can fail; let it decide a sample"},
		"true by a body":             {"test_a if true\n", "a_test.rego:3:1: test_a passes whatever the policy says: nothing in it can fail"},
		"sums":                       {"test_a if 1 + 1 == 2\n", "a_test.rego:3:1: test_a passes whatever the policy says: it reads no rule and no decision"},
		"the samples alone":          {"test_a if data.postern.samples.access.managed.device.managed\n", "test_a passes whatever the policy says: it reads no rule and no decision"},
		"a helper of its own":        {"test_a if same(1, 1)\n\nsame(x, y) if x == y\n", "test_a passes whatever the policy says: it reads no rule"},
		"a set":                      {"test_a if {\n\tdeny" + with + "\n}\n", "a_test.rego:4:2: deny is there whatever is in it, so test_a passes whatever the policy says; ask for what is in it"},
		"a set in full":              {"test_a if {\n\tdata.postern.access.team.a.deny" + with + "\n}\n", "a_test.rego:4:2: deny is there whatever is in it"},
		"a decision":                 {"test_a if {\n\tdata.postern.access.decision" + with + "\n}\n", "a_test.rego:4:2: decision is there whatever is in it"},
		"a decision by a name":       {"import data.postern.access\n\ntest_a if {\n\td := access.decision" + with + "\n}\n", "a_test.rego:6:2: decision is there whatever is in it"},
		"to do":                      {"todo_test_a if \"x\" in deny" + with + "\n", "a_test.rego:3:1: todo_test_a is skipped; finish it and call it test_a"},
		"misspelt":                   {"tset_a if \"x\" in deny" + with + "\n", "a_test.rego:3:1: tset_a is used by no test, and is none itself; the name of a test begins with test_"},
		"a member":                   {"test_a if not \"x\" in deny" + with + "\n", ""},
		"none":                       {"test_a if count(deny) == 0" + with + "\n", ""},
		"some":                       {"test_a if {\n\tfamily := \"nine\"\n\tsample := json.patch(data.postern.samples.access.managed, [{\"op\": \"replace\", \"path\": \"/claimed/family\", \"value\": family}])\n\tsome reason in deny with input as sample\n}\n", ""},
		"an action":                  {"test_a if data.postern.access.decision.action == \"allow\"" + with + "\n", ""},
		"a part of a decision":       {"test_a if {\n\td := data.postern.access.decision" + with + "\n\td.action == \"allow\"\n}\n", ""},
		"an imported package":        {"import data.postern.access\n\ntest_a if access.decision.action == \"allow\"" + with + "\n", ""},
		"by a helper":                {"test_a if allowed(data.postern.samples.access.managed)\n\nallowed(sample) if data.postern.access.decision.action == \"allow\" with input as sample\n", ""},
		"every":                      {"test_a if {\n\tevery name, sample in {\"m\": data.postern.samples.access.managed} {\n\t\tcount(deny) == 0 with input as sample\n\t}\n}\n", ""},
		"a condition of the product": {"test_a if data.postern.access.device_managed" + with + "\n", ""},
		"a table that is used":       {"cases := {\"a\": \"allow\"}\n\ntest_a if {\n\tevery name, action in cases {\n\t\tdata.postern.access.decision.action == action" + with + "\n\t}\n}\n", ""},
		"a table used by its key":    {"cases := {\"a\": \"allow\"}\n\ntest_a if data.postern.access.decision.action == cases.a" + with + "\n", ""},
		"its data":                   {"test_a if every e in data.exceptions {\n\tstartswith(e.id, \"EX-\")\n}\n", ""},
	} {
		src, problems, err := read(Options{Files: Files{"a.rego": []byte(rule), "a_test.rego": []byte("package postern.access.team.a\n\n" + c.test), "d.yaml": []byte("exceptions: []\n")}})
		p, more := parse(src)
		if err != nil || len(problems)+len(more) > 0 {
			t.Fatalf("%s: %v\n%s%s", name, err, lines(problems), lines(more))
		}
		all, _ := p.test(t.Context(), TestOptions{Run: `team\.a`})
		for _, r := range all.Results {
			if !r.Pass && !r.Skipped {
				t.Errorf("%s: %s does not pass: %s", name, r.Name, r.Error)
			}
		}
		_, warnings := p.lint(map[line]bool{{"a.rego", 3}: true})
		said := lines(warnings)
		said = strings.Replace(said, "d.yaml:1:1: data.exceptions is read by no rule\n", "", 1)
		if c.want == "" && said != "" || c.want != "" && (strings.Count(said, "\n") != 1 || !strings.Contains(said, c.want)) {
			t.Errorf("%s: want %q, have\n%s", name, c.want, said)
		}
	}
}

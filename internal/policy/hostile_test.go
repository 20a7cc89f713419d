package policy

import (
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// Data that would be read otherwise than it looks, or not at all, is refused.
func TestHostileData(t *testing.T) {
	for name, c := range map[string]struct{ file, content, says string }{
		"a number out of reach":        {"x.json", "{\"a\": 1e999999999}\n", "is too large"},
		"a number out of reach within": {"x.json", "{\"a\": [{\"b\": -1e400}]}\n", "is too large"},
		"two documents":                {"x.yaml", "a: 1\n---\nb: 2\n", "more than one document"},
		"a byte order mark":            {"x.yaml", "\ufeffgroups: {}\n", "byte order mark"},
		"not a number":                 {"x.yaml", "a: .nan\n", "not data"},
		"a key twice":                  {"x.json", "{\"a\": 1,\n  \"b\": 2, \"a\": 3}\n", "x.json:2:11: not data: a is said twice: it is in line 1 already; leave one of them out, for which"},
		"a key twice, written apart":   {"x.json", "{\"a\": 1, \"\\u0061\": 3}\n", "x.json:1:10: not data: a is said twice"},
		"a key twice within": {"x.json", "{\n\"t\": [{}, {\"x\\\\\\\"\": {\"u\": 1,\n\"v\": {\"u\": 1}, \"u\": [\n2]}}]}\n",
			"x.json:3:16: not data: t[1].x\\\".u is said twice: it is in line 2 already"},
		"a setting twice":         {"x.json", "{\"postern\": {\"config\": {\"access\": {\"max_silence\": 60,\n\"max_silence\": 6000000}}}}\n", "x.json:2:1: not data: postern.config.access.max_silence is said twice"},
		"a number as a key twice": {"x.yaml", "t:\n  - {16: a}\n  - 0x10: b\n    16: c\n", "x.yaml:4:5: not data: 16 is said twice: it is in line 3 already"},
		"a key twice in YAML":     {"x.yaml", "a: 1\n\"a\": 2\n", "x.yaml:2:1: not data: mapping key \"a\" already defined"},
		"a tab":                   {"x.yaml", "groups:\n\tpilot: []\n", "x.yaml:2:1"},
	} {
		t.Run(name, func(t *testing.T) {
			if problems := refused(t, Options{}, map[string]string{c.file: c.content}); !strings.Contains(lines(problems), c.says) {
				t.Errorf("want %q, have %s", c.says, lines(problems))
			}
		})
	}
}

// A pipe in the directory keeps nobody waiting.
func TestPipeInTheDirectory(t *testing.T) {
	in := dir(t, map[string]string{"a.rego": teamDeny})
	if err := syscall.Mkfifo(filepath.Join(in, "b.rego"), 0o600); err != nil {
		t.Skip(err)
	}
	if _, err := Load(t.Context(), Options{Path: in}); err == nil || !strings.Contains(err.Error(), "b.rego: not a regular file") {
		t.Error(err)
	}
}

// One key may be in many objects, and one that another contains is another. An input that somebody wrote is read as strictly as data.
func TestKeysThatAreNotTwice(t *testing.T) {
	mustLoad(t, Options{Files: Files{"x.json": []byte(`{"a": {"a": [{"a": 1}, {"a": 2}]}, "A": "a", "": {"": null}, "a.a": [[], {}, "\"a\":"]}`)}})
	e := mustLoad(t, Options{})
	for entry, input := range map[string]string{"access": `{"now": 1, "now": 2}`, "enroll": `{"device": {"known": true, "known": false}}`, "lifecycle": `{"now": 1, "device": {}, "device": {}}`} {
		if _, err := e.Eval(t.Context(), entry, []byte(input)); err == nil || !strings.Contains(err.Error(), "is said twice") {
			t.Errorf("%s: %v", entry, err)
		}
	}
}

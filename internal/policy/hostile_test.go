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
		"a tab":                        {"x.yaml", "groups:\n\tpilot: []\n", "x.yaml:2:1"},
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

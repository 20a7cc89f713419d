package api_test

import (
	"reflect"
	"strings"
	"testing"

	"postern/internal/api"
)

func TestParseTargets(t *testing.T) {
	for name, c := range map[string]struct {
		file string
		want []api.Target
	}{
		"lines": {"0A1B\n\n# a comment\n48:ef:a0\n dev-ABC \nAlice@Contoso.com\n", []api.Target{{Line: 1, Serial: "0a1b"}, {Line: 4, Serial: "48efa0"},
			{Line: 5, Device: "dev-abc"}, {Line: 6, Owner: "alice@contoso.com"}}},
		"windows":           {"\ufeff0a\r\n0b\r\n", []api.Target{{Line: 1, Serial: "0a"}, {Line: 2, Serial: "0b"}}},
		"no line break":     {"0a", []api.Target{{Line: 1, Serial: "0a"}}},
		"CSV, first column": {"0a,lost in a taxi\n\"0b\",\"x, y\"\n", []api.Target{{Line: 1, Serial: "0a"}, {Line: 2, Serial: "0b"}}},
		"CSV with a header": {"Name;Mail;Serial;Issuer\nAlice;alice@contoso.com;0a;contoso\nBob;bob@contoso.com;;\n\n", []api.Target{
			{Line: 2, Serial: "0a", Issuer: "contoso"}, {Line: 3, Owner: "bob@contoso.com"}}},
		"tabs":                    {"owner\tdevice\nalice@contoso.com\tdev-1\n", []api.Target{{Line: 2, Device: "dev-1"}}},
		"a broken line in quotes": {"serial,comment\n0a,\"two\nlines\"\n0b,\n", []api.Target{{Line: 2, Serial: "0a"}, {Line: 4, Serial: "0b"}}},
		"empty rows":              {"serial,owner\n,\n0a,\n", []api.Target{{Line: 3, Serial: "0a"}}},
	} {
		got, err := api.ParseTargets(strings.NewReader(c.file))
		if err != nil || !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s: %v\ngot  %+v\nwant %+v", name, err, got, c.want)
		}
	}
}

// Every bad line is named, and one is enough for no target at all.
func TestParseTargetsRefused(t *testing.T) {
	many := strings.Repeat("nobody\n", 30)
	for name, c := range map[string]struct{ file, want string }{
		"one bad line":      {"0a\nnot hex\n0b\nalice@\n", "line 2: \"not hex\"|line 4: \"alice@\""},
		"too many":          {many, "line 20: |and 10 more lines"},
		"nothing":           {"# nothing\n\n", "names nothing"},
		"header alone":      {"serial,owner\n", "names nothing"},
		"unnamed row":       {"serial,name\n,Alice\n", "line 2: names no certificate"},
		"in another column": {"serial,owner\nalice@contoso.com,0a\n", "line 2: \"alice@contoso.com\" does not belong"},
		"not UTF-8":         {"0a\n\xff\xfe\n", "UTF-8"},
		"open quote":        {"0a\n\"0b\n", "line 2"},
		"long field":        {"0a\n" + strings.Repeat("a", 321) + "\n", "line 2: 321 bytes"},
		"too long":          {strings.Repeat("\n", api.MaxTargetsFile+1), "split it"},
		"too many targets":  {strings.Repeat("0a\n", 200_001), "split the file"},
	} {
		got, err := api.ParseTargets(strings.NewReader(c.file))
		if err == nil || got != nil {
			t.Errorf("%s: %d targets, no error", name, len(got))
			continue
		}
		for _, part := range strings.Split(c.want, "|") {
			if !strings.Contains(err.Error(), part) {
				t.Errorf("%s: %q does not say %q", name, err, part)
			}
		}
	}
}

// FuzzParseTargets: whatever a file holds, a target names exactly one thing and the line it stands on.
func FuzzParseTargets(f *testing.F) {
	for _, s := range []string{"0a\ndev-1\nalice@contoso.com\n", "serial;owner\n0a;\n", "\"0a\n", "\ufeffmail\talias\n", "0a,0b\n\n#x\n"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, file string) {
		got, err := api.ParseTargets(strings.NewReader(file))
		if (err == nil) != (len(got) > 0) {
			t.Fatalf("%d targets, error %v", len(got), err)
		}
		lines := strings.Count(file, "\n") + 1
		for _, g := range got {
			named := 0
			for _, s := range []string{string(g.Serial), string(g.Device), g.Owner} {
				if s != "" {
					named++
				}
			}
			if named != 1 || g.Line < 1 || g.Line > lines {
				t.Fatalf("%+v of %d lines", g, lines)
			}
			back, err := api.ParseTarget(g.String())
			if back.Line, back.Issuer = g.Line, g.Issuer; err != nil || back != g {
				t.Fatalf("%+v reads back as %+v, %v", g, back, err)
			}
		}
	})
}

package policy

import (
	"errors"
	"strings"
	"testing"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/rego"

	"postern/internal/trust"
)

const lifecycleOn = "postern:\n  config:\n    lifecycle: {silent_after: 7776000, unused_after: 2592000, unused_action: suspend, no_mail_after: 5184000}\n"

func TestLifecycle(t *testing.T) {
	decide := func(e *Engine, s *lifecycleSample) string {
		t.Helper()
		d, err := e.Lifecycle(t.Context(), &s.in)
		if err != nil || d.Policy != e.Digest() {
			t.Fatalf("%s: %+v, %v", s.name, d, err)
		}
		for _, r := range d.Reasons {
			if r.Text == "" || r.Remedy == "" && r.Rule == "postern.lifecycle" || strings.ContainsAny(r.Text+r.Remedy, "{}") {
				t.Errorf("%s: %+v is not told", s.name, r)
			}
			t.Log(r.Text, r.Remedy)
		}
		return string(d.Action) + " " + codes(d.Reasons)
	}
	off := mustLoad(t, Options{})
	on := mustLoad(t, Options{Path: dir(t, map[string]string{"tune.yaml": lifecycleOn,
		"lent.rego": "package postern.lifecycle.team.lent\n\nquarantine contains \"lent\" if input.device.labels.group == \"lent\"\n"})})
	want := map[string]string{"in_use": "keep ", "silent": "retire device_silent_long", "unused": "suspend certificate_unused", "no_mail": "notify no_mail"}
	for _, s := range lifecycleSamples() {
		if got := decide(off, &s); got != "keep " {
			t.Errorf("%s, nothing switched on: %q", s.name, got)
		}
		if got := decide(on, &s); got != want[s.name] {
			t.Errorf("%s: %q, want %q", s.name, got, want[s.name])
		}
	}
	s := lifecycleSamples()[0]
	s.in.Device.Labels = map[string]string{"group": "lent"}
	if got := decide(on, &s); got != "suspend lent" {
		t.Errorf("a team's: %q", got)
	}
	if d, err := off.Eval(t.Context(), "lifecycle", []byte(`{"device": {"known": true}}`)); err != nil || d.Action != trust.Keep {
		t.Errorf("%+v, %v", d, err)
	}
}

// What is wrong with a rule about devices is found as with the others; a policy that replaces the built-in one may say nothing of devices, and keeps them all.
func TestLifecycleIsConfined(t *testing.T) {
	for name, c := range map[string]struct{ rule, says string }{
		"misspelt": {"deny contains \"x\" if input.mail.last_sean == 0\n", "did you mean last_seen?"},
		"widens":   {"retirements contains \"x\" if input.now > 0\n", "may not be defined"},
		"always":   {"deny contains \"x\" if true\n", "without a condition"},
	} {
		if p := refused(t, Options{}, map[string]string{"a.rego": "package postern.lifecycle.team.a\n\n" + c.rule}); !strings.Contains(lines(p), c.says) {
			t.Errorf("%s: %s", name, lines(p))
		}
	}
	if p := refused(t, Options{}, map[string]string{"d.yaml": "postern: {config: {lifecycle: {silent_action: delete}}}\n"}); !strings.Contains(lines(p), "one of notify, suspend, retire") {
		t.Error(lines(p))
	}
	e := mustLoad(t, Options{Replace: true, Path: dir(t, map[string]string{"access.rego": closedAccess, "enroll.rego": closedEnroll})})
	s := lifecycleSamples()[1]
	if d, err := e.Lifecycle(t.Context(), &s.in); err != nil || d.Action != trust.Keep {
		t.Errorf("%+v, %v", d, err)
	}
	var f *Fault
	e = mustLoad(t, Options{Path: dir(t, map[string]string{"a.rego": "package postern.lifecycle.team.a\n\nexcept contains [input.device.id] if input.device.model == \"odd\"\n"})})
	s.in.Device.Model = "odd"
	if d, err := e.Lifecycle(t.Context(), &s.in); !errors.As(err, &f) {
		t.Errorf("a malformed exception: %+v, %v", d, err)
	}
}

// TestOutputSchemas: the schemas say what the engine reads. Each answer to a sample is by its schema, and what the engine refuses is not.
func TestOutputSchemas(t *testing.T) {
	e := mustLoad(t, Options{Path: dir(t, map[string]string{"tune.yaml": lifecycleOn})})
	matches := func(entry string, answer ast.Value) bool {
		t.Helper()
		plain, err := ast.JSON(answer)
		if err != nil {
			t.Fatal(err)
		}
		// Sets are arrays in JSON.
		rs, err := rego.New(rego.Query("x := json.match_schema(input.answer, input.schema)[0]"),
			rego.Input(map[string]any{"answer": plain, "schema": string(OutputSchema(entry))})).Eval(t.Context())
		if err != nil || len(rs) != 1 {
			t.Fatal(rs, err)
		}
		return rs[0].Bindings["x"] == true
	}
	check := func(entry, name string, input *ast.Term) {
		t.Helper()
		answer, err := e.evaluate(t.Context(), &question{entry: entry, whole: func() *ast.Term { return input }})
		if err != nil || !matches(entry, answer) {
			t.Errorf("%s/%s: %v, %v", entry, name, answer, err)
		}
	}
	for _, s := range accessSamples() {
		check("access", s.name, s.in.value())
	}
	for _, s := range enrollSamples() {
		check("enroll", s.name, s.in.value())
	}
	for _, s := range lifecycleSamples() {
		check("lifecycle", s.name, s.in.value())
	}
	for _, text := range []string{`{"action": "deny", "reasons": ["a"], "valid_until": 0}`, `{"action": "deny", "reasons": [{"code": "a", "facts": {"n": "1"}}], "valid_until": 9, "rule": "r"}`,
		`{"action": "maybe", "reasons": ["a"], "valid_until": 0}`, `{"action": "keep", "reasons": ["a"], "valid_until": 0}`, `{"action": "deny", "reasons": [1], "valid_until": 0}`,
		`{"action": "deny", "reasons": ["Not a code"], "valid_until": 0}`, `{"action": "deny", "reasons": [{"text": "no code"}], "valid_until": 0}`, `{"action": "deny", "reasons": ["a"]}`,
		`{"action": "deny", "reasons": ["a"], "valid_until": -1}`, `{"action": "deny", "reasons": ["a"], "valid_until": 0, "extra": 1}`, `{"action": "deny", "reasons": "a", "valid_until": 0}`} {
		answer := ast.MustParseTerm(text).Value
		in := managedSample()
		_, err := e.decision(e.aboutAccess(&in), answer)
		if by := matches("access", answer); by != (err == nil) {
			t.Errorf("%s: by the schema %v, read with %v", text, by, err)
		}
	}
}

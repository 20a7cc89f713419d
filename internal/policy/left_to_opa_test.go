package policy

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"

	"postern/internal/trust"
)

// What a plan does not decide is counted each time and told once, whatever becomes of it; what a plan decides is neither.
func TestLeftToOPA(t *testing.T) {
	var said bytes.Buffer
	e := mustLoad(t, Options{Log: slog.New(slog.NewTextHandler(&said, nil)), Files: Files{"a.rego": []byte("package postern.access.team.a\n\ndeny contains \"x\" if {\n\tinput.claimed.family == \"nine\"\n\tto_number(input.claimed.model) > 3\n}\n")}})
	in := managedSample()
	for range 3 {
		if d, err := e.Access(t.Context(), &in); err != nil || d.Action != trust.Allow {
			t.Fatal(d, err)
		}
	}
	if n := e.LeftToOPA(); n != 0 || said.Len() > 0 {
		t.Errorf("a plan decides, and %d are said to be left to OPA: %s", n, said.String())
	}
	in.Claimed.Family, in.Claimed.Model = "nine", "a model"
	for range 3 {
		if _, err := e.Access(t.Context(), &in); err == nil {
			t.Fatal("no fault")
		}
	}
	if text := said.String(); e.LeftToOPA() != 3 || strings.Count(text, "\n") != 1 || !strings.Contains(text, "policy="+e.Digest()) || !strings.Contains(text, "entry=access") || !strings.Contains(text, "to_number") {
		t.Errorf("%d left to OPA, told as\n%s", e.LeftToOPA(), text)
	}
	if n := e.beside(NewShadow(mustLoad(t, Options{}))).LeftToOPA(); n != 3 {
		t.Errorf("beside a shadow %d", n)
	}
	said.Reset()
	e = mustLoad(t, Options{Log: slog.New(slog.NewTextHandler(&said, nil))})
	if e.plans["enroll"] = nil; e.LeftToOPA() != 0 {
		t.Errorf("the samples: %d", e.LeftToOPA())
	}
	for range 2 {
		if _, err := e.Enroll(t.Context(), &enrollSamples()[0].in); err != nil {
			t.Fatal(err)
		}
	}
	if text := said.String(); e.LeftToOPA() != 2 || strings.Count(text, "\n") != 1 || !strings.Contains(text, "entry=enroll") || !strings.Contains(text, "cannot plan it") {
		t.Errorf("%d left to OPA, told as\n%s", e.LeftToOPA(), text)
	}
}

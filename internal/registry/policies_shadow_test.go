package registry_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"postern/internal/registry"
	"postern/internal/trust"
)

func TestPolicyShadow(t *testing.T) {
	w := newWorld(t)
	if _, err := w.reg.PolicyShadow(t.Context()); !errors.Is(err, trust.ErrNotFound) {
		t.Fatalf("before anything: %v", err)
	}
	if _, _, err := w.reg.ShadowPolicy(t.Context(), author, version(1).Digest, ""); !errors.Is(err, trust.ErrNotFound) {
		t.Fatalf("an unknown version: %v", err)
	}
	for n := range 4 {
		_, err := w.reg.PutPolicy(t.Context(), author, version(n), []byte("files"))
		w.must(err)
	}
	_, _, err := w.reg.ActivatePolicy(t.Context(), author, version(0).Digest, "")
	w.must(err)
	if _, _, err := w.reg.ShadowPolicy(t.Context(), author, version(0).Digest, ""); !errors.Is(err, trust.ErrConflict) {
		t.Errorf("what is in force: %v", err)
	}
	if _, _, err := w.reg.ShadowPolicy(t.Context(), author, version(1).Digest, strings.Repeat("x", 501)); !errors.Is(err, trust.ErrInvalid) {
		t.Errorf("a long comment: %v", err)
	}
	first, rev, err := w.reg.ShadowPolicy(t.Context(), author, version(1).Digest, "try")
	w.must(err)
	w.pass(time.Hour)
	// The same again begins nothing anew.
	again, _, err := w.reg.ShadowPolicy(t.Context(), root, version(1).Digest, "other")
	w.must(err)
	if again != first || first.By != author || first.Comment != "try" || rev == 0 {
		t.Errorf("begun twice: %+v, then %+v", first, again)
	}
	_, _, err = w.reg.ShadowPolicy(t.Context(), root, version(2).Digest, "")
	w.must(err)
	// Another version that comes into force leaves the shadow; its own coming into force ends it.
	_, _, err = w.reg.ActivatePolicy(t.Context(), author, version(3).Digest, "")
	w.must(err)
	if s, err := w.reg.PolicyShadow(t.Context()); err != nil || s.Digest != version(2).Digest || s.By != root {
		t.Errorf("%+v, %v", s, err)
	}
	_, _, err = w.reg.ActivatePolicy(t.Context(), author, version(2).Digest, "")
	w.must(err)
	if _, err := w.reg.PolicyShadow(t.Context()); !errors.Is(err, trust.ErrNotFound) {
		t.Errorf("in force and in shadow: %v", err)
	}
	if _, err := w.reg.EndPolicyShadow(t.Context(), author); !errors.Is(err, trust.ErrNotFound) {
		t.Errorf("ended without one: %v", err)
	}
	_, _, err = w.reg.ShadowPolicy(t.Context(), author, version(1).Digest, "")
	w.must(err)
	if s, err := w.reg.EndPolicyShadow(t.Context(), author); err != nil || s.Digest != version(1).Digest {
		t.Errorf("%+v, %v", s, err)
	}
	if _, err := w.reg.PolicyShadow(t.Context()); !errors.Is(err, trust.ErrNotFound) {
		t.Errorf("ended: %v", err)
	}
	entries, err := w.reg.Audit(t.Context(), registry.AuditFilter{Action: registry.ActPolicyShadow})
	w.must(err)
	if n := len(entries); n < 4 || entries[0].Detail != "ended" {
		t.Errorf("audit: %+v", entries)
	}
}

// A version that decides in shadow is not dropped for its age.
func TestShadowedVersionStays(t *testing.T) {
	w := newWorld(t)
	for n := range 203 {
		_, err := w.reg.PutPolicy(t.Context(), author, version(n), []byte("files"))
		w.must(err)
		if n == 0 {
			_, _, err := w.reg.ShadowPolicy(t.Context(), author, version(n).Digest, "")
			w.must(err)
		}
		w.pass(time.Second)
	}
	if _, _, err := w.reg.Policy(t.Context(), version(0).Digest); err != nil {
		t.Error(err)
	}
}

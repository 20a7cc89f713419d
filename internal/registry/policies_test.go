package registry_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"postern/internal/registry"
	"postern/internal/trust"
)

func version(n int) registry.PolicyVersion {
	return registry.PolicyVersion{Digest: fmt.Sprintf("%016x", n), Source: "api", Comment: "why", Files: []string{"team.rego"}}
}

func TestPolicyVersionsComeIntoForce(t *testing.T) {
	w := newWorld(t)
	if _, _, _, err := w.reg.ActivePolicy(t.Context()); !errors.Is(err, trust.ErrNotFound) {
		t.Fatalf("before anything: %v", err)
	}
	for n := 1; n <= 2; n++ {
		_, err := w.reg.PutPolicy(t.Context(), author, version(n), []byte(fmt.Sprint("files ", n)))
		w.must(err)
		a, _, err := w.reg.ActivatePolicy(t.Context(), author, version(n).Digest, "now")
		w.must(err)
		if a.Seq != uint64(n) || a.Proposed() {
			t.Fatalf("activation %d is %+v", n, a)
		}
	}
	// A version never changes, whoever says so.
	other := version(2)
	other.Comment = "another"
	kept, err := w.reg.PutPolicy(t.Context(), root, other, []byte("changed"))
	w.must(err)
	if kept.Comment != "why" || kept.Author != author {
		t.Fatalf("the version changed: %+v", kept)
	}
	a, v, packed, err := w.reg.ActivePolicy(t.Context())
	w.must(err)
	if a.Digest != version(2).Digest || v.Digest != a.Digest || string(packed) != "files 2" {
		t.Fatalf("in force: %+v %+v %q", a, v, packed)
	}
	// What is in force is not activated again; what was, is: that is a rollback.
	again, _, err := w.reg.ActivatePolicy(t.Context(), root, version(2).Digest, "")
	w.must(err)
	back, _, err := w.reg.ActivatePolicy(t.Context(), root, version(1).Digest, "back")
	w.must(err)
	history, err := w.reg.PolicyHistory(t.Context(), 0)
	w.must(err)
	if again.Seq != 2 || back.Seq != 3 || len(history) != 3 || history[0].Digest != version(1).Digest || history[2].Comment != "now" {
		t.Fatalf("history: %+v", history)
	}
	if _, _, err := w.reg.ActivatePolicy(t.Context(), root, version(9).Digest, ""); !errors.Is(err, trust.ErrNotFound) {
		t.Fatalf("an unknown version: %v", err)
	}
	for name, bad := range map[string]registry.PolicyVersion{"digest": {Digest: "x"}, "comment": {Digest: version(3).Digest, Comment: strings.Repeat("x", 501)}} {
		if _, err := w.reg.PutPolicy(t.Context(), root, bad, []byte("x")); !errors.Is(err, trust.ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestPolicyNeedsTwoPersons(t *testing.T) {
	w := newWorld(t)
	w.reg.WithPolicyRules(registry.PolicyRules{TwoPersons: true})
	second := trust.Principal{Kind: "token", Name: "second", Role: trust.PolicyAuthor}
	_, err := w.reg.PutPolicy(t.Context(), author, version(1), []byte("files"))
	w.must(err)
	propose := func(p trust.Principal) registry.Activation {
		t.Helper()
		a, _, err := w.reg.ActivatePolicy(t.Context(), p, version(1).Digest, "please")
		w.must(err)
		return a
	}
	if a := propose(author); !a.Proposed() {
		t.Fatalf("one person was enough: %+v", a)
	}
	if a := propose(author); !a.Proposed() {
		t.Fatalf("the same person twice was enough: %+v", a)
	}
	if _, _, _, err := w.reg.ActivePolicy(t.Context()); !errors.Is(err, trust.ErrNotFound) {
		t.Fatalf("a proposal is in force: %v", err)
	}
	w.pass(8 * 24 * time.Hour)
	if a := propose(second); !a.Proposed() {
		t.Fatalf("a proposal of last week counted: %+v", a)
	}
	if a := propose(author); a.Proposed() || a.Second != second || a.By != author {
		t.Fatalf("two persons were not enough: %+v", a)
	}
	history, err := w.reg.PolicyHistory(t.Context(), 0)
	w.must(err)
	if len(history) != 1 {
		t.Fatalf("the proposal stays: %+v", history)
	}
}

func TestOldPolicyVersionsGo(t *testing.T) {
	w := newWorld(t)
	for n := range 203 {
		_, err := w.reg.PutPolicy(t.Context(), author, version(n), []byte("files"))
		w.must(err)
		if n == 0 {
			_, _, err := w.reg.ActivatePolicy(t.Context(), author, version(n).Digest, "")
			w.must(err)
		}
		w.pass(time.Second)
	}
	all, err := w.reg.Policies(t.Context())
	w.must(err)
	if len(all) != 200 || all[0].Digest != version(0).Digest || all[1].Digest != version(4).Digest {
		t.Fatalf("%d versions, the first %s and %s", len(all), all[0].Digest, all[1].Digest)
	}
}

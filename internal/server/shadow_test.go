package server

import (
	"context"
	"log/slog"
	"strings"
	"testing"
	"time"

	"postern/internal/policy"
	"postern/internal/registry"
	"postern/internal/registry/registrytest"
	"postern/internal/trust"
)

var testAuthor = trust.Principal{Kind: "token", Name: "author", Role: trust.PolicyAuthor}

// stored keeps files as a version, as the admin API does.
func stored(t *testing.T, reg *registry.Registry, files policy.Files) string {
	t.Helper()
	digest, err := files.Digest(false)
	if err != nil {
		t.Fatal(err)
	}
	packed, err := files.Pack()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := reg.PutPolicy(t.Context(), testAuthor, registry.PolicyVersion{Digest: digest, Source: "api"}, packed); err != nil {
		t.Fatal(err)
	}
	return digest
}

// follows runs a keeper of shadows until the test ends, or until what it returns is called.
func follows(t *testing.T, reg *registry.Registry, active *policy.Active) (k *shadowKeeper, stop func()) {
	t.Helper()
	k = &shadowKeeper{registry: reg, active: active, now: time.Now, log: slog.New(slog.DiscardHandler)}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); _ = k.run(ctx) }()
	stop = func() { cancel(); <-done }
	t.Cleanup(stop)
	return k, stop
}

func TestShadowIsFollowed(t *testing.T) {
	reg := registry.New(registrytest.Store(t), time.Now, slog.New(slog.DiscardHandler))
	active := keeper(t, Policy{}, reg).active
	_, stop := follows(t, reg, active)
	builtin := active.Load().Digest()
	rule := func(name string) policy.Files {
		return policy.Files{"team.rego": []byte("package postern.access.team.rule\n\ndeny contains \"" + name + "\" if input.claimed.device_id == \"x\"\n")}
	}
	first, second := stored(t, reg, rule("first")), stored(t, reg, rule("second"))
	shadow := func() string {
		if s := active.Shadow(); s != nil {
			return s.Policy()
		}
		return ""
	}
	start := func(digest string) {
		t.Helper()
		if _, _, err := reg.ShadowPolicy(t.Context(), testAuthor, digest, ""); err != nil {
			t.Fatal(err)
		}
	}
	ask := func() {
		t.Helper()
		in := policy.AccessInput{Now: time.Now().Unix(), Request: policy.RequestFacts{Class: "command", Protocol: "eas", Command: "sync", Version: 161}, Claimed: policy.ClaimedFacts{DeviceID: "x"}}
		if d, err := active.Load().Access(t.Context(), &in); err != nil || d.Action != trust.Deny || d.Policy != active.Load().Digest() {
			t.Fatalf("%+v, %v", d, err)
		}
	}
	start(first)
	eventually(t, "the version decides in shadow", func() bool { return shadow() == first })
	ask()
	eventually(t, "its differences are found", func() bool {
		r := active.Shadow().Report()
		return r.Changed == 1 && r.Rules[0].Code == "first" && r.Against == builtin
	})
	start(second)
	eventually(t, "another one takes its place", func() bool { return shadow() == second })

	// It is there again after a restart.
	stop()
	if shadow() != "" {
		t.Fatal("the shadow goes on after its end")
	}
	_, _ = follows(t, reg, active)
	eventually(t, "the shadow is there after a restart", func() bool { return shadow() == second })

	// Its coming into force is its end.
	if _, _, err := reg.ActivatePolicy(t.Context(), testAuthor, second, ""); err != nil {
		t.Fatal(err)
	}
	eventually(t, "it is in force", func() bool { return active.Load().Digest() == second && shadow() == "" })
	start(first)
	eventually(t, "it decides beside the new one", func() bool { return shadow() == first && active.Shadow().Report().Against == second })
	if _, err := reg.EndPolicyShadow(t.Context(), testAuthor); err != nil {
		t.Fatal(err)
	}
	eventually(t, "it is ended", func() bool { return shadow() == "" })
	ask()
}

// A version that this program does not accept decides nowhere, and is told.
func TestShadowThatIsNotAccepted(t *testing.T) {
	reg := registry.New(registrytest.Store(t), time.Now, slog.New(slog.DiscardHandler))
	k, _ := follows(t, reg, keeper(t, Policy{}, reg).active)
	digest := stored(t, reg, policy.Files{"team.rego": []byte("package postern.access.team.rule\n\ndeny contains \"x\" if input.claimed.device_ib == \"x\"\n")})
	if _, _, err := reg.ShadowPolicy(t.Context(), testAuthor, digest, ""); err != nil {
		t.Fatal(err)
	}
	eventually(t, "a warning", func() bool {
		w := k.warnings()
		return len(w) == 1 && strings.Contains(w[0], "did you mean device_id")
	})
	if _, err := reg.EndPolicyShadow(t.Context(), testAuthor); err != nil {
		t.Fatal(err)
	}
	eventually(t, "no warning", func() bool { return len(k.warnings()) == 0 })
}

package server

import (
	"context"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"postern/internal/policy"
	"postern/internal/registry"
	"postern/internal/registry/registrytest"
)

// bundleServer serves one archive at a time, with an ETag, as bundle servers do.
type bundleServer struct {
	*httptest.Server
	files atomic.Pointer[policy.Files]
	gone  atomic.Bool
	full  atomic.Int64 // answers with a body
	same  atomic.Int64 // answers 304
}

func serveBundles(t *testing.T) *bundleServer {
	t.Helper()
	b := &bundleServer{}
	b.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if b.gone.Load() {
			http.Error(w, "gone", http.StatusBadGateway)
			return
		}
		packed, err := b.files.Load().Pack() // without a manifest and signature it is a bundle too
		if err != nil {
			t.Error(err)
		}
		digest, err := b.files.Load().Digest(false)
		if err != nil {
			t.Error(err)
		}
		w.Header().Set("ETag", `"`+digest+`"`)
		if r.Header.Get("If-None-Match") == `"`+digest+`"` {
			b.same.Add(1)
			w.WriteHeader(http.StatusNotModified)
			return
		}
		b.full.Add(1)
		_, _ = w.Write(packed)
	}))
	t.Cleanup(b.Close)
	return b
}

func (b *bundleServer) put(device string) {
	b.files.Store(&policy.Files{"postern/team.rego": []byte("package postern.access.team.rule\n\ndeny contains \"no_mail\" if input.claimed.device_id == \"" + device + "\"\n")})
}

// Health may be asked before the first policy is open.
func TestProblemsBeforeTheFirstPolicy(t *testing.T) {
	k, err := newPolicyKeeper(Policy{}, registry.New(registrytest.Store(t), time.Now, slog.New(slog.DiscardHandler)), time.Now, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	k.unreachable(t.Context(), context.DeadlineExceeded)
	if said := k.problems(); len(said) != 0 {
		t.Errorf("%q", said)
	}
	if _, err := k.open(t.Context()); err != nil {
		t.Fatal(err)
	}
	if said := k.problems(); len(said) != 1 {
		t.Errorf("%q", said)
	}
}

// keeper opens a keeper on a registry, and runs it until the test ends.
func keeper(t *testing.T, cfg Policy, reg *registry.Registry) *policyKeeper {
	t.Helper()
	k, err := newPolicyKeeper(cfg, reg, time.Now, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := k.open(t.Context()); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); _ = k.run(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
	return k
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !ok(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%s: still not so", what)
		}
	}
}

func TestBundleServerIsFollowed(t *testing.T) {
	reg := registry.New(registrytest.Store(t), time.Now, slog.New(slog.DiscardHandler))
	b := serveBundles(t)
	b.put("first")
	cfg := Policy{Bundle: &BundleSection{URL: b.URL + "/bundle.tar.gz", Every: Duration(50 * time.Millisecond), Unsigned: true}}
	k := keeper(t, cfg, reg)
	first := k.active.Load().Digest()
	eventually(t, "the server is asked with the ETag", func() bool { return b.same.Load() > 2 })
	if n := b.full.Load(); n != 1 {
		t.Errorf("the bundle was served %d times, and changed never", n)
	}
	b.put("second")
	eventually(t, "an update is taken up", func() bool { return k.active.Load().Digest() != first })
	second := k.active.Load().Digest()

	// A bundle that is not accepted leaves the old one, and is not forgotten while the server says that it has no other.
	b.files.Store(&policy.Files{"postern/team.rego": []byte("package postern.access\n\nproved := \"managed_profile\" if input.now > 0\n")})
	eventually(t, "a bundle that widens is refused", func() bool { return len(k.problems()) > 0 })
	time.Sleep(200 * time.Millisecond)
	if p := k.problems(); len(p) != 1 || !strings.Contains(p[0], "not a team package") || k.active.Load().Digest() != second {
		t.Fatalf("in force is %s, problems %q", k.active.Load().Digest(), p)
	}
	b.gone.Store(true)
	eventually(t, "the server is gone", func() bool { return len(k.problems()) == 2 })
	b.put("second")
	b.gone.Store(false)
	eventually(t, "all is well again", func() bool { return len(k.problems()) == 0 && k.active.Load().Digest() == second })

	// The server is away when the process starts: what it served last is in the registry.
	b.gone.Store(true)
	if got := keeper(t, cfg, reg).active.Load().Digest(); got != second {
		t.Errorf("a restart without the server has %s in force, not %s", got, second)
	}
	history, err := reg.PolicyHistory(t.Context(), 0)
	if err != nil || len(history) != 2 || history[0].Digest != second || history[0].By.Name != "policy bundle" {
		t.Errorf("history %+v, %v", history, err)
	}
}

// Nobody is let in by the built-in policies alone because the team's could not be fetched.
func TestNothingStartsWithoutTheTeamsPolicy(t *testing.T) {
	b := serveBundles(t)
	b.gone.Store(true)
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "team.rego"), []byte("package x\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, cfg := range map[string]Policy{
		"a bundle server that is away":    {Bundle: &BundleSection{URL: b.URL, Every: Duration(time.Minute), Unsigned: true}},
		"a directory that is not there":   {Path: filepath.Join(dir, "missing")},
		"a directory that is not allowed": {Path: dir},
		"an empty directory":              {Path: t.TempDir()},
	} {
		k, err := newPolicyKeeper(cfg, registry.New(registrytest.Store(t), time.Now, slog.New(slog.DiscardHandler)), time.Now, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := k.open(t.Context()); err == nil {
			t.Errorf("%s: it starts", name)
		}
	}
}

// A directory that is empty for a while, as one that is being replaced, leaves the policy before in force.
func TestEmptiedDirectory(t *testing.T) {
	dir := t.TempDir()
	name := filepath.Join(dir, "team.rego")
	if err := os.WriteFile(name, []byte("package postern.access.team.rule\n\ndeny contains \"no_mail\" if input.claimed.device_id == \"x\"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	k, err := newPolicyKeeper(Policy{Path: dir}, registry.New(registrytest.Store(t), time.Now, slog.New(slog.DiscardHandler)), time.Now, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := k.open(t.Context()); err != nil {
		t.Fatal(err)
	}
	first := k.active.Load().Digest()
	if err := os.Remove(name); err != nil {
		t.Fatal(err)
	}
	k.look(t.Context())
	if said := k.problems(); k.active.Load().Digest() != first || len(said) != 1 || !strings.Contains(said[0], "holds neither policies nor data") {
		t.Errorf("in force is %s, problems %q", k.active.Load().Digest(), said)
	}
}

func TestPolicySections(t *testing.T) {
	for name, c := range map[string]struct {
		section PolicySection
		want    string
	}{
		"two sources":         {PolicySection{Path: "p", Bundle: &BundleSection{URL: "https://x/y", KeyFile: "k"}}, "beside policy.path"},
		"plain http":          {PolicySection{Bundle: &BundleSection{URL: "http://x/y", KeyFile: "k"}}, "policy.bundle.url"},
		"no key":              {PolicySection{Bundle: &BundleSection{URL: "https://x/y"}}, "policy.bundle.key_file"},
		"a key, and unsigned": {PolicySection{Bundle: &BundleSection{URL: "https://x/y", KeyFile: "k", Unsigned: true}}, "policy.bundle.unsigned"},
		"too often":           {PolicySection{Bundle: &BundleSection{URL: "https://x/y", KeyFile: "k", Every: 1}}, "policy.bundle.every"},
		"two persons, a path": {PolicySection{Path: "p", TwoPersons: true}, "policy.two_persons"},
		"fine":                {PolicySection{Bundle: &BundleSection{URL: "https://x/y", KeyFile: "k"}}, ""},
	} {
		var p problems
		c.section.validate(func(s string) string { return s }, &p)
		text := ""
		for _, err := range p {
			text += err.Error()
		}
		if c.want == "" && text != "" || !strings.Contains(text, c.want) {
			t.Errorf("%s: %q, want %q", name, text, c.want)
		}
	}
}

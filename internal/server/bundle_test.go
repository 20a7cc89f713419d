package server

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"io"
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

// tarball makes a gzipped tar archive of names and contents.
func tarball(t *testing.T, pairs ...string) []byte {
	t.Helper()
	var out bytes.Buffer
	zip := gzip.NewWriter(&out)
	w := tar.NewWriter(zip)
	for i := 0; i < len(pairs); i += 2 {
		if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: pairs[i], Size: int64(len(pairs[i+1])), Mode: 0o644}); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, pairs[i+1]); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if err := zip.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// Whatever a bundle server answers, the policy before stays in force, what is wrong is said, and when it is over, it is over.
func TestHostileBundleServers(t *testing.T) {
	const rule = "package postern.access.team.rule\n\ndeny contains \"no_mail\" if input.claimed.device_id == \"x\"\n"
	good := tarball(t, "team.rego", rule)
	elsewhere := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		t.Errorf("who was pointed to was asked, with the token %q", r.Header.Get("Authorization"))
		_, _ = w.Write(tarball(t, "team.rego", strings.ReplaceAll(rule, "\"x\"", "\"y\"")))
	}))
	defer elsewhere.Close()
	bytesOf := func(raw []byte) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(raw) }
	}
	redirect := func(code int, to string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, to, code) }
	}
	endless := func(pause time.Duration) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			for r.Context().Err() == nil {
				if _, err := w.Write(make([]byte, 1<<16)); err != nil {
					return
				}
				_ = http.NewResponseController(w).Flush()
				time.Sleep(pause)
			}
		}
	}
	var answer atomic.Pointer[http.HandlerFunc]
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { (*answer.Load())(w, r) }))
	defer server.Close()
	set := func(h http.HandlerFunc) { answer.Store(&h) }
	set(bytesOf(good))
	token := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(token, []byte("secret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	k, err := newPolicyKeeper(Policy{Bundle: &BundleSection{URL: server.URL + "/b.tar.gz?key=hidden", Every: Duration(time.Minute), Unsigned: true, TokenFile: token}},
		registry.New(registrytest.Store(t), time.Now, slog.New(slog.DiscardHandler)), time.Now, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	k.bundle.client.Timeout = 2 * time.Second
	if _, err := k.open(t.Context()); err != nil {
		t.Fatal(err)
	}
	first := k.active.Load().Digest()
	for name, c := range map[string]struct {
		answer http.HandlerFunc
		says   string
	}{
		"another host":       {redirect(http.StatusFound, elsewhere.URL+"/b.tar.gz?sig=secret"), "answered 302 Found and points to " + elsewhere.URL + "/b.tar.gz, where nobody was asked"},
		"for good":           {redirect(http.StatusPermanentRedirect, elsewhere.URL), "write it into policy.bundle.url"},
		"plain http":         {redirect(http.StatusMovedPermanently, "http://policies.contoso.com/"), "points to http://policies.contoso.com/"},
		"itself":             {redirect(http.StatusFound, "/b.tar.gz"), "answered 302"},
		"no place":           {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusFound) }, "answered 302"},
		"without right":      {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusForbidden) }, "look at policy.bundle.token_file"},
		"nothing there":      {http.NotFound, "look at policy.bundle.url"},
		"an empty body":      {bytesOf(nil), "no gzipped archive"},
		"a page":             {bytesOf([]byte("<html>sign in</html>")), "no gzipped archive"},
		"an endless body":    {endless(0), "larger than"},
		"an endless trickle": {endless(100 * time.Millisecond), "Timeout"},
		"less than it says": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "100000")
			_, _ = w.Write(good)
		}, "unexpected EOF"},
		"half of it":        {bytesOf(good[:len(good)/2]), "unexpected EOF"},
		"a gzip bomb":       {bytesOf(tarball(t, "data.json", strings.Repeat(" ", 17<<20))), "unpacks to more than"},
		"Wasm":              {bytesOf(tarball(t, "team.rego", rule, "policy.wasm", "\x00asm\x01\x00\x00\x00")), "policy.wasm is a compiled policy"},
		"a delta":           {bytesOf(tarball(t, "patch.json", `{"data": [{"op": "upsert", "path": "/groups", "value": {}}]}`)), "a delta bundle"},
		"a file twice":      {bytesOf(tarball(t, "team.rego", rule, "team.rego", strings.ReplaceAll(rule, "\"x\"", "\"y\""))), "team.rego is in it twice"},
		"a name above":      {bytesOf(tarball(t, "../team.rego", rule)), "is not the name of a file below"},
		"a key twice":       {bytesOf(tarball(t, "team.rego", rule, "data.json", `{"groups": {}, "groups": {"pilot": []}}`)), "data.json:1:16: groups is said twice"},
		"what does not fit": {bytesOf(tarball(t, "team.rego", "package postern.access\n\nproved := \"managed_profile\" if input.now > 0\n")), "not a team package"},
	} {
		t.Run(name, func(t *testing.T) {
			set(c.answer)
			k.look(t.Context())
			if said := strings.Join(k.problems(), "\n"); !strings.Contains(said, c.says) || strings.Contains(said, "secret") || strings.Contains(said, "hidden") {
				t.Errorf("want %q, have %s", c.says, said)
			}
			if k.active.Load().Digest() != first {
				t.Fatalf("%s is in force", k.active.Load().Digest())
			}
			set(bytesOf(good))
			if k.look(t.Context()); len(k.problems()) > 0 {
				t.Errorf("still %q", k.problems())
			}
		})
	}
}

// A store that says of an archive that its encoding is gzip serves the archive.
func TestBundleWithContentEncoding(t *testing.T) {
	raw := tarball(t, "team.rego", "package postern.access.team.rule\n\ndeny contains \"no_mail\" if input.claimed.device_id == \"x\"\n")
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Encoding", "gzip")
		_, _ = w.Write(raw)
	}))
	defer server.Close()
	b, err := newBundleSource(BundleSection{URL: server.URL, Unsigned: true})
	if err != nil {
		t.Fatal(err)
	}
	var files policy.Files
	if files, err = b.fetch(context.Background()); err != nil || len(files) != 1 {
		t.Errorf("%v, %v", files, err)
	}
}

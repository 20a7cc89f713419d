package policy_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io"
	"maps"
	"strings"
	"testing"

	"github.com/open-policy-agent/opa/v1/bundle"

	"postern/internal/policy"
)

const sunday = "package postern.access.team.sunday\n\ndeny contains \"no_mail_on_sunday\" if input.claimed.device_id == \"sunday\"\n"

func TestFilesArePackedAlwaysTheSame(t *testing.T) {
	files := policy.Files{"team.rego": []byte(sunday), "data/groups.yaml": []byte("groups: {}\n"), "empty.yaml": {}}
	first, err := files.Pack()
	if err != nil {
		t.Fatal(err)
	}
	again, err := maps.Clone(files).Pack()
	if err != nil || !bytes.Equal(first, again) {
		t.Fatalf("packed twice: %v", err)
	}
	back, err := policy.Unpack(first)
	if err != nil {
		t.Fatal(err)
	}
	if len(back) != len(files) || string(back["team.rego"]) != sunday {
		t.Fatalf("unpacked: %q", back)
	}
	a, err := files.Digest(false)
	if err != nil {
		t.Fatal(err)
	}
	b, err := back.Digest(false)
	if err != nil || a != b {
		t.Fatalf("digests %s and %s, %v", a, b, err)
	}
	e, err := policy.Load(t.Context(), policy.Options{Files: files})
	if err != nil || e.Digest() != a {
		t.Fatalf("the engine says %v, %v", e, err)
	}
}

// archive makes a gzipped tar archive of one file, however it is called.
func archive(t testing.TB, name string, size int, kind byte) []byte {
	t.Helper()
	var out bytes.Buffer
	zip := gzip.NewWriter(&out)
	w := tar.NewWriter(zip)
	if err := w.WriteHeader(&tar.Header{Typeflag: kind, Name: name, Size: int64(size), Mode: 0o644}); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(make([]byte, size)); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if err := zip.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func TestUnpackRefuses(t *testing.T) {
	for name, packed := range map[string][]byte{
		"nothing":          nil,
		"no archive":       []byte("package x"),
		"above":            archive(t, "../team.rego", 1, tar.TypeReg),
		"absolute":         archive(t, "/etc/team.rego", 1, tar.TypeReg),
		"built-in":         archive(t, "builtin/access.rego", 1, tar.TypeReg),
		"a link":           archive(t, "team.rego", 0, tar.TypeSymlink),
		"a large file":     archive(t, "team.rego", 1<<20+1, tar.TypeReg),
		"a larger archive": make([]byte, policy.MaxPacked+1),
	} {
		if files, err := policy.Unpack(packed); err == nil {
			t.Errorf("%s: accepted %v", name, files)
		}
	}
}

// team is a bundle as a bundle server has it; change may spoil it after it was signed.
func team(t testing.TB, key string, change func(*bundle.Bundle)) []byte {
	t.Helper()
	b := bundle.Bundle{Data: map[string]any{"groups": map[string]any{"pilots": []any{"alice@contoso.com"}}},
		Modules: []bundle.ModuleFile{{URL: "/postern/team.rego", Path: "/postern/team.rego", Raw: []byte(sunday)}}}
	b.Manifest.Init()
	if key != "" {
		if err := b.GenerateSignature(bundle.NewSigningConfig(key, "ES256", ""), "default", false); err != nil {
			t.Fatal(err)
		}
	}
	if change != nil {
		change(&b)
	}
	var out bytes.Buffer
	if err := bundle.NewWriter(&out).DisableFormat(true).Write(b); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// with adds a file to the end of an archive, whatever is in it already.
func with(t testing.TB, archive []byte, name, content string) []byte {
	t.Helper()
	var out bytes.Buffer
	zip := gzip.NewWriter(&out)
	w := tar.NewWriter(zip)
	add := func(h *tar.Header, content io.Reader) {
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := io.Copy(w, content); err != nil {
			t.Fatal(err)
		}
	}
	if archive != nil {
		old, err := gzip.NewReader(bytes.NewReader(archive))
		if err != nil {
			t.Fatal(err)
		}
		add(&tar.Header{Typeflag: tar.TypeDir, Name: "postern/", Mode: 0o755}, strings.NewReader(""))
		r := tar.NewReader(old)
		for h, err := r.Next(); err == nil; h, err = r.Next() {
			add(h, r)
		}
	}
	add(&tar.Header{Typeflag: tar.TypeReg, Name: name, Size: int64(len(content)), Mode: 0o644}, strings.NewReader(content))
	if err := errors.Join(w.Close(), zip.Close()); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// zeros is a small gzip stream of many zeros.
func zeros(t testing.TB, n int) []byte {
	t.Helper()
	var out bytes.Buffer
	zip := gzip.NewWriter(&out)
	if _, err := zip.Write(make([]byte, n)); err != nil {
		t.Fatal(err)
	}
	if err := zip.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func keyPair(t testing.TB) (private, public string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	open, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: secret})), string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: open}))
}

func TestBundles(t *testing.T) {
	private, public := keyPair(t)
	other, _ := keyPair(t)
	key := &policy.BundleKey{Algorithm: "ES256", Key: public}
	for name, c := range map[string]struct {
		raw  []byte
		key  *policy.BundleKey
		want string // in the error; empty for none
	}{
		"signed":            {team(t, private, nil), key, ""},
		"unsigned, allowed": {team(t, "", nil), nil, ""},
		"unsigned":          {team(t, "", nil), key, "signature"},
		"by somebody else":  {team(t, other, nil), key, "read bundle"},
		"changed after it": {team(t, private, func(b *bundle.Bundle) {
			b.Modules[0].Raw = []byte(strings.Replace(sunday, "sunday", "monday", 1))
		}), key, "read bundle"},
		"added to after it": {team(t, private, func(b *bundle.Bundle) {
			b.Modules = append(b.Modules, bundle.ModuleFile{URL: "/more.rego", Path: "/more.rego", Raw: []byte("package more\n")})
		}), key, "read bundle"},
		"compiled": {team(t, "", func(b *bundle.Bundle) {
			b.WasmModules = []bundle.WasmModuleFile{{URL: "/policy.wasm", Path: "/policy.wasm", Raw: []byte("\x00asm\x01\x00\x00\x00")}}
		}), nil, "read bundle"},
		"a plan": {team(t, "", func(b *bundle.Bundle) {
			b.PlanModules = []bundle.PlanModuleFile{{URL: "/plan.json", Path: "/plan.json", Raw: []byte("{}")}}
		}), nil, "plan.json is a compiled policy"},
		"Wasm of another name":   {archive(t, "lib/extra.wasm", 8, tar.TypeReg), nil, "lib/extra.wasm is a compiled policy, and what it does cannot be checked"},
		"a signed one with Wasm": {with(t, team(t, private, nil), "policy.wasm", "\x00asm"), key, "policy.wasm is a compiled policy"},
		"a delta":                {with(t, nil, "patch.json", `{"data": [{"op": "upsert", "path": "/groups/pilots", "value": []}]}`), nil, "it is a delta bundle"},
		"a signed delta":         {with(t, team(t, private, nil), "patch.json", `{"data": []}`), key, "it is a delta bundle"},
		"above":                  {with(t, team(t, "", nil), "../team.rego", sunday), nil, `"../team.rego" is not the name of a file below`},
		"far above":              {with(t, team(t, "", nil), "/../../etc/team.rego", sunday), nil, "is not the name of a file below"},
		"a detour":               {with(t, team(t, "", nil), "a/../builtin/access.rego", sunday), nil, "is not the name of a file below"},
		"for a built-in one":     {with(t, team(t, "", nil), "/builtin/access.rego", sunday), nil, "is not the name of a file below"},
		"data above":             {with(t, team(t, "", nil), "../../postern/config/access/data.json", "{}"), nil, "is not the name of a file below"},
		"a link":                 {archive(t, "team.rego", 0, tar.TypeSymlink), nil, `"team.rego" is no regular file`},
		"a hard link":            {archive(t, "team.rego", 0, tar.TypeLink), nil, "is no regular file"},
		"a policy twice":         {with(t, team(t, "", nil), "postern/team.rego", strings.Replace(sunday, "sunday", "monday", 1)), nil, "postern/team.rego is in it twice"},
		"a policy twice, apart":  {with(t, team(t, "", nil), "./postern/team.rego", sunday), nil, "postern/team.rego is in it twice"},
		"data twice":             {with(t, team(t, "", nil), "data.json", `{"groups": {}}`), nil, "data.json is in it twice"},
		"a key twice":            {with(t, nil, "groups/data.json", "{\"pilots\": [],\n\"pilots\": [\"x\"]}"), nil, "groups/data.json:2:1: pilots is said twice"},
		"a key twice in YAML":    {with(t, nil, "data.yaml", "groups: {}\ngroups: {pilots: []}\n"), nil, "data.yaml"},
		"data nobody reads":      {with(t, team(t, "", nil), "groups.yaml", "groups: {}\n"), nil, "groups.yaml would not be read"},
		"a misnamed policy":      {with(t, team(t, "", nil), "team.reg", sunday), nil, "team.reg is neither a policy nor data"},
		"a bomb behind it":       {append(team(t, "", nil), zeros(t, 17<<20)...), nil, "unpacks to more"},
		"prose, and a directory": {with(t, team(t, "", nil), "postern/README.md", "# Ours\n"), nil, ""},
		"schemas for editors":    {with(t, team(t, "", nil), "schemas/access.json", "{}"), nil, ""},
		"no bundle":              {[]byte("hello"), key, "no gzipped archive"},
		"a large file":           {archive(t, "data.json", 17<<20, tar.TypeReg), nil, "unpacks to more"},
	} {
		t.Run(name, func(t *testing.T) {
			files, err := policy.ReadBundle(c.raw, c.key)
			if c.want != "" {
				if err == nil || !strings.Contains(err.Error(), c.want) {
					t.Fatalf("got %v and %v, want an error with %q", files, err, c.want)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			e, err := policy.Load(t.Context(), policy.Options{Files: files})
			if err != nil || e == nil {
				t.Fatalf("the bundle's policy is not accepted: %v", err)
			}
			if !strings.Contains(string(files["data.json"]), "pilots") {
				t.Fatalf("the data is lost: %q", files)
			}
		})
	}
}

// A bundle is confined like a directory: the library's loader would let it have what it likes.
func TestBundlesAreConfined(t *testing.T) {
	raw := team(t, "", func(b *bundle.Bundle) {
		b.Modules[0].Raw = []byte("package postern.access\n\nproved := \"managed_profile\" if input.now > 0\n")
	})
	files, err := policy.ReadBundle(raw, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := policy.Load(t.Context(), policy.Options{Files: files}); err == nil || !strings.Contains(err.Error(), "not a team package") {
		t.Fatalf("a bundle widened what is allowed: %v", err)
	}
	raw = team(t, "", func(b *bundle.Bundle) {
		b.Modules[0].Raw = []byte("package postern.access.team.x\n\ndeny contains \"x\" if http.send({\"url\": \"http://127.0.0.1/\", \"method\": \"GET\"}).status_code == 200\n")
	})
	if files, err = policy.ReadBundle(raw, nil); err == nil {
		_, err = policy.Load(t.Context(), policy.Options{Files: files})
	}
	if err == nil || !strings.Contains(err.Error(), "http.send") && !strings.Contains(err.Error(), "reach out") {
		t.Fatalf("a bundle may reach out: %v", err)
	}
}

func FuzzUnpack(f *testing.F) {
	packed, err := policy.Files{"team.rego": []byte(sunday)}.Pack()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(packed)
	f.Add(archive(f, "../x.rego", 3, tar.TypeReg))
	f.Fuzz(func(t *testing.T, packed []byte) {
		files, err := policy.Unpack(packed)
		if err != nil {
			return
		}
		for name := range files {
			if strings.HasPrefix(name, "/") || strings.HasPrefix(name, "../") || strings.HasPrefix(name, "builtin/") {
				t.Errorf("unpacked %q", name)
			}
		}
		if _, err := files.Pack(); err != nil {
			t.Errorf("packed again: %v", err)
		}
	})
}

func FuzzReadBundle(f *testing.F) {
	_, public := keyPair(f)
	f.Add(team(f, "", nil))
	f.Fuzz(func(_ *testing.T, raw []byte) {
		_, _ = policy.ReadBundle(raw, nil)
		_, _ = policy.ReadBundle(raw, &policy.BundleKey{Algorithm: "ES256", Key: public})
	})
}

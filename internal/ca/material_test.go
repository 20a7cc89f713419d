package ca_test

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"postern/internal/ca"
	"postern/internal/ca/catest"
	"postern/internal/trust"
)

func phrase(t testing.TB, s string) ca.Passphrase {
	t.Helper()
	p, err := ca.NewPassphrase(s)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

var quiet = slog.New(slog.DiscardHandler)

func TestCreateAndOpen(t *testing.T) {
	t.Parallel()
	dir, p := filepath.Join(t.TempDir(), "issuers", "contoso"), phrase(t, "correct horse")
	if err := ca.Create(dir, catest.Spec(), p, time.Now()); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(dir)
	if err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("directory: %v %v", info.Mode(), err)
	}
	files, err := os.ReadDir(dir)
	if err != nil || len(files) != 7 {
		t.Errorf("files: %v %v", files, err)
	}
	before := map[string]string{}
	for _, f := range files {
		data, err := os.ReadFile(filepath.Join(dir, f.Name()))
		if err != nil {
			t.Fatal(err)
		}
		before[f.Name()] = string(data)
		if info, _ := f.Info(); filepath.Ext(f.Name()) == ".key" && (info.Mode().Perm() != 0o600 || !strings.Contains(string(data), "BEGIN ENCRYPTED PRIVATE KEY")) {
			t.Errorf("%s: mode %v\n%s", f.Name(), info.Mode(), data)
		}
	}
	if err := ca.Create(dir, catest.Spec(), p, time.Now()); !errors.Is(err, fs.ErrExist) {
		t.Errorf("created twice: %v", err)
	}
	for name, data := range before {
		if now, err := os.ReadFile(filepath.Join(dir, name)); err != nil || string(now) != data {
			t.Errorf("%s changed: %v", name, err)
		}
	}
	if left, _ := filepath.Glob(filepath.Join(filepath.Dir(dir), ".new-*")); left != nil {
		t.Errorf("left behind: %v", left)
	}
	i, err := ca.Open(dir, catest.Spec(), p, time.Now, quiet)
	if err != nil {
		t.Fatal(err)
	}
	issue(t, i, catest.Request(t, i, "alice@contoso.com", rsaKey(t, 2048)))
	if err := i.Close(); err != nil {
		t.Error(err)
	}
	if err := i.Close(); err != nil {
		t.Error(err)
	}
	openRefuses(t, dir, p)
}

// openRefuses tries what does not fit the keys in dir.
func openRefuses(t *testing.T, dir string, p ca.Passphrase) {
	t.Helper()
	if _, err := ca.Open(dir, catest.Spec(), phrase(t, "wrong"), time.Now, quiet); !errors.Is(err, ca.ErrPassphrase) {
		t.Errorf("wrong passphrase: %v", err)
	}
	m, err := ca.Load(dir, p)
	if err != nil {
		t.Fatal(err)
	}
	spec := catest.Spec()
	spec.ID = "fabrikam"
	if _, err := ca.New(spec, m, time.Now, quiet); err == nil || !strings.Contains(err.Error(), "not of issuer fabrikam") {
		t.Errorf("another id: %v", err)
	}
	for _, years := range []int{-1, 6, 11, 21} {
		if _, err := ca.New(catest.Spec(), m, func() time.Time { return time.Now().AddDate(years, 0, 0) }, quiet); err == nil {
			t.Errorf("opened %d years later", years)
		}
	}
	var out bytes.Buffer
	spec = catest.Spec()
	spec.URL, spec.Organization = "http://pki.contoso.com", "Contoso Ltd"
	i, err := ca.New(spec, m, time.Now, slog.New(slog.NewTextHandler(&out, nil)))
	if err != nil || strings.Count(out.String(), "level=WARN") != 4 { // three organizations and one URL
		t.Errorf("another URL: %v\n%s", err, &out)
	}
	_ = i.Close()
}

func TestOpenRefusesMixedKeys(t *testing.T) {
	t.Parallel()
	p := phrase(t, "x")
	one, two := filepath.Join(t.TempDir(), "one"), filepath.Join(t.TempDir(), "two")
	for _, dir := range []string{one, two} {
		if err := ca.Create(dir, catest.Spec(), p, time.Now()); err != nil {
			t.Fatal(err)
		}
	}
	swap := func(name string) {
		if err := os.Rename(filepath.Join(two, name), filepath.Join(one, name)); err != nil {
			t.Fatal(err)
		}
	}
	refused := func(want string) {
		t.Helper()
		if _, err := ca.Open(one, catest.Spec(), p, time.Now, quiet); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want %q: %v", want, err)
		}
	}
	swap("issuing.key")
	refused("issuing.key is not the key of issuing.crt")
	swap("issuing.crt")
	refused("was not issued by")
	if err := os.Chmod(filepath.Join(one, "root.key"), 0o640); err != nil {
		t.Fatal(err)
	}
	refused("mode 0640")
	if err := os.WriteFile(filepath.Join(one, "ra.crt"), []byte("nonsense"), 0o600); err != nil {
		t.Fatal(err)
	}
	refused("ra.crt: not certificates in PEM")
	if err := os.Remove(filepath.Join(one, "ra.key")); err != nil {
		t.Fatal(err)
	}
	if _, err := ca.Open(one, catest.Spec(), p, time.Now, quiet); err == nil {
		t.Error("opened without ra.key")
	}
}

func TestSpecCheck(t *testing.T) {
	t.Parallel()
	for what, change := range map[string]func(*ca.Spec){
		"id empty":       func(s *ca.Spec) { s.ID = "" },
		"id path":        func(s *ca.Spec) { s.ID = "../x" },
		"id upper":       func(s *ca.Spec) { s.ID = "Contoso" },
		"id reserved":    func(s *ca.Spec) { s.ID = "ocsp" },
		"id long":        func(s *ca.Spec) { s.ID = strings.Repeat("a", 33) },
		"no org":         func(s *ca.Spec) { s.Organization = "" },
		"org control":    func(s *ca.Spec) { s.Organization = "Con\ntoso" },
		"org NUL":        func(s *ca.Spec) { s.Organization = "Con\x00toso" },
		"org not UTF-8":  func(s *ca.Spec) { s.Organization = "Con\xfftoso" },
		"org long":       func(s *ca.Spec) { s.Organization = strings.Repeat("ü", 65) },
		"no domain":      func(s *ca.Spec) { s.Domains = nil },
		"domain upper":   func(s *ca.Spec) { s.Domains = []string{"Contoso.com"} },
		"domain star":    func(s *ca.Spec) { s.Domains = []string{"*.contoso.com"} },
		"url https":      func(s *ca.Spec) { s.URL = "https://pki.contoso.com" },
		"url slash":      func(s *ca.Spec) { s.URL = "http://pki.contoso.com/" },
		"url query":      func(s *ca.Spec) { s.URL = "http://pki.contoso.com?x=1" },
		"url user":       func(s *ca.Spec) { s.URL = "http://u:p@pki.contoso.com" },
		"url space":      func(s *ca.Spec) { s.URL = "http://pki.contoso.com/a b" },
		"url no host":    func(s *ca.Spec) { s.URL = "http:///x" },
		"url only port":  func(s *ca.Spec) { s.URL = "http://:80" },
		"url non-ASCII":  func(s *ca.Spec) { s.URL = "http://pki.contoso.com/ü" },
		"url new line":   func(s *ca.Spec) { s.URL = "http://pki.contoso.com/\n" },
		"url no scheme":  func(s *ca.Spec) { s.URL = "pki.contoso.com" },
		"url with quote": func(s *ca.Spec) { s.URL = `http://pki.contoso.com/"` },
	} {
		s := catest.Spec()
		change(&s)
		if err := s.Check(); !errors.Is(err, trust.ErrInvalid) {
			t.Errorf("%s: %v", what, err)
		}
	}
	s := catest.Spec()
	s.Organization = strings.Repeat("ü", 64)
	m, err := ca.Generate(s, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	i, err := ca.New(s, m, time.Now, quiet)
	if err != nil {
		t.Fatal(err)
	}
	if cn := i.Chain()[1].Subject.CommonName; cn != "contoso Device Root CA" {
		t.Errorf("common name %q", cn)
	}
}

func TestPassphraseIsNeverShown(t *testing.T) {
	t.Parallel()
	p := phrase(t, "hunter2hunter2\n")
	var out bytes.Buffer
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		fmt.Fprintf(&out, verb, p)
		fmt.Fprintf(&out, verb, struct{ P ca.Passphrase }{p})
		fmt.Fprintf(&out, verb, &p)
	}
	slog.New(slog.NewTextHandler(&out, nil)).Info("x", "p", p)
	slog.New(slog.NewJSONHandler(&out, nil)).Info("x", "p", p)
	if err := json.NewEncoder(&out).Encode(p); err != nil {
		t.Error(err)
	}
	if strings.Contains(out.String(), "hunter2") || strings.Contains(out.String(), "68756e746572") {
		t.Error(out.String())
	}
}

func TestLoadPassphrase(t *testing.T) {
	t.Parallel()
	env := map[string]string{}
	src := ca.PassphraseSource{Getenv: func(k string) string { return env[k] }, Data: t.TempDir()}
	if _, err := ca.LoadPassphrase(src); !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), ca.PassphraseEnv) {
		t.Errorf("nothing there: %v", err)
	}
	src.Generate = true
	first, err := ca.LoadPassphrase(src)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(src.Data, "passphrase")
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 || info.Size() != 45 {
		t.Errorf("%v %v", info, err)
	}
	if again, err := ca.LoadPassphrase(src); err != nil || again != first {
		t.Errorf("another one the second time: %v", err)
	}
	for _, mode := range []os.FileMode{0o640, 0o604, 0o620, 0o644} {
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		if _, err := ca.LoadPassphrase(src); err == nil || !strings.Contains(err.Error(), "chmod 600") {
			t.Errorf("mode %o: %v", mode, err)
		}
	}
	other := filepath.Join(t.TempDir(), "p")
	if err := os.WriteFile(other, []byte("from a file\r\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	env[ca.PassphraseFileEnv] = other
	if p, err := ca.LoadPassphrase(src); err != nil || p != phrase(t, "from a file") {
		t.Error(err)
	}
	env[ca.PassphraseEnv] = "from the environment"
	if p, err := ca.LoadPassphrase(src); err != nil || p != phrase(t, "from the environment") {
		t.Error(err)
	}
	delete(env, ca.PassphraseEnv)
	env[ca.PassphraseFileEnv] = t.TempDir()
	if _, err := ca.LoadPassphrase(src); err == nil {
		t.Error("a directory is a passphrase")
	}
	env[ca.PassphraseFileEnv] = filepath.Join(src.Data, "missing")
	if _, err := ca.LoadPassphrase(src); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("missing file that was named: %v", err)
	}
}

func TestServerCertificate(t *testing.T) {
	t.Parallel()
	i := catest.New(t)
	dir := t.TempDir()
	certFile, keyFile := filepath.Join(dir, "edge.pem"), filepath.Join(dir, "edge.key")
	if err := i.ServerCertificate(certFile, keyFile, "mail.contoso.com", "127.0.0.1"); err != nil {
		t.Fatal(err)
	}
	pair, err := tls.LoadX509KeyPair(certFile, keyFile)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(i.Chain()[1])
	for _, host := range []string{"mail.contoso.com", "127.0.0.1"} {
		if _, err := pair.Leaf.Verify(x509.VerifyOptions{Roots: roots, DNSName: host}); err != nil {
			t.Error(err)
		}
	}
	if _, err := pair.Leaf.Verify(x509.VerifyOptions{Roots: roots, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}); err == nil {
		t.Error("the server's certificate is a client certificate")
	}
	if info, err := os.Stat(keyFile); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v %v", info, err)
	}
	if err := i.ServerCertificate(certFile, keyFile, "mail.contoso.com"); !errors.Is(err, fs.ErrExist) {
		t.Errorf("written twice: %v", err)
	}
	if err := i.ServerCertificate(certFile, filepath.Join(dir, "other.key"), "mail.contoso.com"); !errors.Is(err, fs.ErrExist) {
		t.Errorf("certificate replaced: %v", err)
	}
	if _, err := os.Stat(filepath.Join(dir, "other.key")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a key without certificate was left: %v", err)
	}
	for _, hosts := range [][]string{nil, {""}, {"Mail.contoso.com"}, {"a b.com"}, {"x.test\x00.contoso.com"}} {
		if err := i.ServerCertificate(filepath.Join(dir, "x.pem"), filepath.Join(dir, "x.key"), hosts...); !errors.Is(err, trust.ErrInvalid) {
			t.Errorf("%q: %v", hosts, err)
		}
	}
}

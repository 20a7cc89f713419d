package server

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"
)

var update = flag.Bool("update", false, "write the example configuration anew")

const examplePath = "../../deploy/postern.example.yaml"

func TestExampleOfDeployIsWhatTheStructsSay(t *testing.T) {
	want, err := Complete().Write()
	if err != nil {
		t.Fatal(err)
	}
	if *update {
		if err := os.WriteFile(examplePath, want, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(examplePath)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s is out of date: run go test ./internal/server -update", examplePath)
	}
	f, err := Parse(got)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Validate("/etc/postern"); err != nil {
		t.Errorf("the example is not valid:\n%v", err)
	}
	if complete := Complete(); !reflect.DeepEqual(*f, complete) {
		t.Errorf("the example does not read back as written:\n%+v\n%+v", *f, complete)
	}
}

// TestExampleHasEveryKey fails when a key is added and the example does not show it.
func TestExampleHasEveryKey(t *testing.T) {
	var check func(v reflect.Value, path string)
	check = func(v reflect.Value, path string) {
		if v.Kind() == reflect.Pointer {
			if v.IsNil() {
				t.Errorf("%s is not in the example", path)
				return
			}
			v = v.Elem()
		}
		switch v.Kind() {
		case reflect.Struct:
			for i := range v.NumField() {
				check(v.Field(i), path+"."+strings.Split(v.Type().Field(i).Tag.Get("yaml"), ",")[0])
			}
		case reflect.Slice:
			if v.Len() == 0 {
				t.Errorf("%s is not in the example", path)
				return
			}
			check(v.Index(0), path)
		}
	}
	check(reflect.ValueOf(Complete()), "")
}

func TestUnreadableConfigurations(t *testing.T) {
	for name, c := range map[string]struct{ text, want string }{
		"unknown key":    {"data: x\nedge:\n  listn: y\n", "[3:3]"},
		"duplicate key":  {"data: x\ndata: y\n", "[2:1]"},
		"wrong type":     {"data: x\nissuers: 7\n", "[2:10]"},
		"alias":          {"data: &a x\npolicy: {path: *a}\n", "line 1, column"},
		"merge":          {"data: x\npublic:\n  <<: {listen: y}\n", "line 3"},
		"tag":            {"data: !!binary eA==\n", "line 1"},
		"empty":          {"", "empty"},
		"not YAML":       {"{]\x00", ""},
		"deep flow":      {"data: " + strings.Repeat("[", 5000), "nested deeper"},
		"deep with text": {"data: " + strings.Repeat(`["]",`, 5000), "nested deeper"},
		"deep block":     {"data:\n " + strings.Repeat("- ", 5000), "nested deeper"},
		"large":          {strings.Repeat("#", MaxConfig+1), "larger than"},
		"duration":       {"edge: {stale_limit: soon}\n", "duration"},
	} {
		t.Run(name, func(t *testing.T) {
			start := time.Now()
			f, err := Parse([]byte(c.text))
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("Parse = %+v, %v; want an error with %q", f, err, c.want)
			}
			if d := time.Since(start); d > 5*time.Second {
				t.Errorf("the refusal took %s", d)
			}
		})
	}
}

// TestValidateSaysEverythingAtOnce: an operator fixes a file once, not once per mistake.
func TestValidateSaysEverythingAtOnce(t *testing.T) {
	f := Complete()
	f.Data = ""
	f.Issuers = append(f.Issuers, f.Issuers[0])
	f.Issuers[0].Domains = []string{"not a domain"}
	f.Issuers[0].URL = "https://pki.contoso.com"
	f.Public.Listen = "8080"
	f.Public.Directory = "www" // data is empty: the directory of the file
	f.Edge.Upstream = "http://exchange.contoso.com"
	f.Edge.Hostname = "mail_contoso"
	f.Edge.OAuth = &OAuthSection{Authorize: "http://login.contoso.com/authorize", Token: "https://login.contoso.com", Resource: "mail", Destination: "",
		Scopes: []string{"a b"}}
	f.Edge.Hostnames = append(f.Edge.Hostnames, HostSection{Name: "autodiscover.contoso.com", Key: "a.key"})
	f.Edge.UpstreamHosts = []string{"outlook-cba.office365.com"}
	f.Edge.TrustedProxies = []string{"0.0.0.0/0"}
	f.Admin.TLS = nil
	f.Policy = &PolicySection{Replace: true}

	_, err := f.Validate("/etc/postern")
	if err == nil {
		t.Fatal("valid")
	}
	for _, want := range []string{"data:", "issuers[0].domains[0]:", "issuers[0].url:", "issuers[1].id:", "public.listen:", "public.directory:", "edge.upstream:", "edge.hostname:",
		"edge.oauth.authorize:", "edge.oauth.token:", "edge.oauth.resource:", "edge.oauth.destination_resource:", "edge.oauth.client_ids:", "edge.oauth.scopes[0]:",
		"edge.hostnames[1].name:", "edge.hostnames[1]:", "edge.upstream_hosts[0]:", "edge.trusted_proxies[0]:",
		"admin.tls:", "policy.replace:"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("no word about %s in:\n%v", want, err)
		}
	}
}

func TestPathsAreRelativeToTheFile(t *testing.T) {
	dir := t.TempDir()
	text, err := Example("contoso", "Contoso", "contoso.com").Write()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, ConfigName)
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
	cfg, err := ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if cfg.Data != filepath.Join(dir, "var") || cfg.Edge.Key != filepath.Join(dir, "edge.key") || cfg.Edge.StaleLimit != DefaultStaleLimit {
		t.Errorf("%+v %+v", cfg, cfg.Edge)
	}
	if _, err := ReadFile(filepath.Join(dir, "absent.yaml")); err == nil || !strings.Contains(err.Error(), "postern init") {
		t.Errorf("a missing file does not say what to do: %v", err)
	}
}

func FuzzParse(f *testing.F) {
	text, err := Complete().Write()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(text)
	f.Add([]byte("data: [[{{"))
	f.Add([]byte("- - - -\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		file, err := Parse(b)
		if err != nil {
			return
		}
		if cfg, err := file.Validate("/etc/postern"); err == nil && cfg.Data == "" {
			t.Error("a valid configuration without a data directory")
		}
	})
}

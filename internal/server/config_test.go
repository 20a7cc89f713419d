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

	"postern/internal/registry"
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

// An issuer at which nobody could enrol is refused, and so is what would make challenges that it does not take.
func TestChallengesOff(t *testing.T) {
	for name, c := range map[string]struct {
		issuer, rest string
		want         []string // keys of complaints; none: it is valid
	}{
		"left out":                 {},
		"on":                       {issuer: "challenges: true"},
		"off, nothing else":        {issuer: "challenges: false", want: []string{"issuers[0].challenges: false, and neither"}},
		"off, and Intune":          {issuer: "challenges: false, intune: {tenant: contoso.com, client: c, secret_file: s}"},
		"off, and a webhook":       {issuer: "challenges: false, webhook: {name: desk, url: https://desk.contoso.com/, secret_file: s}"},
		"off, and a page of NDES":  {issuer: "challenges: false, ndes: {user: mdm, password_file: p}", want: []string{"issuers[0].challenges: false, and neither", "issuers[0].ndes: gives out"}},
		"off, and Jamf beside it":  {issuer: "challenges: false, webhook: {name: desk, url: https://desk.contoso.com/, secret_file: s}, jamf: {user: jamf, password_file: p}", want: []string{"issuers[0].jamf: gives out"}},
		"off, and asked for again": {issuer: "challenges: false, webhook: {name: desk, url: https://desk.contoso.com/, secret_file: s}", rest: "renewal: {max_renewals: 3}", want: []string{"renewal.max_renewals: 3"}},
	} {
		t.Run(name, func(t *testing.T) {
			issuer := "id: contoso, organization: Contoso, domains: [contoso.com], url: http://pki.contoso.com"
			if c.issuer != "" {
				issuer += ", " + c.issuer
			}
			f, err := Parse([]byte("data: var\nissuers: [{" + issuer + "}]\npublic: {listen: ':80', https: {listen: ':443', certificate: c, key: k}}\n" + c.rest))
			if err != nil {
				t.Fatal(err)
			}
			cfg, err := f.Validate("/etc/postern")
			if err == nil && cfg.Issuers[0].NoChallenges != strings.Contains(c.issuer, "false") {
				t.Errorf("challenges off: %t", cfg.Issuers[0].NoChallenges)
			}
			if (err == nil) != (len(c.want) == 0) {
				t.Errorf("%v; want complaints %q", err, c.want)
			}
			for _, want := range c.want {
				if err != nil && !strings.Contains(err.Error(), want) {
					t.Errorf("no word of %q in:\n%v", want, err)
				}
			}
		})
	}
}

// Each key of the section of renewals arrives, and what cannot be meant is refused by its name.
func TestRenewalSection(t *testing.T) {
	defaults := registry.RenewalRules{MaxSilence: DefaultMaxSilence}
	for text, c := range map[string]struct {
		rules registry.RenewalRules
		want  string // in the complaint; "" for none
	}{
		"":                              {rules: defaults},
		"renewal: {}":                   {rules: registry.RenewalRules{}},
		"renewal: {window: 720h}":       {rules: registry.RenewalRules{Window: 720 * time.Hour}},
		"renewal: {window: 0s}":         {rules: registry.RenewalRules{}},
		"renewal: {max_renewals: 10}":   {rules: registry.RenewalRules{MaxRenewals: 10}},
		"renewal: {max_silence: 48h}":   {rules: registry.RenewalRules{MaxSilence: 48 * time.Hour}},
		"renewal: {max_silence: 0s}":    {rules: registry.RenewalRules{}},
		"renewal: {window: -1s}":        {want: "renewal.window: -1s"},
		"renewal: {window: 100000h}":    {want: "renewal.window: 100000h"},
		"renewal: {max_renewals: -1}":   {want: "renewal.max_renewals: -1"},
		"renewal: {max_renewals: 1e6}":  {want: "max_renewals"},
		"renewal: {max_renewals: 1001}": {want: "renewal.max_renewals: 1001"},
		"renewal: {max_silence: -48h}":  {want: "renewal.max_silence: -48h"},
		"renewal: {max_silence: week}":  {want: "week"},
		"renewal: {windw: 720h}":        {want: "windw"},
		"renewal: {window: 720h, max_renewals: 3, max_silence: 24h}": {rules: registry.RenewalRules{Window: 720 * time.Hour, MaxRenewals: 3, MaxSilence: 24 * time.Hour}},
	} {
		f, err := Parse([]byte("data: var\nadmin: {listen: '127.0.0.1:9000'}\n" + text))
		var cfg *Config
		if err == nil {
			cfg, err = f.Validate("/etc/postern")
		}
		switch {
		case c.want == "" && err != nil, c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)):
			t.Errorf("%q: %v; want %q", text, err, c.want)
		case err == nil && cfg.Renewal != c.rules:
			t.Errorf("%q: %+v", text, cfg.Renewal)
		}
	}
}

func TestRevocationSection(t *testing.T) {
	for text, c := range map[string]struct {
		rules registry.RevocationRules
		want  string // in the complaint; "" for none
	}{
		"":                                {},
		"revocation: {}":                  {},
		"revocation: {two_persons: 0}":    {},
		"revocation: {two_persons: 20}":   {rules: registry.RevocationRules{TwoPersons: 20}},
		"revocation: {two_persons: -1}":   {want: "revocation.two_persons: -1"},
		"revocation: {two_persons: 1e9}":  {want: "two_persons"},
		"revocation: {two_persons: true}": {want: "two_persons"},
		"revocation: {two_person: 20}":    {want: "two_person"},
	} {
		f, err := Parse([]byte("data: var\nadmin: {listen: '127.0.0.1:9000'}\n" + text))
		var cfg *Config
		if err == nil {
			cfg, err = f.Validate("/etc/postern")
		}
		switch {
		case c.want == "" && err != nil, c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)):
			t.Errorf("%q: %v; want %q", text, err, c.want)
		case err == nil && cfg.Revocation != c.rules:
			t.Errorf("%q: %+v", text, cfg.Revocation)
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

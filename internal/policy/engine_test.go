package policy

import (
	"encoding/json"
	"errors"
	"flag"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"

	"postern/internal/trust"
	"postern/policies"
)

var update = flag.Bool("update", false, "write policies/schemas again from the Go structs")

// patient is a limit that a busy machine does not reach.
const patient = 10 * time.Second

func mustLoad(t testing.TB, o Options) *Engine {
	t.Helper()
	if o.Timeout == 0 {
		o.Timeout = patient
	}
	e, err := Load(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// dir writes files into a new policy directory.
func dir(t testing.TB, files map[string]string) string {
	t.Helper()
	root := t.TempDir()
	for name, content := range files {
		p := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(p, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

func codes(reasons []trust.Reason) string {
	var list []string
	for _, r := range reasons {
		list = append(list, r.Code)
	}
	return strings.Join(list, " ")
}

func TestSamples(t *testing.T) {
	e := mustLoad(t, Options{})
	want := map[string]string{
		"managed":                       "allow managed_profile ",
		"discovery":                     "allow discovery ",
		"unmanaged":                     "deny  no_certificate unmanaged_device",
		"duplicate_without_certificate": "deny  duplicate_profile_without_certificate no_certificate",
		"duplicate_second_device_id":    "quarantine  duplicate_profile_second_device_id",
		"revoked":                       "deny  certificate_revoked",
		"superseded":                    "allow managed_profile ",
		"another_user":                  "deny  owner_mismatch",
		"unknown_client":                "allow managed_profile unknown_client",
		"silent":                        "deny  device_silent",
		"excepted":                      "allow exception exception",
		"token":                         "deny  no_certificate",
		"sign_in":                       "allow sign_in ",
		"basic":                         "allow managed_profile ",
	}
	for _, s := range accessSamples() {
		d, err := e.Access(t.Context(), &s.in)
		if got := string(d.Action) + " " + d.Rule + " " + codes(d.Reasons); err != nil || got != want[s.name] {
			t.Errorf("%s: %q, %v, want %q", s.name, got, err, want[s.name])
		}
		if d.Policy != e.Digest() {
			t.Errorf("%s: policy %q, want %q", s.name, d.Policy, e.Digest())
		}
		for _, r := range d.Reasons {
			if r.Text == "" || r.Remedy == "" || strings.ContainsAny(r.Text+r.Remedy, "{}") || len(r.Facts) == 0 {
				t.Errorf("%s: reason %+v is not told", s.name, r)
			}
			t.Logf("%s: %s %s", s.name, r.Text, r.Remedy)
		}
	}
	wantEnroll := map[string]string{"enrol": "allow enrolment device ", "renew": "allow renewal device ", "names_another": "deny   names_another_user", "weak_key": "deny   weak_key",
		"excepted": "allow exception device exception"}
	for _, s := range enrollSamples() {
		d, err := e.Enroll(t.Context(), &s.in)
		if got := string(d.Action) + " " + d.Rule + " " + d.Profile + " " + codes(d.Reasons); err != nil || got != wantEnroll[s.name] {
			t.Errorf("%s: %q, %v, want %q", s.name, got, err, wantEnroll[s.name])
		}
	}
}

func TestValidUntil(t *testing.T) {
	e := mustLoad(t, Options{})
	for _, s := range accessSamples() {
		var want int64
		switch s.name {
		case "managed":
			want = s.in.Certificate.NotAfter
		case "superseded":
			want = s.in.Certificate.SuccessorFirstUse + 72*3600
		case "duplicate_second_device_id":
			want = s.in.Duplicate.OtherLastSeen + 14*86400 + 1
		case "token":
			want = s.in.AssuranceUntil
		case "unmanaged", "discovery", "sign_in":
		default:
			continue
		}
		d, err := e.Access(t.Context(), &s.in)
		if err != nil || d.ValidUntil != want {
			t.Errorf("%s: valid until %d, %v, want %d", s.name, d.ValidUntil, err, want)
		}
	}
}

// TestInputEqualsJSON keeps the hand-written builder and the contract's JSON the same.
func TestInputEqualsJSON(t *testing.T) {
	full := managedSample()
	full.Duplicate = DuplicateFacts{true, "d", "o", 1 << 40, 2, true, true}
	full.Request.Zones, full.Owner.Groups = map[string]bool{"office": true}, map[string]bool{"pilot": true}
	full.Ticket, full.AssuranceUntil = TicketFacts{"live", "i", "d"}, 1<<41
	full.Snapshot.Behind, full.Profile.Linked, full.Certificate.SuccessorFirstUse = 3, true, 4
	enrol, device := enrollSamples()[1].in, lifecycleSamples()[0].in
	enrol.Owner.Groups, device.Owner.Groups = map[string]bool{"pilot": true}, map[string]bool{"pilot": true}
	device.Exceptions = granted(5, "a", "b")
	full.Exceptions = device.Exceptions
	for _, c := range []struct {
		in    any
		value *ast.Term
	}{{full, full.value()}, {enrol, enrol.value()}, {device, device.value()}} {
		text, err := json.Marshal(c.in)
		if err != nil {
			t.Fatal(err)
		}
		want, err := ast.ValueFromReader(strings.NewReader(string(text)))
		if err != nil {
			t.Fatal(err)
		}
		if c.value.Value.Compare(want) != 0 {
			t.Errorf("built\n%v\nwant\n%v", c.value, want)
		}
	}
}

func TestSchemasAreCurrent(t *testing.T) {
	for _, entry := range entries {
		for kind, schema := range map[string][]byte{"input": Schema(entry), "output": OutputSchema(entry)} {
			name := filepath.Join("..", "..", "policies", "schemas", entry+"_"+kind+".json")
			if *update {
				if err := os.WriteFile(name, schema, 0o644); err != nil {
					t.Fatal(err)
				}
			}
			have, err := os.ReadFile(name)
			if err != nil || string(have) != string(schema) {
				t.Errorf("%s is not what the Go structs say (%v): go test ./internal/policy -update", name, err)
			}
		}
	}
}

// TestEveryCodeIsTold compares the codes in the built-in Rego with the table of sentences.
func TestEveryCodeIsTold(t *testing.T) {
	used := map[string]bool{}
	quoted := regexp.MustCompile(`(?m)^(?:command_|token_)?(?:denied|quarantined|pends) contains "([a-z_]+)"|^notes contains "([a-z_]+)"|"code": "([a-z_]+)"|^\t"[a-z_]+": "([a-z_]+_credentials?|wrong_[a-z]+)",$`)
	names, err := fs.Glob(policies.Files(), "*.rego")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		if strings.HasSuffix(name, "_test.rego") {
			continue
		}
		content, err := fs.ReadFile(policies.Files(), name)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range quoted.FindAllStringSubmatch(string(content), -1) {
			used[strings.Join(m[1:], "")] = true
		}
	}
	used["unreadable_credentials"] = true // the default of a lookup
	told := map[string]bool{}
	for _, s := range sayings {
		told[s.code] = true
		if !used[s.code] {
			t.Errorf("%s has a sentence and no rule", s.code)
		}
	}
	for code := range used {
		if !told[code] {
			t.Errorf("%s has a rule and no sentence", code)
		}
	}
}

func TestFaults(t *testing.T) {
	e := mustLoad(t, Options{})
	in := managedSample()
	whole := in.value().Value.(ast.Object)
	for _, missing := range []string{"now", "request", "credential", "certificate", "device", "owner", "claimed"} {
		t.Run("without "+missing, func(t *testing.T) {
			var pairs []pair
			whole.Foreach(func(k, v *ast.Term) {
				if k.Value.Compare(ast.String(missing)) != 0 {
					pairs = append(pairs, pair{k, v})
				}
			})
			d, err := e.decide(t.Context(), &question{entry: "access", whole: func() *ast.Term { return object(pairs...) }})
			var f *Fault
			if err == nil && d.Action == trust.Allow || err != nil && !errors.As(err, &f) {
				t.Errorf("%+v, %v", d, err)
			}
		})
	}
	var f *Fault
	if d, err := e.Access(t.Context(), &AccessInput{}); !errors.As(err, &f) && d.Action != trust.Deny {
		t.Errorf("empty input: %+v, %v, want a fault or a denial", d, err)
	}
	if d, err := (&Engine{}).Access(t.Context(), &in); !errors.As(err, &f) || d.Action != "" {
		t.Errorf("panic: %+v, %v, want a fault", d, err)
	}
	if d, err := e.Access(t.Context(), nil); !errors.As(err, &f) || d.Action != "" {
		t.Errorf("no input: %+v, %v, want a fault", d, err)
	}
	if _, err := e.Eval(t.Context(), "access", []byte(`{"nwo": 1}`)); err == nil || !strings.Contains(err.Error(), "nwo") {
		t.Errorf("unknown field: %v", err)
	}
}

// TestNoGap tries many combinations of facts: there is always a decision, and an allow only where every condition of a managed profile holds.
func TestNoGap(t *testing.T) {
	e := mustLoad(t, Options{})
	changes := []func(*AccessInput){
		func(in *AccessInput) { in.Certificate = CertFacts{Status: "none"} },
		func(in *AccessInput) { in.Certificate.Problem = "untrusted"; in.Certificate.Status = "none" },
		func(in *AccessInput) { in.Certificate.Problem = "not_yet_valid" },
		func(in *AccessInput) { in.Certificate.Status = "odd" },
		func(in *AccessInput) { in.Certificate.Status = "held" },
		func(in *AccessInput) { in.Certificate.NotAfter = in.Now },
		func(in *AccessInput) { in.Certificate.Status = "superseded"; in.Certificate.SuccessorFirstUse = 1 },
		func(in *AccessInput) { in.Certificate.Device = "dev-other" },
		func(in *AccessInput) { in.Device = DeviceFacts{} },
		func(in *AccessInput) { in.Device.Managed = false },
		func(in *AccessInput) { in.Device.State = "pending" },
		func(in *AccessInput) { in.Device.State = "blocked" },
		func(in *AccessInput) { in.Device.State = "quarantined" },
		func(in *AccessInput) { in.Device.State = "odd" },
		func(in *AccessInput) { in.Device.SilentFor = 1 << 40 },
		func(in *AccessInput) { in.Owner = OwnerFacts{} },
		func(in *AccessInput) { in.Credential = CredentialFacts{Kind: "bearer"} },
		func(in *AccessInput) { in.Credential.Kind = "empty_bearer" },
		func(in *AccessInput) { in.Credential.Problem = "odd" },
		func(in *AccessInput) { in.Credential.OID = "o-other" },
		func(in *AccessInput) { in.Credential.TID = "t-other" },
		func(in *AccessInput) { in.Credential.Names = map[string]bool{"bob@contoso.com": true} },
		func(in *AccessInput) { in.Claimed.DeviceID = "" },
		func(in *AccessInput) { in.Duplicate = DuplicateFacts{DeviceIDManaged: true, ManagedDevice: "dev-x"} },
		func(in *AccessInput) {
			in.Duplicate = DuplicateFacts{OtherDeviceID: "o", OtherLastSeen: in.Now, OtherFirstSeen: 1, OtherIsOlder: true}
			in.Device.EASDeviceID = "m"
		},
	}
	for i := range changes {
		for j := range changes {
			for _, class := range []string{"command", "discovery"} {
				in := managedSample()
				in.Request.Class = class
				changes[i](&in)
				changes[j](&in)
				d, err := e.Access(t.Context(), &in)
				if class == "discovery" && err == nil && (d.Action != trust.Allow || d.Rule == "discovery") {
					continue
				}
				if class == "discovery" && errors.Is(err, ErrUndefined) && (in.Certificate.Status == "odd" || in.Device.State == "odd") {
					continue
				}
				if err != nil || d.Action == trust.Allow {
					t.Errorf("%s, changes %d and %d: %+v, %v", class, i, j, d, err)
				}
			}
		}
	}
}

func TestConcurrent(t *testing.T) {
	a := NewActive(mustLoad(t, Options{}))
	other := mustLoad(t, Options{Path: dir(t, map[string]string{"a.rego": teamDeny})})
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			in := managedSample()
			in.Claimed.UserAgent = strings.Repeat("x", i)
			for range 50 {
				e := a.Load()
				d, err := e.Access(t.Context(), &in)
				if err != nil || d.Policy != e.Digest() {
					t.Errorf("%+v, %v", d, err)
				}
			}
		})
	}
	before := a.Swap(other)
	wg.Wait()
	if before == other || a.Load() != other || before.Digest() == other.Digest() {
		t.Error("the policy was not swapped")
	}
}

func BenchmarkAccess(b *testing.B) {
	e := mustLoad(b, Options{})
	in := managedSample()
	b.ReportAllocs()
	for b.Loop() {
		if d, err := e.Access(b.Context(), &in); err != nil || d.Action != trust.Allow {
			b.Fatal(d, err)
		}
	}
}

func TestReasonOrder(t *testing.T) {
	list := []trust.Reason{{Code: "unknown_client"}, {Code: "ours"}, {Code: "no_certificate"}, {Code: "device_quarantined"}, {Code: "certificate_revoked"}}
	sortReasons(list)
	if got := codes(list); got != "certificate_revoked no_certificate ours device_quarantined unknown_client" {
		t.Error(got)
	}
	if !slices.IsSortedFunc(list, func(a, b trust.Reason) int { return rank(a.Code) - rank(b.Code) }) {
		t.Error("not sorted")
	}
}

func TestRego(t *testing.T) {
	r, err := Test(t.Context(), Options{}, TestOptions{Coverage: true})
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range r.Results {
		if !test.Pass {
			t.Errorf("%s:%d: %s %s %s", test.File, test.Line, test.Name, test.Error, test.Output)
		}
	}
	for _, u := range r.Uncovered {
		t.Errorf("%s", u)
	}
	if len(r.Results) < 40 {
		t.Errorf("%d tests ran", len(r.Results))
	}
	t.Logf("%d tests, %.1f per cent of the lines", len(r.Results), r.Coverage)
}

// TestReadme keeps the README true: its examples pass policy check, and it names every reason in the order of the table.
func TestReadme(t *testing.T) {
	content, err := os.ReadFile(filepath.Join("..", "..", "policies", "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	readme := string(content)
	block := func(after, kind string) string {
		_, rest, _ := strings.Cut(readme, after)
		_, rest, _ = strings.Cut(rest, "```"+kind+"\n")
		text, _, _ := strings.Cut(rest, "```")
		return text
	}
	r, err := Check(t.Context(), Options{Timeout: patient, Path: dir(t, map[string]string{
		"night.rego": block("## Add a rule", "rego"), "night_test.rego": block("## Test", "rego"), "data.yaml": block("## Data", "yaml"),
	})})
	if err != nil || !r.OK() {
		t.Errorf("the examples: %+v, %v", r.Problems, err)
	}
	_, table, _ := strings.Cut(readme, "## Reasons")
	last := 0
	for _, s := range sayings {
		at := strings.Index(table, "`"+s.code+"`")
		if at < 0 {
			t.Errorf("%s is not in the README", s.code)
		}
		if rank(s.code) > rank("no_certificate") && at < last && s.code != "owner_unknown" && s.code != "not_managed" {
			t.Errorf("%s is out of order in the README", s.code)
		}
		last = at
	}
	for _, s := range lifecycleSamples() {
		if !strings.Contains(readme, "`"+s.name+"`") {
			t.Errorf("sample %s is not in the README", s.name)
		}
	}
	for _, s := range accessSamples() {
		if !strings.Contains(readme, "`"+s.name+"`") {
			t.Errorf("sample %s is not in the README", s.name)
		}
	}
}

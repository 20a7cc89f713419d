package policy

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// refusals are requests at the edge and enrolments that are refused, by name in the order in which they are printed.
func refusals() (access []accessSample, enrol []enrollSample) {
	someone := func(names ...string) CredentialFacts {
		c := CredentialFacts{Kind: "basic", User: names[0], Names: map[string]bool{}}
		for _, n := range names {
			c.Names[n] = true
		}
		return c
	}
	with := func(name string, change func(*AccessInput)) { access = append(access, sampleWith(name, change)) }
	with("no certificate", bare)
	with("certificate revoked", func(in *AccessInput) { in.Certificate.Status, in.Certificate.Reason = "revoked", "keyCompromise" })
	with("certificate on hold", func(in *AccessInput) { in.Certificate.Status = "held" })
	with("certificate superseded", func(in *AccessInput) {
		in.Certificate.Status, in.Certificate.SuccessorFirstUse = "superseded", sampleNow-9*86400
	})
	with("certificate of somebody else's CA", func(in *AccessInput) {
		in.Certificate = CertFacts{Present: true, Problem: "untrusted", Status: "none"}
	})
	with("device retired, its certificate revoked", func(in *AccessInput) { in.Device.State, in.Certificate.Status = "retired", "revoked" })
	with("device blocked", func(in *AccessInput) { in.Device.State = "blocked" })
	with("device pending", func(in *AccessInput) { bare(in); in.Device.State = "pending" })
	with("a stranger", func(in *AccessInput) {
		bare(in)
		in.Device, in.Owner, in.Profile = NoDevice(), OwnerFacts{}, ProfileFacts{}
	})
	with("the MDM no longer manages it", func(in *AccessInput) { in.Device.Managed = false })
	with("not compliant, kept by hand", func(in *AccessInput) {
		in.Device.Compliant, in.Device.Source, in.Device.ComplianceSince = "no", "admin", 0
	})
	with("old system", func(in *AccessInput) { in.Device.OSVersion, in.Device.OSNumber = "15.0", 15000000 })
	with("another user signs in", func(in *AccessInput) { in.Credential = someone("eve@contoso.com") })
	with("the owner asks for another mailbox", func(in *AccessInput) { in.Credential = someone("info@contoso.com", "alice@contoso.com") })
	with("a bare login name", func(in *AccessInput) { in.Credential = someone("alice") })
	with("a token of another tenant", func(in *AccessInput) { in.Credential.TID = "t-fabrikam" })
	with("a damaged sign-in", func(in *AccessInput) {
		in.Credential = CredentialFacts{Kind: "none", Problem: "unreadable_credentials", Names: map[string]bool{}}
	})
	with("a token that nobody can read", func(in *AccessInput) {
		in.Credential = CredentialFacts{Kind: "bearer", Problem: "unreadable_credentials", Names: map[string]bool{}}
	})
	with("a token that names an account only", func(in *AccessInput) {
		in.Credential = CredentialFacts{Kind: "bearer", Problem: "unreadable_credentials", OID: "o-alice-2", TID: "t-contoso", Names: map[string]bool{}}
	})
	with("the owner under another account", func(in *AccessInput) { in.Credential.OID = "o-alice-2" })
	with("no sign-in", func(in *AccessInput) { in.Credential = CredentialFacts{Kind: "none", Names: map[string]bool{}} })
	with("a second account on the phone", func(in *AccessInput) {
		bare(in)
		in.Duplicate = DuplicateFacts{DeviceIDManaged: true, ManagedDevice: "dev-alice"}
	})
	with("suspended, with its owner", func(in *AccessInput) {
		in.Device.Suspended, in.Device.SuspendedAt, in.Device.SuspendReason = true, sampleNow-3600, "lost"
		in.Owner.Suspended, in.Owner.SuspendedAt, in.Owner.SuspendReason = true, sampleNow-7200, "absent"
	})
	with("silent", func(in *AccessInput) { in.Device.SilentFor = 30 * 86400 })
	with("kept from mail by hand", func(in *AccessInput) { in.Device.State = "quarantined" })
	with("the DeviceId is another than the MDM reports", func(in *AccessInput) { in.Claimed.DeviceID = "appl9z" })
	with("a mail profile that was refused", func(in *AccessInput) { in.Profile.Refused = true })
	with("the DeviceId of another device", func(in *AccessInput) {
		in.Device.EASDeviceID = ""
		in.Duplicate = DuplicateFacts{DeviceIDManaged: true, ManagedDevice: "dev-bob"}
	})
	with("a second DeviceId", func(in *AccessInput) {
		in.Device.EASDeviceID = ""
		in.Duplicate = DuplicateFacts{OtherDeviceID: "appl9z", OtherFirstSeen: sampleNow - 86400, OtherLastSeen: sampleNow, OtherIsOlder: true}
	})
	with("from no named network", func(in *AccessInput) { in.Request.SourceIP = "198.51.100.9" })
	with("one device too many", func(in *AccessInput) { in.Device.Place, in.Owner.Devices = 3, 3 })
	base := enrollSamples()
	enrolling := func(name string, of int, change func(*EnrollInput)) {
		in := *base[of].in.clone()
		change(&in)
		enrol = append(enrol, enrollSample{name, in})
	}
	enrolling("an enrolment that names another user", 0, func(in *EnrollInput) { in.Approved, in.Requested.Mails = true, []string{"bob@contoso.com"} })
	enrolling("an enrolment that waits", 0, func(*EnrollInput) {})
	enrolling("an enrolment with a weak key that waits", 0, func(in *EnrollInput) { in.Key.Bits = 1024 })
	enrolling("an enrolment of a device that is not managed", 0, func(in *EnrollInput) { in.Approved, in.Device.Managed = true, false })
	enrolling("a renewal that is too early", 1, func(in *EnrollInput) { in.Renews.NotAfter = sampleNow + 300*86400 })
	return access, enrol
}

// The words of many refusals, for whoever changes one: go test ./internal/policy -run TestExplainedRefusals -update writes them anew.
func TestExplainedRefusals(t *testing.T) {
	o := Options{Timeout: patient, Files: Files{"tuning.yaml": []byte(`postern:
  config:
    access: {noncompliant: deny, min_os_version: {ios: "17.5.1"}, max_devices: 2, allowed_zones: [office]}
    enroll: {approval: true, renewal_window: 2592000}
networks: {office: 203.0.113.0/24}
`)}}
	var out strings.Builder
	access, enrol := refusals()
	for _, s := range access {
		printRefusal(t, &out, s.name, func(ctx context.Context) (*Explanation, error) { return Explain(ctx, o, &s.in) })
	}
	for _, s := range ownRefusals() {
		printRefusal(t, &out, s.name, func(ctx context.Context) (*Explanation, error) {
			return Explain(ctx, Options{Timeout: patient, Files: ownRules}, &s.in)
		})
	}
	for _, s := range enrol {
		printRefusal(t, &out, s.name, func(ctx context.Context) (*Explanation, error) { return ExplainEnroll(ctx, o, &s.in) })
	}
	path := filepath.Join("testdata", "refusals.txt")
	if *update {
		if err := os.WriteFile(path, []byte(out.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if out.String() != string(want) {
		t.Errorf("the words of refusals are others than in %s (-update writes them):\n%s", path, out.String())
	}
}

func printRefusal(t *testing.T, out *strings.Builder, name string, ask func(context.Context) (*Explanation, error)) {
	t.Helper()
	x, err := ask(t.Context())
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	if x.Decision.Action == "allow" || x.Beyond {
		t.Errorf("%s: %s, beyond %v", name, x.Decision.Action, x.Beyond)
	}
	fmt.Fprintf(out, "== %s: %s\n", name, x.Decision.Action)
	for _, r := range x.Decision.Reasons {
		fmt.Fprintf(out, "%s: %s\n  rule: %s\n  to do: %s\n", r.Code, r.Text, RuleTitle(r.Code, r.Rule), or(r.Remedy, NoRemedy))
	}
	for _, c := range x.Conditions {
		if !c.Holds {
			fmt.Fprintf(out, "not met: %s%s\n", c.Text, c.Aside())
		}
	}
	for i, set := range x.Changes {
		for n, c := range set {
			if c.Fact == c.Do || c.Do == "" {
				t.Errorf("%s: a change to what is: %+v", name, c)
			}
			fmt.Fprintf(out, "%s%s\n", known(n == 0, fmt.Sprintf("%d. ", i+1), "   and "), or(known(c.Reason == "", "", "against "+c.Reason), c.Fact+" Instead: "+c.Do))
		}
	}
	fmt.Fprintln(out)
}

// Every page that a reason names is there, under the title that is told, and names the reason.
func TestRuleTitles(t *testing.T) {
	pages := libraryPages(t)
	for _, s := range sayings {
		if s.page == "" {
			continue
		}
		page := pages[s.page+".md"]
		if !strings.HasPrefix(page, "# "+pageTitles[s.page]+"\n") || pageTitles[s.page] == "" {
			t.Errorf("%s: the page %s has another title than %q", s.code, s.page, pageTitles[s.page])
		}
		if !strings.Contains(page, "`"+s.code+"`") && !strings.Contains(s.code, "ticket") {
			t.Errorf("%s is not on the page %s", s.code, s.page)
		}
	}
	if len(sayings) != len(ranking) {
		t.Errorf("%d sayings, %d in the ranking", len(sayings), len(ranking))
	}
	for name, want := range map[string]string{"postern.access": "Least versions (policies/library/versions.md)", "postern.access.team.night": "a rule of a team of the company (package postern.access.team.night)"} {
		if got := RuleTitle("os_too_old", name); got != want {
			t.Errorf("%s: %q", name, got)
		}
	}
}

package policy

import (
	"strings"
	"testing"

	"postern/internal/trust"
)

// Each refusal is explained by the condition that fails, and a change that lets it through; the words are for people who know no Rego.
func TestExplainEveryRefusal(t *testing.T) {
	team := Files{"team.rego": []byte(`package postern.access.team.lock

deny contains "no_screen_lock" if input.device.labels.screen_lock == "no"

deny contains "old_protocol" if input.request.version < 141

quarantine contains "not_compliant" if input.device.compliant == "no"

deny contains "not_a_pilot" if not input.owner.mail in {"alice@contoso.com", "bob@contoso.com"}
`), "tuning.yaml": []byte(`postern:
  config:
    access: {noncompliant: deny, min_os_version: {ios: "17.5.1"}, max_devices: 2, denied_platforms: [windows], denied_zones: [guests],
      sign_on: [{clients: [nine], action: deny}, {action: allow}]}
networks: {guests: 198.51.100.0/24}
`)}
	for name, c := range map[string]struct {
		change func(*AccessInput)
		fails  string // the condition
		does   string // in what has to be done
	}{
		"no certificate":  {func(in *AccessInput) { in.Certificate, in.Assurance = CertFacts{Status: "none"}, "claimed" }, "device_assured", "mail profile that brings the certificate"},
		"revoked":         {func(in *AccessInput) { in.Certificate.Status = "revoked" }, "device_assured", "let it enrol"},
		"held":            {func(in *AccessInput) { in.Certificate.Status = "held" }, "device_assured", "cert release 0a1b"},
		"expired":         {func(in *AccessInput) { in.Certificate.NotAfter = in.Now - 1 }, "device_assured", "device challenge dev-alice"},
		"untrusted":       {func(in *AccessInput) { in.Certificate.Problem = "untrusted" }, "device_assured", "install it again: it brings the right certificate"},
		"not managed":     {func(in *AccessInput) { in.Device.Managed = false }, "device_managed", "Enrol the device in the MDM"},
		"blocked":         {func(in *AccessInput) { in.Device.State = "blocked" }, "device_managed", "device unblock dev-alice"},
		"retired":         {func(in *AccessInput) { in.Device.State = "retired" }, "device_managed", "device add"},
		"quarantined":     {func(in *AccessInput) { in.Device.State = "quarantined" }, "device_managed", "device unblock dev-alice"},
		"suspended":       {func(in *AccessInput) { in.Device.Suspended = true }, "in_service", "device reinstate"},
		"owner suspended": {func(in *AccessInput) { in.Owner.Suspended = true }, "in_service", "owner reinstate"},
		"silent":          {func(in *AccessInput) { in.Device.SilentFor = 30 * 86400 }, "device_heard", "let it check in"},
		"another user": {func(in *AccessInput) {
			in.Credential.User, in.Credential.Names = "eve@contoso.com", map[string]bool{"eve@contoso.com": true}
		}, "owner_matches", "belongs to alice@contoso.com"},
		"unreadable sign-in": {func(in *AccessInput) { in.Credential.Problem, in.Credential.Kind = "unreadable_credentials", "none" }, "credential_clean", "cut off or damaged"},
		"another DeviceId":   {func(in *AccessInput) { in.Device.EASDeviceID = "other" }, "device_id_matches", "eas-device-id"},
		"a second profile": {func(in *AccessInput) {
			in.Duplicate = DuplicateFacts{OtherDeviceID: "x", OtherLastSeen: in.Now, OtherIsOlder: true}
			in.Device.EASDeviceID = ""
		}, "sole_profile", "settle allow mp-1"},
		"refused profile":          {func(in *AccessInput) { in.Profile.Refused = true }, "profile_accepted", "postern settle"},
		"a team's label":           {func(in *AccessInput) { in.Device.Labels = map[string]string{"screen_lock": "no"} }, "no_rule_of_a_team", "empty, or not there"},
		"a team's version":         {func(in *AccessInput) { in.Request.Version = 140 }, "no_rule_of_a_team", "16.1"},
		"a team's compliance":      {func(in *AccessInput) { in.Device.Compliant = "no" }, "", "compliant"},
		"old system":               {func(in *AccessInput) { in.Device.OSVersion, in.Device.OSNumber = "15.0", 15000000 }, "os_accepted", "Update the phone's system"},
		"one device too many":      {func(in *AccessInput) { in.Device.Place, in.Owner.Devices = 3, 3 }, "place_in_line", "device retire"},
		"non-compliant":            {func(in *AccessInput) { in.Device.Compliant = "no" }, "compliance_accepted", "MDM's app"},
		"denied network":           {func(in *AccessInput) { in.Request.SourceIP = "198.51.100.9" }, "zone_accepted", "Use another network"},
		"row of the sign-on table": {func(in *AccessInput) { in.Claimed.Family, in.Device.EASDeviceID = "nine", "" }, "sign_on_accepted", "used: apple_mail"},
		"denied platform":          {func(in *AccessInput) { in.Device.OS = "windows" }, "platform_accepted", "another system"},
		"two at once":              {func(in *AccessInput) { in.Device.Managed, in.Device.SilentFor = false, 30*86400 }, "device_heard", "let it check in"},
	} {
		t.Run(name, func(t *testing.T) {
			in := managedSample()
			c.change(&in)
			x, err := Explain(t.Context(), Options{Files: team}, &in)
			if err != nil {
				t.Fatal(err)
			}
			if x.Decision.Action == trust.Allow || x.Beyond || len(x.Conditions) != len(accessConditions)+1 {
				t.Fatalf("%+v", x)
			}
			for _, cond := range x.Conditions {
				if cond.Rule == c.fails && cond.Holds {
					t.Errorf("%s holds", cond.Rule)
				}
			}
			var words strings.Builder
			for _, set := range x.Changes {
				for _, change := range set {
					words.WriteString(change.Fact + " " + change.Do + "\n")
				}
			}
			if !strings.Contains(words.String(), c.does) {
				t.Errorf("what would change it: %s, want %q", words.String(), c.does)
			}
			for _, r := range x.Decision.Reasons {
				if r.Text == "" {
					t.Errorf("reason %s without a sentence", r.Code)
				}
			}
		})
	}
}

func TestExplainAnAllow(t *testing.T) {
	in := managedSample()
	x, err := Explain(t.Context(), Options{}, &in)
	if err != nil || x.Decision.Action != trust.Allow || len(x.Changes) < 5 {
		t.Fatalf("%+v, %v", x, err)
	}
	for _, c := range x.Conditions {
		if !c.Holds {
			t.Errorf("%s does not hold", c.Rule)
		}
	}
}

// What is said of the rules of teams: their own words, where they are written, and what did not decide.
func TestExplainTeams(t *testing.T) {
	o := Options{Files: Files{"own/lock.rego": []byte(`package postern.access.team.lock

deny contains {"code": "no_lock", "text": "No lock.", "remedy": "Set a lock."} if input.device.labels.lock == "no"

deny contains "odd_label" if not input.device.labels.kind in {"phone", "tablet"}

deny contains "secret" if {
	some name in data.secret
	name == input.owner.mail
}
`), "data.yaml": []byte("secret: [alice@contoso.com]\n")}}
	for name, c := range map[string]struct {
		labels         map[string]string
		rollout, users string
		excepted       []string
		condition, why string
		changes        string
	}{
		"a remedy of its own": {labels: map[string]string{"lock": "no", "kind": "phone"}, users: "[]",
			condition: "no_lock is said by postern.access.team.lock (own/lock.rego:3)", changes: "against no_lock: Set a lock.\n"},
		"values of one fact": {labels: map[string]string{"kind": "tv"}, users: "[]", condition: "odd_label is said by postern.access.team.lock (own/lock.rego:5)",
			changes: "The label kind of the device (device.labels.kind) is tv. It is phone or tablet.\n"},
		"no fact helps": {labels: map[string]string{"kind": "phone"}, users: "[alice@contoso.com]", condition: "secret is said by",
			changes: "The rule secret of postern.access.team.lock speaks against it. What the rule asks for is settled. It names nothing to do: whoever wrote it knows (own/lock.rego:7).\n"},
		"two rules": {labels: map[string]string{"lock": "no", "kind": "tv"}, users: "[]", condition: "; odd_label is said by postern.access.team.lock (own/lock.rego:5)",
			changes: "against no_lock: Set a lock.\nThe label kind of the device (device.labels.kind) is tv. It is phone or tablet.\n"},
		"only observed": {labels: map[string]string{"lock": "no", "kind": "phone"}, users: "[]", rollout: "no_lock: [{stage: observe}]",
			condition: "no_lock is said by", why: WhyObserved, changes: "-"},
		"lifted by an exception": {labels: map[string]string{"lock": "no", "kind": "phone"}, users: "[]", excepted: []string{"no_lock"},
			condition: "no_lock is said by", why: WhyException, changes: "-"},
		"a break-glass account": {labels: map[string]string{"lock": "no", "kind": "phone"}, users: "[], break_glass: [{user: alice@contoso.com, why: duty}]",
			condition: "no_lock is said by", why: WhyBreakGlass, changes: "-"},
		"observed, while the device is blocked": {labels: map[string]string{"lock": "no", "kind": "blocked"}, users: "[]", rollout: "no_lock: [{stage: observe}], odd_label: [{stage: observe}]",
			condition: "no_lock is said by", why: WhyObserved, changes: "against device_blocked: "},
	} {
		t.Run(name, func(t *testing.T) {
			users, glass, _ := strings.Cut(c.users, "], ")
			o.Files["data.yaml"] = []byte("secret: " + strings.TrimSuffix(users, "]") + "]\npostern: {config: {access: {rollout: {" + c.rollout + "}" + known(glass == "", "", ", "+glass) + "}}}\n")
			in := managedSample()
			if in.Device.Labels = c.labels; c.labels["kind"] == "blocked" {
				in.Device.State = "blocked"
			}
			if c.excepted != nil {
				in.Exceptions = granted(sampleNow+60, c.excepted...)
			}
			x, err := Explain(t.Context(), o, &in)
			if err != nil {
				t.Fatal(err)
			}
			last := x.Conditions[len(x.Conditions)-1]
			if last.Holds || last.Why != c.why || last.Waived != (c.why != "") || !strings.Contains(last.Text, c.condition) {
				t.Errorf("%+v", last)
			}
			if (x.Decision.Action == trust.Allow) != (c.changes == "-") {
				t.Fatalf("%+v", x.Decision)
			}
			var words strings.Builder
			for _, set := range x.Changes {
				for _, change := range set {
					words.WriteString(known(change.Reason != "", "against "+change.Reason+": "+change.Do, change.Fact+" "+change.Do) + "\n")
				}
			}
			if c.changes != "-" && !strings.HasPrefix(words.String(), c.changes) || strings.HasSuffix(c.changes, "\n") && words.String() != c.changes {
				t.Errorf("changes:\n%swant:\n%s", words.String(), c.changes)
			}
		})
	}
}

// Of two rules of a team of which an exception lifts one, the other stands in the way, and which is which is said.
func TestExplainOneOfTwoLifted(t *testing.T) {
	files := Files{"a.rego": []byte("package postern.access.team.a\n\ndeny contains \"first\" if input.device.model == \"x\"\n\nquarantine contains \"second\" if input.device.model == \"x\"\n\n" +
		"except contains {\"id\": \"E\", \"granted_by\": \"c\", \"until\": 1798761599, \"reasons\": [\"first\"]} if input.owner.mail == \"alice@contoso.com\"\n")}
	in := managedSample()
	in.Device.Model = "x"
	x, err := Explain(t.Context(), Options{Files: files}, &in)
	if err != nil || x.Decision.Action != trust.Quarantine {
		t.Fatalf("%+v, %v", x, err)
	}
	last := x.Conditions[len(x.Conditions)-1]
	const want = "against it: first is said by postern.access.team.a (a.rego:3) (lifted by an exception: this did not refuse it); second is said by postern.access.team.a (a.rego:5)"
	if last.Waived || !strings.HasSuffix(last.Text, want) {
		t.Errorf("%+v", last)
	}
}

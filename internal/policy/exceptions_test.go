package policy

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/rego"

	"postern/internal/trust"
)

// granted is an exception as an edge passes it on.
func granted(until int64, reasons ...string) []ExceptionFacts {
	return []ExceptionFacts{{ID: "ex-1", GrantedBy: "token:desk", Until: until, Reasons: reasons}}
}

// TestGrantedExceptions: what was granted by command lifts what a team's exception would, for as long, and nothing else.
func TestGrantedExceptions(t *testing.T) {
	e := mustLoad(t, Options{Path: dir(t, map[string]string{"night.rego": "package postern.access.team.night\n\ndeny contains \"old_client\" if input.request.version < 141\n"})})
	silent := func(in *AccessInput) { in.Device.SilentFor = 30 * 86400 }
	for name, c := range map[string]struct {
		change  func(*AccessInput)
		until   int64
		reasons string
		want    string
	}{
		"lifted":            {silent, sampleNow + 100, "device_silent", "allow exception exception"},
		"over":              {silent, sampleNow, "device_silent", "deny  device_silent"},
		"another reason":    {silent, sampleNow + 100, "unmanaged_device", "deny  device_silent"},
		"a team's":          {func(in *AccessInput) { in.Request.Version = 140 }, sampleNow + 100, "old_client", "allow exception exception"},
		"nothing to lift":   {func(*AccessInput) {}, sampleNow + 100, "device_silent", "allow managed_profile "},
		"two of two":        {func(in *AccessInput) { silent(in); in.Request.Version = 140 }, sampleNow + 100, "device_silent,old_client", "allow exception exception"},
		"one of two":        {func(in *AccessInput) { silent(in); in.Request.Version = 140 }, sampleNow + 100, "device_silent", "deny  old_client"},
		"revoked":           {func(in *AccessInput) { in.Certificate.Status = "revoked" }, sampleNow + 100, "certificate_revoked", "deny  certificate_revoked"},
		"held":              {func(in *AccessInput) { in.Certificate.Status = "held" }, sampleNow + 100, "certificate_held", "deny  certificate_held"},
		"suspended":         {func(in *AccessInput) { in.Device.Suspended = true }, sampleNow + 100, "device_suspended", "deny  device_suspended"},
		"not the owner":     {func(in *AccessInput) { silent(in); in.Owner.Names = map[string]bool{"bob@contoso.com": true} }, sampleNow + 100, "device_silent,owner_mismatch", "deny  owner_mismatch device_silent"},
		"not trusted":       {func(in *AccessInput) { in.Certificate.Problem = "not_trusted" }, sampleNow + 100, "certificate_not_trusted,no_certificate", "deny  certificate_not_trusted"},
		"second DeviceId":   {func(in *AccessInput) { *in = sampleNamed("duplicate_second_device_id") }, sampleNow + 100, "duplicate_profile_second_device_id", "allow exception exception"},
		"no certificate":    {func(in *AccessInput) { in.Certificate, in.Assurance = CertFacts{Status: "none"}, "claimed" }, sampleNow + 100, "no_certificate", "allow exception exception"},
		"of a strange user": {func(in *AccessInput) { *in = sampleNamed("unmanaged") }, sampleNow + 100, "no_certificate,unmanaged_device", "deny  no_certificate unmanaged_device"},
	} {
		in := managedSample()
		c.change(&in)
		in.Exceptions = granted(c.until, strings.Split(c.reasons, ",")...)
		d, err := e.Access(t.Context(), &in)
		if got := string(d.Action) + " " + d.Rule + " " + codes(d.Reasons); err != nil || got != c.want {
			t.Errorf("%s: %q, %v, want %q", name, got, err, c.want)
		}
		if d.Rule == "exception" {
			if r := d.Reasons[0]; d.ValidUntil != c.until || r.Facts["exception.id"] != "ex-1" || r.Facts["exception.granted_by"] != "token:desk" ||
				!strings.Contains(r.Text, "granted by token:desk until 2026-06-01") {
				t.Errorf("%s: valid until %d, %+v", name, d.ValidUntil, r)
			}
		}
	}
}

func sampleNamed(name string) AccessInput {
	for _, s := range accessSamples() {
		if s.name == name {
			return s.in
		}
	}
	return AccessInput{}
}

// A grant ends what is remembered of its own phone and of nobody else's.
func TestExceptionsAndMemory(t *testing.T) {
	e := mustLoad(t, Options{})
	in, other := managedSample(), managedSample()
	in.Device.SilentFor = 30 * 86400
	other.Certificate.Serial = "0b"
	for range 2 {
		asked(t, e, in)
		asked(t, e, other)
	}
	in.Exceptions = granted(sampleNow+100, "device_silent")
	if d, hit := asked(t, e, in); hit || d.Action != trust.Allow {
		t.Errorf("after the grant: remembered %v, %s", hit, d.Action)
	}
	if _, hit := asked(t, e, other); !hit {
		t.Error("another phone's decision is no longer remembered")
	}
	in.Now = sampleNow + 99
	if d, hit := asked(t, e, in); !hit || d.Action != trust.Allow {
		t.Errorf("before its end: remembered %v, %s", hit, d.Action)
	}
	in.Now = sampleNow + 100
	if d, hit := asked(t, e, in); hit || d.Action != trust.Deny {
		t.Errorf("at its end: remembered %v, %s", hit, d.Action)
	}
}

// neverLifted is what the Rego says.
func TestLiftableIsWhatTheRegoSays(t *testing.T) {
	src, _, err := read(Options{})
	if err != nil {
		t.Fatal(err)
	}
	p, _ := parse(src)
	ask := func(entry, query string) (out []string) {
		q, _, problems, err := p.query(t.Context(), entry, "x := "+query)
		if err != nil || problems != nil {
			t.Fatal(err, problems)
		}
		rs, err := q.Eval(t.Context(), rego.EvalParsedInput(managedSampleValue()))
		if err != nil || len(rs) != 1 {
			t.Fatal(err)
		}
		rs[0].Bindings["x"].(ast.Set).Foreach(func(x *ast.Term) { out = append(out, string(x.Value.(ast.String))) })
		return out
	}
	for _, code := range ask("access", "data.postern.access.never_lifted") {
		if Liftable(code) {
			t.Errorf("%s: the Rego never lifts it, and a grant would be accepted", code)
		}
	}
	for _, code := range slices.Concat(ask("access", "object.keys(data.postern.access.conditions)"), ask("enroll", "object.keys(data.postern.enroll.conditions)")) {
		if !Liftable(code) {
			t.Errorf("%s: the Rego lifts it, and a grant would be refused", code)
		}
	}
	for _, code := range ask("access", `data.postern.access.about_proof | {"certificate_superseded"}`) {
		if !slices.Contains(withheldCodes, code) {
			t.Errorf("%s: nothing lifts it for a revoked device, and nobody would be told so", code)
		}
	}
	for _, code := range neverLifted {
		if !slices.ContainsFunc(sayings, func(s saying) bool { return s.code == code }) {
			t.Errorf("%s is no built-in reason", code)
		}
	}
}

func managedSampleValue() ast.Value {
	in := managedSample()
	return in.value().Value
}

func TestFactsOfExceptions(t *testing.T) {
	now := time.Unix(sampleNow, 0)
	desk := trust.Principal{Kind: "token", Name: "desk"}
	got := FactsOfExceptions([]trust.Exception{{ID: "over", Until: now}, {ID: "revoked", Until: now.Add(time.Hour), Revoked: now},
		{ID: "live", By: desk, Until: now.Add(time.Hour), Reasons: []string{"a"}}}, now)
	if len(got) != 1 || got[0].ID != "live" || got[0].GrantedBy != "token:desk" || got[0].Until != sampleNow+3600 {
		t.Errorf("%+v", got)
	}
	if FactsOfExceptions(nil, now) == nil {
		t.Error("no exceptions are null to a policy, not an empty list")
	}
}

// TestSays knows what a team's rules say, and that a typing error is none of it.
func TestSays(t *testing.T) {
	e := mustLoad(t, Options{Path: dir(t, map[string]string{"night.rego": "package postern.access.team.night\n\ndeny contains {\"code\": \"old_client\"} if input.request.version < 141\n"})})
	for code, want := range map[string]bool{"old_client": true, "device_silent": true, "old_clients": false, "": false} {
		if e.Says(code) != want {
			t.Errorf("%q: %v", code, !want)
		}
	}
	if e.Computes() || e.LikeCode("old_cleint") != "old_client" || e.LikeCode("devise_silent") != "device_silent" || e.LikeCode("quite_another_thing") != "" {
		t.Errorf("%v %q %q %q", e.Computes(), e.LikeCode("old_cleint"), e.LikeCode("devise_silent"), e.LikeCode("quite_another_thing"))
	}
	const head = "package postern.access.team.night\n\n"
	for name, c := range map[string]struct {
		rule     string
		computes bool
	}{
		"in the body":            {"deny contains r if {\n\tinput.request.version < 141\n\tr := {\"code\": \"old_client\"}\n}\n", false},
		"a word of another kind": {"deny contains \"x\" if input.device.model == \"old_client\"\n\nquarantine contains \"old_client\" if input.now == 1\n", false},
		"made":                   {"deny contains concat(\"_\", [\"old\", input.claimed.family]) if input.now == 1\n", true},
		"from data":              {"deny contains r if some r in data.rules\n", true},
		"field made":             {"deny contains {\"code\": sprintf(\"old_%s\", [input.claimed.family])} if input.now == 1\n", true},
	} {
		e := mustLoad(t, Options{Files: Files{"a.rego": []byte(head + c.rule), "d.yaml": []byte("rules: []\n")}})
		if e.Computes() != c.computes || !c.computes && !e.Says("old_client") || e.Says("pro_max") {
			t.Errorf("%s: computes %v, says %v", name, e.Computes(), e.Says("old_client"))
		}
	}
	if e := mustLoad(t, Options{Files: Files{"a.rego": []byte(head + "deny contains \"x\" if input.device.model == \"pro_max\"\n")}}); e.Says("pro_max") {
		t.Error("a text that is no code is taken for one")
	}
}

// An exception that was granted for a device whose certificate is revoked is named with why it does not help, and only where it is for the reason.
func TestExceptionThatDoesNotHelp(t *testing.T) {
	e := mustLoad(t, Options{})
	for name, c := range map[string]struct {
		revoked bool
		reasons []string
		want    string
	}{
		"for the reason":     {true, []string{"device_silent", "no_certificate"}, "The exception ex-1, granted by token:desk until 2026-06-01 12:01 UTC, does not help: the newest certificate of the device dev-alice is revoked or on hold"},
		"for another reason": {true, []string{"device_silent"}, ""},
	} {
		in := managedSample()
		bare(&in)
		in.Device.Revoked, in.Exceptions = c.revoked, granted(sampleNow+60, c.reasons...)
		d, err := e.Access(t.Context(), &in)
		if err != nil || d.Action != trust.Deny || len(d.Reasons) != 1 {
			t.Fatalf("%s: %+v, %v", name, d, err)
		}
		r := d.Reasons[0]
		if got := strings.Contains(r.Text, "does not help"); got != (c.want != "") || !strings.Contains(r.Text, c.want) || !strings.Contains(r.Remedy, "postern device show dev-alice") {
			t.Errorf("%s: %s %s", name, r.Text, r.Remedy)
		}
	}
}

// An exception that a team's own rule grants and that does not help is named by explain, with its package and why, for the reasons that it is for.
func TestTeamsExceptionThatDoesNotHelp(t *testing.T) {
	const rules = "package postern.access.team.vip\n\nexcept contains {\"id\": e.id, \"granted_by\": e.by, \"until\": e.until, \"reasons\": e.reasons} if {\n\tsome e in data.exceptions\n\tinput.owner.mail == e.user\n}\n"
	files := Files{"vip.rego": []byte(rules), "vip.yaml": []byte("exceptions:\n  - {user: alice@contoso.com, id: EX-1, by: carol, until: 2026-06-01T12:01:00Z, reasons: [no_certificate, device_silent]}\n" +
		"  - {user: alice@contoso.com, id: EX-2, by: carol, until: 2026-06-01T11:00:00Z, reasons: [device_silent]}\n  - {user: bob@contoso.com, id: EX-3, by: carol, until: 2027-01-01T00:00:00Z, reasons: [device_silent]}\n")}
	for name, c := range map[string]struct {
		change func(*AccessInput)
		want   []string // of each reason
	}{
		"revoked": {func(in *AccessInput) { bare(in); in.Device.Revoked = true }, []string{
			"no_certificate: The exception EX-1, granted by carol until 2026-06-01 12:01 UTC in package postern.access.team.vip, does not help: the newest certificate of the device dev-alice is revoked or on hold, and no exception makes up for that."}},
		"ended": {func(in *AccessInput) { in.Device.SilentFor, in.Now = 30*86400, sampleNow+120 }, []string{
			"device_silent: The exception EX-1, granted by carol until 2026-06-01 12:01 UTC in package postern.access.team.vip, does not help: it has ended. The exception EX-2, granted by carol until 2026-06-01 11:00 UTC in package postern.access.team.vip, does not help: it has ended."}},
		"somebody else": {func(in *AccessInput) {
			in.Device.SilentFor = 30 * 86400
			in.Credential.User, in.Credential.Names, in.Credential.OID = "bob@contoso.com", map[string]bool{"bob@contoso.com": true}, "o-bob"
		}, []string{"owner_mismatch: ", "device_silent: The exception EX-1, granted by carol until 2026-06-01 12:01 UTC in package postern.access.team.vip, does not help: it is for the owner of a known device, and whoever asks is not shown to be that. The exception EX-2"}},
		"another reason": {func(in *AccessInput) { in.Certificate.Status = "revoked" }, []string{"certificate_revoked: "}},
	} {
		in := managedSample()
		c.change(&in)
		x, err := Explain(t.Context(), Options{Files: files}, &in)
		if err != nil || x.Decision.Action != trust.Deny || len(x.Decision.Reasons) != len(c.want) {
			t.Fatalf("%s: %+v, %v", name, x, err)
		}
		for i, r := range x.Decision.Reasons {
			code, want, _ := strings.Cut(c.want[i], ": ")
			if r.Code != code || !strings.Contains(r.Text, want) || want == "" && strings.Contains(r.Text, "does not help") {
				t.Errorf("%s: %s %s\nwant %s", name, r.Code, r.Text, c.want[i])
			}
		}
	}
	in := managedSample()
	in.Device.SilentFor = 30 * 86400
	if x, err := Explain(t.Context(), Options{Files: files}, &in); err != nil || x.Decision.Action != trust.Allow || strings.Contains(x.Decision.Reasons[0].Text, "does not help") {
		t.Errorf("one that helps: %+v, %v", x, err)
	}
}

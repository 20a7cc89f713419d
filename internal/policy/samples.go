package policy

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"

	"postern/internal/trust"
)

// SampleResult is what a policy decided about one sample input.
type SampleResult struct {
	Entry   string       `json:"entry"`
	Name    string       `json:"name"`
	Action  trust.Action `json:"action"`
	Reasons []string     `json:"reasons"` // codes
}

// sampleNow is the clock of the samples: 2026-06-01 12:00 UTC.
const sampleNow = 1780315200

type accessSample struct {
	name string
	in   AccessInput
}

type enrollSample struct {
	name string
	in   EnrollInput
}

// managedSample is a Sync of a managed iPhone, with everything as it should be.
func managedSample() AccessInput {
	return AccessInput{
		Now: sampleNow,
		Request: RequestFacts{Class: "command", Protocol: "eas", Tenant: "contoso", Host: "mail.contoso.com", Method: "POST", Command: "sync", Version: 161,
			SourceIP: "203.0.113.7"},
		Claimed: ClaimedFacts{DeviceID: "appl1a2b3c", DeviceType: "iPhone", UserAgent: "Apple-iPhone15C4/2203.70", Family: "apple_mail", Platform: "ios",
			Model: "iPhone15C4", OSNumber: 26999999},
		Credential: CredentialFacts{Kind: "bearer", User: "alice@contoso.com", Names: map[string]bool{"alice@contoso.com": true}, OID: "o-alice",
			TID: "t-contoso", Audience: []string{"https://outlook.office365.com"}, AppID: "app-mail", Expires: sampleNow + 3600},
		Certificate: CertFacts{Present: true, Status: "good", Issuer: "contoso", Serial: "0a1b", Device: "dev-alice", NotAfter: sampleNow + 200*86400,
			ChangedAt: sampleNow - 100*86400},
		Device: sampleDevice("active"), Owner: sampleOwner(),
		Profile:   ProfileFacts{Known: true, ID: "mp-1", FirstSeen: sampleNow - 90*86400, Certificate: "0a1b"},
		Ticket:    TicketFacts{Status: "none"},
		Assurance: "certificate", Exceptions: []ExceptionFacts{},
	}
}

func sampleDevice(state string) DeviceFacts {
	return DeviceFacts{Known: true, ID: "dev-alice", State: state, Managed: true, Compliant: "yes", EASDeviceID: "appl1a2b3c", SerialNumber: "F2LX", Model: "iPhone15,4",
		OS: "ios", OSVersion: "26.1", OSNumber: 26001000, ComplianceSince: sampleNow - 90*86400, Bucket: 42, Place: 1, Source: "mdm", SilentFor: 3600, Labels: map[string]string{"group": "sales"}}
}

func sampleOwner() OwnerFacts {
	return OwnerFacts{Known: true, Mail: "alice@contoso.com", Names: map[string]bool{"alice@contoso.com": true, "alice.a@contoso.com": true, `contoso\alice`: true},
		OID: "o-alice", TID: "t-contoso", Delegations: map[string]bool{"sales@contoso.com": true}, Devices: 1}
}

// sampleWith makes a sample that differs from the managed iPhone.
func sampleWith(name string, change func(*AccessInput)) accessSample {
	in := managedSample()
	change(&in)
	return accessSample{name, in}
}

// bare takes the certificate away.
func bare(in *AccessInput) { in.Certificate, in.Assurance = CertFacts{Status: "none"}, "claimed" }

// accessSamples are requests as they come in: every policy must have a decision for each.
func accessSamples() []accessSample {
	stranger := func(in *AccessInput) {
		bare(in)
		in.Device, in.Owner, in.Profile = NoDevice(), OwnerFacts{}, ProfileFacts{}
	}
	return append([]accessSample{
		sampleWith("managed", func(*AccessInput) {}),
		sampleWith("discovery", func(in *AccessInput) {
			stranger(in)
			in.Request = RequestFacts{Class: "discovery", Protocol: "eas", Tenant: "contoso", Host: "mail.contoso.com", Method: "OPTIONS", Command: "options",
				SourceIP: "203.0.113.7"}
			in.Credential, in.Claimed = CredentialFacts{Kind: "empty_bearer"}, ClaimedFacts{Family: "apple_mail", Platform: "ios"}
		}),
		sampleWith("unmanaged", stranger),
		sampleWith("duplicate_without_certificate", func(in *AccessInput) {
			bare(in)
			in.Duplicate = DuplicateFacts{DeviceIDManaged: true, ManagedDevice: "dev-alice"}
		}),
		sampleWith("duplicate_second_device_id", func(in *AccessInput) {
			in.Claimed.DeviceID, in.Claimed.Family, in.Device.EASDeviceID = "android2", "gmail", ""
			in.Profile.FirstSeen = sampleNow
			in.Duplicate = DuplicateFacts{OtherDeviceID: "android1", OtherLastSeen: sampleNow - 60, OtherFirstSeen: sampleNow - 86400, OtherIsOlder: true}
		}),
		sampleWith("revoked", func(in *AccessInput) { in.Certificate.Status, in.Certificate.Reason = "revoked", "keyCompromise" }),
		sampleWith("superseded", func(in *AccessInput) {
			in.Certificate.Status, in.Certificate.SuccessorFirstUse = "superseded", sampleNow-3600
		}),
		sampleWith("another_user", func(in *AccessInput) {
			in.Credential.User, in.Credential.Names, in.Credential.OID = "bob@contoso.com", map[string]bool{"bob@contoso.com": true}, "o-bob"
		}),
		sampleWith("unknown_client", func(in *AccessInput) {
			in.Claimed = ClaimedFacts{DeviceID: "x1", DeviceType: "Thing", UserAgent: "Thing/1.0", Family: "other", Platform: "unknown"}
		}),
		sampleWith("silent", func(in *AccessInput) { in.Device.SilentFor = 30 * 86400 }),
		sampleWith("excepted", func(in *AccessInput) {
			in.Device.SilentFor = 30 * 86400
			in.Exceptions = []ExceptionFacts{{ID: "ex-1", GrantedBy: "token:desk", Until: sampleNow + 86400, Reasons: []string{"device_silent"}}}
		}),
		sampleWith("basic", func(in *AccessInput) {
			in.Credential = CredentialFacts{Kind: "basic", User: `contoso\alice`, Names: map[string]bool{`contoso\alice`: true}}
		}),
	}, tokenSamples()...)
}

// tokenSamples are those that have to do with the OAuth front.
func tokenSamples() []accessSample {
	return []accessSample{
		sampleWith("token", func(in *AccessInput) {
			bare(in)
			in.Claimed = ClaimedFacts{DeviceID: "androidc12", DeviceType: "Android", UserAgent: "Android-Mail/2026.1", Family: "gmail", Platform: "android"}
			in.Device.EASDeviceID, in.Ticket = "", TicketFacts{Status: "live", ID: "0123456789abcdef", Device: "dev-alice"}
			in.Assurance, in.AssuranceUntil = "token", sampleNow+3600
		}),
		sampleWith("sign_in", func(in *AccessInput) {
			bare(in)
			in.Request = RequestFacts{Class: "token", Protocol: "oauth", Tenant: "contoso", Host: "mail.contoso.com", Method: "POST", Command: "authorization_code",
				SourceIP: "203.0.113.7"}
			in.Credential, in.Claimed, in.Profile = CredentialFacts{Kind: "none"}, ClaimedFacts{Family: "other", Platform: "unknown"}, ProfileFacts{}
			in.Assurance, in.Ticket = "token", TicketFacts{Status: "live", ID: "0123456789abcdef", Device: "dev-alice"}
		}),
	}
}

// enrollSamples are SCEP requests as they come in.
func enrollSamples() []enrollSample {
	base := func(change func(*EnrollInput)) EnrollInput {
		in := EnrollInput{Now: sampleNow, Kind: "enrol", Issuer: "contoso", Evidence: "challenge", Key: KeyFacts{Algorithm: "rsa", Bits: 2048},
			Requested: RequestedFacts{Mails: []string{"alice@contoso.com"}}, Device: sampleDevice("pending"), Owner: sampleOwner(),
			Domain: "contoso.com", Domains: []string{"contoso.com"}, SourceIP: "203.0.113.7", Exceptions: []ExceptionFacts{}}
		in.Device.Place, in.Owner.Devices = 0, 0 // it is the owner's first
		change(&in)
		return in
	}
	return []enrollSample{
		{"enrol", base(func(*EnrollInput) {})},
		{"renew", base(func(in *EnrollInput) {
			in.Kind, in.Evidence, in.Device = "renew", "renewal", sampleDevice("active")
			in.Renews = RenewsFacts{Serial: "0a1b", Status: "good", NotBefore: sampleNow - 86400, NotAfter: sampleNow + 86400}
		})},
		{"names_another", base(func(in *EnrollInput) { in.Requested.Mails = []string{"bob@contoso.com"} })},
		{"excepted", base(func(in *EnrollInput) {
			in.Device.Managed = false
			in.Exceptions = []ExceptionFacts{{ID: "ex-1", GrantedBy: "token:desk", Until: sampleNow + 86400, Reasons: []string{"not_managed"}}}
		})},
		{"weak_key", base(func(in *EnrollInput) { in.Key.Bits = 1024 })},
	}
}

// Sample returns the facts of a sample as JSON, those that tests find as data.postern.samples.ENTRY.NAME.
func Sample(entry, name string) ([]byte, error) {
	all := map[string]any{}
	switch entry {
	case "access":
		for _, s := range accessSamples() {
			all[s.name] = s.in
		}
	case "enroll":
		for _, s := range enrollSamples() {
			all[s.name] = s.in
		}
	case "lifecycle":
		for _, s := range lifecycleSamples() {
			all[s.name] = s.in
		}
	}
	in, ok := all[name]
	if !ok {
		return nil, fmt.Errorf("there is no sample %q of %s: there is %s", name, entry, strings.Join(slices.Sorted(maps.Keys(all)), ", "))
	}
	return json.Marshal(in)
}

// sampleAttempts is how often a sample may run into the time limit: on a busy machine one may, and a policy that always does is too slow.
const sampleAttempts = 3

// prove lets the policy decide every sample, up to the first that takes too long.
func (e *Engine) prove(ctx context.Context) ([]SampleResult, []Problem) {
	var results []SampleResult
	var problems []Problem
	late := false
	try := func(entry, name string, input *ast.Term, decide func() (Decision, error)) {
		if late {
			return // so would be all others, each for its full time
		}
		d, err := decide()
		for i := 1; i < sampleAttempts && errors.Is(err, ErrTimeout); i++ {
			d, err = decide()
		}
		if err != nil {
			late = errors.Is(err, ErrTimeout)
			problems = append(problems, e.problemOf(ctx, entry, name, input.Value, err))
			return
		}
		codes := []string{}
		for _, r := range d.Reasons {
			codes = append(codes, r.Code)
		}
		results = append(results, SampleResult{entry, name, d.Action, codes})
	}
	for _, s := range accessSamples() {
		try("access", s.name, s.in.value(), func() (Decision, error) { return e.decideAccess(ctx, &s.in) })
	}
	for _, s := range lifecycleSamples() {
		try("lifecycle", s.name, s.in.value(), func() (Decision, error) { return e.Lifecycle(ctx, &s.in) })
	}
	for _, s := range enrollSamples() {
		try("enroll", s.name, s.in.value(), func() (Decision, error) { return e.Enroll(ctx, &s.in) })
	}
	return results, problems
}

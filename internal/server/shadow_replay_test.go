package server

import (
	"context"
	"encoding/json"
	"fmt"
	"path/filepath"
	"reflect"
	"testing"
	"time"

	"postern/internal/policy"
	"postern/internal/registry/bolt"
	"postern/internal/trust"
)

// phone is what one of many phones sends; some are blocked, some have no certificate, and some are what a stricter policy would not let through.
func phone(n int, now time.Time) policy.AccessInput {
	user, device := fmt.Sprintf("user%d@contoso.com", n/3), fmt.Sprint("dev-", n/3)
	names := map[string]bool{user: true}
	in := policy.AccessInput{Now: now.Unix(), Assurance: "certificate",
		Request:     policy.RequestFacts{Class: "command", Protocol: "eas", Tenant: "contoso", Method: "POST", Command: []string{"sync", "ping", "foldersync"}[n%3], Version: 161},
		Claimed:     policy.ClaimedFacts{DeviceID: fmt.Sprint("phone", n/3), Family: []string{"apple_mail", "gmail"}[n/3%2]},
		Credential:  policy.CredentialFacts{Kind: "basic", User: user, Names: names},
		Certificate: policy.CertFacts{Present: true, Status: "good", Issuer: "contoso", Serial: fmt.Sprintf("%032x", n/3), Device: device, NotAfter: now.Add(24 * time.Hour).Unix()},
		Device:      policy.DeviceFacts{Known: true, ID: device, State: "active", Managed: true, Compliant: "unknown", Labels: map[string]string{}},
		Owner:       policy.OwnerFacts{Known: true, Mail: user, Names: names, Delegations: map[string]bool{}},
	}
	switch n / 3 % 7 {
	case 1:
		in.Device.State = string(trust.Blocked)
	case 2:
		in.Certificate, in.Assurance = policy.CertFacts{Problem: "none"}, "claimed"
	case 3:
		in.Device.Labels["screen_lock"] = "no"
	}
	return in
}

// Over the traffic that a shadow has evaluated, its differences are exactly those that a replay of the journal finds.
func TestShadowAndJournalAgree(t *testing.T) {
	journal, err := bolt.OpenJournal(filepath.Join(t.TempDir(), "journal.db"), bolt.JournalOptions{StrangerRate: 1 << 20, SourceRate: 1 << 20, DeviceRate: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = journal.Close() })
	load := func(files policy.Files) *policy.Engine {
		t.Helper()
		e, err := policy.Load(t.Context(), policy.Options{Files: files})
		if err != nil {
			t.Fatal(err)
		}
		return e
	}
	stricter := policy.Files{"team.rego": []byte("package postern.access.team.stricter\n\ndeny contains \"no_screen_lock\" if input.device.labels.screen_lock == \"no\"\n\n" +
		"quarantine contains \"no_pings\" if {\n\tinput.request.command == \"ping\"\n\tinput.claimed.family == \"gmail\"\n}\n")}
	active, shadow := policy.NewActive(load(policy.Files{})), policy.NewShadow(load(stricter))
	active.Beside(shadow)
	go func() { _ = shadow.Run(t.Context()) }()
	const phones = 420
	begin := time.Now()
	for n := range phones {
		in := phone(n, begin)
		for range 2 {
			record(t, active.Load(), journal, in)
		}
	}
	eventually(t, "the shadow has seen all", func() bool { r := shadow.Report(); return uint64(r.Decisions) == r.Offered })
	got := shadow.Report()
	time.Sleep(time.Second)
	want, err := load(stricter).Replay(t.Context(), func(yield func(policy.Recorded, error) bool) {
		page, next, err := journal.Recorded(t.Context(), begin.Add(-time.Hour), "", 10_000)
		if err != nil || next != "" {
			t.Errorf("%q, %v", next, err)
		}
		for _, d := range page {
			r := policy.Recorded{Entry: "access", Reference: d.Reference, At: d.At, Action: d.Action, Policy: d.Policy, User: d.User, Device: string(d.Device), Command: d.Command, Input: d.Input}
			for _, x := range d.Reasons {
				r.Codes = append(r.Codes, x.Code)
			}
			if !yield(r, nil) {
				return
			}
		}
	}, policy.ReplayOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if got.Evaluated != phones || want.Evaluated != phones || got.Dropped != 0 || got.Changed < 50 {
		t.Errorf("the shadow evaluated %d and dropped %d, the replay evaluated %d, of %d; %d would change", got.Evaluated, got.Dropped, want.Evaluated, phones, got.Changed)
	}
	if !reflect.DeepEqual(differences(got.ReplayReport), differences(want)) {
		t.Errorf("shadow\n%v\nreplay\n%v", differences(got.ReplayReport), differences(want))
	}
}

// record decides and records as the edge does: a refusal each time that it is made anew, and of allows the facts.
func record(t *testing.T, e *policy.Engine, journal *bolt.Journal, in policy.AccessInput) {
	t.Helper()
	d, err := e.Judge(context.Background(), &in)
	if err != nil {
		t.Fatal(err)
	}
	if !d.Fresh {
		return
	}
	out := trust.Decision{At: time.Unix(in.Now, 0), Door: "edge", Action: d.Action, Reasons: d.Reasons, Policy: d.Policy, User: in.Credential.User, Device: trust.DeviceID(in.Device.ID),
		Serial: trust.Serial(in.Certificate.Serial), Command: in.Request.Command}
	if d.Action == trust.Allow && len(d.Reasons) == 0 {
		out.Facts, out.Input = in.RecordKey(), in.Record()
	} else {
		if out.Reference = trust.NewReference(out.At); d.Action == trust.Allow {
			out.Facts = in.RecordKey()
			out.Reference = trust.ReferenceOf(out.Facts)
		}
		if out.Input, err = json.Marshal(in); err != nil {
			t.Fatal(err)
		}
	}
	journal.Record(out)
}

// differences is everything that a report says of what would change, but for which examples it has picked.
func differences(r *policy.ReplayReport) string {
	groups := make([]policy.ReplayGroup, len(r.Groups))
	for i, g := range r.Groups {
		groups[i] = policy.ReplayGroup{Before: g.Before, After: g.After, Count: g.Count, Users: g.Users, Devices: g.Devices, Clients: g.Clients}
	}
	text, err := json.Marshal(map[string]any{"changed": r.Changed, "unchanged": r.Unchanged, "faults": r.Faults, "unreadable": r.Unreadable, "rules": r.Rules, "groups": groups})
	if err != nil {
		return err.Error()
	}
	return string(text)
}

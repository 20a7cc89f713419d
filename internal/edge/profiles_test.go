package edge_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"postern/internal/registry"
)

// TestNothingIsWrittenForStrangers invents DeviceIds: the registry does not move.
func TestNothingIsWrittenForStrangers(t *testing.T) {
	w := newWorld(t, options{})
	w.managed(alice, aliceEAS)
	before := w.index.Revision()
	c := w.phone(nil, false)
	for i := range 30 {
		w.do(c, command("FolderSync", alice, "INVENTED"+strings.Repeat("X", i%20)))
	}
	w.sync()
	if after := w.index.Revision(); after != before {
		t.Errorf("the registry moved from %d to %d", before, after)
	}
	// Users invented under the DeviceId of a managed phone are recorded, up to a limit.
	for i := range 30 {
		w.do(c, command("FolderSync", strings.Repeat("u", i+1)+"@contoso.com", aliceEAS))
	}
	w.sync()
	if n := len(w.index.ProfilesOfClient(strings.ToLower(aliceEAS))); n != 20 {
		t.Errorf("%d mail profiles recorded, want 20", n)
	}
}

// TestProfiles looks at what is recorded of a phone.
func TestProfiles(t *testing.T) {
	w := newWorld(t, options{})
	d, c := w.managed(alice, "")
	phone := w.phone(&c, false)
	for range 3 {
		w.do(phone, command("FolderSync", alice, aliceEAS))
	}
	profiles := w.index.ProfilesOfDevice(d.ID)
	if len(profiles) != 1 {
		t.Fatalf("profiles: %+v", profiles)
	}
	p := profiles[0]
	if p.Tenant != "contoso" || p.ClientID != strings.ToLower(aliceEAS) || p.User != alice || p.Credential != "basic" || p.Serial != serialOf(c) || p.Family != "apple_mail" {
		t.Errorf("profile: %+v", p)
	}
	n, _, err := w.journal.AllowCount(context.Background(), p.ID)
	if err != nil || n != 3 {
		t.Errorf("allowed %d times, %v", n, err)
	}
	newer := w.enrol(d, leaf{}, &c)
	w.do(w.phone(&newer, false), command("FolderSync", alice, aliceEAS))
	w.do(phone, command("FolderSync", alice, aliceEAS))
	w.sync()
	if p := w.index.ProfilesOfDevice(d.ID)[0]; p.Serial != serialOf(newer) {
		t.Errorf("profile stays with %s", p.Serial)
	}
	entries, err := w.reg.Profiles(context.Background(), registry.ProfileFilter{Device: d.ID})
	if err != nil || len(entries) != 1 {
		t.Errorf("%d profiles, %v", len(entries), err)
	}
}

// TestManagedInventor invents DeviceIds and users on a phone with a good certificate: the store holds so many, and then nothing is written any more.
func TestManagedInventor(t *testing.T) {
	w := newWorld(t, options{})
	d, c := w.managed(alice, "")
	phone := w.phone(&c, false)
	for i := range 30 {
		w.do(phone, command("FolderSync", alice, fmt.Sprintf("INVENTED%d", i)))
	}
	w.sync()
	if n := len(w.index.ProfilesOfDevice(d.ID)); n != 20 {
		t.Errorf("%d mail profiles recorded, want 20", n)
	}
	w.eventually(func() bool { // what is written later, the first use of the certificate
		known, _ := w.index.Certificate("contoso", serialOf(c))
		return !known.FirstUsed.IsZero()
	})
	before := w.index.Revision()
	for i := range 30 {
		w.do(phone, command("FolderSync", alice, fmt.Sprintf("INVENTED%d", i)))
		w.do(phone, command("FolderSync", fmt.Sprintf("u%d@contoso.com", i), "INVENTED1"))
	}
	w.sync()
	if after := w.index.Revision(); after != before {
		t.Errorf("60 requests moved the registry from %d to %d", before, after)
	}
}

// TestCopiedTicket: a phone that is known by the token of its ticket alone has its mail profile, and who copied the ticket, or the token, to another phone is
// quarantined under the second DeviceId. A new ticket, as after a wipe, begins anew.
func TestCopiedTicket(t *testing.T) {
	w, p := oauthWorld(t)
	w.team(`postern: {config: {access: {token_families: [gmail]}}}`)
	d := w.settled(alice)
	command := func(token, deviceID string) call {
		return call{query: "Cmd=FolderSync&User=" + alice + "&DeviceId=" + deviceID + "&DeviceType=Android", agent: "Android-Mail/2026.1", auth: "Bearer " + token}
	}
	signIn := func(ticket string) string {
		t.Helper()
		token, says := tokenFor(alice)
		p.says(says)
		if r := w.signIn(w.phone(nil, true), ticket, codeForm); r.status != 200 {
			t.Fatalf("%d %q", r.status, r.body)
		}
		return token
	}
	ticket, k := w.ticket(d)
	w.pass(time.Minute)
	token := signIn(ticket)
	phone, copy := w.phone(nil, true), w.phone(nil, true)
	for range 2 {
		if r := w.do(phone, command(token, "androidc42")); phoneSees(r) != mail {
			t.Fatalf("the phone itself: %s", phoneSees(r))
		}
	}
	all := w.index.ProfilesOfDevice(d.ID)
	if len(all) != 1 || all[0].ClientID != "androidc42" || all[0].Serial != "" {
		t.Fatalf("profiles of the device: %+v", all)
	}
	for _, token := range []string{token, signIn(ticket)} {
		r := w.do(copy, command(token, "androidc43"))
		if phoneSees(r) != blocked {
			t.Fatalf("a copy: %s", phoneSees(r))
		}
		if _, codes := w.reasons(r.reference); !slices.Contains(codes, "duplicate_profile_second_device_id") {
			t.Errorf("a copy: %q", codes)
		}
		if r := w.do(phone, command(token, "androidc42")); phoneSees(r) != mail {
			t.Errorf("the phone itself, beside a copy: %s", phoneSees(r))
		}
	}
	// After a wipe its MDM gives it another ticket, and it comes under another DeviceId.
	w.pass(time.Minute)
	_, _, err := w.reg.RevokeTicket(t.Context(), root, k.ID)
	must(t, err)
	ticket, _ = w.ticket(d)
	w.pass(time.Minute)
	if r := w.do(phone, command(signIn(ticket), "androidc44")); phoneSees(r) != mail {
		_, codes := w.reasons(r.reference)
		t.Errorf("after a wipe: %s %q", phoneSees(r), codes)
	}
}

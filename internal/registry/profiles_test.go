package registry_test

import (
	"testing"
	"time"

	"postern/internal/registry"
	"postern/internal/trust"
)

// seen is a mail profile as the edge reports it.
func seen(client, user string) trust.MailProfile {
	return trust.MailProfile{Tenant: "contoso", Protocol: "eas", ClientID: client, User: user, Credential: "bearer", Family: "ios",
		LastSeen: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)}
}

func (w *world) observe(m trust.MailProfile) (trust.MailProfile, bool) {
	w.Helper()
	out, created, err := w.reg.ObserveProfile(w.Context(), edgeDoor, m)
	w.must(err)
	return out, created
}

// A mail profile is one row by tenant, protocol, client id, user and kind of credential, and audited when it is new.
func TestProfileIsUnique(t *testing.T) {
	w := newWorld(t)
	m, created := w.observe(seen("abc", "alice@contoso.com"))
	if !created || m.ID == "" || !m.FirstSeen.Equal(m.LastSeen) {
		t.Errorf("first sight: %+v, %v", m, created)
	}
	if e := w.newest(registry.AuditFilter{Object: m.ID}); e.Action != registry.ActProfileObserve {
		t.Errorf("audit: %+v", e)
	}
	later := seen("abc", "alice@contoso.com")
	later.LastSeen = later.LastSeen.Add(time.Hour)
	before := w.audits()
	again, created := w.observe(later)
	if created || again.ID != m.ID || !again.FirstSeen.Equal(m.FirstSeen) || !again.LastSeen.Equal(later.LastSeen) || w.audits() != before {
		t.Errorf("second sight: %+v, %v", again, created)
	}
	others := []func(*trust.MailProfile){
		func(m *trust.MailProfile) { m.Tenant = "fabrikam" }, func(m *trust.MailProfile) { m.Protocol = "imap" },
		func(m *trust.MailProfile) { m.ClientID = "abd" }, func(m *trust.MailProfile) { m.User = "bob@contoso.com" },
		func(m *trust.MailProfile) { m.Credential = "basic" },
	}
	for i, change := range others {
		o := seen("abc", "alice@contoso.com")
		change(&o)
		if o, created := w.observe(o); !created || o.ID == m.ID {
			t.Errorf("difference %d is the same profile", i)
		}
	}
}

// What a client claims may be anything; a key that could be two, or that would not come back as it went in, is refused.
func TestProfileHostile(t *testing.T) {
	w := newWorld(t)
	for _, bad := range []string{"a\x00b", "a\xffb", "a\nb", string(make([]byte, 300))} {
		for _, m := range []trust.MailProfile{seen(bad, "alice@contoso.com"), seen("abc", bad)} {
			_, _, err := w.reg.ObserveProfile(t.Context(), edgeDoor, m)
			w.want(err, trust.ErrInvalid)
		}
	}
}

// The certificate that a profile comes with is refreshed; going to another device is audited; one that an administrator linked stays.
func TestProfileLinked(t *testing.T) {
	w := newWorld(t)
	a, b := w.device("alice@contoso.com"), w.device("alice@contoso.com")
	with := func(serial trust.Serial, d trust.DeviceID) trust.MailProfile {
		m := seen("abc", "alice@contoso.com")
		m.Serial, m.Device = serial, d
		return m
	}
	m, _ := w.observe(with("01", a.ID))
	if m, _ = w.observe(with("02", a.ID)); m.Serial != "02" || m.Device != a.ID {
		t.Errorf("a renewed certificate: %+v", m)
	}
	if m, _ = w.observe(seen("abc", "alice@contoso.com")); m.Serial != "02" || m.Device != a.ID {
		t.Errorf("once without certificate: %+v", m)
	}
	before := w.audits()
	if m, _ = w.observe(with("03", b.ID)); m.Device != b.ID {
		t.Errorf("rebound: %+v", m)
	}
	if e := w.newest(registry.AuditFilter{Object: m.ID}); w.audits() != before+1 || e.Before == nil {
		t.Errorf("rebinding is not audited: %+v", e)
	}
	m, err := w.reg.LinkProfile(t.Context(), desk, m.ID, a.ID)
	w.must(err)
	if m, _ = w.observe(with("03", b.ID)); m.Device != a.ID || !m.Linked {
		t.Errorf("the link was overwritten: %+v", m)
	}
	_, err = w.reg.LinkProfile(t.Context(), desk, m.ID, "dev-none")
	w.want(err, trust.ErrNotFound)
	_, err = w.reg.LinkProfile(t.Context(), desk, "mp-none", a.ID)
	w.want(err, trust.ErrNotFound)
	_, err = w.reg.RetireDevice(t.Context(), officer, b.ID, "")
	w.must(err)
	_, err = w.reg.LinkProfile(t.Context(), desk, m.ID, b.ID)
	w.want(err, trust.ErrConflict)
}

func TestProfileForgotten(t *testing.T) {
	w := newWorld(t)
	m, _ := w.observe(seen("abc", "alice@contoso.com"))
	w.must(w.reg.ForgetProfile(t.Context(), desk, m.ID))
	_, err := w.reg.Profile(t.Context(), m.ID)
	w.want(err, trust.ErrNotFound)
	w.want(w.reg.ForgetProfile(t.Context(), desk, m.ID), trust.ErrNotFound)
	if again, created := w.observe(seen("abc", "alice@contoso.com")); !created || again.ID == m.ID {
		t.Errorf("not a newcomer: %+v", again)
	}
}

func TestProfileList(t *testing.T) {
	w := newWorld(t)
	d := w.device("alice@contoso.com")
	for i := range 7 {
		m := seen(string(rune('a'+i)), "alice@contoso.com")
		m.LastSeen = m.LastSeen.Add(time.Duration(i) * time.Hour)
		if i < 2 {
			m.Serial, m.Device = "01", d.ID
		}
		w.observe(m)
	}
	w.observe(seen("z", "bob@contoso.com"))
	for want, f := range map[int]registry.ProfileFilter{8: {}, 2: {Device: d.ID}, 7: {User: "ALICE@contoso.com"}, 1: {User: "bob@contoso.com"}, 6: {Unconnected: true},
		3: {SeenBefore: seen("", "").LastSeen.Add(2 * time.Hour)}} {
		got, err := w.reg.Profiles(t.Context(), f)
		w.must(err)
		if len(got) != want {
			t.Errorf("%+v: %d profiles, want %d", f, len(got), want)
		}
	}
	pages, after := 0, ""
	for n := 0; n < 8; pages++ {
		got, err := w.reg.Profiles(t.Context(), registry.ProfileFilter{After: after, Limit: 3})
		w.must(err)
		for _, m := range got {
			if m.ID <= after {
				t.Fatalf("%s after %s", m.ID, after)
			}
			after = m.ID
			n++
		}
	}
	if pages != 3 {
		t.Errorf("%d pages", pages)
	}
}

// Stale profiles go: 180 days after they were last seen, 30 where no certificate came with them, and never those that an administrator linked.
func TestDeleteStaleProfiles(t *testing.T) {
	w := newWorld(t)
	d := w.device("alice@contoso.com")
	at := w.now()
	add := func(client string, serial trust.Serial) trust.MailProfile {
		m := seen(client, "alice@contoso.com")
		m.LastSeen, m.Serial, m.Device = at, serial, d.ID
		m, _ = w.observe(m)
		return m
	}
	proved, unproved, linked := add("proved", "0a"), add("unproved", ""), add("linked", "")
	_, err := w.reg.LinkProfile(t.Context(), officer, linked.ID, d.ID)
	w.must(err)
	for _, c := range []struct {
		pass time.Duration
		gone string // of the profiles, the one that is deleted then
	}{{30 * day, ""}, {1, unproved.ID}, {150*day - 1, ""}, {1, proved.ID}, {1000 * day, ""}} {
		w.pass(c.pass)
		n, err := w.reg.DeleteStaleProfiles(t.Context(), w.now())
		w.must(err)
		if (n == 1) != (c.gone != "") || n > 1 {
			t.Errorf("after %s: %d deleted", w.now().Sub(at), n)
		}
		if c.gone != "" {
			_, err := w.reg.Profile(t.Context(), c.gone)
			w.want(err, trust.ErrNotFound)
			if e := w.newest(registry.AuditFilter{Object: c.gone}); e.Action != registry.ActProfileForget {
				t.Errorf("audit: %+v", e)
			}
		}
	}
	back := seen("proved", "alice@contoso.com")
	if m, created := w.observe(back); !created || m.ID == proved.ID {
		t.Errorf("a profile that was deleted comes back as %+v, %v", m, created)
	}
}

package registry_test

import (
	"testing"

	"postern/internal/registry"
	"postern/internal/trust"
)

func TestSettleProfile(t *testing.T) {
	w := newWorld(t)
	x := w.index()
	w.follow(x)
	d := w.device("alice@contoso.com")
	c := w.enrol(d)
	observe := func(client string, with trust.Serial) trust.MailProfile {
		t.Helper()
		s := seen(client, "alice@contoso.com")
		s.Serial, s.Family = with, "gmail"
		if with != "" {
			s.Device = d.ID
		}
		p, _, err := w.reg.ObserveProfile(t.Context(), edgeDoor, s)
		w.must(err)
		return p
	}
	old, fresh, bare := observe("android1", c.Serial), observe("android2", c.Serial), observe("android3", "")
	settle := func(id string, s registry.Settlement) trust.MailProfile {
		t.Helper()
		p, rev, err := w.reg.SettleProfile(t.Context(), desk, id, s)
		w.must(err)
		w.must(x.CatchUp(t.Context(), rev))
		if known, ok := x.Profile(p.Key()); !ok || known.Linked != p.Linked || known.Refused != p.Refused {
			t.Errorf("the index has %+v, %v, want %+v", known, ok, p)
		}
		return p
	}
	if p := settle(fresh.ID, registry.Settlement{Comment: "not hers"}); !p.Refused || p.Linked {
		t.Errorf("%+v", p)
	}
	if a := w.newest(registry.AuditFilter{Action: registry.ActProfileSettle}); a.Principal != desk || a.Object != fresh.ID || a.Detail != "refused: not hers" {
		t.Errorf("%+v", a)
	}
	if p := observe("android2", c.Serial); !p.Refused {
		t.Error("seen again, it is no longer refused")
	}
	if p := settle(fresh.ID, registry.Settlement{Allow: true}); p.Refused || !p.Linked || p.Device != d.ID {
		t.Errorf("%+v", p)
	}
	if _, err := w.reg.Profile(t.Context(), old.ID); err != nil {
		t.Errorf("the other is gone: %v", err)
	}
	settle(fresh.ID, registry.Settlement{Allow: true, Replace: true, Comment: "wiped"})
	_, err := w.reg.Profile(t.Context(), old.ID)
	w.want(err, trust.ErrNotFound)
	if a := w.newest(registry.AuditFilter{Action: registry.ActProfileForget}); a.Object != old.ID {
		t.Errorf("%+v", a)
	}
	for _, tt := range []struct {
		id   string
		s    registry.Settlement
		want error
	}{
		{bare.ID, registry.Settlement{Allow: true}, trust.ErrConflict},
		{fresh.ID, registry.Settlement{Replace: true}, trust.ErrInvalid},
		{fresh.ID, registry.Settlement{Comment: "a\x1b"}, trust.ErrInvalid},
		{"mp-none", registry.Settlement{}, trust.ErrNotFound},
	} {
		_, _, err := w.reg.SettleProfile(t.Context(), desk, tt.id, tt.s)
		w.want(err, tt.want)
	}
}

package registry_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"postern/internal/registry"
	"postern/internal/trust"
)

func (w *world) revokeMany(targets []registry.RevokeTarget, dry bool) []registry.Revoked {
	w.Helper()
	out, _, err := w.reg.RevokeMany(w.Context(), officer, targets, trust.AffiliationChanged, "left", dry)
	w.must(err)
	if len(out) != len(targets) {
		w.Fatalf("%d results for %d targets", len(out), len(targets))
	}
	return out
}

// Serial numbers, devices and owners, with what cannot be found between them; looked at first, then done, then done again.
func TestRevokeMany(t *testing.T) {
	w := newWorld(t)
	alice, bob, carol := w.device("alice@contoso.com"), w.device("bob@contoso.com"), w.device("carol@contoso.com")
	old := w.enrol(alice)
	new, err := w.renew(alice, old.Serial)
	w.must(err)
	bobs, carols, fabrikams := w.enrol(bob), w.enrol(carol), w.enrol(w.device("bob@fabrikam.com"))
	targets := []registry.RevokeTarget{{Serial: new.Serial}, {Device: bob.ID}, {Serial: "ffff"}, {Owner: "Carol@contoso.com"}, {Owner: "nobody@contoso.com"},
		{Device: "dev-none"}, {}, {Serial: "01", Device: bob.ID}, {Owner: "carol@contoso.com", Issuer: "fabrikam"}}
	want := []string{fmt.Sprint([]trust.Serial{new.Serial, old.Serial}), fmt.Sprint([]trust.Serial{bobs.Serial}), "", fmt.Sprint([]trust.Serial{carols.Serial}), "", "", "", "", "[]"}
	check := func(when string, got []registry.Revoked, revoked bool) {
		t.Helper()
		for i, r := range got {
			switch {
			case (want[i] == "") != (r.Err != nil):
				t.Errorf("%s: target %d: error %v", when, i, r.Err)
			case revoked && want[i] != "" && fmt.Sprint(r.Certificates) != want[i], !revoked && len(r.Certificates) > 0:
				t.Errorf("%s: target %d: %v, want %s", when, i, r.Certificates, want[i])
			}
		}
	}
	before, rev := w.listed()
	check("dry", w.revokeMany(targets, true), true)
	if after, now := w.listed(); len(after) != len(before) || now != rev {
		t.Error("a dry run has changed something")
	}
	check("first", w.revokeMany(targets, false), true)
	for _, c := range []trust.Certificate{old, new, bobs, carols} {
		if got := w.cert(c); got.Status != trust.Revoked || got.Reason != trust.AffiliationChanged {
			t.Errorf("%s: %s (%s)", c.Serial, got.Status, got.Reason)
		}
	}
	if c := w.cert(old); c.Comment != "superseded by "+string(new.Serial)+", which is revoked" || w.cert(new).Comment != "left" {
		t.Errorf("comments %q and %q", c.Comment, w.cert(new).Comment)
	}
	if w.status(fabrikams) != trust.Good {
		t.Error("another owner's certificate was revoked")
	}
	if e := w.newest(registry.AuditFilter{Object: string(bobs.Serial)}); e.Action != registry.ActRevoke || e.Detail != "left" || e.Principal != officer {
		t.Errorf("audit %+v", e)
	}
	_, rev = w.listed()
	again := w.revokeMany(targets, false)
	check("again", again, false)
	if again[0].Already != 1 || again[1].Already != 1 || again[3].Already != 1 || again[8].Already != 0 {
		t.Errorf("again: %+v", again)
	}
	if _, now := w.listed(); now != rev {
		t.Error("repeating it has made a revision")
	}
}

// Of a device or an owner, what has expired is passed over; named by its serial number it is revoked, as by Revoke.
func TestRevokeManyExpired(t *testing.T) {
	w := newWorld(t)
	d := w.device("alice@contoso.com")
	c := w.enrol(d)
	w.pass(400 * 24 * time.Hour)
	out := w.revokeMany([]registry.RevokeTarget{{Device: d.ID}, {Owner: d.Owner}, {Serial: c.Serial}}, false)
	if out[0].Expired != 1 || out[1].Expired != 1 || len(out[0].Certificates)+len(out[1].Certificates) != 0 || len(out[2].Certificates) != 1 {
		t.Errorf("%+v", out)
	}
}

// More certificates than fit into a commit; and an end of the context leaves whole commits, of which the results tell.
func TestRevokeManyInterrupted(t *testing.T) {
	w := newWorld(t)
	var targets []registry.RevokeTarget
	for range 600 {
		targets = append(targets, registry.RevokeTarget{Serial: w.enrol(w.device("alice@contoso.com")).Serial})
	}
	_, _, err := w.reg.RevokeMany(t.Context(), officer, append(targets, targets...), "", "", false)
	w.want(err, trust.ErrInvalid)
	_, _, err = w.reg.RevokeMany(t.Context(), officer, targets, trust.CertificateHold, "", false)
	w.want(err, trust.ErrInvalid)
	_, _, err = w.reg.RevokeMany(t.Context(), officer, targets, "", strings.Repeat("x", 2000), false)
	w.want(err, trust.ErrInvalid)
	_, _, err = w.reg.RevokeMany(t.Context(), desk, targets, "", "", false)
	w.want(err, trust.ErrForbidden)
	_, _, err = w.reg.RevokeMany(t.Context(), desk, []registry.RevokeTarget{{Serial: "ffff"}}, "", "", false)
	w.want(err, trust.ErrForbidden)

	// The context ends with the first commit.
	_, rev := w.listed()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	go func() {
		_, _ = w.store.Wait(t.Context(), rev)
		cancel()
	}()
	out, _, err := w.reg.RevokeMany(ctx, officer, targets, trust.KeyCompromise, "", false)
	n := 0
	for _, r := range out {
		n += len(r.Certificates)
	}
	listed, now := w.listed()
	if len(listed) != n || int(now-rev) != (n+249)/250 {
		t.Errorf("%d are revoked in %d commits, and the results say %d: %v", len(listed), now-rev, n, err)
	}
	out = w.revokeMany(targets, false)
	already := 0
	for _, r := range out {
		already += r.Already
	}
	if listed, _ := w.listed(); len(listed) != len(targets) || already != n {
		t.Errorf("%d of %d after going on, %d already", len(listed), len(targets), already)
	}
}

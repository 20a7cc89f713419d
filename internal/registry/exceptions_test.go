package registry_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"postern/internal/registry"
	"postern/internal/trust"
)

// exception is one that may be granted, for an owner or a device.
func (w *world) exception(owner string, device trust.DeviceID) trust.Exception {
	return trust.Exception{Owner: owner, Device: device, Reasons: []string{"device_silent", "a_rule", "a_rule"}, Until: w.now().Add(time.Hour), Comment: "ticket 4711"}
}

func (w *world) grantException(owner string, device trust.DeviceID) trust.Exception {
	w.Helper()
	e, _, err := w.reg.GrantException(w.Context(), desk, w.exception(owner, device))
	w.must(err)
	return e
}

func TestExceptionLife(t *testing.T) {
	w := newWorld(t)
	x := w.index()
	w.follow(x)
	d, other := w.device("alice@contoso.com"), w.device("alice@contoso.com")
	stranger := w.device("bob@contoso.com")
	forAll := w.grantException(" Alice@Contoso.com ", "")
	forOne := w.grantException("", d.ID)
	if forAll.Owner != "alice@contoso.com" || forAll.By != desk || strings.Join(forAll.Reasons, ",") != "a_rule,device_silent" || forOne.Owner != "alice@contoso.com" {
		t.Fatalf("%+v, %+v", forAll, forOne)
	}
	if a := w.newest(registry.AuditFilter{Action: registry.ActExceptionGrant}); a.Principal != desk || a.Object != string(d.ID) || !strings.Contains(a.Detail, "4711") {
		t.Errorf("%+v", a)
	}
	expect := func(device trust.Device, want ...string) {
		t.Helper()
		w.catchUp(x)
		stored, err := w.reg.ExceptionsFor(t.Context(), device)
		w.must(err)
		for name, got := range map[string][]trust.Exception{"index": x.ExceptionsFor(&device), "fresh index": w.index().ExceptionsFor(&device), "registry": stored} {
			ids := map[string]bool{}
			for _, e := range got {
				ids[e.ID] = e.Live(w.now())
			}
			if len(ids) != len(want) {
				t.Errorf("%s: %v, want %v", name, ids, want)
			}
			for _, id := range want {
				if !ids[id] {
					t.Errorf("%s: %v, want %v", name, ids, want)
				}
			}
		}
	}
	expect(d, forAll.ID, forOne.ID)
	expect(other, forAll.ID)
	expect(stranger)

	revoked, _, err := w.reg.RevokeException(t.Context(), desk, forAll.ID, "settled")
	w.must(err)
	if revoked.Live(w.now()) {
		t.Error("revoked, and it counts")
	}
	expect(d, forOne.ID)
	before := w.audits()
	_, _, err = w.reg.RevokeException(t.Context(), desk, forAll.ID, "again")
	w.must(err)
	if w.audits() != before {
		t.Error("revoking a revoked one is a change")
	}
	_, _, err = w.reg.RevokeException(t.Context(), desk, "ex-none", "")
	w.want(err, trust.ErrNotFound)

	// The phone goes to somebody else, and what was granted stays behind.
	d, err = w.reg.ReassignDevice(t.Context(), officer, d.ID, trust.Owner{Mail: "carol@contoso.com"})
	w.must(err)
	expect(d)
}

// A change of an exception names whom it is about, and nobody else.
func TestExceptionTouches(t *testing.T) {
	w := newWorld(t)
	d := w.device("alice@contoso.com")
	_, rev := w.listed()
	e := w.grantException("alice@contoso.com", "")
	one := w.grantException("", d.ID)
	changes, err := w.store.Changes(t.Context(), rev, 100)
	w.must(err)
	got := ""
	for _, c := range changes {
		got += fmt.Sprintf("%s %s;", c.Kind, c.ID)
	}
	want := []string{"exception " + e.ID, "owner alice@contoso.com", "exception " + one.ID, "device " + string(d.ID)}
	for _, s := range want {
		if !strings.Contains(got, s+";") {
			t.Errorf("%s is missing in %s", s, got)
		}
	}
	if len(changes) != len(want) {
		t.Errorf("changes: %s", got)
	}
}

func TestExceptionsThatAreNotGranted(t *testing.T) {
	w := newWorld(t)
	d := w.device("alice@contoso.com")
	retired := w.device("alice@contoso.com")
	_, err := w.reg.RetireDevice(t.Context(), officer, retired.ID, "")
	w.must(err)
	many := []string{}
	for i := range registry.MaxExceptionReasons + 1 {
		many = append(many, fmt.Sprint("r", i))
	}
	for name, c := range map[string]struct {
		change func(*trust.Exception)
		want   error
	}{
		"nobody":           {func(e *trust.Exception) { e.Owner = "" }, trust.ErrInvalid},
		"two":              {func(e *trust.Exception) { e.Device = d.ID }, trust.ErrInvalid},
		"unknown owner":    {func(e *trust.Exception) { e.Owner = "nobody@contoso.com" }, trust.ErrNotFound},
		"unknown device":   {func(e *trust.Exception) { e.Owner, e.Device = "", "dev-none" }, trust.ErrNotFound},
		"retired device":   {func(e *trust.Exception) { e.Owner, e.Device = "", retired.ID }, trust.ErrConflict},
		"no reason":        {func(e *trust.Exception) { e.Reasons = nil }, trust.ErrInvalid},
		"too many reasons": {func(e *trust.Exception) { e.Reasons = many }, trust.ErrInvalid},
		"a sentence":       {func(e *trust.Exception) { e.Reasons = []string{"Not today"} }, trust.ErrInvalid},
		"no end":           {func(e *trust.Exception) { e.Until = time.Time{} }, trust.ErrInvalid},
		"past":             {func(e *trust.Exception) { e.Until = w.now() }, trust.ErrInvalid},
		"too long":         {func(e *trust.Exception) { e.Until = w.now().Add(registry.DefaultMaxException + 1) }, trust.ErrInvalid},
		"no comment":       {func(e *trust.Exception) { e.Comment = "" }, trust.ErrInvalid},
		"control":          {func(e *trust.Exception) { e.Comment = "a\x1b[2J" }, trust.ErrInvalid},
	} {
		e := w.exception("alice@contoso.com", "")
		c.change(&e)
		_, _, err := w.reg.GrantException(t.Context(), desk, e)
		if t.Log(name, err); err == nil {
			t.Errorf("%s: granted", name)
			continue
		}
		w.want(err, c.want)
	}
	e := w.exception("alice@contoso.com", "")
	e.Until = w.now().Add(registry.DefaultMaxException + time.Hour)
	if _, _, err = w.reg.GrantException(t.Context(), desk, e); err == nil || !strings.Contains(err.Error(), "it may last 30 days at most") {
		t.Error(err)
	}
	w.reg.WithPolicyRules(registry.PolicyRules{MaxException: 2 * time.Hour})
	e.Until = w.now().Add(3 * time.Hour)
	_, _, err = w.reg.GrantException(t.Context(), desk, e)
	w.want(err, trust.ErrInvalid)

	for range registry.MaxExceptions {
		w.grantException("alice@contoso.com", "")
	}
	_, _, err = w.reg.GrantException(t.Context(), desk, w.exception("alice@contoso.com", ""))
	w.want(err, trust.ErrConflict)
	w.pass(2 * time.Hour)
	w.grantException("alice@contoso.com", "") // those before are over
}

// Who makes challenges for devices does not also make a device pass for a managed one: together that would certify any device.
func TestHelpDeskLiftsNoUnmanagedDevice(t *testing.T) {
	w := newWorld(t)
	d := w.device("alice@contoso.com")
	for _, code := range []string{"not_managed", "unmanaged_device", "no_certificate", "duplicate_profile_without_certificate"} {
		e := w.exception("", d.ID)
		e.Reasons = []string{"device_silent", code}
		_, _, err := w.reg.GrantException(t.Context(), desk, e)
		w.want(err, trust.ErrForbidden)
		if a := w.newest(registry.AuditFilter{Action: registry.ActExceptionGrant}); a.Outcome != registry.Refused || a.Principal != desk || !strings.Contains(a.Detail, code) {
			t.Errorf("%s: audited %+v", code, a)
		}
		for _, p := range []trust.Principal{root, officer} {
			_, _, err := w.reg.GrantException(t.Context(), p, e)
			w.must(err)
		}
	}
	if live, err := w.reg.Exceptions(t.Context(), registry.ExceptionFilter{Device: d.ID, Live: true}); err != nil || len(live) != 8 {
		t.Errorf("%d granted, %v", len(live), err)
	}
}

func TestExceptionsAreSwept(t *testing.T) {
	w := newWorld(t)
	x := w.index()
	w.follow(x)
	d := w.device("alice@contoso.com")
	over, revoked := w.grantException("alice@contoso.com", ""), w.grantException("", d.ID)
	_, _, err := w.reg.RevokeException(t.Context(), desk, revoked.ID, "")
	w.must(err)
	count := func(f registry.ExceptionFilter) int {
		t.Helper()
		all, err := w.reg.Exceptions(t.Context(), f)
		w.must(err)
		return len(all)
	}
	if all, live, own := count(registry.ExceptionFilter{}), count(registry.ExceptionFilter{Live: true}), count(registry.ExceptionFilter{Device: d.ID}); all != 2 || live != 1 || own != 1 {
		t.Errorf("%d, %d live, %d of the device", all, live, own)
	}
	w.pass(29 * 24 * time.Hour)
	_, err = w.reg.DeleteExpired(t.Context(), w.now())
	w.must(err)
	if n := count(registry.ExceptionFilter{}); n != 2 {
		t.Errorf("%d left after 29 days", n)
	}
	w.pass(2 * 24 * time.Hour)
	kept := w.grantException("alice@contoso.com", "")
	n, err := w.reg.DeleteExpired(t.Context(), w.now())
	w.must(err)
	all, err := w.reg.Exceptions(t.Context(), registry.ExceptionFilter{Owner: "ALICE@contoso.com"})
	w.must(err)
	w.catchUp(x)
	if n != 2 || len(all) != 1 || all[0].ID != kept.ID || len(x.ExceptionsFor(&d)) != 1 {
		t.Errorf("%d deleted, %+v left (not %s), %d in the index", n, all, over.ID, len(x.ExceptionsFor(&d)))
	}
}

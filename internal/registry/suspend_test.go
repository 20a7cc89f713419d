package registry_test

import (
	"strings"
	"testing"
	"time"

	"postern/internal/registry"
	"postern/internal/trust"
)

// A suspension changes neither state nor certificate nor what CRLs are made of, keeps enrolment and renewal out meanwhile, and is undone at once.
func TestSuspendDevice(t *testing.T) {
	w := newWorld(t)
	d := w.device("alice@contoso.com")
	c := w.enrol(d)
	listed, _ := w.listed()
	secret := w.challenge(d.ID)

	_, err := w.reg.SuspendDevice(t.Context(), desk, d.ID, "Lost", "in a taxi")
	w.must(err)
	now, err := w.reg.Device(t.Context(), d.ID)
	w.must(err)
	want := trust.Suspension{Reason: trust.SuspendLost, Comment: "in a taxi", By: desk.String(), At: w.now()}
	if now.Suspended == nil || *now.Suspended != want || now.State != trust.Active {
		t.Errorf("suspended: %+v, state %s", now.Suspended, now.State)
	}
	if e := w.newest(registry.AuditFilter{Object: string(d.ID)}); e.Action != registry.ActDeviceSuspend || e.Detail != "in a taxi" || e.After == nil || e.Before != nil {
		t.Errorf("audit %+v", e)
	}
	if again, _ := w.listed(); len(again) != len(listed) || w.status(c) != trust.Good {
		t.Errorf("a suspension touched certificates: %v, %s", again, w.status(c))
	}
	_, err = w.commit(w.first(d, secret))
	w.want(err, trust.ErrForbidden)
	_, err = w.renew(d, c.Serial)
	w.want(err, trust.ErrForbidden)
	_, _, err = w.reg.CreateChallenge(t.Context(), officer, d.ID, 0)
	w.want(err, trust.ErrConflict)

	w.pass(time.Hour)
	_, err = w.reg.SuspendDevice(t.Context(), desk, d.ID, trust.SuspendInvestigation, "not in the taxi")
	w.must(err)
	if now, err = w.reg.Device(t.Context(), d.ID); err != nil || now.Suspended.Reason != trust.SuspendInvestigation || !now.Suspended.At.Equal(want.At) {
		t.Errorf("suspended again: %+v, %v: the time stays", now.Suspended, err)
	}
	_, err = w.reg.ReinstateDevice(t.Context(), desk, d.ID, "found")
	w.must(err)
	if now, err = w.reg.Device(t.Context(), d.ID); err != nil || now.Suspended != nil {
		t.Errorf("reinstated: %+v, %v", now.Suspended, err)
	}
	_, err = w.renew(d, c.Serial)
	w.must(err)
}

// A suspended owner is every device of that owner, and reinstating leaves what was suspended by itself.
func TestSuspendOwner(t *testing.T) {
	w := newWorld(t)
	one, two, bobs := w.device("alice@contoso.com"), w.device("alice@contoso.com"), w.device("bob@contoso.com")
	secrets := map[trust.DeviceID]string{one.ID: w.challenge(one.ID), two.ID: w.challenge(two.ID), bobs.ID: w.challenge(bobs.ID)}
	_, err := w.reg.SuspendDevice(t.Context(), desk, two.ID, "", "")
	w.must(err)
	_, err = w.reg.SuspendOwner(t.Context(), desk, " Alice@Contoso.com", trust.SuspendUnassigned, "")
	w.must(err)
	if o, err := w.reg.Owner(t.Context(), "alice@contoso.com"); err != nil || o.Suspended == nil || o.Suspended.Reason != trust.SuspendUnassigned {
		t.Errorf("%+v, %v", o, err)
	}
	_, err = w.commit(w.first(one, secrets[one.ID]))
	w.want(err, trust.ErrForbidden)
	_, err = w.commit(w.first(bobs, secrets[bobs.ID]))
	w.must(err)

	_, err = w.reg.ReinstateOwner(t.Context(), desk, "alice@contoso.com", "")
	w.must(err)
	_, err = w.commit(w.first(one, secrets[one.ID]))
	w.must(err)
	_, err = w.commit(w.first(two, secrets[two.ID]))
	w.want(err, trust.ErrForbidden)
}

func TestSuspensionRefused(t *testing.T) {
	w := newWorld(t)
	d := w.device("alice@contoso.com")
	_, err := w.reg.SuspendDevice(t.Context(), desk, d.ID, "certificateHold", "")
	w.want(err, trust.ErrInvalid)
	for _, comment := range []string{strings.Repeat("x", 1025), "\x1b[2J"} {
		_, err = w.reg.SuspendOwner(t.Context(), desk, "alice@contoso.com", "", comment)
		w.want(err, trust.ErrInvalid)
	}
	_, err = w.reg.SuspendDevice(t.Context(), desk, "dev-none", "", "")
	w.want(err, trust.ErrNotFound)
	_, err = w.reg.SuspendOwner(t.Context(), desk, "nobody@contoso.com", "", "")
	w.want(err, trust.ErrNotFound)
	_, err = w.reg.RetireDevice(t.Context(), officer, d.ID, "")
	w.must(err)
	_, err = w.reg.SuspendDevice(t.Context(), desk, d.ID, "", "")
	w.want(err, trust.ErrConflict)

	// What changes nothing is no revision and no entry.
	_, before := w.listed()
	_, err = w.reg.ReinstateOwner(t.Context(), desk, "alice@contoso.com", "")
	w.must(err)
	if _, after := w.listed(); after != before {
		t.Errorf("reinstating who is not suspended made revision %d of %d", after, before)
	}
}

func TestSuspendedLists(t *testing.T) {
	w := newWorld(t)
	var all []trust.DeviceID
	for range 5 {
		d := w.device("alice@contoso.com")
		all = append(all, d.ID)
		_, err := w.reg.SuspendDevice(t.Context(), desk, d.ID, "", "")
		w.must(err)
	}
	w.device("bob@contoso.com")
	_, err := w.reg.SuspendOwner(t.Context(), desk, "bob@contoso.com", "", "")
	w.must(err)
	first, err := w.reg.Devices(t.Context(), registry.DeviceFilter{Suspended: true, Limit: 3})
	w.must(err)
	rest, err := w.reg.Devices(t.Context(), registry.DeviceFilter{Suspended: true, After: first[2].ID})
	w.must(err)
	if got := append(first, rest...); len(got) != len(all) || got[4].Suspended == nil {
		t.Errorf("%d suspended devices, want %d", len(got), len(all))
	}
	if got, err := w.reg.Devices(t.Context(), registry.DeviceFilter{Owner: "alice@contoso.com"}); err != nil || len(got) != 5 || got[0].Suspended == nil {
		t.Errorf("%d devices of alice, %v", len(got), err)
	}
	if got, err := w.reg.Owners(t.Context(), registry.OwnerFilter{Suspended: true}); err != nil || len(got) != 1 || got[0].Mail != "bob@contoso.com" || got[0].Suspended == nil {
		t.Errorf("suspended owners: %+v, %v", got, err)
	}
	if got, err := w.reg.Owners(t.Context(), registry.OwnerFilter{}); err != nil || len(got) != 2 || got[1].Suspended == nil || got[0].Suspended != nil {
		t.Errorf("owners: %+v, %v", got, err)
	}
}

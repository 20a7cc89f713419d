package registry_test

import (
	"encoding/binary"
	"testing"
	"time"

	"postern/internal/registry"
	"postern/internal/trust"
)

func (w *world) enrolled(serial, owner string) trust.Device {
	w.Helper()
	w.pass(time.Minute)
	d, err := w.reg.AddDevice(w.Context(), officer, registry.NewDevice{Device: trust.Device{Issuer: "contoso", SerialNumber: serial, Managed: true}, Owner: trust.Owner{Mail: owner}})
	w.must(err)
	return d
}

func (w *world) enrols(d trust.Device) {
	w.Helper()
	w.pass(time.Minute)
	secret, _, err := w.reg.CreateChallenge(w.Context(), officer, d.ID, 0)
	w.must(err)
	_, err = w.commit(w.first(d, secret))
	w.must(err)
}

// The devices of an owner are counted in the order in which they enrolled, incrementally, whatever becomes of them.
func TestFleet(t *testing.T) {
	w := newWorld(t)
	x := w.index()
	w.follow(x)
	const alice, bob = "alice@contoso.com", "bob@contoso.com"
	a, b, c := w.enrolled("A", alice), w.enrolled("B", alice), w.enrolled("C", bob)
	want := func(what, owner string, d trust.Device, count, place int) {
		t.Helper()
		w.catchUp(x)
		n, at := x.Fleet(owner, d.ID)
		if n != count || at != place {
			t.Errorf("%s: %d devices, this is number %d; want %d and %d", what, n, at, count, place)
		}
	}
	want("nobody has enrolled", alice, a, 0, 0)
	w.enrols(b)
	w.enrols(a)
	w.enrols(c)
	want("the second", alice, a, 2, 2)
	want("the first", alice, b, 2, 1)
	want("of somebody else", alice, c, 2, 0)
	want("a renewal moves nothing", alice, b, 2, 1)
	_, err := w.reg.SetDeviceState(t.Context(), officer, b.ID, trust.Blocked, "")
	w.must(err)
	want("the first is blocked", alice, b, 1, 0)
	want("the second moves up", alice, a, 1, 1)
	_, err = w.reg.SetDeviceState(t.Context(), officer, b.ID, trust.Active, "")
	w.must(err)
	want("unblocked", alice, b, 2, 1)
	_, err = w.reg.ReassignDevice(t.Context(), officer, b.ID, trust.Owner{Mail: bob})
	w.must(err)
	want("given away", alice, a, 1, 1)
	want("not yet enrolled for the new owner", bob, b, 1, 0)
	w.enrols(trust.Device{ID: b.ID, Issuer: "contoso", Owner: bob})
	want("the new owner's second", bob, b, 2, 2)
	_, err = w.reg.RetireDevice(t.Context(), officer, c.ID, "")
	w.must(err)
	want("the only one left", bob, b, 1, 1)
	if d := registry.Differences(x, w.index()); len(d) > 0 {
		t.Errorf("followed and loaded indexes differ in %v", d)
	}
}

// Since when an MDM says what it says is kept, and what is said again does not begin anew.
func TestComplianceSince(t *testing.T) {
	w := newWorld(t)
	d := w.enrolled("A", "alice@contoso.com")
	said := func(c trust.Compliance) trust.Device {
		t.Helper()
		w.pass(time.Hour)
		d, _, err := w.reg.UpdateDevice(t.Context(), officer, d.ID, registry.DeviceUpdate{Compliant: &c})
		w.must(err)
		return d
	}
	no := said(trust.NonCompliant)
	if no.Compliant != trust.NonCompliant || !no.ComplianceSince.Equal(w.now()) {
		t.Errorf("%+v", no)
	}
	if again := said(trust.NonCompliant); !again.ComplianceSince.Equal(no.ComplianceSince) {
		t.Errorf("said again: since %v, want %v", again.ComplianceSince, no.ComplianceSince)
	}
	if yes := said(trust.Compliant); !yes.ComplianceSince.Equal(w.now()) {
		t.Errorf("compliant again: since %v, want %v", yes.ComplianceSince, w.now())
	}
	bad := trust.Compliance("maybe")
	if _, _, err := w.reg.UpdateDevice(t.Context(), officer, d.ID, registry.DeviceUpdate{Compliant: &bad}); err == nil {
		t.Error("a word that is none was taken")
	}
}

// A device that was stored before its record had the two times is read as it was.
func TestOlderRecords(t *testing.T) {
	want := trust.Device{ID: "dev-x", Owner: "alice@contoso.com", State: trust.Active, Created: time.Unix(7, 0).UTC(), Updated: time.Unix(9, 0).UTC()}
	raw, err := registry.Encode(want)
	if err != nil {
		t.Fatal(err)
	}
	zero := len(binary.AppendUvarint(binary.AppendVarint(nil, time.Time{}.Unix()), 0))
	old := append([]byte{1}, raw[1:len(raw)-2*zero]...)
	var got trust.Device
	if err := registry.Decode(old, &got); err != nil || got.ID != want.ID || !got.Updated.Equal(want.Updated) || !got.ComplianceSince.IsZero() {
		t.Errorf("%+v, %v", got, err)
	}
	if at, ok := got.EnrolledAt(); !ok || !at.Equal(got.Created) {
		t.Errorf("enrolled %v, %v: want its age", at, ok)
	}
}

package registry_test

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"slices"
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

// The place among 20,000 devices of one owner is found without looking at each: it costs nothing like it, and stays right as devices come and go in any order.
func TestFleetOfMany(t *testing.T) {
	const many = 20_000
	x := registry.NewFleets()
	all := make([]trust.Device, many)
	for i := range all {
		all[i] = trust.Device{ID: trust.DeviceID(fmt.Sprintf("dev-%05d", i)), Owner: "kiosk@contoso.com", State: trust.Active, Managed: true, Enrolled: time.Unix(int64(i/2), 0)}
	}
	r := rand.New(rand.NewPCG(1, 2))
	for _, i := range r.Perm(many) {
		x.SetDevice(all[i])
	}
	for _, i := range r.Perm(many)[:many/2] {
		switch i % 3 {
		case 0:
			all[i].State = trust.Blocked
		case 1:
			all[i].Owner = "other@contoso.com"
		case 2:
			all[i].Enrolled = all[i].Enrolled.Add(time.Hour)
		}
		x.SetDevice(all[i])
	}
	for _, owner := range []string{"kiosk@contoso.com", "other@contoso.com"} {
		own := slices.DeleteFunc(slices.Clone(all), func(d trust.Device) bool { return d.Owner != owner || d.State == trust.Blocked })
		slices.SortStableFunc(own, func(a, b trust.Device) int { return a.Enrolled.Compare(b.Enrolled) }) // equal ones are in the order of their ids
		for i, d := range own {
			if n, at := x.Fleet(owner, d.ID); n != len(own) || at != i+1 {
				t.Fatalf("%s of %s: %d of %d, want %d of %d", d.ID, owner, at, n, i+1, len(own))
			}
		}
	}
	if allocs := testing.AllocsPerRun(100, func() { x.Fleet("kiosk@contoso.com", all[many/2].ID) }); allocs > 0 {
		t.Errorf("%v allocations", allocs)
	}
}

func BenchmarkFleet(b *testing.B) {
	for _, n := range []int{1, 100, 20_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			x := registry.NewFleets()
			id := func(i int) trust.DeviceID { return trust.DeviceID(fmt.Sprintf("dev-%05d", i)) }
			for i := range n {
				x.SetDevice(trust.Device{ID: id(i), Owner: "kiosk@contoso.com", State: trust.Active, Managed: true, Enrolled: time.Unix(int64(i), 0)})
			}
			own := id(n / 2)
			for b.Loop() {
				x.Fleet("kiosk@contoso.com", own)
			}
		})
	}
}

// The newest certificate counts, whatever was revoked or held before it, followed and loaded.
func TestWithdrawn(t *testing.T) {
	w := newWorld(t)
	x := w.index()
	w.follow(x)
	d := w.enrolled("A", "alice@contoso.com")
	want := func(what string, revoked bool) {
		t.Helper()
		w.catchUp(x)
		if got, loaded := x.Withdrawn(d.ID), w.index().Withdrawn(d.ID); got != revoked || loaded != revoked {
			t.Errorf("%s: %v, loaded %v, want %v", what, got, loaded, revoked)
		}
	}
	issue := func() trust.Certificate {
		t.Helper()
		secret, _, err := w.reg.CreateChallenge(t.Context(), officer, d.ID, 0)
		w.must(err)
		c, err := w.commit(w.first(d, secret))
		w.must(err)
		return c
	}
	want("never enrolled", false)
	first := issue()
	want("enrolled", false)
	_, err := w.reg.Hold(t.Context(), officer, "contoso", first.Serial, "")
	w.must(err)
	want("held", true)
	_, err = w.reg.Release(t.Context(), officer, "contoso", first.Serial, "")
	w.must(err)
	want("released", false)
	_, err = w.reg.Revoke(t.Context(), officer, "contoso", first.Serial, trust.KeyCompromise, "")
	w.must(err)
	want("revoked", true)
	second := issue()
	want("enrolled anew", false)
	issue()
	want("superseded", false)
	_, err = w.reg.Revoke(t.Context(), officer, "contoso", second.Serial, trust.Unspecified, "")
	w.must(err)
	want("the superseded one is revoked", false)
	if diff := registry.Differences(x, w.index()); len(diff) > 0 {
		t.Errorf("followed and loaded indexes differ in %v", diff)
	}
	if x.Withdrawn("dev-none") {
		t.Error("of a device that is not known")
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

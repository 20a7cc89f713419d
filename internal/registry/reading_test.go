package registry_test

import (
	"fmt"
	"math/rand/v2"
	"reflect"
	"testing"
	"time"

	"postern/internal/registry"
	"postern/internal/trust"
)

// asked is one question to the index.
type asked struct {
	name string
	ask  func(r *registry.Reading) any
}

// questions asks everything about everybody of a random history.
func (w *world) questions(x *registry.Index) (all []asked) {
	add := func(name string, ask func(r *registry.Reading) any) { all = append(all, asked{name, ask}) }
	pair := func(a any, b any) any { return []any{a, b} }
	devices, err := w.reg.Devices(w.Context(), registry.DeviceFilter{Limit: registry.MaxLimit})
	w.must(err)
	for _, d := range devices {
		add(fmt.Sprint("device ", d.ID), func(r *registry.Reading) any { return pair(r.Device(d.ID)) })
		add(fmt.Sprint("profiles of ", d.ID), func(r *registry.Reading) any { return r.ProfilesOfDevice(nil, d.ID) })
		add(fmt.Sprint("around ", d.ID), func(r *registry.Reading) any { return r.Surroundings(&trust.Device{ID: d.ID, Owner: d.Owner}) })
		add(fmt.Sprint("all of ", d.ID), func(r *registry.Reading) any {
			own, _ := r.Device(d.ID)
			return []any{own, r.Surroundings(own), pair(r.Claimants(nil, nil, own.EASDeviceID))}
		})
	}
	certs, err := w.reg.Certificates(w.Context(), registry.CertificateFilter{Limit: registry.MaxLimit})
	w.must(err)
	for _, c := range certs {
		add(fmt.Sprint("standing ", c.Serial), func(r *registry.Reading) any { return pair(r.Standing("contoso", c.Serial)) })
		add(fmt.Sprint("successor of ", c.Serial), func(r *registry.Reading) any {
			s, _ := r.Standing("contoso", c.Serial)
			return pair(r.Successor(&s))
		})
	}
	for _, mail := range []string{"alice@contoso.com", "bob@contoso.com", "carol@contoso.com"} {
		add("owner "+mail, func(r *registry.Reading) any { return r.Surroundings(&trust.Device{Owner: mail}).Owner })
		add("profiles of user "+mail, func(r *registry.Reading) any { return r.ProfilesOfUser(mail) })
		for i := range 6 {
			m := seen(fmt.Sprint("Client", i), mail)
			add(fmt.Sprint("profile ", m.Key()), func(r *registry.Reading) any { return pair(r.Profile(m.Key())) })
		}
	}
	for i := range 10 {
		add(fmt.Sprint("client ", i), func(r *registry.Reading) any { return pair(r.Claimants(nil, nil, fmt.Sprint("CLIENT", i))) })
		add(fmt.Sprint("eas ", i), func(r *registry.Reading) any { return pair(r.Claimants(nil, nil, fmt.Sprint("eas", i))) })
	}
	for i := range 100 {
		add(fmt.Sprint("grant ", i), func(r *registry.Reading) any {
			g, k, ok := r.Grant(fmt.Sprint(i))
			return []any{g, k, ok}
		})
	}
	return all
}

// What a Reading found is found again for as long as it is said to be current, whatever is done; and not everything is said to have changed.
func TestReadingsAreCurrent(t *testing.T) {
	w := newWorld(t)
	x := w.index()
	w.follow(x)
	r := rand.New(rand.NewPCG(5, 5))
	w.history(r, 100)
	kept, lost := 0, 0
	for range 400 {
		w.catchUp(x)
		type answered struct {
			asked
			answer any
			seen   registry.Seen
		}
		var before []answered
		for _, q := range w.questions(x) {
			reading := x.Read()
			answer := q.ask(reading)
			before = append(before, answered{q, answer, reading.Seen()})
		}
		w.pass(time.Second)
		w.change(r)
		w.catchUp(x)
		for _, q := range before {
			if !x.Current(&q.seen) {
				lost++
			} else if kept++; !reflect.DeepEqual(q.ask(x.Read()), q.answer) {
				t.Fatalf("%s changed, and is said to be current", q.name)
			}
		}
	}
	if lost == 0 || kept < lost {
		t.Errorf("%d answers current, %d not", kept, lost)
	}
}

// change does one thing to somebody of a history; what the rules refuse is part of it.
func (w *world) change(r *rand.Rand) {
	ctx := w.Context()
	devices, err := w.reg.Devices(ctx, registry.DeviceFilter{Limit: registry.MaxLimit})
	w.must(err)
	certs, err := w.reg.Certificates(ctx, registry.CertificateFilter{Limit: registry.MaxLimit})
	w.must(err)
	profiles, err := w.reg.Profiles(ctx, registry.ProfileFilter{Limit: registry.MaxLimit})
	w.must(err)
	d, owner := devices[r.IntN(len(devices))], []string{"alice@contoso.com", "bob@contoso.com", "carol@contoso.com"}[r.IntN(3)]
	if len(profiles) < 3 {
		_, _ = w.observe(seen(fmt.Sprint("Client", r.IntN(6)), owner))
		return
	}
	m := profiles[r.IntN(len(profiles))]
	switch r.IntN(12) {
	case 0:
		_, _ = w.reg.SetDeviceState(ctx, officer, d.ID, []trust.State{trust.Active, trust.Blocked, trust.Quarantined}[r.IntN(3)], "")
	case 1:
		if _, err := w.reg.SuspendDevice(ctx, desk, d.ID, trust.SuspendLost, ""); err != nil {
			_, _ = w.reg.ReinstateDevice(ctx, desk, d.ID, "")
		}
	case 2:
		_, _ = w.reg.ReassignDevice(ctx, officer, d.ID, trust.Owner{Mail: owner})
	case 3:
		id := fmt.Sprint("EAS", r.IntN(10))
		_, _, _ = w.reg.UpdateDevice(ctx, officer, d.ID, registry.DeviceUpdate{EASDeviceID: &id})
	case 4:
		w.must(w.reg.PutOwner(ctx, officer, trust.Owner{Mail: owner, Proxies: []string{fmt.Sprintf("p%d@contoso.com", r.IntN(9))}}))
	case 5:
		_, _ = w.reg.LinkProfile(ctx, desk, m.ID, d.ID)
	case 6:
		_ = w.reg.ForgetProfile(ctx, desk, m.ID)
	case 7:
		_, _ = w.observe(seen(fmt.Sprint("Client", r.IntN(6)), owner))
	case 8:
		w.sign(r, d.ID)
	case 9:
		w.except(r, d, owner)
	default:
		w.settle(r, []trust.Serial{certs[r.IntN(len(certs))].Serial})
	}
}

// except grants or revokes an exception.
func (w *world) except(r *rand.Rand, d trust.Device, owner string) {
	if all, err := w.reg.Exceptions(w.Context(), registry.ExceptionFilter{Live: true}); err == nil && len(all) > 3 {
		_, _, err := w.reg.RevokeException(w.Context(), officer, all[r.IntN(len(all))].ID, "settled")
		w.must(err)
		return
	}
	e := trust.Exception{Owner: owner, Reasons: []string{"device_not_managed"}, Until: w.now().Add(time.Hour), Comment: "why"}
	if r.IntN(2) == 0 {
		e.Owner, e.Device = "", d.ID
	}
	_, _, _ = w.reg.GrantException(w.Context(), officer, e)
}

// Nothing is current that depends on what a Reading cannot remember, and nothing after all was read anew.
func TestReadingsThatCannotBeKept(t *testing.T) {
	w := newWorld(t)
	x := w.index()
	none := registry.Seen{}
	if x.Current(&none) {
		t.Error("what depends on nobody knows what is current")
	}
	reading := x.Read()
	for i := range 7 {
		reading.Device(trust.DeviceID(fmt.Sprint(i)))
	}
	reading.Device("0")
	few := reading.Seen()
	for i := range 9 {
		reading.Device(trust.DeviceID(fmt.Sprint("other", i)))
	}
	many := reading.Seen()
	if !x.Current(&few) || x.Current(&many) {
		t.Errorf("seven topics: %v, sixteen: %v", x.Current(&few), x.Current(&many))
	}
	w.must(x.Reload(t.Context()))
	if x.Current(&few) {
		t.Error("current, although everything was read anew")
	}
}

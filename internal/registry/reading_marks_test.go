package registry_test

import (
	"encoding/json"
	"reflect"
	"testing"
	"time"

	"postern/internal/registry"
	"postern/internal/trust"
)

// marking is an answer of the index, and something that makes it another one.
type marking struct {
	name   string
	ask    func(r *registry.Reading) any
	change func()
}

// Each answer that something changes is known not to be current: one row for every mark that a change leaves, and for every topic that a question notes.
func TestEveryMark(t *testing.T) {
	w := newWorld(t)
	for _, rows := range [][]marking{w.certificateMarks(), w.deviceMarks(), w.profileMarks(), w.exceptionMarks(), w.ticketMarks()} {
		for _, m := range rows {
			x := w.index()
			reading := x.Read()
			before := m.ask(reading)
			seen := reading.Seen()
			if !x.Current(&seen) {
				t.Errorf("%s: not current from the beginning", m.name)
			}
			m.change() // of which the index hears in one step
			w.follow(x)
			w.catchUp(x)
			switch {
			case reflect.DeepEqual(m.ask(x.Read()), before):
				t.Errorf("%s: the answer is still %+v", m.name, before)
			case x.Current(&seen):
				t.Errorf("%s: the answer is another one, and is said to be current", m.name)
			}
		}
	}
}

// twoOf makes one answer of two, and threeOf of three.
func twoOf[A, B any](a A, b B) any           { return []any{a, b} }
func threeOf[A, B, C any](a A, b B, c C) any { return []any{a, b, c} }

func (w *world) certificateMarks() []marking {
	d := w.device("alice@contoso.com")
	first := w.enrol(d)
	e := w.device("alice@contoso.com")
	old := w.enrol(e)
	var next trust.Certificate
	standing := func(r *registry.Reading) any { return twoOf(r.Standing("contoso", first.Serial)) }
	successor := func(r *registry.Reading) any {
		s, _ := r.Standing("contoso", old.Serial)
		return twoOf(r.Successor(&s))
	}
	withdrawn := func(r *registry.Reading) any { return r.Surroundings(&d).Withdrawn }
	hold := func() {
		_, err := w.reg.Hold(w.Context(), desk, "contoso", first.Serial, "")
		w.must(err)
	}
	release := func() {
		_, err := w.reg.Release(w.Context(), desk, "contoso", first.Serial, "")
		w.must(err)
	}
	return []marking{
		{"certificate held", standing, hold},
		{"certificate released", standing, release},
		{"it has a successor", successor, func() {
			var err error
			next, err = w.renew(e, old.Serial)
			w.must(err)
		}},
		{"its successor is held", successor, func() {
			_, err := w.reg.Hold(w.Context(), desk, "contoso", next.Serial, "")
			w.must(err)
		}},
		{"device withdrawn", withdrawn, hold},
		{"device with a new certificate", withdrawn, func() { w.enrol(d) }},
	}
}

func (w *world) deviceMarks() []marking {
	ctx, owner, other := w.Context(), w.owner(), w.owner()
	d, second := w.device(owner), w.device(owner)
	w.enrol(d)
	w.pass(time.Second)
	w.enrol(second)
	eas := func(id string) func() {
		return func() {
			_, _, err := w.reg.UpdateDevice(ctx, officer, d.ID, registry.DeviceUpdate{EASDeviceID: &id})
			w.must(err)
		}
	}
	known := func(id string) func(r *registry.Reading) any {
		return func(r *registry.Reading) any { return twoOf(r.Claimants(nil, nil, id)) }
	}
	fleet := func(owner string) func(r *registry.Reading) any {
		return func(r *registry.Reading) any {
			s := r.Surroundings(&trust.Device{ID: second.ID, Owner: owner})
			return []int{s.Devices, s.Place}
		}
	}
	state := func(s trust.State) func() {
		return func() {
			_, err := w.reg.SetDeviceState(ctx, officer, d.ID, s, "")
			w.must(err)
		}
	}
	_, err := w.reg.SetDeviceState(ctx, officer, second.ID, trust.Quarantined, "")
	w.must(err)
	give := func(id trust.DeviceID, to string) func() {
		return func() {
			_, err := w.reg.ReassignDevice(ctx, officer, id, trust.Owner{Mail: to})
			w.must(err)
		}
	}
	give(second.ID, other)()
	given := w.stored("devices", string(second.ID))
	give(second.ID, owner)()
	return []marking{
		{"owner", func(r *registry.Reading) any { return r.Surroundings(&d).Owner }, func() {
			w.must(w.reg.PutOwner(ctx, officer, trust.Owner{Mail: owner, Proxies: []string{"proxy@contoso.com"}}))
		}},
		{"device", func(r *registry.Reading) any { return twoOf(r.Device(d.ID)) }, state(trust.Quarantined)},
		{"a DeviceId reported", known("easone"), eas("EASONE")},
		{"another one reported", known("eastwo"), eas("EASTWO")},
		{"no longer reported", known("eastwo"), eas("EASTHREE")},
		{"an earlier device is blocked", fleet(owner), state(trust.Blocked)},
		{"an earlier device is back", fleet(owner), state(trust.Active)},
		{"an earlier device is given away", fleet(owner), give(d.ID, other)},
		{"a device in quarantine is given here", fleet(other), w.store1("devices", registry.KindDevice, string(second.ID), given)},
	}
}

func (w *world) profileMarks() []marking {
	const user = "alice@contoso.com"
	d, other := w.device(user), w.device(user)
	m := seen("MarkedClient", user)
	link := func(id trust.DeviceID) func() {
		return func() {
			known, _ := w.observe(m)
			_, err := w.reg.LinkProfile(w.Context(), desk, known.ID, id)
			w.must(err)
		}
	}
	forget := func() {
		known, _ := w.observe(m)
		w.must(w.reg.ForgetProfile(w.Context(), desk, known.ID))
	}
	profile := func(r *registry.Reading) any { return twoOf(r.Profile(m.Key())) }
	client := func(r *registry.Reading) any { return twoOf(r.Claimants(nil, nil, "markedclient")) }
	device := func(id trust.DeviceID) func(r *registry.Reading) any {
		return func(r *registry.Reading) any { return r.ProfilesOfDevice(nil, id) }
	}
	ofUser := func(r *registry.Reading) any { return r.ProfilesOfUser(user) }
	return []marking{
		{"profile seen", profile, func() { w.observe(m) }},
		{"profile forgotten", profile, forget},
		{"profile of a client seen", client, func() { w.observe(m) }},
		{"profile of a client forgotten", client, forget},
		{"profile linked", device(d.ID), link(d.ID)},
		{"profile linked to another device", device(d.ID), link(other.ID)},
		{"profile of a device forgotten", device(other.ID), forget},
		{"profile of a user linked", ofUser, link(d.ID)},
		{"profile of a user forgotten", ofUser, forget},
	}
}

func (w *world) exceptionMarks() []marking {
	owner := w.owner()
	d := w.device(owner)
	exceptions := func(r *registry.Reading) any { return len(r.Surroundings(&d).Exceptions) }
	record := func(e trust.Exception) []byte {
		raw, err := json.Marshal(e)
		w.must(err)
		return raw
	}
	grant := func(owner string, id trust.DeviceID) func() { return func() { w.grantException(owner, id) } }
	revoke := func() {
		all, err := w.reg.Exceptions(w.Context(), registry.ExceptionFilter{Owner: owner, Live: true})
		w.must(err)
		_, _, err = w.reg.RevokeException(w.Context(), officer, all[0].ID, "settled")
		w.must(err)
	}
	return []marking{
		{"exception for an owner", exceptions, grant(owner, "")},
		{"exception for an owner revoked", exceptions, revoke},
		{"exception for a device", exceptions, grant("", d.ID)},
		{"exception for a device revoked", exceptions, revoke},
		{"exception for a device again", exceptions, grant("", d.ID)},
		{"exceptions swept", exceptions, w.sweep},
		{"an exception", exceptions, w.store1("exceptions", registry.KindException, "ex-1", record(trust.Exception{ID: "ex-1", Owner: owner}))},
		{"the end of an exception", exceptions, w.store1("exceptions", registry.KindException, "ex-1", record(trust.Exception{ID: "ex-1", Owner: owner, Revoked: w.now()}))},
	}
}

// store1 writes one record and touches nothing else: the index is not to rely on what the rules touch beside it.
func (w *world) store1(table registry.Table, kind registry.Kind, id string, raw []byte) func() {
	return func() {
		_, err := w.store.Update(w.Context(), func(tx registry.Writer) error {
			tx.Put(table, id, raw)
			tx.Touch(kind, id)
			return nil
		})
		w.must(err)
	}
}

// stored is a record as it is.
func (w *world) stored(table registry.Table, id string) (raw []byte) {
	w.must(w.store.View(w.Context(), func(r registry.Reader) error { raw, _ = r.Get(table, id); return nil }))
	return raw
}

func (w *world) ticketMarks() []marking {
	d := w.device("alice@contoso.com")
	secret, k, _, err := w.reg.CreateTicket(w.Context(), officer, d.ID)
	w.must(err)
	key, err := w.reg.GrantKey(w.Context(), edgeDoor)
	w.must(err)
	hash := key.Hash("marked")
	ticket := func(r *registry.Reading) any { return threeOf(r.Ticket(secret)) }
	grant := func(r *registry.Reading) any { return threeOf(r.Grant(hash)) }
	record := func() {
		_, err := w.grant(d.ID, secret, "marked", time.Hour)
		w.must(err)
	}
	revoke := func(id string) func() {
		return func() {
			_, _, err := w.reg.RevokeTicket(w.Context(), officer, id)
			w.must(err)
		}
	}
	return []marking{
		{"grant recorded", grant, record},
		{"grant swept", grant, w.sweep},
		{"grant recorded again", grant, record},
		{"ticket of a grant revoked", grant, revoke(k.ID)},
		{"ticket swept", ticket, w.sweep},
	}
}

// sweep deletes what has long been over.
func (w *world) sweep() {
	_, err := w.reg.DeleteExpired(w.Context(), w.now().Add(2*365*24*time.Hour))
	w.must(err)
}

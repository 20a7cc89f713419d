package edge_test

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"testing"
	"time"

	"postern/internal/policy"
	"postern/internal/registry"
	"postern/internal/trust"
)

// know has a phone send a command until its connection knows it.
func (w *world) know(phone *http.Client, k call) {
	w.t.Helper()
	before := w.active.Load().CacheStats().Again
	w.eventually(func() bool {
		if got := w.do(phone, k); phoneSees(got) != mail {
			w.t.Fatalf("before: the phone sees %s", phoneSees(got))
		}
		return w.active.Load().CacheStats().Again > before
	})
}

// changing is something that changes between two commands that are alike.
type changing struct {
	name   string
	data   string // of the policy
	user   string // alice
	before func(w *world)
	do     func(w *world, d trust.Device, s trust.Serial) error
	reason string
}

func changes(ctx context.Context) (all []changing) {
	for _, x := range endings(ctx) {
		all = append(all, changing{name: x.name, do: x.do, reason: x.reason})
	}
	var first trust.Device
	return append(all,
		changing{name: "data changed", do: func(w *world, _ trust.Device, _ trust.Serial) error {
			w.team("postern: {config: {access: {denied_platforms: [ios]}}}\n")
			return nil
		}, reason: "platform_not_allowed"},
		changing{name: "another user principal name", user: "a.smith@contoso.com", do: func(w *world, _ trust.Device, _ trust.Serial) error {
			other := "alice.smith@contoso.com"
			_, _, err := w.reg.UpdateOwner(ctx, root, alice, registry.OwnerUpdate{UPN: &other})
			return err
		}, reason: "owner_mismatch"},
		changing{name: "profile refused", do: func(w *world, d trust.Device, _ trust.Serial) error {
			_, _, err := w.reg.SettleProfile(ctx, root, w.index.ProfilesOfDevice(d.ID)[0].ID, registry.Settlement{})
			return err
		}, reason: "profile_refused"},
		changing{name: "less compliant", data: "postern: {config: {access: {noncompliant: deny}}}\n", do: func(w *world, d trust.Device, _ trust.Serial) error {
			no := trust.NonCompliant
			_, _, err := w.reg.UpdateDevice(ctx, root, d.ID, registry.DeviceUpdate{Compliant: &no})
			return err
		}, reason: "device_not_compliant"},
		changing{name: "an older device is back", data: "postern: {config: {access: {max_devices: 1, excess_devices: deny}}}\n", before: func(w *world) {
			first, _ = w.managed(alice, "")
			_, err := w.reg.SetDeviceState(ctx, root, first.ID, trust.Blocked, "")
			must(w.t, err)
			w.pass(time.Minute)
		}, do: func(w *world, _ trust.Device, _ trust.Serial) error {
			_, err := w.reg.SetDeviceState(ctx, root, first.ID, trust.Active, "")
			return err
		}, reason: "too_many_devices"},
		changing{name: "registry silent", do: func(w *world, _ trust.Device, _ trust.Serial) error {
			w.clock.advance(16 * time.Minute)
			return w.reg.Store().Close()
		}, reason: "registry_stale"})
}

// What a connection knows of a command is worth nothing once anything that the decision depends on has changed.
func TestKnownCommandsChange(t *testing.T) {
	for _, tt := range changes(context.Background()) {
		for _, h2 := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, h2 %v", tt.name, h2), func(t *testing.T) {
				o := options{}
				if tt.name == "certificate expires" {
					o.staleLimit = 10 * 365 * 24 * time.Hour
				}
				w := newWorld(t, o)
				if tt.data != "" {
					w.team(tt.data)
				}
				if tt.before != nil {
					tt.before(w)
				}
				d := w.addDevice(trust.Owner{Mail: alice, UPN: "a.smith@contoso.com"}, "")
				c := w.enrol(d, leaf{}, nil)
				phone, k := w.phone(&c, h2), command("Sync", or(tt.user, alice), aliceEAS)
				w.know(phone, k)
				must(t, tt.do(w, d, serialOf(c)))
				if tt.reason != "registry_stale" {
					w.sync()
				}
				got := w.do(phone, k)
				if phoneSees(got) == mail {
					t.Fatal("the phone gets mail")
				}
				if _, codes := w.reasons(got.reference); tt.reason != "" && !slices.Contains(codes, tt.reason) {
					t.Errorf("reasons %q, want %s", codes, tt.reason)
				}
			})
		}
	}
}

// A hold that is released lets mail through again, and is known again.
func TestKnownCommandReturns(t *testing.T) {
	w := newWorld(t, options{})
	_, c := w.managed(alice, "")
	phone, k := w.phone(&c, false), command("Sync", alice, aliceEAS)
	w.know(phone, k)
	_, err := w.reg.Hold(t.Context(), root, "contoso", serialOf(c), "")
	must(t, err)
	w.sync()
	if got := w.do(phone, k); phoneSees(got) != blocked {
		t.Errorf("on hold: %s", phoneSees(got))
	}
	_, err = w.reg.Release(t.Context(), root, "contoso", serialOf(c), "")
	must(t, err)
	w.sync()
	w.know(phone, k)
}

// What an exception lets through ends with it, however often it was asked for.
func TestExceptionsAreNotKnown(t *testing.T) {
	for _, revoked := range []bool{true, false} {
		w := newWorld(t, options{staleLimit: 24 * time.Hour})
		d, c := w.managed(alice, "")
		engine, err := policy.Load(t.Context(), policy.Options{Path: teamPolicy(t, alice, `"no_alice"`), Timeout: 5 * time.Second})
		must(t, err)
		w.active.Swap(engine)
		e, rev, err := w.reg.GrantException(t.Context(), root, trust.Exception{Device: d.ID, Reasons: []string{"no_alice"}, Until: w.clock.now().Add(time.Hour), Comment: "why"})
		must(t, err)
		must(t, w.index.CatchUp(t.Context(), rev))
		phone, k := w.phone(&c, false), command("Sync", alice, aliceEAS)
		for range 5 {
			if got := w.do(phone, k); phoneSees(got) != mail {
				t.Fatalf("by an exception: %s", phoneSees(got))
			}
		}
		if revoked {
			_, _, err := w.reg.RevokeException(t.Context(), root, e.ID, "settled")
			must(t, err)
			w.sync()
		} else {
			w.pass(2 * time.Hour)
		}
		if got := w.do(phone, k); phoneSees(got) != blocked {
			t.Errorf("without it, revoked %v: %s", revoked, phoneSees(got))
		}
	}
}

// A command is another one if anything that it is judged by is another, also on the same connection.
func TestKnownIsTheWholeHead(t *testing.T) {
	w := newWorld(t, options{})
	_, c := w.managed(alice, "")
	phone, k := w.phone(&c, false), command("Sync", alice, aliceEAS)
	w.know(phone, k)
	for name, change := range map[string]func(k *call){
		"credential":       func(k *call) { k.auth = basic(bob) },
		"user":             func(k *call) { k.query = command("Sync", bob, aliceEAS).query },
		"DeviceId":         func(k *call) { k.query = command("Sync", alice, theirs).query },
		"version":          func(k *call) { k.version = "99" },
		"policy key":       func(k *call) { k.header = map[string]string{"X-MS-PolicyKey": "none"} },
		"method":           func(k *call) { k.method = http.MethodPut },
		"no credential":    func(k *call) { k.auth = "" },
		"framed twice":     func(k *call) { k.header = map[string]string{"Connection": "authorization"} },
		"host of somebody": func(k *call) { k.host = "mail.fabrikam.com" },
	} {
		other := k
		change(&other)
		if got := w.do(phone, other); phoneSees(got) == mail {
			t.Errorf("%s: the phone gets mail", name)
		}
	}
}

// Counts, last use and the end of a Ping are those of commands that are not known.
func TestKnownCommandsCount(t *testing.T) {
	w := newWorld(t, options{})
	d, c := w.managed(alice, "")
	phone, k := w.phone(&c, false), command("Sync", alice, aliceEAS)
	w.know(phone, k)
	profile := w.index.ProfilesOfDevice(d.ID)[0]
	before, _, err := w.journal.AllowCount(t.Context(), profile.ID)
	must(t, err)
	for range 5 {
		w.do(phone, k)
	}
	if after, _, err := w.journal.AllowCount(t.Context(), profile.ID); err != nil || after != before+5 {
		t.Errorf("allowed %d times, then %d: %v", before, after, err)
	}
	w.pass(2 * time.Hour)
	w.do(phone, k)
	w.eventually(func() bool { p, _ := w.index.Profile(profile.Key()); return p.LastSeen.After(profile.LastSeen) })
	must(t, w.reg.ForgetProfile(t.Context(), root, profile.ID))
	w.sync()
	w.do(phone, k)
	if now := w.index.ProfilesOfDevice(d.ID); len(now) != 1 || now[0].ID == profile.ID {
		t.Errorf("after it was forgotten: %+v", now)
	}
	// A Sync that hangs, and is known, ends with its permission.
	w.know(phone, k)
	w.answerWith(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	open := w.ping(t.Context(), phone, k)
	_, err = w.reg.Revoke(t.Context(), root, "contoso", serialOf(c), trust.KeyCompromise, "")
	must(t, err)
	select {
	case got := <-open:
		if got.err != nil || phoneSees(got.reply) != blocked {
			t.Errorf("%v, %s", got.err, phoneSees(got.reply))
		}
	case <-time.After(10 * time.Second):
		t.Fatal("a known Sync stays open")
	}
}

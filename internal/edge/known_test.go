package edge_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
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
		changing{name: "exception for the device", before: func(w *world) { w.noExceptions() }, do: func(w *world, d trust.Device, _ trust.Serial) error {
			return w.except(trust.Exception{Device: d.ID})
		}, reason: "no_exceptions"},
		changing{name: "exception for the owner", before: func(w *world) { w.noExceptions() }, do: func(w *world, d trust.Device, _ trust.Serial) error {
			return w.except(trust.Exception{Owner: d.Owner})
		}, reason: "no_exceptions"},
		changing{name: "registry silent", do: func(w *world, _ trust.Device, _ trust.Serial) error {
			w.clock.advance(16 * time.Minute)
			return w.reg.Store().Close()
		}, reason: "registry_stale"})
}

// noExceptions has the policy refuse whoever has an exception, whatever that is for.
func (w *world) noExceptions() {
	dir := w.t.TempDir()
	must(w.t, os.WriteFile(dir+"/team.rego", []byte("package postern.access.team.test\n\ndeny contains \"no_exceptions\" if count(input.exceptions) > 0\n"), 0o600))
	engine, err := policy.Load(w.t.Context(), policy.Options{Path: dir, Timeout: 5 * time.Second})
	must(w.t, err)
	w.active.Swap(engine)
}

// except grants an exception from a rule that nobody has.
func (w *world) except(e trust.Exception) error {
	e.Reasons, e.Until, e.Comment = []string{"a_rule"}, w.clock.now().Add(time.Hour), "why"
	_, _, err := w.reg.GrantException(w.t.Context(), root, e)
	return err
}

// While there is an exception, for whatever, a command is looked at each time; afterwards it is known again.
func TestKnownUnderExceptions(t *testing.T) {
	for _, e := range []trust.Exception{{Owner: alice}, {}} {
		w := newWorld(t, options{})
		d, c := w.managed(alice, "")
		phone, k := w.phone(&c, false), command("Sync", alice, aliceEAS)
		w.know(phone, k)
		if e.Owner == "" {
			e.Device = d.ID
		}
		must(t, w.except(e))
		w.sync()
		before := w.active.Load().CacheStats().Again
		for range 3 {
			if got := w.do(phone, k); phoneSees(got) != mail {
				t.Errorf("with an exception: the phone sees %s", phoneSees(got))
			}
		}
		if after := w.active.Load().CacheStats().Again; after != before {
			t.Errorf("%d of 3 commands were known", after-before)
		}
		all, err := w.reg.Exceptions(t.Context(), registry.ExceptionFilter{Live: true})
		must(t, err)
		_, _, err = w.reg.RevokeException(t.Context(), root, all[0].ID, "settled")
		must(t, err)
		w.sync()
		w.know(phone, k)
	}
}

// A CA that joins the others is seen with the next command, which is known again after it; one that takes the place of the phone's, as with a backup that is
// restored, ends what was known.
func TestKnownUnderAnotherCA(t *testing.T) {
	for _, h2 := range []bool{false, true} {
		w := newWorld(t, options{})
		_, c := w.managed(alice, "")
		phone, k := w.phone(&c, h2), command("Sync", alice, aliceEAS)
		w.know(phone, k)
		before := w.active.Load().CacheStats().Again
		w.putCA("contoso/issuing-2", registry.CA{Issuer: "contoso", ID: "issuing-2", Domains: []string{"contoso.com", "two.contoso.com"}})
		if got, after := w.do(phone, k), w.active.Load().CacheStats().Again; phoneSees(got) != mail || after != before {
			t.Errorf("beside another CA: the phone sees %s, known: %v", phoneSees(got), after != before)
		}
		w.know(phone, k)
		w.putCA("contoso/issuing", registry.CA{Issuer: "contoso", ID: "issuing", Domains: []string{"contoso.com", "one.contoso.com"}})
		got := w.do(phone, k)
		if phoneSees(got) == mail {
			t.Fatal("in place of its CA there is another, and the phone gets mail")
		}
		if _, codes := w.reasons(got.reference); !slices.Contains(codes, "certificate_not_trusted") {
			t.Errorf("reasons %q", codes)
		}
	}
}

// putCA puts a CA with a new certificate into the store, whatever was there, and waits until the edge goes by it: it serves the last of its domains then.
func (w *world) putCA(key string, ca registry.CA) {
	w.t.Helper()
	ca.DER = newAuthority(w.t, key).cert.Raw
	raw, err := json.Marshal(ca)
	must(w.t, err)
	_, err = w.reg.Store().Update(w.t.Context(), func(tx registry.Writer) error {
		tx.Put("cas", key, raw)
		tx.Touch(registry.KindCA, key)
		return nil
	})
	must(w.t, err)
	stranger := w.phone(nil, false)
	w.eventually(func() bool {
		asked := call{method: "GET", path: "/autodiscover/autodiscover.json", query: "Protocol=ActiveSync&Email=a@" + ca.Domains[len(ca.Domains)-1]}
		return w.do(stranger, asked).status == http.StatusOK
	})
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

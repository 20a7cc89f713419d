package policy

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"postern/internal/trust"
)

// engineOf loads a policy of the team's files.
func engineOf(t testing.TB, files Files) *Engine {
	t.Helper()
	e, err := Load(t.Context(), Options{Files: files})
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// lived decides an input as the edge does and records it as the journal does.
func lived(t testing.TB, e *Engine, in AccessInput, binary bool) Recorded {
	t.Helper()
	d, err := e.Access(t.Context(), &in)
	if err != nil {
		t.Fatal(err)
	}
	out := outcomeOf(&d)
	r := Recorded{Entry: "access", At: time.Unix(in.Now, 0), Action: d.Action, Policy: e.Digest(), User: in.Owner.Mail, Device: in.Device.ID, Client: in.Claimed.Family,
		Command: in.Request.Command, Input: in.Record()}
	if out.Codes != "" {
		r.Codes = strings.Split(out.Codes, ",")
	}
	if !binary {
		if r.Input, err = json.Marshal(in); err != nil {
			t.Fatal(err)
		}
	}
	return r
}

func sequence(all []Recorded) iter.Seq2[Recorded, error] {
	return func(yield func(Recorded, error) bool) {
		for _, r := range all {
			if !yield(r, nil) {
				return
			}
		}
	}
}

// week is what a small company's phones did: samples, phones of many users, and some of it again.
func week(t testing.TB, e *Engine, users int) []Recorded {
	var all []Recorded
	for i, s := range accessSamples() {
		all = append(all, lived(t, e, s.in, i%2 == 0))
	}
	for n := range users {
		for _, command := range []string{"sync", "ping", "sync"} {
			in := managedSample()
			name := fmt.Sprintf("user%d@contoso.com", n)
			in.Credential.User, in.Credential.Names, in.Credential.OID = name, map[string]bool{name: true}, ""
			in.Owner = OwnerFacts{Known: true, Mail: name, Names: map[string]bool{name: true}, Delegations: map[string]bool{}}
			in.Device.ID = fmt.Sprint("dev-", n)
			in.Certificate.Device, in.Certificate.Serial = in.Device.ID, fmt.Sprintf("%032x", n)
			in.Duplicate = DuplicateFacts{}
			in.Request.Command = command
			if n%10 == 0 {
				in.Device.Labels = map[string]string{"screen_lock": "no"}
			}
			all = append(all, lived(t, e, in, n%2 == 0))
		}
	}
	return all
}

// The same policy decides as it did, for every form in which inputs are recorded.
func TestReplayOfTheSamePolicyChangesNothing(t *testing.T) {
	e := engineOf(t, Files{})
	all := week(t, e, 50)
	for _, s := range enrollSamples() {
		d, err := e.Enroll(t.Context(), &s.in)
		if err != nil {
			t.Fatal(err)
		}
		input, err := json.Marshal(s.in)
		if err != nil {
			t.Fatal(err)
		}
		r := Recorded{Entry: "enroll", Action: d.Action, Input: input}
		if codes := outcomeOf(&d).Codes; codes != "" {
			r.Codes = strings.Split(codes, ",")
		}
		all = append(all, r)
	}
	r, err := e.Replay(t.Context(), sequence(all), ReplayOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if r.Decisions != len(all) || r.Unchanged != len(all) || r.Changed != 0 || r.Evaluated != len(all)-50 {
		t.Fatalf("%+v", r)
	}
}

func TestReplayTellsWhoseMailARuleStops(t *testing.T) {
	e := engineOf(t, Files{})
	all := week(t, e, 50)
	all = append(all, Recorded{Entry: "access", Action: trust.Deny}, Recorded{Entry: "access", Action: trust.Deny, Input: []byte("{")}, Recorded{Entry: "access", Action: trust.Fault})
	next := engineOf(t, Files{"team.rego": []byte("package postern.access.team.lock\n\ndeny contains \"no_screen_lock\" if input.device.labels.screen_lock == \"no\"\n")})
	r, err := next.Replay(t.Context(), sequence(all), ReplayOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if r.Changed != 15 || r.WithoutFacts != 1 || r.Unreadable != 1 || r.Faults != 1 || len(r.Groups) != 1 {
		t.Fatalf("%+v", r)
	}
	g := r.Groups[0]
	if g.Before.Action != trust.Allow || g.After != (Outcome{trust.Deny, "no_screen_lock"}) || g.Count != 15 || len(g.Users) != 5 || g.Users[0] != (Named{"user0@contoso.com", 3}) ||
		len(g.Devices) != 5 || g.Clients[0].Name != "apple_mail" || len(g.Examples) != maxExamples {
		t.Fatalf("%+v", g)
	}
	// One by one or all at once, the report is the same.
	alone, err := next.Replay(t.Context(), sequence(all), ReplayOptions{Workers: 1})
	if err != nil {
		t.Fatal(err)
	}
	alone.groups, r.groups = nil, nil
	for _, x := range []*ReplayReport{alone, r} {
		for i := range x.Groups {
			x.Groups[i].users, x.Groups[i].devices, x.Groups[i].clients = nil, nil, nil
			x.Groups[i].Examples = nil // which ones were first differs
		}
		x.Evaluated = 0
	}
	if !reflect.DeepEqual(alone, r) {
		t.Errorf("with one worker %+v, with all %+v", alone, r)
	}
}

// A remembered result is used only while the clock allows it.
func TestReplayKeepsToTheClock(t *testing.T) {
	e := engineOf(t, Files{})
	early, late := managedSample(), managedSample()
	late.Now = late.Certificate.NotAfter + 1
	all := []Recorded{lived(t, e, early, true), lived(t, e, late, true)}
	if all[0].Action == all[1].Action {
		t.Fatal("an expired certificate is allowed")
	}
	for _, order := range [][]Recorded{all, {all[1], all[0]}} {
		r, err := e.Replay(t.Context(), sequence(order), ReplayOptions{Workers: 1})
		if err != nil || r.Unchanged != 2 || r.Evaluated != 2 {
			t.Errorf("%+v, %v", r, err)
		}
	}
}

func TestReplayOfAPolicyThatFails(t *testing.T) {
	e := engineOf(t, Files{})
	all := week(t, e, 3)
	broken := engineOf(t, Files{"team.rego": []byte("package postern.access.team.x\n\nexcept contains [input.device.id] if input.device.id == \"dev-1\"\n")})
	r, err := broken.Replay(t.Context(), sequence(all), ReplayOptions{})
	if err != nil {
		t.Fatal(err)
	}
	at := slices.IndexFunc(r.Groups, func(g ReplayGroup) bool { return g.After.Action == trust.Fault })
	if at < 0 || r.Groups[at].Count != 3 || r.Groups[at].Examples[0].Error == "" {
		t.Fatalf("%+v", r.Groups)
	}
}

func TestReplayEnds(t *testing.T) {
	e := engineOf(t, Files{})
	all := week(t, e, 3)
	bad := errors.New("the journal is gone")
	_, err := e.Replay(t.Context(), func(yield func(Recorded, error) bool) {
		for _, r := range all {
			yield(r, nil)
		}
		yield(Recorded{}, bad)
	}, ReplayOptions{})
	if !errors.Is(err, bad) {
		t.Errorf("an error of the sequence: %v", err)
	}
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		_, err := e.Replay(ctx, func(yield func(Recorded, error) bool) {
			for n := 0; yield(all[n%len(all)], nil); n++ {
				if n == 5000 {
					cancel()
				}
			}
		}, ReplayOptions{})
		if !errors.Is(err, context.Canceled) {
			t.Errorf("cancelled: %v", err)
		}
	})
}

// Every field comes back from the recorded form.
func TestRecordedInputsComeBack(t *testing.T) {
	first := managedSample()
	leaves(reflect.ValueOf(&first).Elem(), "", func(path string, _ reflect.Value) {
		for i := 0; ; i++ {
			in := managedSample()
			var change func()
			leaves(reflect.ValueOf(&in).Elem(), "", func(p string, f reflect.Value) {
				if all := vary(f); p == path && i < len(all) {
					change = all[i]
				}
			})
			if change == nil {
				break
			}
			change()
			got, err := DecodeAccess(in.Record())
			if err != nil {
				t.Fatalf("%s: %v", path, err)
			}
			if got.digest(true) != in.digest(true) || got.Now != in.Now {
				t.Errorf("%s, way %d: another input came back", path, i)
			}
		}
	})
	a, b := managedSample(), managedSample()
	b.Credential.Expires, b.Now, b.Snapshot.Behind = 1, 2, 3
	if a.RecordKey() != b.RecordKey() {
		t.Error("a new token, or a later time, is recorded as other facts")
	}
	b.Device.Managed = false
	if a.RecordKey() == b.RecordKey() {
		t.Error("other facts are recorded as the same")
	}
}

func FuzzDecodeAccess(f *testing.F) {
	for _, s := range accessSamples() {
		f.Add(s.in.Record())
		text, err := json.Marshal(s.in)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		in, err := DecodeAccess(raw)
		if err != nil {
			return
		}
		again, err := DecodeAccess(in.Record())
		if err != nil || again.digest(true) != in.digest(true) {
			t.Errorf("what was read is not written again: %v", err)
		}
	})
}

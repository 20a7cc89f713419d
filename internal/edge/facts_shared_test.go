package edge

import (
	"context"
	"crypto/x509"
	"reflect"
	"slices"
	"sync"
	"testing"
	"time"

	"postern/internal/policy"
	"postern/internal/trust"
)

// A connection with a certificate keeps the facts of its owner until the index has another: one who has changed, or one who is somebody else.
func TestOwnerFactsFollowTheOwner(t *testing.T) {
	c, stranger := &connection{leaf: &x509.Certificate{}}, &connection{}
	was := &trust.Owner{Mail: "alice@contoso.com", UPN: "a.smith@contoso.com", Delegations: []string{"Info@contoso.com"}}
	kept := c.ownerFacts(was)
	if c.ownerFacts(was) != kept {
		t.Error("the same owner has other facts")
	}
	if stranger.ownerFacts(was); stranger.owner.Load() != nil {
		t.Error("a connection without certificate keeps an owner")
	}
	is := *was // as the index replaces one
	is.UPN, is.Delegations, is.Suspended = "alice.smith@contoso.com", nil, &trust.Suspension{}
	for _, o := range []*trust.Owner{&is, was, {Mail: "bob@contoso.com"}} {
		if got, want := *c.ownerFacts(o), policy.FactsOfOwner(o); !reflect.DeepEqual(got, want) {
			t.Errorf("facts of %+v are %+v", o, got)
		}
	}
}

// Facts of owners are shared by all requests of a connection: whoever decides with them leaves them as they are.
func TestOwnerFactsAreNotChanged(t *testing.T) {
	ctx := context.Background()
	engine, err := policy.Load(ctx, policy.Options{Files: policy.Files{
		"data.yaml": []byte("groups: {staff: [alice@contoso.com], board: [a.smith@contoso.com], all: [alice@contoso.com, a.smith@contoso.com]}\n"),
		"team.rego": []byte("package postern.access.team.shared\n\ndeny contains \"board\" if input.owner.groups.board\n\nquarantine contains \"names\" if count(input.owner.names) > 1\n")}})
	if err != nil {
		t.Fatal(err)
	}
	o := &trust.Owner{Mail: "alice@contoso.com", UPN: "a.smith@contoso.com", Delegations: []string{"info@contoso.com"}}
	c := &connection{leaf: &x509.Certificate{}}
	var deciders sync.WaitGroup
	for n := range 4 {
		deciders.Go(func() {
			for i := range 20 {
				in := &policy.AccessInput{Now: int64(1000*n + i), Assurance: "claimed", Owner: *c.ownerFacts(o), Exceptions: []policy.ExceptionFacts{}}
				engine.Surround(in)
				if _, err := engine.Judge(ctx, in); err != nil {
					t.Error(err)
				}
				if in.Record(); !in.Owner.Groups["board"] || !in.Owner.Groups["staff"] {
					t.Errorf("groups %v", in.Owner.Groups)
				}
			}
		})
	}
	deciders.Wait()
	if got, want := *c.ownerFacts(o), policy.FactsOfOwner(o); !reflect.DeepEqual(got, want) {
		t.Errorf("the facts have become %+v", got)
	}
}

// What a request looks up again and again is found without memory for each look.
func TestFactsOfOwnerCostNothingTwice(t *testing.T) {
	c, o := &connection{leaf: &x509.Certificate{}}, &trust.Owner{Mail: "alice@contoso.com"}
	if n := testing.AllocsPerRun(100, func() { c.ownerFacts(o) }); n > 0 {
		t.Errorf("%v allocations", n)
	}
}

// Flights under one key are found, and leave, in any order.
func TestFlightsUnderOneKey(t *testing.T) {
	fs := newFlights()
	conn := newConnection(nil)
	keys := [dependencies]string{"contoso/0a", "dev-1", "alice@contoso.com", "mp-1"}
	other := keys
	other[3] = "mp-2"
	under := func() (all []*flight) {
		fs.each(func(f *flight) { all = append(all, f) })
		return all
	}
	for _, order := range [][]int{{0, 1, 2, 3}, {3, 2, 1, 0}, {1, 3, 0, 2}, {2, 0, 3, 1}} {
		var all []*flight
		for i := range 4 {
			f := &flight{request: &request{conn: conn, remote: "192.0.2.1"}}
			k := &keys
			if i%2 == 1 {
				k = &other
			}
			if !fs.enter(f, k, nil, time.Time{}) || !fs.enter(f, k, nil, time.Time{}) {
				t.Fatal("not entered")
			}
			all = append(all, f)
		}
		left := slices.Clone(all)
		for _, i := range order {
			if !fs.leave(all[i]) || fs.leave(all[i]) {
				t.Error("it left more or less than once")
			}
			left = slices.DeleteFunc(left, func(f *flight) bool { return f == all[i] })
			if got := under(); len(got) != len(left) || slices.ContainsFunc(left, func(f *flight) bool { return !slices.Contains(got, f) }) {
				t.Errorf("order %v: %d are under way, want %d", order, len(got), len(left))
			}
			for kind, id := range keys {
				fs.suspect(dependency{kinds[kind], id})
				doubted := 0
				for f := fs.queue.take(); f != nil; f = fs.queue.take() {
					doubted++
				}
				want := len(slices.DeleteFunc(slices.Clone(left), func(f *flight) bool { return f.keys[kind] != id }))
				if doubted != want {
					t.Errorf("order %v: %d depend on %s, want %d", order, doubted, id, want)
				}
			}
		}
	}
	for i := range fs.shards {
		for kind, m := range fs.shards[i].byKey {
			if len(m) > 0 || fs.shards[i].count != 0 {
				t.Errorf("%d keys of kind %d are left", len(m), kind)
			}
		}
	}
}

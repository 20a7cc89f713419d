package policy

import (
	"context"
	"encoding/json"
	"fmt"
	"reflect"
	"runtime"
	"testing"
	"time"

	"postern/internal/trust"
)

// besides runs a candidate beside a policy until the test ends.
func besides(t testing.TB, e *Engine, candidate Files) (*Active, *Shadow) {
	t.Helper()
	a, s := NewActive(e), NewShadow(engineOf(t, candidate))
	a.Beside(s)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); _ = s.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
	return a, s
}

// settled waits until the shadow has looked at all that was handed in.
func settled(t testing.TB, s *Shadow) ShadowReport {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		r := s.Report()
		if r.Offered == r.Dropped+uint64(r.Decisions) {
			return r
		}
		if time.Now().After(end) {
			t.Fatalf("the shadow did not come to an end: %+v", r)
		}
	}
}

// strict is a candidate that denies, quarantines, fails and lets through what the built-in policy does not.
var strict = Files{"team.rego": []byte(`package postern.access.team.strict

deny contains "no_screen_lock" if input.device.labels.screen_lock == "no"

quarantine contains "old_phone" if input.claimed.model == "iPhone10,1"

except contains [input.device.id] if input.device.id == "dev-13"
`), "enrol.rego": []byte(`package postern.enroll.team.strict

deny contains "no_renewals" if input.kind == "renew"
`)}

// company is what a few hundred phones send: each its own facts, some labelled, some old, some unknown.
func company(n int) []AccessInput {
	var all []AccessInput
	for i := range n {
		in := phoneInput(i)
		switch i % 10 {
		case 0:
			in.Device.Labels = map[string]string{"screen_lock": "no"}
		case 1:
			in.Claimed.Model = "iPhone10,1"
		case 2:
			in.Certificate = CertFacts{Problem: "none"}
			in.Assurance = "claimed"
		case 3:
			in.Device.State = string(trust.Blocked)
		}
		all = append(all, in)
	}
	return all
}

// Over what the shadow has evaluated, its differences are exactly those that a replay of the same decisions finds.
func TestShadowFindsWhatReplayFinds(t *testing.T) {
	e := engineOf(t, Files{})
	a, s := besides(t, e, strict)
	var recorded []Recorded
	for _, in := range company(400) {
		for range 3 { // remembered, or made again of the same facts
			j, err := a.Load().Judge(t.Context(), &in)
			if err != nil {
				t.Fatal(err)
			}
			if !j.Fresh {
				continue
			}
			r := offered("access", e.Digest(), &j.Decision, nil)
			r.At, r.User, r.Device, r.Command, r.Input = time.Unix(in.Now, 0), in.Credential.User, in.Device.ID, in.Request.Command, in.Record()
			recorded = append(recorded, r)
		}
	}
	for _, x := range enrollSamples() {
		d, err := a.Load().Enroll(t.Context(), &x.in)
		if err != nil {
			t.Fatal(err)
		}
		r := offered("enroll", e.Digest(), &d, nil)
		r.At, r.User, r.Device, r.Command = time.Unix(x.in.Now, 0), x.in.Owner.Mail, x.in.Device.ID, x.in.Kind
		if r.Input, err = json.Marshal(x.in); err != nil {
			t.Fatal(err)
		}
		recorded = append(recorded, r)
	}
	got := settled(t, s)
	if got.Dropped != 0 || got.Offered != uint64(len(recorded)) {
		t.Fatalf("%d of %d handed in, %d dropped", got.Offered, len(recorded), got.Dropped)
	}
	want, err := engineOf(t, strict).Replay(t.Context(), sequence(recorded), ReplayOptions{Workers: 1})
	if err != nil {
		t.Fatal(err)
	}
	if got.Changed < 80 || len(got.Groups) < 4 {
		t.Fatalf("too little would change for a comparison: %+v", got.ReplayReport)
	}
	for _, r := range []*ReplayReport{want, got.ReplayReport} {
		r.names, r.groups = 0, nil
		for i := range r.Groups {
			r.Groups[i].users, r.Groups[i].devices, r.Groups[i].clients = nil, nil, nil
		}
	}
	if !reflect.DeepEqual(got.ReplayReport, want) {
		t.Errorf("shadow\n%+v\nreplay\n%+v", got.ReplayReport, want)
	}
	if r := want.Rules[0]; r.Rule != "team.rego:3" || r.More == 0 {
		t.Errorf("rules %+v", want.Rules)
	}
}

// A shadow begins with nothing remembered, so that what was cached before is seen; and ends with what is.
func TestShadowSeesWhatWasRemembered(t *testing.T) {
	a := NewActive(engineOf(t, Files{}))
	in := managedSample()
	judge := func() (fresh bool) {
		j, err := a.Load().Judge(t.Context(), &in)
		if err != nil {
			t.Fatal(err)
		}
		return j.Fresh
	}
	if !judge() || judge() {
		t.Fatal("nothing is remembered")
	}
	s := NewShadow(engineOf(t, strict))
	a.Beside(s)
	if !judge() || judge() || s.Report().Offered != 1 {
		t.Errorf("%+v: a remembered decision was not handed to the shadow", s.Report())
	}
	a.Beside(nil)
	if judge() || s.Report().Offered != 1 {
		t.Error("the end of a shadow is the end of what is remembered, or not of the shadow")
	}
}

// Another policy in force is another comparison.
func TestShadowBeginsAnewWithThePolicyInForce(t *testing.T) {
	a, s := besides(t, engineOf(t, Files{}), strict)
	for _, in := range company(50) {
		if _, err := a.Load().Access(t.Context(), &in); err != nil {
			t.Fatal(err)
		}
	}
	if r := settled(t, s); r.Changed == 0 || r.Against != a.Load().Digest() {
		t.Fatalf("%+v", r)
	}
	a.Swap(engineOf(t, strict))
	for _, in := range company(50) {
		_, _ = a.Load().Access(t.Context(), &in) // one is a fault
	}
	if r := settled(t, s); r.Changed != 0 || r.Decisions != 50 || r.Faults == 0 || r.Against != s.Policy() {
		t.Errorf("%+v", r)
	}
}

// endless is a candidate that takes for ever about the phones with a label.
var endless = Files{"team.rego": []byte(`package postern.access.team.endless

deny contains "never" if {
	input.device.labels.endless == "yes"
	count({1 | some a in numbers.range(1, 100000); some b in numbers.range(1, 100000); a * b == 7}) > 5
}
`)}

// A candidate without end delays nothing and changes nothing: its decisions are cut off and said to be faults, and what piles up is dropped and counted.
func TestShadowNeverDelays(t *testing.T) {
	e := engineOf(t, Files{})
	a, s := besides(t, e, endless)
	const n = 3 * shadowQueue / 2
	slowest, start := time.Duration(0), time.Now()
	for i := range n {
		in := phoneInput(i)
		in.Device.Labels = map[string]string{"endless": "yes"}
		began := time.Now()
		d, err := a.Load().Access(t.Context(), &in)
		if err != nil || d.Action != trust.Allow {
			t.Fatalf("%+v, %v", d, err)
		}
		slowest = max(slowest, time.Since(began))
	}
	r := s.Report()
	t.Logf("%d decisions in %v, the slowest %v; %d evaluated, %d dropped, %d wait", n, time.Since(start), slowest, r.Evaluated, r.Dropped, r.Waiting)
	if slowest > DefaultTimeout {
		t.Errorf("a decision took %v", slowest)
	}
	if r.Dropped == 0 || r.Waiting > 2*shadowQueue || r.Offered != n {
		t.Errorf("handed in %d, dropped %d, waiting %d", r.Offered, r.Dropped, r.Waiting)
	}
	for end := time.Now().Add(30 * time.Second); r.Changed == 0 && time.Now().Before(end); r = s.Report() {
		time.Sleep(20 * time.Millisecond)
	}
	if len(r.Groups) != 1 || r.Groups[0].After.Action != trust.Fault || r.Groups[0].Examples[0].Error == "" {
		t.Errorf("%+v", r.ReplayReport)
	}
}

// What was dropped is remembered for a minute only, so that it comes again.
func TestShadowGetsWhatItDroppedAgain(t *testing.T) {
	a, s := NewActive(engineOf(t, Files{})), NewShadow(engineOf(t, strict)) // it does not run
	a.Beside(s)
	for i := range shadowQueue {
		in := phoneInput(i)
		_, _ = a.Load().Access(t.Context(), &in)
	}
	in := phoneInput(shadowQueue)
	for _, at := range []struct{ after, dropped int64 }{{0, 1}, {shadowAgain - 1, 1}, {shadowAgain, 2}} {
		later := in
		later.Now += at.after
		if _, err := a.Load().Access(t.Context(), &later); err != nil {
			t.Fatal(err)
		}
		if r := s.Report(); r.Dropped != uint64(at.dropped) {
			t.Errorf("after %d seconds %d were dropped, want %d", at.after, r.Dropped, at.dropped)
		}
	}
	// Strangers have a queue of their own, so they push out nobody; and nobody's facts take much room.
	in = phoneInput(1)
	in.Certificate = CertFacts{}
	in.Claimed.UserAgent = fmt.Sprintf("%*d", shadowInput, 1)
	_, _ = a.Load().Access(t.Context(), &in)
	in.Claimed.UserAgent = "short"
	_, _ = a.Load().Access(t.Context(), &in)
	if r := s.Report(); r.Dropped != 3 || r.Waiting != shadowQueue+1 {
		t.Errorf("%+v", r)
	}
}

// The report of a shadow that runs for weeks stays small.
func TestShadowReportIsBounded(t *testing.T) {
	r := newReplayReport("x")
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	for i := range 500_000 {
		name := fmt.Sprintf("%0300d", i)
		r.take(again{of: &Recorded{Action: trust.Allow, Input: []byte(name), User: name, Device: name, Codes: []string{fmt.Sprint("c", i%3000)}}, now: Outcome{trust.Deny, "x"}})
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	if used := int64(after.HeapAlloc) - int64(before.HeapAlloc); used > 200<<20 || len(r.groups) != maxGroups || r.names > maxNames || r.MoreGroups == 0 {
		t.Errorf("%d MB, %d groups, %d names", used>>20, len(r.groups), r.names)
	}
	for _, g := range r.groups {
		if len(g.Examples) > maxExamples {
			t.Fatalf("%d examples", len(g.Examples))
		}
	}
}

package edge_test

import (
	"testing"
	"time"

	"postern/internal/policy"
	"postern/internal/registry"
	"postern/internal/trust"
)

// What a rollout only observes is recorded once for each set of facts, however many requests there are, with the time of the last for which the policy was asked
// anew; every request is counted, refusals are still recorded one by one, and a replay finds what it stands for.
func TestNotedAllowsAreRecordedOnce(t *testing.T) {
	w := newWorld(t, options{})
	w.team(`postern: {config: {access: {max_silence: 86400, denied_clients: [apple_mail], rollout: {client_not_allowed: [{stage: observe}]}}}}`)
	_, c := w.managed(alice, "")
	phone := w.phone(&c, false)
	sync := func(command call, want string) {
		t.Helper()
		if r := w.do(phone, command); phoneSees(r) != want {
			t.Fatalf("%s, want %s", phoneSees(r), want)
		}
	}
	first := w.clock.now()
	for range 30 {
		sync(command("FolderSync", alice, aliceEAS), mail)
		w.clock.advance(time.Second)
	}
	noted := func(want int) []trust.Decision {
		t.Helper()
		all, err := w.journal.Decisions(t.Context(), registry.DecisionFilter{Action: trust.Allow})
		must(t, err)
		if len(all) != want {
			t.Fatalf("%d allows are listed, want %d: %+v", len(all), want, all)
		}
		return all
	}
	one := noted(1)[0]
	if len(one.Reasons) != 1 || one.Reasons[0].Code != "client_not_allowed" || one.Reasons[0].Facts["rollout.stage"] != "observe" || one.User != alice {
		t.Errorf("%+v", one)
	}
	if n, _, err := w.journal.AllowCount(t.Context(), ""); err != nil || n != 30 {
		t.Errorf("%d allows are counted, %v", n, err)
	}
	// Other facts are another record, and the same ones, asked anew, the same with another time.
	sync(command("Sync", alice, aliceEAS), mail)
	noted(2)
	w.team(`postern: {config: {access: {max_silence: 86401, denied_clients: [apple_mail], rollout: {client_not_allowed: [{stage: observe}]}}}}`)
	sync(command("FolderSync", alice, aliceEAS), mail)
	again, err := w.journal.Decision(t.Context(), one.Reference)
	must(t, err)
	if noted(2); !again.At.After(one.At) || one.At.Before(first) || again.Policy == one.Policy {
		t.Errorf("recorded again: %v after %v, policy %s after %s", again.At, one.At, again.Policy, one.Policy)
	}
	for range 3 {
		sync(command("FolderSync", bob, aliceEAS), blocked)
	}
	refused, err := w.journal.Decisions(t.Context(), registry.DecisionFilter{Action: trust.Deny})
	must(t, err)
	if len(refused) != 3 {
		t.Errorf("%d refusals are listed", len(refused))
	}
	// What is kept is what a replay decides again.
	time.Sleep(2 * registry.FlushEvery)
	kept, _, err := w.journal.Recorded(t.Context(), first.Add(-time.Hour), "", 100)
	must(t, err)
	strict, err := policy.Load(t.Context(), policy.Options{Timeout: 5 * time.Second})
	must(t, err)
	report, err := strict.Replay(t.Context(), func(yield func(policy.Recorded, error) bool) {
		for _, d := range kept {
			if d.Action == trust.Allow && !yield(policy.Recorded{Entry: "access", Reference: d.Reference, At: d.At, Action: d.Action, Codes: codesOf(d), User: d.User, Input: d.Input}, nil) {
				return
			}
		}
	}, policy.ReplayOptions{})
	must(t, err)
	if report.Decisions != 2 || report.Changed != 2 || report.Groups[0].Before.Codes != "client_not_allowed" || report.Groups[0].After != (policy.Outcome{Action: trust.Allow}) {
		t.Errorf("%+v", report)
	}
}

func codesOf(d trust.Decision) (codes []string) {
	for _, r := range d.Reasons {
		codes = append(codes, r.Code)
	}
	return codes
}

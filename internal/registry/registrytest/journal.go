package registrytest

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"postern/internal/registry"
	"postern/internal/trust"
)

// FreshJournal prepares empty storage of its own for one test and returns how to open a journal on it, again after a Close. The journal forgets by the
// clock now.
type FreshJournal func(t *testing.T, now func() time.Time) (open func() (registry.Journal, error))

// RunJournal checks that a backend keeps the contract of registry.Journal. It wants room for 1000 decisions in the queue and on disk.
func RunJournal(t *testing.T, fresh FreshJournal) {
	for name, run := range map[string]func(*testing.T, *journalSuite){
		"Found":     found,
		"Allows":    allows,
		"List":      list,
		"Filter":    filter,
		"Receipts":  receipts,
		"Reactions": reactions,
		"Parallel":  parallel,
		"Ages":      ages,
		"Flood":     flood,
		"Close":     closingJournal,
		"Recorded":  recordedAgain,
		"Facts":     recordedFlood,
	} {
		t.Run(name, func(t *testing.T) {
			s := &journalSuite{T: t, at: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)}
			s.open = fresh(t, s.now)
			s.reopen()
			run(t, s)
		})
	}
}

type journalSuite struct {
	*testing.T
	registry.Journal
	open func() (registry.Journal, error)

	mu sync.Mutex
	at time.Time
}

func (s *journalSuite) now() time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.at
}

// pass moves the clock.
func (s *journalSuite) pass(d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.at = s.at.Add(d)
}

func (s *journalSuite) reopen() {
	s.Helper()
	if s.Journal != nil {
		if err := s.Journal.Close(); err != nil {
			s.Fatalf("Close: %v", err)
		}
	}
	j, err := s.open()
	if err != nil {
		s.Fatalf("open: %v", err)
	}
	s.Journal = j
	closeAfter(s.T, j)
}

// stages runs the check on what is in memory, some of it being written, on what has been written, and after reopening.
func (s *journalSuite) stages(check func(stage string)) {
	s.Helper()
	check("at once")
	time.Sleep(2 * registry.FlushEvery)
	check("after a flush")
	s.reopen()
	check("after reopening")
}

func (s *journalSuite) decision(reference string, action trust.Action) trust.Decision {
	return trust.Decision{
		Reference: reference, At: s.now(), Door: "edge", Action: action, Policy: "sha256:0", User: "alice@contoso.com", Device: "dev-1",
		Reasons: []trust.Reason{{Code: "unmanaged", Text: "The device is not managed.", Facts: map[string]string{"a": "b"}}},
		Serial:  "0a", ClientID: "C1", Profile: "mp-1", Command: "Sync", Remote: "192.0.2.1", Input: []byte(`{"x":1}`),
	}
}

// stranger returns a decision about somebody of whom nothing is known.
func (s *journalSuite) stranger(reference, remote string) trust.Decision {
	d := s.decision(reference, trust.Deny)
	d.Device, d.Serial, d.Profile, d.Remote = "", "", "", remote
	return d
}

func (s *journalSuite) references(f registry.DecisionFilter) string {
	s.Helper()
	ds, err := s.Decisions(context.Background(), f)
	if err != nil {
		s.Errorf("Decisions(%+v): %v", f, err)
	}
	var refs []string
	for _, d := range ds {
		refs = append(refs, d.Reference)
	}
	return strings.Join(refs, " ")
}

func found(t *testing.T, s *journalSuite) {
	want := map[string]trust.Decision{}
	for _, a := range []trust.Action{trust.Deny, trust.Quarantine, trust.Pend, trust.Fault, trust.Allow} {
		d := s.decision("R-"+string(a), a)
		want[d.Reference] = d
		mine := s.decision(d.Reference, a)
		s.Record(mine)
		mine.Input[0], mine.Reasons[0].Code = 'X', "changed" // the journal has its own copy
	}
	s.stages(func(stage string) {
		for ref, d := range want {
			got, err := s.Decision(context.Background(), ref)
			if err != nil || !reflect.DeepEqual(got, d) {
				t.Errorf("%s: Decision(%q) = %+v, %v, want %+v", stage, ref, got, err, d)
			}
		}
		for _, ref := range []string{"nothing", "", strings.Repeat("x", 100_000)} {
			if _, err := s.Decision(context.Background(), ref); !errors.Is(err, trust.ErrNotFound) {
				t.Errorf("%s: unknown reference: %v", stage, err)
			}
		}
	})
	again := s.decision("R-deny", trust.Deny)
	again.User, again.Device, again.Serial = "bob@contoso.com", "", "" // now a stranger's
	s.Record(again)
	s.Record(trust.Decision{Action: trust.Deny}) // without a reference nobody can ask for it
	s.stages(func(stage string) {
		if got, err := s.Decision(context.Background(), "R-deny"); err != nil || got.User != again.User {
			t.Errorf("%s: recorded again: %+v, %v", stage, got, err)
		}
		if refs := s.references(registry.DecisionFilter{}); len(strings.Fields(refs)) != len(want) {
			t.Errorf("%s: listed %q, want %d", stage, refs, len(want))
		}
	})
}

func allows(t *testing.T, s *journalSuite) {
	record := func(profile string, n int) {
		for range n {
			s.pass(time.Second)
			s.Record(trust.Decision{Reference: fmt.Sprint(s.now().Unix()), At: s.now(), Action: trust.Allow, Profile: profile})
		}
	}
	record("mp-1", 3)
	first := s.now()
	record("mp-2", 4)
	record("", 1)
	s.Record(s.decision("refused", trust.Deny)) // does not count
	check := func(stage, profile string, n uint64, last time.Time) {
		t.Helper()
		got, at, err := s.AllowCount(context.Background(), profile)
		if err != nil || got != n || !at.Equal(last) {
			t.Errorf("%s: AllowCount(%q) = %d, %v, %v, want %d, %v", stage, profile, got, at, err, n, last)
		}
	}
	s.stages(func(stage string) {
		check(stage, "mp-1", 3, first)
		check(stage, "mp-2", 4, first.Add(4*time.Second))
		check(stage, "", 8, s.now())
		check(stage, "mp-3", 0, time.Time{})
		if refs := s.references(registry.DecisionFilter{}); refs != "refused" {
			t.Errorf("%s: listed %q; plain allows are only counted", stage, refs)
		}
	})
	record("mp-1", 2)
	s.stages(func(stage string) { check(stage, "mp-1", 5, s.now()) })
	// However the counts move from memory to disk, they are neither lost nor counted twice.
	for i := range 400 {
		record("mp-4", 1)
		if i%40 == 0 {
			time.Sleep(registry.FlushEvery / 4)
		}
		check("while it is written", "mp-4", uint64(i+1), s.now())
	}
}

func list(t *testing.T, s *journalSuite) {
	var want []string
	for i := range 300 {
		s.pass(time.Millisecond)
		ref := fmt.Sprintf("%x-%d", i*7919%1000, i) // references need not be in order
		d := s.decision(ref, trust.Deny)
		if i%3 == 0 {
			d.Device, d.Serial, d.Remote = "", "", fmt.Sprintf("10.0.%d.1", i%256) // strangers are listed among the others
		}
		s.Record(d)
		want = append([]string{ref}, want...)
		if i == 100 || i == 200 {
			time.Sleep(registry.FlushEvery + registry.FlushEvery/2)
		}
	}
	s.stages(func(stage string) {
		if got := s.references(registry.DecisionFilter{}); got != strings.Join(want[:100], " ") {
			t.Errorf("%s: first page %q", stage, got)
		}
		var all []string
		f := registry.DecisionFilter{Limit: 37}
		for {
			page := strings.Fields(s.references(f))
			if len(page) == 0 {
				break
			}
			all = append(all, page...)
			f.Before = page[len(page)-1]
		}
		if !reflect.DeepEqual(all, want) {
			t.Errorf("%s: %d decisions page by page, want %d in order", stage, len(all), len(want))
		}
	})
	for _, limit := range []int{-1, 1001} {
		if _, err := s.Decisions(context.Background(), registry.DecisionFilter{Limit: limit}); !errors.Is(err, trust.ErrInvalid) {
			t.Errorf("limit %d: %v", limit, err)
		}
	}
	if _, err := s.Decisions(context.Background(), registry.DecisionFilter{Before: "nothing"}); !errors.Is(err, trust.ErrNotFound) {
		t.Errorf("unknown Before: %v", err)
	}
}

func filter(t *testing.T, s *journalSuite) {
	for i, action := range []trust.Action{trust.Deny, trust.Quarantine, trust.Deny, trust.Fault} {
		for u := range 2 {
			s.pass(time.Second)
			d := s.decision(fmt.Sprintf("%s%d-%d", action, i, u), action)
			d.User, d.Device = fmt.Sprintf("u%d", u), trust.DeviceID(fmt.Sprintf("d%d", i))
			s.Record(d)
		}
	}
	s.stages(func(stage string) {
		for _, c := range []struct {
			f    registry.DecisionFilter
			want string
		}{
			{registry.DecisionFilter{Action: trust.Deny}, "deny2-1 deny2-0 deny0-1 deny0-0"},
			{registry.DecisionFilter{Action: trust.Deny, User: "u1"}, "deny2-1 deny0-1"},
			{registry.DecisionFilter{Device: "d3"}, "fault3-1 fault3-0"},
			{registry.DecisionFilter{User: "u0", Limit: 2}, "fault3-0 deny2-0"},
			{registry.DecisionFilter{User: "u0", Limit: 2, Before: "deny2-0"}, "quarantine1-0 deny0-0"},
			{registry.DecisionFilter{User: "u0", Device: "d1", Action: trust.Deny}, ""},
			{registry.DecisionFilter{Action: trust.Allow}, ""},
		} {
			if got := s.references(c.f); got != c.want {
				t.Errorf("%s: %+v: %q, want %q", stage, c.f, got, c.want)
			}
		}
	})
}

func receipts(t *testing.T, s *journalSuite) {
	start := s.now()
	fetch := func(object, number, network, agent string) {
		s.pass(time.Minute)
		s.Fetched(registry.Receipt{Object: object, Number: number, Network: network, UserAgent: agent})
	}
	fetch("c/issuing.crl", "1", "192.0.2.0/24", "Azure")
	fetch("c/issuing.crl", "1", "192.0.2.0/24", "curl")
	fetch("c/issuing.crl", "1", "192.0.2.0/24", "Azure")
	fetch("c/issuing.crl2", "9", "192.0.2.0/24", "Azure")
	fetch("c/issuing.crl", "2", "2001:db8::/48", "Azure\x00\xff"+strings.Repeat("x", 1000))
	s.stages(func(stage string) {
		rs, err := s.Receipts(context.Background(), "c/issuing.crl", 10)
		if err != nil || len(rs) != 3 {
			t.Fatalf("%s: %+v, %v, want 3 rows", stage, rs, err)
		}
		if rs[0].Number != "2" || !strings.HasPrefix(rs[0].UserAgent, "Azure") || len(rs[0].UserAgent) > 1000 {
			t.Errorf("%s: newest %+v", stage, rs[0])
		}
		want := registry.Receipt{
			Object: "c/issuing.crl", Number: "1", Network: "192.0.2.0/24", UserAgent: "Azure",
			First: start.Add(time.Minute), Last: start.Add(3 * time.Minute), Count: 2,
		}
		if rs[1] != want {
			t.Errorf("%s: got %+v, want %+v", stage, rs[1], want)
		}
		if rs, err := s.Receipts(context.Background(), "c/issuing.crl", 1); err != nil || len(rs) != 1 {
			t.Errorf("%s: limit 1: %d rows, %v", stage, len(rs), err)
		}
		if rs, err := s.Receipts(context.Background(), "c", 10); err != nil || len(rs) != 0 {
			t.Errorf("%s: another object: %v, %v", stage, rs, err)
		}
	})
}

// reactions: of each node, the first at or after a revision, whatever came in which order.
func reactions(t *testing.T, s *journalSuite) {
	start := s.now()
	for _, r := range []registry.Reaction{{Node: "a", Revision: 5}, {Node: "b", Revision: 7}, {Node: "a", Revision: 9}, {Node: "b", Revision: 300}, {Node: "a", Revision: 300}} {
		s.pass(time.Second)
		s.Applied(r)
	}
	at := func(n int) time.Time { return start.Add(time.Duration(n) * time.Second) }
	s.stages(func(stage string) {
		for rev, want := range map[registry.Revision][]registry.Reaction{
			1:   {{Node: "a", Revision: 5, At: at(1)}, {Node: "b", Revision: 7, At: at(2)}},
			6:   {{Node: "a", Revision: 9, At: at(3)}, {Node: "b", Revision: 7, At: at(2)}},
			9:   {{Node: "a", Revision: 9, At: at(3)}, {Node: "b", Revision: 300, At: at(4)}},
			10:  {{Node: "a", Revision: 300, At: at(5)}, {Node: "b", Revision: 300, At: at(4)}},
			301: {},
		} {
			if got, err := s.Reactions(context.Background(), rev); err != nil || !slices.Equal(got, want) {
				t.Errorf("%s: revision %d: %v, %v, want %v", stage, rev, got, err, want)
			}
		}
	})
}

func parallel(t *testing.T, s *journalSuite) {
	const writers, each = 4, 100
	var wg sync.WaitGroup
	for i := range writers {
		wg.Go(func() {
			for n := range each {
				ref := fmt.Sprintf("%d-%d", i, n)
				s.Record(s.decision(ref, trust.Deny))
				s.Record(trust.Decision{Action: trust.Allow, Profile: "p"})
				s.Fetched(registry.Receipt{Object: "o", Number: "1"})
				if _, err := s.Decision(context.Background(), ref); err != nil {
					t.Errorf("not found at once: %v", err)
				}
			}
		})
	}
	wg.Wait()
	s.stages(func(stage string) {
		if n := len(strings.Fields(s.references(registry.DecisionFilter{Limit: 1000}))); n != writers*each {
			t.Errorf("%s: %d decisions, want %d", stage, n, writers*each)
		}
		if n, _, err := s.AllowCount(context.Background(), "p"); err != nil || n != writers*each {
			t.Errorf("%s: %d allows, %v", stage, n, err)
		}
		if rs, err := s.Receipts(context.Background(), "o", 1); err != nil || len(rs) != 1 || rs[0].Count != writers*each {
			t.Errorf("%s: receipts %v, %v", stage, rs, err)
		}
	})
	if n := s.Dropped(); n != 0 {
		t.Errorf("%d dropped", n)
	}
}

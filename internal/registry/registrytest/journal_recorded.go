package registrytest

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"postern/internal/registry"
	"postern/internal/trust"
)

// plainAllow is an allow without reasons, recorded by its facts.
func (s *journalSuite) plainAllow(facts string) trust.Decision {
	d := s.decision("", trust.Allow)
	d.Reasons, d.Facts, d.Input = nil, strings.Repeat(facts, 16), []byte("facts "+facts)
	return d
}

// recorded returns what Recorded yields, page by page: references, and for plain allows their inputs.
func (s *journalSuite) recorded(since time.Time, limit int) string {
	s.Helper()
	var out []string
	for after, pages := "", 0; ; pages++ {
		page, next, err := s.Recorded(context.Background(), since, after, limit)
		if err != nil || len(page) > limit || pages > 100 {
			s.Fatalf("Recorded: %d decisions, %v", len(page), err)
		}
		for _, d := range page {
			name := d.Reference
			if d.Facts != "" {
				name = string(d.Input)
			}
			out = append(out, name)
		}
		if next == "" {
			return strings.Join(out, ", ")
		}
		after = next
	}
}

func recordedAgain(t *testing.T, s *journalSuite) {
	begin := s.now()
	s.Record(s.plainAllow("a"))
	s.pass(time.Second)
	s.Record(s.decision("R-1", trust.Deny))
	s.pass(time.Second)
	s.Record(s.plainAllow("b"))
	time.Sleep(300 * time.Millisecond) // the same facts again are often in another batch
	s.pass(time.Second)
	s.Record(s.plainAllow("a"))
	without := s.plainAllow("c")
	without.Input = nil
	s.Record(without)
	noted := s.decision("", trust.Allow) // with a reason and without a reference it is only counted
	noted.Input = nil
	s.Record(noted)
	s.pass(time.Second)
	s.Record(s.stranger("R-2", "198.51.100.1"))
	s.reopen()
	for _, limit := range []int{1, 2, 3, 100} {
		if got, want := s.recorded(begin, limit), "R-1, facts b, facts a, R-2"; got != want {
			t.Errorf("in pages of %d: %s, want %s", limit, got, want)
		}
	}
	if got, want := s.recorded(begin.Add(2*time.Second), 100), "facts b, facts a, R-2"; got != want {
		t.Errorf("since later: %s, want %s", got, want)
	}
	if got, want := s.references(registry.DecisionFilter{}), "R-2 R-1"; got != want {
		t.Errorf("listed: %s, want %s", got, want)
	}
	if n, _, err := s.AllowCount(t.Context(), ""); n != 5 || err != nil {
		t.Errorf("%d allows counted, %v", n, err)
	}
	for _, limit := range []int{0, -1, 10_001} {
		if _, _, err := s.Recorded(t.Context(), begin, "", limit); !errors.Is(err, trust.ErrInvalid) {
			t.Errorf("limit %d: %v", limit, err)
		}
	}
	if _, _, err := s.Recorded(t.Context(), begin, "nonsense", 1); !errors.Is(err, trust.ErrInvalid) {
		t.Errorf("a wrong place to go on: %v", err)
	}
}

// recordedFlood: however many sets of facts there are, refusals are not pushed out by them.
func recordedFlood(t *testing.T, s *journalSuite) {
	s.Record(s.decision("R-1", trust.Deny))
	for n := range 5000 {
		d := s.plainAllow("x")
		d.Facts = fmt.Sprintf("%016d", n)
		s.Record(d)
	}
	if _, err := s.Decision(t.Context(), "R-1"); err != nil {
		t.Errorf("a refusal was pushed out by plain allows: %v", err)
	}
	skipped := s.Stats().SkippedAllowed
	s.reopen() // what is evicted meanwhile is counted from here
	time.Sleep(2 * registry.FlushEvery)
	kept := uint64(strings.Count(s.recorded(s.now(), 1000), "facts"))
	if kept+skipped > 5000 || kept+skipped < 5000 && kept < 500 {
		t.Errorf("%d sets of facts are kept, %d were skipped, of 5000", kept, skipped)
	}
	if _, err := s.Decision(t.Context(), "R-1"); err != nil {
		t.Errorf("a refusal was pushed out by plain allows: %v", err)
	}
}

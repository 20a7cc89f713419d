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

func ages(t *testing.T, s *journalSuite) {
	s.Record(s.decision("old", trust.Deny))
	s.Record(s.stranger("old stranger", "192.0.2.1"))
	s.pass(366 * 24 * time.Hour)
	s.Record(s.decision("young", trust.Deny))
	s.reopen()
	if got := s.references(registry.DecisionFilter{}); got != "young" {
		t.Errorf("a year later: %q, want only the young one", got)
	}
	if _, err := s.Decision(context.Background(), "old"); !errors.Is(err, trust.ErrNotFound) {
		t.Errorf("a year later: %v, want ErrNotFound", err)
	}
	if n := s.Stats(); n != (registry.JournalStats{}) {
		t.Errorf("a year later: %+v; what is too old is no loss", n)
	}
}

// flood records far more decisions of strangers than are kept, within a minute and from one network.
func flood(t *testing.T, s *journalSuite) {
	const all, perNetwork, perDevice = 4000, 60, 12
	s.Record(s.decision("evidence", trust.Deny))
	kept := map[string]bool{}
	for i := range all {
		ref := fmt.Sprintf("s%04d", i)
		s.Record(s.stranger(ref, fmt.Sprintf("192.0.2.%d", i%256)))
		d, err := s.Decision(context.Background(), ref)
		switch {
		case err == nil:
			kept[ref] = true
			if hasInput := len(d.Input) > 0; hasInput != (i < perNetwork) {
				t.Errorf("number %d: input kept: %t", i, hasInput)
			}
		case i < perNetwork || !errors.Is(err, trust.ErrNotFound):
			t.Errorf("number %d: %v", i, err)
		}
	}
	if n := len(kept) - perNetwork; n < (all-perNetwork)/16/2 || n > (all-perNetwork)/16*2 {
		t.Errorf("%d of %d kept, want about one in 16", n, all-perNetwork)
	}
	if n := s.Stats(); n.Dropped != 0 || n.Sampled != uint64(all-len(kept)) {
		t.Errorf("%+v, want %d sampled", n, all-len(kept))
	}
	s.Record(s.stranger("neighbour", "198.51.100.1")) // of another network
	for i := range perDevice {
		d := s.stranger(fmt.Sprint("claimed", i), "192.0.2.1")
		d.Device = "dev-1"
		s.Record(d)
	}
	s.stages(func(stage string) {
		for _, ref := range []string{"evidence", "neighbour", "claimed0", fmt.Sprint("claimed", perDevice-1)} {
			if d, err := s.Decision(context.Background(), ref); err != nil || len(d.Input) == 0 {
				t.Errorf("%s: %s: %v, input %q", stage, ref, err, d.Input)
			}
		}
		if n := len(strings.Fields(s.references(registry.DecisionFilter{Limit: 1000}))); n != len(kept)+perDevice+2 {
			t.Errorf("%s: %d listed, want %d", stage, n, len(kept)+perDevice+2)
		}
	})
}

func closingJournal(t *testing.T, s *journalSuite) {
	s.Record(s.decision("a", trust.Deny))
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	ctx := context.Background()
	s.Record(s.decision("b", trust.Deny))
	s.Record(trust.Decision{Action: trust.Allow})
	s.Fetched(registry.Receipt{Object: "o"})
	_, one := s.Decision(ctx, "a")
	_, many := s.Decisions(ctx, registry.DecisionFilter{})
	_, _, count := s.AllowCount(ctx, "")
	_, fetched := s.Receipts(ctx, "o", 1)
	for i, err := range []error{one, many, count, fetched, s.Close()} {
		if !errors.Is(err, registry.ErrClosed) {
			t.Errorf("call %d after Close: %v, want ErrClosed", i, err)
		}
	}
}

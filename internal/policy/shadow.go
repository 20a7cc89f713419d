package policy

import (
	"context"
	"encoding/json"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"postern/internal/trust"
)

// Limits of a shadow.
const (
	shadowQueue    = 4096             // decisions that wait to be made again, and as many of strangers; some 5 MB each
	shadowRemember = 1 << 16          // outcomes under the digest of their facts; some 6 MB
	shadowInput    = 8 << 10          // bytes of the facts of one; a phone's are 1 kB
	shadowAgain    = 60               // seconds after which what was dropped is handed in again, if it comes again
	shadowSlice    = time.Millisecond // of work before a rest
	shadowShare    = 20               // a twentieth of the processors is the most that a shadow takes; collecting its garbage comes on top
	shadowLimit    = 100 * time.Millisecond
)

// Shadow is a candidate that decides beside the policy in force, on the facts that this was asked about, and changes nothing. Decisions wait for it in a
// bounded queue, from which it takes them at its own slow pace; what does not fit is dropped and counted. Make it with NewShadow, put it beside a policy
// with Active.Beside, and run it once with Run.
type Shadow struct {
	candidate *Engine
	known     chan Recorded // about certificates that the registry knows
	strangers chan Recorded // the others, which can be made up without end

	mu      sync.Mutex
	against string // digest of the policy in force
	began   time.Time
	replay  *replay
	report  *ReplayReport

	offered, dropped atomic.Uint64
}

// ShadowReport is what a candidate would have decided otherwise since the policy beside it came into force, in the words of a replay. Decisions are those
// made anew, not those that were remembered: each stands for all requests with its facts.
type ShadowReport struct {
	*ReplayReport
	Against string    `json:"against"` // digest of the policy in force
	Since   time.Time `json:"since"`
	Offered uint64    `json:"offered"` // decisions that the policy in force has made anew
	Dropped uint64    `json:"dropped"` // of these, not looked at, because the candidate is given little time; they are tried again when they come again
	Waiting int       `json:"waiting"` // of these, not looked at yet
}

// NewShadow makes a shadow of a candidate, which must not be in use otherwise. One of its decisions may take a tenth of a second.
func NewShadow(candidate *Engine) *Shadow {
	e := *candidate
	e.timeout = min(e.timeout, shadowLimit)
	return &Shadow{candidate: &e, known: make(chan Recorded, shadowQueue), strangers: make(chan Recorded, shadowQueue)}
}

// Policy returns the digest of the candidate.
func (s *Shadow) Policy() string { return s.candidate.digest }

// restart begins a new report, against another policy.
func (s *Shadow) restart(against string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.against == against {
		return
	}
	s.against, s.began = against, time.Now()
	s.replay = &replay{engine: s.candidate, seen: newSeen(shadowRemember), rules: &rulesOf{engine: s.candidate}}
	s.report = newReplayReport(s.candidate.digest)
	s.offered.Store(0)
	s.dropped.Store(0)
}

// offer hands a decision of the policy in force to the shadow, and reports whether there was room. It never waits.
func (s *Shadow) offer(queue chan Recorded, d *Recorded, input func() []byte) bool {
	s.offered.Add(1)
	if len(queue) < cap(queue) {
		if d.Action != trust.Fault {
			d.Input = input()
		}
		if len(d.Input) <= shadowInput {
			select {
			case queue <- *d:
				return true
			default:
			}
		}
	}
	s.dropped.Add(1)
	return false
}

func (s *Shadow) offerAccess(in *AccessInput, policy string, d *Decision, failed error) bool {
	queue := s.known
	if in.Certificate.Status == "" || in.Certificate.Status == "none" {
		queue = s.strangers
	}
	r := offered("access", policy, d, failed)
	r.At, r.User, r.Device, r.Command = time.Unix(in.Now, 0).UTC(), in.Credential.User, in.Device.ID, in.Request.Command
	return s.offer(queue, &r, in.Record)
}

func (s *Shadow) offerEnroll(in *EnrollInput, policy string, d *Decision, failed error) {
	r := offered("enroll", policy, d, failed)
	r.At, r.User, r.Device, r.Command = time.Unix(in.Now, 0).UTC(), in.Owner.Mail, in.Device.ID, in.Kind
	s.offer(s.known, &r, func() []byte {
		text, err := json.Marshal(in)
		if err != nil {
			return nil // not reached: the contract is plain data
		}
		return text
	})
}

func offered(entry, policy string, d *Decision, failed error) Recorded {
	r := Recorded{Entry: entry, Action: d.Action, Policy: policy}
	if failed != nil {
		r.Action = trust.Fault
	}
	for _, x := range d.Reasons {
		r.Codes = append(r.Codes, x.Code)
	}
	return r
}

// Run decides what is handed in until ctx ends, with rests, so that it takes a twentieth of the processors at the most.
func (s *Shadow) Run(ctx context.Context) error {
	rest := max(0, shadowShare/float64(runtime.GOMAXPROCS(0))-1)
	var busy time.Duration
	for {
		d, ok := s.next(ctx)
		if !ok {
			return nil
		}
		start := time.Now()
		s.one(ctx, &d)
		if busy += time.Since(start); busy >= shadowSlice && rest > 0 {
			sleep(ctx, time.Duration(float64(busy)*rest))
			busy = 0
		}
	}
}

// next waits for a decision; those of strangers come last.
func (s *Shadow) next(ctx context.Context) (d Recorded, ok bool) {
	select {
	case d = <-s.known:
		return d, true
	default:
	}
	select {
	case d = <-s.known:
		return d, true
	case d = <-s.strangers:
		return d, true
	case <-ctx.Done():
		return d, false
	}
}

func (s *Shadow) one(ctx context.Context, d *Recorded) {
	s.mu.Lock()
	against, by := s.against, s.replay
	s.mu.Unlock()
	if d.Policy != against {
		return // the policy in force changed while it waited
	}
	defer func() {
		if recover() != nil {
			s.dropped.Add(1)
		}
	}()
	made := by.again(ctx, d)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.replay == by {
		s.report.take(made)
	}
}

// Report returns what there is so far.
func (s *Shadow) Report() ShadowReport {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := ShadowReport{ReplayReport: newReplayReport(s.candidate.digest), Against: s.against, Since: s.began.UTC(), Offered: s.offered.Load(), Dropped: s.dropped.Load(),
		Waiting: len(s.known) + len(s.strangers)}
	if s.report != nil {
		out.merge(s.report)
		out.finish(s.replay.rules)
	}
	return out
}

// sleep waits for d or until ctx ends.
func sleep(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

package policy

import (
	"context"
	"iter"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"postern/internal/trust"
)

// Recorded is a decision that was made, with the facts that it was made on.
type Recorded struct {
	Entry     string // access or enroll
	Reference string // empty for a plain allow. An allow of the edge, plain or with reasons, stands for all requests with its facts
	At        time.Time
	Action    trust.Action
	Codes     []string // of its reasons
	Policy    string   // digest
	User      string
	Device    string
	Client    string // family of the mail client; filled in from Input
	Command   string
	Input     []byte // empty: it was not kept
}

// ReplayOptions say how to replay. The zero value uses every processor.
type ReplayOptions struct {
	Workers  int
	Progress func(decided int) // called now and then, from any goroutine
}

const (
	replayBatch    = 256
	replayRemember = 1 << 20 // results under the digest of their facts, so that identical ones are evaluated once; at most 100 MB
	progressEvery  = 10_000
)

// Replay decides recorded decisions again and reports what is different. Memory is bounded however many there are, identical inputs are evaluated once
// while their result holds, and the clock of each is the one of its input. A decision that cannot be decided again, because its facts were not kept or
// cannot be read, is counted; an error of the sequence ends the replay.
func (e *Engine) Replay(ctx context.Context, recorded iter.Seq2[Recorded, error], o ReplayOptions) (*ReplayReport, error) {
	if o.Workers <= 0 {
		o.Workers = runtime.GOMAXPROCS(0)
	}
	r := &replay{engine: e, seen: newSeen(replayRemember), rules: &rulesOf{engine: e}, progress: o.Progress}
	batches := make(chan []Recorded, o.Workers)
	reports := make([]*ReplayReport, o.Workers)
	var wg sync.WaitGroup
	for i := range reports {
		reports[i] = newReplayReport(e.digest)
		wg.Go(func() {
			for batch := range batches {
				for n := range batch {
					r.one(ctx, &batch[n], reports[i])
				}
			}
		})
	}
	err := feed(ctx, recorded, batches)
	wg.Wait()
	total := newReplayReport(e.digest)
	for _, part := range reports {
		total.merge(part)
	}
	total.finish(r.rules)
	return total, err
}

// feed hands the sequence out in batches, and closes the channel.
func feed(ctx context.Context, recorded iter.Seq2[Recorded, error], batches chan<- []Recorded) error {
	defer close(batches)
	batch := make([]Recorded, 0, replayBatch)
	for d, err := range recorded {
		if err != nil {
			return err
		}
		if batch = append(batch, d); len(batch) == replayBatch {
			select {
			case batches <- batch:
			case <-ctx.Done():
				return ctx.Err()
			}
			batch = make([]Recorded, 0, replayBatch)
		}
	}
	if len(batch) > 0 {
		batches <- batch
	}
	return ctx.Err()
}

type replay struct {
	engine   *Engine
	seen     *seen
	rules    *rulesOf
	progress func(int)
	decided  atomic.Int64
}

func (r *replay) one(ctx context.Context, d *Recorded, into *ReplayReport) {
	if n := r.decided.Add(1); r.progress != nil && n%progressEvery == 0 {
		r.progress(int(n))
	}
	into.take(r.again(ctx, d))
}

// again is a decision made again.
type again struct {
	of        *Recorded
	now       Outcome
	evaluated bool // the policy was asked
	cancelled bool
	err       error
}

// again decides where there is something to compare with.
func (r *replay) again(ctx context.Context, d *Recorded) again {
	out := again{of: d}
	if d.Action == trust.Fault || len(d.Input) == 0 {
		return out
	}
	out.now, out.evaluated, out.err = r.decide(ctx, d)
	out.cancelled = out.err != nil && ctx.Err() != nil
	return out
}

// decide asks the policy, or takes what it has said about the same facts.
func (r *replay) decide(ctx context.Context, d *Recorded) (out outcome, evaluated bool, err error) {
	if d.Entry == "enroll" {
		in, err := DecodeEnroll(d.Input)
		if err != nil {
			return out, false, err
		}
		decision, err := r.engine.Enroll(ctx, in)
		r.rules.learn(&decision)
		return outcomeOf(&decision), true, err
	}
	in, err := DecodeAccess(d.Input)
	if err != nil {
		return out, false, err
	}
	d.Client = in.Claimed.Family
	digest := in.digest(r.engine.clock.snapshot)
	if out, ok := r.seen.get(&digest, in.Now); ok {
		return out, false, nil
	}
	decision, err := r.engine.decideAccess(ctx, in)
	if err != nil {
		return out, true, err
	}
	r.rules.learn(&decision)
	out = outcomeOf(&decision)
	r.seen.put(&digest, out, in.Now, r.engine.holdsUntil(&decision, in.Now))
	return out, true, nil
}

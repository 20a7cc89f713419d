package policy

import (
	"context"
	"math"
	"slices"
	"time"
)

// Cost is what a decision about access takes on this machine: the median over the sample inputs, of each the fastest of several. It compares with the built-in policies alone, measured in turn
// with it, because a number of microseconds alone says more about the machine.
type Cost struct {
	Decision time.Duration `json:"decision_ns"`
	BuiltIn  time.Duration `json:"built_in_ns"`
	Ratio    float64       `json:"ratio"`   // of the two
	Slowest  string        `json:"slowest"` // sample
	Most     time.Duration `json:"slowest_ns"`
}

const costRounds = 41

// Measure says what a decision costs. It takes a fraction of a second, and never says that a policy is too slow: that is for the limit of one decision. A policy
// that is not accepted is a *CheckError.
func Measure(ctx context.Context, o Options) (*Cost, error) {
	own, err := Load(ctx, o)
	if err != nil {
		return nil, err
	}
	builtin, err := Load(ctx, Options{Timeout: o.Timeout})
	if err != nil {
		return nil, err
	}
	samples := accessSamples()
	best := map[*Engine][]time.Duration{own: slices.Repeat([]time.Duration{math.MaxInt64}, len(samples))}
	best[builtin] = slices.Clone(best[own])
	for range costRounds {
		for i := range samples {
			for _, e := range []*Engine{own, builtin} {
				began := time.Now()
				if _, err := e.decideAccess(ctx, &samples[i].in); err != nil {
					return nil, err
				}
				best[e][i] = min(best[e][i], time.Since(began))
			}
		}
	}
	c := &Cost{}
	for i, took := range best[own] {
		if took > c.Most {
			c.Most, c.Slowest = took, samples[i].name
		}
	}
	c.Decision, c.BuiltIn = median(best[own]), median(best[builtin])
	c.Ratio = float64(c.Decision) / float64(max(c.BuiltIn, 1))
	return c, nil
}

func median(all []time.Duration) time.Duration {
	slices.Sort(all)
	return all[len(all)/2]
}

package policy

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
)

// leftToOPA counts the decisions that OPA's own evaluator made, and says of the first why. Their answers are right; they cost several times what a plan costs.
type leftToOPA struct {
	count atomic.Uint64
	once  sync.Once
	log   *slog.Logger // nil: nobody is told
}

// add counts one. err is why its plan did not decide; nil where there is none to do so.
func (l *leftToOPA) add(ctx context.Context, digest, entry string, err error) {
	if ctx.Err() != nil {
		return // whoever asked has gone
	}
	l.count.Add(1)
	if l.log == nil {
		return
	}
	l.once.Do(func() {
		why := "OPA's planner cannot plan it"
		if err != nil {
			why = firstBytes(err.Error())
		}
		l.log.WarnContext(ctx, "a decision was left to OPA's own evaluator, at several times the cost; more of this policy are only counted (postern_policy_left_to_opa_total)",
			"policy", digest, "entry", entry, "why", why)
	})
}

// LeftToOPA returns how many decisions of this policy its plan did not make since it was loaded: OPA's own evaluator did, with the same answers, or with the error
// that made them faults.
func (e *Engine) LeftToOPA() uint64 { return e.left.count.Load() }

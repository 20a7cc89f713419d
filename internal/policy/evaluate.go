package policy

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/metrics"
	"github.com/open-policy-agent/opa/v1/rego"
	"github.com/open-policy-agent/opa/v1/topdown"
)

// answerVar is the variable of a planned question that holds the decision.
const answerVar = "answer"

var errSeveral = errors.New("the policy has more than one decision for this input")

// planShare is the part of the limit of time that a plan has: a quarter. It is several times as quick as OPA, which has the rest, so what OPA decides in time is
// decided in time, also where OPA passes over what a plan works through.
const planShare = 4

// evaluate returns the decision as the policy wrote it: from the plan of the question, or from OPA's own evaluator where there is none, or where it ends with an
// error or takes too long, of which OPA has the last word. Both have one limit of time.
func (e *Engine) evaluate(ctx context.Context, q *question) (ast.Value, error) {
	began := time.Now()
	var left error
	if p := e.plans[q.entry]; p != nil {
		answers, err := p.Values(ctx, q.input(), deadline{began, e.timeout / planShare})
		switch {
		case err == nil && len(answers) == 0:
			return nil, ErrUndefined
		case err == nil && len(answers) == 1:
			return answers[0].Value, nil
		}
		left = cmp.Or(err, errSeveral)
	}
	e.left.add(ctx, e.digest, q.entry, left)
	return e.evaluateByOPA(ctx, q.entry, q.term().Value, e.timeout-time.Since(began))
}

// evaluateByOPA runs the query. Time is bounded by a cancel that OPA looks at, without a goroutine.
func (e *Engine) evaluateByOPA(ctx context.Context, entry string, input ast.Value, limit time.Duration) (ast.Value, error) {
	cancel := topdown.NewCancel()
	timer := time.AfterFunc(limit, cancel.Cancel)
	defer timer.Stop()
	rs, err := e.queries[entry].Eval(ctx, rego.EvalParsedInput(input), rego.EvalMetrics(metrics.NoOp()), rego.EvalExternalCancel(cancel))
	switch {
	case topdown.IsCancel(err):
		return nil, fmt.Errorf("%w: more than %v", ErrTimeout, e.timeout)
	case err != nil:
		return nil, err
	case len(rs) == 0:
		return nil, ErrUndefined
	case len(rs) > 1 || len(rs[0].Expressions) != 1:
		return nil, errSeveral
	}
	v, ok := rs[0].Expressions[0].Value.(ast.Value)
	if !ok {
		return nil, fmt.Errorf("decision of type %T", rs[0].Expressions[0].Value)
	}
	return v, nil
}

// deadline is a cancel by the clock, for who looks at it seldom: it costs a decision less than a timer.
type deadline struct {
	began time.Time
	limit time.Duration
}

// Cancel implements topdown.Cancel. Nobody calls it: only the time ends an evaluation.
func (deadline) Cancel() {}

// Cancelled implements topdown.Cancel.
func (d deadline) Cancelled() bool { return time.Since(d.began) >= d.limit }

package policy

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/metrics"
	"github.com/open-policy-agent/opa/v1/rego"
	"github.com/open-policy-agent/opa/v1/topdown"
)

// problemOf places the fault of a sample in the rule that caused it, and says what to do about it.
func (e *Engine) problemOf(ctx context.Context, entry, name string, input ast.Value, err error) Problem {
	p := Problem{Message: fmt.Sprintf("sample %s/%s: %v", entry, name, err), Advice: "a policy must decide every request"}
	var at *topdown.Error
	switch {
	case errors.Is(err, ErrTimeout):
		p.Advice = "look things up by key instead of comparing each with each, and bound what is generated"
		if l := e.slowest(ctx, entry, input); l != nil {
			p.File, p.Line, p.Column = l.File, l.Row, l.Col
		}
	case errors.As(err, &at):
		p.Message = fmt.Sprintf("sample %s/%s: %s", entry, name, at.Message)
		if at.Location != nil {
			p.File, p.Line, p.Column = at.Location.File, at.Location.Row, at.Location.Col
		}
		switch at.Code {
		case topdown.ConflictErr:
			p.Advice = "two rules give different answers to one request: write the second as else, or let their conditions exclude each other"
		case topdown.BuiltinErr, topdown.TypeErr:
			p.Advice = "a function cannot work on the value that it is given: look first whether the fact has the form that is expected"
		}
	case errors.Is(err, ErrUndefined):
		p.Advice = "decision needs a value for every request: end it with an else that denies"
	}
	return p
}

// tracedTime is how much longer a query may take that is traced.
const tracedTime = 4

// slowest lets a query that took too long run once more, and returns where in the team's files most of its steps were. Inside a builtin that does not come
// back, the step before it is the last, and the one.
func (e *Engine) slowest(ctx context.Context, entry string, input ast.Value) *ast.Location {
	steps := &stepCounter{counts: map[line]int{}, at: map[line]*ast.Location{}}
	cancel := topdown.NewCancel()
	timer := time.AfterFunc(tracedTime*e.timeout, cancel.Cancel)
	defer timer.Stop()
	_, err := e.queries[entry].Eval(ctx, rego.EvalParsedInput(input), rego.EvalMetrics(metrics.NoOp()), rego.EvalExternalCancel(cancel), rego.EvalQueryTracer(steps))
	if err == nil {
		return nil // this time it was in time
	}
	return steps.most()
}

type line struct {
	file string
	row  int
}

// stepCounter is a tracer that counts the steps of an evaluation by line.
type stepCounter struct {
	counts map[line]int
	at     map[line]*ast.Location
	last   *ast.Location
}

// Enabled implements topdown.QueryTracer.
func (*stepCounter) Enabled() bool { return true }

// Config implements topdown.QueryTracer.
func (*stepCounter) Config() topdown.TraceConfig { return topdown.TraceConfig{} }

// TraceEvent implements topdown.QueryTracer.
func (s *stepCounter) TraceEvent(e topdown.Event) {
	if e.Op != topdown.EvalOp && e.Op != topdown.RedoOp || e.Location == nil || e.Location.File == "" || strings.HasPrefix(e.Location.File, "builtin/") {
		return
	}
	at := line{e.Location.File, e.Location.Row}
	s.counts[at]++
	s.at[at], s.last = e.Location, e.Location
}

// manySteps is so many steps that a loop made them; below, the time went by within one builtin.
const manySteps = 10_000

// most returns where most steps were, nil if none were where the author could change something.
func (s *stepCounter) most() *ast.Location {
	var best line
	for at, n := range s.counts {
		if n > s.counts[best] || n == s.counts[best] && at.row < best.row {
			best = at
		}
	}
	if s.counts[best] < manySteps && s.last != nil {
		return s.last
	}
	return s.at[best]
}

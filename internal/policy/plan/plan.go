// Package plan evaluates Rego from a plan that is made once, at load: a decision then costs a fraction of what it costs OPA's own evaluator.
//
// OPA's planner turns a compiled policy and one question to it into OPA's intermediate representation: functions of blocks of statements over local variables.
// [New] turns that into Go closures. Constants, and data read by their whole name, become values at load; every part of the input that is read by its whole
// name is looked up once in a decision; rules without arguments are evaluated once in a decision. Conditions on texts, numbers and sets of the input look at
// these as they are (see [Parts]), and make no values of them. Builtins are those of OPA.
//
// What it answers is what OPA answers. Two things are left to OPA, and its callers go on with OPA for both:
//
//   - what cannot be planned or run here is refused by New, never found out by a decision: see [ErrRefused];
//   - every error, the end of the time included. OPA leaves out rules that cannot matter to an answer, by an index and by stopping at the first that holds, and
//     with them their errors and what they take. A plan leaves out less, so it may fail where OPA does not, and never the other way round.
//
// A program is shared by goroutines and never changes.
package plan

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/ir"
	"github.com/open-policy-agent/opa/v1/topdown"
	"github.com/open-policy-agent/opa/v1/topdown/builtins"
)

// ErrRefused is why New returns no program: this policy, or this question to it, has to be evaluated by OPA.
var ErrRefused = errors.New("cannot be planned")

// errLeft is what an evaluation ends with that has come upon what only OPA does: a key of data that is no text, a position of a list in data that is one, or
// more elements than it may make.
var errLeft = errors.New("left to OPA")

// maxElements is how many elements of collections an evaluation may make, some 50 MB. In the same time OPA makes far fewer, so that the limit of the time is a
// limit of its memory as well.
const maxElements = 1 << 18

// Options say what a program is made of.
type Options struct {
	Compiler *ast.Compiler // has compiled the policy; it is not to be used by others meanwhile
	Query    string        // what is asked: its variables are what an answer has
	Data     ast.Value     // the base documents; they never change
	Lenient  bool          // an error of a builtin makes its expression undefined, instead of ending the evaluation
}

// Program is one question to a policy, ready to be asked by any number of goroutines.
type Program struct {
	steps    [][]step // of the question
	size     int      // locals of the question
	funcs    []*function
	paths    []path
	data     *ast.Term
	lenient  bool
	asks     bool // builtins of OPA
	replaces bool // input or data somewhere, so that functions have to be handed them
	caps     *ast.Capabilities
	idle     sync.Pool // of *state
}

// New plans and compiles a question to a policy. Its error is ErrRefused where OPA has to do it.
func New(ctx context.Context, o Options) (p *Program, err error) {
	defer func() {
		if r := recover(); r != nil {
			p, err = nil, fmt.Errorf("%w: %v", ErrRefused, r)
		}
	}()
	policy, err := planned(ctx, o.Compiler, o.Query)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrRefused, err)
	}
	p = &Program{data: ast.NewTerm(o.Data), lenient: o.Lenient, caps: o.Compiler.Capabilities()}
	if err := compile(p, policy); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrRefused, err)
	}
	p.idle.New = func() any { return p.newState() }
	return p, nil
}

// Eval returns every answer as an object of the question's variables, none if the answer is undefined. The cancel is looked at often enough to end any
// evaluation soon; the error is then one that topdown.IsCancel knows.
func (p *Program) Eval(ctx context.Context, in Input, cancel topdown.Cancel) ([]ast.Object, error) {
	answers, _, err := p.eval(ctx, in, cancel, false)
	return answers, err
}

// Values is Eval for a question with one variable, and returns only what that is in every answer.
func (p *Program) Values(ctx context.Context, in Input, cancel topdown.Cancel) ([]*ast.Term, error) {
	answers, values, err := p.eval(ctx, in, cancel, true)
	if len(answers) > 0 {
		return nil, errVariables
	}
	return values, err
}

var errVariables = errors.New("a question with other than one variable")

func (p *Program) eval(ctx context.Context, in Input, cancel topdown.Cancel, alone bool) (answers []ast.Object, values []*ast.Term, err error) {
	s := p.idle.Get().(*state)
	defer func() {
		if r := recover(); r != nil {
			answers, values, err = nil, nil, fmt.Errorf("panic: %v", r) // the state is not used again
		}
	}()
	s.begin(ctx, in, cancel)
	s.alone = alone
	l := s.enter(p.size)
	if p.replaces {
		l[ir.Input], l[ir.Data] = s.at(wholeInput), p.data
	}
	for _, b := range p.steps {
		if s.run(b, l) < 0 {
			break
		}
	}
	answers, values, err = s.answers, s.values, s.err
	s.end()
	p.idle.Put(s)
	if err != nil {
		return nil, nil, err
	}
	return answers, values, nil
}

// stackSize is how many locals of all functions that are under way have room in a state; more are allocated when needed.
const stackSize = 2048

// state is one evaluation.
type state struct {
	p       *Program
	in      Input
	memo    []memo        // by function
	paths   []*ast.Term   // by path: nil if it was not looked up, missing if there is nothing
	arrays  [][]*ast.Term // of comprehensions that are under way, the innermost last
	stack   []*ast.Term
	top     int
	high    int
	value   *ast.Term // that the last function returned
	alone   bool      // only the value of the question's one variable is wanted
	answers []ast.Object
	values  []*ast.Term // likewise
	err     error
	cancel  topdown.Cancel
	ticks   uint32
	made    int // elements of collections

	builtin topdown.BuiltinContext
	args    []*ast.Term           // of the builtin that is being called
	take    func(*ast.Term) error // what a builtin calls with its results
	results []*ast.Term
}

// memo is what a function without arguments returned.
type memo struct {
	known bool
	value *ast.Term // nil for undefined
}

func (p *Program) newState() *state {
	s := &state{p: p, memo: make([]memo, len(p.funcs)), paths: make([]*ast.Term, len(p.paths)), stack: make([]*ast.Term, stackSize)}
	s.take = func(t *ast.Term) error {
		s.results = append(s.results, t)
		return nil
	}
	return s
}

func (s *state) begin(ctx context.Context, in Input, cancel topdown.Cancel) {
	s.in, s.cancel = in, cancel
	if s.p.asks {
		s.builtin = topdown.BuiltinContext{Context: ctx, Cancel: cancel, Cache: builtins.Cache{}, Capabilities: s.p.caps}
	}
}

// end forgets everything of the evaluation, so that nothing of it is kept alive or seen by the next.
func (s *state) end() {
	clear(s.stack[:s.high])
	clear(s.memo)
	clear(s.paths)
	clear(s.results[:cap(s.results)])
	clear(s.args[:cap(s.args)])
	clear(s.arrays[:cap(s.arrays)])
	*s = state{p: s.p, memo: s.memo, paths: s.paths, stack: s.stack, arrays: s.arrays[:0], args: s.args[:0], results: s.results[:0], take: s.take}
}

// enter returns room for the locals of one call, all undefined.
func (s *state) enter(size int) []*ast.Term {
	if s.top+size > len(s.stack) {
		return make([]*ast.Term, size)
	}
	l := s.stack[s.top : s.top+size : s.top+size]
	s.top += size
	s.high = max(s.high, s.top)
	clear(l)
	return l
}

// leave gives the room back.
func (s *state) leave(before int) { s.top = before }

// tickMask says how often the cancel is looked at.
const tickMask = 15

// tick counts what takes a while, and reports whether the evaluation has to end.
func (s *state) tick() bool {
	s.ticks++
	return s.ticks&tickMask == 0 && s.cancelled()
}

func (s *state) cancelled() bool {
	if s.cancel == nil || !s.cancel.Cancelled() {
		return false
	}
	s.err = &topdown.Error{Code: topdown.CancelErr, Message: "caller cancelled query execution"}
	return true
}

// fail ends the evaluation with an error.
func (s *state) fail(code, message string) int {
	s.err = &topdown.Error{Code: code, Message: message}
	return stop
}

// grown counts an element that was put into a collection.
func (s *state) grown() int { return s.grew(1) }

func (s *state) grew(n int) int {
	if s.made += n; s.made > maxElements {
		s.err = errLeft
		return stop
	}
	return next
}

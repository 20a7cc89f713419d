package plan

import (
	"errors"
	"fmt"
	"slices"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/ir"
	"github.com/open-policy-agent/opa/v1/topdown"
)

// tree finds the functions that are documents by their path.
type tree struct {
	below map[string]*tree
	fn    *function
}

func (t *tree) add(path []string, f *function) {
	for _, name := range path {
		if t.below == nil {
			t.below = map[string]*tree{}
		}
		if t.below[name] == nil {
			t.below[name] = &tree{}
		}
		t = t.below[name]
	}
	t.fn = f
}

// invoke calls a function and returns what it returned, nil for undefined.
func (s *state) invoke(f *function, args []operand, l []*ast.Term) (*ast.Term, int) {
	if f.once && s.memo[f.index].known {
		return s.memo[f.index].value, next
	}
	if s.tick() {
		return nil, stop
	}
	before := s.top
	inner := s.enter(f.size)
	first := 0
	if !s.p.replaces {
		first = 2 // nobody reads input and data as what they were handed
	}
	for i := first; i < len(args); i++ {
		inner[f.params[i]] = args[i].get(s, l)
	}
	r := s.runBlocks(f.blocks, inner)
	var value *ast.Term
	if r == returned {
		value, r = s.value, next
	}
	s.leave(before)
	if f.once && r == next {
		s.memo[f.index] = memo{known: true, value: value}
	}
	return value, r
}

// call compiles the call of a function or builtin.
func (c *compiler) call(n *ir.CallStmt) (step, error) {
	args := make([]operand, len(n.Args))
	for i, a := range n.Args {
		args[i] = c.operand(a)
	}
	f, ok := c.funcs[n.Func]
	if !ok {
		return c.callBuiltin(n, args)
	}
	if len(args) != len(f.params) {
		return nil, fmt.Errorf("%s: %d arguments of %d", n.Func, len(args), len(f.params))
	}
	t := c.write(n.Result)
	return func(s *state, l []*ast.Term) int {
		v, r := s.invoke(f, args, l)
		if r != next {
			return r
		}
		if v == nil {
			return leave
		}
		l[t] = v
		return next
	}, nil
}

// dynamicUndefined is how many blocks OPA's planner wants left when the document exists and is undefined.
const dynamicUndefined = 4

// callDynamic compiles the look-up of a document whose path is known only in the evaluation.
func (c *compiler) callDynamic(n *ir.CallDynamicStmt) (step, error) {
	if c.depth < dynamicUndefined {
		return nil, errors.New("call by path out of place")
	}
	if len(n.Args) != 2 {
		return nil, errors.New("call by path with arguments")
	}
	path := make([]operand, len(n.Path))
	for i, p := range n.Path {
		path[i] = c.operand(p)
	}
	args := []operand{c.read(n.Args[0]), c.read(n.Args[1])}
	t := c.write(n.Result)
	return func(s *state, l []*ast.Term) int {
		at := c.tree
		for i := range path {
			x := path[i].get(s, l)
			if x == nil {
				return leave
			}
			name, ok := x.Value.(ast.String)
			if !ok || at.below[string(name)] == nil {
				return leave
			}
			at = at.below[string(name)]
		}
		if at.fn == nil {
			return leave
		}
		v, r := s.invoke(at.fn, args, l)
		if r != next {
			return r
		}
		if v == nil {
			return dynamicUndefined
		}
		l[t] = v
		return next
	}, nil
}

// callBuiltin compiles the call of a builtin. One that asks the clock, chance or the network is refused.
func (c *compiler) callBuiltin(n *ir.CallStmt, args []operand) (step, error) {
	decl, f := ast.BuiltinMap[n.Func], topdown.GetBuiltin(n.Func)
	if decl == nil || f == nil || c.builtins[n.Func] == nil {
		return nil, fmt.Errorf("no builtin %s", n.Func)
	}
	if decl.IsNondeterministic() {
		return nil, fmt.Errorf("builtin %s depends on more than its arguments", n.Func)
	}
	t := c.write(n.Result)
	var short shortcut
	if len(args) == 2 {
		short = shortcutOf(n.Func, args[0], args[1])
	}
	if quick := quickly[n.Func]; quick != nil && len(args) == 2 {
		holds := quicker(quick, short, args[0], args[1])
		return func(s *state, l []*ast.Term) int {
			v, ok := holds(s, l)
			if !ok {
				return leave
			}
			l[t] = boolean(v)
			return next
		}, nil
	}
	c.p.asks = true
	location, void := c.location(n), decl.Decl.Result() == nil
	return func(s *state, l []*ast.Term) int {
		if short != nil {
			if v, known := short(s, l); known {
				l[t] = boolean(v)
				return next
			}
		}
		if r := s.ask(f, args, l, location); r != next {
			return r
		}
		switch {
		case decl.Relation:
			l[t] = ast.ArrayTerm(slices.Clone(s.results)...)
		case len(s.results) == 0:
			return leave
		case void:
			l[t] = nil
		case len(s.results) > 1:
			return s.fail(topdown.InternalErr, n.Func+" has several results")
		default:
			l[t] = s.results[0]
		}
		return next
	}, nil
}

// ask calls a builtin and gathers its results.
func (s *state) ask(f topdown.BuiltinFunc, args []operand, l []*ast.Term, at *ast.Location) int {
	if s.cancelled() {
		return stop
	}
	s.args, s.results = s.args[:0], s.results[:0]
	for i := range args {
		v := args[i].get(s, l)
		if v == nil {
			return leave
		}
		s.args = append(s.args, v)
	}
	s.builtin.Location = at
	err := f(s.builtin, s.args, s.take)
	if err == nil {
		return next
	}
	var halt topdown.Halt
	if !s.p.lenient || errors.As(err, &halt) {
		if errors.As(err, &halt) {
			err = halt.Err
		}
		s.err = err
		return stop
	}
	return leave
}

// location says where a call is, for the error of a builtin.
func (c *compiler) location(n *ir.CallStmt) *ast.Location {
	at := n.GetLocation()
	out := &ast.Location{Row: at.Row, Col: at.Col}
	if at.File < len(c.static.Files) {
		out.File = c.static.Files[at.File].Value
	}
	return out
}

// condition compiles the call of a quick builtin whose result is only asked to be true.
func (c *compiler) condition(list []ir.Stmt, n *ir.CallStmt) ([]step, int, error) {
	if len(list) < 2 || len(n.Args) != 2 || quickly[n.Func] == nil || c.funcs[n.Func] != nil {
		return nil, 0, nil
	}
	if !isCondition(list[1], n) {
		return nil, 0, nil
	}
	a, b := c.operand(n.Args[0]), c.operand(n.Args[1])
	holds := quicker(quickly[n.Func], shortcutOf(n.Func, a, b), a, b)
	t := c.write(n.Result)
	return []step{func(s *state, l []*ast.Term) int {
		if v, ok := holds(s, l); !v || !ok {
			return leave
		}
		l[t] = yes
		return next
	}}, 2, nil
}

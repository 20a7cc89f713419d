package plan

import (
	"errors"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/ir"
)

// not compiles a negation: it holds where the block is undefined.
func (c *compiler) not(n *ir.NotStmt) (step, error) {
	block, err := c.nested(n.Block)
	return func(s *state, l []*ast.Term) int {
		switch r := s.run(block, l); {
		case r < 0:
			return r
		case r == next:
			return leave
		default:
			return r - 1
		}
	}, err
}

// scan compiles a loop over a collection, in the order of OPA: keys, elements and positions ascending.
func (c *compiler) scan(n *ir.ScanStmt) (step, error) {
	source := c.read(n.Source)
	base := c.facts[n.Source].base
	key, value := c.write(n.Key), c.write(n.Value)
	c.forget(n.Block)
	if base {
		c.facts[n.Value] = fact{base: true}
	}
	outer := c.depth
	c.depth = 0 // no statement leaves more than a round
	block, err := c.nested(n.Block)
	c.depth = outer
	if err != nil {
		return nil, err
	}
	round := func(s *state, l []*ast.Term, k, v *ast.Term) int {
		if s.tick() {
			return stop
		}
		l[key], l[value] = k, v
		return min(s.run(block, l), next)
	}
	return func(s *state, l []*ast.Term) int {
		t := source.get(s, l)
		if t == nil {
			return next
		}
		r := next
		switch v := t.Value.(type) {
		case *ast.Array:
			for i := 0; i < v.Len() && r == next; i++ {
				r = round(s, l, ast.InternedTerm(i), v.Elem(i))
			}
		case ast.Set:
			for _, e := range v.Slice() {
				if r = round(s, l, e, e); r != next {
					break
				}
			}
		case ast.Object:
			v.Until(func(k, v *ast.Term) bool {
				r = round(s, l, k, v)
				return r != next
			})
		}
		return r
	}, nil
}

// with compiles a block in which the input or data, or a part of one, is another. What functions returned outside does not count inside.
func (c *compiler) with(n *ir.WithStmt) (step, error) {
	if n.Local != ir.Input && n.Local != ir.Data {
		return nil, errors.New("replaces neither input nor data")
	}
	value, local := c.operand(n.Value), c.local(n.Local)
	var at []*ast.Term
	for _, i := range n.Path {
		at = append(at, c.strings[i])
	}
	c.write(n.Local)
	if n.Local == ir.Data {
		c.facts[ir.Data] = fact{base: true}
	}
	block, err := c.nested(n.Block)
	return func(s *state, l []*ast.Term) int {
		before, memos := l[local], s.memo
		replaced := value.get(s, l)
		if len(at) > 0 {
			replaced = with(before, at, replaced)
		}
		l[local], s.memo = replaced, make([]memo, len(memos))
		r := s.run(block, l)
		l[local], s.memo = before, memos
		if r > leave {
			return r - 1
		}
		return r
	}, err
}

// arrayAppend compiles what adds to an array: to the comprehension that is under way, or to one that is written out.
func (c *compiler) arrayAppend(n *ir.ArrayAppendStmt) step {
	v := c.operand(n.Value)
	if c.building[n.Array] {
		return func(s *state, l []*ast.Term) int {
			last := len(s.arrays) - 1
			s.arrays[last] = append(s.arrays[last], v.get(s, l))
			return s.grown()
		}
	}
	a := c.write(n.Array)
	return func(s *state, l []*ast.Term) int {
		l[a] = ast.NewTerm(l[a].Value.(*ast.Array).Append(v.get(s, l)))
		return s.grown()
	}
}

// several compiles statements that are quicker together, and returns how many those are.
func (c *compiler) several(list []ir.Stmt) ([]step, int, error) {
	switch s := list[0].(type) {
	case *ir.MakeArrayStmt:
		if n := c.literal(list, s.Target); n > 0 {
			return c.constant(list[:n], s.Target), n, nil
		}
		if len(list) > 1 {
			if b, ok := list[1].(*ir.BlockStmt); ok && appends(b, s.Target) {
				f, err := c.comprehension(s.Target, b)
				return []step{f}, 2, err
			}
		}
		if f, n := c.oneOf(list, s.Target); n > 0 {
			return f, n, nil
		}
		f, n := c.array(list, s.Target)
		return f, n, nil
	case *ir.MakeObjectStmt:
		if n := c.literal(list, s.Target); n > 0 {
			return c.constant(list[:n], s.Target), n, nil
		}
		if f, n := c.answer(list, s.Target); n > 0 {
			return f, n, nil
		}
		f, n := c.object(list, s.Target)
		return f, n, nil
	case *ir.MakeSetStmt:
		if n := c.literal(list, s.Target); n > 0 {
			return c.constant(list[:n], s.Target), n, nil
		}
		f, n := c.oneOf(list, s.Target)
		return f, n, nil
	case *ir.AssignVarStmt:
		if v := c.operand(s.Source); v.value != nil || v.path > 0 {
			return stepsOf(c.keep(s.Target, fact{value: v.value, path: v.path})), 1, nil
		}
	case *ir.DotStmt:
		return c.dots(list, s)
	case *ir.CallStmt:
		return c.condition(list, s)
	}
	return nil, 0, nil
}

func stepsOf(f step) []step {
	if f == nil {
		return nil
	}
	return []step{f}
}

// appends reports whether a block adds to an array: it is then the body of an array comprehension.
func appends(b *ir.BlockStmt, array ir.Local) (found bool) {
	each(b.Blocks, func(s ir.Stmt) {
		a, ok := s.(*ir.ArrayAppendStmt)
		found = found || ok && a.Array == array
	})
	return found
}

// comprehension compiles an array comprehension, which gathers its elements first: each append to an array of OPA copies it.
func (c *compiler) comprehension(target ir.Local, body *ir.BlockStmt) (step, error) {
	t := c.write(target)
	c.building[target] = true
	blocks, err := c.blocks(body.Blocks)
	delete(c.building, target)
	c.write(target)
	return func(s *state, l []*ast.Term) int {
		s.arrays = append(s.arrays, nil)
		r := s.runBlocks(blocks, l)
		last := len(s.arrays) - 1
		l[t] = ast.NewTerm(ast.NewArray(s.arrays[last]...))
		s.arrays[last] = nil
		s.arrays = s.arrays[:last]
		return r
	}, err
}

// dots leaves out the look-ups in the middle of a path of the input: the next one does them too.
func (c *compiler) dots(list []ir.Stmt, first *ir.DotStmt) ([]step, int, error) {
	n := 0
	for d := first; n+1 < len(list); n++ {
		after, ok := list[n+1].(*ir.DotStmt)
		if !ok || after.Source.Value != ir.Val(d.Target) || after.Target == d.Target {
			break
		}
		source, key := c.operand(d.Source), c.operand(d.Key)
		at, ok := c.inputPath(source, key)
		if !ok || c.operand(after.Key).value == nil {
			break
		}
		c.write(d.Target)
		c.facts[d.Target] = fact{path: at}
		d = after
	}
	return nil, n, nil
}

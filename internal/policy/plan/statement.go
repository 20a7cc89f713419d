package plan

import (
	"fmt"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/ir"
	"github.com/open-policy-agent/opa/v1/topdown"
)

// statement compiles one statement; nil is one that does nothing.
func (c *compiler) statement(s ir.Stmt) (step, error) {
	switch s := s.(type) {
	case *ir.NopStmt:
		return nil, nil
	case *ir.BlockStmt:
		blocks, err := c.blocks(s.Blocks)
		return func(s *state, l []*ast.Term) int { return s.runBlocks(blocks, l) }, err
	case *ir.BreakStmt:
		if int(s.Index) >= c.depth {
			return nil, fmt.Errorf("leaves %d blocks of %d", s.Index+1, c.depth)
		}
		n := int(s.Index) + 1
		return func(*state, []*ast.Term) int { return n }, nil
	case *ir.NotStmt:
		return c.not(s)
	case *ir.ScanStmt:
		return c.scan(s)
	case *ir.WithStmt:
		return c.with(s)
	case *ir.CallStmt:
		return c.call(s)
	case *ir.CallDynamicStmt:
		return c.callDynamic(s)
	case *ir.DotStmt:
		return c.dot(s), nil
	case *ir.ReturnLocalStmt:
		v := c.read(s.Source)
		return func(s *state, l []*ast.Term) int {
			s.value = v.get(s, l)
			return returned
		}, nil
	case *ir.ResultSetAddStmt:
		v := c.read(s.Value)
		return func(s *state, l []*ast.Term) int {
			s.answers = append(s.answers, v.get(s, l).Value.(ast.Object))
			return next
		}, nil
	}
	if made := c.make(s); made != nil {
		return made()
	}
	if test := c.test(s); test != nil {
		return test, nil
	}
	if assigned := c.assign(s); assigned != nil {
		return assigned, nil
	}
	if changed := c.change(s); changed != nil {
		return changed, nil
	}
	return nil, fmt.Errorf("statement %T", s)
}

// make compiles what makes a value.
func (c *compiler) make(s ir.Stmt) func() (step, error) {
	known := func(l ir.Local, t *ast.Term) func() (step, error) {
		return func() (step, error) { return c.keep(l, fact{value: t}), nil }
	}
	fresh := func(l ir.Local, value func() ast.Value) func() (step, error) {
		return func() (step, error) {
			t := c.write(l)
			return func(_ *state, l []*ast.Term) int {
				l[t] = ast.NewTerm(value())
				return next
			}, nil
		}
	}
	switch s := s.(type) {
	case *ir.MakeNullStmt:
		return known(s.Target, ast.InternedNullTerm)
	case *ir.MakeNumberIntStmt:
		return known(s.Target, ast.InternedTerm(int(s.Value)))
	case *ir.AssignIntStmt:
		return known(s.Target, ast.InternedTerm(int(s.Value)))
	case *ir.MakeNumberRefStmt:
		return known(s.Target, ast.NewTerm(ast.Number(c.static.Strings[s.Index].Value)))
	case *ir.MakeArrayStmt:
		return fresh(s.Target, func() ast.Value { return ast.NewArray() })
	case *ir.MakeObjectStmt:
		return fresh(s.Target, func() ast.Value { return ast.NewObject() })
	case *ir.MakeSetStmt:
		return fresh(s.Target, func() ast.Value { return ast.NewSet() })
	}
	return nil
}

// when makes a step of a condition: the block is undefined where it does not hold.
func when(holds func(s *state, l []*ast.Term) bool) step {
	return func(s *state, l []*ast.Term) int {
		if holds(s, l) {
			return next
		}
		return leave
	}
}

// test compiles a condition.
func (c *compiler) test(s ir.Stmt) step {
	switch s := s.(type) {
	case *ir.EqualStmt:
		return c.equality(s)
	case *ir.NotEqualStmt:
		a, b := c.operand(s.A), c.operand(s.B)
		if b.value == no {
			return when(func(s *state, l []*ast.Term) bool { return !isFalse(a.get(s, l)) })
		}
		return when(func(s *state, l []*ast.Term) bool { return !same(s, l, &a, &b) })
	case *ir.IsArrayStmt:
		return kind[*ast.Array](c.operand(s.Source))
	case *ir.IsObjectStmt:
		return kind[ast.Object](c.operand(s.Source))
	case *ir.IsSetStmt:
		return kind[ast.Set](c.operand(s.Source))
	case *ir.IsDefinedStmt:
		v := c.read(s.Source)
		return when(func(s *state, l []*ast.Term) bool { return v.get(s, l) != nil })
	case *ir.IsUndefinedStmt:
		v := c.read(s.Source)
		return when(func(s *state, l []*ast.Term) bool { return v.get(s, l) == nil })
	}
	return nil
}

// equality compiles a comparison.
func (c *compiler) equality(s *ir.EqualStmt) step {
	a, b := c.operand(s.A), c.operand(s.B)
	if a.value != nil {
		a, b = b, a
	}
	return when(func(s *state, l []*ast.Term) bool { return same(s, l, &a, &b) })
}

func kind[T ast.Value](v operand) step {
	return when(func(s *state, l []*ast.Term) bool {
		t := v.get(s, l)
		if t == nil {
			return false
		}
		_, ok := t.Value.(T)
		return ok
	})
}

// assign compiles what gives a local a value.
func (c *compiler) assign(s ir.Stmt) step {
	switch s := s.(type) {
	case *ir.AssignVarStmt:
		v := c.operand(s.Source)
		t := c.write(s.Target)
		return func(s *state, l []*ast.Term) int {
			l[t] = v.get(s, l)
			return next
		}
	case *ir.AssignVarOnceStmt:
		if c.same != nil && s.Target == c.result {
			same := c.same
			return func(s *state, _ []*ast.Term) int {
				s.value = same
				return returned
			}
		}
		v := c.operand(s.Source)
		t := c.write(s.Target)
		return func(s *state, l []*ast.Term) int {
			x := v.get(s, l)
			if l[t] != nil && !equal(l[t], x) {
				return s.fail(topdown.ConflictErr, "a rule or function produced conflicting values")
			}
			l[t] = x
			return next
		}
	case *ir.ResetLocalStmt:
		t := c.write(s.Target)
		return func(_ *state, l []*ast.Term) int {
			l[t] = nil
			return next
		}
	case *ir.LenStmt:
		v := c.operand(s.Source)
		t := c.write(s.Target)
		return func(s *state, l []*ast.Term) int {
			l[t] = size(v.get(s, l))
			return next
		}
	}
	return nil
}

// change compiles what puts something into a collection.
func (c *compiler) change(s ir.Stmt) step {
	switch s := s.(type) {
	case *ir.ArrayAppendStmt:
		return c.arrayAppend(s)
	case *ir.ObjectInsertStmt:
		k, v, o := c.operand(s.Key), c.operand(s.Value), c.write(s.Object)
		return func(s *state, l []*ast.Term) int {
			l[o].Value.(ast.Object).Insert(k.get(s, l), v.get(s, l))
			return s.grown()
		}
	case *ir.ObjectInsertOnceStmt:
		k, v, o := c.operand(s.Key), c.operand(s.Value), c.write(s.Object)
		return func(s *state, l []*ast.Term) int {
			object, key, value := l[o].Value.(ast.Object), k.get(s, l), v.get(s, l)
			if have := object.Get(key); have == nil {
				object.Insert(key, value)
				return s.grown()
			} else if !equal(have, value) {
				return s.fail(topdown.ConflictErr, "object keys must be unique")
			}
			return next
		}
	case *ir.ObjectMergeStmt:
		a, b := c.read(s.A), c.read(s.B)
		t := c.write(s.Target)
		return func(s *state, l []*ast.Term) int {
			l[t] = merged(a.get(s, l), b.get(s, l))
			return next
		}
	case *ir.SetAddStmt:
		v, set := c.operand(s.Value), c.write(s.Set)
		return func(s *state, l []*ast.Term) int {
			l[set].Value.(ast.Set).Add(v.get(s, l))
			return s.grown()
		}
	}
	return nil
}

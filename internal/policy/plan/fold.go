package plan

import (
	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/ir"
)

// literal returns how many statements, of which the first makes a collection, do no more than write out a constant; 0 if it is none.
func (c *compiler) literal(list []ir.Stmt, target ir.Local) int {
	n := 1
	for n < len(list) && c.adds(list[n], target) {
		n++
	}
	if c.grows[target] || c.changed(list[n:], target) {
		return 0
	}
	return n
}

// adds reports whether a statement puts what is known at load into the collection.
func (c *compiler) adds(s ir.Stmt, target ir.Local) bool {
	known := func(list ...ir.Operand) bool {
		for _, o := range list {
			if l, ok := o.Value.(ir.Local); ok && c.facts[l].value == nil {
				return false
			}
		}
		return true
	}
	switch s := s.(type) {
	case *ir.ArrayAppendStmt:
		return s.Array == target && known(s.Value)
	case *ir.ObjectInsertStmt:
		return s.Object == target && known(s.Key, s.Value)
	case *ir.SetAddStmt:
		return s.Set == target && known(s.Value)
	}
	return false
}

// changed reports whether the statements put anything into the collection, or make another one.
func (c *compiler) changed(list []ir.Stmt, target ir.Local) (found bool) {
	each([]*ir.Block{{Stmts: list}}, func(s ir.Stmt) {
		for _, l := range written2(s) {
			found = found || l == target
		}
	})
	return found
}

// constant makes the collection at load.
func (c *compiler) constant(list []ir.Stmt, target ir.Local) []step {
	value := func(o ir.Operand) *ast.Term {
		v := c.operand(o)
		return v.value
	}
	var t *ast.Term
	for _, s := range list {
		switch s := s.(type) {
		case *ir.MakeArrayStmt:
			t = ast.NewTerm(ast.NewArray())
		case *ir.MakeObjectStmt:
			t = ast.NewTerm(ast.NewObject())
		case *ir.MakeSetStmt:
			t = ast.NewTerm(ast.NewSet())
		case *ir.ArrayAppendStmt:
			t = ast.NewTerm(t.Value.(*ast.Array).Append(value(s.Value)))
		case *ir.ObjectInsertStmt:
			t.Value.(ast.Object).Insert(value(s.Key), value(s.Value))
		case *ir.SetAddStmt:
			t.Value.(ast.Set).Add(value(s.Value))
		}
	}
	return stepsOf(c.keep(target, fact{value: t}))
}

// array makes an array that is written out together with its first elements, as far as they come one after the other.
func (c *compiler) array(list []ir.Stmt, target ir.Local) ([]step, int) {
	var elements []operand
	for _, s := range list[1:] {
		a, ok := s.(*ir.ArrayAppendStmt)
		if !ok || a.Array != target {
			break
		}
		elements = append(elements, c.operand(a.Value))
	}
	if len(elements) == 0 {
		return nil, 0
	}
	t := c.write(target)
	return []step{func(s *state, l []*ast.Term) int {
		terms := make([]*ast.Term, len(elements))
		for i := range elements {
			terms[i] = elements[i].get(s, l)
		}
		l[t] = ast.ArrayTerm(terms...)
		return s.grew(len(terms))
	}}, 1 + len(elements)
}

// object is array for objects. Constants that are made between two of its elements are made at load.
func (c *compiler) object(list []ir.Stmt, target ir.Local) ([]step, int) {
	var items [][2]operand
	var steps []step
	n := 1
	for n < len(list) {
		if o, ok := list[n].(*ir.ObjectInsertStmt); ok && o.Object == target {
			items = append(items, [2]operand{c.operand(o.Key), c.operand(o.Value)})
			n++
			continue
		}
		made, ok := makes(list[n])
		if !ok {
			break
		}
		more := c.literal(list[n:], made)
		if more == 0 {
			break
		}
		steps = append(steps, c.constant(list[n:n+more], made)...)
		n += more
	}
	if len(items) == 0 {
		return nil, 0
	}
	t := c.write(target)
	return append(steps, func(s *state, l []*ast.Term) int {
		pairs := make([][2]*ast.Term, len(items))
		for i := range items {
			pairs[i] = [2]*ast.Term{items[i][0].get(s, l), items[i][1].get(s, l)}
		}
		l[t] = ast.ObjectTerm(pairs...)
		return s.grew(len(pairs))
	}), n
}

// answer is object for an answer to a question with one variable: who asks for that alone needs no object.
func (c *compiler) answer(list []ir.Stmt, target ir.Local) ([]step, int) {
	if len(list) < 3 {
		return nil, 0
	}
	insert, ok := list[1].(*ir.ObjectInsertStmt)
	if !ok || insert.Object != target {
		return nil, 0
	}
	if add, ok := list[2].(*ir.ResultSetAddStmt); !ok || add.Value != target {
		return nil, 0
	}
	k, v := c.operand(insert.Key), c.operand(insert.Value)
	c.write(target)
	return []step{func(s *state, l []*ast.Term) int {
		value := v.get(s, l)
		if s.alone {
			s.values = append(s.values, value)
			return next
		}
		o := ast.NewObject([2]*ast.Term{k.get(s, l), value})
		s.answers = append(s.answers, o)
		return next
	}}, 3
}

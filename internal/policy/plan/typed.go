package plan

import (
	"cmp"
	"slices"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/ir"
)

// Conditions on parts of the input that are known as texts, numbers or sets look at these themselves. What they find is what they would find in the values.

// number is an integer that is known at load.
type number struct {
	n     int64
	known bool
}

// constant is the operand of a value that is known at load.
func constant(t *ast.Term) operand {
	o := operand{value: t}
	if n, ok := t.Value.(ast.Number); ok {
		o.number.n, o.number.known = n.Int64()
	}
	return o
}

// operand is how a fact is read.
func (f fact) operand() operand {
	if f.value != nil {
		return constant(f.value)
	}
	return operand{path: f.path}
}

// text returns the text that an operand is, if it is one.
func (o *operand) text(s *state, l []*ast.Term) (string, bool) {
	if o.value == nil && o.path > 0 {
		switch k := s.kind(o.path); {
		case k == KindText:
			return s.in.Parts.Text(o.path), true
		case k > KindTerm:
			return "", false
		}
	}
	t := o.get(s, l)
	if t == nil {
		return "", false
	}
	x, ok := t.Value.(ast.String)
	return string(x), ok
}

// integer returns the number that an operand is, if that is cheap to know.
func (o *operand) integer(s *state) (int64, bool) {
	if o.value == nil && o.path > 0 && s.kind(o.path) == KindNumber {
		return s.in.Parts.Number(o.path), true
	}
	return o.number.n, o.number.known
}

// set returns the set that an operand is, nil if that is not known.
func (o *operand) set(s *state) map[string]bool {
	if o.value == nil && o.path > 0 && s.kind(o.path) == KindSet {
		return s.in.Parts.Set(o.path)
	}
	return nil
}

// defined reports whether an operand has a value.
func (o *operand) defined(s *state, l []*ast.Term) bool {
	if o.value == nil && o.path > 0 {
		return s.defined(o.path)
	}
	return o.get(s, l) != nil
}

// same is equal for operands.
func same(s *state, l []*ast.Term, a, b *operand) bool {
	if x, ok := a.text(s, l); ok {
		y, ok := b.text(s, l)
		return ok && x == y
	}
	return equal(a.get(s, l), b.get(s, l))
}

// within is get for operands.
func within(s *state, l []*ast.Term, source, key *operand) *ast.Term {
	if m := source.set(s); m != nil {
		if k, ok := key.text(s, l); ok {
			if v, found := m[k]; found {
				return boolean(v)
			}
		}
		return nil
	}
	return get(source.get(s, l), key.get(s, l))
}

// shortcut is a condition that may be known without the values of its operands.
type shortcut func(s *state, l []*ast.Term) (holds, known bool)

// shortcutOf returns that of a builtin with two arguments, nil for most.
func shortcutOf(name string, a, b operand) shortcut {
	switch name {
	case ast.Equal.Name, ast.NotEqual.Name:
		want := name == ast.Equal.Name
		return func(s *state, l []*ast.Term) (bool, bool) {
			x, ok := a.text(s, l)
			if !ok {
				return false, false
			}
			y, ok := b.text(s, l)
			return ok && (x == y) == want, ok
		}
	case ast.LessThan.Name:
		return order(a, b, func(n int) bool { return n < 0 })
	case ast.LessThanEq.Name:
		return order(a, b, func(n int) bool { return n <= 0 })
	case ast.GreaterThan.Name:
		return order(a, b, func(n int) bool { return n > 0 })
	case ast.GreaterThanEq.Name:
		return order(a, b, func(n int) bool { return n >= 0 })
	case ast.Member.Name:
		return among(a, wordsOf(b.value))
	case ast.ObjectSubset.Name:
		return func(s *state, _ []*ast.Term) (bool, bool) {
			all, some := a.set(s), b.set(s)
			return all != nil && some != nil && subset(all, some), all != nil && some != nil
		}
	}
	return nil
}

// order compares two numbers.
func order(a, b operand, holds func(int) bool) shortcut {
	return func(s *state, _ []*ast.Term) (bool, bool) {
		x, ok := a.integer(s)
		y, also := b.integer(s)
		return ok && also && holds(cmp.Compare(x, y)), ok && also
	}
}

// among looks for a text among others.
func among(a operand, words []string) shortcut {
	if words == nil {
		return nil
	}
	return func(s *state, l []*ast.Term) (bool, bool) {
		x, ok := a.text(s, l)
		return ok && slices.Contains(words, x), ok
	}
}

// maxWords is how many texts are quicker to be looked through than to be looked up.
const maxWords = 16

// wordsOf returns the elements of a list or set that is known at load and has nothing but a few texts, nil for any other.
func wordsOf(t *ast.Term) []string {
	if t == nil {
		return nil
	}
	var elements []*ast.Term
	switch v := t.Value.(type) {
	case *ast.Array:
		v.Foreach(func(e *ast.Term) { elements = append(elements, e) })
	case ast.Set:
		elements = v.Slice()
	default:
		return nil
	}
	words := make([]string, 0, len(elements))
	for _, e := range elements {
		if x, ok := e.Value.(ast.String); ok {
			words = append(words, string(x))
		}
	}
	if len(words) < len(elements) || len(words) > maxWords {
		return nil
	}
	return words
}

// subset reports whether all has everything that some has, and says the same of it.
func subset(all, some map[string]bool) bool {
	for k, v := range some {
		if w, ok := all[k]; !ok || w != v {
			return false
		}
	}
	return true
}

// oneOf compiles the question whether a value is in a list or set that is written out and of no other use: that is not made.
func (c *compiler) oneOf(list []ir.Stmt, target ir.Local) ([]step, int) {
	var elements []operand
	n := 1
	for n < len(list) {
		v, ok := element(list[n], target)
		if !ok {
			break
		}
		elements = append(elements, c.operand(v))
		n++
	}
	if n == 1 || n+1 >= len(list) || !c.first && c.needed[target] {
		return nil, 0
	}
	call, ok := list[n].(*ir.CallStmt)
	if !ok || call.Func != ast.Member.Name || c.funcs[call.Func] != nil || len(call.Args) != 2 || call.Args[0].Value == ir.Val(target) || call.Args[1].Value != ir.Val(target) ||
		!isCondition(list[n+1], call) {
		return nil, 0
	}
	x := c.operand(call.Args[0])
	c.write(target)
	t := c.write(call.Result)
	return []step{func(s *state, l []*ast.Term) int {
		if !x.defined(s, l) {
			return leave
		}
		for i := range elements {
			if same(s, l, &x, &elements[i]) {
				l[t] = yes
				return next
			}
		}
		return leave
	}}, n + 2
}

// element returns what a statement puts into a list or set.
func element(s ir.Stmt, target ir.Local) (ir.Operand, bool) {
	switch s := s.(type) {
	case *ir.ArrayAppendStmt:
		return s.Value, s.Array == target && s.Value.Value != ir.Val(target)
	case *ir.SetAddStmt:
		return s.Value, s.Set == target && s.Value.Value != ir.Val(target)
	}
	return ir.Operand{}, false
}

// isCondition reports whether a statement asks nothing of a call but that its result is true.
func isCondition(s ir.Stmt, call *ir.CallStmt) bool {
	test, ok := s.(*ir.NotEqualStmt)
	return ok && test.A.Value == ir.Val(call.Result) && test.B.Value == ir.Val(ir.Bool(false))
}

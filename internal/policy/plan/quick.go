package plan

import "github.com/open-policy-agent/opa/v1/ast"

// quickly are the builtins that most conditions are made of. None of them has errors.
var quickly = map[string]func(a, b *ast.Term) bool{
	ast.Equal.Name:         equal,
	ast.NotEqual.Name:      func(a, b *ast.Term) bool { return !equal(a, b) },
	ast.LessThan.Name:      func(a, b *ast.Term) bool { return compare(a, b) < 0 },
	ast.LessThanEq.Name:    func(a, b *ast.Term) bool { return compare(a, b) <= 0 },
	ast.GreaterThan.Name:   func(a, b *ast.Term) bool { return compare(a, b) > 0 },
	ast.GreaterThanEq.Name: func(a, b *ast.Term) bool { return compare(a, b) >= 0 },
	ast.Member.Name:        member,
}

// quicker returns a quick builtin that tries its shortcut first. It is not known where an argument is undefined.
func quicker(quick func(a, b *ast.Term) bool, short shortcut, a, b operand) shortcut {
	return func(s *state, l []*ast.Term) (holds, known bool) {
		if short != nil {
			if holds, known = short(s, l); known {
				return holds, true
			}
		}
		x, y := a.get(s, l), b.get(s, l)
		if x == nil || y == nil {
			return false, false
		}
		return quick(x, y), true
	}
}

func compare(a, b *ast.Term) int { return ast.Compare(a.Value, b.Value) }

// member reports whether x is an element of a set or array, or a value of an object.
func member(x, in *ast.Term) bool {
	switch c := in.Value.(type) {
	case ast.Set:
		return c.Contains(x)
	case *ast.Array:
		for i := range c.Len() {
			if equal(c.Elem(i), x) {
				return true
			}
		}
	case ast.Object:
		return c.Until(func(_, v *ast.Term) bool { return equal(v, x) })
	}
	return false
}

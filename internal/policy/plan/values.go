package plan

import (
	"github.com/open-policy-agent/opa/v1/ast"
)

var (
	yes = ast.InternedTerm(true)
	no  = ast.InternedTerm(false)
)

func boolean(b bool) *ast.Term {
	if b {
		return yes
	}
	return no
}

// equal compares two values, of which either may be undefined.
func equal(a, b *ast.Term) bool {
	if a == b {
		return true
	}
	if a == nil || b == nil {
		return false
	}
	switch x := a.Value.(type) {
	case ast.String:
		y, ok := b.Value.(ast.String)
		return ok && x == y
	case ast.Boolean:
		y, ok := b.Value.(ast.Boolean)
		return ok && x == y
	case ast.Number:
		y, ok := b.Value.(ast.Number)
		return ok && (x == y || x.Compare(y) == 0)
	case ast.Null:
		_, ok := b.Value.(ast.Null)
		return ok
	}
	return ast.Compare(a.Value, b.Value) == 0
}

// isFalse reports whether a value is false. Undefined is not.
func isFalse(t *ast.Term) bool {
	if t == nil {
		return false
	}
	b, ok := t.Value.(ast.Boolean)
	return ok && !bool(b)
}

// get returns what a value has under a key, nil for nothing.
func get(source, key *ast.Term) *ast.Term {
	if source == nil || key == nil {
		return nil
	}
	switch v := source.Value.(type) {
	case ast.Object:
		return v.Get(key)
	case *ast.Array:
		return v.Get(key)
	case ast.Set:
		if v.Contains(key) {
			return key
		}
	}
	return nil
}

// size returns the length of a value as a term.
func size(t *ast.Term) *ast.Term {
	if t != nil {
		switch v := t.Value.(type) {
		case ast.Object:
			return ast.InternedTerm(v.Len())
		case *ast.Array:
			return ast.InternedTerm(v.Len())
		case ast.Set:
			return ast.InternedTerm(v.Len())
		case ast.String:
			return ast.InternedTerm(len([]rune(string(v))))
		}
	}
	return nil
}

// with returns a copy of an object in which the value is at the path. What is no object on the way becomes one.
func with(t *ast.Term, at []*ast.Term, value *ast.Term) *ast.Term {
	if len(at) == 0 {
		return value
	}
	copied := ast.NewObject()
	var below *ast.Term
	if t != nil {
		if o, ok := t.Value.(ast.Object); ok {
			below = o.Get(at[0])
			o.Foreach(func(k, v *ast.Term) {
				if !equal(k, at[0]) {
					copied.Insert(k, v)
				}
			})
		}
	}
	copied.Insert(at[0], with(below, at[1:], value))
	return ast.NewTerm(copied)
}

// merged puts a base document and a virtual one together. Where both have something that are not two objects, the base document counts.
func merged(base, virtual *ast.Term) *ast.Term {
	x, ok := base.Value.(ast.Object)
	y, also := virtual.Value.(ast.Object)
	if !ok || !also {
		return base
	}
	o, _ := x.MergeWith(y, func(a, b *ast.Term) (*ast.Term, bool) { return merged(a, b), false })
	return ast.NewTerm(o)
}

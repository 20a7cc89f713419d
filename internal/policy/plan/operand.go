package plan

import (
	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/ir"
)

// operand is what a statement reads: a value that is known at load, a path of the input, or a local.
type operand struct {
	value  *ast.Term
	path   int
	local  int
	number number // that value is
}

func (o *operand) get(s *state, l []*ast.Term) *ast.Term {
	switch {
	case o.value != nil:
		return o.value
	case o.path > 0:
		return s.at(o.path)
	}
	return l[o.local]
}

// operand says how a value is read, given what is known at this place.
func (c *compiler) operand(o ir.Operand) operand {
	switch v := o.Value.(type) {
	case ir.Bool:
		return constant(boolean(bool(v)))
	case ir.StringIndex:
		return constant(c.strings[v])
	case ir.Local:
		return c.read(v)
	}
	panic("operand of unknown kind")
}

func (c *compiler) read(l ir.Local) operand {
	if c.building[l] {
		panic("an array is read while it is being made")
	}
	if f := c.facts[l]; f.value != nil || f.path > 0 {
		return f.operand()
	}
	c.needed[l] = true
	return operand{local: c.local(l)}
}

// keep returns the step that stores what is known of a local, nil if nobody reads it there.
func (c *compiler) keep(target ir.Local, f fact) step {
	t := c.write(target)
	c.facts[target] = f
	if !c.first && !c.needed[target] {
		return nil
	}
	o := f.operand()
	return func(s *state, l []*ast.Term) int {
		l[t] = o.get(s, l)
		return next
	}
}

// dot compiles a look-up.
func (c *compiler) dot(d *ir.DotStmt) step {
	source, key := c.operand(d.Source), c.operand(d.Key)
	if l, ok := d.Source.Value.(ir.Local); ok && c.facts[l].base {
		return c.dotBase(d, source, key)
	}
	if n, ok := c.inputPath(source, key); ok {
		c.write(d.Target)
		c.facts[d.Target] = fact{path: n}
		store, t := c.first || c.needed[d.Target], int(d.Target)
		return func(s *state, l []*ast.Term) int {
			if !store {
				if s.defined(n) {
					return next
				}
				return leave
			}
			v := s.at(n)
			if v == nil {
				return leave
			}
			l[t] = v
			return next
		}
	}
	t := c.write(d.Target)
	return func(s *state, l []*ast.Term) int {
		v := within(s, l, &source, &key)
		if v == nil {
			return leave
		}
		l[t] = v
		return next
	}
}

// dotBase compiles a look-up in base documents. OPA reads their keys as text there, so that a number finds a key of the same digits, and text a position:
// that is left to it.
func (c *compiler) dotBase(d *ir.DotStmt, source, key operand) step {
	if source.value != nil && key.value != nil && plain(source.value, key.value) {
		if v := get(source.value, key.value); v != nil {
			return c.keep(d.Target, fact{value: v, base: true})
		}
		c.write(d.Target)
		return func(*state, []*ast.Term) int { return leave }
	}
	t := c.write(d.Target)
	c.facts[d.Target] = fact{base: true}
	return func(s *state, l []*ast.Term) int {
		x, k := source.get(s, l), key.get(s, l)
		if !plain(x, k) {
			s.err = errLeft
			return stop
		}
		v := get(x, k)
		if v == nil {
			return leave
		}
		l[t] = v
		return next
	}
}

// plain reports whether a base document has the same under a key for OPA as it has here.
func plain(source, key *ast.Term) bool {
	if source == nil || key == nil {
		return true
	}
	_, text := key.Value.(ast.String)
	switch source.Value.(type) {
	case ast.Object:
		return text
	case *ast.Array:
		return !text
	}
	return true
}

// inputPath returns the path of the input that a look-up reads, if it is known at load.
func (c *compiler) inputPath(source, key operand) (int, bool) {
	if source.path == 0 || key.value == nil {
		return 0, false
	}
	return c.pathOf(source.path, key.value)
}

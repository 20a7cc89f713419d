package policy

import (
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
)

// meaning is what a term stands for, as far as the rule says so without being evaluated. The zero value is anything.
type meaning struct {
	fact   string // this fact of the input: "device.state"
	keys   string // one of the names in this mapping of facts: "owner.groups"
	values string // one of the values in such a mapping, all of which are true
	words  []word // one of these
}

// word is a text that is written out in a rule, or that data holds.
type word struct {
	word ast.String
	at   *ast.Term
	from string // "data.x"; empty: it stands in the rule
}

// bindings are the variables of a rule that are given their value in one place.
type bindings map[ast.Var]binding

// binding is that value: a term, an element of it or one of its keys. A variable that is bound twice, as those of two comprehensions are, is any.
type binding struct {
	how  string // is, element, key
	term *ast.Term
	weak bool // by being looked up, where a value may have been given elsewhere
}

func (b bindings) add(v *ast.Term, how string, term *ast.Term, weak bool) {
	name, is := v.Value.(ast.Var)
	if !is {
		return
	}
	have, bound := b[name]
	switch {
	case !bound || have.weak && !weak:
		b[name] = binding{how, term, weak}
	case !weak && !have.weak || have.weak && weak && !have.term.Equal(term):
		b[name] = binding{how: "any"}
	}
}

// bindings finds them. What is unified with "=" gives a value where nothing else does, and is a comparison elsewhere.
func (x *facts) bindings(r *ast.Rule) bindings {
	b := bindings{}
	ast.WalkExprs(r, func(e *ast.Expr) bool {
		switch terms := e.Terms.(type) {
		case []*ast.Term:
			if len(terms) == 3 && terms[0].String() == "assign" {
				b.add(terms[1], "is", terms[2], false)
			}
		case *ast.SomeDecl:
			for _, s := range terms.Symbols {
				b.some(s)
			}
		case *ast.Every:
			if terms.Key != nil {
				b.add(terms.Key, "key", terms.Domain, false)
			}
			b.add(terms.Value, "element", terms.Domain, false)
		}
		return false
	})
	ast.WalkRefs(r, func(ref ast.Ref) bool {
		for i := 2; i < len(ref); i++ {
			if x.ofNames(x.reference("is", nil, ref[:i], deepest).fact) {
				b.add(ref[i], "key", ast.NewTerm(ref[:i]), true)
			}
		}
		return false
	})
	ast.WalkExprs(r, func(e *ast.Expr) bool {
		if terms, ok := e.Terms.([]*ast.Term); ok && len(terms) == 3 && terms[0].String() == "eq" {
			for i := 1; i < 3; i++ {
				if v, is := terms[i].Value.(ast.Var); is && b[v].term == nil {
					b.add(terms[i], "is", terms[3-i], true)
				}
			}
		}
		return false
	})
	return b
}

// some binds the variables of "some v in all" and "some k, v in all".
func (b bindings) some(s *ast.Term) {
	call, ok := s.Value.(ast.Call)
	if !ok {
		return
	}
	switch call[0].String() {
	case "internal.member_2":
		b.add(call[1], "element", call[2], false)
	case "internal.member_3":
		b.add(call[1], "key", call[3], false)
		b.add(call[2], "element", call[3], false)
	}
}

// deepest is how many variables are followed, one to the other.
const deepest = 8

func (x *facts) meaning(t *ast.Term) meaning  { return x.follow("is", t, deepest) }
func (x *facts) elements(t *ast.Term) meaning { return x.follow("element", t, deepest) }

func aWord(t *ast.Term, from string) (all []word) {
	if s, text := t.Value.(ast.String); text {
		all = []word{{s, t, from}}
	}
	return all
}

// follow returns what a term is, or its elements or keys are.
func (x *facts) follow(how string, t *ast.Term, depth int) (m meaning) {
	if depth == 0 || t == nil {
		return m
	}
	switch v := t.Value.(type) {
	case ast.Var:
		if b := x.bound[v]; how == "is" && b.how != "any" {
			return x.follow(b.how, b.term, depth-1)
		} else if b.how == "is" {
			return x.follow(how, b.term, depth-1)
		}
	case ast.Ref:
		return x.reference(how, t, v, depth)
	case ast.String:
		if how == "is" {
			m.words = aWord(t, "")
		}
	case *ast.Array:
		if how == "element" {
			v.Foreach(func(e *ast.Term) { m.words = append(m.words, aWord(e, "")...) })
		}
	case ast.Set:
		if how == "element" {
			v.Foreach(func(e *ast.Term) { m.words = append(m.words, aWord(e, "")...) })
		}
	case ast.Object:
		v.Foreach(func(k, e *ast.Term) {
			if how == "key" {
				m.words = append(m.words, aWord(k, "")...)
			} else if how == "element" {
				m.words = append(m.words, aWord(e, "")...)
			}
		})
	case ast.Call:
		if how == "element" && len(v) == 2 && v[0].String() == "object.keys" {
			return x.follow("key", v[1], depth-1)
		}
	case *ast.SetComprehension:
		if how == "element" {
			return x.follow("is", v.Term, depth-1)
		}
	case *ast.ArrayComprehension:
		if how == "element" {
			return x.follow("is", v.Term, depth-1)
		}
	}
	return m
}

// reference is follow for a reference: to the input, by its own name, an import's or a variable's, or to data.
func (x *facts) reference(how string, t *ast.Term, ref ast.Ref, depth int) (m meaning) {
	path := groundPath(ref)
	if len(path) != len(ref) {
		return m
	}
	if path[0] == "data" && len(path) > 1 && path[1] != "postern" {
		m.words = x.listed(how, t, path[1:])
		return m
	}
	fact := strings.Join(path[1:], ".")
	if under, imported := x.names[path[0]]; imported {
		fact = strings.TrimSuffix(under+"."+fact, ".")
	} else if path[0] != "input" {
		head := x.follow("is", ref[0], depth-1).fact
		if head == "" {
			return m
		}
		fact = strings.TrimSuffix(head+"."+fact, ".")
	}
	switch {
	case fact == "":
	case how == "is":
		m.fact = fact
	case !x.ofNames(fact):
	case how == "key":
		m.keys = fact
	default:
		m.values = fact
	}
	return m
}

// listed returns the texts that data has at a path: itself, its elements or its keys.
func (x *facts) listed(how string, t *ast.Term, path []string) (all []word) {
	var v any = x.data
	for _, step := range path {
		m, _ := v.(map[string]any)
		v = m[step]
	}
	from := "data." + strings.Join(path, ".")
	add := func(s any) {
		if s, text := s.(string); text {
			all = append(all, word{ast.String(s), t, from})
		}
	}
	switch v := v.(type) {
	case string:
		if how == "is" {
			add(v)
		}
	case []any:
		if how == "element" {
			for _, e := range v {
				add(e)
			}
		}
	case map[string]any:
		for name, e := range v {
			if how == "key" {
				add(name)
			} else if how == "element" {
				add(e)
			}
		}
		slices.SortFunc(all, func(a, b word) int { return strings.Compare(string(a.word), string(b.word)) })
	}
	return all
}

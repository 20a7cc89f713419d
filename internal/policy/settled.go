package policy

import (
	"github.com/open-policy-agent/opa/v1/ast"
)

// settled returns the modules with every setting of data.postern.config that is read by its whole name replaced by its value: the data of an engine never
// changes, and looking it up is a tenth of a decision.
func (p *program) settled(modules map[string]*ast.Module) map[string]*ast.Module {
	if p.replaced {
		return modules // may say with data.postern.config
	}
	out := map[string]*ast.Module{}
	for name, m := range modules {
		m = m.Copy()
		for _, r := range m.Rules {
			// What is replaced is a term: a reference within a longer one is none, so its own keys stay as they are.
			_, err := ast.TransformRefs(r.Body, func(ref ast.Ref) (ast.Value, error) {
				if v := p.setting(ref); v != nil {
					return v, nil
				}
				return ref, nil
			})
			if err != nil {
				return modules // not reached: the function returns none
			}
		}
		out[name] = m
	}
	dropHolding(out)
	return out
}

// setting returns the value of a reference to a setting, or nil.
func (p *program) setting(ref ast.Ref) ast.Value {
	path := groundPath(ref)
	if len(path) != 5 || len(path) != len(ref) || path[0] != "data" || path[1] != "postern" || path[2] != "config" {
		return nil
	}
	if o, ok := configOf(p.data, path[3]).Value.(ast.Object); ok {
		if t := o.Get(ref[4]); t != nil {
			return t.Value
		}
	}
	return nil
}

// dropHolding removes from rules what holds whatever the input is: comparisons of a setting with the value that it has, and the names of rules that consist of
// nothing else. A policy of the library that is off then costs a decision nothing. A comparison with another value makes the rule one that never holds.
func dropHolding(modules map[string]*ast.Module) {
	holding := map[string]bool{} // rules by package and name
	for changed := true; changed; {
		changed = false
		for _, m := range modules {
			pkg := m.Package.Path.String()
			for _, r := range m.Rules {
				if r.Else != nil || r.Default {
					continue
				}
				if n := dropFrom(r.Body, pkg, holding); !n.Equal(r.Body) {
					r.Body, changed = n, true
				}
				name := pkg + "." + r.Head.Name.String()
				if isTrue(r.Head) && unconditional(r.Body) && !holding[name] {
					holding[name], changed = true, true
				}
			}
		}
	}
}

// isTrue reports whether a rule says nothing but true.
func isTrue(h *ast.Head) bool {
	return len(h.Args) == 0 && len(h.Reference) == 1 && h.RuleKind() == ast.SingleValue && h.Key == nil && h.Value != nil && h.Value.Equal(ast.BooleanTerm(true))
}

func dropFrom(body ast.Body, pkg string, holding map[string]bool) (kept ast.Body) {
	for _, e := range body {
		known, value := settledValue(e, pkg, holding)
		if known && !value {
			return ast.NewBody(ast.NewExpr(ast.BooleanTerm(false)))
		}
		if !known {
			kept = append(kept, e)
		}
	}
	if len(kept) == 0 {
		return ast.NewBody(ast.NewExpr(ast.BooleanTerm(true)))
	}
	return ast.NewBody(kept...)
}

// settledValue returns what an expression is for every input, where that is known.
func settledValue(e *ast.Expr, pkg string, holding map[string]bool) (known, value bool) {
	if len(e.With) > 0 {
		return false, false
	}
	if e.Negated { // nothing is in an empty list
		return e.IsCall() && e.Operator().String() == ast.Member.Name && len(e.Operands()) == 2 && e.Operand(1).Equal(ast.ArrayTerm()), true
	}
	if t, ok := e.Terms.(*ast.Term); ok {
		name, is := t.Value.(ast.Var)
		return is && holding[pkg+"."+string(name)], true
	}
	if e.IsCall() && e.Operator().String() == ast.Equal.Name && len(e.Operands()) == 2 && constant(e.Operand(0)) && constant(e.Operand(1)) {
		return true, e.Operand(0).Equal(e.Operand(1))
	}
	return false, false
}

// constant reports whether a term is data through and through.
func constant(t *ast.Term) bool {
	plain := true
	ast.WalkTerms(t, func(t *ast.Term) bool {
		switch t.Value.(type) {
		case ast.Ref, ast.Var, ast.Call, *ast.ArrayComprehension, *ast.SetComprehension, *ast.ObjectComprehension:
			plain = false
		}
		return !plain
	})
	return plain
}

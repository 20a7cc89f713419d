package policy

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
)

// lint looks at what compiles and may still be not what its author wants. Problems make a check fail; warnings are for reading.
func (p *program) lint(speaking map[line]bool) (problems, warnings []Problem) {
	l := &linter{rules: map[string][]*ast.Rule{}}
	for _, m := range p.modules {
		for _, r := range m.Rules {
			name := pathOf(m.Package.Path, r.Head.Ref())
			l.rules[name] = append(l.rules[name], r)
		}
	}
	for _, f := range p.files {
		m := p.modules[f.name]
		if m == nil || f.builtin || f.test() {
			continue
		}
		for _, r := range m.Rules {
			if p.replaced {
				problems = append(problems, l.absence(m, r)...)
			} else if string(r.Head.Name) == "except" && !l.proves(m, r.Body, map[*ast.Rule]bool{}) {
				warnings = append(warnings, at(r.Location, "this exception rests on nothing that is there, only on what is not: where a fact is missing, it is granted",
					"name the facts that it is for, such as input.owner.mail in data.vips"))
			}
			if e := unindexed(r.Body); e != nil {
				warnings = append(warnings, at(e.Location, fmt.Sprintf("computed for every request, which costs several times a comparison: %s", short(e)),
					"compare the fact itself, by ==, in or startswith (names in input are lower case already), or put such a condition before it"))
			}
			if entry := entryOf(m.Package); entry != "" && !p.replaced && !speaking[line{r.Location.File, r.Location.Row}] {
				warnings = append(warnings, at(r.Location, fmt.Sprintf("no test makes this rule of %s speak", r.Head.Name),
					"write one in "+strings.TrimSuffix(f.name, ".rego")+"_test.rego, with input as a sample of data.postern.samples."+entry))
			}
		}
	}
	_, doubts := p.askable()
	return problems, slices.Concat(warnings, doubts, p.unread(), l.tests(p))
}

// unread warns of data that no rule reads: it is misspelt, or its rule is.
func (p *program) unread() (warnings []Problem) {
	read := map[string]bool{"postern": true, "groups": !p.replaced, "networks": !p.replaced, "countries": !p.replaced}
	for _, m := range p.modules {
		ast.WalkRefs(m, func(ref ast.Ref) bool {
			if path := groundPath(ref); len(path) > 0 && path[0] == "data" {
				if len(path) == 1 {
					path = append(path, "") // computed
				}
				read[path[1]] = true
			}
			return false
		})
	}
	for _, f := range p.files {
		if f.builtin || f.rego() || read[""] {
			continue
		}
		m, _ := decodeData(f)
		for _, key := range slices.Sorted(maps.Keys(m)) {
			if read[key] {
				continue
			}
			w := f.problem(key, fmt.Sprintf("data.%s is read by no rule", key))
			if w.Advice = closest(key, []string{"postern", "groups", "networks", "countries"}); key == "config" || key == "access" || key == "enroll" {
				w.Advice = "settings stand below postern: {config: {access: ...}}"
			}
			warnings = append(warnings, w)
		}
	}
	return warnings
}

func at(l *ast.Location, message, advice string) Problem {
	return Problem{File: l.File, Line: l.Row, Column: l.Col, Message: message, Advice: advice}
}

// short is an expression in a line of a report.
func short(e *ast.Expr) string {
	const most = 80
	text := strings.Join(strings.Fields(string(e.Location.Text)), " ")
	if len(text) > most {
		text = text[:most] + "..."
	}
	return text
}

// linter knows every rule by its full name.
type linter struct{ rules map[string][]*ast.Rule }

func pathOf(pkg ast.Ref, rule ast.Ref) string {
	return strings.Join(append(groundPath(pkg), groundPath(rule)...), ".")
}

// absence finds rules of a policy that replaces the built-in one which allow because nothing speaks against it. Where a fact is missing nothing ever does.
func (l *linter) absence(m *ast.Module, r *ast.Rule) (problems []Problem) {
	const advice = "allow what is proved: a rule that allows names the facts that prove it, and default and the last else deny"
	if r.Default && (allows(r.Head.Value) || string(r.Head.Name) == "allow" && r.Head.Value != nil && r.Head.Value.Equal(ast.BooleanTerm(true))) {
		return []Problem{at(r.Location, "allow by default: what no rule is about would pass", advice)}
	}
	for ; r != nil; r = r.Else {
		if string(r.Head.Name) != "allow" && !allows(r.Head.Value) || r.Default {
			continue
		}
		if !l.proves(m, r.Body, map[*ast.Rule]bool{}) {
			problems = append(problems, at(r.Location, "allow by absence: nothing in its conditions has to be there, so a fact that is missing would let a request through", advice))
		}
	}
	return problems
}

// allows reports whether a value is a decision that allows, or the action of one.
func allows(v *ast.Term) bool {
	if v == nil {
		return false
	}
	switch x := v.Value.(type) {
	case ast.String:
		return x == "allow"
	case ast.Object:
		action := x.Get(ast.StringTerm("action"))
		return action != nil && allows(action)
	}
	return false
}

// proves reports whether a body has a condition that fails where its fact is missing: one that is not negated, says nothing of emptiness, and reads the input, or
// a rule that does.
func (l *linter) proves(m *ast.Module, body ast.Body, seen map[*ast.Rule]bool) bool {
	return slices.ContainsFunc(body, func(e *ast.Expr) bool {
		if e.Negated || aboutEmptiness(e) {
			return false
		}
		found := false
		ast.WalkTerms(e, func(t *ast.Term) bool {
			found = found || l.rests(m, t, seen)
			return found
		})
		return found
	})
}

// rests reports whether a term is the input, or a rule that is proved by it.
func (l *linter) rests(m *ast.Module, t *ast.Term, seen map[*ast.Rule]bool) bool {
	var name string
	switch v := t.Value.(type) {
	case ast.Var:
		name = pathOf(m.Package.Path, ast.Ref{t})
	case ast.Ref:
		if len(v) > 1 && v[0].Equal(ast.InputRootDocument) {
			return true
		}
		if name = strings.Join(groundPath(v), "."); len(v) > 0 && !v[0].Equal(ast.DefaultRootDocument) {
			name = pathOf(m.Package.Path, v)
		}
	default:
		return false
	}
	for ; name != ""; name, _ = cutLast(name) {
		for _, r := range l.rules[name] {
			if seen[r] {
				continue
			}
			seen[r] = true
			if l.proves(m, r.Body, seen) {
				return true
			}
		}
	}
	return false
}

func cutLast(name string) (string, bool) {
	i := strings.LastIndexByte(name, '.')
	if i < 0 {
		return "", false
	}
	return name[:i], true
}

// aboutEmptiness reports whether a condition holds of a set because it is empty: count(x) == 0, count(x) < 1, x == set().
func aboutEmptiness(e *ast.Expr) bool {
	terms, ok := e.Terms.([]*ast.Term)
	if !ok || len(terms) != 3 {
		return false
	}
	counts := func(t *ast.Term) bool {
		c, ok := t.Value.(ast.Call)
		return ok && len(c) == 2 && c[0].String() == "count"
	}
	empty := func(t *ast.Term) bool {
		switch v := t.Value.(type) {
		case ast.Set:
			return v.Len() == 0
		case *ast.Array:
			return v.Len() == 0
		case ast.Object:
			return v.Len() == 0
		}
		return false
	}
	switch op := terms[0].String(); op {
	case "equal", "eq", "lt", "lte":
		return counts(terms[1]) || counts(terms[2]) && op != "lt" && op != "lte" || empty(terms[1]) || empty(terms[2])
	}
	return false
}

// indexable are the operators and builtins that OPA's index of rules answers, where a fact itself is the operand.
var indexable = []string{"equal", "eq", "assign", "internal.member_2", "startswith", "endswith", "glob.match"}

// costly are builtins that look at much or take long, called for every request where no index comes before.
var costly = []string{"regex.", "walk", "graph.", "contains", "json.", "sprintf", "split", "net.cidr_expand", "crypto.", "numbers.range"}

// unindexed returns the condition that is computed with every request although no comparison comes before it: nil if there is none, or if a plain comparison stands in the
// same rule. A comparison is also what OPA's index of rules answers, where it decides instead of a plan.
func unindexed(body ast.Body) *ast.Expr {
	var bad *ast.Expr
	for _, e := range body {
		if e.Negated || len(e.With) > 0 {
			continue
		}
		if t, ok := e.Terms.(*ast.Term); ok && isFact(t) {
			return nil
		}
		terms, ok := e.Terms.([]*ast.Term)
		if !ok {
			continue
		}
		op := terms[0].String()
		known := slices.Contains(indexable, op)
		if known && op != "assign" && slices.ContainsFunc(terms[1:], isFact) && !slices.ContainsFunc(terms[1:], computed) {
			return nil
		}
		if bad == nil && (known && slices.ContainsFunc(terms[1:], computed) || readsInput(e) && slices.ContainsFunc(costly, func(p string) bool { return strings.HasPrefix(op, p) })) {
			bad = e
		}
	}
	return bad
}

// isFact reports whether a term is a fact of the input as it stands.
func isFact(t *ast.Term) bool {
	ref, ok := t.Value.(ast.Ref)
	return ok && len(ref) > 1 && ref[0].Equal(ast.InputRootDocument) && ref.IsGround()
}

// computed reports whether a term is made from the input by a function.
func computed(t *ast.Term) bool {
	_, call := t.Value.(ast.Call)
	return call && readsInput(t)
}

func readsInput(x any) (found bool) {
	ast.WalkRefs(x, func(r ast.Ref) bool {
		found = found || len(r) > 0 && r[0].Equal(ast.InputRootDocument)
		return found
	})
	return found
}

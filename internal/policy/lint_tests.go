package policy

import (
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
)

// A test that cannot fail is worse than none: it is counted, and everybody believes it.

const (
	testPrefix = "test_"
	todoPrefix = "todo_test_"
)

// tests warns of tests of teams that say nothing: they are skipped, hold whatever the policy does, or are never run.
func (l *linter) tests(p *program) (warnings []Problem) {
	for _, f := range p.files {
		m := p.modules[f.name]
		if m == nil || f.builtin || !f.test() {
			continue
		}
		t := testLinter{linter: l, module: m, p: p}
		for _, r := range m.Rules {
			switch name := string(r.Head.Name); {
			case strings.HasPrefix(name, todoPrefix):
				warnings = append(warnings, at(r.Location, name+" is skipped", "finish it and call it "+strings.TrimPrefix(name, "todo_")))
			case !strings.HasPrefix(name, testPrefix):
				if !t.used(name) {
					warnings = append(warnings, at(r.Location, name+" is used by no test, and is none itself", "the name of a test begins with "+testPrefix))
				}
			default:
				warnings = append(warnings, t.idle(r)...)
			}
		}
	}
	return warnings
}

// testLinter looks at the tests of one file.
type testLinter struct {
	*linter
	p      *program
	module *ast.Module
}

// idle warns of a test that holds whatever the policy does.
func (t testLinter) idle(r *ast.Rule) []Problem {
	const advice = `let it decide a sample: data.postern.access.decision.action == "deny" with input as data.postern.samples.access.silent`
	name := string(r.Head.Name)
	if t.bare(r.Head.Value) != "" || r.Head.Value.Equal(ast.BooleanTerm(true)) && !slices.ContainsFunc(r.Body, t.mayFail) {
		if i := slices.IndexFunc(r.Body, func(e *ast.Expr) bool { return t.always(e) != "" }); i >= 0 {
			e := r.Body[i]
			return []Problem{at(e.Location, t.always(e)+" is there whatever is in it, so "+name+" passes whatever the policy says", `ask for what is in it: "CODE" in deny, some reason in deny, count(deny) == 0, or .action == "deny"`)}
		}
		return []Problem{at(r.Location, name+" passes whatever the policy says: nothing in it can fail", advice)}
	}
	if !t.touches(r, map[*ast.Rule]bool{}) {
		return []Problem{at(r.Location, name+" passes whatever the policy says: it reads no rule and no decision", advice)}
	}
	return nil
}

// always names the set or decision that an expression asks for as it stands; empty where it asks for more.
func (t testLinter) always(e *ast.Expr) string {
	if e.Negated {
		return ""
	}
	switch terms := e.Terms.(type) {
	case *ast.Term:
		return t.bare(terms)
	case []*ast.Term:
		if e.IsAssignment() && len(terms) == 3 {
			if _, variable := terms[1].Value.(ast.Var); variable {
				return t.bare(terms[2])
			}
		}
	}
	return ""
}

// bare names a set of reasons, or a decision, which are there whatever is in them.
func (t testLinter) bare(term *ast.Term) string {
	if term == nil {
		return ""
	}
	path := t.pathOf(term)
	switch {
	case len(path) == 6 && path[3] == "team" && slices.Contains(teamHeads, path[5]), len(path) == 4 && path[3] == "decision":
		return path[len(path)-1]
	}
	return ""
}

// pathOf is what a term refers to below data: a name in its own package or in full, imports followed. Nil where it refers to something else, or goes on with what
// nobody knows before.
func (t testLinter) pathOf(term *ast.Term) []string {
	ref, ok := term.Value.(ast.Ref)
	if v, variable := term.Value.(ast.Var); variable {
		ref, ok = ast.Ref{ast.NewTerm(v)}, true
	}
	if !ok || len(ref) == 0 {
		return nil
	}
	root, ok := ref[0].Value.(ast.Var)
	switch rest := groundPath(ref); {
	case !ok || len(rest) != len(ref):
		return nil
	case root == "data":
		return rest
	case root == "input":
		return nil
	default:
		for _, i := range t.module.Imports {
			if imported, is := i.Path.Value.(ast.Ref); is && i.Name() == root {
				return append(groundPath(imported), rest[1:]...)
			}
		}
		return append(groundPath(t.module.Package.Path), rest...)
	}
}

// mayFail reports whether an expression asks for something: an assignment of what is always there, and a constant, do not.
func (t testLinter) mayFail(e *ast.Expr) bool {
	if e.Negated {
		return true
	}
	switch terms := e.Terms.(type) {
	case *ast.Term:
		return !spelledOut(terms) && t.bare(terms) == "" || terms.Equal(ast.BooleanTerm(false))
	case *ast.SomeDecl:
		_, in := terms.Symbols[0].Value.(ast.Call)
		return in
	case []*ast.Term:
		return !e.IsAssignment() || t.always(e) == "" && !spelledOut(terms[2])
	}
	return true
}

// touches reports whether a rule of a test reads a rule of a policy, or data that is not the product's samples, itself or by rules of tests.
func (t testLinter) touches(r *ast.Rule, seen map[*ast.Rule]bool) (found bool) {
	if seen[r] {
		return false
	}
	seen[r] = true
	ast.WalkTerms(r, func(term *ast.Term) bool {
		found = found || t.leads(term, seen)
		return found
	})
	return found
}

func (t testLinter) leads(term *ast.Term, seen map[*ast.Rule]bool) bool {
	var path []string
	switch v := term.Value.(type) {
	case ast.Var:
		path = t.pathOf(term)
	case ast.Ref:
		for n := len(v); n > 0 && path == nil; n-- { // the longest part that is known before
			path = t.pathOf(ast.NewTerm(v[:n]))
		}
	}
	if len(path) < 2 || path[0] != "data" || path[1] == "postern" && len(path) > 2 && path[2] == "samples" {
		return false
	}
	if path[1] != "postern" || len(path) > 2 && path[2] == "config" || len(path) == 2 {
		return true
	}
	for name := strings.Join(path, "."); name != ""; name, _ = cutLast(name) {
		for _, r := range t.rules[name] {
			if !strings.HasSuffix(r.Location.File, "_test.rego") || t.touches(r, seen) {
				return true
			}
		}
	}
	return slices.Contains(path, "team") && len(path) <= 5
}

// used reports whether something in the tests of the package refers to a rule.
func (t testLinter) used(name string) (found bool) {
	full := pathOf(t.module.Package.Path, ast.Ref{ast.VarTerm(name)})
	for file, m := range t.p.modules {
		if !strings.HasSuffix(file, "_test.rego") || found {
			continue
		}
		other := testLinter{linter: t.linter, p: t.p, module: m}
		for _, r := range m.Rules {
			if string(r.Head.Name) == name && m.Package.Equal(t.module.Package) {
				continue // what it says of itself
			}
			ast.WalkTerms(r, func(term *ast.Term) bool {
				if ref, is := term.Value.(ast.Ref); is {
					for n := len(ref); n > 0; n-- {
						path := strings.Join(other.pathOf(ast.NewTerm(ref[:n])), ".")
						found = found || path == full || strings.HasPrefix(path, full+".")
					}
				} else if _, is := term.Value.(ast.Var); is {
					found = found || strings.Join(other.pathOf(term), ".") == full
				}
				return found
			})
		}
	}
	return found
}

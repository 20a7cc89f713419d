package policy

import (
	"context"
	"crypto/sha256"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/storage/inmem"
)

// An author who repairs one problem should not meet the next that was there all along. So what stands beside a problem is looked at as far as it can be, and what
// only follows from a problem is left out.

// statement is how a statement of a policy begins, at the beginning of its line.
var statement = regexp.MustCompile(`^[A-Za-z_]`)

// parseFile returns the module of a file; where something in it is no Rego, the problems, and the module of the rest, nil if there is none.
func (p *program) parseFile(f file) (*ast.Module, []Problem) {
	m, err := p.parseText(f.name, string(f.content))
	if err == nil {
		return m, nil
	}
	whole := problemsOf(err, f.name)
	if strings.ContainsRune(string(f.content), '`') {
		return nil, whole // a raw string may have any lines
	}
	lines := strings.SplitAfter(string(f.content), "\n")
	head := 0 // how many lines the package and the imports have
	for head < len(lines) && !opens(lines[head]) {
		head++
	}
	header := strings.Join(lines[:head], "")
	if _, err := p.parseText(f.name, header); err != nil || head == 0 {
		return nil, whole
	}
	var problems []Problem
	rest := []string{header}
	for from := head; from < len(lines); {
		to := from + 1
		for to < len(lines) && !opens(lines[to]) {
			to++
		}
		text := strings.Join(lines[from:to], "")
		if _, err := p.parseText(f.name, header+strings.Repeat("\n", from-head)+strings.TrimRight(text, "\n")); err != nil {
			problems = append(problems, problemsOf(err, f.name)...)
			text = strings.Repeat("\n", to-from)
		}
		rest, from = append(rest, text), to
	}
	if len(problems) == 0 {
		problems = whole
	}
	m, err = p.parseText(f.name, strings.Join(rest, ""))
	if err != nil {
		return nil, whole
	}
	return m, problems
}

// opens reports whether a rule begins in this line.
func opens(line string) bool {
	word, _, _ := strings.Cut(strings.TrimRight(line, "\n"), " ")
	return statement.MatchString(line) && !slices.Contains([]string{"package", "import", "else"}, word)
}

func (p *program) parseText(name, text string) (*ast.Module, error) {
	return ast.ParseModuleWithOpts(name, text, ast.ParserOptions{Capabilities: p.caps, RegoVersion: ast.RegoV1})
}

// mostRounds is how often the rest of a policy is compiled.
const mostRounds = 8

// beyond returns the problems that the compiler finds beside those that are known: it stops at the first kind, so the rules that have problems are emptied until
// the rest compiles. Tests are looked at as well.
func (p *program) beyond(ctx context.Context, known []Problem) (more []Problem) {
	told := map[line]bool{}
	for _, k := range known {
		told[line{k.File, k.Line}] = true
	}
	if p.replaced && p.partial {
		return nil // what is missing is used by the rest
	}
	part, strays := *p, map[string]bool{}
	part.modules = map[string]*ast.Module{}
	for _, f := range p.files {
		if m := p.modules[f.name]; m != nil {
			part.modules[f.name] = m
			if !f.builtin {
				part.modules[f.name] = asTeam(m, p.replaced, strays)
			}
		}
	}
	for _, entry := range entries {
		for range mostRounds {
			found := part.without(ctx, entry, told)
			if more = append(more, found...); len(found) == 0 || p.replaced || ctx.Err() != nil {
				break
			}
		}
	}
	return more
}

// asTeam returns a copy of a module whose rules may be changed. One of a team that is in a package that is not a team's is looked at in one that is, where it
// can disturb nothing else.
func asTeam(m *ast.Module, replaced bool, strays map[string]bool) *ast.Module {
	c := m.Copy()
	if replaced || entryOf(c.Package) != "" {
		return c
	}
	entry := entries[0]
	if path := groundPath(c.Package.Path); len(path) > 2 && slices.Contains(entries, path[2]) {
		entry = path[2]
	}
	name := c.Package.Path.String()
	strays[name] = true
	c.Package.Path = ast.MustParseRef(fmt.Sprintf("data.postern.%s.team.stray_%x", entry, sha256.Sum256([]byte(name))))
	return c
}

// without compiles an entry point with its tests, empties the rules of teams that do not compile, and returns what was wrong with them unless it was told.
func (p *program) without(ctx context.Context, entry string, told map[line]bool) (fresh []Problem) {
	for emptied := true; emptied && len(fresh) == 0 && ctx.Err() == nil; {
		emptied = false
		for _, problem := range p.compileErrors(ctx, entry) {
			m, at := p.modules[problem.File], line{problem.File, problem.Line}
			if m == nil || strings.HasPrefix(problem.File, "builtin/") {
				continue
			}
			if !told[at] {
				fresh, told[at] = append(fresh, problem), true
			}
			for _, r := range m.Rules {
				if spans(r, problem.Line) && !p.replaced && !isEmpty(r) {
					empty(r)
					emptied = true
				}
			}
		}
	}
	return fresh
}

func (p *program) compileErrors(ctx context.Context, entry string) []Problem {
	store := inmem.NewFromObjectWithOpts(p.data, inmem.OptReturnASTValuesOnRead(true))
	txn, err := store.NewTransaction(ctx)
	if err != nil {
		return nil
	}
	defer store.Abort(ctx, txn)
	c := p.compiler(ctx, entry, store, txn).WithEnablePrintStatements(true)
	if c.Compile(p.of(entry, true)); !c.Failed() {
		return nil
	}
	return problemsOf(c.Errors, "")
}

// spans reports whether a rule has a part in a line.
func spans(r *ast.Rule, row int) bool {
	l := r.Location
	return l != nil && l.Row <= row && row <= l.Row+strings.Count(string(l.Text), "\n")
}

// never is a condition that does not hold.
func never() ast.Body { return ast.NewBody(ast.NewExpr(ast.BooleanTerm(false))) }

func isEmpty(r *ast.Rule) bool { return r.Body.Equal(never()) }

// empty leaves of a rule only its name, for others that use it, with a value that may be any.
func empty(r *ast.Rule) {
	r.Body, r.Else, r.Default = never(), nil, false
	for i := range r.Head.Args {
		r.Head.Args[i] = ast.VarTerm(fmt.Sprintf("%s%d", ast.WildcardPrefix, i))
	}
	if r.Head.Key != nil {
		r.Head.Key = ast.StringTerm("")
	} else {
		r.Head.Value = ast.NewTerm(ast.MustParseRef("data.postern.samples"))
	}
}

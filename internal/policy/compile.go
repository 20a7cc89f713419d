package policy

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/rego"
	"github.com/open-policy-agent/opa/v1/storage"
	"github.com/open-policy-agent/opa/v1/storage/inmem"

	"postern/internal/policy/plan"
)

// program is a policy that has been read, confined and parsed, ready to be compiled once for each entry point.
type program struct {
	sources
	data    map[string]any
	modules map[string]*ast.Module // by file name, tests included
	caps    *ast.Capabilities

	partial    bool // some policy is not there, because it is no Rego
	unreadable bool // some data is not there, because its file could not be read
}

// parse reads every file and checks what can be checked without compiling.
func parse(src sources) (*program, []Problem) {
	p := &program{sources: src, modules: map[string]*ast.Module{}, caps: capabilities()}
	var problems []Problem
	p.data, problems = src.document()
	p.unreadable = slices.ContainsFunc(src.files, func(f file) bool {
		if f.rego() {
			return false
		}
		_, bad := decodeData(f)
		return bad != nil
	})
	for _, f := range src.files {
		if !f.rego() {
			continue
		}
		m, bad := p.parseFile(f)
		problems, p.partial = append(problems, bad...), p.partial || len(bad) > 0
		if m != nil {
			p.modules[f.name] = m
		}
	}
	if !src.replaced {
		problems = append(problems, p.confine()...)
	}
	asked, _ := p.askable()
	return p, append(problems, asked...)
}

func (p *program) confine() []Problem {
	c := confinement{builtin: map[string]bool{}, data: p.data, unreadable: p.unreadable}
	for _, f := range p.files {
		if m := p.modules[f.name]; f.builtin && m != nil && !f.test() {
			for _, r := range m.Rules {
				c.builtin[groundPath(m.Package.Path)[2]+"."+string(r.Head.Ref()[0].Value.(ast.Var))] = true
			}
		}
	}
	for _, f := range p.files {
		if m := p.modules[f.name]; !f.builtin && m != nil {
			c.module(m, f.test())
		}
	}
	return c.problems
}

// of returns the modules that the entry point is compiled from. Libraries of a policy that replaces the built-in one are part of both.
func (p *program) of(entry string, tests bool) map[string]*ast.Module {
	own := map[string]*ast.Module{}
	for _, f := range p.files {
		m := p.modules[f.name]
		if m == nil || f.test() && !tests {
			continue
		}
		path := groundPath(m.Package.Path)
		if len(path) < 3 || path[1] != "postern" || path[2] == entry || !slices.Contains(entries, path[2]) {
			own[f.name] = m
		}
	}
	return own
}

// compiler returns a strict compiler that knows the input's schema and none of the builtins that reach out.
func (p *program) compiler(ctx context.Context, entry string, store storage.Store, txn storage.Transaction) *ast.Compiler {
	schemas := ast.NewSchemaSet()
	schemas.Put(ast.SchemaRootRef, inputSchema(entry))
	c := ast.NewCompiler().WithStrict(true).WithCapabilities(p.caps).WithSchemas(schemas).WithDefaultRegoVersion(ast.RegoV1).
		WithPathConflictsCheck(storage.NonEmpty(ctx, store, txn))
	c.SetErrorLimit(0)
	return c
}

// prepare compiles one entry point, and says what it reads of the clock. A nil query comes with problems; a nil plan is of what only OPA can evaluate.
func (p *program) prepare(ctx context.Context, entry string) (query *rego.PreparedEvalQuery, planned *plan.Program, clock clockReads, problems []Problem, err error) {
	name := "data.postern." + entry + ".decision"
	query, c, problems, err := p.query(ctx, entry, name)
	if query == nil {
		return nil, nil, clock, problems, err
	}
	if len(c.GetRulesExact(ast.MustParseRef(name))) == 0 {
		if entry == "lifecycle" {
			return nil, nil, clock, nil, nil // a policy that replaces the built-in one and says nothing of this keeps every device
		}
		return nil, nil, clock, []Problem{{Message: name + " is not defined", Advice: "a policy that replaces the built-in one decides for every entry point"}}, nil
	}
	planned, err = p.plan(ctx, c, name)
	return query, planned, p.clockOf(c), nil, err
}

// plan makes the plan of a question that was compiled, nil if only OPA can evaluate it.
func (p *program) plan(ctx context.Context, c *ast.Compiler, name string) (*plan.Program, error) {
	data, err := ast.InterfaceToValue(p.data)
	if err != nil {
		return nil, fmt.Errorf("read policy data: %w", err)
	}
	planned, err := plan.New(ctx, plan.Options{Compiler: c, Query: answerVar + " = " + name, Data: data})
	if err != nil && !errors.Is(err, plan.ErrRefused) {
		return nil, err
	}
	return planned, nil
}

// query compiles the policies of one entry point for one question to them. A nil query comes with problems.
func (p *program) query(ctx context.Context, entry, query string) (*rego.PreparedEvalQuery, *ast.Compiler, []Problem, error) {
	store := inmem.NewFromObjectWithOpts(p.data, inmem.OptReturnASTValuesOnRead(true))
	txn, err := store.NewTransaction(ctx)
	if err != nil {
		return nil, nil, nil, fmt.Errorf("read policy data: %w", err)
	}
	defer store.Abort(ctx, txn)
	c := p.compiler(ctx, entry, store, txn)
	if c.Compile(p.settled(p.of(entry, false))); c.Failed() {
		return nil, c, problemsOf(c.Errors, ""), nil
	}
	prepared, err := rego.New(rego.Query(query), rego.Compiler(c), rego.Store(store), rego.Transaction(txn), rego.StrictBuiltinErrors(true),
		rego.Capabilities(p.caps), rego.GenerateJSON(func(t *ast.Term, _ *rego.EvalContext) (any, error) { return t.Value, nil }),
	).PrepareForEval(ctx)
	if err != nil {
		return nil, c, problemsOf(err, ""), nil
	}
	return &prepared, c, nil, nil
}

// unavailable are builtins that OPA does not mark as nondeterministic and that read the clock, use random numbers or reach out in some cases.
var unavailable = []string{"crypto.x509.parse_and_verify_certificates", "io.jwt.", "net.lookup_ip_addr", "providers.", "json.match_schema"}

// capabilities are those of this version of OPA without every builtin whose answer depends on anything but its arguments.
func capabilities() *ast.Capabilities {
	c := ast.CapabilitiesForThisVersion()
	c.Builtins = slices.DeleteFunc(slices.Clone(c.Builtins), func(b *ast.Builtin) bool {
		return b.IsNondeterministic() || slices.ContainsFunc(unavailable, func(prefix string) bool { return strings.HasPrefix(b.Name, prefix) })
	})
	c.AllowNet = []string{}
	return c
}

// problemsOf places the errors of OPA; name is the file for those that have no place of their own.
func problemsOf(err error, name string) []Problem {
	var list ast.Errors
	var one *ast.Error
	switch {
	case errors.As(err, &list):
	case errors.As(err, &one):
		list = ast.Errors{one}
	default:
		return []Problem{{File: name, Message: err.Error()}}
	}
	var problems []Problem
	for _, e := range list {
		p := Problem{File: name, Message: strings.TrimPrefix(e.Code, "rego_") + ": " + e.Message, Advice: adviceFor(e)}
		if e.Location != nil {
			p.File, p.Line, p.Column = cmp.Or(e.Location.File, name), e.Location.Row, e.Location.Col
		}
		problems = append(problems, p)
	}
	return problems
}

// adviceFor says what to write instead, where the compiler's error tells.
func adviceFor(e *ast.Error) string {
	if d, ok := e.Details.(*ast.RefErrInvalidDetail); ok && d.Pos < len(d.Ref) {
		var names []string
		for _, v := range d.OneOf {
			if s, ok := v.(ast.String); ok {
				names = append(names, string(s))
			}
		}
		if have, ok := d.Ref[d.Pos].Value.(ast.String); ok {
			return didYouMean(string(have), names)
		}
	}
	if name, ok := strings.CutPrefix(e.Message, "undefined function "); ok {
		if ast.BuiltinMap[name] != nil {
			return "policies cannot reach out, read the clock or use random numbers: the facts are in input, the time is input.now"
		}
		return cmp.Or(similarBuiltin(name), "there is no such function")
	}
	if e.Code == ast.ParseErr {
		return adviceOfSyntax(e.Message)
	}
	if e.Code == ast.RecursionErr {
		return "a rule may not depend on itself, however indirectly"
	}
	if _, own := e.Details.(*ast.RefErrInvalidDetail); !own && e.Details != nil {
		return strings.Join(strings.Fields(strings.Join(e.Details.Lines(), " ")), " ") // which types there are, and which are wanted
	}
	return ""
}

// adviceOfSyntax says what is meant by an error of the parser.
func adviceOfSyntax(message string) string {
	switch {
	case strings.Contains(message, "keyword is required"):
		return "this is Rego before version 1: write deny contains x if { ... }, or let opa fmt --v0-v1 -w rewrite the file"
	case strings.Contains(message, "unexpected eof"):
		return "a { or ( or [ or a text before it is not closed"
	case strings.Contains(message, "unexpected keyword") || strings.Contains(message, "must not be used"):
		return "choose another name"
	}
	return ""
}

// similarBuiltin suggests a builtin: of the same name in another group, or the one that is the fewest edits away.
func similarBuiltin(name string) string {
	var all []string
	for _, b := range capabilities().Builtins {
		if b.Infix == "" && !strings.HasPrefix(b.Name, "internal.") {
			all = append(all, b.Name)
		}
	}
	last := name[strings.LastIndexByte(name, '.')+1:]
	for _, b := range all {
		if b[strings.LastIndexByte(b, '.')+1:] == last {
			return "did you mean " + b + "?"
		}
	}
	return didYouMean(name, all)
}

// didYouMean suggests the name that is the fewest edits away, and lists the names where none is close and they are few.
func didYouMean(have string, names []string) string {
	switch best := nearest(have, names); {
	case best != "":
		return "did you mean " + best + "?"
	case len(names) > 0 && len(names) <= 20:
		return "there is " + strings.Join(names, ", ")
	}
	return ""
}

// nearest returns the name that is the fewest edits away; empty where none is close.
func nearest(have string, names []string) (best string) {
	at := max(2, len(have)/2) + 1
	if len(have) < 4 {
		at = 2
	}
	for _, n := range names {
		if d := edits(have, n); d < at {
			best, at = n, d
		}
	}
	return best
}

// closest is didYouMean where the message lists the names already.
func closest(have string, names []string) string {
	if advice := didYouMean(have, names); strings.HasPrefix(advice, "did you mean") {
		return advice
	}
	return ""
}

// edits is how many letters two names differ by: added, left out, another, or two beside each other in the wrong order.
func edits(a, b string) int {
	rows := make([][]int, len(a)+1)
	for i := range rows {
		rows[i] = make([]int, len(b)+1)
		rows[i][0] = i
	}
	for j := range rows[0] {
		rows[0][j] = j
	}
	for i := 1; i <= len(a); i++ {
		for j := 1; j <= len(b); j++ {
			cost := 0
			if a[i-1] != b[j-1] {
				cost = 1
			}
			rows[i][j] = min(rows[i-1][j-1]+cost, rows[i-1][j]+1, rows[i][j-1]+1)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				rows[i][j] = min(rows[i][j], rows[i-2][j-2]+1)
			}
		}
	}
	return rows[len(a)][len(b)]
}

// inputSchema is the JSON schema of an entry point's input as the compiler wants it.
func inputSchema(entry string) any {
	var v any
	if err := json.Unmarshal(Schema(entry), &v); err != nil {
		return map[string]any{} // not reached: Schema made it
	}
	return v
}

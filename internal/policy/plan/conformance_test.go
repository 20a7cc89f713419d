package plan

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/test/cases"
	"github.com/open-policy-agent/opa/v1/topdown"
	"github.com/open-policy-agent/opa/v1/util"
)

// conformance are OPA's own cases, which its module brings along.
func conformance(t *testing.T, version string) []cases.TestCase {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "go", "list", "-m", "-f", "{{.Dir}}", "github.com/open-policy-agent/opa").Output()
	if err != nil {
		t.Fatal("where is OPA:", err)
	}
	set, err := cases.Load(filepath.Join(strings.TrimSpace(string(out)), "v1", "test", "cases", "testdata", version))
	if err != nil {
		t.Fatal(err)
	}
	return set.Sorted().Cases
}

// refusedBuiltins are what no policy of Postern may call: they ask the clock, chance or the network, or OPA treats them so because their answer may change
// while they are used.
var refusedBuiltins = []string{
	"http.send", "io.jwt.decode_verify", "io.jwt.encode_sign", "io.jwt.encode_sign_raw", "json.match_schema", "json.verify_schema", "net.lookup_ip_addr",
	"opa.runtime", "rand.intn", "time.now_ns", "uuid.rfc4122",
}

// leftToOPA are cases that New accepts and an evaluation leaves to OPA: a key of data that is no text, or a position of a list in data that is one. OPA
// reads a reference to data as a path of texts, and does not read one to anything else so.
var leftToOPA = []string{
	"baseandvirtualdocs/base/virtual: ground key", "data/nested integer", "data/toplevel integer", "eqexpr/indexing: intersection", "withkeyword/with rule chain",
}

// excepted are cases that cannot be run here at all.
var excepted = map[string]string{
	"time/time caching": "calls test.sleep, a builtin of OPA's own tests",
}

// TestConformance runs OPA's own cases. The numbers are of the version of OPA that go.mod names: a case that is no longer run has to be looked at.
func TestConformance(t *testing.T) {
	for _, of := range []struct {
		version         string
		rego            ast.RegoVersion
		passed, refused int
	}{{"v0", ast.RegoV0, 1932, 89}, {"v1", ast.RegoV1, 2303, 91}} {
		passed, refused, left := 0, 0, 0
		for _, tc := range conformance(t, of.version) {
			t.Run(of.version+"/"+tc.Note, func(t *testing.T) {
				if why := excepted[tc.Note]; why != "" {
					t.Skip(why)
				}
				for k, v := range tc.Env {
					t.Setenv(k, v)
				}
				err := conform(t.Context(), &tc, of.rego)
				switch {
				case errors.Is(err, ErrRefused):
					refused++
					if !slices.ContainsFunc(refusedBuiltins, func(name string) bool { return strings.Contains(err.Error(), "builtin "+name+" depends") }) {
						t.Error(err)
					}
				case slices.Contains(leftToOPA, tc.Note):
					left++
					if !errors.Is(err, errLeft) {
						t.Errorf("no longer left to OPA: %v", err)
					}
				case err != nil:
					t.Error(err)
				default:
					passed++
				}
			})
		}
		if passed != of.passed || refused != of.refused || left != len(leftToOPA) {
			t.Errorf("%s: %d cases pass, %d are refused at load, %d left to OPA by the evaluation", of.version, passed, refused, left)
		}
	}
}

func conform(ctx context.Context, tc *cases.TestCase, version ast.RegoVersion) error {
	p, err := programOf(ctx, tc, version)
	if err != nil {
		return err
	}
	var input ast.Value
	if tc.InputTerm != nil {
		input = ast.MustParseTerm(*tc.InputTerm).Value
	} else if tc.Input != nil {
		input = ast.MustInterfaceToValue(*tc.Input)
	}
	answers, err := p.Eval(ctx, Whole(input), topdown.NewCancel())
	if err := wanted(tc, answers, err); err != nil || input == nil {
		return err
	}
	answers, err = p.Eval(ctx, apart(p, input), topdown.NewCancel())
	if err := wanted(tc, answers, err); err != nil {
		return fmt.Errorf("by parts: %w", err)
	}
	return nil
}

// parts are those of an input that is a value, by every kind that they could be known as.
type parts struct {
	terms []*ast.Term
	sets  []map[string]bool
}

// apart is an input that is known by its parts.
func apart(p *Program, v ast.Value) Input {
	in := Whole(v)
	paths := p.Paths()
	known := &parts{terms: make([]*ast.Term, len(paths)), sets: make([]map[string]bool, len(paths))}
	for i, names := range paths {
		if len(names) == 0 {
			continue
		}
		t := ast.NewTerm(v)
		for _, name := range names {
			if o, ok := t.Value.(ast.Object); !ok {
				t = nil
			} else {
				t = o.Get(ast.StringTerm(name))
			}
			if t == nil {
				break
			}
		}
		known.terms[i] = t
		if t == nil {
			continue
		}
		if o, ok := t.Value.(ast.Object); ok {
			known.sets[i] = map[string]bool{}
			o.Foreach(func(k, v *ast.Term) {
				name, text := k.Value.(ast.String)
				b, boolean := v.Value.(ast.Boolean)
				if known.sets[i] != nil && text && boolean {
					known.sets[i][string(name)] = bool(b)
				} else {
					known.sets[i] = nil
				}
			})
		}
	}
	in.Parts = known
	return in
}

func (p *parts) Kind(path int) Kind {
	switch {
	case p.terms[path] == nil:
		return KindUnknown
	case p.sets[path] != nil:
		return KindSet
	}
	switch v := p.terms[path].Value.(type) {
	case ast.String:
		return KindText
	case ast.Number:
		if _, ok := v.Int64(); ok {
			return KindNumber
		}
	}
	return KindTerm
}

func (p *parts) Term(path int) *ast.Term { return p.terms[path] }

func (p *parts) Text(path int) string { return string(p.terms[path].Value.(ast.String)) }

func (p *parts) Number(path int) int64 {
	n, _ := p.terms[path].Value.(ast.Number).Int64()
	return n
}

func (p *parts) Set(path int) map[string]bool { return p.sets[path] }

// programOf compiles a case as OPA's own test does.
func programOf(ctx context.Context, tc *cases.TestCase, version ast.RegoVersion) (*Program, error) {
	opts := ast.ParserOptions{RegoVersion: version}
	if tc.ExperimentalKeywords {
		opts.Capabilities = ast.CapabilitiesForThisVersion(ast.CapabilitiesExperimentalKeywords(true))
	}
	modules := map[string]string{}
	for i, m := range tc.Modules {
		modules[fmt.Sprintf("test-%d.rego", i)] = m
	}
	compiler, err := ast.CompileModulesWithOpt(modules, ast.CompileOpts{ParserOptions: opts})
	if err != nil {
		return nil, err
	}
	data := map[string]any{}
	if tc.Data != nil {
		data = *tc.Data
	}
	return New(ctx, Options{Compiler: compiler, Query: tc.Query, Data: ast.MustInterfaceToValue(data), Lenient: !tc.StrictError})
}

// wanted compares with what the case wants, as OPA's own test does.
func wanted(tc *cases.TestCase, answers []ast.Object, err error) error {
	if tc.WantError != nil || tc.WantErrorCode != nil {
		var e *topdown.Error
		if !errors.As(err, &e) {
			return fmt.Errorf("error %v, want one of OPA", err)
		}
		if tc.WantErrorCode != nil && e.Code != *tc.WantErrorCode {
			return fmt.Errorf("error %v, want %s", err, *tc.WantErrorCode)
		}
		return nil
	}
	if err != nil {
		return fmt.Errorf("error %w", err)
	}
	if tc.WantDefined != nil && *tc.WantDefined != (len(answers) > 0) {
		return fmt.Errorf("defined %t, want %t", len(answers) > 0, *tc.WantDefined)
	}
	if tc.WantResult == nil {
		return nil
	}
	want, have := ast.NewSet(), ast.NewSet()
	for _, bindings := range *tc.WantResult {
		o := ast.NewObject()
		for k, v := range bindings {
			o.Insert(ast.StringTerm(k), ast.NewTerm(ast.MustInterfaceToValue(v)))
		}
		want.Add(ast.NewTerm(o))
	}
	for _, a := range answers {
		o := ast.NewObject()
		err := a.Iter(func(k, v *ast.Term) error {
			name := string(k.Value.(ast.String))
			if strings.Contains(name, "term") && strings.HasPrefix(name, "^") || strings.HasPrefix(name, "$") || strings.HasPrefix(name, "__localq") {
				return nil
			}
			plain, err := ast.JSON(v.Value)
			if list, ok := plain.([]any); ok && tc.SortBindings {
				slices.SortFunc(list, util.Compare)
			}
			if err == nil {
				o.Insert(k, ast.NewTerm(ast.MustInterfaceToValue(plain)))
			}
			return err
		})
		if err != nil {
			return err
		}
		have.Add(ast.NewTerm(o))
	}
	if want.Compare(have) != 0 {
		return fmt.Errorf("answers %v, want %v", have, want)
	}
	return nil
}

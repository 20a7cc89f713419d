package policy

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/cover"
	"github.com/open-policy-agent/opa/v1/format"
	"github.com/open-policy-agent/opa/v1/storage/inmem"
	"github.com/open-policy-agent/opa/v1/tester"
)

// testTimeout bounds one Rego test; a test makes many decisions.
const testTimeout = 10 * time.Second

// Report is what Check found.
type Report struct {
	Digest   string         `json:"digest"`
	Replaced bool           `json:"replaced"`
	Files    []string       `json:"files"`
	Problems []Problem      `json:"problems"` // empty: the policy may be used
	Warnings []Problem      `json:"warnings"` // what may be used, and may not be what its author wants
	Tests    []TestResult   `json:"tests"`
	Samples  []SampleResult `json:"samples"`
	// Otherwise are the samples that the built-in policies alone decide in another way.
	Otherwise []SampleDifference `json:"otherwise"`

	Cost *Cost `json:"cost,omitempty"` // where it was measured: see Measure
}

// OK reports whether nothing is wrong.
func (r *Report) OK() bool { return len(r.Problems) == 0 }

// TestResult is one Rego test.
type TestResult struct {
	Package string `json:"package"` // without "data."
	Name    string `json:"name"`
	File    string `json:"file"`
	Line    int    `json:"line"`
	Pass    bool   `json:"pass"`
	Skipped bool   `json:"skipped,omitempty"` // named todo_test_...
	Error   string `json:"error,omitempty"`   // a test that could not be run
	Output  string `json:"output,omitempty"`  // what it printed
}

// TestOptions choose what Test runs.
type TestOptions struct {
	Run      string // a regular expression for package and name; empty: all
	Coverage bool

	speaking *speaking // notes which rules of others than the product had an answer; nil: nobody does
}

// TestReport is what the Rego tests said.
type TestReport struct {
	Results   []TestResult `json:"results"`
	Coverage  float64      `json:"coverage,omitempty"`  // per cent of the lines of rules that a test reached
	Uncovered []Problem    `json:"uncovered,omitempty"` // where no test came by
}

// OK reports whether every test that was not skipped passed.
func (r *TestReport) OK() bool {
	return !slices.ContainsFunc(r.Results, func(t TestResult) bool { return !t.Pass && !t.Skipped })
}

// Check does everything that Load does, and formats and tests as well. It reports as much as can be found in one go; the error is about reading the
// files.
func Check(ctx context.Context, o Options) (*Report, error) {
	src, problems, err := read(o)
	if err != nil {
		return nil, err
	}
	r := &Report{Digest: src.digest(), Replaced: o.Replace, Problems: []Problem{}, Warnings: []Problem{}, Tests: []TestResult{}, Samples: []SampleResult{}, Otherwise: []SampleDifference{}}
	for _, f := range src.files {
		r.Files = append(r.Files, f.name)
	}
	p, more := parse(src)
	problems = append(problems, more...)
	broken := len(problems) > 0
	if broken {
		problems = append(problems, p.beyond(ctx, problems)...)
	}
	if problems = append(problems, p.formatted()...); broken {
		r.Problems = sortProblems(problems)
		return r, nil
	}
	e, more, err := p.engine(ctx, o)
	if err != nil {
		return nil, err
	}
	problems = append(problems, more...)
	if e != nil {
		r.Samples, more = e.prove(ctx)
		problems = append(problems, more...)
		if len(more) == 0 {
			differ, warnings, err := otherwise(ctx, r.Samples)
			if err != nil {
				return nil, err
			}
			r.Otherwise, r.Warnings = differ, append(append(r.Warnings, warnings...), p.always(ctx)...)
		}
		spoke := newSpeaking()
		tests, more := p.test(ctx, TestOptions{speaking: spoke})
		problems = append(problems, more...)
		problems = append(problems, spoke.problems()...)
		r.Tests = tests.Results
		for _, t := range tests.Results {
			if !t.Pass && !t.Skipped {
				problems = append(problems, Problem{File: t.File, Line: t.Line, Message: strings.TrimSpace("test " + t.Name + " failed " + t.Error),
					Advice: "run policy test to see what it printed"})
			}
		}
		more, warnings := p.lint(spoke.rules)
		problems = append(problems, more...)
		r.Warnings = append(r.Warnings, sortProblems(warnings)...)
	}
	r.Problems = append(r.Problems, sortProblems(problems)...)
	return r, nil
}

// formatted compares every file with what opa fmt would write.
func (p *program) formatted() []Problem {
	var problems []Problem
	for _, f := range p.files {
		if p.modules[f.name] == nil {
			continue
		}
		want, err := format.SourceWithOpts(f.name, f.content, format.Opts{RegoVersion: ast.RegoV1})
		if err != nil || bytes.Equal(want, f.content) {
			continue // a file that does not parse is reported elsewhere
		}
		have, should := strings.Split(string(f.content), "\n"), strings.Split(string(want), "\n")
		line := 0
		for line < min(len(have), len(should)) && have[line] == should[line] {
			line++
		}
		problem := Problem{File: f.name, Line: line + 1, Message: "not formatted", Advice: "run opa fmt -w " + path.Base(f.name)}
		if bytes.Contains(f.content, []byte("\r\n")) {
			problem.Message = "not formatted: lines end as on Windows, with a carriage return before the line feed"
		} else if line < len(should) {
			problem.Advice = fmt.Sprintf("write %q here, or run opa fmt", should[line])
		}
		problems = append(problems, problem)
	}
	return problems
}

// Test runs the Rego tests of a policy, the built-in ones among them. Samples are data.postern.samples.ENTRY.NAME. A policy that does
// not compile is a *CheckError.
func Test(ctx context.Context, o Options, t TestOptions) (*TestReport, error) {
	src, problems, err := read(o)
	if err != nil {
		return nil, err
	}
	if _, err := regexp.Compile(t.Run); err != nil {
		return nil, fmt.Errorf("which tests to run: %w", err)
	}
	p, more := parse(src)
	if problems = append(problems, more...); len(problems) > 0 {
		return nil, &CheckError{Problems: sortProblems(problems)}
	}
	r, problems := p.test(ctx, t)
	if len(problems) > 0 {
		return nil, &CheckError{Problems: sortProblems(problems)}
	}
	return r, nil
}

// test runs the built-in tests on the built-in policies as they are, because data that tunes them would rightly fail some, and the team's own tests on
// everything together.
func (p *program) test(ctx context.Context, o TestOptions) (*TestReport, []Problem) {
	r := &TestReport{Results: []TestResult{}}
	parts := []*program{p.only(func(f file) bool { return f.builtin }), p.only(func(f file) bool { return !f.builtin || !f.test() })}
	var problems []Problem
	covered, lines := 0, 0
	for i, part := range parts {
		for _, entry := range entries {
			c := cover.New()
			o := o
			if i == 0 {
				o.speaking = nil
			}
			results, err := part.testEntry(ctx, entry, o, c)
			if err != nil {
				problems = append(problems, problemsOf(err, "")...)
				continue
			}
			r.Results = append(r.Results, results...)
			if !o.Coverage {
				continue
			}
			report := c.Report(part.only(func(f file) bool { return f.builtin == (i == 0) }).of(entry, false))
			covered, lines = covered+report.CoveredLines, lines+report.CoveredLines+report.NotCoveredLines
			for name, f := range report.Files {
				for _, gap := range f.NotCovered {
					r.Uncovered = append(r.Uncovered, Problem{File: name, Line: gap.Start.Row, Message: "no test comes by"})
				}
			}
		}
	}
	if lines > 0 {
		r.Coverage = 100 * float64(covered) / float64(lines)
	}
	r.Uncovered = sortProblems(r.Uncovered)
	slices.SortStableFunc(r.Results, func(a, b TestResult) int { return cmp.Or(strings.Compare(a.File, b.File), a.Line-b.Line) })
	return r, problems
}

// only returns the part of the program that consists of the files to keep, with the data that these define.
func (p *program) only(keep func(file) bool) *program {
	part := *p
	part.files = slices.DeleteFunc(slices.Clone(p.files), func(f file) bool { return !keep(f) })
	part.data, _ = part.document() // its problems were found when the whole was read
	return &part
}

func (p *program) testEntry(ctx context.Context, entry string, o TestOptions, c *cover.Cover) ([]TestResult, error) {
	store := inmem.NewFromObjectWithOpts(withSamples(p.data), inmem.OptReturnASTValuesOnRead(true))
	txn, err := store.NewTransaction(ctx)
	if err != nil {
		return nil, fmt.Errorf("read policy data: %w", err)
	}
	defer store.Abort(ctx, txn)
	modules := p.of(entry, true)
	if len(modules) == 0 {
		return nil, nil
	}
	runner := tester.NewRunner().SetCompiler(p.compiler(ctx, entry, store, txn).WithEnablePrintStatements(true)).SetStore(store).SetModules(modules).
		CapturePrintOutput(true).RaiseBuiltinErrors(true).SetTimeout(testTimeout).SetParallel(1).Filter(o.Run)
	switch {
	case o.Coverage:
		runner = runner.SetCoverageQueryTracer(c)
	case o.speaking != nil:
		runner = runner.SetCoverageQueryTracer(o.speaking)
	}
	ch, err := runner.RunTests(ctx, txn)
	if err != nil {
		return nil, err
	}
	var results []TestResult
	for t := range ch {
		result := TestResult{Package: strings.TrimPrefix(t.Package, "data."), Name: t.Name, Pass: t.Pass(), Skipped: t.Skip, Output: string(t.Output)}
		if t.Location != nil {
			result.File, result.Line = t.Location.File, t.Location.Row
		}
		if t.Error != nil {
			result.Error = t.Error.Error()
		}
		if entryOfTest(t.Package) != entry {
			continue // a library's tests run once
		}
		results = append(results, result)
	}
	return results, nil
}

// entryOfTest returns the entry point of a test's package; tests of libraries belong to the first.
func entryOfTest(pkg string) string {
	parts := strings.Split(pkg, ".")
	if len(parts) > 2 && parts[1] == "postern" && slices.Contains(entries, parts[2]) {
		return parts[2]
	}
	return entries[0]
}

// withSamples adds data.postern.samples, which only tests see.
func withSamples(data map[string]any) map[string]any {
	access, enroll, lifecycle := map[string]any{}, map[string]any{}, map[string]any{}
	for _, s := range accessSamples() {
		access[s.name] = jsonOf(s.in.value())
	}
	for _, s := range enrollSamples() {
		enroll[s.name] = jsonOf(s.in.value())
	}
	for _, s := range lifecycleSamples() {
		lifecycle[s.name] = jsonOf(s.in.value())
	}
	all := map[string]any{}
	for k, v := range data {
		all[k] = v
	}
	product := map[string]any{"samples": map[string]any{"access": access, "enroll": enroll, "lifecycle": lifecycle}}
	if own, ok := data["postern"].(map[string]any); ok {
		for k, v := range own {
			if k != "samples" {
				product[k] = v
			}
		}
	}
	all["postern"] = product
	return all
}

// jsonOf is an input as data, exactly as the engine passes it.
func jsonOf(t *ast.Term) any {
	v, err := ast.JSON(t.Value)
	if err != nil {
		return nil // not reached: the contract is plain data
	}
	return v
}

package plan

import (
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/topdown"
)

func programFor(t testing.TB, module, query string, lenient bool) (*Program, error) {
	t.Helper()
	c, err := ast.CompileModulesWithOpt(map[string]string{"a.rego": module}, ast.CompileOpts{ParserOptions: ast.ParserOptions{RegoVersion: ast.RegoV1}})
	if err != nil {
		t.Fatal(err)
	}
	return New(t.Context(), Options{Compiler: c, Query: query, Data: ast.NewObject(), Lenient: lenient})
}

// asked is a cancel that holds from the time that it was asked so often.
type asked struct {
	times atomic.Int64
	limit int64
}

func (*asked) Cancel() {}

func (a *asked) Cancelled() bool { return a.times.Add(1) > a.limit }

// TestCancel lets evaluations run that would not end: each looks at the cancel often enough, and says that it was cancelled.
func TestCancel(t *testing.T) {
	for name, body := range map[string]string{
		"loop":     "p if { some a in input; some b in input; some c in input; some d in input; a + b + c + d == -1 }",
		"builtin":  "p if count(numbers.range(1, 1000000000)) == 3",
		"function": "f(x) := 1 if x > 0\n\np if { some a in input; some b in input; some c in input; f(a) + f(b) + f(c) == 7 }",
		"every":    "p if { every a in input { every b in input { every c in input { not a + b + c == -1 } } } }",
	} {
		t.Run(name, func(t *testing.T) {
			p, err := programFor(t, "package a\n\n"+body+"\n", "data.a.p = x", false)
			if err != nil {
				t.Fatal(err)
			}
			var many []*ast.Term
			for i := range 1000 {
				many = append(many, ast.InternedTerm(i))
			}
			began := time.Now()
			_, err = p.Eval(t.Context(), Whole(ast.NewArray(many...)), &asked{limit: 1000})
			if !topdown.IsCancel(err) || time.Since(began) > 30*time.Second {
				t.Errorf("%v after %v", err, time.Since(began))
			}
			if name == "builtin" {
				return
			}
			// The next evaluation knows nothing of it.
			if _, err := p.Eval(t.Context(), Whole(ast.NewArray()), topdown.NewCancel()); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestLimitOfElements makes more elements than an evaluation may: it ends, long before the memory does.
func TestLimitOfElements(t *testing.T) {
	const many = "some a in numbers.range(1, 1000); some b in numbers.range(1, 1000); x := (a * 1000) + b"
	for name, value := range map[string]string{"array": "[x | " + many + "]", "set": "{x | " + many + "}", "object": "{x: 1 | " + many + "}"} {
		p, err := programFor(t, "package a\n\np := count("+value+")\n", "data.a.p = x", false)
		if err != nil {
			t.Fatal(err)
		}
		if answers, err := p.Eval(t.Context(), Input{}, topdown.NewCancel()); !errors.Is(err, errLeft) {
			t.Errorf("%s: %v, %v", name, answers, err)
		}
	}
}

// TestStrict tells the errors of builtins from undefined.
func TestStrict(t *testing.T) {
	const module = "package a\n\np := to_number(input)\n"
	strict, err := programFor(t, module, "data.a.p = x", false)
	if err != nil {
		t.Fatal(err)
	}
	lenient, err := programFor(t, module, "data.a.p = x", true)
	if err != nil {
		t.Fatal(err)
	}
	var e *topdown.Error
	if _, err := strict.Eval(t.Context(), Whole(ast.String("odd")), nil); !errors.As(err, &e) || e.Code != topdown.BuiltinErr || e.Location.Row != 3 {
		t.Error(err)
	}
	if answers, err := lenient.Eval(t.Context(), Whole(ast.String("odd")), nil); err != nil || len(answers) != 0 {
		t.Error(answers, err)
	}
	if answers, err := strict.Eval(t.Context(), Whole(ast.String("7")), nil); err != nil || len(answers) != 1 || answers[0].String() != `{"x": 7}` {
		t.Error(answers, err)
	}
}

// TestFirstThatHolds looks that rules that all say the same are asked in their order until one holds, as OPA does, and that those that differ are all asked.
func TestFirstThatHolds(t *testing.T) {
	for name, c := range map[string]struct {
		rules string
		fails bool
	}{
		"before":    {"p if input == 1\n\np if to_number(\"x\") == input\n", false},
		"after":     {"p if to_number(\"x\") == input\n\np if input == 1\n", true},
		"different": {"p := true if input == 1\n\np := false if to_number(\"x\") == input\n", true},
		"else":      {"p if input == 1\nelse if to_number(\"x\") == input\n", false},
		"conflict":  {"p := true if input == 1\n\np := false if input > 0\n", true},
	} {
		p, err := programFor(t, "package a\n\n"+c.rules, "data.a.p = x", false)
		if err != nil {
			t.Fatal(err)
		}
		answers, err := p.Eval(t.Context(), Whole(ast.InternedTerm(1).Value), nil)
		if (err != nil) != c.fails || err == nil && (len(answers) != 1 || answers[0].String() != `{"x": true}`) {
			t.Errorf("%s: %v, %v", name, answers, err)
		}
	}
}

package policy

import (
	"reflect"

	"github.com/open-policy-agent/opa/v1/ast"

	"postern/internal/policy/plan"
)

// question is one input for one entry point. It becomes a value as a whole only for who needs that: OPA, and the sentences of reasons.
type question struct {
	entry string
	whole func() *ast.Term
	parts func(path int) (*ast.Term, bool) // what the plan reads of it; nil: it reads the whole
	made  *ast.Term
}

// term returns the whole input.
func (q *question) term() *ast.Term {
	if q.made == nil {
		q.made = q.whole()
	}
	return q.made
}

func (q *question) input() plan.Input { return plan.Input{Whole: q.term, Part: q.parts} }

// accessPart makes the value of one fact.
type accessPart func(*AccessInput) *ast.Term

// accessParts returns what makes the facts that a plan reads by their names, by the number of the path; nil for what is read of the whole input.
func accessParts(paths [][]string) []accessPart {
	parts := make([]accessPart, len(paths))
	for i, names := range paths {
		if len(names) > 0 {
			parts[i] = accessPartOf(names)
		}
	}
	return parts
}

// accessPartOf follows names through the structs of the contract, to a field that is none.
func accessPartOf(names []string) accessPart {
	t, index := reflect.TypeFor[AccessInput](), []int(nil)
	for _, name := range names {
		if t.Kind() != reflect.Struct {
			return nil // a key of a set or table
		}
		at := -1
		for i := range t.NumField() {
			if t.Field(i).Tag.Get("json") == name {
				at = i
			}
		}
		if at < 0 {
			return nil // no field: the whole input has none either
		}
		t, index = t.Field(at).Type, append(index, at)
	}
	value := func(in *AccessInput) reflect.Value { return reflect.ValueOf(in).Elem().FieldByIndex(index) }
	switch {
	case t == reflect.TypeFor[[]ExceptionFacts]():
		return func(in *AccessInput) *ast.Term { return exceptionTerms(in.Exceptions)[1] }
	case t == reflect.TypeFor[map[string]bool]():
		return func(in *AccessInput) *ast.Term { return setTerm(*value(in).Addr().Interface().(*map[string]bool)) }
	case t == reflect.TypeFor[map[string]string]():
		return func(in *AccessInput) *ast.Term {
			return tableTerm(*value(in).Addr().Interface().(*map[string]string))
		}
	case t == reflect.TypeFor[[]string]():
		return func(in *AccessInput) *ast.Term { return arrayTerm(*value(in).Addr().Interface().(*[]string)) }
	case t.Kind() == reflect.String:
		return func(in *AccessInput) *ast.Term { return textTerm(value(in).String()) }
	case t.Kind() == reflect.Bool:
		return func(in *AccessInput) *ast.Term { return ast.InternedTerm(value(in).Bool()) }
	case t.Kind() == reflect.Int, t.Kind() == reflect.Int64:
		return func(in *AccessInput) *ast.Term { return numberTerm(value(in).Int()) }
	}
	return nil // a struct
}

// aboutAccess is a question about a request.
func (e *Engine) aboutAccess(in *AccessInput) *question {
	return &question{entry: "access", whole: func() *ast.Term { return in.valueWith(e.terms.of(in)) }, parts: func(path int) (*ast.Term, bool) {
		if part := e.parts[path]; part != nil {
			return part(in), true
		}
		return nil, false
	}}
}

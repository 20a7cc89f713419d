package policy

import (
	"reflect"
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"

	"postern/internal/policy/plan"
)

// question is one input for one entry point. It becomes a value as a whole only for who needs that: OPA, and a policy that reads all of it.
type question struct {
	entry  string
	whole  func() *ast.Term
	made   *ast.Term    // by whole
	access *AccessInput // that it is about, if it is about one
	parts  []accessPart // of it that the plan reads
}

// term returns the whole input.
func (q *question) term() *ast.Term {
	if q.made == nil {
		q.made = q.whole()
	}
	return q.made
}

// input is the question for a plan.
func (q *question) input() plan.Input {
	if q.access == nil {
		return plan.Input{Whole: q.term}
	}
	return plan.Input{Whole: q.term, Part: func(path int) (*ast.Term, bool) {
		if part := q.parts[path]; part != nil {
			return part(q.access), true
		}
		return nil, false
	}}
}

// fact returns the fact of a name, such as device.id, nil where there is none.
func (q *question) fact(name string) *ast.Term {
	if part := accessFacts[name]; part != nil && q.access != nil {
		return part(q.access)
	}
	return below(q.term(), name)
}

// accessPart makes the value of one fact.
type accessPart func(*AccessInput) *ast.Term

// accessFacts make every fact of the contract that is no group of facts, by its name.
var accessFacts = partsOf(map[string]accessPart{}, reflect.TypeFor[AccessInput](), "", nil)

func partsOf(all map[string]accessPart, t reflect.Type, prefix string, index []int) map[string]accessPart {
	for i := range t.NumField() {
		f := t.Field(i)
		name, at := prefix+f.Tag.Get("json"), append(slices.Clone(index), i)
		if f.Type.Kind() == reflect.Struct {
			partsOf(all, f.Type, name+".", at)
		} else {
			all[name] = accessPartOf(f, at)
		}
	}
	return all
}

// accessParts returns what makes the facts that a plan reads by their names, by the number of the path; nil for what is read of the whole input.
func accessParts(paths [][]string) []accessPart {
	parts := make([]accessPart, len(paths))
	for i, names := range paths {
		parts[i] = accessFacts[strings.Join(names, ".")]
	}
	return parts
}

// accessPartOf makes the value of a field of the contract.
func accessPartOf(f reflect.StructField, index []int) accessPart {
	t, words := f.Type, wordsOf(f.Tag.Get("enum"))
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
		return func(in *AccessInput) *ast.Term {
			s := value(in).String()
			if t := words[s]; t != nil {
				return t
			}
			return textTerm(s)
		}
	case t.Kind() == reflect.Bool:
		return func(in *AccessInput) *ast.Term { return ast.InternedTerm(value(in).Bool()) }
	case t.Kind() == reflect.Int, t.Kind() == reflect.Int64:
		return func(in *AccessInput) *ast.Term { return numberTerm(value(in).Int()) }
	}
	panic("a fact of another type: " + f.Name)
}

// wordsOf returns the terms of what a field nearly always is.
func wordsOf(enum string) map[string]*ast.Term {
	if enum == "" {
		return nil
	}
	words := map[string]*ast.Term{}
	for word := range strings.SplitSeq(enum, ",") {
		words[word] = textTerm(word)
	}
	return words
}

// aboutAccess is a question about a request.
func (e *Engine) aboutAccess(in *AccessInput) *question {
	return &question{entry: "access", whole: in.value, access: in, parts: e.parts}
}

package policy

import (
	"reflect"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"

	"postern/internal/policy/plan"
)

// question is one input for one entry point. It becomes a value as a whole only for who needs that: OPA, and a policy that reads all of it.
type question struct {
	entry  string
	whole  func() *ast.Term // nil: of access
	made   *ast.Term        // the whole
	access *AccessInput     // that it is about, if it is about one
	parts  []accessPart     // of it that the plan reads
}

// term returns the whole input.
func (q *question) term() *ast.Term {
	switch {
	case q.made != nil:
	case q.whole != nil:
		q.made = q.whole()
	default:
		q.made = q.access.value()
	}
	return q.made
}

// input is the question for a plan.
func (q *question) input() plan.Input {
	if q.access == nil {
		return plan.Input{Whole: q.term}
	}
	return plan.Input{Whole: q.term, Parts: q}
}

// Kind implements plan.Parts.
func (q *question) Kind(path int) plan.Kind { return q.parts[path].kind }

// Term implements plan.Parts.
func (q *question) Term(path int) *ast.Term { return q.parts[path].term(q.access) }

// Text implements plan.Parts.
func (q *question) Text(path int) string { return *q.parts[path].at(q.access).(*string) }

// Number implements plan.Parts.
func (q *question) Number(path int) int64 { return q.parts[path].number(q.access) }

// Set implements plan.Parts.
func (q *question) Set(path int) map[string]bool {
	m := *q.parts[path].at(q.access).(*map[string]bool)
	if m == nil {
		return noNames // what is not known is what there is none of
	}
	return m
}

var noNames = map[string]bool{}

// fact returns the fact of a name, such as device.id, nil where there is none.
func (q *question) fact(name string) *ast.Term {
	if part := accessFacts[name]; part != nil && q.access != nil {
		return part.term(q.access)
	}
	return below(q.term(), name)
}

// accessPart is one fact of the contract.
type accessPart struct {
	kind  plan.Kind
	at    func(*AccessInput) any
	words map[string]*ast.Term // of what it nearly always is
}

// accessFacts are every fact of the contract that is no group of facts, by its name.
var accessFacts = partsOf(map[string]*accessPart{}, reflect.TypeFor[AccessInput](), "")

func partsOf(all map[string]*accessPart, t reflect.Type, prefix string) map[string]*accessPart {
	for i := range t.NumField() {
		f := t.Field(i)
		name := prefix + f.Tag.Get("json")
		if f.Type.Kind() == reflect.Struct {
			partsOf(all, f.Type, name+".")
		} else {
			all[name] = accessPartOf(accessFields[name], f.Tag.Get("enum"))
		}
	}
	return all
}

// accessParts returns the facts that a plan reads by their names, by the number of the path; of no kind is what is read of the whole input.
func accessParts(paths [][]string) []accessPart {
	parts := make([]accessPart, len(paths))
	for i, names := range paths {
		if part := accessFacts[strings.Join(names, ".")]; part != nil {
			parts[i] = *part
		}
	}
	return parts
}

func accessPartOf(at func(*AccessInput) any, enum string) *accessPart {
	p := &accessPart{kind: plan.KindTerm, at: at, words: wordsOf(enum)}
	switch at(&AccessInput{}).(type) {
	case *string:
		p.kind = plan.KindText
	case *int, *int64:
		p.kind = plan.KindNumber
	case *map[string]bool:
		p.kind = plan.KindSet
	}
	return p
}

func (p *accessPart) number(in *AccessInput) int64 {
	if n, ok := p.at(in).(*int); ok {
		return int64(*n)
	}
	return *p.at(in).(*int64)
}

// term makes the value.
func (p *accessPart) term(in *AccessInput) *ast.Term {
	switch v := p.at(in).(type) {
	case *string:
		if t := p.words[*v]; t != nil {
			return t
		}
		return textTerm(*v)
	case *bool:
		return ast.InternedTerm(*v)
	case *int:
		return numberTerm(int64(*v))
	case *int64:
		return numberTerm(*v)
	case *map[string]bool:
		return setTerm(*v)
	case *map[string]string:
		return tableTerm(*v)
	case *[]string:
		return arrayTerm(*v)
	case *[]ExceptionFacts:
		return exceptionTerms(*v)[1]
	}
	panic("a fact of another type") // of none: a test reads them all
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
	return &question{entry: "access", access: in, parts: e.parts}
}

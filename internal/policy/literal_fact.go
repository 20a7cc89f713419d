package policy

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
)

// facts compares what rules ask of the input with what there can be: a comparison that can never hold is a rule that never speaks, and nobody would notice.
type facts struct {
	schema   any               // of the input
	data     map[string]any    // beside the policies
	names    map[string]string // what imports call parts of it: "device" is input.device
	bound    bindings          // of the rule that is looked at
	groups   []string          // nil: any, for a policy that replaces the built-in one
	zones    []string
	checked  bool // groups and zones
	problems []Problem
	warnings []Problem
}

// askable checks the rules of others than the product. Warnings are of what may be right: names of systems that MDMs make, and names that data lists.
func (p *program) askable() (problems, warnings []Problem) {
	for _, f := range p.files {
		m := p.modules[f.name]
		if m == nil || f.builtin || f.test() {
			continue
		}
		path := groundPath(m.Package.Path)
		if len(path) < 3 || path[1] != "postern" || !slices.Contains(entries, path[2]) {
			continue // a library of a policy that replaces the built-in one
		}
		x := &facts{schema: inputSchema(path[2]), data: p.data, names: map[string]string{}, checked: !p.replaced && !p.unreadable}
		groups, _ := p.data["groups"].(map[string]any)
		x.groups = slices.Sorted(maps.Keys(groups))
		for _, key := range []string{"networks", "countries"} {
			named, _ := p.data[key].(map[string]any)
			for name := range named {
				x.zones = append(x.zones, zoneOf(name))
			}
		}
		slices.Sort(x.zones)
		x.module(m)
		problems, warnings = append(problems, x.problems...), append(warnings, x.warnings...)
	}
	return problems, warnings
}

func (x *facts) module(m *ast.Module) {
	for _, i := range m.Imports {
		if ref, ok := i.Path.Value.(ast.Ref); ok && len(ref) > 1 && ref[0].Equal(ast.InputRootDocument) {
			name := string(i.Alias)
			if last, text := ref[len(ref)-1].Value.(ast.String); name == "" && text {
				name = string(last)
			}
			x.names[name] = strings.Join(groundPath(ref)[1:], ".")
		}
	}
	for _, r := range m.Rules {
		x.bound = x.bindings(r)
		ast.WalkTerms(r, func(t *ast.Term) bool {
			switch v := t.Value.(type) {
			case ast.Ref:
				x.member(v)
			case ast.Call:
				x.operation(v[0].String(), v[1:])
			}
			return false
		})
		ast.WalkExprs(r, func(e *ast.Expr) bool {
			x.expression(e)
			return false
		})
	}
}

// expression looks at what a condition compares, and at what it goes through.
func (x *facts) expression(e *ast.Expr) {
	switch terms := e.Terms.(type) {
	case []*ast.Term:
		x.operation(terms[0].String(), terms[1:])
	case *ast.SomeDecl:
		for _, s := range terms.Symbols {
			if call, ok := s.Value.(ast.Call); ok && len(call) == 3 && call[0].String() == "internal.member_2" {
				x.through("some", call[1], call[2])
			}
		}
	case *ast.Every:
		if terms.Key == nil {
			x.through("every", terms.Value, terms.Domain)
		}
	}
}

// through objects to going through the values of a mapping whose keys are what is meant.
func (x *facts) through(word string, each, all *ast.Term) {
	if m := x.elements(all); m.values != "" {
		x.add(all, fmt.Sprintf("write %s %s, _ in input.%s", word, each, m.values), "input.%s is a mapping of names to true, of which %s %s in sees true and never a name", m.values, word, each)
	}
}

// operation objects to an operator or a function by which a fact is compared with a literal that it can never be.
func (x *facts) operation(op string, args []*ast.Term) {
	switch {
	case op == "object.get" && len(args) == 3:
		x.get(args[0], args[1])
	case len(args) != 2:
	case slices.Contains([]string{"lt", "lte", "gt", "gte"}, op):
		for i := range args {
			if fact := x.meaning(args[i]).fact; fact != "" {
				x.order(fact, args[1-i])
			}
		}
	case slices.Contains([]string{"equal", "eq", "neq"}, op):
		x.compare(x.meaning(args[0]), x.meaning(args[1]))
	case op == "internal.member_2":
		x.in(args[0], args[1])
	case op == "and": // of two sets
		x.compare(x.elements(args[0]), x.elements(args[1]))
	}
}

// in looks at "one in all".
func (x *facts) in(one, all *ast.Term) {
	each, among := x.meaning(one), x.elements(all)
	if among.values == "" {
		x.compare(each, among)
		return
	}
	if kind, _ := x.of(each.fact)["type"].(string); len(each.words) == 0 && each.keys == "" && kind != "string" {
		return
	}
	advice := fmt.Sprintf("write input.%s[%s]", among.values, one)
	if x.checked && len(each.words) == 1 {
		if known := x.known(among.values); known != nil && !slices.Contains(known, string(each.words[0].word)) {
			advice += closestTo("; ", string(each.words[0].word), known)
		}
	}
	x.add(one, advice, "input.%s is a mapping of names to true, of which in sees true and never a name", among.values)
}

// closestTo is a suggestion behind others.
func closestTo(separator, have string, names []string) string {
	if advice := closest(have, names); advice != "" {
		return separator + advice
	}
	return ""
}

// known returns the names that a mapping of facts may have; nil for one whose names nobody can know.
func (x *facts) known(mapping string) []string {
	switch mapping {
	case "owner.groups":
		return append([]string{}, x.groups...)
	case "request.zones":
		return append([]string{}, x.zones...)
	}
	return nil
}

// compare objects to words that the other side is never.
func (x *facts) compare(a, b meaning) {
	for _, side := range [][2]meaning{{a, b}, {b, a}} {
		for _, w := range side[1].words {
			if side[0].fact != "" {
				x.among(side[0].fact, w)
			}
			if side[0].keys != "" {
				x.named(side[0].keys, w)
			}
		}
	}
}

// member looks at a reference that names a group or zone, itself or by a variable.
func (x *facts) member(ref ast.Ref) {
	for i := 1; i < len(ref); i++ {
		if mapping := x.meaning(ast.NewTerm(ref[:i])).fact; mapping != "" && x.ofNames(mapping) {
			for _, w := range x.meaning(ref[i]).words {
				x.named(mapping, w)
			}
			return
		}
	}
}

// get looks at object.get(mapping, name, otherwise), of which name may be a path.
func (x *facts) get(of, name *ast.Term) {
	mapping := x.meaning(of).fact
	steps := []*ast.Term{name}
	if path, is := name.Value.(*ast.Array); is {
		steps = nil
		path.Foreach(func(t *ast.Term) { steps = append(steps, t) })
	}
	for i, step := range steps {
		words := x.meaning(step).words
		if mapping == "" && !of.Equal(ast.NewTerm(ast.InputRootRef)) || len(words) == 0 {
			return
		}
		if x.ofNames(mapping) {
			for _, w := range words {
				x.named(mapping, w)
			}
			return
		}
		mapping = strings.TrimPrefix(mapping+"."+string(words[0].word), ".")
		if x.of(mapping) == nil {
			x.add(steps[i], "", "input.%s does not exist", mapping)
			return
		}
	}
}

// named objects to a name that a mapping of facts never has.
func (x *facts) named(mapping string, w word) {
	name := string(w.word)
	switch {
	case mapping == "owner.groups" && x.checked && !slices.Contains(x.groups, name):
		x.doubt(w, orAdd(name, x.groups, "groups: {%s: []}"), "data.groups has no group %s, so nobody is ever in it", name)
	case mapping == "request.zones" && x.checked && !slices.Contains(x.zones, name):
		x.doubt(w, orAdd(name, x.zones, "networks: {%s: []}"), "neither data.networks nor data.countries has a zone %s (in lower case), so nobody is ever in it", name)
	case slices.Contains([]string{"owner.names", "owner.delegations", "credential.names"}, mapping) && strings.ToLower(name) != name:
		x.doubt(w, fmt.Sprintf("did you mean %q?", strings.ToLower(name)), "names in input.%s are in lower case, so none is ever %q", mapping, name)
	}
}

func orAdd(name string, known []string, form string) string {
	if advice := didYouMean(name, known); advice != "" {
		return advice
	}
	return fmt.Sprintf("define it in a .yaml beside the rule: "+form, name)
}

// order objects to a number that is compared with a text, or a text with a number: OPA sorts all numbers before all texts, so it holds always or never.
func (x *facts) order(name string, other *ast.Term) {
	kind, _ := x.of(name)["type"].(string)
	_, number := other.Value.(ast.Number)
	switch {
	case kind == "integer" && isText(other):
		x.add(other, "write the number without quotes", "input.%s is a number, and is compared with the text %s", name, other)
	case kind == "string" && number:
		x.add(other, "versions are compared as numbers, as input.device.os_number (17.5.1 is 17005001) and input.request.version (16.1 is 161)",
			"input.%s is a text, and is compared with the number %s", name, other)
	case kind == "boolean" && (number || isText(other)):
		x.add(other, "", "input.%s is true or false, and is compared with %s", name, other)
	}
}

// inLowerCase are facts that are any text, but never one with capitals.
var inLowerCase = []string{"request.command", "request.host", "claimed.device_type", "owner.mail", "owner.oid", "owner.tid"}

// wordsOf returns the words that a fact may be; nil for one that may be any.
func (x *facts) wordsOf(fact string) (known []string) {
	switch fact {
	case "claimed.family":
		return clientFamilies
	case "claimed.platform":
		return claimedPlatforms
	case "request.command":
		return slices.Concat(commands, otherCommands)
	}
	words, _ := x.of(fact)["enum"].([]any)
	for _, w := range words {
		if w, _ := w.(string); w != "" {
			known = append(known, w)
		}
	}
	return known
}

// among objects to a word that is none of those that a fact may be.
func (x *facts) among(fact string, w word) {
	name := string(w.word)
	if name == "" {
		return
	}
	lower := strings.ToLower(name)
	known := x.wordsOf(fact)
	switch {
	case slices.Contains(known, name):
	case (fact == "device.os" || fact == "claimed.platform") && PlatformOf(name) != name:
		x.doubt(w, "did you mean "+PlatformOf(name)+"?", "input.%s is never %q", fact, name)
	case fact == "device.os" && !slices.Contains(platforms, name):
		w.from = "the rule"
		x.doubt(w, didYouMean(name, platforms), "input.%s is %q only if an MDM reports a system of this name", fact, name)
	case slices.Contains(inLowerCase, fact) && lower != name:
		x.doubt(w, fmt.Sprintf("did you mean %q?", lower), "input.%s is in lower case, so it is never %q", fact, name)
	case fact == "request.method" && strings.ToUpper(name) != name:
		x.doubt(w, fmt.Sprintf("did you mean %q?", strings.ToUpper(name)), "input.%s is in capitals, so it is never %q", fact, name)
	case len(known) > 0:
		advice := didYouMean(lower, known)
		if strings.HasPrefix(advice, "did") {
			advice += " There are " + strings.Join(known, ", ")
		}
		x.doubt(w, advice, "input.%s is never %q", fact, name)
	}
}

// of returns the schema of a fact; nil where there is none, of which the compiler will say so.
func (x *facts) of(name string) map[string]any {
	at, _ := x.schema.(map[string]any)
	for step := range strings.SplitSeq(name, ".") {
		properties, _ := at["properties"].(map[string]any)
		next, ok := properties[step].(map[string]any)
		if !ok {
			next, _ = at["additionalProperties"].(map[string]any)
		}
		at = next
	}
	return at
}

// ofNames reports whether a fact is a mapping of names to true.
func (x *facts) ofNames(name string) bool {
	each, _ := x.of(name)["additionalProperties"].(map[string]any)
	return each["type"] == "boolean"
}

// doubt is a problem for a word of the rule, and a warning for one that comes from elsewhere.
func (x *facts) doubt(w word, advice, format string, args ...any) {
	if w.from == "" {
		x.add(w.at, advice, format, args...)
		return
	}
	message := fmt.Sprintf(format, args...)
	if strings.HasPrefix(w.from, "data.") {
		message = w.from + ": " + message
	}
	x.warnings = append(x.warnings, at(w.at.Location, message, advice))
}

func (x *facts) add(t *ast.Term, advice, format string, args ...any) {
	p := Problem{Message: fmt.Sprintf(format, args...), Advice: advice}
	if l := t.Location; l != nil {
		p.File, p.Line, p.Column = l.File, l.Row, l.Col
	}
	if !slices.Contains(x.problems, p) {
		x.problems = append(x.problems, p)
	}
}

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
	names    map[string]string // what imports call parts of it: "device" is input.device
	groups   []string          // nil: any, for a policy that replaces the built-in one
	zones    []string
	checked  bool // groups and zones
	problems []Problem
}

// askable checks the rules of others than the product.
func (p *program) askable() (problems []Problem) {
	for _, f := range p.files {
		m := p.modules[f.name]
		if m == nil || f.builtin || f.test() {
			continue
		}
		path := groundPath(m.Package.Path)
		if len(path) < 3 || path[1] != "postern" || !slices.Contains(entries, path[2]) {
			continue // a library of a policy that replaces the built-in one
		}
		x := &facts{schema: inputSchema(path[2]), names: map[string]string{}, checked: !p.replaced}
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
		problems = append(problems, x.problems...)
	}
	return problems
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
		ast.WalkRefs(r, func(ref ast.Ref) bool {
			x.member(ref)
			return false
		})
		ast.WalkExprs(r, func(e *ast.Expr) bool {
			x.comparison(e)
			return false
		})
	}
}

// fact returns the path of a fact of the input, "device.os", and false for any other term.
func (x *facts) fact(t *ast.Term) (string, bool) {
	ref, ok := t.Value.(ast.Ref)
	if !ok || !ref.IsGround() && len(groundPath(ref)) < len(ref) {
		return "", false
	}
	path := groundPath(ref)
	if len(path) < 2 || len(path) != len(ref) {
		return "", false
	}
	if path[0] == "input" {
		return strings.Join(path[1:], "."), true
	}
	under, imported := x.names[path[0]]
	return under + "." + strings.Join(path[1:], "."), imported
}

// member objects to a group or zone that no data defines.
func (x *facts) member(ref ast.Ref) {
	name, ok := x.fact(ast.NewTerm(ref))
	if !ok || !x.checked {
		return
	}
	if group, is := strings.CutPrefix(name, "owner.groups."); is && !slices.Contains(x.groups, group) {
		x.add(ref[len(ref)-1], orAdd(group, x.groups, "groups: {%s: []}"), "data.groups has no group %s, so nobody is ever in it", group)
	}
	if zone, is := strings.CutPrefix(name, "request.zones."); is && !slices.Contains(x.zones, zone) {
		x.add(ref[len(ref)-1], orAdd(zone, x.zones, "networks: {%s: []}"), "neither data.networks nor data.countries has a zone %s (in lower case), so nobody is ever in it", zone)
	}
}

func orAdd(name string, known []string, form string) string {
	if advice := didYouMean(name, known); advice != "" {
		return advice
	}
	return fmt.Sprintf("define it in a .yaml beside the rule: "+form, name)
}

// comparison objects to a condition that compares a fact with a literal that it can never be.
func (x *facts) comparison(e *ast.Expr) {
	terms, ok := e.Terms.([]*ast.Term)
	if !ok || len(terms) != 3 {
		return
	}
	op := terms[0].String()
	for i, t := range terms[1:] {
		name, is := x.fact(t)
		other := terms[2-i]
		switch {
		case !is:
		case slices.Contains([]string{"lt", "lte", "gt", "gte"}, op):
			x.order(name, other)
		case slices.Contains([]string{"equal", "eq", "neq"}, op):
			x.among(name, other)
		case op == "internal.member_2" && i == 0:
			each := func(el *ast.Term) { x.among(name, el) }
			switch v := other.Value.(type) {
			case ast.Set:
				v.Foreach(each)
			case *ast.Array:
				v.Foreach(each)
			}
		}
	}
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

// among objects to a word that is none of those that a fact may be.
func (x *facts) among(name string, other *ast.Term) {
	s, text := other.Value.(ast.String)
	if !text || s == "" {
		return
	}
	word := string(s)
	var known []string
	if name == "claimed.family" {
		known = clientFamilies
	}
	words, _ := x.of(name)["enum"].([]any)
	for _, w := range words {
		if w, _ := w.(string); w != "" {
			known = append(known, w)
		}
	}
	if len(known) > 0 && !slices.Contains(known, word) {
		advice := didYouMean(strings.ToLower(word), known)
		if strings.HasPrefix(advice, "did") {
			advice += " There are " + strings.Join(known, ", ")
		}
		x.add(other, advice, "input.%s is never %q", name, word)
		return
	}
	switch {
	case (name == "device.os" || name == "claimed.platform") && PlatformOf(word) != word:
		x.add(other, "did you mean "+PlatformOf(word)+"?", "input.%s is never %q", name, word)
	case name == "request.command" && strings.ToLower(word) != word:
		x.add(other, fmt.Sprintf("did you mean %q?", strings.ToLower(word)), "input.%s is in lower case, so it is never %q", name, word)
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

func (x *facts) add(t *ast.Term, advice, format string, args ...any) {
	p := Problem{Message: fmt.Sprintf(format, args...), Advice: advice}
	if l := t.Location; l != nil {
		p.File, p.Line, p.Column = l.File, l.Row, l.Col
	}
	x.problems = append(x.problems, p)
}

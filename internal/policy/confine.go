package policy

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
)

// entries are the entry points: data.postern.ENTRY.decision. A team package belongs to exactly one.
var entries = []string{"access", "enroll", "lifecycle"}

// teamHeads are the only rules that a team package may define.
var teamHeads = []string{"deny", "except", "quarantine"}

var teamName = regexp.MustCompile(`^[a-z][a-z0-9_]*$`)

// confinement checks team files before they are compiled: they add denials, quarantines and exceptions and can touch nothing else.
type confinement struct {
	builtin  map[string]bool // "access.managed_profile": a built-in rule that a team may read
	data     map[string]any  // the documents that data files define
	problems []Problem

	unreadable bool // not all of them are there
}

func (c *confinement) add(loc *ast.Location, advice, format string, args ...any) {
	p := Problem{Message: fmt.Sprintf(format, args...), Advice: advice}
	if loc != nil {
		p.File, p.Line, p.Column = loc.File, loc.Row, loc.Col
	}
	c.problems = append(c.problems, p)
}

// entryOf returns the entry point that the package of a team belongs to, or "".
func entryOf(pkg *ast.Package) string {
	names := groundPath(pkg.Path)
	if len(names) == 5 && names[1] == "postern" && slices.Contains(entries, names[2]) && names[3] == "team" && teamName.MatchString(names[4]) {
		return names[2]
	}
	return ""
}

// groundPath returns the leading elements of a reference that are known without evaluation, beginning with its root.
func groundPath(ref ast.Ref) []string {
	var path []string
	for i, t := range ref {
		switch v := t.Value.(type) {
		case ast.Var:
			if i > 0 {
				return path
			}
			path = append(path, string(v))
		case ast.String:
			path = append(path, string(v))
		default:
			return path
		}
	}
	return path
}

// module checks one file of a team.
func (c *confinement) module(m *ast.Module, test bool) {
	entry := entryOf(m.Package)
	if entry == "" {
		c.add(m.Package.Location, "use postern.access.team.NAME, postern.enroll.team.NAME or postern.lifecycle.team.NAME", "package %s is not a team package",
			strings.TrimPrefix(m.Package.Path.String(), "data."))
		return
	}
	for _, i := range m.Imports {
		c.imported(i, entry, test)
	}
	for _, r := range m.Rules {
		if test {
			c.testRule(r)
		} else {
			c.rule(r)
			c.said(r)
		}
	}
	if test {
		return
	}
	ast.WalkWiths(m, func(w *ast.With) bool {
		c.add(w.Location, "move it to a file named *_test.rego", "with is for tests: a policy decides about the facts that there are")
		return false
	})
	for _, r := range m.Rules {
		ast.WalkRefs(r, func(ref ast.Ref) bool {
			c.reads(ref, entry)
			return false
		})
	}
}

// rule accepts "deny contains reason if", "quarantine contains reason if" and "except contains exception if", with a condition.
func (c *confinement) rule(r *ast.Rule) {
	h := r.Head
	name := h.Ref().String()
	const advice = "write deny contains reason if, quarantine contains reason if, or except contains exception if"
	switch {
	case r.Default:
		c.add(r.Location, advice, "default %s: a team package has no defaults", name)
	case len(h.Args) > 0:
		c.add(r.Location, advice, "%s is a function: a team package defines sets only", name)
	case len(h.Ref()) != 1 || !slices.Contains(teamHeads, string(h.Name)):
		c.add(r.Location, advice, "%s may not be defined in a team package", name)
	case h.RuleKind() != ast.MultiValue:
		c.add(r.Location, advice, "%s must be a set", name)
	case r.Else != nil:
		c.add(r.Else.Location, advice, "else has no place in a team package")
	case unconditional(r.Body):
		c.add(r.Location, "add if with the facts that it is about", "%s without a condition would be said of every request", name)
	}
}

func unconditional(body ast.Body) bool {
	return len(body) == 1 && len(body[0].With) == 0 && body[0].Equal(ast.NewExpr(ast.BooleanTerm(true)))
}

// testRule keeps tests from changing what they test.
func (c *confinement) testRule(r *ast.Rule) {
	if slices.Contains(teamHeads, string(r.Head.Name)) {
		c.add(r.Location, "move it to a file that is not named *_test.rego", "%s in a test file would be tested and never decide", r.Head.Name)
	}
}

func (c *confinement) imported(i *ast.Import, entry string, test bool) {
	path, ok := i.Path.Value.(ast.Ref)
	if !ok {
		c.add(i.Location, "", "import of something that is not a document")
		return
	}
	if i.Alias == "input" || i.Alias == "data" || slices.Contains(teamHeads, string(i.Alias)) {
		c.add(i.Location, "choose another name", "import as %s would hide what that name means", i.Alias)
	}
	switch root := groundPath(path); {
	case path.String() == "rego.v1", len(root) > 0 && root[0] == "input":
	case len(root) > 1 && root[0] == "data":
		if !test {
			c.reads(path, entry)
		}
	default:
		c.add(i.Location, "import input or data only", "import %s is not available to a team package", path)
	}
}

// reads checks what a reference reads: documents from data files, the configuration, and the definitions of the package's own entry point.
func (c *confinement) reads(ref ast.Ref, entry string) {
	if len(ref) == 0 || !ref[0].Equal(ast.DefaultRootDocument) {
		return
	}
	path, loc := groundPath(ref), ref[0].Location
	if len(path) < 2 {
		c.add(loc, "name the document", "%s: which document of data is read must be known without evaluating it", ref)
		return
	}
	if path[1] != "postern" {
		if _, ok := c.data[path[1]]; !ok && !c.unreadable {
			c.add(loc, c.missing(path[1]), "no data file defines data.%s", path[1])
		}
		return
	}
	if len(path) > 2 && path[2] == "config" {
		return
	}
	if len(path) < 4 || path[2] != entry || path[3] == "team" || path[3] == "decision" {
		c.add(loc, "", "%s may not be read by a team package of %s", ref, entry)
		return
	}
	if !c.builtin[entry+"."+path[3]] {
		c.add(loc, didYouMean(path[3], c.definitions(entry)), "data.postern.%s.%s is not defined", entry, path[3])
	}
}

// missing says what to do about data that a rule reads and nobody has defined.
func (c *confinement) missing(key string) string {
	best := didYouMean(key, slices.DeleteFunc(slices.Sorted(maps.Keys(c.data)), func(name string) bool { return name == "postern" }))
	if strings.HasPrefix(best, "did you mean") {
		return best
	}
	empty := "{}"
	if key == "exceptions" {
		empty = "[]"
	}
	return fmt.Sprintf("add `%s: %s` to a .yaml beside it", key, empty)
}

func (c *confinement) definitions(entry string) []string {
	var names []string
	for name := range c.builtin {
		if rule, ok := strings.CutPrefix(name, entry+"."); ok {
			names = append(names, rule)
		}
	}
	slices.Sort(names)
	return names
}

package policy

import (
	"slices"

	"github.com/open-policy-agent/opa/v1/ast"
)

// clockReads says what the access policy reads of the facts that change by themselves.
type clockReads struct {
	untold   bool // input.now, in a rule for which valid_until does not answer
	told     bool // input.now, in a policy that replaces the built-in one: it answers itself, by valid_until
	snapshot bool // input.snapshot
}

// Every end of a built-in rule that reads the clock is among the ends of valid_until, whether the decision needed it or not, so what a team makes of such a
// rule holds as long. The exceptions and break-glass accounts are not: only those that were applied end a decision.
var untoldRules = []string{"exceptions", "glass"}

// clockOf finds out what the compiled policy reads. A reference to the whole input, or to a part of it that is known only during evaluation, may be to
// anything.
func (p *program) clockOf(c *ast.Compiler) clockReads {
	var reads clockReads
	for name, m := range c.Modules {
		builtin := slices.ContainsFunc(p.files, func(f file) bool { return f.name == name && f.builtin })
		for _, r := range m.Rules {
			now, snapshot := readsOf(r)
			reads.snapshot = reads.snapshot || snapshot
			switch {
			case p.replaced:
				reads.told = reads.told || now
			case !builtin:
				reads.untold = reads.untold || now || reaches(c, r, untoldRules)
			}
		}
	}
	return reads
}

// readsOf reports whether a rule itself refers to input.now and input.snapshot.
func readsOf(r *ast.Rule) (now, snapshot bool) {
	ast.WalkRefs(r, func(ref ast.Ref) bool {
		if len(ref) == 0 || !ref[0].Equal(ast.InputRootDocument) {
			return false
		}
		field := ""
		if len(ref) > 1 {
			name, _ := ref[1].Value.(ast.String)
			field = string(name)
		}
		now, snapshot = now || field == "now" || field == "", snapshot || field == "snapshot" || field == ""
		return false
	})
	return now, snapshot
}

// reaches reports whether a rule depends, however indirectly, on a rule of one of the names.
func reaches(c *ast.Compiler, from *ast.Rule, names []string) bool {
	seen := map[any]bool{}
	var walk func(r *ast.Rule) bool
	walk = func(r *ast.Rule) bool {
		if seen[r] {
			return false
		}
		seen[r] = true
		for d := range c.Graph.Dependencies(r) {
			next, ok := d.(*ast.Rule)
			if ok && (slices.Contains(names, next.Head.Ref().String()) || walk(next)) {
				return true
			}
		}
		return false
	}
	return walk(from)
}

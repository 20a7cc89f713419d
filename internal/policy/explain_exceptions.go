package policy

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/rego"

	"postern/internal/trust"
)

// nameExceptions says of the exceptions that rules of teams grant for the reasons of a refusal why they did not help. Those that were granted by command the
// decision itself names, while they hold.
func (p *program) nameExceptions(ctx context.Context, in *ast.Term, d *Decision) error {
	if p.replaced || d.Action == trust.Allow || !p.hasExceptions() {
		return nil
	}
	query, _, problems, err := p.query(ctx, "access", "granted := {[name, e] | some name; some e in data.postern.access.team[name].except}; asks := {true | data.postern.access.owner_asks}")
	if err != nil || len(problems) > 0 {
		return err
	}
	rs, err := query.Eval(ctx, rego.EvalParsedInput(in.Value))
	if err != nil || len(rs) != 1 {
		return err
	}
	granted, _ := rs[0].Bindings["granted"].(ast.Set)
	asks, _ := rs[0].Bindings["asks"].(ast.Set)
	if granted == nil || asks == nil {
		return nil
	}
	for _, t := range granted.Slice() {
		pair, _ := t.Value.(*ast.Array)
		e, ok := pair.Elem(1).Value.(ast.Object)
		if !ok || readException(pair.Elem(1)) != nil {
			continue // the decision is a fault, and says so
		}
		until, _ := strconv.ParseInt(plain(part(e, "until")), 10, 64)
		reasons := strings.Split(plain(part(e, "reasons")), ", ")
		for i := range d.Reasons {
			r := &d.Reasons[i]
			why := whyNot(in, r.Code, until, asks.Len() > 0)
			if !slices.Contains(reasons, r.Code) || why == "" {
				continue
			}
			r.Text += fmt.Sprintf(" The exception %s, granted by %s until %s in package postern.access.team.%s, does not help: %s.", plain(part(e, "id")), plain(part(e, "granted_by")),
				show(strconv.FormatInt(until, 10), "|time"), plain(pair.Elem(0)), why)
		}
	}
	return nil
}

// whyNot says why an exception does not lift a reason; empty where that cannot be told.
func whyNot(in *ast.Term, code string, until int64, ownerAsks bool) string {
	fact := func(path ...string) string {
		at := make(ast.Ref, len(path))
		for i, name := range path {
			at[i] = ast.StringTerm(name)
		}
		if v, err := in.Value.Find(at); err == nil {
			return plain(ast.NewTerm(v))
		}
		return ""
	}
	now, _ := strconv.ParseInt(fact("now"), 10, 64)
	switch {
	case !Liftable(code):
		return "no exception lifts " + code
	case now >= until:
		return "it has ended"
	case slices.Contains(withheldCodes, code) && fact("device", "revoked") == "true":
		return "the newest certificate of the device " + fact("device", "id") + " is revoked or on hold, and no exception makes up for that"
	case !ownerAsks:
		return "it is for the owner of a known device, and whoever asks is not shown to be that"
	}
	return ""
}

// hasExceptions reports whether a rule of a team grants any.
func (p *program) hasExceptions() bool {
	for _, f := range p.files {
		m := p.modules[f.name]
		if m == nil || f.builtin || f.test() || entryOf(m.Package) != "access" {
			continue
		}
		if slices.ContainsFunc(m.Rules, func(r *ast.Rule) bool { return string(r.Head.Name) == "except" }) {
			return true
		}
	}
	return false
}

package plan

import (
	"cmp"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/ir"
)

// agreed returns what every rule of a function says that holds, and the local that it says it in, or nil if that is not one and the same constant. OPA is then
// done with the first rule that holds, in the order of the files, and so is the function. Where the planner has put them into another order nothing is agreed:
// a rule that is not looked at has no errors.
func (c *compiler) agreed(f *ir.Func) (result ir.Local, same *ast.Term) {
	if !c.inOrder(f.Blocks) {
		return 0, nil
	}
	ends := map[ir.Local]bool{} // the locals that the function returns
	each(f.Blocks, func(s ir.Stmt) {
		if a, ok := s.(*ir.AssignVarOnceStmt); ok && a.Target == f.Return {
			if l, ok := a.Source.Value.(ir.Local); ok {
				ends[l] = true
			}
		}
	})
	if len(ends) != 1 {
		return 0, nil
	}
	agree := true
	each(f.Blocks, func(s ir.Stmt) {
		a, ok := s.(*ir.AssignVarOnceStmt)
		if !ok || !ends[a.Target] {
			return
		}
		var v *ast.Term
		switch x := a.Source.Value.(type) {
		case ir.Bool:
			v = boolean(bool(x))
		case ir.StringIndex:
			v = c.strings[x]
		}
		agree = agree && v != nil && (same == nil || equal(v, same))
		result, same = a.Target, v
	})
	if !agree {
		return 0, nil
	}
	return result, same
}

// inOrder reports whether blocks come in the order of what they were made of: by name of the file, and place in it.
func (c *compiler) inOrder(blocks []*ir.Block) bool {
	var last *ir.Location
	for _, b := range blocks {
		if len(b.Stmts) == 0 {
			continue
		}
		if _, end := b.Stmts[0].(*ir.IsDefinedStmt); end {
			continue // what a rule said is taken over
		}
		if _, end := b.Stmts[0].(*ir.ReturnLocalStmt); end {
			continue
		}
		if _, fallback := b.Stmts[0].(*ir.IsUndefinedStmt); fallback {
			continue // the default
		}
		if inner, ok := b.Stmts[0].(*ir.BlockStmt); ok { // a rule with else
			b = inner.Blocks[0]
		}
		at := b.Stmts[0].GetLocation()
		if last != nil && cmp.Or(cmp.Compare(c.file(last), c.file(at)), cmp.Compare(last.Row, at.Row), cmp.Compare(last.Col, at.Col)) > 0 {
			return false
		}
		last = at
	}
	return true
}

func (c *compiler) file(at *ir.Location) string {
	if at.File < 0 || at.File >= len(c.static.Files) {
		return ""
	}
	return c.static.Files[at.File].Value
}

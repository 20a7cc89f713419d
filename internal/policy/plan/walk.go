package plan

import "github.com/open-policy-agent/opa/v1/ir"

// each calls f for every statement, those within others included.
func each(blocks []*ir.Block, f func(ir.Stmt)) {
	for _, b := range blocks {
		for _, s := range b.Stmts {
			f(s)
			switch s := s.(type) {
			case *ir.BlockStmt:
				each(s.Blocks, f)
			case *ir.ScanStmt:
				each([]*ir.Block{s.Block}, f)
			case *ir.NotStmt:
				each([]*ir.Block{s.Block}, f)
			case *ir.WithStmt:
				each([]*ir.Block{s.Block}, f)
			}
		}
	}
}

// replaces reports whether the policy replaces the input or data somewhere.
func replaces(policy *ir.Policy) (found bool) {
	look := func(s ir.Stmt) {
		_, is := s.(*ir.WithStmt)
		found = found || is
	}
	for _, f := range policy.Funcs.Funcs {
		each(f.Blocks, look)
	}
	for _, p := range policy.Plans.Plans {
		each(p.Blocks, look)
	}
	return found
}

// written returns the locals that a statement itself gives a value.
func written(s ir.Stmt) []ir.Local {
	switch s := s.(type) {
	case *ir.CallStmt:
		return []ir.Local{s.Result}
	case *ir.CallDynamicStmt:
		return []ir.Local{s.Result}
	case *ir.DotStmt:
		return []ir.Local{s.Target}
	case *ir.LenStmt:
		return []ir.Local{s.Target}
	case *ir.ScanStmt:
		return []ir.Local{s.Key, s.Value}
	case *ir.AssignIntStmt:
		return []ir.Local{s.Target}
	case *ir.AssignVarStmt:
		return []ir.Local{s.Target}
	case *ir.AssignVarOnceStmt:
		return []ir.Local{s.Target}
	case *ir.ResetLocalStmt:
		return []ir.Local{s.Target}
	case *ir.ObjectMergeStmt:
		return []ir.Local{s.Target}
	case *ir.WithStmt:
		return []ir.Local{s.Local}
	}
	return written2(s)
}

// written2 goes on with the statements that make a value, or change one.
func written2(s ir.Stmt) []ir.Local {
	switch s := s.(type) {
	case *ir.MakeNullStmt:
		return []ir.Local{s.Target}
	case *ir.MakeNumberIntStmt:
		return []ir.Local{s.Target}
	case *ir.MakeNumberRefStmt:
		return []ir.Local{s.Target}
	case *ir.MakeArrayStmt:
		return []ir.Local{s.Target}
	case *ir.MakeObjectStmt:
		return []ir.Local{s.Target}
	case *ir.MakeSetStmt:
		return []ir.Local{s.Target}
	case *ir.ArrayAppendStmt:
		return []ir.Local{s.Array}
	case *ir.ObjectInsertStmt:
		return []ir.Local{s.Object}
	case *ir.ObjectInsertOnceStmt:
		return []ir.Local{s.Object}
	case *ir.SetAddStmt:
		return []ir.Local{s.Set}
	}
	return nil
}

// forget drops what is known of every local that the blocks write: before a loop, whose second round begins with what the first has written.
func (c *compiler) forget(blocks ...*ir.Block) {
	each(blocks, func(s ir.Stmt) {
		for _, l := range written(s) {
			c.write(l)
		}
	})
}

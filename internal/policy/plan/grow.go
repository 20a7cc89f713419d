package plan

import (
	"maps"

	"github.com/open-policy-agent/opa/v1/ir"
)

// growing returns the locals whose collections may get elements in another block than the one that they are made in, under their own name or one that they are
// handed on to: none of these is a constant, however it begins.
func growing(blocks []*ir.Block) map[ir.Local]bool {
	grows, from := map[ir.Local]bool{}, map[ir.Local][]ir.Local{}
	grown(blocks, map[ir.Local]bool{}, grows)
	each(blocks, func(s ir.Stmt) {
		switch s := s.(type) {
		case *ir.AssignVarStmt:
			if l, ok := s.Source.Value.(ir.Local); ok {
				from[s.Target] = append(from[s.Target], l)
			}
		case *ir.AssignVarOnceStmt:
			if l, ok := s.Source.Value.(ir.Local); ok {
				from[s.Target] = append(from[s.Target], l)
			}
		}
	})
	var all []ir.Local
	for l := range grows {
		all = append(all, l)
	}
	for len(all) > 0 {
		l := all[0]
		all = all[1:]
		for _, source := range from[l] {
			if !grows[source] {
				grows[source] = true
				all = append(all, source)
			}
		}
	}
	return grows
}

// grown finds the locals that get elements where they are not known to be made: made are those that are.
func grown(blocks []*ir.Block, made, grows map[ir.Local]bool) {
	for _, b := range blocks {
		here := maps.Clone(made)
		for _, s := range b.Stmts {
			if l, ok := makes(s); ok {
				here[l] = true
			}
			if l, ok := grownBy(s); ok && !here[l] {
				grows[l] = true
			}
			switch s := s.(type) {
			case *ir.BlockStmt:
				grown(s.Blocks, here, grows)
			case *ir.ScanStmt:
				grown([]*ir.Block{s.Block}, here, grows)
			case *ir.NotStmt:
				grown([]*ir.Block{s.Block}, here, grows)
			case *ir.WithStmt:
				grown([]*ir.Block{s.Block}, here, grows)
			}
		}
	}
}

// makes returns the local that a statement makes an empty collection in.
func makes(s ir.Stmt) (ir.Local, bool) {
	switch s := s.(type) {
	case *ir.MakeArrayStmt:
		return s.Target, true
	case *ir.MakeObjectStmt:
		return s.Target, true
	case *ir.MakeSetStmt:
		return s.Target, true
	}
	return 0, false
}

// grownBy returns the local whose collection a statement puts something into.
func grownBy(s ir.Stmt) (ir.Local, bool) {
	switch s := s.(type) {
	case *ir.ArrayAppendStmt:
		return s.Array, true
	case *ir.ObjectInsertStmt:
		return s.Object, true
	case *ir.ObjectInsertOnceStmt:
		return s.Object, true
	case *ir.SetAddStmt:
		return s.Set, true
	}
	return 0, false
}

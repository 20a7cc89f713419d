package policy

import (
	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/topdown"
)

// speaking is a tracer that notes which rules had an answer, by the line of their heads.
type speaking struct{ rules map[line]bool }

// Enabled implements topdown.QueryTracer.
func (*speaking) Enabled() bool { return true }

// Config implements topdown.QueryTracer.
func (*speaking) Config() topdown.TraceConfig { return topdown.TraceConfig{} }

// TraceEvent implements topdown.QueryTracer.
func (s *speaking) TraceEvent(e topdown.Event) {
	if r, ok := e.Node.(*ast.Rule); ok && e.Op == topdown.ExitOp && r.Location != nil {
		s.rules[line{r.Location.File, r.Location.Row}] = true
	}
}

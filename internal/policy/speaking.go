package policy

import (
	"fmt"
	"slices"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/topdown"
)

// speaking is a tracer that notes which rules had an answer, by the line of their heads, and which answers of a team a decision could not have read.
type speaking struct {
	rules map[line]bool
	wrong map[line]Problem
}

func newSpeaking() *speaking { return &speaking{rules: map[line]bool{}, wrong: map[line]Problem{}} }

// Enabled implements topdown.QueryTracer.
func (*speaking) Enabled() bool { return true }

// Config implements topdown.QueryTracer.
func (*speaking) Config() topdown.TraceConfig { return topdown.TraceConfig{} }

// TraceEvent implements topdown.QueryTracer.
func (s *speaking) TraceEvent(e topdown.Event) {
	r, ok := e.Node.(*ast.Rule)
	if !ok || e.Op != topdown.ExitOp || r.Location == nil {
		return
	}
	at := line{r.Location.File, r.Location.Row}
	s.rules[at] = true
	if r.Module == nil || entryOf(r.Module.Package) == "" || r.Head.Key == nil || !slices.Contains(teamHeads, string(r.Head.Name)) {
		return
	}
	said := e.Plug(r.Head.Key)
	_, err := readReason(said)
	what := "reason"
	if string(r.Head.Name) == "except" {
		what, err = "exception", readException(said)
	}
	if err != nil {
		s.wrong[at] = Problem{File: at.file, Line: at.row, Message: fmt.Sprintf("in a test this rule gives the %s %v: %v", what, said, err),
			Advice: "in use it would be a fault, for which the phone is told to try again later"}
	}
}

// problems are the answers that could not have been read.
func (s *speaking) problems() (all []Problem) {
	for _, p := range s.wrong {
		all = append(all, p)
	}
	return sortProblems(all)
}

package policy

import (
	"context"
	"encoding/json"

	"postern/internal/trust"
)

// Explanation says why a request was decided as it was, and what would have to be different.
type Explanation struct {
	Decision   Decision    `json:"decision"`
	Conditions []Condition `json:"conditions"` // of what would allow it, in the built-in policy
	Changes    [][]Change  `json:"changes"`    // the smallest sets of changed facts that change the answer: one of them is enough
	Beyond     bool        `json:"beyond"`     // no set of up to three changes was found
}

// Explain decides a recorded input of the edge by a policy and says why, and what would change the answer. A policy that is not accepted is a *CheckError.
func Explain(ctx context.Context, o Options, in *AccessInput) (*Explanation, error) {
	p, e, err := toExplain(ctx, o)
	if err != nil {
		return nil, err
	}
	x := &Explanation{Conditions: []Condition{}}
	if x.Decision, err = e.decideAccess(ctx, in); err != nil {
		return nil, err
	}
	if !p.replaced && in.Request.Class == "command" {
		if x.Conditions, err = p.conditions(ctx, "access", conditionsOfAccess(in), e.surrounded(in).value(), false); err != nil {
			return nil, err
		}
	}
	if err := p.nameExceptions(ctx, e.surrounded(in).value(), &x.Decision); err != nil {
		return nil, err
	}
	s := &search[AccessInput]{decide: e.decideAccess, clone: (*AccessInput).clone, possible: spoilers(in)}
	if x.Decision.Action != trust.Allow {
		s.possible = p.remedies(in, x.Decision)
	}
	return x, explain(ctx, x, s, in)
}

// ExplainEnroll is Explain for the recorded input of an enrolment.
func ExplainEnroll(ctx context.Context, o Options, in *EnrollInput) (*Explanation, error) {
	p, e, err := toExplain(ctx, o)
	if err != nil {
		return nil, err
	}
	x := &Explanation{Conditions: []Condition{}}
	if x.Decision, err = e.Enroll(ctx, in); err != nil {
		return nil, err
	}
	if !p.replaced {
		asked := enrolConditions
		if in.Kind == "renew" {
			asked = renewConditions
		}
		if x.Conditions, err = p.conditions(ctx, "enroll", asked, e.surroundedEnrol(in).value(), in.Approved); err != nil {
			return nil, err
		}
	}
	s := &search[EnrollInput]{decide: e.Enroll, clone: (*EnrollInput).clone, possible: enrolSpoilers()}
	if x.Decision.Action != trust.Allow {
		s.possible = p.enrolRemedies(in, x.Decision)
	}
	return x, explain(ctx, x, s, in)
}

// explain looks for the changes that would turn the answer.
func explain[I any](ctx context.Context, x *Explanation, s *search[I], in *I) error {
	allowed := x.Decision.Action == trust.Allow
	s.want = func(a trust.Action) bool { return (a == trust.Allow) != allowed }
	x.Changes = s.smallest(ctx, in, allowed)
	x.Beyond = len(x.Changes) == 0
	for i := range x.Conditions {
		x.Conditions[i].Waived = x.Conditions[i].Waived || allowed && !x.Conditions[i].Holds
	}
	return ctx.Err()
}

func toExplain(ctx context.Context, o Options) (*program, *Engine, error) {
	src, problems, err := read(o)
	if err != nil {
		return nil, nil, err
	}
	p, more := parse(src)
	if problems = append(problems, more...); len(problems) > 0 {
		return nil, nil, &CheckError{Problems: sortProblems(problems)}
	}
	e, problems, err := p.engine(ctx, o)
	if err != nil {
		return nil, nil, err
	}
	if len(problems) > 0 {
		return nil, nil, &CheckError{Problems: problems}
	}
	return p, e, nil
}

// clone copies an input with its maps.
func (in *AccessInput) clone() *AccessInput {
	out, err := DecodeAccess(in.Record())
	if err != nil {
		same := *in // not reached: what Record writes is read
		out = &same
	}
	return out
}

func (in *EnrollInput) clone() *EnrollInput {
	out := *in
	if text, err := json.Marshal(in); err == nil {
		if copied, err := DecodeEnroll(text); err == nil {
			return copied
		}
	}
	return &out // not reached: what is written is read
}

package policy

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/rego"

	"postern/internal/trust"
)

// Explanation says why a request was decided as it was, and what would have to be different.
type Explanation struct {
	Decision   Decision    `json:"decision"`
	Conditions []Condition `json:"conditions"` // of what would allow it, in the built-in policy
	Changes    [][]Change  `json:"changes"`    // the smallest sets of changed facts that change the answer: one of them is enough
	Beyond     bool        `json:"beyond"`     // no set of up to three changes was found
}

// Condition is one of the conditions of a managed profile.
type Condition struct {
	Rule  string `json:"rule"`
	Holds bool   `json:"holds"`
	Text  string `json:"text"`
}

// Change is one thing that could be different, in words.
type Change struct {
	Fact string `json:"fact"` // what is so now
	Do   string `json:"do"`   // what would have to be done or be so
}

// conditionTexts say what the conditions of a managed profile ask, in the order in which a help desk would look.
var conditionTexts = [][2]string{
	{"certificate_good", "the phone showed a certificate of this issuer that is valid now and neither revoked nor on hold"},
	{"device_managed", "the certificate's device is known, managed and active"},
	{"device_heard", "the device was heard of by its MDM lately enough"},
	{"in_service", "neither the device nor its owner is suspended"},
	{"credential_clean", "the sign-in can be read and names one user"},
	{"owner_matches", "every name in the request is the owner's"},
	{"device_id_matches", "the DeviceId is the one that the MDM reports"},
	{"profile_accepted", "no administrator has refused this mail profile"},
	{"sole_profile", "no other mail profile uses this certificate or DeviceId"},
	{"client_accepted", "the mail client is one that is allowed"},
	{"command_accepted", "the command is one that is allowed"},
	{"client_listed", "the mail client is of a family that is listed, where any are"},
	{"platform_accepted", "the platform of the device is one that is allowed"},
	{"eas_version_accepted", "the client speaks a version of ActiveSync that is new enough"},
	{"compliance_accepted", "the MDM reports the device as compliant, or the data does not ask for it, or its grace lasts"},
	{"os_accepted", "the version of the device's system is known and new enough"},
	{"place_in_line", "the owner has no more devices than may have mail"},
	{"zone_accepted", "the request comes from a network that is allowed"},
	{"sign_on_accepted", "the sign-on table allows it"},
	{"hint_accepted", "no managed mail profile of the same user and model is in use"},
}

const (
	maxChanges     = 3    // in one set
	maxTries       = 4000 // decisions made to find out
	maxAlternative = 5
)

// Explain decides a recorded input of the edge by a policy and says why, and what would change the answer. A policy that is not accepted is a *CheckError.
func Explain(ctx context.Context, o Options, in *AccessInput) (*Explanation, error) {
	src, problems, err := read(o)
	if err != nil {
		return nil, err
	}
	p, more := parse(src)
	if problems = append(problems, more...); len(problems) > 0 {
		return nil, &CheckError{Problems: sortProblems(problems)}
	}
	e, problems, err := p.engine(ctx, o)
	if err != nil {
		return nil, err
	}
	if len(problems) > 0 {
		return nil, &CheckError{Problems: problems}
	}
	x := &Explanation{Conditions: []Condition{}, Changes: [][]Change{}}
	if x.Decision, err = e.decideAccess(ctx, in); err != nil {
		return nil, err
	}
	if !p.replaced && in.Request.Class == "command" {
		if x.Conditions, err = p.conditions(ctx, e.surrounded(in)); err != nil {
			return nil, err
		}
	}
	s := &search{ctx: ctx, engine: e, want: func(a trust.Action) bool { return a == trust.Allow }, possible: p.remedies(in, x.Decision)}
	if x.Decision.Action == trust.Allow {
		s.want, s.possible = func(a trust.Action) bool { return a != trust.Allow }, spoilers(in)
	}
	x.Changes = s.smallest(in, x.Decision.Action == trust.Allow)
	x.Beyond = len(x.Changes) == 0
	return x, ctx.Err()
}

// conditions asks which conditions of a managed profile hold.
func (p *program) conditions(ctx context.Context, in *AccessInput) ([]Condition, error) {
	names := make([]string, len(conditionTexts))
	for i, c := range conditionTexts {
		names[i] = `"` + c[0] + `"`
	}
	query, _, problems, err := p.query(ctx, "access", "holds := {name | some name in ["+strings.Join(names, ", ")+"]; data.postern.access[name] == true}")
	if err != nil {
		return nil, err
	}
	if len(problems) > 0 {
		return nil, &CheckError{Problems: problems}
	}
	rs, err := query.Eval(ctx, rego.EvalParsedInput(in.value().Value))
	if err != nil {
		return nil, fmt.Errorf("ask for the conditions: %w", err)
	}
	if len(rs) != 1 {
		return nil, errors.New("ask for the conditions: no answer")
	}
	holds, _ := rs[0].Bindings["holds"].(ast.Set)
	out := make([]Condition, len(conditionTexts))
	for i, c := range conditionTexts {
		out[i] = Condition{Rule: c[0], Text: c[1], Holds: holds != nil && holds.Contains(ast.StringTerm(c[0]))}
	}
	return out, nil
}

// search looks for the smallest sets of changes that make the answer another one.
type search struct {
	ctx      context.Context
	engine   *Engine
	want     func(trust.Action) bool
	possible []changeOf
	tries    int
}

// changeOf is a change that can be made to an input.
type changeOf struct {
	Change
	apply func(*AccessInput)
}

// smallest returns the sets of the least size that work; alone limits the size to one.
func (s *search) smallest(in *AccessInput, alone bool) (found [][]Change) {
	most := maxChanges
	if alone {
		most = 1
	}
	for size := 1; size <= most && len(found) == 0; size++ {
		s.each(size, 0, nil, func(chosen []int) {
			if len(found) < maxAlternative || alone {
				if s.works(in, chosen) {
					set := make([]Change, len(chosen))
					for i, n := range chosen {
						set[i] = s.possible[n].Change
					}
					found = append(found, set)
				}
			}
		})
	}
	return found
}

// each calls fn for every set of so many changes.
func (s *search) each(size, from int, chosen []int, fn func([]int)) {
	if len(chosen) == size {
		fn(chosen)
		return
	}
	for n := from; n < len(s.possible) && s.tries < maxTries && s.ctx.Err() == nil; n++ {
		s.each(size, n+1, append(slices.Clone(chosen), n), fn)
	}
}

func (s *search) works(in *AccessInput, chosen []int) bool {
	s.tries++
	changed := in.clone()
	for _, n := range chosen {
		s.possible[n].apply(changed)
	}
	d, err := s.engine.decideAccess(s.ctx, changed)
	return err == nil && s.want(d.Action)
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

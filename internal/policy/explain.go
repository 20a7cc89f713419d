package policy

import (
	"context"
	"encoding/json"
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

// Condition is one of the conditions of what would allow a request.
type Condition struct {
	Rule   string `json:"rule"`
	Holds  bool   `json:"holds"`
	Waived bool   `json:"waived,omitempty"` // it does not hold, and a rollout that only observes, an exception or a break-glass account lets the request through all the same
	Text   string `json:"text"`
}

// conditionOf is a condition by the rule that has to be true, or with an exclamation mark before it, must not be.
type conditionOf struct{ rule, text string }

// accessConditions say what the conditions of a managed profile ask, in the order in which a help desk would look.
var accessConditions = []conditionOf{
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

// ownerKnown is what is asked in the place of owner_matches where nobody knows the owner.
const ownerKnown = "the owner of the device is known"

// enrolConditions are those of a first enrolment, and renewConditions those of a renewal.
var (
	enrolConditions = append(slices.Clone(entitled), conditionOf{"place_free", "the owner has no more devices than may be enrolled"},
		conditionOf{"!approval_missing", "an administrator has approved the enrolment, where the data asks for it"},
		conditionOf{"!ndes_approval_missing", "the challenge was made for this device, or an administrator has approved the request"})
	renewConditions = append(slices.Clone(entitled), conditionOf{"renews_good", "the certificate that signed the renewal is good and valid now"},
		conditionOf{"in_window", "the certificate is near enough to its end to be renewed"})
	entitled = []conditionOf{
		{"device_entitled", "the device is known, managed, pending or active, and not suspended"},
		{"owner_entitled", "the owner is known, not suspended, and has an address that the issuer may certify"},
		{"names_own", "every address in the request is the owner's"},
		{"key_strong", "the key is strong enough"},
	}
)

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
		asked := slices.Clone(accessConditions)
		if i := slices.IndexFunc(asked, func(c conditionOf) bool { return c.rule == "owner_matches" }); !in.Owner.Known {
			asked[i].text = ownerKnown
		}
		if x.Conditions, err = p.conditions(ctx, "access", asked, e.surrounded(in).value()); err != nil {
			return nil, err
		}
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
		if x.Conditions, err = p.conditions(ctx, "enroll", asked, e.surroundedEnrol(in).value()); err != nil {
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
		x.Conditions[i].Waived = allowed && !x.Conditions[i].Holds
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

// conditions asks which conditions hold.
func (p *program) conditions(ctx context.Context, entry string, asked []conditionOf, input *ast.Term) ([]Condition, error) {
	names := make([]string, len(asked))
	for i, c := range asked {
		names[i] = `"` + strings.TrimPrefix(c.rule, "!") + `"`
	}
	query, _, problems, err := p.query(ctx, entry, "holds := {name | some name in ["+strings.Join(names, ", ")+"]; data.postern."+entry+"[name] == true}")
	if err != nil {
		return nil, err
	}
	if len(problems) > 0 {
		return nil, &CheckError{Problems: problems}
	}
	rs, err := query.Eval(ctx, rego.EvalParsedInput(input.Value))
	if err != nil {
		return nil, fmt.Errorf("ask for the conditions: %w", err)
	}
	if len(rs) != 1 {
		return nil, errors.New("ask for the conditions: no answer")
	}
	holds, _ := rs[0].Bindings["holds"].(ast.Set)
	out := make([]Condition, len(asked))
	for i, c := range asked {
		rule, negated := strings.CutPrefix(c.rule, "!")
		out[i] = Condition{Rule: rule, Text: c.text, Holds: (holds != nil && holds.Contains(ast.StringTerm(rule))) != negated}
	}
	return out, nil
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

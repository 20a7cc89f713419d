package policy

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/rego"
)

// Condition is one of the conditions of what would allow a request.
type Condition struct {
	Rule   string `json:"rule"`
	Holds  bool   `json:"holds"`
	Waived bool   `json:"waived,omitempty"` // it does not hold, and that did not decide
	Why    string `json:"why,omitempty"`    // why it was waived, or does not hold: observed, exception, break_glass, or follows: from another that does not hold
	Text   string `json:"text"`
}

// Aside says why a condition that does not hold did not decide; empty where it did.
func (c Condition) Aside() string {
	switch {
	case c.Why == WhyObserved:
		return " (only watched for now: this refuses nobody yet)"
	case c.Why == WhyException:
		return " (lifted by an exception: this did not refuse it)"
	case c.Why == WhyBreakGlass:
		return " (lifted for a break-glass account: this did not refuse it)"
	case c.Why == WhyFollows:
		return " (nothing of its own: it follows from another one here)"
	case c.Waived:
		return " (this stops nothing here)"
	}
	return ""
}

// The values of Condition.Why.
const (
	WhyObserved   = "observed"    // a rollout only observes the reason
	WhyException  = "exception"   // an exception lifts it
	WhyBreakGlass = "break_glass" // it is a break-glass account
	WhyFollows    = "follows"     // nothing speaks of it: another condition that does not hold is the cause
)

// conditionOf is a condition by the rule that has to be true, or with an exclamation mark before it, must not be, with the codes of what is said when it is not.
type conditionOf struct{ rule, text, codes string }

// accessConditions say what the conditions of a managed profile ask, in the order in which a help desk would look.
var accessConditions = []conditionOf{
	{"device_assured", "the phone showed a certificate of this issuer that is valid now and neither revoked nor on hold (or, where that is accepted, a token that was made for its device)",
		"certificate_revoked certificate_held certificate_superseded certificate_expired certificate_not_trusted no_certificate token_of_revoked_device"},
	{"device_managed", "the certificate's device is known, managed and active", "unmanaged_device device_retired device_blocked device_quarantined"},
	{"device_heard", "the device was heard of by its MDM lately enough", "device_silent"},
	{"in_service", "the device and its owner are in service (not suspended)", "device_suspended owner_suspended"},
	{"credential_clean", "the sign-in can be read and names one user", "duplicate_credentials unreadable_credentials app_only_credential wrong_tenant wrong_audience no_user"},
	{"owner_matches", "every name in the request is the owner's", "owner_mismatch wrong_tenant wrong_audience"},
	{"device_id_matches", "the DeviceId is the one that the MDM reports", "device_id_mismatch"},
	{"profile_accepted", "the mail profile is not one that an administrator refused", "profile_refused"},
	{"sole_profile", "this mail profile alone uses its certificate and its DeviceId", "duplicate_profile_without_certificate duplicate_profile_second_device_id"},
	{"client_accepted", "the mail client is one that is allowed", "client_not_allowed unknown_client"},
	{"command_accepted", "the command is one that is allowed", "command_not_allowed"},
	{"client_listed", "the mail client is of a family that is listed, where any are", "client_not_allowed"},
	{"platform_accepted", "the platform of the device is one that is allowed", "platform_not_allowed"},
	{"eas_version_accepted", "the client speaks a version of ActiveSync that is new enough", "eas_version_too_old"},
	{"compliance_accepted", "the MDM reports the device as compliant, or that is not asked for, or its time to become compliant has not run out", "device_not_compliant compliance_unknown"},
	{"os_accepted", "the version of the device's system is known and new enough", "os_too_old os_version_unknown"},
	{"place_in_line", "the owner has no more devices than may have mail", "too_many_devices"},
	{"zone_accepted", "the request comes from a network that is allowed", "zone_not_allowed"},
	{"sign_on_accepted", "the sign-on table allows it", "sign_on_rule"},
	{"hint_accepted", "this mail profile is the only one in use of its user on a phone of this model", "same_user_and_model"},
}

// ownerKnown is what is asked in the place of owner_matches where nobody knows the owner.
const ownerKnown = "the owner of the device is known"

// enrolConditions are those of a first enrolment, and renewConditions those of a renewal.
var (
	enrolConditions = append(slices.Clone(entitled), conditionOf{"place_free", "the owner has no more devices than may be enrolled", "too_many_devices"},
		conditionOf{"!approval_missing", "an administrator has approved the enrolment, where that is asked for", "approval_required"},
		conditionOf{"!ndes_approval_missing", "the challenge was made for this device, or an administrator has approved the request", "ndes_approval_required"})
	renewConditions = append(slices.Clone(entitled),
		conditionOf{"renews_good", "the certificate that signed the renewal is good and valid now", "renewal_certificate_expired renewal_certificate_not_good"},
		conditionOf{"in_window", "the certificate is near enough to its end to be renewed", "renewal_too_early"})
	entitled = []conditionOf{
		{"device_entitled", "the device is known, managed, pending or active, and not suspended", "device_unknown not_managed device_retired device_blocked device_quarantined device_suspended"},
		{"owner_entitled", "the owner is known, not suspended, and has an address that the issuer may certify", "owner_unknown owner_suspended domain_not_allowed"},
		{"names_own", "every address in the request is the owner's", "names_another_user"},
		{"key_strong", "the key is strong enough", "weak_key"},
	}
)

// conditionsOfAccess are the conditions of a request, as its facts ask for them.
func conditionsOfAccess(in *AccessInput) []conditionOf {
	asked := slices.Clone(accessConditions)
	if i := slices.IndexFunc(asked, func(c conditionOf) bool { return c.rule == "owner_matches" }); !in.Owner.Known {
		asked[i].text = ownerKnown
	}
	return asked
}

// inquiry is what a policy says of one input beside its decision. Codes are in sets.
type inquiry struct {
	holds                      ast.Set // names of conditions
	said                       ast.Set // of teams: arrays of the package's last name, deny or quarantine, and the reason
	spoken                     ast.Set // every code that is said, whatever becomes of it
	observed, excepted, opened ast.Set // codes that did not decide: by a rollout, an exception, a break-glass account
}

// Of the enrolments there is no rollout, and what is said is what the decision says.
var askedOf = map[string]string{
	"access": "spoken := data.postern.access.spoken; observed := data.postern.access.observed; excepted := data.postern.access.lifted & spoken; opened := data.postern.access.opened",
	"enroll": "spoken := data.postern.enroll.denied | data.postern.enroll.team_codes; observed := set(); excepted := data.postern.enroll.lifted & spoken; opened := set()",
}

// ask evaluates the conditions and what is said.
func (p *program) ask(ctx context.Context, entry string, conditions []conditionOf, input *ast.Term) (*inquiry, error) {
	names := make([]string, len(conditions))
	for i, c := range conditions {
		names[i] = `"` + strings.TrimPrefix(c.rule, "!") + `"`
	}
	query, _, problems, err := p.query(ctx, entry, "holds := {name | some name in ["+strings.Join(names, ", ")+"]; data.postern."+entry+"[name] == true}; "+
		`said := {[name, kind, reason] | some kind in ["deny", "quarantine"]; data.postern.`+entry+".team[name][kind][reason]}; "+askedOf[entry])
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
	a := &inquiry{}
	for name, to := range map[string]*ast.Set{"holds": &a.holds, "said": &a.said, "spoken": &a.spoken, "observed": &a.observed, "excepted": &a.excepted, "opened": &a.opened} {
		set, ok := rs[0].Bindings[name].(ast.Set)
		if !ok {
			return nil, fmt.Errorf("ask for the conditions: %s is no set", name)
		}
		*to = set
	}
	return a, nil
}

// conditions says which conditions hold, and of the others why that did not decide where it did not. approved enrolments do not wait for what teams say.
func (p *program) conditions(ctx context.Context, entry string, conditions []conditionOf, input *ast.Term, approved bool) ([]Condition, error) {
	a, err := p.ask(ctx, entry, conditions, input)
	if err != nil {
		return nil, err
	}
	out, cause := make([]Condition, 0, len(conditions)+1), false
	for _, c := range conditions {
		rule, negated := strings.CutPrefix(c.rule, "!")
		one := Condition{Rule: rule, Text: c.text, Holds: a.holds.Contains(ast.StringTerm(rule)) != negated}
		if !one.Holds {
			codes := a.among(strings.Fields(c.codes))
			one.Why = a.why(codes)
			one.Waived = one.Why != ""
			cause = cause || len(codes) > 0 && !one.Waived
			if len(codes) == 0 && cause && !negated {
				one.Why = WhyFollows
			}
		}
		out = append(out, one)
	}
	if team, ok := p.teamCondition(entry, a, approved); ok {
		out = append(out, team)
	}
	return out, nil
}

// among returns the codes that are said.
func (a *inquiry) among(codes []string) []string {
	return slices.DeleteFunc(codes, func(code string) bool { return !a.spoken.Contains(ast.StringTerm(code)) })
}

// why says why none of the codes decided; empty: one did, or there is none.
func (a *inquiry) why(codes []string) (why string) {
	for _, code := range codes {
		t := ast.StringTerm(code)
		switch {
		case a.excepted.Contains(t):
			why = WhyException
		case a.opened.Contains(t):
			why = WhyBreakGlass
		case a.observed.Contains(t):
			why = WhyObserved
		default:
			return ""
		}
	}
	return why
}

// teamCondition is that every rule of a team lets the request pass, with the rules that do and where they are written; false where no team has rules.
func (p *program) teamCondition(entry string, a *inquiry, approved bool) (Condition, bool) {
	c := Condition{Rule: "no_rule_of_a_team", Text: "every rule that a team of the company wrote lets it pass", Holds: true}
	var codes, rules, asides []string
	a.said.Sorted().Foreach(func(t *ast.Term) {
		said, ok := t.Value.(*ast.Array)
		if !ok || said.Len() != 3 || approved && plain(said.Elem(1)) == "quarantine" {
			return
		}
		reason, err := readReason(said.Elem(2))
		if err != nil {
			return // the decision is a fault, and says so
		}
		reason.Rule = "postern." + entry + ".team." + plain(said.Elem(0))
		codes, rules = append(codes, reason.Code), append(rules, reason.Code+" is said by "+reason.Rule+p.placeOf(reason.Rule, reason.Code))
		asides = append(asides, Condition{Why: a.why([]string{reason.Code})}.Aside())
	})
	if len(codes) > 0 {
		if len(slices.Compact(slices.Clone(asides))) > 1 { // else it is said once, of all
			for i := range rules {
				rules[i] += asides[i]
			}
		}
		slices.Sort(rules)
		c.Holds, c.Text = false, c.Text+"; against it: "+strings.Join(slices.Compact(rules), "; ")
		c.Why = a.why(codes)
		c.Waived = c.Why != ""
	}
	return c, p.hasTeams(entry)
}

// hasTeams reports whether a team has rules for an entry point.
func (p *program) hasTeams(entry string) bool {
	for _, f := range p.files {
		if m := p.modules[f.name]; m != nil && !f.builtin && !f.test() && entryOf(m.Package) == entry {
			return true
		}
	}
	return false
}

// placeOf names file and line of the rule that gives a team's reason, in parentheses; empty where that cannot be told.
func (p *program) placeOf(rule, code string) string {
	for _, r := range p.rulesThatSay(rule, code) {
		if l := r.Location; l != nil {
			return fmt.Sprintf(" (%s:%d)", l.File, l.Row)
		}
	}
	return ""
}

// rulesThatSay are the rules of a team's package that mention a code.
func (p *program) rulesThatSay(rule, code string) (all []*ast.Rule) {
	for _, f := range p.files {
		m := p.modules[f.name]
		if m == nil || f.builtin || f.test() || m.Package.Path.String() != "data."+rule {
			continue
		}
		for _, r := range m.Rules {
			if strings.Contains(r.String(), `"`+code+`"`) {
				all = append(all, r)
			}
		}
	}
	return all
}

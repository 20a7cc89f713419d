package policy

import (
	"errors"
	"fmt"
	"slices"

	"github.com/open-policy-agent/opa/v1/ast"

	"postern/internal/trust"
)

var actions = map[string][]trust.Action{
	"access":    {trust.Allow, trust.Quarantine, trust.Deny},
	"enroll":    {trust.Allow, trust.Pend, trust.Deny},
	"lifecycle": {trust.Keep, trust.Notify, trust.Suspend, trust.Retire},
}

// decision reads what the policy answered. Anything that is not exactly a decision is an error: an allow names the rule that proved it, everything
// else has a reason, and there is no field that this version does not know.
func (e *Engine) decision(q *question, answer ast.Value) (Decision, error) {
	var d Decision
	o, ok := answer.(ast.Object)
	if !ok {
		return d, errors.New("decision is not an object")
	}
	reasons, err := d.read(o)
	switch {
	case err != nil:
		return d, err
	case !slices.Contains(actions[q.entry], d.Action):
		return d, fmt.Errorf("decision: %q is not an action", d.Action)
	}
	if d.Reasons, err = e.reasons(q, reasons); err != nil {
		return d, err
	}
	switch {
	case d.Action == trust.Allow && d.Rule == "":
		return d, errors.New("decision: allow without the rule that proved it")
	case d.Action != trust.Allow && d.Action != trust.Keep && len(d.Reasons) == 0:
		return d, fmt.Errorf("decision: %s without a reason", d.Action)
	}
	return d, nil
}

// The fields of a decision.
var (
	actionField     = ast.StringTerm("action")
	reasonsField    = ast.StringTerm("reasons")
	ruleField       = ast.StringTerm("rule")
	profileField    = ast.StringTerm("profile")
	validUntilField = ast.StringTerm("valid_until")
)

// read takes what is text and time from a decision, and returns its reasons.
func (d *Decision) read(o ast.Object) (reasons *ast.Term, err error) {
	action, until, reasons := o.Get(actionField), o.Get(validUntilField), o.Get(reasonsField)
	rule, profile := o.Get(ruleField), o.Get(profileField)
	known := 0
	for _, v := range [...]*ast.Term{action, until, reasons, rule, profile} {
		if v != nil {
			known++
		}
	}
	if known != o.Len() {
		return nil, unknownField(o)
	}
	if action == nil || until == nil || reasons == nil {
		return nil, errors.New("decision without action, reasons or valid_until")
	}
	text, err := asText(action)
	if err != nil {
		return nil, fmt.Errorf("decision: %v: %w", actionField, err)
	}
	d.Action = trust.Action(text)
	if d.ValidUntil, err = asTime(until); err != nil {
		return nil, fmt.Errorf("decision: %v: %w", validUntilField, err)
	}
	if rule != nil {
		if d.Rule, err = asText(rule); err != nil {
			return nil, fmt.Errorf("decision: %v: %w", ruleField, err)
		}
	}
	if profile != nil {
		if d.Profile, err = asText(profile); err != nil {
			return nil, fmt.Errorf("decision: %v: %w", profileField, err)
		}
	}
	return reasons, nil
}

func unknownField(o ast.Object) (err error) {
	o.Foreach(func(k, _ *ast.Term) {
		switch name, _ := k.Value.(ast.String); string(name) {
		case "action", "reasons", "rule", "profile", "valid_until":
		default:
			if err == nil {
				err = fmt.Errorf("decision: %v: unknown field", k)
			}
		}
	})
	return err
}

// reasons reads a set or array of reasons and sorts them, the most telling first.
func (e *Engine) reasons(q *question, t *ast.Term) ([]trust.Reason, error) {
	if set, ok := t.Value.(ast.Set); ok && set.Len() == 0 {
		return []trust.Reason{}, nil
	}
	list := []trust.Reason{}
	var bad error
	each := func(x *ast.Term) {
		r, err := e.reason(q, x)
		if err != nil && bad == nil {
			bad = fmt.Errorf("reason %v: %w", x, err)
		}
		list = append(list, r)
	}
	switch v := t.Value.(type) {
	case ast.Set:
		v.Foreach(each)
	case *ast.Array:
		v.Foreach(each)
	default:
		return nil, errors.New("decision: reasons are neither a set nor an array")
	}
	if bad != nil {
		return nil, bad
	}
	sortReasons(list)
	return list, nil
}

// reason reads one reason: a code, or an object with a code and what is to be said about it.
func (e *Engine) reason(q *question, t *ast.Term) (trust.Reason, error) {
	r, err := readReason(t)
	if err != nil {
		return r, err
	}
	if r.Rule == "" {
		r.Rule = "postern." + q.entry
	}
	e.explain(q.entry, &r, q)
	return r, nil
}

// readReason reads a reason as a policy wrote it.
func readReason(t *ast.Term) (trust.Reason, error) {
	var r trust.Reason
	var err error
	switch v := t.Value.(type) {
	case ast.String:
		r.Code = string(v)
	case ast.Object:
		v.Foreach(func(k, x *ast.Term) {
			var wrong error
			switch name, _ := k.Value.(ast.String); string(name) {
			case "code":
				r.Code, wrong = asText(x)
			case "text":
				r.Text, wrong = asText(x)
			case "remedy":
				r.Remedy, wrong = asText(x)
			case "rule":
				r.Rule, wrong = asText(x)
			case "facts":
				r.Facts, wrong = asFacts(x)
			default:
				wrong = errors.New("unknown field: a reason has code, text, remedy and facts")
			}
			if wrong != nil && err == nil {
				err = fmt.Errorf("%v: %w", k, wrong)
			}
		})
	default:
		return r, errors.New("neither a code nor an object")
	}
	if err == nil && !codeForm.MatchString(r.Code) {
		err = errors.New("the code is not lower-case letters, digits and underscores")
	}
	return r, err
}

func asText(t *ast.Term) (string, error) {
	s, ok := t.Value.(ast.String)
	if !ok {
		return "", errors.New("not text")
	}
	return string(s), nil
}

func asTime(t *ast.Term) (int64, error) {
	n, ok := t.Value.(ast.Number)
	if ok {
		if i, whole := n.Int64(); whole && i >= 0 {
			return i, nil
		}
	}
	return 0, errors.New("not a time in Unix seconds")
}

func asFacts(t *ast.Term) (map[string]string, error) {
	o, ok := t.Value.(ast.Object)
	if !ok {
		return nil, errors.New("not an object")
	}
	facts := map[string]string{}
	bad := o.Iter(func(k, v *ast.Term) error {
		name, err := asText(k)
		if err != nil {
			return err
		}
		facts[name], err = asText(v)
		return err
	})
	return facts, bad
}

package policy

import (
	"encoding/binary"
	"fmt"
	"slices"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"

	"postern/internal/trust"
)

// neverLifted are the built-in reasons that no exception lifts; a test compares them with the Rego. Every other one, and what a team says, can be lifted.
var neverLifted = []string{"app_only_credential", "approval_required", "break_glass", "certificate_expired", "certificate_held", "certificate_not_trusted", "certificate_revoked",
	"device_blocked", "device_retired", "device_suspended", "device_unknown", "domain_not_allowed", "duplicate_credentials", "exception", "names_another_user",
	"ndes_approval_required", "no_certificate_or_ticket", "no_user", "owner_mismatch", "owner_suspended", "owner_unknown", "profile_refused", "renewal_certificate_expired",
	"renewal_certificate_not_good", "ticket_of_another_device", "ticket_revoked", "ticket_unknown", "token_of_revoked_device", "unreadable_credentials", "weak_key", "wrong_audience", "wrong_tenant"}

// Liftable reports whether the built-in policies let an exception lift the reason.
func Liftable(code string) bool { return !slices.Contains(neverLifted, code) }

// LiftableReasons lists the built-in reasons that an exception may lift, sorted.
func LiftableReasons() (out []string) {
	for _, s := range sayings {
		if Liftable(s.code) {
			out = append(out, s.code)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// Says reports whether a policy gives the reason: it is a built-in one, or is written in a rule. Where a rule computes its code, see [Engine.Computes], every
// text in its rules is one that may be given.
func (e *Engine) Says(code string) bool {
	_, said := e.codes[code]
	return said || slices.ContainsFunc(sayings, func(s saying) bool { return s.code == code })
}

// Computes reports whether the policy may give reasons whose codes nobody knows before: a rule of a team makes one, or the built-in policies are not in use.
func (e *Engine) Computes() bool { return e.computes || e.replaced }

// LikeCode returns the reason that an exception may lift and that is spelt most like code; empty where none is near.
func (e *Engine) LikeCode(code string) string {
	known := LiftableReasons()
	for c := range e.codes {
		known = append(known, c)
	}
	slices.Sort(known)
	return nearest(code, known)
}

// teamCodes returns the codes of the reasons that rules of others than the product give, each with the file and line of the first that does, as they are written
// out; and whether a rule makes its code otherwise: then every text that the rules mention may be one, with no place.
func (p *program) teamCodes() (codes map[string]string, computed bool) {
	codes = map[string]string{}
	texts := map[string]bool{}
	for _, f := range p.files {
		m := p.modules[f.name]
		if m == nil || f.builtin || f.test() {
			continue
		}
		ast.WalkTerms(m, func(t *ast.Term) bool {
			if s, ok := t.Value.(ast.String); ok && codeForm.MatchString(string(s)) {
				texts[string(s)] = true
			}
			return false
		})
		for _, r := range m.Rules {
			if name := string(r.Head.Name); name == "deny" || name == "quarantine" {
				computed = !writtenCodes(r, codes) || computed
			}
		}
	}
	if computed || p.replaced {
		for text := range texts {
			if _, said := codes[text]; !said {
				codes[text] = ""
			}
		}
	}
	return codes, computed
}

// writtenCodes adds the code of the reason that a rule gives; false if it is not written out.
func writtenCodes(r *ast.Rule, codes map[string]string) bool {
	all := spelledIn(r)
	for _, t := range all {
		if o, is := t.Value.(ast.Object); is {
			t = o.Get(ast.StringTerm("code"))
		}
		if t == nil || !isText(t) {
			return false
		}
		code := string(t.Value.(ast.String))
		if _, said := codes[code]; !said {
			codes[code] = fmt.Sprintf("%s:%d", r.Location.File, r.Location.Row)
		}
	}
	return len(all) == 1
}

// FactsOfExceptions returns what a policy may know of exceptions that were granted for a device or its owner: those that count at the time. Never nil.
func FactsOfExceptions(all []trust.Exception, now time.Time) []ExceptionFacts {
	out := []ExceptionFacts{}
	for _, e := range all {
		if e.Live(now) {
			out = append(out, ExceptionFacts{ID: e.ID, GrantedBy: e.By.String(), Until: Seconds(e.Until), Reasons: slices.Clone(e.Reasons)})
		}
	}
	return out
}

// exceptionTerms makes the list as a policy sees it.
func exceptionTerms(all []ExceptionFacts) pair {
	if len(all) == 0 {
		return pair{keys["exceptions"], ast.InternedEmptyArray}
	}
	terms := make([]*ast.Term, len(all))
	for i := range all {
		e := &all[i]
		terms[i] = object(text("id", e.ID), text("granted_by", e.GrantedBy), number("until", e.Until), array("reasons", e.Reasons))
	}
	return pair{keys["exceptions"], ast.ArrayTerm(terms...)}
}

func appendExceptions(b []byte, all []ExceptionFacts) []byte {
	b = binary.AppendUvarint(b, uint64(len(all)))
	for i := range all {
		e := &all[i]
		b = binary.AppendVarint(appendTexts(b, e.ID, e.GrantedBy), e.Until)
		b = binary.AppendUvarint(b, uint64(len(e.Reasons)))
		b = appendTexts(b, e.Reasons...)
	}
	return b
}

func (r *recordReader) exceptions() (all []ExceptionFacts) {
	for range r.count() {
		var e ExceptionFacts
		r.strings(&e.ID, &e.GrantedBy)
		e.Until = r.varint()
		for range r.count() {
			e.Reasons = append(e.Reasons, r.string())
		}
		if r.bad {
			return nil
		}
		all = append(all, e)
	}
	return all
}

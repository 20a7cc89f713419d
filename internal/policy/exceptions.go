package policy

import (
	"encoding/binary"
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

// Says reports whether a policy may give the reason: it is a built-in one, or is written in a rule. A code that a rule puts together from parts is not found.
func (e *Engine) Says(code string) bool {
	return e.texts[code] || slices.ContainsFunc(sayings, func(s saying) bool { return s.code == code })
}

// teamTexts returns every text that the rules of others than the product mention.
func (p *program) teamTexts() map[string]bool {
	texts := map[string]bool{}
	for _, f := range p.files {
		if m := p.modules[f.name]; m != nil && !f.builtin && !f.test() {
			ast.WalkTerms(m, func(t *ast.Term) bool {
				if s, ok := t.Value.(ast.String); ok && codeForm.MatchString(string(s)) {
					texts[string(s)] = true
				}
				return false
			})
		}
	}
	return texts
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

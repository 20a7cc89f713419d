package policy

import (
	"slices"
	"strconv"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
)

// seeOther begins the remedy of a reason that goes away with another one, which says what to do.
const seeOther = "See the reason "

// defers reports whether a remedy only points at that of another reason.
func defers(remedy string) bool { return strings.HasPrefix(remedy, seeOther) }

// withheldCodes are what nothing lifts while the newest certificate of the device is revoked or held; a test compares them with the Rego.
var withheldCodes = []string{"certificate_superseded", "device_id_mismatch", "duplicate_profile_without_certificate", "no_certificate", "same_user_and_model"}

// stopped says of the exceptions that were granted for a reason and do not help, why not; empty where there is none.
func (w words) stopped(code string) string {
	if w.entry != "access" || !slices.Contains(withheldCodes, code) || w.engine.fact(w.entry, "device.revoked", w.input) != "true" {
		return ""
	}
	granted, _ := w.engine.term(w.entry, "exceptions", w.input).Value.(*ast.Array)
	if granted == nil {
		return ""
	}
	var text strings.Builder
	for i := range granted.Len() {
		e, ok := granted.Elem(i).Value.(ast.Object)
		if !ok || !slices.Contains(strings.Split(plain(part(e, "reasons")), ", "), code) {
			continue
		}
		until, _ := strconv.ParseInt(plain(part(e, "until")), 10, 64)
		w.facts["exception.id"] = plain(part(e, "id"))
		text.WriteString(" The exception " + w.facts["exception.id"] + ", granted by " + plain(part(e, "granted_by")) + " until " + show(strconv.FormatInt(until, 10), "|time") +
			", does not help: the newest certificate of the device " + w.of("device.id") + " is revoked or on hold, and no exception makes up for that.")
	}
	return text.String()
}

// part returns a part of an object, or an empty text.
func part(o ast.Object, name string) *ast.Term {
	if t := o.Get(ast.StringTerm(name)); t != nil {
		return t
	}
	return ast.StringTerm("")
}

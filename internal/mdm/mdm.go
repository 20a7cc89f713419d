// Package mdm is where devices come from: who may enrol besides those who hold a one-time challenge made by an administrator.
//
// Two validators say whether the challenge of a SCEP request is genuine and whose it is: [Intune], which asks Microsoft's validation service, and
// [Webhook], which asks a service of the company. Both also want to hear what became of the request. Two pages make challenges of our own for MDMs
// that fetch one before they install a profile: [Jamf] answers its SCEPChallenge webhook, [NDES] the page of Microsoft's enrolment service.
//
// Everything here is closed by default. A validator returns a [Refusal], which wraps trust.ErrForbidden, when somebody said no; any other error is a
// fault: the requester may try again, and nothing has been approved.
package mdm

import (
	"fmt"
	"strings"

	"postern/internal/trust"
)

// Reasons for a failure as SCEP names them (RFC 8894, section 3.2.1.4).
const (
	BadAlg          = "badAlg"
	BadMessageCheck = "badMessageCheck"
	BadRequest      = "badRequest"
	BadTime         = "badTime"
)

// Refusal is a "no" to an enrolment, or to handing a certificate out. It wraps trust.ErrForbidden.
type Refusal struct {
	Source string // who refused
	Code   string // the reason in that one's own words, for example ChallengeExpired
	Info   string // the failInfo that fits: one of the constants above
	Text   string // what an administrator should know and do; never for the device
}

// Error is for logs and the audit: it quotes what the other side wrote.
func (r *Refusal) Error() string {
	return fmt.Sprintf("refused by %s: %s: %s", r.Source, clip(r.Code, 64), r.Text)
}

// Unwrap makes every refusal a trust.ErrForbidden.
func (r *Refusal) Unwrap() error { return trust.ErrForbidden }

// FailInfo is Info. A door that does not know this package finds it by this method.
func (r *Refusal) FailInfo() string { return r.Info }

// sourceName reports whether s may name a source of devices: it ends up in the registry, in policies and in logs. "admin" names no MDM.
func sourceName(s string) bool {
	return s != "" && s != "admin" && len(s) <= 32 && strings.Trim(s, "abcdefghijklmnopqrstuvwxyz0123456789-") == ""
}

// clip makes foreign text fit for a log line: printable ASCII, at most n characters.
func clip(s string, n int) string {
	var b strings.Builder
	for _, r := range s {
		if b.Len() >= n {
			b.WriteString("...")
			break
		}
		if r < ' ' || r > '~' {
			r = '?'
		}
		b.WriteRune(r)
	}
	return b.String()
}

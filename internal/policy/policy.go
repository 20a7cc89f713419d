// Package policy puts Rego behind Go types: it loads, checks and evaluates the policies that decide about enrolments and requests.
//
// A decision is a pure function of its input: time is a field of it, and nothing in a policy can reach out. Only this package, and plan below it, import OPA.
//
// A policy becomes an [Engine] only after it was read whole, compiled strictly against the schemas of its inputs, and has decided every sample input.
// A decision that fails for whatever reason is a [Fault]; nothing is ever allowed because something failed.
package policy

import (
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"
)

// DefaultTimeout is how long one decision may take, by the clock on the wall. A decision takes some ten microseconds, a tenth of a millisecond where it is left to OPA; the limit is for one that never
// ends, and leaves room for a machine that is busy.
const DefaultTimeout = 500 * time.Millisecond

// Options say where the policy comes from.
type Options struct {
	Path    string        // a directory (or one file) with the team's own policies and data; empty: the built-in policies alone
	Files   Files         // the same in memory; Path is then not looked at
	Replace bool          // Path or Files replace the built-in policies instead of extending them
	Timeout time.Duration // of one decision; 0: DefaultTimeout
	Log     *slog.Logger  // is told once of a policy that OPA evaluates instead of a plan; nil: nobody is
}

// Problem is one thing wrong with a policy, and where. Line and Column count from 1; 0 where the problem has no place in the file.
type Problem struct {
	File    string `json:"file,omitempty"`
	Line    int    `json:"line,omitempty"`
	Column  int    `json:"column,omitempty"`
	Message string `json:"message"`
	Advice  string `json:"advice,omitempty"` // what to write instead, where that can be said
}

// String returns "file:line:column: message; advice" as far as they are known.
func (p Problem) String() string {
	var b strings.Builder
	if p.File != "" {
		b.WriteString(p.File)
		if p.Line > 0 {
			fmt.Fprintf(&b, ":%d", p.Line)
			if p.Column > 0 {
				fmt.Fprintf(&b, ":%d", p.Column)
			}
		}
		b.WriteString(": ")
	}
	b.WriteString(p.Message)
	if p.Advice != "" {
		b.WriteString("; " + p.Advice)
	}
	return b.String()
}

// CheckError is why a policy was not accepted: every problem that was found, in the order of files and lines.
type CheckError struct{ Problems []Problem }

func (e *CheckError) Error() string {
	lines := make([]string, len(e.Problems))
	for i, p := range e.Problems {
		lines[i] = p.String()
	}
	return "policy not accepted: " + strings.Join(lines, "\n")
}

// Fault is the absence of a decision: the policy failed, was undefined, took too long, or answered in a shape that is not a decision. A door answers it
// with "try again later" and never allows.
type Fault struct {
	Entry  string // access, enroll or lifecycle
	Policy string // digest of the policy that failed
	Err    error
}

func (f *Fault) Error() string { return "decide " + f.Entry + ": " + f.Err.Error() }

// isFault tells the failure of a policy from that of its input.
func isFault(err error) bool {
	var f *Fault
	return errors.As(err, &f)
}

// Unwrap returns the cause.
func (f *Fault) Unwrap() error { return f.Err }

// The causes of a fault that callers may tell apart; any other is an error of the policy itself.
var (
	ErrUndefined = errors.New("the policy has no decision for this input")
	ErrTimeout   = errors.New("the policy took too long")
)

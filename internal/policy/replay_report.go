package policy

import (
	"cmp"
	"slices"
	"strings"

	"postern/internal/trust"
)

// Limits of a report.
const (
	maxNamed    = 10_000  // users, devices and clients of one group; beyond, their number is a lower bound
	maxNames    = 200_000 // of all groups together
	maxName     = 256     // bytes of one
	maxExamples = 5
	maxGroups   = 1000
)

// ReplayReport is what a policy would have decided otherwise.
type ReplayReport struct {
	Policy       string        `json:"policy"`        // digest of the policy that decided again
	Decisions    int           `json:"decisions"`     // looked at
	Evaluated    int           `json:"evaluated"`     // times the policy was asked; the rest had the facts of another
	Unchanged    int           `json:"unchanged"`     // decided as before
	Changed      int           `json:"changed"`       // decided otherwise
	WithoutFacts int           `json:"without_facts"` // could not be decided again: their facts were not kept
	Unreadable   int           `json:"unreadable"`    // could not be decided again: their facts cannot be read
	Faults       int           `json:"faults"`        // were no decision when they were made
	Rules        []RuleChange  `json:"rules"`         // of the changed, by what they say now or said before; the most frequent first
	Groups       []ReplayGroup `json:"groups"`        // of the changed, the largest first
	MoreGroups   int           `json:"more_groups"`   // changed decisions beyond the limit of groups

	names  int // kept in all groups
	groups map[groupKey]*ReplayGroup
}

// RuleChange is how often a rule would speak where it did not, and be silent where it spoke.
type RuleChange struct {
	Rule  string `json:"rule"` // FILE:LINE of a team's, "built-in: PAGE" of a built-in one, its package if its code is computed, or "of the policy before"
	Code  string `json:"code"` // of the reason that it gives
	More  int    `json:"more"`
	Fewer int    `json:"fewer"`
}

// ReplayGroup is one kind of change: from one outcome to another, for these reasons.
type ReplayGroup struct {
	Before   Outcome         `json:"before"`
	After    Outcome         `json:"after"`
	Count    int             `json:"count"`
	Users    []Named         `json:"users"`   // the most affected first
	Devices  []Named         `json:"devices"` // likewise
	Clients  []Named         `json:"clients"`
	Examples []ReplayExample `json:"examples"`

	users, devices, clients map[string]int
}

// Outcome is an action with the codes of its reasons, joined with commas. A policy that fails has the action fault.
type Outcome struct {
	Action trust.Action `json:"action"`
	Codes  string       `json:"codes"`
}

// Named is how many changed decisions were about somebody.
type Named struct {
	Name  string `json:"name"`
	Count int    `json:"count"`
}

// ReplayExample is one changed decision to look at.
type ReplayExample struct {
	Reference string `json:"reference,omitempty"`
	At        int64  `json:"at"` // Unix seconds
	User      string `json:"user"`
	Device    string `json:"device"`
	Client    string `json:"client"`
	Command   string `json:"command"`
	Error     string `json:"error,omitempty"` // of a policy that fails
}

type (
	outcome  = Outcome
	groupKey struct{ before, after Outcome }
)

func outcomeOf(d *Decision) Outcome {
	codes := make([]string, len(d.Reasons))
	for i, r := range d.Reasons {
		codes[i] = r.Code
	}
	return Outcome{d.Action, joined(codes)}
}

// joined makes codes comparable, whatever their order.
func joined(codes []string) string {
	switch len(codes) {
	case 0:
		return ""
	case 1:
		return codes[0]
	}
	codes = slices.Clone(codes)
	slices.Sort(codes)
	return strings.Join(slices.Compact(codes), ",")
}

func newReplayReport(policy string) *ReplayReport {
	return &ReplayReport{Policy: policy, Rules: []RuleChange{}, Groups: []ReplayGroup{}, groups: map[groupKey]*ReplayGroup{}}
}

// take counts a decision that was made again.
func (r *ReplayReport) take(a again) {
	r.Decisions++
	switch {
	case a.of.Action == trust.Fault:
		r.Faults++ // there was no decision to compare with
		return
	case len(a.of.Input) == 0:
		r.WithoutFacts++
		return
	case a.cancelled:
		return
	case a.evaluated:
		r.Evaluated++
	}
	switch {
	case a.err != nil && isFault(a.err):
		a.now = Outcome{trust.Fault, ""}
	case a.err != nil:
		r.Unreadable++
		return
	}
	before := Outcome{a.of.Action, joined(a.of.Codes)}
	if before == a.now {
		r.Unchanged++
		return
	}
	r.changed(before, a)
}

func (r *ReplayReport) changed(before Outcome, a again) {
	r.Changed++
	g := r.group(groupKey{before, a.now})
	if g == nil {
		r.MoreGroups++
		return
	}
	d := a.of
	g.Count++
	r.count(g.users, d.User, 1)
	r.count(g.devices, d.Device, 1)
	r.count(g.clients, d.Client, 1)
	x := ReplayExample{Reference: d.Reference, At: d.At.Unix(), User: clip(d.User), Device: clip(d.Device), Client: d.Client, Command: clip(d.Command)}
	if a.err != nil {
		x.Error = a.err.Error()
	}
	if len(g.Examples) < maxExamples {
		g.Examples = append(g.Examples, x)
	} else {
		g.Examples[g.Count%maxExamples] = x
	}
}

func clip(name string) string { return name[:min(len(name), maxName)] }

func (r *ReplayReport) group(k groupKey) *ReplayGroup {
	g := r.groups[k]
	if g == nil && len(r.groups) < maxGroups {
		g = &ReplayGroup{Before: k.before, After: k.after, users: map[string]int{}, devices: map[string]int{}, clients: map[string]int{}}
		r.groups[k] = g
	}
	return g
}

func (r *ReplayReport) count(m map[string]int, name string, n int) {
	name = clip(name)
	_, ok := m[name]
	if name == "" || !ok && (len(m) >= maxNamed || r.names >= maxNames) {
		return
	}
	if !ok {
		r.names++
		name = strings.Clone(name) // not the input that it is a part of
	}
	m[name] += n
}

func (r *ReplayReport) merge(part *ReplayReport) {
	r.Decisions += part.Decisions
	r.Evaluated += part.Evaluated
	r.Unchanged += part.Unchanged
	r.Changed += part.Changed
	r.WithoutFacts += part.WithoutFacts
	r.Unreadable += part.Unreadable
	r.Faults += part.Faults
	r.MoreGroups += part.MoreGroups
	for k, from := range part.groups {
		g := r.group(k)
		if g == nil {
			r.MoreGroups += from.Count
			continue
		}
		g.Count += from.Count
		for _, m := range [][2]map[string]int{{g.users, from.users}, {g.devices, from.devices}, {g.clients, from.clients}} {
			for name, n := range m[1] {
				r.count(m[0], name, n)
			}
		}
		g.Examples = append(g.Examples, from.Examples...)
	}
}

// finish sorts what was gathered. rules names the rules of the reasons.
func (r *ReplayReport) finish(rules *rulesOf) {
	r.Rules = rules.changes(r.groups)
	r.Groups = r.Groups[:0]
	for _, g := range r.groups {
		g.Users, g.Devices, g.Clients = named(g.users), named(g.devices), named(g.clients)
		slices.SortFunc(g.Examples, func(a, b ReplayExample) int { return cmp.Compare(b.At, a.At) })
		g.Examples = g.Examples[:min(len(g.Examples), maxExamples)]
		r.Groups = append(r.Groups, *g)
	}
	slices.SortFunc(r.Groups, func(a, b ReplayGroup) int {
		return cmp.Or(b.Count-a.Count, strings.Compare(string(a.After.Action)+a.After.Codes+string(a.Before.Action)+a.Before.Codes, string(b.After.Action)+b.After.Codes+string(b.Before.Action)+b.Before.Codes))
	})
}

func named(m map[string]int) []Named {
	out := make([]Named, 0, len(m))
	for name, n := range m {
		out = append(out, Named{name, n})
	}
	slices.SortFunc(out, func(a, b Named) int { return cmp.Or(b.Count-a.Count, strings.Compare(a.Name, b.Name)) })
	return out
}

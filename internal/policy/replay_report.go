package policy

import (
	"cmp"
	"slices"
	"strings"

	"postern/internal/trust"
)

// Limits of a report.
const (
	maxNamed    = 10_000 // users, devices and clients of one group; beyond, their number is a lower bound
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
	Groups       []ReplayGroup `json:"groups"`        // of the changed, the largest first
	MoreGroups   int           `json:"more_groups"`   // changed decisions beyond the limit of groups

	groups map[groupKey]*ReplayGroup
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
	return &ReplayReport{Policy: policy, Groups: []ReplayGroup{}, groups: map[groupKey]*ReplayGroup{}}
}

// compare counts one decision that was decided again.
func (r *ReplayReport) compare(d *Recorded, now Outcome, err error) {
	switch {
	case err != nil && isFault(err):
		now = Outcome{trust.Fault, ""}
	case err != nil:
		r.Unreadable++
		return
	}
	before := Outcome{d.Action, joined(d.Codes)}
	if before == now {
		r.Unchanged++
		return
	}
	r.Changed++
	g := r.group(groupKey{before, now})
	if g == nil {
		r.MoreGroups++
		return
	}
	g.Count++
	count(g.users, d.User, 1)
	count(g.devices, d.Device, 1)
	count(g.clients, d.Client, 1)
	if len(g.Examples) < maxExamples {
		x := ReplayExample{Reference: d.Reference, At: d.At.Unix(), User: d.User, Device: d.Device, Client: d.Client, Command: d.Command}
		if err != nil {
			x.Error = err.Error()
		}
		g.Examples = append(g.Examples, x)
	}
}

func (r *ReplayReport) group(k groupKey) *ReplayGroup {
	g := r.groups[k]
	if g == nil && len(r.groups) < maxGroups {
		g = &ReplayGroup{Before: k.before, After: k.after, users: map[string]int{}, devices: map[string]int{}, clients: map[string]int{}}
		r.groups[k] = g
	}
	return g
}

func count(m map[string]int, name string, n int) {
	if _, ok := m[name]; name != "" && (ok || len(m) < maxNamed) {
		m[name] += n
	}
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
				count(m[0], name, n)
			}
		}
		g.Examples = append(g.Examples, from.Examples...)
	}
}

// finish sorts what was gathered.
func (r *ReplayReport) finish() {
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

package policy

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"

	"postern/internal/trust"
)

// Change is one thing that could be different, in words.
type Change struct {
	Reason string `json:"reason,omitempty"` // the code of the reason that it settles; empty: none says it
	Fact   string `json:"fact"`             // what is so now
	Do     string `json:"do"`               // what would have to be done or be so
}

// changeOf is a change that can be made to an input.
type changeOf[I any] struct {
	Change
	codes string // the reasons that it may settle, separated by blanks
	about string // of what people can do: the facts that it changes, separated by blanks, where a rule of a team may ask for them
	fact  string // of a team's rule, that gets another value; empty: what people can do
	value string // that it gets, for people
	last  bool   // said only where nothing else helps
	apply func(*I)
}

// told gives every change that settles a reason the sentence and the remedy of that reason, so that both always say the same, and puts changes into the
// order of the reasons.
func told[I any](all []changeOf[I], reasons []trust.Reason) []changeOf[I] {
	place := func(c changeOf[I]) int {
		i := slices.IndexFunc(reasons, func(r trust.Reason) bool {
			return r.Facts[stageFact] != "observe" && slices.Contains(strings.Fields(c.codes), r.Code) && !isTeams(r.Rule)
		})
		if i < 0 {
			return len(reasons)
		}
		return i
	}
	all = slices.Clone(all)
	slices.SortStableFunc(all, func(a, b changeOf[I]) int { return cmp.Compare(place(a), place(b)) })
	for n := range all {
		if i := place(all[n]); i < len(reasons) {
			all[n].Change = Change{reasons[i].Code, reasons[i].Text, reasons[i].Remedy}
		}
	}
	return all
}

// isTeams reports whether a rule is of a package that a team wrote.
func isTeams(rule string) bool {
	return strings.HasPrefix(rule, "postern.access.team.") || strings.HasPrefix(rule, "postern.enroll.team.")
}

const (
	maxChanges     = 3    // in one set
	maxTries       = 4000 // decisions made to find out
	maxAlternative = 5
	maxFound       = 20 // before those that say the same are put together
	maxValues      = 5  // of one fact, told in one sentence
)

// search looks for the smallest sets of changes that make the answer another one.
type search[I any] struct {
	decide   func(context.Context, *I) (Decision, error)
	clone    func(*I) *I
	want     func(trust.Action) bool
	possible []changeOf[I]
	tries    int
}

// option is a set of changes that works. Options are of a kind that differ in one change only: another value of a fact, or something that people can do about it.
type option struct {
	set    []Change
	place  int      // of the change in which those of a kind differ
	rest   string   // the words of the others
	about  string   // the facts that it changes, where people can do it
	fact   string   // that it gives another value, where a team's rule asks for it
	values []string // that work
	last   bool
}

// smallest returns the sets of the least size that work, each told once; alone limits the size to one.
func (s *search[I]) smallest(ctx context.Context, in *I, alone bool) [][]Change {
	most, found := maxChanges, []option{}
	if alone {
		most = 1
	}
	seen := map[string]bool{}
	for size := 1; size <= most && len(found) == 0; size++ {
		s.each(ctx, size, 0, nil, func(chosen []int) {
			o := s.option(chosen)
			words, at := fmt.Sprint(o.set), slices.IndexFunc(found, o.alike)
			if seen[words] || at >= 0 && len(found[at].values) >= maxValues || len(found) >= maxFound && !alone || !s.works(ctx, in, chosen) {
				return
			}
			if seen[words] = true; at >= 0 {
				found[at].values = append(found[at].values, o.values...)
				return
			}
			found = append(found, o)
		})
	}
	return settling(tell(found, alone))
}

// option makes one of what was chosen. A change whose remedy only points at that of another one is left to that.
func (s *search[I]) option(chosen []int) (o option) {
	own := slices.DeleteFunc(slices.Clone(chosen), func(n int) bool { return defers(s.possible[n].Do) })
	if len(own) == 0 {
		own = chosen
	}
	for _, n := range own {
		c := s.possible[n]
		if c.fact != "" && c.Reason == "" || c.about != "" && o.fact == "" {
			o.place, o.about, o.fact, o.values = len(o.set), c.about, c.fact, []string{c.value}
		}
		o.set, o.last = append(o.set, c.Change), o.last || c.last
	}
	for i, c := range o.set {
		if i != o.place {
			o.rest += fmt.Sprint(c)
		}
	}
	return o
}

// alike reports whether two options only give the same fact another value.
func (o option) alike(p option) bool { return o.fact != "" && o.fact == p.fact && o.rest == p.rest }

// tell leaves out what another option says better, and tells the values of one fact together. all is for what would stop a request: every one of these counts.
func tell(found []option, all bool) (sets [][]Change) {
	for _, o := range found {
		better := func(p option) bool { return o.rest == p.rest && slices.Contains(strings.Fields(p.about), o.fact) }
		if o.last && len(found) > 1 || o.fact != "" && slices.ContainsFunc(found, better) {
			continue
		}
		if o.fact != "" {
			o.set[o.place].Do = "It is " + oneOf(o.values) + "."
		}
		if all || len(sets) < maxAlternative {
			sets = append(sets, o.set)
		}
	}
	return sets
}

// settling leaves, where there are any, only the sets that settle reasons and change nothing else: their words are the best.
func settling(found [][]Change) [][]Change {
	if only := slices.DeleteFunc(slices.Clone(found), func(set []Change) bool {
		return slices.ContainsFunc(set, func(c Change) bool { return c.Reason == "" })
	}); len(only) > 0 {
		return only
	}
	if found == nil {
		return [][]Change{}
	}
	return found
}

// oneOf writes values for people. Of numbers the first is enough: others are like it.
func oneOf(values []string) string {
	if len(values) > 1 && strings.Trim(values[0], "0123456789.") == "" {
		values = values[:1]
	}
	if len(values) > 1 && values[0] == nothing { // what is there helps more
		values = values[1:]
	}
	last := len(values) - 1
	if last == 0 {
		return values[0]
	}
	return strings.Join(values[:last], ", ") + " or " + values[last]
}

// each calls fn for every set of so many changes.
func (s *search[I]) each(ctx context.Context, size, from int, chosen []int, fn func([]int)) {
	if len(chosen) == size {
		fn(chosen)
		return
	}
	for n := from; n < len(s.possible) && s.tries < maxTries && ctx.Err() == nil; n++ {
		s.each(ctx, size, n+1, append(slices.Clone(chosen), n), fn)
	}
}

func (s *search[I]) works(ctx context.Context, in *I, chosen []int) bool {
	s.tries++
	changed := s.clone(in)
	for _, n := range chosen {
		s.possible[n].apply(changed)
	}
	d, err := s.decide(ctx, changed)
	return err == nil && s.want(d.Action)
}

// teamChanges are what would settle the reasons that teams gave. A reason with a remedy of its own is told by it: settled is how the input of an entry point
// is made one for which the code does not count. Of the others, and where that does not help, they are the facts that the rules which spoke compare with
// something: each with another value.
func teamChanges[I any](p *program, in *I, d Decision, settled func(in *I, code string)) (all []changeOf[I]) {
	seen := map[string]bool{}
	for _, reason := range d.Reasons {
		if !isTeams(reason.Rule) || reason.Facts[stageFact] == "observe" {
			continue
		}
		own := Change{reason.Code, reason.Text, reason.Remedy}
		if reason.Remedy != "" {
			all = append(all, changeOf[I]{Change: own, apply: func(in *I) { settled(in, reason.Code) }})
		}
		rules := p.rulesThatSay(reason.Rule, reason.Code)
		if reason.Remedy == "" {
			all = append(all, changeOf[I]{last: true, apply: func(in *I) { settled(in, reason.Code) }, Change: Change{Fact: "The rule " + reason.Code + " of " + reason.Rule + " speaks against it.",
				Do: "What the rule asks for is settled. It names nothing to do: whoever wrote it knows" + p.placeOf(reason.Rule, reason.Code) + "."}})
		}
		for _, r := range rules {
			ast.WalkRefs(r.Body, func(ref ast.Ref) bool {
				if path := groundPath(ref); len(path) > 2 && path[0] == "input" && len(path) == len(ref) && !seen[ref.String()] {
					seen[ref.String()] = true
					for _, c := range otherValues(in, path[1:], r) {
						if reason.Remedy != "" {
							c.Change = own
						}
						all = append(all, c)
					}
				}
				return false
			})
		}
	}
	return all
}

// supposed is an exception that is made up to see whether a reason is the last that is in the way.
func supposed(now int64, code string) ExceptionFacts {
	return ExceptionFacts{ID: "supposed", GrantedBy: "supposed", Until: now + 1, Reasons: []string{code}}
}

// or returns the first text that is not empty.
func or(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}

func known(b bool, yes, no string) string {
	if b {
		return yes
	}
	return no
}

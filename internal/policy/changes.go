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
	fact  string // of a team's rule, that gets another value; empty: what people can do
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
	maxValues      = 2 // of one fact
)

// search looks for the smallest sets of changes that make the answer another one.
type search[I any] struct {
	decide   func(context.Context, *I) (Decision, error)
	clone    func(*I) *I
	want     func(trust.Action) bool
	possible []changeOf[I]
	tries    int
}

// smallest returns the sets of the least size that work, each told once; alone limits the size to one.
func (s *search[I]) smallest(ctx context.Context, in *I, alone bool) [][]Change {
	most, found := maxChanges, [][]Change{}
	if alone {
		most = 1
	}
	seen, values := map[string]bool{}, map[string]int{}
	for size := 1; size <= most && len(found) == 0; size++ {
		s.each(ctx, size, 0, nil, func(chosen []int) {
			set, facts := make([]Change, len(chosen)), ""
			for i, n := range chosen {
				set[i] = s.possible[n].Change
				facts += s.possible[n].fact
			}
			words := fmt.Sprint(set)
			if len(found) >= maxAlternative && !alone || seen[words] || facts != "" && values[facts] >= maxValues || !s.works(ctx, in, chosen) {
				return
			}
			seen[words] = true
			values[facts]++
			found = append(found, set)
		})
	}
	return settling(found)
}

// settling leaves, where there are any, only the sets that settle reasons and change nothing else: their words are the best.
func settling(found [][]Change) [][]Change {
	if only := slices.DeleteFunc(slices.Clone(found), func(set []Change) bool {
		return slices.ContainsFunc(set, func(c Change) bool { return c.Reason == "" })
	}); len(only) > 0 {
		return only
	}
	return found
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

// teamChanges are the facts that the team rules which spoke compare with something: each with another value.
func teamChanges[I any](p *program, in *I, d Decision) (all []changeOf[I]) {
	seen := map[string]bool{}
	for _, reason := range d.Reasons {
		if !isTeams(reason.Rule) {
			continue
		}
		for _, m := range p.modules {
			if m.Package.Path.String() != "data."+reason.Rule {
				continue
			}
			for _, r := range m.Rules {
				if !strings.Contains(r.String(), reason.Code) {
					continue
				}
				ast.WalkRefs(r.Body, func(ref ast.Ref) bool {
					if path := groundPath(ref); len(path) > 2 && path[0] == "input" && len(path) == len(ref) && !seen[ref.String()] {
						seen[ref.String()] = true
						all = append(all, otherValues(in, path[1:], r)...)
					}
					return false
				})
			}
		}
	}
	return all
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

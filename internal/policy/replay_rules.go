package policy

import (
	"cmp"
	"slices"
	"strings"
	"sync"
)

// maxCodes is how many reasons a report names; a policy has some dozens.
const maxCodes = 1000

// rulesOf remembers which rule gives which reason.
type rulesOf struct {
	engine *Engine // that decides again

	mu     sync.Mutex
	byCode map[string]string
}

func (r *rulesOf) learn(d *Decision) {
	if len(d.Reasons) == 0 {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.byCode == nil {
		r.byCode = map[string]string{}
	}
	for _, x := range d.Reasons {
		if _, ok := r.byCode[x.Code]; !ok && len(r.byCode) < maxCodes {
			r.byCode[x.Code] = x.Rule
		}
	}
}

// changes counts, for every reason, in how many changed decisions it is new and in how many it is gone.
func (r *rulesOf) changes(groups map[groupKey]*ReplayGroup) []RuleChange {
	r.mu.Lock()
	defer r.mu.Unlock()
	byCode := map[string]*RuleChange{}
	of := func(code string) *RuleChange {
		if byCode[code] == nil {
			byCode[code] = &RuleChange{Rule: r.engine.ruleOf(code, r.byCode[code]), Code: code}
		}
		return byCode[code]
	}
	for k, g := range groups {
		before, after := split(k.before.Codes), split(k.after.Codes)
		for _, code := range after {
			if !slices.Contains(before, code) {
				of(code).More += g.Count
			}
		}
		for _, code := range before {
			if !slices.Contains(after, code) {
				of(code).Fewer += g.Count
			}
		}
	}
	out := make([]RuleChange, 0, len(byCode))
	for _, c := range byCode {
		out = append(out, *c)
	}
	slices.SortFunc(out, func(a, b RuleChange) int {
		return cmp.Or(b.More+b.Fewer-a.More-a.Fewer, strings.Compare(a.Code, b.Code))
	})
	return out[:min(len(out), maxCodes)]
}

func split(codes string) []string {
	if codes == "" {
		return nil
	}
	return strings.Split(codes, ",")
}

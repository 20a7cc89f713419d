package edge

import (
	"context"
	"fmt"
	"testing"

	"postern/internal/policy"
)

// benchPolicy is the built-in policy, and a candidate beside it.
func benchPolicy(shadow bool) (*policy.Active, error) {
	e, err := policy.Load(context.Background(), policy.Options{})
	if err != nil || !shadow {
		return policy.NewActive(e), err
	}
	candidate, err := policy.Load(context.Background(), policy.Options{Files: policy.Files{"team.rego": []byte(
		"package postern.access.team.bench\n\nquarantine contains \"odd_phone\" if endswith(input.claimed.device_type, \"7\")\n\ndeny contains \"no_screen_lock\" if input.device.labels.screen_lock == \"no\"\n")}})
	if err != nil {
		return nil, err
	}
	active, s := policy.NewActive(e), policy.NewShadow(candidate)
	active.Beside(s)
	go func() { _ = s.Run(context.Background()) }()
	return active, nil
}

// BenchmarkShadow: the edge with and without a candidate beside its policy, at 95% of decisions remembered, and with none remembered.
func BenchmarkShadow(b *testing.B) {
	const phones, requests = 32, 10_000
	s := newSite(b, phones, 0)
	_, upstream := role(b, 1, "upstream", "GOMAXPROCS=1")
	var all []*contestant
	for _, c := range []*contestant{{name: "95% remembered, no shadow", every: 20}, {name: "95% remembered, shadow", every: 20},
		{name: "none remembered, no shadow", every: 1}, {name: "none remembered, shadow", every: 1}} {
		kind := "policy"
		if len(all)%2 == 1 {
			kind = "shadow"
		}
		var addr string
		c.gate, addr = s.gate(b, kind, upstream)
		c.client = s.client(b, addr, fmt.Sprint("keep ", phones))
		all = append(all, c)
	}
	b.ResetTimer()
	contest(b, requests, all...)
	for i, c := range all {
		var hits, misses float64
		_, _ = fmt.Sscan(c.gate.ask("hits"), &hits, &misses)
		b.Logf("%s: %.1f%%", c.name, 100*hits/(hits+misses))
		if i%2 == 1 {
			var offered, evaluated, changed, dropped int
			_, _ = fmt.Sscan(c.gate.ask("shadow"), &offered, &evaluated, &changed, &dropped)
			b.Logf("%s: of %d handed in, %d evaluated, %d would change, %d dropped", c.name, offered, evaluated, changed, dropped)
			if evaluated == 0 || changed == 0 {
				b.Error("the shadow did nothing")
			}
		}
	}
	for b.Loop() {
	}
	for i, name := range []string{"shadow/none-at-95%", "shadow/none-at-0%"} {
		on, off := all[2*i+1], all[2*i]
		b.ReportMetric(middle(on.rate)/middle(off.rate), name)
		b.ReportMetric(middle(off.cost)/middle(on.cost), name+"-cpu")
	}
}

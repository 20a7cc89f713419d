package admin

import (
	"context"
	"encoding/json"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/prometheus/client_golang/prometheus"

	"postern/internal/api"
	"postern/internal/policy"
	"postern/internal/registry"
	"postern/internal/trust"
)

func (a *Admin) shadowRoutes(g *gin.RouterGroup) {
	g.GET("/policies/shadow", handle(a.showShadow))
	g.POST("/policies/shadow", handle(a.startShadow))
	g.DELETE("/policies/shadow", handle(a.endShadow))
}

// policyShadow answers with what this node has found so far.
func (a *Admin) policyShadow(x registry.PolicyShadow) (api.PolicyShadow, error) {
	out := api.PolicyShadow{Digest: x.Digest, By: x.By.String(), Comment: x.Comment, At: x.At, Source: a.cfg.PolicySource, Report: json.RawMessage("null")}
	s := a.cfg.Policy.Shadow()
	if s == nil || s.Policy() != x.Digest {
		return out, nil
	}
	report, err := json.Marshal(s.Report())
	out.Running, out.Report = true, report
	return out, err
}

func (a *Admin) showShadow(c *gin.Context, _ none) (api.PolicyShadow, error) {
	x, err := a.cfg.Registry.PolicyShadow(c)
	if err != nil {
		return api.PolicyShadow{}, err
	}
	return a.policyShadow(x)
}

// startShadow answers when this node has begun.
func (a *Admin) startShadow(c *gin.Context, in api.StartShadow) (api.PolicyShadow, error) {
	x, _, err := a.cfg.Registry.ShadowPolicy(c, principal(c), in.Digest, in.Comment)
	if err != nil {
		return api.PolicyShadow{}, err
	}
	ctx, cancel := context.WithTimeout(c, takeUp)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for s := a.cfg.Policy.Shadow(); (s == nil || s.Policy() != x.Digest) && ctx.Err() == nil; s = a.cfg.Policy.Shadow() {
		select {
		case <-tick.C:
		case <-ctx.Done():
		}
	}
	return a.policyShadow(x)
}

// endShadow answers with the last report, which is gone afterwards.
func (a *Admin) endShadow(c *gin.Context, _ none) (api.PolicyShadow, error) {
	last := a.cfg.Policy.Shadow()
	x, err := a.cfg.Registry.EndPolicyShadow(c, principal(c))
	if err != nil {
		return api.PolicyShadow{}, err
	}
	out := api.PolicyShadow{Digest: x.Digest, By: x.By.String(), Comment: x.Comment, At: x.At, Report: json.RawMessage("null")}
	if last != nil && last.Policy() == x.Digest {
		out.Report, err = json.Marshal(last.Report())
	}
	return out, err
}

// shadowMetrics tells Prometheus what a shadow has found. They begin at 0 with each shadow and with each policy that comes into force beside it.
type shadowMetrics struct {
	active *policy.Active

	running, decided, evaluated, differences, dropped, waiting *prometheus.Desc
}

func newShadowMetrics(active *policy.Active) *shadowMetrics {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc("postern_policy_shadow"+name, help, labels, nil)
	}
	return &shadowMetrics{active: active,
		running:     desc("", "1 while a policy decides in shadow, by its digest and that of the policy in force.", "candidate", "in_force"),
		decided:     desc("_decisions_total", "Decisions of the policy in force that the shadow has compared with its own."),
		evaluated:   desc("_evaluated_total", "Of these, those for which the shadow was asked; the others had the same facts."),
		differences: desc("_differences_total", "Decisions that the shadow would have made otherwise, by what they were and would be.", "before", "after"),
		dropped:     desc("_dropped_total", "Decisions that the shadow has not looked at for want of time."),
		waiting:     desc("_waiting", "Decisions that wait for the shadow."),
	}
}

// Describe implements prometheus.Collector.
func (m *shadowMetrics) Describe(to chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{m.running, m.decided, m.evaluated, m.differences, m.dropped, m.waiting} {
		to <- d
	}
}

// Collect implements prometheus.Collector. Without a shadow there is nothing to tell.
func (m *shadowMetrics) Collect(to chan<- prometheus.Metric) {
	s := m.active.Shadow()
	if s == nil {
		return
	}
	r := s.Report()
	to <- prometheus.MustNewConstMetric(m.running, prometheus.GaugeValue, 1, s.Policy(), r.Against)
	for d, n := range map[*prometheus.Desc]int{m.decided: r.Decisions, m.evaluated: r.Evaluated, m.dropped: int(r.Dropped)} {
		to <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(n))
	}
	to <- prometheus.MustNewConstMetric(m.waiting, prometheus.GaugeValue, float64(r.Waiting))
	byOutcome := map[[2]trust.Action]int{}
	for _, g := range r.Groups {
		byOutcome[[2]trust.Action{g.Before.Action, g.After.Action}] += g.Count
	}
	for k, n := range byOutcome {
		to <- prometheus.MustNewConstMetric(m.differences, prometheus.CounterValue, float64(n), string(k[0]), string(k[1]))
	}
}

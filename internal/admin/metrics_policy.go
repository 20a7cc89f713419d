package admin

import (
	"github.com/prometheus/client_golang/prometheus"

	"postern/internal/policy"
)

// policyMetrics tells Prometheus of the policy in force. They begin at 0 with each that comes into force.
type policyMetrics struct {
	active *policy.Active

	inForce, faults, left, remembered, evaluated *prometheus.Desc
}

func newPolicyMetrics(active *policy.Active) *policyMetrics {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc("postern_policy_"+name, help, labels, nil)
	}
	return &policyMetrics{active: active,
		inForce:    desc("in_force", "1, by the digest of the policy that decides on this node.", "digest"),
		faults:     desc("faults_total", "Decisions that the policy in force could not make: whoever was concerned was told to try again later."),
		left:       desc("left_to_opa_total", "Decisions of the policy in force that its plan did not make, and OPA did, at several times the cost: what cannot be planned, and every fault."),
		remembered: desc("remembered_total", "Decisions of the policy in force about known certificates that were remembered."),
		evaluated:  desc("evaluated_total", "Decisions of the policy in force about known certificates that were made anew."),
	}
}

// Describe implements prometheus.Collector.
func (m *policyMetrics) Describe(to chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{m.inForce, m.faults, m.left, m.remembered, m.evaluated} {
		to <- d
	}
}

// Collect implements prometheus.Collector.
func (m *policyMetrics) Collect(to chan<- prometheus.Metric) {
	e := m.active.Load()
	if e == nil {
		return // none is open yet
	}
	cache := e.CacheStats()
	to <- prometheus.MustNewConstMetric(m.inForce, prometheus.GaugeValue, 1, e.Digest())
	for d, n := range map[*prometheus.Desc]uint64{m.faults: e.Faults().Count, m.left: e.LeftToOPA(), m.remembered: cache.Hits, m.evaluated: cache.Misses} {
		to <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(n))
	}
}

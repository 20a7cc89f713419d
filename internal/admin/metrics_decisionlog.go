package admin

import "github.com/prometheus/client_golang/prometheus"

// DecisionLogCounts is what the metrics say of decisions that are told to others, since the start.
type DecisionLogCounts struct {
	Written, Sent, Dropped, Refused uint64
	Waiting                         int
}

// decisionLogMetrics is a prometheus.Collector.
type decisionLogMetrics struct {
	counts func() DecisionLogCounts

	written, sent, dropped, refused, waiting *prometheus.Desc
}

func newDecisionLogMetrics(counts func() DecisionLogCounts) *decisionLogMetrics {
	desc := func(name, help string) *prometheus.Desc {
		return prometheus.NewDesc("postern_decision_log_"+name, help, nil, nil)
	}
	return &decisionLogMetrics{counts: counts,
		written: desc("written_total", "Decisions written to the file of the decision log."),
		sent:    desc("sent_total", "Decisions that the decision log service has taken."),
		dropped: desc("dropped_total", "Decisions lost to the decision log: no room, too many a second, or the disk failed."),
		refused: desc("refused_total", "Decisions that the decision log service does not want (HTTP 4xx)."),
		waiting: desc("waiting", "Decisions that wait for the decision log service."),
	}
}

// Describe implements prometheus.Collector.
func (m *decisionLogMetrics) Describe(to chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{m.written, m.sent, m.dropped, m.refused, m.waiting} {
		to <- d
	}
}

// Collect implements prometheus.Collector.
func (m *decisionLogMetrics) Collect(to chan<- prometheus.Metric) {
	c := m.counts()
	for d, n := range map[*prometheus.Desc]uint64{m.written: c.Written, m.sent: c.Sent, m.dropped: c.Dropped, m.refused: c.Refused} {
		to <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(n))
	}
	to <- prometheus.MustNewConstMetric(m.waiting, prometheus.GaugeValue, float64(c.Waiting))
}

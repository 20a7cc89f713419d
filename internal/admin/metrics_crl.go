package admin

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// CRLState is what the metrics say of the CRLs of one CA that this process publishes.
type CRLState struct {
	Issuer, CA     string
	Until, Pending time.Time // when what is served ceases to be valid; since when a publication is due that has not happened, zero for none
	Trouble        bool      // health says what is wrong
}

// crlMetrics is a prometheus.Collector: CAs come and go with rotations.
type crlMetrics struct {
	states func() []CRLState
	now    func() time.Time

	valid, pending, trouble *prometheus.Desc
}

func newCRLMetrics(states func() []CRLState, now func() time.Time) *crlMetrics {
	desc := func(name, help string) *prometheus.Desc {
		return prometheus.NewDesc("postern_crl_"+name, help, []string{"issuer", "ca"}, nil)
	}
	return &crlMetrics{states: states, now: now,
		valid:   desc("valid_seconds", "How long what is served stays valid, base or delta, whichever ends earlier; negative once it has expired."),
		pending: desc("pending_seconds", "How long a publication has been due that has not happened."),
		trouble: desc("trouble", "1 if CRLs are not renewed, late or not valid, and health says why."),
	}
}

// Describe implements prometheus.Collector.
func (m *crlMetrics) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{m.valid, m.pending, m.trouble} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (m *crlMetrics) Collect(ch chan<- prometheus.Metric) {
	for _, s := range m.states() {
		gauge := func(d *prometheus.Desc, v float64) {
			ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, s.Issuer, s.CA)
		}
		if !s.Until.IsZero() {
			gauge(m.valid, s.Until.Sub(m.now()).Seconds())
		}
		waiting, trouble := 0.0, 0.0
		if !s.Pending.IsZero() {
			waiting = m.now().Sub(s.Pending).Seconds()
		}
		if s.Trouble {
			trouble = 1
		}
		gauge(m.pending, waiting)
		gauge(m.trouble, trouble)
	}
}

package admin

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"postern/internal/registry"
)

// scrapePatience is how long the registry and the journal may take to say what is told at /metrics.
const scrapePatience = 5 * time.Second

// EdgeReactions is what is told of the edge of this process.
type EdgeReactions struct {
	Applied registry.TimingCounts // from a revocation, hold or suspension to the edge's refusing by it
	Ended   uint64                // long polls and other commands in flight that were ended
}

// reactionMetrics tells Prometheus how fast revocations are acted on, what is published, and who has fetched it.
type reactionMetrics struct {
	admin                                         *Admin
	applied, ended, published                     *prometheus.Desc
	number, thisUpdate, nextUpdate, entries, size *prometheus.Desc
	receipts, fetched                             *prometheus.Desc
}

func (a *Admin) reactionMetrics() *reactionMetrics {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc("postern_"+name, help, labels, nil)
	}
	crl := []string{"issuer", "ca", "kind"}
	return &reactionMetrics{admin: a,
		applied:    desc("revocation_edge_seconds", "From a revocation, hold or suspension to this edge's refusing by it; of several in one step, the first."),
		ended:      desc("edge_polls_ended_total", "Long polls and other commands in flight that the edge has ended because they were no longer allowed."),
		published:  desc("revocation_published_seconds", "From a revocation, hold or release to the CRL that has it, of those that this node publishes; of several in one CRL, the first."),
		number:     desc("crl_number", "Number of the published CRL.", crl...),
		thisUpdate: desc("crl_this_update_timestamp_seconds", "thisUpdate of the published CRL.", crl...),
		nextUpdate: desc("crl_next_update_timestamp_seconds", "nextUpdate of the published CRL: sign-ins fail after it.", crl...),
		entries:    desc("crl_entries", "Entries of the published CRL.", crl...),
		size:       desc("crl_size_bytes", "Size of the published CRL.", crl...),
		receipts:   desc("crl_receipts", "Fetches of CRLs that are remembered, by who fetches: microsoft or other.", append(crl, "by")...),
		fetched:    desc("crl_last_fetch_timestamp_seconds", "The last fetch of a CRL, by who fetches: microsoft or other.", append(crl, "by")...),
	}
}

// Describe implements prometheus.Collector.
func (m *reactionMetrics) Describe(to chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{m.applied, m.ended, m.published, m.number, m.thisUpdate, m.nextUpdate, m.entries, m.size, m.receipts, m.fetched} {
		to <- d
	}
}

// Collect implements prometheus.Collector. What the registry or the journal does not say in time is left out.
func (m *reactionMetrics) Collect(to chan<- prometheus.Metric) {
	timing := func(d *prometheus.Desc, c registry.TimingCounts) {
		to <- prometheus.MustNewConstHistogram(d, c.Count, c.Sum.Seconds(), c.Buckets)
	}
	if m.admin.cfg.Edge != nil {
		e := m.admin.cfg.Edge()
		timing(m.applied, e.Applied)
		to <- prometheus.MustNewConstMetric(m.ended, prometheus.CounterValue, float64(e.Ended))
	}
	timing(m.published, m.admin.cfg.Registry.PublishTimes().Counts())
	ctx, cancel := context.WithTimeout(context.Background(), scrapePatience)
	defer cancel()
	for _, ca := range m.admin.cfg.Index.CAs() {
		m.crls(ctx, to, ca)
		for _, kind := range []registry.CRLKind{registry.Base, registry.Delta} {
			m.fetches(ctx, to, ca, kind)
		}
	}
}

func (m *reactionMetrics) crls(ctx context.Context, to chan<- prometheus.Metric, ca registry.CA) {
	known, err := m.admin.cfg.Registry.CRLs(ctx, ca.Issuer, ca.ID)
	if err != nil {
		m.admin.cfg.Log.WarnContext(ctx, "metrics without CRLs", "issuer", ca.Issuer, "ca", ca.ID, "error", err)
		return
	}
	newest := map[registry.CRLKind]registry.CRL{}
	for _, c := range known {
		newest[c.Kind] = c
	}
	for kind, c := range newest {
		for d, value := range map[*prometheus.Desc]float64{m.number: float64(c.Number), m.thisUpdate: float64(c.ThisUpdate.Unix()),
			m.nextUpdate: float64(c.NextUpdate.Unix()), m.entries: float64(c.Entries), m.size: float64(c.Size)} {
			to <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, value, ca.Issuer, ca.ID, string(kind))
		}
	}
}

func (m *reactionMetrics) fetches(ctx context.Context, to chan<- prometheus.Metric, ca registry.CA, kind registry.CRLKind) {
	all, err := m.admin.cfg.Journal.Receipts(ctx, objectOf(ca.Issuer, ca.ID, kind), receiptsAtOnce)
	if err != nil {
		m.admin.cfg.Log.WarnContext(ctx, "metrics without receipts", "issuer", ca.Issuer, "ca", ca.ID, "error", err)
		return
	}
	count, last := map[string]uint64{}, map[string]time.Time{}
	for _, r := range all {
		by := "other"
		if m.admin.cfg.Networks.Service(r.Network) != "" {
			by = "microsoft"
		}
		if count[by] += r.Count; r.Last.After(last[by]) {
			last[by] = r.Last
		}
	}
	for by, n := range count {
		to <- prometheus.MustNewConstMetric(m.receipts, prometheus.GaugeValue, float64(n), ca.Issuer, ca.ID, string(kind), by)
		to <- prometheus.MustNewConstMetric(m.fetched, prometheus.GaugeValue, float64(last[by].Unix()), ca.Issuer, ca.ID, string(kind), by)
	}
}

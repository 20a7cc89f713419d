package admin

import (
	"net/http"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"postern/internal/registry"
)

// maxSilence is how old the index may be before the process is not ready: the store is asked every second.
const maxSilence = 10 * time.Second

// health serves liveness, readiness and metrics. They are open: they tell no names.
func (a *Admin) health(e *gin.Engine) {
	e.GET("/healthz", func(c *gin.Context) {
		if a.cfg.Policy.Load().Replaced() {
			c.String(http.StatusOK, "ok\nthe built-in policies are replaced (policy.replace): their rules are not in force\n")
			return
		}
		c.String(http.StatusOK, "ok\n")
	})
	e.GET("/readyz", func(c *gin.Context) {
		if p := a.problems(); len(p) > 0 {
			c.JSON(http.StatusServiceUnavailable, gin.H{"problems": p})
			return
		}
		c.String(http.StatusOK, "ready\n")
	})
	e.GET("/readyz/edge", a.edgeReady)
	reg := prometheus.NewRegistry()
	gauge := func(name, help string, fn func() float64) {
		reg.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Namespace: "postern", Name: name, Help: help}, fn))
	}
	gauge("registry_revision", "Revision that the index has reached.", func() float64 { return float64(a.cfg.Index.Revision()) })
	gauge("registry_silence_seconds", "Time since the registry last answered.", func() float64 { return a.silence().Seconds() })
	for name, c := range map[string]struct {
		help string
		of   func(registry.JournalStats) uint64
	}{
		"journal_dropped_decisions":          {"Decisions lost to overload since the start.", func(s registry.JournalStats) uint64 { return s.Dropped }},
		"journal_sampled_decisions":          {"Decisions about strangers that were only counted since the start: an attack.", func(s registry.JournalStats) uint64 { return s.Sampled }},
		"journal_evicted_decisions":          {"Decisions about known devices that were removed before their time since the start.", func(s registry.JournalStats) uint64 { return s.Evicted }},
		"journal_evicted_stranger_decisions": {"Decisions about strangers that were removed before their time since the start.", func(s registry.JournalStats) uint64 { return s.EvictedStrangers }},
	} {
		gauge(name, c.help, func() float64 { return float64(c.of(a.cfg.Journal.Stats())) })
	}
	gauge("problems", "What makes the process unhealthy, by count.", func() float64 { return float64(len(a.problems())) })
	reg.MustRegister(a.reactionMetrics(), newShadowMetrics(a.cfg.Policy), newPolicyMetrics(a.cfg.Policy))
	if a.cfg.DecisionLog != nil {
		reg.MustRegister(newDecisionLogMetrics(a.cfg.DecisionLog))
	}
	if a.cfg.CRLs != nil {
		reg.MustRegister(newCRLMetrics(a.cfg.CRLs, a.cfg.Now))
	}
	e.GET("/metrics", gin.WrapH(promhttp.HandlerFor(reg, promhttp.HandlerOpts{})))
}

// edgeReady answers whoever spreads phones over several edges: a CRL that is late is no reason to send a phone elsewhere.
func (a *Admin) edgeReady(c *gin.Context) {
	switch {
	case a.cfg.EdgeTrouble == nil:
		c.String(http.StatusNotFound, "no edge in this process\n")
	case a.cfg.EdgeTrouble() != "":
		c.JSON(http.StatusServiceUnavailable, gin.H{"problems": []string{a.cfg.EdgeTrouble()}})
	default:
		c.String(http.StatusOK, "ready\n")
	}
}

func (a *Admin) silence() time.Duration { return a.cfg.Now().Sub(a.cfg.Index.Heard()) }

// problems lists what is wrong, in words for an operator.
func (a *Admin) problems() []string {
	out := append([]string{}, a.cfg.Problems()...)
	if s := a.silence(); s > maxSilence {
		out = append(out, "the registry has not answered for "+s.Round(time.Second).String())
	}
	return out
}

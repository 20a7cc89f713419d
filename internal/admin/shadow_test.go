package admin

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"postern/internal/policy"
)

// TestShadowMetrics: what a Prometheus gets of a shadow, and that there is nothing without one.
func TestShadowMetrics(t *testing.T) {
	load := func(files policy.Files) *policy.Engine {
		t.Helper()
		e, err := policy.Load(t.Context(), policy.Options{Files: files})
		if err != nil {
			t.Fatal(err)
		}
		return e
	}
	active := policy.NewActive(load(policy.Files{}))
	reg := prometheus.NewRegistry()
	reg.MustRegister(newShadowMetrics(active))
	scrape := func() string {
		w := httptest.NewRecorder()
		promhttp.HandlerFor(reg, promhttp.HandlerOpts{}).ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/metrics", nil))
		return w.Body.String()
	}
	if got := scrape(); got != "" {
		t.Errorf("without a shadow: %s", got)
	}
	s := policy.NewShadow(load(policy.Files{"team.rego": []byte("package postern.access.team.x\n\ndeny contains \"x\" if input.request.command == \"sync\"\n")}))
	active.Beside(s)
	done := make(chan struct{})
	go func() { defer close(done); _ = s.Run(t.Context()) }()
	t.Cleanup(func() { <-done })
	in := policy.AccessInput{Request: policy.RequestFacts{Class: "command", Protocol: "eas", Command: "sync", Version: 161}}
	for range 2 {
		if _, err := active.Load().Access(t.Context(), &in); err != nil {
			t.Fatal(err)
		}
	}
	for end := time.Now().Add(10 * time.Second); s.Report().Decisions < 2 && time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
	}
	got := scrape()
	for _, line := range []string{`postern_policy_shadow{candidate="` + s.Policy() + `",in_force="` + active.Load().Digest() + `"} 1`, "postern_policy_shadow_decisions_total 2",
		"postern_policy_shadow_evaluated_total 1", `postern_policy_shadow_differences_total{after="deny",before="deny"} 2`, "postern_policy_shadow_dropped_total 0", "postern_policy_shadow_waiting 0"} {
		if !strings.Contains(got, "\n"+line+"\n") {
			t.Errorf("no line %s in\n%s", line, got)
		}
	}
}

package admin

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"postern/internal/policy"
)

// TestPolicyMetrics: what a Prometheus gets of the policy in force.
func TestPolicyMetrics(t *testing.T) {
	e, err := policy.Load(t.Context(), policy.Options{Files: policy.Files{"a.rego": []byte("package postern.access.team.a\n\ndeny contains \"x\" if {\n\tinput.claimed.family == \"nine\"\n\tto_number(input.claimed.model) > 3\n}\n")}})
	if err != nil {
		t.Fatal(err)
	}
	in := policy.AccessInput{Request: policy.RequestFacts{Class: "command", Protocol: "eas", Command: "sync", Version: 161}, Claimed: policy.ClaimedFacts{Family: "nine", Model: "a model"}}
	for range 2 {
		if _, err := e.Access(t.Context(), &in); err == nil {
			t.Fatal("no fault")
		}
	}
	in.Claimed.Family, in.Certificate = "gmail", policy.CertFacts{Present: true, Status: "good", Issuer: "contoso", Serial: "0a"}
	for range 3 {
		if _, err := e.Access(t.Context(), &in); err != nil {
			t.Fatal(err)
		}
	}
	reg := prometheus.NewRegistry()
	reg.MustRegister(newPolicyMetrics(policy.NewActive(nil)))
	if all, err := reg.Gather(); err != nil || len(all) != 0 {
		t.Errorf("before the first policy: %v, %v", all, err)
	}
	reg = prometheus.NewRegistry()
	reg.MustRegister(newPolicyMetrics(policy.NewActive(e)))
	w := httptest.NewRecorder()
	promhttp.HandlerFor(reg, promhttp.HandlerOpts{}).ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/metrics", nil))
	for _, line := range []string{`postern_policy_in_force{digest="` + e.Digest() + `"} 1`, "postern_policy_faults_total 2", "postern_policy_left_to_opa_total 2", "postern_policy_remembered_total 2", "postern_policy_evaluated_total 1"} {
		if !strings.Contains(w.Body.String(), "\n"+line+"\n") {
			t.Errorf("no line %s in\n%s", line, w.Body.String())
		}
	}
}

package server

import (
	"log/slog"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"postern/internal/registry"
	"postern/internal/registry/registrytest"
)

func TestDecisionLogsSection(t *testing.T) {
	for name, c := range map[string]struct {
		section DecisionLogsSection
		want    string
	}{
		"nobody":          {DecisionLogsSection{}, "want file, url or both"},
		"plain http":      {DecisionLogsSection{URL: "http://siem.contoso.com/logs"}, "policy.decision_logs.url"},
		"a password":      {DecisionLogsSection{URL: "https://u:swordfish@siem.contoso.com/logs"}, "policy.decision_logs.url"},
		"a key":           {DecisionLogsSection{URL: "https://siem.contoso.com/logs?key=swordfish"}, "token_file"},
		"a fragment":      {DecisionLogsSection{URL: "https://siem.contoso.com/logs#swordfish"}, "token_file"},
		"no address":      {DecisionLogsSection{URL: "https://siem.contoso.com:swordfish/logs"}, "policy.decision_logs.url"},
		"a word":          {DecisionLogsSection{File: "x", Allows: "some"}, "policy.decision_logs.allows"},
		"a mask":          {DecisionLogsSection{File: "x", Mask: []string{"input/owner"}}, "policy.decision_logs.mask"},
		"a mask of all":   {DecisionLogsSection{File: "x", Mask: []string{"/labels"}}, "policy.decision_logs.mask"},
		"negative":        {DecisionLogsSection{File: "x", MaxSizeMB: -1}, "policy.decision_logs.max_size_mb"},
		"too seldom":      {DecisionLogsSection{File: "x", Every: Duration(time.Hour)}, "policy.decision_logs.every"},
		"a label of many": {DecisionLogsSection{File: "x", Labels: map[string]string{"a": "b\nc"}}, "policy.decision_logs.labels"},
		"a file":          {DecisionLogsSection{File: "x"}, ""},
		"both":            {DecisionLogsSection{File: "x", URL: "http://127.0.0.1:9/logs", Mask: []string{"/input/owner/mail"}}, ""},
	} {
		var p problems
		c.section.validate(func(s string) string { return s }, &p)
		text := ""
		for _, err := range p {
			text += err.Error()
		}
		if strings.Contains(text, "swordfish") {
			t.Errorf("%s: a secret is in %q", name, text)
		}
		if c.want == "" && text != "" || !strings.Contains(text, c.want) {
			t.Errorf("%s: %q, want %q", name, text, c.want)
		}
	}
}

// Neither errors nor health tell what follows the path of a bundle's address: there are bundle servers whose addresses are signed.
func TestAddressOfABundle(t *testing.T) {
	away := httptest.NewServer(nil)
	away.Close()
	cfg := BundleSection{URL: away.URL + "/b.tar.gz?sig=swordfish", Every: Duration(time.Minute), Unsigned: true}
	b, err := newBundleSource(cfg)
	if err != nil {
		t.Fatal(err)
	}
	_, err = b.fetch(t.Context())
	if err == nil || strings.Contains(err.Error(), "swordfish") || !strings.Contains(err.Error(), "bundle "+away.URL+"/b.tar.gz: ") || !strings.Contains(err.Error(), "refused") {
		t.Error(err)
	}
	k, err := newPolicyKeeper(Policy{Bundle: &cfg}, registry.New(registrytest.Store(t), time.Now, slog.New(slog.DiscardHandler)), time.Now, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	if _, err = k.open(t.Context()); err == nil || strings.Contains(err.Error(), "swordfish") || strings.Contains(k.source(), "swordfish") {
		t.Error(err)
	}
	var p problems
	p.service("policy.bundle.url", "http://u:swordfish@policies.contoso.com/b?sig=swordfish")
	if len(p) != 1 || strings.Contains(p[0].Error(), "swordfish") {
		t.Error(p)
	}
}

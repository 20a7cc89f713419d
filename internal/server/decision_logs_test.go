package server

import (
	"strings"
	"testing"
	"time"
)

func TestDecisionLogsSection(t *testing.T) {
	for name, c := range map[string]struct {
		section DecisionLogsSection
		want    string
	}{
		"nobody":          {DecisionLogsSection{}, "want file, url or both"},
		"plain http":      {DecisionLogsSection{URL: "http://siem.contoso.com/logs"}, "policy.decision_logs.url"},
		"a password":      {DecisionLogsSection{URL: "https://u:p@siem.contoso.com/logs"}, "policy.decision_logs.url"},
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
		if c.want == "" && text != "" || !strings.Contains(text, c.want) {
			t.Errorf("%s: %q, want %q", name, text, c.want)
		}
	}
}

package server

import (
	"errors"
	"net/url"
	"strings"
	"time"

	"postern/internal/decisionlog"
)

// Limits of decision logs.
const (
	maxLogMB     = 10_000
	maxLogKeep   = 100
	maxLogRate   = 100_000
	maxLogEvery  = 10 * time.Minute
	maxLogLabels = 20
)

// DecisionLogsSection says whom decisions are told, in the form of OPA's decision logs: a file, a service, or both.
type DecisionLogsSection struct {
	File         string            `yaml:"file,omitempty" doc:"lines of JSON are appended here"`
	MaxSizeMB    int               `yaml:"max_size_mb,omitempty" doc:"of the file, before it is rotated to FILE.1; 100 if left out"`
	Keep         int               `yaml:"keep,omitempty" doc:"rotated files; 5 if left out"`
	URL          string            `yaml:"url,omitempty" doc:"a service that takes batches by POST, a JSON array in gzip, usually .../logs"`
	TokenFile    string            `yaml:"token_file,omitempty" doc:"file with a bearer token for the service, read anew for each batch"`
	Every        Duration          `yaml:"every,omitempty" doc:"the longest time that a decision waits for its batch; 10s if left out"`
	Allows       string            `yaml:"allows,omitempty" doc:"of plain allows: new (those decided anew, with their facts), all (every request), none; new if left out"`
	MaxPerSecond int               `yaml:"max_per_second,omitempty" doc:"decisions beyond it are dropped and counted; 1000 if left out"`
	Mask         []string          `yaml:"mask,omitempty" doc:"what is erased before anything is written, as JSON pointers into the event, * for every element; instead of these, who it is about"`
	Labels       map[string]string `yaml:"labels,omitempty,flow" doc:"of every event, beside app, id and version"`
}

// validate checks whom decisions are told; nil for nobody.
func (s *DecisionLogsSection) validate(abs func(string) string, p *problems) *decisionlog.Config {
	if s == nil {
		return nil
	}
	out := &decisionlog.Config{File: abs(s.File), MaxSize: int64(s.MaxSizeMB) << 20, Keep: s.Keep, Every: time.Duration(s.Every), Limit: s.MaxPerSecond,
		Allows: decisionlog.Allows(s.Allows), Mask: s.Mask, Labels: s.Labels}
	if s.File == "" && s.URL == "" {
		p.add("policy.decision_logs", "want file, url or both")
	}
	if s.URL != "" {
		out.URL = p.service("policy.decision_logs.url", s.URL)
		if out.URL != nil && (out.URL.RawQuery != "" || out.URL.ForceQuery || out.URL.Fragment != "") {
			p.add("policy.decision_logs.url", "%s: leave out what follows the path; a secret belongs into the file that token_file names, and is sent as a bearer token", shown(s.URL))
		}
	}
	if s.TokenFile != "" {
		file := abs(s.TokenFile)
		out.Token = func() (string, error) { return readSecretText(file) }
	}
	for _, n := range []struct {
		key   string
		n, at int
	}{{"max_size_mb", s.MaxSizeMB, maxLogMB}, {"keep", s.Keep, maxLogKeep}, {"max_per_second", s.MaxPerSecond, maxLogRate}} {
		if n.n < 0 || n.n > n.at {
			p.add("policy.decision_logs."+n.key, "%d: want 1 to %d", n.n, n.at)
		}
	}
	if out.Every < 0 || out.Every > maxLogEvery {
		p.add("policy.decision_logs.every", "%s: at most %s", out.Every, maxLogEvery)
	}
	switch out.Allows {
	case "", decisionlog.New, decisionlog.All, decisionlog.None:
	default:
		p.add("policy.decision_logs.allows", "%q: want new, all or none", s.Allows)
	}
	if err := decisionlog.CheckMask(s.Mask); err != nil {
		p.add("policy.decision_logs.mask", "%v", err)
	}
	if len(s.Labels) > maxLogLabels {
		p.add("policy.decision_logs.labels", "%d: at most %d", len(s.Labels), maxLogLabels)
	}
	for k, v := range s.Labels {
		if k == "" || len(k) > 100 || len(v) > 500 || strings.ContainsAny(k+v, "\r\n\x00") {
			p.add("policy.decision_logs.labels", "%q: a name of at most 100 bytes, a value of at most 500, on one line", k)
		}
	}
	return out
}

// service checks the address of a service; nil where it cannot be used.
func (p *problems) service(path, address string) *url.URL {
	u, err := url.Parse(address)
	if err != nil || u.Host == "" || u.User != nil || u.Scheme != "https" && !(u.Scheme == "http" && loopback(u.Hostname())) {
		p.add(path, "%s: want https://host/path; plain http only to a loopback address", shown(address))
		return nil
	}
	return u
}

// shown is what logs, errors and health may tell of an address: scheme, host and path. User and query may hold secrets.
func shown(address string) string {
	u, err := url.Parse(address)
	if err != nil || u.Host == "" {
		return "what is there is no address"
	}
	return (&url.URL{Scheme: u.Scheme, Host: u.Host, Path: u.Path}).String()
}

// withoutAddress takes the address out of an error of net/http.
func withoutAddress(err error) error {
	var at *url.Error
	if errors.As(err, &at) {
		return at.Err
	}
	return err
}

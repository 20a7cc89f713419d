package server

import (
	"time"

	"postern/internal/registry"
)

// minPoll is how often a bundle server is asked at most.
const minPoll = time.Second

// maxException is the longest that may be allowed to exceptions: what lasts longer is a rule.
const maxException = 366 * 24 * time.Hour

// validate checks where the policies come from.
func (s *PolicySection) validate(abs func(string) string, p *problems) Policy {
	out := Policy{Path: abs(s.Path), Replace: s.Replace, TwoPersons: s.TwoPersons, MaxException: time.Duration(s.MaxException)}
	if out.MaxException == 0 {
		out.MaxException = registry.DefaultMaxException
	}
	if out.MaxException < registry.MinException || out.MaxException > maxException {
		p.add("policy.max_exception", "%s: want %s to %s", out.MaxException, registry.MinException, maxException)
	}
	if s.Replace && s.Path == "" && s.Bundle == nil {
		p.add("policy.replace", "needs policy.path or policy.bundle: something must replace the built-in policies")
	}
	out.DecisionLogs = s.DecisionLogs.validate(abs, p)
	b := s.Bundle
	if s.TwoPersons && (s.Path != "" || b != nil) {
		p.add("policy.two_persons", "is for versions that are activated by command; who may change a directory or a bundle is decided there")
	}
	if b == nil {
		return out
	}
	if s.Path != "" {
		p.add("policy.bundle", "beside policy.path: the policies come from one place")
	}
	p.service("policy.bundle.url", b.URL)
	if b.KeyFile == "" && !b.Unsigned {
		p.add("policy.bundle.key_file", "missing: the key with which bundles are signed (or unsigned: true, and the server is trusted with who reads mail)")
	}
	if b.KeyFile != "" && b.Unsigned {
		p.add("policy.bundle.unsigned", "beside key_file: leave one out")
	}
	copied := *b
	copied.KeyFile, copied.TokenFile = abs(b.KeyFile), abs(b.TokenFile)
	if copied.Every == 0 {
		copied.Every = Duration(time.Minute)
	}
	if time.Duration(copied.Every) < minPoll {
		p.add("policy.bundle.every", "%s: at least %s", time.Duration(b.Every), minPoll)
	}
	out.Bundle = &copied
	return out
}

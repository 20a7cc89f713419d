package server

import (
	"regexp"
	"time"

	"postern/certs"
	"postern/internal/registry"
)

var sourceName = regexp.MustCompile(`^[a-z0-9-]{1,32}$`)

// validEnrolment checks who else than the holder of a one-time challenge may enrol.
func (s *IssuerSection) validEnrolment(p *problems, at func(string) string, abs func(string) string, is *Issuer) {
	is.NoChallenges = s.Challenges != nil && !*s.Challenges
	if is.NoChallenges {
		s.validWithoutChallenges(p, at)
	}
	if i := s.Intune; i != nil {
		if i.Tenant == "" || i.Client == "" || i.SecretFile == "" {
			p.add(at("intune"), "want tenant, client and secret_file of an app registration with the permission scep_challenge_provider")
		}
		is.Intune = &IntuneSection{Tenant: i.Tenant, Client: i.Client, SecretFile: abs(i.SecretFile)}
	}
	if w := s.Webhook; w != nil {
		p.service(at("webhook.url"), w.URL)
		if !sourceName.MatchString(w.Name) || w.Name == "admin" || w.Name == "intune" {
			p.add(at("webhook.name"), "%q: use 1 to 32 of a-z, 0-9 and -, not admin or intune", w.Name)
		}
		if w.SecretFile == "" {
			p.add(at("webhook.secret_file"), "missing: what signs the requests, at least 16 bytes")
		}
		is.Webhook = &WebhookSection{Name: w.Name, URL: w.URL, SecretFile: abs(w.SecretFile), Notify: w.Notify}
	}
	if j := s.Jamf; j != nil {
		if j.User == "" || j.PasswordFile == "" {
			p.add(at("jamf"), "want user and password_file")
		}
		p.unbound(at("jamf.unbound"), j.Unbound)
		is.Jamf = &JamfSection{User: j.User, PasswordFile: abs(j.PasswordFile), Unbound: j.Unbound}
	}
	if n := s.NDES; n != nil {
		if n.User == "" || n.PasswordFile == "" {
			p.add(at("ndes"), "want user and password_file")
		}
		p.unbound(at("ndes.unbound"), n.Unbound)
		is.NDES = &NDESSection{User: n.User, PasswordFile: abs(n.PasswordFile), Unbound: n.Unbound, TTL: n.TTL}
		if is.NDES.TTL == 0 {
			is.NDES.TTL = Duration(registry.DefaultChallengeTTL)
		}
		if ttl := time.Duration(is.NDES.TTL); ttl < time.Minute || ttl > registry.MaxUnboundTTL {
			p.add(at("ndes.ttl"), "%s: want 1m to %s", ttl, registry.MaxUnboundTTL)
		}
	}
}

// validWithoutChallenges refuses an issuer at which nobody could enrol, and pages that would make what it does not take.
func (s *IssuerSection) validWithoutChallenges(p *problems, at func(string) string) {
	if s.Intune == nil && s.Webhook == nil {
		p.add(at("challenges"), "false, and neither intune nor webhook: nobody could enrol; add one of them, or leave this out")
	}
	if s.Jamf != nil {
		p.add(at("jamf"), "gives out one-time challenges, which challenges: false does not take")
	}
	if s.NDES != nil {
		p.add(at("ndes"), "gives out one-time challenges, which challenges: false does not take")
	}
}

// unbound checks how many challenges may be open that are made for no device.
func (p *problems) unbound(path string, n int) {
	if n < 0 || n > registry.MaxUnboundOpen {
		p.add(path, "%d: want 0 to %d challenges at once", n, registry.MaxUnboundOpen)
	}
}

// DefaultMaxSilence is renewal.max_silence where the section is left out; it is max_silence of the access policy.
const DefaultMaxSilence = 7 * 24 * time.Hour

// valid returns the rules for these issuers; those of a section that is left out if s is nil.
func (s *RenewalSection) valid(p *problems, issuers []Issuer) registry.RenewalRules {
	if s == nil {
		return registry.RenewalRules{MaxSilence: DefaultMaxSilence}
	}
	for key, d := range map[string]Duration{"renewal.window": s.Window, "renewal.max_silence": s.MaxSilence} {
		if d < 0 || time.Duration(d) > certs.MaxLifetime {
			p.add(key, "%s: want 0s to %s", time.Duration(d), certs.MaxLifetime)
		}
	}
	if s.MaxRenewals < 0 || s.MaxRenewals > 1000 {
		p.add("renewal.max_renewals", "%d: want 0 to 1000", s.MaxRenewals)
	}
	for i, is := range issuers {
		if is.NoChallenges && s.MaxRenewals > 0 {
			p.add("renewal.max_renewals", "%d: then a one-time challenge is asked for again, which issuers[%d].challenges: false does not take", s.MaxRenewals, i)
		}
	}
	return registry.RenewalRules{Window: time.Duration(s.Window), MaxRenewals: s.MaxRenewals, MaxSilence: time.Duration(s.MaxSilence)}
}

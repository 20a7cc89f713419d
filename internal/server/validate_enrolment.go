package server

import (
	"net/url"
	"regexp"
)

var sourceName = regexp.MustCompile(`^[a-z0-9-]{1,32}$`)

// validEnrolment checks who else than the holder of a one-time challenge may enrol.
func (s *IssuerSection) validEnrolment(p *problems, at func(string) string, abs func(string) string, is *Issuer) {
	if i := s.Intune; i != nil {
		if i.Tenant == "" || i.Client == "" || i.SecretFile == "" {
			p.add(at("intune"), "want tenant, client and secret_file of an app registration with the permission scep_challenge_provider")
		}
		is.Intune = &IntuneSection{Tenant: i.Tenant, Client: i.Client, SecretFile: abs(i.SecretFile)}
	}
	if w := s.Webhook; w != nil {
		u, err := url.Parse(w.URL)
		if err != nil || u.Host == "" || u.User != nil || u.Scheme != "https" && !(u.Scheme == "http" && loopback(u.Hostname())) {
			p.add(at("webhook.url"), "%q: want https://host/path; plain http only to a loopback address", w.URL)
		}
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
		is.Jamf = &JamfSection{User: j.User, PasswordFile: abs(j.PasswordFile)}
	}
}

package ca

import (
	"fmt"
	"net/url"
	"strings"
	"unicode"
	"unicode/utf8"

	"postern/certs"
	"postern/internal/trust"
)

// The CAs of an issuer, as they are named in URLs, in the registry and in calls of this package. Later issuing CAs are IssuingCA with "-2", "-3" and so on.
const (
	RootCA    = "root"
	IssuingCA = "issuing"
)

// Spec says who an issuer is. It comes from the configuration; keys and certificates come from Material.
type Spec struct {
	ID           string   // 1 to 32 of a-z, 0-9 and '-'; part of URLs and file names
	Organization string   // the O of every name, at most 64 characters
	Domains      []string // the only mail domains this issuer certifies, lower case, matched whole
	URL          string   // where the world finds the public listener: plain http, without a slash at the end
	Profile      certs.Overrides
	Keys         Keys
}

// CRLURL is where the complete CRL of a CA is published.
func (s Spec) CRLURL(ca string) string { return s.URL + "/" + s.ID + "/" + ca + ".crl" }

// DeltaURL is where the delta CRL of a CA is published.
func (s Spec) DeltaURL(ca string) string { return s.URL + "/" + s.ID + "/" + ca + "-delta.crl" }

// CertificateURL is where the certificate of a CA is published.
func (s Spec) CertificateURL(ca string) string { return s.URL + "/" + s.ID + "/" + ca + ".cer" }

// OCSPURL is where the issuer answers OCSP, for all its CAs.
func (s Spec) OCSPURL() string { return s.URL + "/ocsp/" + s.ID }

// Check reports what is wrong with the spec, as an error that wraps trust.ErrInvalid.
func (s Spec) Check() error {
	if !validID(s.ID) || s.ID == "ocsp" || s.ID == "scep" { // those two are paths of the public listener
		return fmt.Errorf("issuer id %q %w: want 1 to 32 of a-z, 0-9 and '-', other than ocsp and scep", s.ID, trust.ErrInvalid)
	}
	if !validText(s.Organization, 64) {
		return fmt.Errorf("issuer %s: organization %q %w: want 1 to 64 printable characters", s.ID, s.Organization, trust.ErrInvalid)
	}
	if len(s.Domains) == 0 {
		return fmt.Errorf("issuer %s: domains %w: want at least one mail domain", s.ID, trust.ErrInvalid)
	}
	for _, d := range s.Domains {
		if !trust.Domain(d) {
			return fmt.Errorf("issuer %s: domain %q %w: want a lower-case DNS name", s.ID, d, trust.ErrInvalid)
		}
	}
	// Relying parties fetch CRLs while they build a chain; fetching over https would need one for that.
	u, err := url.Parse(s.URL)
	if err != nil || u.Scheme != "http" || u.Hostname() == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" ||
		strings.HasSuffix(s.URL, "/") || u.String() != s.URL {
		return fmt.Errorf("issuer %s: url %q %w: want http://host[:port][/path]", s.ID, s.URL, trust.ErrInvalid)
	}
	if err := s.Keys.check(); err != nil {
		return fmt.Errorf("issuer %s: %w", s.ID, err)
	}
	if err := checkOverrides(s.Profile); err != nil {
		return fmt.Errorf("issuer %s: profile: %w", s.ID, err)
	}
	return nil
}

// certifies reports whether the issuer may certify addresses of the domain.
func (s Spec) certifies(domain string) bool {
	for _, d := range s.Domains {
		if d == domain {
			return true
		}
	}
	return false
}

// commonName returns "<organization> <role>", or with the id in place of an organization that leaves no room in the 64 characters of RFC 5280, appendix A.1.
func (s Spec) commonName(role string) string {
	if name := s.Organization + " " + role; utf8.RuneCountInString(name) <= 64 {
		return name
	}
	return s.ID + " " + role
}

func validID(s string) bool {
	return len(s) >= 1 && len(s) <= 32 && s[0] != '-' && strings.Trim(s, "abcdefghijklmnopqrstuvwxyz0123456789-") == ""
}

// validText reports whether s can be a directory string of at most limit characters: valid UTF-8 without control characters.
func validText(s string, limit int) bool {
	if s == "" || !utf8.ValidString(s) || utf8.RuneCountInString(s) > limit || strings.TrimSpace(s) != s {
		return false
	}
	return !strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) })
}

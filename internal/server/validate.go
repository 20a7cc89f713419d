package server

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	"postern/certs"
	"postern/internal/ca"
	"postern/internal/decisionlog"
	"postern/internal/registry"
	"postern/internal/revocation"
	"postern/internal/trust"
)

// Config is a configuration that can be run: every path is absolute, every name normalised, every default filled in. Only Validate makes one.
type Config struct {
	Data    string // directory
	Issuers []Issuer
	Public  *Public
	CRL     revocation.Schedule
	Edge    *Edge
	Admin   *Admin
	Renewal registry.RenewalRules
	Journal Journal
	Policy  Policy

	Revocation registry.RevocationRules

	Lifecycle Lifecycle
}

// Issuer is a validated IssuerSection.
type Issuer struct {
	ID, Organization, URL string
	Domains               []string
	LegacyClients         bool
	NoChallenges          bool // one-time challenges are neither made nor taken

	Profile certs.Overrides
	Keys    ca.Keys

	// Whom else than the holder of a one-time challenge may enrol. Nil where there is no such section; paths are absolute.
	Intune  *IntuneSection
	Webhook *WebhookSection
	Jamf    *JamfSection
	NDES    *NDESSection
}

// Public is a validated PublicSection. ListenTLS is empty without HTTPS, Directory if CRLs are written to the data directory alone.
type Public struct {
	Listen, ListenTLS, Certificate, Key, Directory, Networks string

	Proxies []netip.Prefix
}

// Admin is a validated AdminSection; Certificate and Key are empty on loopback without TLS.
type Admin struct{ Listen, Certificate, Key string }

// Policy is a validated PolicySection. At most one of Path and Bundle is set; with neither, versions come from the registry.
type Policy struct {
	Path         string
	Replace      bool
	Bundle       *BundleSection // paths are absolute, Every is set
	TwoPersons   bool
	MaxException time.Duration       // of one that is granted by command
	DecisionLogs *decisionlog.Config // nil for none; without clock, log and labels
}

var issuerID = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,31}$`)

// problems collects what is wrong, each with the path of its key.
type problems []error

func (p *problems) add(path, format string, args ...any) {
	*p = append(*p, fmt.Errorf("  %s: "+format, append([]any{path}, args...)...))
}

// Validate returns the configuration in a form that cannot be invalid, or every problem at once. dir is where relative paths begin.
func (f *File) Validate(dir string) (*Config, error) {
	var p problems
	abs := func(s string) string {
		if s == "" || filepath.IsAbs(s) {
			return s
		}
		return filepath.Join(dir, s)
	}
	c := &Config{Data: abs(f.Data)}
	if f.Data == "" {
		p.add("data", "missing: the directory for state and keys, for example ./var")
	}
	c.Issuers = f.validIssuers(&p, abs)
	if f.Public != nil {
		p.listen("public.listen", f.Public.Listen)
		c.Public = &Public{Listen: f.Public.Listen, Proxies: p.networks("public.proxies", f.Public.Proxies)}
		if f.Public.Directory != "" {
			c.Public.Directory = abs(f.Public.Directory)
			// What is in the data directory is not for the world, and has files of the same names.
			if rel, err := filepath.Rel(cmp.Or(c.Data, dir), c.Public.Directory); err == nil && rel != ".." && !strings.HasPrefix(rel, ".."+string(filepath.Separator)) {
				p.add("public.directory", "%q is in the data directory, which is closed to others: choose another", f.Public.Directory)
			}
		}
		if f.Public.Networks != "" {
			c.Public.Networks = abs(f.Public.Networks)
		}
		if h := f.Public.HTTPS; h != nil {
			p.listen("public.https.listen", h.Listen)
			if h.Certificate == "" || h.Key == "" {
				p.add("public.https", "want certificate and key")
			}
			c.Public.ListenTLS, c.Public.Certificate, c.Public.Key = h.Listen, abs(h.Certificate), abs(h.Key)
		}
		if len(f.Issuers) == 0 {
			p.add("public", "there are no issuers to publish")
		}
	} else if len(f.Issuers) > 0 {
		p.add("public", "missing: issuers need a listener for SCEP and CRLs, for example {listen: 127.0.0.1:8080}")
	}
	c.CRL = f.CRL.valid(&p)
	if f.Edge != nil {
		c.Edge = f.Edge.valid(&p, abs)
	}
	if f.Admin != nil {
		c.Admin = f.Admin.valid(&p, abs)
	}
	c.Renewal = f.Renewal.valid(&p, c.Issuers)
	c.Journal = f.Journal.valid(&p)
	if f.Policy != nil {
		c.Policy = f.Policy.validate(abs, &p)
	}
	c.Revocation = f.Revocation.valid(&p)
	c.Lifecycle = f.Lifecycle.valid(&p)
	if f.Public == nil && f.Edge == nil && f.Admin == nil && len(p) == 0 {
		p.add("(file)", "no section to run: add issuers and public, edge or admin")
	}
	return c, errors.Join(p...)
}

func (f *File) validIssuers(p *problems, abs func(string) string) []Issuer {
	var out []Issuer
	seen := map[string]bool{}
	owner := map[string]string{}
	for i, s := range f.Issuers {
		before := len(*p)
		at := func(key string) string { return fmt.Sprintf("issuers[%d].%s", i, key) }
		if !issuerID.MatchString(s.ID) || s.ID == "ocsp" || s.ID == "scep" {
			p.add(at("id"), "%q: use 1 to 32 of a-z, 0-9 and -, not ocsp or scep", s.ID)
		} else if seen[s.ID] {
			p.add(at("id"), "%q is there twice", s.ID)
		}
		seen[s.ID] = true
		if s.Organization == "" || len(s.Organization) > 64 || strings.ContainsFunc(s.Organization, func(r rune) bool { return r < ' ' || r == 0x7f }) {
			p.add(at("organization"), "want 1 to 64 printable characters")
		}
		if len(s.Domains) == 0 {
			p.add(at("domains"), "missing: an issuer certifies no address outside its domains")
		}
		is := Issuer{ID: s.ID, Organization: s.Organization, LegacyClients: s.LegacyClients}
		for j, d := range s.Domains {
			d = strings.ToLower(d)
			if !trust.Domain(d) {
				p.add(fmt.Sprintf("issuers[%d].domains[%d]", i, j), "%q is not a mail domain", d)
			} else if o := owner[d]; o != "" {
				p.add(fmt.Sprintf("issuers[%d].domains[%d]", i, j), "%s belongs to issuer %s already", d, o)
			}
			owner[d] = s.ID
			is.Domains = append(is.Domains, d)
		}
		if u, err := url.Parse(s.URL); err != nil || u.Scheme != "http" || u.Host == "" || u.RawQuery != "" || u.Fragment != "" || u.User != nil {
			p.add(at("url"), "%q: want http://host[:port][/path]; CRLs are fetched over plain HTTP (Entra ID takes no other)", s.URL)
		} else {
			is.URL = strings.TrimSuffix(s.URL, "/")
		}
		s.validEnrolment(p, at, abs, &is)
		if o := s.Profile; o != nil {
			is.Profile = certs.Overrides{Lifetime: time.Duration(o.Lifetime), PolicyOIDs: o.PolicyOIDs, KeyTypes: o.KeyTypes, ExtraNames: o.ExtraNames}
		}
		if k := s.Keys; k != nil {
			is.Keys = ca.Keys{Root: k.Root, Issuing: k.Issuing, RA: k.RA}
		}
		if before == len(*p) {
			// What is left is for the CA to judge: profile and keys.
			if err := is.Spec().Check(); err != nil {
				p.add(fmt.Sprintf("issuers[%d]", i), "%v", err)
			}
		}
		if s.Jamf != nil && (f.Public == nil || f.Public.HTTPS == nil) {
			p.add(at("jamf"), "needs public.https: Jamf sends a password")
		}
		if s.NDES != nil && (f.Public == nil || f.Public.HTTPS == nil) {
			p.add(at("ndes"), "needs public.https: the MDM sends a password")
		}
		out = append(out, is)
	}
	return out
}

func (s *AdminSection) valid(p *problems, abs func(string) string) *Admin {
	a := &Admin{Listen: s.Listen}
	if p.listen("admin.listen", s.Listen) && s.TLS == nil {
		if host, _, err := net.SplitHostPort(s.Listen); err == nil && !loopback(host) {
			p.add("admin.tls", "missing: access tokens would be readable on the way; listen on a loopback address or add {certificate, key}")
		}
	}
	if s.TLS != nil {
		a.Certificate, a.Key = abs(s.TLS.Certificate), abs(s.TLS.Key)
		if s.TLS.Certificate == "" || s.TLS.Key == "" {
			p.add("admin.tls", "want certificate and key")
		}
	}
	return a
}

// listen checks an address to listen on.
func (p *problems) listen(path, addr string) bool {
	_, port, err := net.SplitHostPort(addr)
	if n, perr := strconv.ParseUint(port, 10, 16); err != nil || perr != nil || n == 0 && port != "0" {
		p.add(path, "%q: want host:port, for example 127.0.0.1:8080", addr)
		return false
	}
	return true
}

// loopback reports whether the host can only be this machine.
func loopback(host string) bool {
	if host == "localhost" {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.IsLoopback()
}

package server

import (
	"fmt"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"time"

	"postern/internal/edge"
	"postern/internal/trust"
)

// Edge is a validated EdgeSection.
type Edge struct {
	Listen, Hostname, Certificate, Key, UpstreamCA string
	Upstream                                       *url.URL
	StaleLimit                                     time.Duration

	Hosts          []EdgeHost // besides Hostname
	UpstreamHosts  []string
	TrustedProxies []netip.Prefix
	ProxyProtocol  bool

	EWS   bool
	OAuth *OAuthFront // nil: none
}

// EdgeHost is a validated HostSection. Certificate and Key are empty where those of the section tls are good for the name.
type EdgeHost struct{ Name, Issuer, Certificate, Key string }

// DefaultStaleLimit is edge.stale_limit where it is left out.
const DefaultStaleLimit = 15 * time.Minute

func (s *EdgeSection) valid(p *problems, abs func(string) string) *Edge {
	e := &Edge{Listen: s.Listen, Hostname: strings.ToLower(s.Hostname), Certificate: abs(s.TLS.Certificate), Key: abs(s.TLS.Key),
		UpstreamCA: abs(s.UpstreamCA), StaleLimit: time.Duration(s.StaleLimit), UpstreamHosts: s.UpstreamHosts, ProxyProtocol: s.ProxyProtocol}
	p.listen("edge.listen", s.Listen)
	if !trust.Domain(e.Hostname) && e.Hostname != "localhost" {
		p.add("edge.hostname", "%q is not a host name", s.Hostname)
	}
	if s.TLS.Certificate == "" || s.TLS.Key == "" {
		p.add("edge.tls", "want certificate and key, for example {certificate: edge.pem, key: edge.key}")
	}
	if e.StaleLimit == 0 {
		e.StaleLimit = DefaultStaleLimit
	}
	if e.StaleLimit < time.Second || e.StaleLimit > 24*time.Hour {
		p.add("edge.stale_limit", "%s: want 1s to 24h", e.StaleLimit)
	}
	e.Hosts = s.validHosts(p, abs)
	s.validUpstream(p, e)
	s.validProxies(p, e)
	e.EWS = s.EWS
	if s.OAuth != nil {
		names := []string{e.Hostname}
		for _, h := range e.Hosts {
			names = append(names, h.Name)
		}
		e.OAuth = s.OAuth.valid(p, abs, names)
	}
	return e
}

func (s *EdgeSection) validHosts(p *problems, abs func(string) string) (out []EdgeHost) {
	seen := []string{strings.ToLower(s.Hostname)}
	for i, h := range s.Hostnames {
		at := fmt.Sprintf("edge.hostnames[%d]", i)
		name := strings.ToLower(h.Name)
		switch {
		case !trust.Domain(name):
			p.add(at+".name", "%q is not a host name", h.Name)
		case slices.Contains(seen, name):
			p.add(at+".name", "%s is there twice", name)
		}
		seen = append(seen, name)
		if (h.Certificate == "") != (h.Key == "") {
			p.add(at, "want certificate and key, or neither where edge.tls is good for %s", name)
		}
		if h.Issuer != "" && !issuerID.MatchString(h.Issuer) {
			p.add(at+".issuer", "%q is not the id of an issuer", h.Issuer)
		}
		out = append(out, EdgeHost{Name: name, Issuer: h.Issuer, Certificate: abs(h.Certificate), Key: abs(h.Key)})
	}
	return out
}

func (s *EdgeSection) validUpstream(p *problems, e *Edge) {
	u, err := url.Parse(s.Upstream)
	switch {
	case err != nil || u.Host == "" || (u.Scheme != "https" && u.Scheme != "http") || u.User != nil || (u.Path != "" && u.Path != "/") || u.RawQuery != "":
		p.add("edge.upstream", "%q: want https://host[:port]", s.Upstream)
	case u.Scheme == "http" && !loopback(u.Hostname()):
		p.add("edge.upstream", "%q: plain http only to a loopback address: mail and credentials would be readable on the way", s.Upstream)
	default:
		u.Path = ""
		if u.Hostname() == "localhost" {
			// What a resolver makes of the name must not decide where mail goes.
			u.Host = strings.Replace(u.Host, "localhost", "127.0.0.1", 1)
		}
		if err := edge.CheckUpstream(u); err != nil {
			p.add("edge.upstream", "%v", err)
		}
		e.Upstream = u
	}
	for i, h := range s.UpstreamHosts {
		if err := edge.CheckUpstreamHost(h); err != nil {
			p.add(fmt.Sprintf("edge.upstream_hosts[%d]", i), "%v", err)
		}
	}
}

func (s *EdgeSection) validProxies(p *problems, e *Edge) {
	e.TrustedProxies = p.networks("edge.trusted_proxies", s.TrustedProxies)
	if s.ProxyProtocol && len(s.TrustedProxies) == 0 {
		p.add("edge.proxy_protocol", "needs edge.trusted_proxies: whose connections begin with it")
	}
}

// networks reads addresses and networks of proxies.
func (p *problems) networks(path string, list []string) (out []netip.Prefix) {
	for i, text := range list {
		network, err := netip.ParsePrefix(text)
		if addr, aerr := netip.ParseAddr(text); aerr == nil {
			network, err = netip.PrefixFrom(addr, addr.BitLen()), nil
		}
		if err != nil || network.Bits() == 0 {
			p.add(fmt.Sprintf("%s[%d]", path, i), "%q: want an address or a network such as 10.1.2.0/24, and not everybody", text)
			continue
		}
		out = append(out, network.Masked())
	}
	return out
}

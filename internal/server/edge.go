package server

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"strings"

	"postern/internal/admin"
	"postern/internal/edge"
)

func (s *Server) openEdge(ctx context.Context) error {
	cfg := s.opts.Config.Edge
	if cfg == nil {
		return nil
	}
	roots, err := loadRoots(cfg.UpstreamCA)
	if err != nil {
		return err
	}
	certificate, err := s.edgeCertificates(cfg)
	if err != nil {
		return err
	}
	front, err := s.oauthFront(ctx)
	if err != nil {
		return err
	}
	hosts, names := s.edgeHosts(cfg)
	e, err := edge.New(edge.Config{Hosts: hosts, Names: names, Upstream: cfg.Upstream, UpstreamRoots: roots, UpstreamHosts: cfg.UpstreamHosts,
		TrustedProxies: cfg.TrustedProxies, ProxyProtocol: cfg.ProxyProtocol, Certificate: certificate, OAuth: front, EWS: cfg.EWS,
		Index: s.index, Registry: s.registry, Journal: s.journal, Policy: s.policy, Now: s.opts.Now, Log: s.opts.Log, StaleLimit: cfg.StaleLimit})
	if err != nil {
		return err
	}
	s.suppose = e.Suppose
	s.edgeTrouble = e.Trouble
	s.reactions = func() admin.EdgeReactions { return admin.EdgeReactions(e.Reactions()) }
	ln, err := s.listen(&s.addresses.Edge, "edge.listen", cfg.Listen)
	if err != nil {
		return err
	}
	s.doors = append(s.doors, part{"edge", func(ctx context.Context) error { return e.Run(ctx, ln) }})
	return nil
}

// edgeHosts returns the names of the gate with the issuer whose gate it is under each, and where Autodiscover under a name leads if not to itself.
func (s *Server) edgeHosts(cfg *Edge) (hosts, names map[string]string) {
	hosts, names = map[string]string{cfg.Hostname: s.tenant()}, map[string]string{}
	for _, h := range cfg.Hosts {
		if hosts[h.Name] = h.Issuer; h.Issuer == "" {
			hosts[h.Name] = s.tenant()
		}
	}
	for _, h := range cfg.Hosts {
		domain, ok := strings.CutPrefix(h.Name, "autodiscover.")
		if !ok {
			continue
		}
		names[h.Name] = cfg.Hostname
		for _, other := range cfg.Hosts {
			if !strings.HasPrefix(other.Name, "autodiscover.") && strings.HasSuffix(other.Name, "."+domain) && !strings.HasSuffix(cfg.Hostname, "."+domain) {
				names[h.Name] = other.Name
				break
			}
		}
	}
	if host, _, err := net.SplitHostPort(cfg.Listen); err == nil && loopback(host) {
		// Nobody but this machine can ask: a trial without DNS may call the gate what it likes.
		for _, name := range []string{"localhost", "127.0.0.1", "::1"} {
			hosts[name] = s.tenant()
		}
	}
	return hosts, names
}

// edgeCertificates returns what chooses the edge's certificate: the first that is good for the name which the phone asks for, otherwise that of edge.tls. Each
// is reloaded by itself when its files change.
func (s *Server) edgeCertificates(cfg *Edge) (func(*tls.ClientHelloInfo) (*tls.Certificate, error), error) {
	first, err := newReloader(cfg.Certificate, cfg.Key, s.opts.Now, s.opts.Log)
	if err != nil {
		return nil, fmt.Errorf("edge.tls: %w", err)
	}
	all := []*reloader{first}
	for i, h := range cfg.Hosts {
		if h.Certificate == "" {
			continue
		}
		r, err := newReloader(h.Certificate, h.Key, s.opts.Now, s.opts.Log)
		if err != nil {
			return nil, fmt.Errorf("edge.hostnames[%d]: %w", i, err)
		}
		all = append(all, r)
	}
	if len(all) == 1 {
		return first.get, nil
	}
	return func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
		for _, r := range all {
			if c, err := r.get(hello); err == nil && hello.SupportsCertificate(c) == nil {
				return c, nil
			}
		}
		return first.get(hello)
	}, nil
}

// tenant is the issuer whose gate the edge is, where there is only one; otherwise certificate and user decide.
func (s *Server) tenant() string {
	issuers := map[string]bool{}
	for _, c := range s.index.CAs() {
		issuers[c.Issuer] = true
	}
	if len(issuers) == 1 {
		return s.index.CAs()[0].Issuer
	}
	return ""
}

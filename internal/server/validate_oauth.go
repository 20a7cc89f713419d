package server

import (
	"context"
	"fmt"
	"net/url"
	"slices"
	"strings"

	"postern/internal/edge"
	"postern/internal/oauth"
	"postern/internal/trust"
)

// OAuthSection is the OAuth front: phones sign in at the gate, which asks the identity provider for a token for the mail service.
type OAuthSection struct {
	Authorize   string   `yaml:"authorize" doc:"the identity provider's endpoints; plain http only on loopback"`
	Token       string   `yaml:"token"`
	TokenCA     string   `yaml:"token_ca,omitempty" doc:"PEM file of roots to verify the token endpoint with, such as of AD FS; empty: the system's"`
	Resource    string   `yaml:"resource,omitempty" doc:"this gate as phones name it; left out: https://NAME/ of each of its names"`
	Destination string   `yaml:"destination_resource" doc:"the mail service, which is put in place of resource; nothing else can be asked for"`
	ClientIDs   []string `yaml:"client_ids,flow" doc:"the mail clients that may sign in here: Apple Mail, for example"`
	Scopes      []string `yaml:"scopes,omitempty,flow" doc:"what clients of a v2 endpoint may ask of the mail service; leave it out with a v1 endpoint or AD FS"`
	Tickets     bool     `yaml:"tickets" doc:"serve the per-device addresses that postern device ticket makes, and recognise the tokens that came through them"`
}

// OAuthFront is a validated OAuthSection.
type OAuthFront struct {
	Authorize, Token *url.URL
	TokenCA          string
	Front            oauth.Front
	Tickets          bool
}

func (s *OAuthSection) valid(p *problems, abs func(string) string, hostnames []string) *OAuthFront {
	f := &OAuthFront{TokenCA: abs(s.TokenCA), Tickets: s.Tickets}
	f.Authorize = p.endpoint("edge.oauth.authorize", s.Authorize)
	f.Token = p.endpoint("edge.oauth.token", s.Token)
	f.Front.Resources = []string{s.Resource}
	if s.Resource == "" {
		f.Front.Resources = nil
		for _, h := range hostnames {
			f.Front.Resources = append(f.Front.Resources, "https://"+h+"/")
		}
	} else {
		p.resource("edge.oauth.resource", s.Resource)
	}
	p.resource("edge.oauth.destination_resource", s.Destination)
	if f.Front.Destination = s.Destination; slices.ContainsFunc(f.Front.Resources, func(r string) bool { return strings.TrimRight(r, "/") == strings.TrimRight(s.Destination, "/") }) {
		p.add("edge.oauth.destination_resource", "%q is this gate: want the mail service", s.Destination)
	}
	if len(s.ClientIDs) == 0 {
		p.add("edge.oauth.client_ids", "missing: a front for every client is a way in for everybody's")
	}
	for i, id := range s.ClientIDs {
		if id == "" || len(id) > 128 || strings.ContainsFunc(id, func(r rune) bool { return r <= ' ' || r > '~' }) {
			p.add(fmt.Sprintf("edge.oauth.client_ids[%d]", i), "%q is not a client id", id)
		}
		f.Front.Clients = append(f.Front.Clients, strings.ToLower(id))
	}
	for i, scope := range s.Scopes {
		if scope == "" || strings.ContainsAny(scope, " \t") {
			p.add(fmt.Sprintf("edge.oauth.scopes[%d]", i), "%q: want one scope, such as https://outlook.office365.com/EAS.AccessAsUser.All", scope)
		}
	}
	f.Front.Scopes = s.Scopes
	return f
}

// endpoint checks an endpoint of an identity provider.
func (p *problems) endpoint(path, s string) *url.URL {
	u, err := url.Parse(s)
	switch {
	case err != nil || u.Host == "" || u.Path == "" || (u.Scheme != "https" && u.Scheme != "http") || u.User != nil || u.RawQuery != "" || u.Fragment != "":
		p.add(path, "%q: want https://host/path", s)
	case u.Scheme == "http" && !loopback(u.Hostname()):
		p.add(path, "%q: plain http only to a loopback address: tokens would be readable on the way", s)
	default:
		if u.Hostname() == "localhost" {
			u.Host = strings.Replace(u.Host, "localhost", "127.0.0.1", 1)
		}
		return u
	}
	return nil
}

func (p *problems) resource(path, s string) {
	if u, err := url.Parse(s); err != nil || u.Host == "" || (u.Scheme != "https" && u.Scheme != "api") || u.RawQuery != "" || u.Fragment != "" {
		p.add(path, "%q: want a resource such as https://outlook.office365.com/", s)
	}
}

// oauthFront makes what the edge needs of the section; nil without one.
func (s *Server) oauthFront(ctx context.Context) (*edge.OAuth, error) {
	f := s.opts.Config.Edge.OAuth
	if f == nil {
		return nil, nil
	}
	roots, err := loadRoots(f.TokenCA)
	if err != nil {
		return nil, fmt.Errorf("edge.oauth.token_ca: %w", err)
	}
	o := &edge.OAuth{Authorize: f.Authorize, Token: f.Token, TokenRoots: roots, Front: f.Front, Tickets: f.Tickets}
	if f.Tickets {
		o.Key, err = s.registry.GrantKey(ctx, trust.Principal{Kind: "edge", Name: s.opts.Config.Edge.Hostname})
	}
	return o, err
}

// ticketGate is the address of the gate that goes into tickets; empty where this process serves none.
func (s *Server) ticketGate() string {
	if e := s.opts.Config.Edge; e != nil && e.OAuth != nil && e.OAuth.Tickets {
		return "https://" + e.Hostname
	}
	return ""
}

package server

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"

	"postern/internal/microsoft"
)

// CheckFiles reports every file that the configuration names and that is missing or does not fit, and listeners that would be in each other's way. It starts
// nothing and opens no key.
func (c *Config) CheckFiles() error {
	var p problems
	for i, is := range c.Issuers {
		at := fmt.Sprintf("issuers[%d]", i)
		if _, err := os.Stat(filepath.Join(IssuerDir(c.Data, is.ID), "root.crt")); err != nil {
			p.add(at+".id", "there are no keys for %s in %s: a new issuer needs a data directory made by `postern init`", is.ID, c.Data)
		}
		if is.Intune != nil {
			p.secret(at+".intune.secret_file", is.Intune.SecretFile)
		}
		if is.Webhook != nil {
			p.secret(at+".webhook.secret_file", is.Webhook.SecretFile)
		}
		if is.Jamf != nil {
			p.secret(at+".jamf.password_file", is.Jamf.PasswordFile)
		}
	}
	listeners := map[string]string{}
	p.apart(listeners, "public.listen", c.Public != nil, func() string { return c.Public.Listen })
	p.apart(listeners, "public.https.listen", c.Public != nil && c.Public.ListenTLS != "", func() string { return c.Public.ListenTLS })
	p.apart(listeners, "edge.listen", c.Edge != nil, func() string { return c.Edge.Listen })
	p.apart(listeners, "admin.listen", c.Admin != nil, func() string { return c.Admin.Listen })
	if c.Public != nil && c.Public.Networks != "" {
		if _, err := microsoft.ReadNetworks(c.Public.Networks); err != nil {
			p.add("public.microsoft_networks", "%v", err)
		}
	}
	if c.Public != nil && c.Public.ListenTLS != "" {
		p.pair("public.https", c.Public.Certificate, c.Public.Key)
	}
	if c.Edge != nil {
		p.edge(c.Edge)
	}
	if c.Admin != nil && c.Admin.Certificate != "" {
		p.pair("admin.tls", c.Admin.Certificate, c.Admin.Key)
	}
	if c.Policy.Path != "" {
		if _, err := os.Stat(c.Policy.Path); err != nil {
			p.add("policy.path", "%v", err)
		}
	}
	if b := c.Policy.Bundle; b != nil {
		if _, err := newBundleSource(*b); err != nil {
			p = append(p, fmt.Errorf("  %w", err))
		}
		if b.TokenFile != "" {
			p.secret("policy.bundle.token_file", b.TokenFile)
		}
	}
	return errors.Join(p...)
}

// edge checks the files of the gate.
func (p *problems) edge(e *Edge) {
	p.pair("edge.tls", e.Certificate, e.Key)
	for i, h := range e.Hosts {
		if h.Certificate != "" {
			p.pair(fmt.Sprintf("edge.hostnames[%d]", i), h.Certificate, h.Key)
		}
	}
	if _, err := loadRoots(e.UpstreamCA); err != nil {
		*p = append(*p, fmt.Errorf("  %w", err))
	}
	if o := e.OAuth; o != nil {
		if _, err := loadRoots(o.TokenCA); err != nil {
			p.add("edge.oauth.token_ca", "%v", err)
		}
	}
}

// pair checks a certificate and its key.
func (p *problems) pair(path, certificate, key string) {
	if _, err := loadPair(certificate, key); err != nil {
		p.add(path, "%v", err)
	}
}

// secret checks the file of a secret.
func (p *problems) secret(path, file string) {
	if _, err := readSecret(file); err != nil {
		p.add(path, "%v", err)
	}
}

// apart checks that no two listeners have one address. Port 0 is a free one each time.
func (p *problems) apart(seen map[string]string, path string, there bool, listen func() string) {
	if !there {
		return
	}
	if _, port, err := net.SplitHostPort(listen()); err != nil || port == "0" {
		return
	}
	if other := seen[listen()]; other != "" {
		p.add(path, "%s is %s already", listen(), other)
	}
	seen[listen()] = path
}

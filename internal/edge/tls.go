package edge

import (
	"crypto/tls"
	"crypto/x509"
	"strings"
	"sync"
)

// anchors are the CAs that client certificates are verified against, as the registry had them at one moment.
type anchors struct {
	list    []anchor
	pools   map[string]*x509.CertPool // by issuer; "" holds all
	configs sync.Map                  // issuer -> *tls.Config, see TLSConfig
}

// anchor is one issuing CA.
type anchor struct {
	issuer  string
	domains []string
	cert    *x509.Certificate
}

// loadAnchors reads the issuing CAs anew. A root signs no device certificate, so it is none of them.
func (e *Edge) loadAnchors() {
	a := &anchors{pools: map[string]*x509.CertPool{"": x509.NewCertPool()}}
	for _, ca := range e.cfg.Index.CAs() {
		if !strings.HasPrefix(ca.ID, "issuing") {
			continue
		}
		cert, err := x509.ParseCertificate(ca.DER)
		if err != nil {
			e.cfg.Log.Error("edge: CA certificate in the registry cannot be read", "issuer", ca.Issuer, "ca", ca.ID, "error", err)
			continue
		}
		a.list = append(a.list, anchor{issuer: ca.Issuer, domains: ca.Domains, cert: cert})
		if a.pools[ca.Issuer] == nil {
			a.pools[ca.Issuer] = x509.NewCertPool()
		}
		a.pools[ca.Issuer].AddCert(cert)
		a.pools[""].AddCert(cert)
	}
	e.anchors.Store(a)
}

// pool returns the CAs of an issuer, or all for "".
func (a *anchors) pool(issuer string) *x509.CertPool {
	if p := a.pools[issuer]; p != nil {
		return p
	}
	return x509.NewCertPool()
}

// issuerOf returns the issuer whose CA the certificate is.
func (a *anchors) issuerOf(ca *x509.Certificate) string {
	for _, c := range a.list {
		if c.cert.Equal(ca) {
			return c.issuer
		}
	}
	return ""
}

// issuerOfDomain returns the issuer that may certify a mail domain; with only one issuer that is the one.
func (a *anchors) issuerOfDomain(domain string) string {
	only := ""
	for i, c := range a.list {
		for _, d := range c.domains {
			if d == domain {
				return c.issuer
			}
		}
		if i == 0 {
			only = c.issuer
		} else if only != c.issuer {
			only = ""
		}
	}
	return only
}

// serves reports whether the issuer, or any for "", may certify the mail domain.
func (a *anchors) serves(issuer, domain string) bool {
	for _, c := range a.list {
		for _, d := range c.domains {
			if d == domain && (issuer == "" || issuer == c.issuer) {
				return true
			}
		}
	}
	return false
}

// TLSConfig returns the server's side of TLS 1.2 and 1.3. A client certificate is asked for, with the issuing CAs of the host named by SNI so that a phone
// offers the right one, and verified later, so that a bad one gets a reason and not an alert. A resumed session brings its certificate along; whether
// that is still good is asked of the index for every request, so resumption outlives no revocation.
func (e *Edge) TLSConfig() *tls.Config {
	base := &tls.Config{
		MinVersion:     tls.VersionTLS12,
		NextProtos:     []string{"h2", "http/1.1"},
		ClientAuth:     tls.RequestClientCert,
		GetCertificate: e.cfg.Certificate,
	}
	outer := base.Clone()
	outer.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		a := e.anchors.Load()
		issuer := e.cfg.Hosts[hostName(hello.ServerName)]
		if c, ok := a.configs.Load(issuer); ok {
			return c.(*tls.Config), nil
		}
		c := base.Clone()
		c.ClientCAs = a.pool(issuer)
		a.configs.Store(issuer, c)
		return c, nil
	}
	return outer
}

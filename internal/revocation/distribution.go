package revocation

import (
	"bytes"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"postern/internal/registry"
)

// How long caches may keep what the distribution point serves, at most. A delta is looked for as often as it is published.
const (
	baseMaxAge        = time.Hour
	deltaMaxAge       = time.Minute
	certificateMaxAge = time.Hour
	maxUserAgent      = 200 // octets kept of a User-Agent header
)

// Content types of RFC 2585, section 3, and of PKCS #7 bundles.
const (
	typeCRL         = "application/pkix-crl"
	typeCertificate = "application/pkix-cert"
	typeBundle      = "application/x-pkcs7-certificates"
)

// document is one thing at the distribution point.
type document struct {
	body        []byte
	contentType string
	etag        string
	since       time.Time     // when it became what it is
	maxAge      time.Duration // at most
	record      registry.CRL  // zero for a certificate
}

// handler is the door.
type handler struct {
	p     *Publisher
	sites map[string]*site      // by issuer
	ocsp  map[string]*responder // by issuer
}

// Handler returns the distribution point and the OCSP responder, for the public listener (plain HTTP):
//
//	GET, HEAD  /{issuer}/{ca}.crl, /{issuer}/{ca}-delta.crl, /{issuer}/{ca}.cer, /{issuer}/chain.p7b
//	GET        /ocsp/{issuer}/{base64 of the request}
//	POST       /ocsp/{issuer}
//
// Do not put an http.ServeMux in front of it: that redirects paths with two slashes in a row, which base64 has. Where the issuer's URL has a path of its
// own, strip it first (http.StripPrefix). A query is ignored. A CA that does not sign here has no delta, and one of another PKI no CRL.
func (p *Publisher) Handler() http.Handler {
	h := &handler{p: p, sites: map[string]*site{}, ocsp: map[string]*responder{}}
	for _, s := range p.sites {
		h.sites[s.name] = s
		h.ocsp[s.name] = &responder{p: p, issuer: s.issuer, site: s}
	}
	return h
}

// document finds what is published under a path.
func (h *handler) document(path string) (get func() (document, bool), ok bool) {
	issuer, name, _ := strings.Cut(strings.TrimPrefix(path, "/"), "/")
	if s := h.sites[issuer]; s != nil {
		get, ok = s.edition.Load().documents[name]
	}
	return get, ok
}

// crl returns the CRL that is served now.
func (a *authority) crl(kind registry.CRLKind) (document, bool) {
	p := a.served.Load()
	if p == nil || kind == registry.Delta && p.delta == nil {
		return document{}, false
	}
	s, age := p.base, baseMaxAge
	if kind == registry.Delta {
		s, age = p.delta, deltaMaxAge
	}
	return document{body: s.der, contentType: typeCRL, etag: s.etag, since: s.since, maxAge: age, record: s.record}, true
}

// ServeHTTP implements http.Handler.
func (h *handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("X-Content-Type-Options", "nosniff")
	if rest, ok := strings.CutPrefix(r.URL.EscapedPath(), "/ocsp/"); ok {
		h.serveOCSP(w, r, rest)
		return
	}
	get, ok := h.document(r.URL.Path)
	if !ok {
		http.NotFound(w, r)
		return
	}
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		http.Error(w, "method not allowed", http.StatusMethodNotAllowed)
		return
	}
	d, ok := get()
	if !ok {
		w.Header().Set("Retry-After", "5")
		http.Error(w, "not published yet", http.StatusServiceUnavailable)
		return
	}
	h.serve(w, r, d)
}

func (h *handler) serve(w http.ResponseWriter, r *http.Request, d document) {
	now := h.p.cfg.Now()
	age := d.maxAge
	if d.record.Number != 0 {
		age = min(age, d.record.NextPublish.Sub(now), d.record.NextUpdate.Sub(now))
	}
	age = max(age, 0).Truncate(time.Second)
	head := w.Header()
	head.Set("Content-Type", d.contentType)
	head.Set("ETag", d.etag)
	head.Set("Cache-Control", "public, no-transform, must-revalidate, max-age="+strconv.Itoa(int(age/time.Second)))
	head.Set("Expires", now.Add(age).UTC().Format(http.TimeFormat))
	// Two deltas may be published in one second, which Last-Modified cannot tell apart. So it is the second after, and is said once that has begun.
	modified := d.since.UTC().Truncate(time.Second).Add(time.Second)
	if now.Before(modified) {
		modified = time.Time{}
	}
	http.ServeContent(w, r, "", modified, bytes.NewReader(d.body))
	if d.record.Number != 0 && r.Method == http.MethodGet && h.p.cfg.Journal != nil {
		h.p.cfg.Journal.Fetched(registry.Receipt{Object: strings.TrimPrefix(r.URL.Path, "/"), Number: strconv.FormatUint(d.record.Number, 10),
			Network: network(r.RemoteAddr), UserAgent: userAgent(r.UserAgent()), First: now.UTC(), Last: now.UTC(), Count: 1})
	}
}

// network cuts an address to what a receipt keeps: /24 of IPv4, /48 of IPv6. It is empty for what is no address.
func network(remote string) string {
	at, err := netip.ParseAddrPort(remote)
	if err != nil {
		return ""
	}
	addr := at.Addr().Unmap().WithZone("")
	bits := 48
	if addr.Is4() {
		bits = 24
	}
	prefix, err := addr.Prefix(bits)
	if err != nil {
		return ""
	}
	return prefix.String()
}

// userAgent keeps the printable ASCII of a header.
func userAgent(s string) string {
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return -1
		}
		return r
	}, s[:min(len(s), maxUserAgent)])
	return s
}

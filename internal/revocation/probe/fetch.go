package probe

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/netip"
	"net/url"
	"path"
	"strings"
	"time"
)

// maxCertificate bounds a CA certificate that is fetched, in octets.
const maxCertificate = 64 << 10

// answer is what a server has sent.
type answer struct {
	status int
	body   []byte
	header http.Header
	took   time.Duration
	more   bool   // there was more than the limit
	peer   string // network address; empty behind a proxy
}

// checkURL says what is wrong with the URL of a CRL, or nothing. Entra ID takes the CRL from the URL that is registered; Microsoft's checker wants its form.
func checkURL(raw string) string {
	u, err := url.Parse(raw)
	switch {
	case err != nil || u.Host == "" || u.Opaque != "":
		return "is not a URL with a host"
	case u.Scheme != "http":
		return fmt.Sprintf("has the scheme %q: CRLs are fetched over plain HTTP", u.Scheme)
	case u.RawQuery != "" || u.ForceQuery || u.Fragment != "" || u.User != nil:
		return "has a query, a fragment or a user"
	case !strings.Contains(strings.Trim(path.Base(u.Path), "."), "."):
		return "has no extension in the last part of its path"
	}
	return ""
}

// get fetches at most limit octets, within the time.
func (p *Prober) get(ctx context.Context, raw string, limit int) (answer, error) {
	ctx, cancel := context.WithTimeout(ctx, p.limits.Time)
	defer cancel()
	var a answer
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{GotConn: func(c httptrace.GotConnInfo) { a.peer = c.Conn.RemoteAddr().String() }})
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, raw, nil)
	if err != nil {
		return a, err
	}
	req.Header.Set("User-Agent", "postern-crl-probe")
	began := time.Now()
	resp, err := p.client.Do(req)
	if err != nil {
		return a, err
	}
	defer resp.Body.Close()
	if proxy, err := http.ProxyFromEnvironment(req); err != nil || proxy != nil {
		a.peer = ""
	}
	var b bytes.Buffer
	_, err = io.Copy(&b, io.LimitReader(resp.Body, int64(limit)+1))
	a.status, a.header, a.body, a.took, a.more = resp.StatusCode, resp.Header, b.Bytes(), time.Since(began), b.Len() > limit
	return a, err
}

// fetch gets a CRL and says what is wrong with how it comes. ok means that there is a body to look at.
func (l *look) fetch(ctx context.Context, about, raw string) (a answer, ok bool) {
	if what := checkURL(raw); what != "" {
		l.fail(about, badURL, "%q %s", raw, what)
		if !strings.HasPrefix(raw, "http://") && !strings.HasPrefix(raw, "https://") {
			return a, false
		}
	}
	a, err := l.get(ctx, raw, l.limits.Size)
	var timeout interface{ Timeout() bool }
	switch {
	case a.more:
		l.fail(about, tooBig, "it is larger than %s, which is all that Entra ID takes while a user waits", sizeText(l.limits.Size))
		return a, false
	case errors.As(err, &timeout) && timeout.Timeout():
		l.fail(about, tooSlow, "it was not there after %s", l.limits.Time)
		return a, false
	case err != nil:
		l.fail(about, unreachable, "it cannot be fetched: %v", err)
		return a, false
	case a.status != http.StatusOK:
		l.fail(about, badStatus, "HTTP status %d", a.status)
		return a, false
	}
	l.delivery(about, a)
	return a, true
}

// delivery warns of what will not hold for long, or not for Microsoft.
func (l *look) delivery(about string, a answer) {
	if a.took > l.limits.Time/2 {
		l.warn(about, tooSlow.remedy, "it took %s, and %s are allowed", a.took.Round(100*time.Millisecond), l.limits.Time)
	}
	if len(a.body) >= l.limits.Size/4*3 {
		l.warn(about, tooBig.remedy, "it has %s, and %s are allowed", sizeText(len(a.body)), sizeText(l.limits.Size))
	}
	if enc := a.header.Get("Content-Encoding"); enc != "" && enc != "identity" {
		l.warn(about, "serve it as it is", "it comes with Content-Encoding %q, which nobody has asked for", enc)
	}
	if at, err := http.ParseTime(a.header.Get("Date")); err == nil {
		if d := at.Sub(l.now()).Abs(); d > 5*time.Minute {
			l.warn(about, "set the clocks: times below are judged by this machine's", "the server's clock is %s off this machine's", d.Round(time.Minute))
		}
	}
	host, _, err := net.SplitHostPort(a.peer)
	if err != nil {
		return
	}
	if ip, err := netip.ParseAddr(host); err == nil && (ip.IsLoopback() || ip.Unmap().IsPrivate() || ip.IsLinkLocalUnicast()) {
		l.warn(about, "see that the name resolves to a public address for the rest of the world", "it comes from %s, where Microsoft cannot reach it", ip)
	}
}

// fetchCertificate gets the certificate of the CA, or nil.
func (l *look) fetchCertificate(ctx context.Context, raw string) *x509.Certificate {
	const remedy = "name the file of the CA's certificate instead"
	a, err := l.get(ctx, raw, maxCertificate)
	if err == nil && (a.status != http.StatusOK || a.more) {
		err = fmt.Errorf("HTTP status %d, %d octets", a.status, len(a.body))
	}
	if err != nil {
		l.warn("ca", remedy, "no certificate at %q: %v", raw, err)
		return nil
	}
	c, err := ParseCertificate(a.body)
	if err != nil {
		l.warn("ca", remedy, "no certificate at %q: %v", raw, err)
		return nil
	}
	return c
}

// ParseCertificate reads a certificate in DER or PEM, of at most 64 KB.
func ParseCertificate(raw []byte) (*x509.Certificate, error) {
	if len(raw) > maxCertificate {
		return nil, fmt.Errorf("certificate of more than %d octets", maxCertificate)
	}
	if block, _ := pem.Decode(raw); block != nil {
		raw = block.Bytes
	}
	return x509.ParseCertificate(raw)
}

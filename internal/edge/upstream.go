package edge

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"postern/internal/eas"
)

// How long the upstream may take to begin its answer, counted from the last byte of the request. Ping and Sync are held for up to 3540 seconds (MS-ASCMD,
// section 2.2.3.84); the margin is for an upstream that is slow at the end.
const (
	longPollTimeout = 3900 * time.Second
	answerTimeout   = 2 * time.Minute
)

// upstream is the Exchange behind the gate.
//
// A command is sent once. Over HTTP/2 the connection is shared: its protocol tells what was not processed. Over HTTP/1.1 a command has its connection (with
// TLS resumption) for itself, and only the same user's next command on the same connection of the phone may follow on it (see restLimit): one user's request
// never shares a byte stream with another's, and a server that closes a connection just as a command is written to it cannot make it uncertain whether the
// command was taken. Only discovery, which may be repeated, uses shared HTTP/1.1 connections.
type upstream struct {
	base   *url.URL
	routes *routes
	pooled *http.Transport
	dialer *dialer
	http2  sync.Map // host:port of servers that have last spoken HTTP/2; only servers that are allowed get so far
}

func newUpstream(base *url.URL, roots *x509.CertPool, routes *routes) *upstream {
	config := &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots, ClientSessionCache: tls.NewLRUClientSessionCache(sessionsKept)}
	return &upstream{base: base, routes: routes, dialer: newDialer(config), pooled: &http.Transport{
		Proxy:                  nil, // what the environment says of proxies is not for mail
		DialContext:            (&net.Dialer{Timeout: dialTimeout, KeepAlive: keepAlive}).DialContext,
		TLSClientConfig:        config,
		TLSHandshakeTimeout:    handshakeLimit,
		ForceAttemptHTTP2:      true,
		DisableCompression:     true,
		MaxIdleConnsPerHost:    16,
		IdleConnTimeout:        30 * time.Second,
		ExpectContinueTimeout:  time.Second,
		MaxResponseHeaderBytes: maxHeader,
		HTTP2:                  &http.HTTP2Config{SendPingTimeout: 30 * time.Second, PingTimeout: 15 * time.Second},
	}}
}

// outgoing makes the request to the upstream of one from a phone: the same but for where it goes, and without its body.
func (u *upstream) outgoing(ctx context.Context, r *http.Request) *http.Request {
	out := r.WithContext(ctx)
	out.URL, out.Host, out.RequestURI = u.target(r.URL.EscapedPath(), r.URL.RawQuery), u.base.Host, ""
	out.Body, out.TransferEncoding, out.Trailer, out.Close = http.NoBody, nil, nil, false
	if _, ok := out.Header["User-Agent"]; !ok {
		out.Header["User-Agent"] = nil // not one of our own
	}
	return out
}

func (u *upstream) target(path, rawQuery string) *url.URL {
	return &url.URL{Scheme: u.base.Scheme, Host: u.base.Host, Path: strings.TrimSuffix(u.base.Path, "/") + path, RawQuery: rawQuery}
}

// request makes a request to the upstream without headers, and without a User-Agent of our own.
func (u *upstream) request(ctx context.Context, method, path, rawQuery string) *http.Request {
	r := &http.Request{Method: method, URL: u.target(path, rawQuery), Host: u.base.Host, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Header: http.Header{"User-Agent": nil}, Body: http.NoBody}
	return r.WithContext(ctx)
}

// send sends a command of q.
func (u *upstream) send(r *http.Request, q *request) (*http.Response, error) {
	host := r.URL.Host
	if _, speaks := u.http2.Load(host); !speaks {
		resp, err := u.dialer.alone(r, &q.conn.upstream, q.credential.User)
		if !errors.Is(err, errHTTP2) {
			return resp, err
		}
		u.http2.Store(host, true) // and nothing was sent yet
	}
	resp, err := u.pooled.RoundTrip(r)
	if err == nil && resp.ProtoMajor == 1 {
		u.http2.Delete(host)
	}
	return resp, err
}

func (u *upstream) close() { u.pooled.CloseIdleConnections() }

// timeoutFor returns how long a command may wait for the beginning of its answer. The query does not tell whether a Sync hangs, so each may.
func timeoutFor(c eas.Command) time.Duration {
	if c == eas.Ping || c == eas.Sync {
		return longPollTimeout
	}
	return answerTimeout
}

// leadsAway reports an answer that would lead a phone to another server (RFC 9110, section 15.4; MS-ASHTTP, section 3.1.5.2.2), to a proxy (15.5.8) or to
// another protocol (15.2 and 15.5.22).
func leadsAway(status int) bool {
	switch status {
	case http.StatusUnavailableForLegalReasons, http.StatusProxyAuthRequired, http.StatusUpgradeRequired:
		return true
	}
	return status >= 300 && status < 400 || status < 200
}

// hopHeaders are of the connection to the upstream (RFC 9110, section 7.6.1) or would lead a phone past the gate.
var hopHeaders = []string{"Connection", "Proxy-Connection", "Keep-Alive", "Proxy-Authenticate", "Te", "Trailer", "Transfer-Encoding", "Upgrade", "Alt-Svc",
	"Location", "Content-Location", "Refresh", "X-Ms-Location", "X-Postern-Reference"}

// copyHeader copies what of an answer is for the phone.
func copyHeader(dst, src http.Header) {
	for name, values := range src {
		dst[name] = values
	}
	for _, name := range hopHeaders {
		delete(dst, name)
	}
	if _, ok := dst["Content-Type"]; !ok {
		dst["Content-Type"] = nil // net/http guesses one otherwise
	}
}

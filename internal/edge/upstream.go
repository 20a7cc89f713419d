package edge

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
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
func (u *upstream) outgoing(c *command, r *http.Request) {
	out := &c.out
	*out, c.url = *r, u.target(r.URL.EscapedPath(), r.URL.RawQuery)
	out.URL, out.Host, out.RequestURI = &c.url, u.base.Host, ""
	out.Body, out.TransferEncoding, out.Trailer, out.Close = http.NoBody, nil, nil, false
	if _, ok := out.Header["User-Agent"]; !ok {
		out.Header["User-Agent"] = nil // not one of our own
	}
}

func (u *upstream) target(path, rawQuery string) url.URL {
	return url.URL{Scheme: u.base.Scheme, Host: u.base.Host, Path: strings.TrimSuffix(u.base.Path, "/") + path, RawQuery: rawQuery}
}

// request makes a request to the upstream without headers, and without a User-Agent of our own.
func (u *upstream) request(ctx context.Context, method, path, rawQuery string) *http.Request {
	to := u.target(path, rawQuery)
	r := &http.Request{Method: method, URL: &to, Host: u.base.Host, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Header: http.Header{"User-Agent": nil}, Body: http.NoBody}
	return r.WithContext(ctx)
}

// send sends a command, as r.
func (u *upstream) send(c *command, r *http.Request) (*http.Response, error) {
	h := u.dialer.habit(r.URL.Host)
	if !h.http2.Load() {
		resp, err := u.dialer.alone(c, r, h)
		if err == nil || !errors.Is(err, errHTTP2) {
			return resp, err
		}
		h.http2.Store(true) // and nothing was sent yet
	}
	return u.share(c, r, h)
}

// share sends a command over a shared connection. It is no part of its caller, whose place on the stack a Ping keeps for an hour.
//
//go:noinline
func (u *upstream) share(c *command, r *http.Request, h *habit) (*http.Response, error) {
	r = r.WithContext(c.context())
	if c.body != nil {
		r.Body = io.NopCloser(bytes.NewReader(bytes.Clone(*c.body))) // the transport may go on reading it when the buffer is another's
		if !c.keep {
			c.drop()
		}
	}
	resp, err := u.pooled.RoundTrip(r)
	if err == nil && resp.ProtoMajor == 1 {
		h.http2.Store(false)
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
var hopHeaders = dropped("Connection", "Proxy-Connection", "Keep-Alive", "Proxy-Authenticate", "Te", "Trailer", "Transfer-Encoding", "Upgrade", "Alt-Svc",
	"Location", "Content-Location", "Refresh", "X-Ms-Location", "X-Postern-Reference")

// copyHeader copies what of an answer is for the phone into the header of an answer, in which nothing is yet.
func copyHeader(dst, src http.Header) {
	for name, values := range src {
		if !hopHeaders[name] {
			dst[name] = values
		}
	}
	if _, ok := dst["Content-Type"]; !ok {
		dst["Content-Type"] = nil // net/http guesses one otherwise
	}
}

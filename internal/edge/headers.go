package edge

import (
	"net"
	"net/http"
	"strconv"
	"strings"
)

// conflict returns the reason code of a request that two readers could understand differently, "" for none: by its framing (RFC 9112, section 6.3), or
// because a header by which it is judged comes twice. All names are in the form of net/http.
func conflict(h http.Header) string {
	if len(h[framingHeader]) > 0 || len(h["Content-Length"]) > 1 {
		return reasonFraming
	}
	// A Connection header that names what belongs to the request would have the next hop see another request than this one (RFC 9110, section 7.6.1).
	for _, v := range h["Connection"] {
		for name := range strings.SplitSeq(v, ",") {
			switch strings.ToLower(strings.TrimSpace(name)) {
			case "", "close", "keep-alive", "te", "upgrade", "http2-settings", "proxy-connection":
			default:
				return reasonFraming
			}
		}
	}
	for _, name := range singleHeaders {
		if len(h[name]) > 1 {
			return reasonHeaders
		}
	}
	return ""
}

// singleHeaders say who asks and what for: of two, the edge would judge one and Exchange could take the other. Authorization has a reason of its own, and
// those of the protocol are looked at where it is read.
var singleHeaders = []string{"User-Agent", "X-User-Identity", "Content-Type", "Content-Encoding"}

// Headers that end here. The first are of this hop (RFC 9110, section 7.6.1); the next claim what only a proxy before us could know, or what the front and
// the back of Exchange tell each other; the last would let an upstream or our own transport treat a command as something else.
var droppedHeaders = dropped(
	"Connection", "Proxy-Connection", "Keep-Alive", "Proxy-Authenticate", "Proxy-Authorization", "Te", "Trailer", "Transfer-Encoding", "Upgrade", "Http2-Settings", "Expect", "Host",
	"Forwarded", "X-Forwarded", "Forwarded-For", "Via", "True-Client-Ip", "Client-Ip", "Client-Cert", "Client-Cert-Chain", "Cf-Connecting-Ip", "Fastly-Client-Ip", "Max-Forwards",
	"X-Real-Ip", "X-Cluster-Client-Ip", "X-Remote-User", "Remote-User", "X-Authenticated-User", "X-Host", "X-Url-Scheme", "Front-End-Https",
	"X-Commonaccesstoken", "X-Isfromcafe", "X-Isfrombackend", "X-Sourcecafeserver", "X-Eas-Proxy", "Msexchproxyuri",
	"Idempotency-Key", "X-Idempotency-Key", "X-Http-Method-Override", "X-Http-Method", "X-Method-Override")

func dropped(names ...string) map[string]bool {
	m := make(map[string]bool, len(names))
	for _, name := range names {
		m[name] = true
	}
	return m
}

var droppedPrefixes = []string{"X-Forwarded-", "X-Postern-", "X-Original-", "X-Rewrite-", "X-Client-", "Ssl-", "X-Ssl-", "X-Tls-", "X-Arr-", "X-Mobileiron-", "X-Ms-Client-",
	"X-Envoy-", "X-Amzn-", "X-Azure-", "X-Goog-Authenticated-"}

// cleanHeader removes what a client must not say, before anything is read: what the edge decides about is what the upstream gets. A name with an underscore
// goes too, because some servers take it for the name with a hyphen.
func cleanHeader(h http.Header) {
	for name := range h {
		if name == "" || droppedHeaders[name] || strings.IndexByte(name, '_') >= 0 {
			delete(h, name)
			continue
		}
		if c := name[0] | 0x20; c != 'x' && c != 's' {
			continue // no prefix begins otherwise
		}
		for _, prefix := range droppedPrefixes {
			// Names that net/http does not canonicalise, such as those with a blank, have no place in HTTP and do not come so far.
			if len(name) >= len(prefix) && strings.EqualFold(name[:len(prefix)], prefix) {
				delete(h, name)
				break
			}
		}
	}
}

// plainTarget reports whether a request target has the one form that every server reads alike: a path and perhaps a query (RFC 9112, section 3.2.1), visible
// ASCII, without a fragment or a backslash. The absolute form of section 3.2.2 is for proxies: it names a second host.
func plainTarget(target string) bool {
	if target == "" || target[0] != '/' {
		return false
	}
	for i := range len(target) {
		if c := target[i]; c <= ' ' || c > '~' || c == '#' || c == '\\' {
			return false
		}
	}
	return true
}

// plainPort reports whether the port of a Host header, if it has one, is a port (RFC 9110, sections 4.2.3 and 7.2). It comes back in addresses of this gate.
func plainPort(authority string) bool {
	if strings.IndexByte(authority, ':') < 0 {
		return true
	}
	_, port, err := net.SplitHostPort(authority)
	if err != nil || port == "" {
		return true
	}
	n, err := strconv.ParseUint(port, 10, 16)
	return err == nil && n > 0
}

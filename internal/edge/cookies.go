package edge

import (
	"net"
	"net/http"
	"net/url"
	"strings"
)

// ownCookies makes the cookies of an answer those of the gate, under whose name the phone keeps them. A Domain that names the server drops a cookie at the
// phone (RFC 6265, section 5.3), and a Path below a path that only the server has keeps it there: Exchange would not find the mailbox's server again
// (MS-ASHTTP, section 2.2.1.1.2). Both are what a phone would accept of the server itself; all other bytes stay.
func (e *Edge) ownCookies(h http.Header, q *request, from *url.URL) {
	values := h["Set-Cookie"]
	base := strings.TrimSuffix(e.upstream.base.Path, "/")
	if base != "" && !strings.HasPrefix(from.Path, base+"/") {
		base = "" // a server that a command was sent on to
	}
	var own []string // the values may be shared
	for i, v := range values {
		changed := ownCookie(v, hostName(from.Host), q.host, base)
		if own == nil && changed != v {
			own = append(make([]string, 0, len(values)), values...)
		}
		if own != nil {
			own[i] = changed
		}
	}
	if own != nil {
		h["Set-Cookie"] = own
	}
}

// ownCookie is ownCookies for one value of Set-Cookie. It reads attributes as clients do (RFC 6265, section 5.2).
func ownCookie(value, server, gate, base string) string {
	var out strings.Builder
	copied := 0 // bytes of value that are in out
	for at := strings.IndexByte(value, ';'); at >= 0 && at < len(value); {
		attribute := value[at:]
		if end := strings.IndexByte(attribute[1:], ';'); end >= 0 {
			attribute = attribute[:end+1]
		}
		name, text, _ := strings.Cut(attribute[1:], "=")
		text = strings.TrimSpace(text)
		switch name = strings.TrimSpace(name); {
		case strings.EqualFold(name, "Domain"):
			if domain := strings.TrimPrefix(strings.ToLower(text), "."); domain != "" && within(server, domain) && !within(gate, domain) {
				out.WriteString(value[copied:at])
				copied = at + len(attribute)
			}
		case strings.EqualFold(name, "Path") && base != "" && (text == base || strings.HasPrefix(text, base+"/")):
			start := at + strings.LastIndex(attribute, text)
			out.WriteString(value[copied:start] + "/" + strings.TrimPrefix(text[len(base):], "/"))
			copied = start + len(text)
		}
		at += len(attribute)
	}
	if copied == 0 {
		return value
	}
	out.WriteString(value[copied:])
	return out.String()
}

// within reports whether a host may set cookies for a domain (RFC 6265, section 5.1.3). Nobody may for a whole top-level domain.
func within(host, domain string) bool {
	return host == domain || strings.Contains(domain, ".") && strings.HasSuffix(host, "."+domain) && net.ParseIP(host) == nil
}

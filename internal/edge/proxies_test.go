package edge

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"io"
	"net/http"
	"net/netip"
	"strings"
	"testing"
)

func prefixes(t testing.TB, list ...string) (out []netip.Prefix) {
	for _, s := range list {
		p, err := netip.ParsePrefix(s)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, p)
	}
	return out
}

// TestForwardedFor: the word of a load balancer counts, that of a phone never.
func TestForwardedFor(t *testing.T) {
	p := &proxies{networks: prefixes(t, "10.0.0.0/8", "2001:db8::/32")}
	for _, tt := range []struct {
		name, peer, header, want string
	}{
		{"no load balancer", "192.0.2.7:1234", "", "192.0.2.7"},
		{"a phone that claims to come from elsewhere", "192.0.2.7:1234", "10.1.1.1", "192.0.2.7"},
		{"a load balancer without word", "10.0.0.1:1234", "", "10.0.0.1"},
		{"a load balancer", "10.0.0.1:1234", "192.0.2.7", "192.0.2.7"},
		{"behind two", "10.0.0.1:1234", "192.0.2.7, 10.2.2.2", "192.0.2.7"},
		{"what the phone said before", "10.0.0.1:1234", "10.9.9.9, 198.51.100.1, 192.0.2.7", "192.0.2.7"},
		{"with port", "10.0.0.1:1234", "192.0.2.7:4711", "192.0.2.7"},
		{"IPv6", "[2001:db8::1]:1234", "[2001:db9::7]:4711", "2001:db9::7"},
		{"IPv6 in brackets", "[2001:db8::1]:1234", "[2001:db9::7]", "2001:db9::7"},
		{"IPv4 in IPv6", "[::ffff:10.0.0.1]:1234", "::ffff:192.0.2.7", "192.0.2.7"},
		{"nonsense", "10.0.0.1:1234", "unknown", "10.0.0.1"},
		{"nonsense before a load balancer's", "10.0.0.1:1234", "192.0.2.7, x, 10.2.2.2", "10.2.2.2"},
	} {
		r := &http.Request{RemoteAddr: tt.peer, Header: http.Header{}}
		if tt.header != "" {
			r.Header["X-Forwarded-For"] = []string{tt.header}
		}
		if got := p.remote(r); got != tt.want {
			t.Errorf("%s: %s, want %s", tt.name, got, tt.want)
		}
		// A phone's own certificate on the connection: no load balancer can have written the header.
		r.TLS = &tls.ConnectionState{PeerCertificates: []*x509.Certificate{{}}}
		if got, want := p.remote(r), remoteIP(tt.peer); got != want {
			t.Errorf("%s, with a client certificate: %s, want %s", tt.name, got, want)
		}
	}
}

// proxyHeaders are headers of the PROXY protocol with the address that they name; "" where the load balancer speaks for itself.
func proxyHeaders() map[string]string {
	v2 := func(command, family byte, body string) string {
		return proxySignature + string([]byte{0x20 | command, family, 0, byte(len(body))}) + body
	}
	four := "\xc0\x00\x02\x07\x0a\x00\x00\x01\x12\x67\x01\xbb"
	six := "\x20\x01\x0d\xb9" + strings.Repeat("\x00", 11) + "\x07" + strings.Repeat("\x00", 15) + "\x01\x12\x67\x01\xbb"
	return map[string]string{
		"PROXY TCP4 192.0.2.7 10.0.0.1 4711 443\r\n":      "192.0.2.7:4711",
		"PROXY TCP6 2001:db9::7 2001:db8::1 4711 443\r\n": "[2001:db9::7]:4711",
		"PROXY UNKNOWN\r\n":                               "",
		"PROXY UNKNOWN ffff:f::1 x 65535 1\r\n":           "",
		v2(1, 0x11, four):                                 "192.0.2.7:4711",
		v2(1, 0x11, four+"\x04\x00\x01x"):                 "192.0.2.7:4711",
		v2(1, 0x21, six):                                  "[2001:db9::7]:4711",
		v2(0, 0, ""):                                      "",
		v2(0, 0x11, four):                                 "",
		v2(1, 0, ""):                                      "",
	}
}

func TestProxyHeader(t *testing.T) {
	for header, want := range proxyHeaders() {
		rest := strings.NewReader(header + "\x16\x03\x01")
		got, err := readProxyHeader(rest)
		if err != nil || got.IsValid() != (want != "") || got.IsValid() && got.String() != want {
			t.Errorf("%q: %v, %v, want %q", header, got, err, want)
		}
		if left, _ := io.ReadAll(rest); string(left) != "\x16\x03\x01" {
			t.Errorf("%q: %q is left for TLS", header, left)
		}
	}
	for _, header := range []string{
		"", "PROXY TCP4", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03aaaaaaaaaaaaaaaaaaaa", "PROXY TCP4 192.0.2.7 10.0.0.1 4711\r\n", "PROXY TCP4 2001:db9::7 2001:db8::1 4711 443\r\n",
		"PROXY TCP6 192.0.2.7 10.0.0.1 4711 443\r\n", "PROXY TCP4 192.0.2.7 10.0.0.1 99999 443\r\n", "PROXY UDP4 192.0.2.7 10.0.0.1 4711 443\r\n",
		"PROXY TCP4  192.0.2.7 10.0.0.1 4711 443\r\n", "PROXY UNKNOWN " + strings.Repeat("x", 200) + "\r\n", "PROXY TCP4 192.0.2.7 10.0.0.1 4711 443\n",
		proxySignature + "\x31\x11\x00\x0c\xc0\x00\x02\x07\x0a\x00\x00\x01\x12\x67\x01\xbb", proxySignature + "\x21\x11\x00\x0b\xc0\x00\x02\x07\x0a\x00\x00\x01\x12\x67\x01",
		proxySignature + "\x21\x11\xff\xff", proxySignature + "\x2f\x11\x00\x00", proxySignature[:11] + "x\x21\x11\x00\x00",
	} {
		if got, err := readProxyHeader(strings.NewReader(header)); err == nil {
			t.Errorf("%q: %v", header, got)
		}
	}
}

func FuzzProxyHeader(f *testing.F) {
	for header := range proxyHeaders() {
		f.Add([]byte(header))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		const rest = "\x16\x03\x01"
		r := bytes.NewReader(append(bytes.Clone(b), rest...))
		got, err := readProxyHeader(r)
		if used := len(b) + len(rest) - r.Len(); err == nil && (used > 16+maxProxyTLVs || used < 15) || err != nil && got.IsValid() {
			t.Fatalf("%d bytes: %v, %v", used, got, err)
		}
	})
}

package edge_test

import (
	"crypto/tls"
	"encoding/json"
	"io"
	"net"
	"net/netip"
	"slices"
	"testing"

	"postern/internal/edge"
)

// TestPhoneBehindPassthrough: behind a load balancer that passes TLS through, a phone with its certificate cannot say where it comes from.
func TestPhoneBehindPassthrough(t *testing.T) {
	w := newWorld(t, options{config: func(c *edge.Config) { c.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")} }})
	_, cert := w.managed(alice, aliceEAS)
	k := command("FolderSync", "mallory@contoso.com", aliceEAS)
	for _, tt := range []struct {
		name string
		cert *tls.Certificate
		want string
	}{{"its certificate", &cert, "127.0.0.1"}, {"none: the load balancer's word", nil, "192.0.2.7"}} {
		_, header := w.raw(tt.cert, "POST /Microsoft-Server-ActiveSync?"+k.query+" HTTP/1.1\r\nHost: "+gateHost+"\r\nAuthorization: "+k.auth+
			"\r\nMS-ASProtocolVersion: 16.1\r\nX-Forwarded-For: 192.0.2.7\r\nContent-Length: 0\r\n\r\n", 1)
		if d, _ := w.reasons(header.Get("X-Postern-Reference")); d.Remote != tt.want || (tt.cert != nil) != (d.Serial != "") {
			t.Errorf("%s: from %s, want %s", tt.name, d.Remote, tt.want)
		}
	}
}

// TestLoadBalancers: where a phone's request came from, as the help desk reads it, with load balancers before the gate.
func TestLoadBalancers(t *testing.T) {
	const proxied = "PROXY TCP4 192.0.2.7 10.0.0.1 4711 443\r\n"
	here := []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
	for _, tt := range []struct {
		name     string
		networks []netip.Prefix
		protocol bool
		first    string // before TLS
		lines    string
		from     string // "" where the connection is closed
	}{
		{"none", nil, false, "", "", "127.0.0.1"},
		{"a phone's own X-Forwarded-For", nil, false, "", "X-Forwarded-For: 192.0.2.7\r\n", "127.0.0.1"},
		{"X-Forwarded-For of a load balancer", here, false, "", "X-Forwarded-For: 10.0.0.1, 192.0.2.7\r\n", "192.0.2.7"},
		{"PROXY protocol", here, true, proxied, "", "192.0.2.7"},
		{"PROXY protocol, and what the phone says", here, true, proxied, "X-Forwarded-For: 10.0.0.1\r\n", "192.0.2.7"},
		{"PROXY protocol, health check", here, true, "PROXY UNKNOWN\r\n", "", "127.0.0.1"},
		{"PROXY protocol, header missing", here, true, "", "", ""},
		{"PROXY protocol, not switched on", here, false, proxied, "", ""},
		{"PROXY protocol from elsewhere", []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}, true, proxied, "", ""},
		{"directly, beside a load balancer elsewhere", []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}, true, "", "", "127.0.0.1"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t, options{config: func(c *edge.Config) { c.TrustedProxies, c.ProxyProtocol = tt.networks, tt.protocol }})
			k := command("FolderSync", alice, aliceEAS)
			c, err := net.Dial("tcp", w.addr)
			must(t, err)
			_, err = io.WriteString(c, tt.first)
			must(t, err)
			text := "POST /Microsoft-Server-ActiveSync?" + k.query + " HTTP/1.1\r\nHost: " + gateHost + "\r\nAuthorization: " + k.auth + "\r\nMS-ASProtocolVersion: 16.1\r\n" +
				tt.lines + "Content-Length: 0\r\n\r\n"
			if tt.from == "" {
				defer func() { _ = c.Close() }()
				if err := tls.Client(c, &tls.Config{RootCAs: w.roots, ServerName: gateHost}).HandshakeContext(t.Context()); err == nil {
					t.Error("the connection was accepted")
				}
				return
			}
			statuses, header := w.rawOn(c, nil, text, 1)
			if !slices.Equal(statuses, []int{200}) {
				t.Fatalf("answers %v", statuses)
			}
			d, _ := w.reasons(header.Get("X-Postern-Reference"))
			var input struct {
				Request struct {
					SourceIP string `json:"source_ip"`
				} `json:"request"`
			}
			must(t, json.Unmarshal(d.Input, &input))
			if d.Remote != tt.from || input.Request.SourceIP != tt.from {
				t.Errorf("from %s and %s, want %s", d.Remote, input.Request.SourceIP, tt.from)
			}
		})
	}
}

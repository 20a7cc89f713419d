package test

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"postern/internal/api"
	"postern/internal/lab"
	"postern/internal/trust"
)

// maxGrowth bounds what garbage may add to the resident memory, in KiB. It is generous: what it finds is a leak, which a flood makes much larger.
const maxGrowth = 96 << 10

// random returns n bytes that mean nothing.
func random(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.Read(b)
	return b
}

// asked is one request of garbage.
type asked struct {
	name, method, url string
	body              []byte
	header            http.Header
}

// flood sends garbage and checks that each is refused, and clearly: with a status of 400 to 499, or in the words of the protocol.
func flood(t *testing.T, client *http.Client, all []asked, inWords func(status int, body []byte) bool) {
	t.Helper()
	for _, a := range all {
		req, err := http.NewRequestWithContext(t.Context(), a.method, a.url, bytes.NewReader(a.body))
		if err != nil {
			t.Fatalf("%s: %v", a.name, err)
		}
		if a.header != nil {
			req.Header = a.header
		}
		resp, err := client.Do(req)
		if err != nil {
			// A server may close on somebody who goes on sending after he was refused.
			if len(a.body) > 32<<10 {
				continue
			}
			t.Errorf("%s: %v", a.name, err)
			continue
		}
		body, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
		_ = resp.Body.Close()
		if err != nil {
			t.Errorf("%s: %v", a.name, err)
		}
		if refused := resp.StatusCode >= 400 && resp.StatusCode < 500; !refused && !inWords(resp.StatusCode, body) {
			t.Errorf("%s: %s %.80q", a.name, resp.Status, body)
		}
	}
}

// resident reads the resident memory of the server in KiB.
func (s *site) resident(t *testing.T) int {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.process.Process.Pid))
	if err != nil {
		t.Skip("no /proc here")
	}
	var kib int
	_, rest, _ := strings.Cut(string(text), "VmRSS:")
	if _, err := fmt.Sscan(rest, &kib); err != nil {
		t.Fatal(err)
	}
	return kib
}

// unharmed checks that the server lives, has not panicked, and did not grow.
func (s *site) unharmed(t *testing.T, before int) {
	t.Helper()
	var status api.Status
	if err := s.client().Call(t.Context(), http.MethodGet, "/status", nil, nil, &status); err != nil {
		t.Fatal(err)
	}
	if len(status.Problems) > 0 {
		t.Errorf("it is not well: %q", status.Problems)
	}
	if after := s.resident(t); after-before > maxGrowth {
		t.Errorf("resident memory grew from %d to %d KiB", before, after)
	}
	log, err := os.ReadFile(s.logPath())
	if err != nil {
		t.Fatal(err)
	}
	if i := bytes.Index(log, []byte("panic")); i >= 0 {
		t.Errorf("it panicked: %.400s", log[i:])
	}
}

// enrolled adds a device of alice's and enrols it, through a relay that keeps the SCEP message.
func (s *site) enrolled(t *testing.T) (p *lab.Phone, message []byte) {
	t.Helper()
	var d trust.Device
	if err := s.client().Call(t.Context(), http.MethodPost, "/devices", nil, api.NewDevice{Issuer: "contoso", Owner: "alice@contoso.com", SerialNumber: "F2LX"}, &d); err != nil {
		t.Fatal(err)
	}
	var c api.Challenge
	if err := s.client().Call(t.Context(), http.MethodPost, "/challenges", nil, api.NewChallenge{Device: d.ID}, &c); err != nil {
		t.Fatal(err)
	}
	relay := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: s.public})
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		if r.Method == http.MethodPost {
			message = body
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		relay.ServeHTTP(w, r)
	}))
	defer front.Close()
	p = lab.NewPhone(lab.IPhone("alice", "F2LXPHONE"))
	if err := p.Enrol(t.Context(), front.URL+"/scep/contoso", c.Challenge); err != nil {
		t.Fatal(err)
	}
	return p, message
}

func TestGarbageSCEP(t *testing.T) {
	s := openSite(t, siteOptions{})
	_, good := s.enrolled(t)
	at := "http://" + s.public + "/scep/contoso"
	post := at + "?operation=PKIOperation"
	all := []asked{
		{"an oversized body", "POST", post, random(33 << 10), nil},
		{"an oversized body of a good beginning", "POST", post, append(bytes.Clone(good), make([]byte, 33<<10)...), nil},
		{"a megabyte", "POST", post, random(1 << 20), nil},
		{"nothing", "POST", post, nil, nil},
		{"text", "POST", post, []byte("hello"), nil},
		{"deep indefinite nesting", "POST", post, bytes.Repeat([]byte{0x30, 0x80}, 16000), nil},
		{"deep constructed strings", "POST", post, bytes.Repeat([]byte{0x24, 0x80}, 16000), nil},
		{"a length of four gigabytes", "POST", post, []byte{0x30, 0x84, 0xff, 0xff, 0xff, 0xff, 0x06}, nil},
		{"an endless length", "POST", post, append([]byte{0x30, 0xff}, bytes.Repeat([]byte{0xff}, 127)...), nil},
		{"something after the end", "POST", post, append(bytes.Clone(good), 0), nil},
		{"no operation", "GET", at, nil, nil},
		{"an unknown operation", "GET", at + "?operation=Format", nil, nil},
		{"a query that cannot be read", "GET", at + "?operation=PKIOperation&message=%zz", nil, nil},
		{"no base64", "GET", at + "?operation=PKIOperation&message=***", nil, nil},
		{"a query that is too long", "GET", at + "?operation=PKIOperation&message=" + strings.Repeat("A", 150<<10), nil, nil},
		{"another method", "DELETE", post, good, nil},
		{"another issuer", "POST", "http://" + s.public + "/scep/fabrikam?operation=PKIOperation", good, nil},
		{"a path that climbs", "GET", "http://" + s.public + "/contoso/%2e%2e%2f%2e%2e%2fpassphrase", nil, nil},
		{"no OCSP request", "GET", "http://" + s.public + "/ocsp/contoso/AAAA", nil, nil},
	}
	for i := 1; i < len(good); i += 41 {
		all = append(all, asked{fmt.Sprintf("the first %d bytes", i), "POST", post, good[:i], nil})
		flipped := bytes.Clone(good)
		flipped[i] ^= 0x55
		all = append(all, asked{fmt.Sprintf("byte %d changed", i), "POST", post, flipped, nil})
	}
	// A FAILURE is a message of its own; the certificate that was issued for this transaction is no secret and no new one.
	inWords := func(status int, body []byte) bool { return status == http.StatusOK && len(body) > 0 }
	flood(t, http.DefaultClient, all[:20], inWords)
	before := s.resident(t)
	for range 4 {
		flood(t, http.DefaultClient, all, inWords)
	}
	for range 300 {
		flood(t, http.DefaultClient, all[:3], inWords)
	}
	s.unharmed(t, before)
	var certificates []api.Certificate
	if err := s.client().Call(t.Context(), http.MethodGet, "/certificates", nil, nil, &certificates); err != nil {
		t.Fatal(err)
	}
	if len(certificates) != 1 {
		t.Errorf("garbage has got %d certificates", len(certificates)-1)
	}
}

func TestGarbageEdge(t *testing.T) {
	exchange := httptest.NewServer(lab.NewExchange(lab.ExchangeOptions{Personality: lab.OnPremises}).Handler())
	defer exchange.Close()
	s := openSite(t, siteOptions{upstream: exchange.URL})
	p, _ := s.enrolled(t)
	identity, _ := p.Identity()
	stranger, phone := s.edgeClient(t, nil), s.edgeClient(t, &identity)
	at := "https://mail.contoso.com" + lab.Path
	header := func(more ...string) http.Header {
		h := http.Header{"Authorization": {"Basic YWxpY2VAY29udG9zby5jb206c2VjcmV0"}, "Ms-Asprotocolversion": {"16.1"}, "Content-Type": {"application/vnd.ms-sync.wbxml"}}
		for i := 0; i < len(more); i += 2 {
			h[more[i]] = []string{more[i+1]}
		}
		return h
	}
	query := at + "?User=alice@contoso.com&DeviceId=F2LXPHONE&DeviceType=iPhone&Cmd="
	all := []asked{
		{"no query", "POST", at, nil, header()},
		{"no command", "POST", at + "?User=a&DeviceId=b&DeviceType=c", nil, header()},
		{"an unknown command", "POST", query + "Format", nil, header()},
		{"two commands", "POST", query + "Sync&Cmd=Ping", nil, header()},
		{"no base64", "POST", at + "?!!!!", nil, header()},
		{"base64 of nothing", "POST", at + "?AAAA", nil, header()},
		{"a length beyond the end", "POST", at + "?oQkJBP9TVFJBTkdFUgAGaVBob25l", nil, header()},
		{"a DeviceId that is too long", "POST", at + "?User=a&DeviceId=" + strings.Repeat("A", 5000) + "&DeviceType=c&Cmd=Sync", nil, header()},
		{"escapes that are none", "POST", at + "?User=%zz&DeviceId=b&DeviceType=c&Cmd=Sync", nil, header()},
		{"an unknown version", "POST", query + "Sync", nil, header("Ms-Asprotocolversion", "99.9")},
		{"a policy key that is no number", "POST", query + "Sync", nil, header("X-Ms-Policykey", "x")},
		{"another method", "DELETE", query + "Sync", nil, header()},
		{"an unreadable credential", "POST", query + "Sync", nil, header("Authorization", "Basic ***")},
		{"a credential that is too long", "POST", query + "Sync", nil, header("Authorization", "Bearer "+strings.Repeat("a", 60<<10))},
		{"another path", "GET", "https://mail.contoso.com/owa/", nil, nil},
		{"Autodiscover without XML", "POST", "https://mail.contoso.com/autodiscover/autodiscover.xml", random(100), http.Header{"Content-Type": {"text/xml"}}},
		{"Autodiscover that explodes", "POST", "https://mail.contoso.com/autodiscover/autodiscover.xml",
			[]byte(`<!DOCTYPE a [<!ENTITY b "` + strings.Repeat("b", 1000) + `">]><a>` + strings.Repeat("&b;", 1000) + `</a>`), http.Header{"Content-Type": {"text/xml"}}},
		{"Autodiscover that is deep", "POST", "https://mail.contoso.com/autodiscover/autodiscover.xml", bytes.Repeat([]byte("<a>"), 10000), http.Header{"Content-Type": {"text/xml"}}},
	}
	for name, body := range map[string][]byte{
		"random": random(1000), "deep": append([]byte{3, 1, 0x6A, 0}, bytes.Repeat([]byte{0x45}, 20000)...), "a string without end": []byte("\x03\x01\x6a\x00\x45\x03aaaa"),
		"a length of gigabytes": {3, 1, 0x6A, 0, 0x45, 0xC3, 0x8F, 0xFF, 0xFF, 0xFF, 0x7F, 1}, "a string table": append([]byte{3, 1, 0x6A, 0xFF, 0x7F}, random(100)...),
		"a megabyte": random(1 << 20), "empty": {},
	} {
		for _, command := range []string{"FolderSync", "Sync", "Ping", "Provision", "Settings"} {
			all = append(all, asked{"a " + command + " of WBXML that is " + name, "POST", query + command, body, header()})
		}
	}
	// Refusals in the words of ActiveSync and of Autodiscover are HTTP 200.
	inWords := func(status int, body []byte) bool {
		return status == http.StatusOK || status == 449 || status == 505 || status == 501
	}
	for _, client := range []*http.Client{stranger, phone} {
		flood(t, client, all, inWords)
	}
	before := s.resident(t)
	for range 20 {
		flood(t, stranger, all, inWords)
		flood(t, phone, all, inWords)
	}
	s.unharmed(t, before)
}

// edgeClient makes a client of the site's edge; one with a certificate speaks HTTP/2, one without HTTP/1.1.
func (s *site) edgeClient(t *testing.T, identity *tls.Certificate) *http.Client {
	t.Helper()
	root, err := os.ReadFile(filepath.Join(s.dir, "var/issuers/contoso/root.crt"))
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(root)
	cfg := &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}
	if identity != nil {
		cfg.Certificates = []tls.Certificate{*identity}
	}
	var d net.Dialer
	tr := &http.Transport{TLSClientConfig: cfg, ForceAttemptHTTP2: identity != nil, DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return d.DialContext(ctx, network, s.edge)
	}}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, Timeout: patience}
}

// TestGarbageConfig gives `config check` files that mean harm. Each is refused in words and at once.
func TestGarbageConfig(t *testing.T) {
	if _, err := build(); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	s := &site{dir: dir}
	for name, text := range map[string]string{
		"random": string(random(4096)), "too large": "data: " + strings.Repeat("a", 300<<10), "deep flow": strings.Repeat("[", 10000), "deep mapping": "a: " + strings.Repeat("{a: ", 10000),
		"deep sequence": strings.Repeat("- ", 10000), "deep keys": strings.Repeat("? ", 10000), "billion laughs": "a: &a [x,x]\nb: &b [*a,*a]\nc: [*b,*b]\n",
		"NUL": "data: \"\\0\"\n", "binary": "\x00\x01\x02", "tag": "data: !!python/object x\n", "merge": "<<: {data: x}\n", "two documents": "data: x\n---\ndata: y\n",
		"a list": "- a\n- b\n", "a number": "42\n", "open quote": "data: \"x\n", "tabs": "data:\tx\n\tpublic: y\n", "indented": strings.Repeat(" ", 5000) + "a: b\n",
	} {
		path := filepath.Join(dir, "postern.yaml")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		out, err := s.postern("config", "check")
		if err == nil {
			t.Errorf("%s: accepted", name)
		}
		if strings.Contains(out, "goroutine ") || !strings.HasPrefix(out, "postern: ") || len(out) > 4<<10 || time.Since(began) > patience/3 {
			t.Errorf("%s: after %s: %.300q", name, time.Since(began).Round(time.Millisecond), out)
		}
	}
}

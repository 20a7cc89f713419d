package edge_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// phone returns a client with the certificate, or without one, for HTTP/1.1 or HTTP/2.
func (w *world) phone(cert *tls.Certificate, h2 bool) *http.Client {
	config := &tls.Config{RootCAs: w.roots, ServerName: gateHost, ClientSessionCache: tls.NewLRUClientSessionCache(4)}
	if cert != nil {
		config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return cert, nil }
	}
	tr := &http.Transport{TLSClientConfig: config, ForceAttemptHTTP2: h2, DisableCompression: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "tcp", w.addr)
		}}
	w.t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, Timeout: 30 * time.Second, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}

// call is one request of a phone.
type call struct {
	method, path, query string
	auth, agent, body   string
	version, host       string
	header              map[string]string
}

// command is FolderSync by alice's iPhone unless said otherwise.
func command(cmd, user, deviceID string) call {
	return call{query: "Cmd=" + cmd + "&User=" + url.QueryEscape(user) + "&DeviceId=" + deviceID + "&DeviceType=iPhone", auth: basic(user)}
}

// reply is the answer of the edge.
type reply struct {
	status    int
	header    http.Header
	body      string
	reference string
}

func (w *world) do(c *http.Client, k call) reply {
	w.t.Helper()
	out, err := w.try(context.Background(), c, k)
	must(w.t, err)
	return out
}

func (w *world) try(ctx context.Context, c *http.Client, k call) (reply, error) {
	r, err := http.NewRequestWithContext(ctx, or(k.method, "POST"), "https://"+gateHost+or(k.path, "/Microsoft-Server-ActiveSync"), nil)
	if err != nil {
		return reply{}, err
	}
	r.URL.RawQuery, r.Host = k.query, or(k.host, gateHost)
	if k.body != "" {
		r.Body, r.ContentLength = io.NopCloser(bytes.NewBufferString(k.body)), int64(len(k.body))
	}
	r.Header.Set("User-Agent", or(k.agent, iphone))
	if v := or(k.version, "16.1"); v != "none" {
		r.Header.Set("MS-ASProtocolVersion", v)
	}
	if k.auth != "" {
		r.Header.Set("Authorization", k.auth)
	}
	for name, v := range k.header {
		r.Header.Set(name, v)
	}
	resp, err := c.Do(r)
	if err != nil {
		return reply{}, err
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	return reply{resp.StatusCode, resp.Header, string(body), resp.Header.Get("X-Postern-Reference")}, err
}

func or(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}

func basic(user string) string {
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(user+":S3cretPassw0rd"))
}

func bearer(claims map[string]any) string {
	payload, _ := json.Marshal(claims)
	e := base64.RawURLEncoding.EncodeToString
	return "Bearer " + e([]byte(`{"alg":"RS256","typ":"JWT"}`)) + "." + e(payload) + "." + e([]byte("S3cretSignature"))
}

// phoneSees puts an answer into words.
func phoneSees(r reply) string {
	switch {
	case r.status == 200 && strings.Contains(r.body, "answer"):
		return mail
	case r.status == 200 && strings.Contains(r.body, "\x03129\x00") && r.reference != "" && r.header.Get("Content-Type") == "application/vnd.ms-sync.wbxml":
		return blocked
	case r.status == 403 && r.body == "" && r.reference != "":
		return http403
	case r.status == 503 && r.header.Get("Retry-After") != "" && r.reference != "":
		return later
	case r.status == 401:
		return signIn
	}
	return fmt.Sprintf("http %d: %q", r.status, r.body)
}

func (w *world) eventually(ok func() bool) {
	w.t.Helper()
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if ok() {
			return
		}
	}
	w.t.Fatal("did not happen within 10 seconds")
}

package scep

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/smallstep/pkcs7"
)

func (g *gate) do(method, path string, body io.Reader) (*http.Response, string) {
	g.Helper()
	req, err := http.NewRequestWithContext(g.Context(), method, g.server.URL+path, body)
	g.must(err)
	r, err := http.DefaultClient.Do(req)
	g.must(err)
	defer r.Body.Close()
	b, err := io.ReadAll(r.Body)
	g.must(err)
	return r, string(b)
}

// RFC 8894, section 3.5: capabilities, one on a line.
func TestGetCACaps(t *testing.T) {
	for _, legacy := range []bool{false, true} {
		g := newGate(t, func(c *Config) { c.Legacy = map[string]bool{"contoso": legacy} })
		for _, path := range []string{"/scep/contoso?operation=GetCACaps", "/scep/contoso/pkiclient.exe?operation=GetCACaps&message=x"} {
			r, body := g.do("GET", path, nil)
			caps := strings.Split(body, "\n")
			for _, want := range []string{"SCEPStandard", "AES", "POSTPKIOperation", "Renewal", "SHA-256", "SHA-512"} {
				if !strings.Contains("\n"+body+"\n", "\n"+want+"\n") {
					t.Errorf("%s is not in %q", want, caps)
				}
			}
			if r.StatusCode != 200 || strings.Contains(body, "DES3") != legacy || strings.Contains(body, "SHA-1") != legacy {
				t.Errorf("legacy %v: %d %q", legacy, r.StatusCode, caps)
			}
		}
	}
}

// RFC 8894, section 4.2: the RA comes first, with the chain.
func TestGetCACert(t *testing.T) {
	g := newGate(t)
	r, body := g.do("GET", "/scep/contoso?operation=GetCACert&message=", nil)
	if ct := r.Header.Get("Content-Type"); ct != "application/x-x509-ca-ra-cert" {
		t.Errorf("Content-Type %q", ct)
	}
	p7, err := pkcs7.Parse([]byte(body))
	g.must(err)
	if len(p7.Certificates) != 3 || !p7.Certificates[0].Equal(g.issuer.RACertificate()) || !p7.Certificates[1].Equal(g.issuer.Chain()[0]) {
		t.Errorf("%d certificates", len(p7.Certificates))
	}
}

// What is no SCEP request gets an HTTP error without detail, and no more work.
func TestHTTPErrors(t *testing.T) {
	g := newGate(t)
	long := strings.Repeat("A", 2*MaxMessage)
	for _, c := range []struct {
		method, path, body string
		want               int
	}{
		{"GET", "/scep/nobody?operation=GetCACaps", "", 404}, {"GET", "/scep/", "", 404}, {"GET", "/scep/contoso%2f..?operation=GetCACaps", "", 200},
		{"PUT", "/scep/contoso?operation=PKIOperation", "x", 405}, {"DELETE", "/scep/contoso", "", 405},
		{"GET", "/scep/contoso", "", 400}, {"GET", "/scep/contoso?operation=getcacaps", "", 200}, {"GET", "/scep/contoso/?Operation=GETCACert", "", 200}, {"GET", "/scep/contoso?operation=GetNextCACert", "", 404},
		{"GET", "/scep/contoso?operation=GetCACert&message=100%", "", 200}, {"GET", "/scep/contoso?operation=GetCACert&message=a;b", "", 200},
		{"GET", "/scep/contoso?operation=%zz", "", 400}, {"GET", "/scep/contoso?operation=PKIOperation&message=MI%zz", "", 400}, {"GET", "/scep/contoso?operation=PKIOperation", "", 400},
		{"GET", "/scep/contoso?operation=PKIOperation&message=***", "", 400}, {"GET", "/scep/contoso?operation=PKIOperation&message=MIIB", "", 400},
		{"GET", "/scep/contoso?operation=PKIOperation&message=" + long, "", 400}, {"GET", "/scep/contoso?operation=PKIOperation&message=" + long + long + long, "", 414},
		{"POST", "/scep/contoso?operation=PKIOperation", "", 400}, {"POST", "/scep/contoso?operation=PKIOperation", "garbage", 400},
		{"POST", "/scep/contoso?operation=PKIOperation", strings.Repeat("\x30\x80", MaxMessage/2), 400},
		{"POST", "/scep/contoso?operation=PKIOperation", strings.Repeat("x", MaxMessage+1), 413},
	} {
		r, body := g.do(c.method, c.path, strings.NewReader(c.body))
		if r.StatusCode != c.want {
			t.Errorf("%s %.80s: %d %.80s, want %d", c.method, c.path, r.StatusCode, body, c.want)
		}
	}
	if n := len(g.certificates()); n != 0 {
		t.Errorf("%d certificates", n)
	}
}

// endless is a body that never ends by itself; it counts what is taken.
type endless struct{ taken atomic.Int64 }

func (e *endless) Read(p []byte) (int, error) {
	if e.taken.Load() > 256<<20 {
		return 0, io.EOF
	}
	e.taken.Add(int64(len(p)))
	return len(p), nil
}

// A body of 256 MiB costs what a small one costs.
func TestOversizedBody(t *testing.T) {
	g := newGate(t)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	body := &endless{}
	req, err := http.NewRequestWithContext(t.Context(), "POST", g.url(), body)
	g.must(err)
	if r, err := http.DefaultClient.Do(req); err == nil { // a server that closes early may be an error for the writer
		r.Body.Close()
		if r.StatusCode != http.StatusRequestEntityTooLarge {
			t.Errorf("status %d", r.StatusCode)
		}
	}
	runtime.ReadMemStats(&after)
	if grown := after.TotalAlloc - before.TotalAlloc; grown > 8<<20 {
		t.Errorf("%d bytes were allocated", grown)
	}
	if n := body.taken.Load(); n > 32<<20 {
		t.Errorf("%d bytes were taken", n)
	}
}

// A message may come by POST with any Content-Type, and by GET in every base64 that clients make.
func TestTransports(t *testing.T) {
	g := newGate(t)
	type make func(message []byte) *http.Request
	post := func(contentType string) make {
		return func(m []byte) *http.Request {
			r, _ := http.NewRequest("POST", g.url(), bytes.NewReader(m))
			r.Header.Set("Content-Type", contentType)
			if contentType == "" {
				r.Header.Del("Content-Type")
			}
			return r
		}
	}
	get := func(encode func([]byte) string) make {
		return func(m []byte) *http.Request {
			r, err := http.NewRequest("GET", g.url(), nil)
			g.must(err)
			r.URL.RawQuery += "&message=" + encode(m)
			return r
		}
	}
	for name, form := range map[string]make{
		"POST":             post("application/x-pki-message"),
		"POST, no type":    post(""),
		"POST, odd type":   post("application/x-www-form-urlencoded"),
		"POST, multipart":  post("multipart/form-data"),
		"GET, escaped":     get(func(m []byte) string { return url.QueryEscape(base64.StdEncoding.EncodeToString(m)) }),
		"GET, stray plus":  get(base64.StdEncoding.EncodeToString),
		"GET, URL-safe":    get(base64.URLEncoding.EncodeToString),
		"GET, no padding":  get(base64.RawURLEncoding.EncodeToString),
		"GET, twice":       get(func(m []byte) string { return url.QueryEscape(url.QueryEscape(base64.StdEncoding.EncodeToString(m))) }),
		"GET, lines":       get(func(m []byte) string { return lines(base64.StdEncoding.EncodeToString(m)) }),
		"GET, all escaped": get(func(m []byte) string { return everyByte(base64.StdEncoding.EncodeToString(m)) }),
	} {
		t.Run(name, func(t *testing.T) {
			a := ask{challenge: g.challenge(g.device()), id: name}
			r, err := http.DefaultClient.Do(form(g.encode(a)))
			g.must(err)
			if got := g.read(r, a.party()); got.cert == nil || got.rep.id != name {
				t.Errorf("%d %s, %s %s", got.code, got.body[:min(len(got.body), 80)], got.rep.failInfo, got.rep.failText)
			}
		})
	}
}

// lines breaks base64 as PEM does, escaped.
func lines(s string) string {
	var b strings.Builder
	for len(s) > 64 {
		b.WriteString(url.QueryEscape(s[:64] + "\r\n"))
		s = s[64:]
	}
	return b.String() + url.QueryEscape(s)
}

func everyByte(s string) string {
	var b strings.Builder
	for i := range len(s) {
		fmt.Fprintf(&b, "%%%02x", s[i])
	}
	return b.String()
}

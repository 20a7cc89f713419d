package revocation_test

import (
	"bufio"
	"bytes"
	"crypto"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"postern/internal/trust"
)

// raw is a client that does as little as it can, so that what is measured is the server: it sends octets that were made before and skips the answer.
type raw struct {
	conn net.Conn
	in   *bufio.Reader
}

func dialRaw(t testing.TB, address string) *raw {
	t.Helper()
	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return &raw{c, bufio.NewReaderSize(c, 64<<10)}
}

// do returns the status and the length of the answer's body.
func (c *raw) do(request []byte) (status, length int, err error) {
	if _, err := c.conn.Write(request); err != nil {
		return 0, 0, err
	}
	for first := true; ; first = false {
		line, err := c.in.ReadSlice('\n')
		if err != nil {
			return 0, 0, err
		}
		switch {
		case first && len(line) > 12:
			status = int(line[9]-'0')*100 + int(line[10]-'0')*10 + int(line[11]-'0')
		case bytes.HasPrefix(line, []byte("Content-Length: ")):
			for _, d := range bytes.TrimSpace(line[16:]) {
				length = 10*length + int(d-'0')
			}
		case len(line) == 2:
			_, err := c.in.Discard(length)
			return status, length, err
		}
	}
}

// contender is a server with its rates, round by round.
type contender struct {
	clients []*raw
	rates   []float64
}

func newContender(b *testing.B, h http.Handler) *contender {
	s := httptest.NewServer(h)
	b.Cleanup(s.Close)
	c := &contender{}
	for range 2 * runtime.GOMAXPROCS(0) {
		c.clients = append(c.clients, dialRaw(b, s.Listener.Addr().String()))
	}
	return c
}

// round sends n requests over every connection.
func (c *contender) round(b *testing.B, requests [][]byte, n int) {
	b.Helper()
	began := time.Now()
	var wg sync.WaitGroup
	for k, client := range c.clients {
		wg.Go(func() {
			for i := range n {
				if status, _, err := client.do(requests[(i+k)%len(requests)]); err != nil || status != http.StatusOK {
					b.Errorf("%d %v", status, err)
					return
				}
			}
		})
	}
	wg.Wait()
	c.rates = append(c.rates, float64(n*len(c.clients))/time.Since(began).Seconds())
}

func median(v []float64) float64 {
	v = slices.Clone(v)
	slices.Sort(v)
	return v[len(v)/2]
}

// BenchmarkOCSPOverHTTP compares the responder with a handler that serves the same octets to everybody, in turns, over kept connections on loopback: 500
// certificates, asked for without nonce. The answers are signed before.
func BenchmarkOCSPOverHTTP(b *testing.B) {
	const certificates, rounds, perRound = 500, 5, 5000
	l := newLab(b)
	serials := make([]trust.Serial, certificates)
	for i := range serials {
		serials[i] = l.record(1000 * time.Hour)
	}
	l.start()
	for _, method := range []string{"GET", "POST"} {
		b.Run(method, func(b *testing.B) {
			requests := make([][]byte, certificates)
			var answer *httptest.ResponseRecorder
			for i, s := range serials {
				ask := l.ask(l.issuer.Chain()[0], s.Int(), crypto.SHA256)
				requests[i] = fmt.Appendf(nil, "POST /ocsp/contoso HTTP/1.1\r\nHost: ca.test\r\nContent-Type: application/ocsp-request\r\nContent-Length: %d\r\n\r\n%s", len(ask), ask)
				if method == "GET" {
					requests[i] = fmt.Appendf(nil, "GET /ocsp/contoso/%s HTTP/1.1\r\nHost: ca.test\r\n\r\n", strings.ReplaceAll(base64.StdEncoding.EncodeToString(ask), "+", "%2B"))
				}
				answer = l.do("POST", "/ocsp/contoso", nil, ask)
			}
			same := answer.Body.Bytes()
			static := newContender(b, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				_, _ = io.Copy(io.Discard, r.Body)
				w.Header().Set("Content-Type", "application/ocsp-response")
				w.Header().Set("Content-Length", strconv.Itoa(len(same)))
				_, _ = w.Write(same)
			}))
			ours := newContender(b, l.handler)
			for b.Loop() {
				for range rounds {
					static.round(b, requests, perRound)
					ours.round(b, requests, perRound)
				}
			}
			ratios := make([]float64, len(ours.rates))
			for i := range ratios {
				ratios[i] = ours.rates[i] / static.rates[i]
			}
			b.Logf("%s: %.0f answers/s, static %.0f/s (medians); ratios %.2f", method, median(ours.rates), median(static.rates), ratios)
			b.ReportMetric(median(ours.rates)/median(static.rates), "of-static")
		})
	}
}

// BenchmarkFetch serves CRLs of 50 kB and of 50 MB over a real connection: B/op must not grow with them.
func BenchmarkFetch(b *testing.B) {
	for _, size := range []int{50_000, 50_000_000} {
		b.Run(fmt.Sprintf("%dkB", size/1000), func(b *testing.B) {
			fetch := newFetch(b, size)
			b.ReportAllocs()
			b.SetBytes(int64(size))
			for b.Loop() {
				fetch()
			}
		})
	}
}

// The same as a test: what fetches of 50 MB allocate is a hundredth of that.
func TestFetchAllocatesNothingThatGrows(t *testing.T) { // alone: it counts what the whole process allocates
	const size, times = 50_000_000, 20
	fetch := newFetch(t, size)
	fetch()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for range times {
		fetch()
	}
	runtime.ReadMemStats(&after)
	if each := (after.TotalAlloc - before.TotalAlloc) / times; each > size/100 {
		t.Errorf("%d octets allocated for a CRL of %d", each, size)
	}
}

// newFetch returns a function that fetches a CRL of that size from the distribution point.
func newFetch(t testing.TB, size int) func() {
	t.Helper()
	l := newLab(t)
	s := httptest.NewServer(l.publisher(l.dir).HandlerOf(make([]byte, size)))
	t.Cleanup(s.Close)
	client := dialRaw(t, s.Listener.Addr().String())
	request := []byte("GET /contoso/issuing.crl HTTP/1.1\r\nHost: ca.test\r\n\r\n")
	return func() {
		if status, n, err := client.do(request); err != nil || status != http.StatusOK || n != size {
			t.Fatalf("%d, %d octets: %v", status, n, err)
		}
	}
}

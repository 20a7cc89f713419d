package edge_test

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"postern/internal/edge"
)

// TestHalfCommand: a body that does not come whole is sent nowhere, and the phone is not told that all is well. Nor is one that closes its side while it waits.
func TestHalfCommand(t *testing.T) {
	w := newWorld(t, options{})
	_, c := w.managed(alice, "")
	gone := make(chan string, 1)
	for _, length := range []int{4, 20, 100_000} {
		cmd := "SendMail"
		if length == 4 {
			cmd = "Ping"
			w.answerWith(hold(gone))
		}
		conn, err := tls.Dial("tcp", w.addr, &tls.Config{RootCAs: w.roots, ServerName: gateHost, Certificates: []tls.Certificate{c}, NextProtos: []string{"http/1.1"}})
		must(t, err)
		_, err = fmt.Fprintf(conn, "POST /Microsoft-Server-ActiveSync?%s HTTP/1.1\r\nHost: %s\r\nUser-Agent: %s\r\nAuthorization: %s\r\nMS-ASProtocolVersion: 16.1\r\nContent-Length: %d\r\n\r\nhalf",
			command(cmd, alice, aliceEAS).query, gateHost, iphone, basic(alice), length)
		must(t, err)
		if length == 4 {
			w.eventually(func() bool { return w.countSeen() == 1 })
		}
		must(t, conn.CloseWrite())
		_ = conn.SetReadDeadline(time.Now().Add(10 * time.Second))
		resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if length == 4 {
			if err == nil {
				t.Errorf("a phone that has closed its side is told %v", resp)
			}
			<-gone
			w.answerWith(exchange)
			w.takeSeen()
			continue
		}
		// Of a body that is sent as it comes, the end of the request may be noticed before its cause: then the phone is cut off.
		if err != nil && length == 20 || err == nil && resp.StatusCode != http.StatusRequestTimeout {
			t.Errorf("%d bytes announced: the phone is told %v, %v", length, resp, err)
		}
		_ = conn.Close()
		for _, s := range w.takeSeen() {
			if length == 20 || len(s.body) >= length {
				t.Errorf("the upstream got %q", s.body)
			}
		}
	}
}

// TestHalfClosed: a phone that closes its side while the upstream is asked how to sign in is not told that all is well.
func TestHalfClosed(t *testing.T) {
	for _, head := range []string{
		"OPTIONS /Microsoft-Server-ActiveSync HTTP/1.1\r\nAuthorization: " + basic(alice),
		"GET /EWS/Exchange.asmx HTTP/1.1\r\nAuthorization: Bearer",
	} {
		w := newWorld(t, options{config: func(c *edge.Config) { c.EWS = true }})
		_, c := w.managed(alice, "")
		done := make(chan struct{})
		w.answerWith(func(_ http.ResponseWriter, r *http.Request) {
			select {
			case <-done:
			case <-r.Context().Done():
			}
		})
		conn, err := tls.Dial("tcp", w.addr, &tls.Config{RootCAs: w.roots, ServerName: gateHost, Certificates: []tls.Certificate{c}, NextProtos: []string{"http/1.1"}})
		must(t, err)
		_, err = fmt.Fprintf(conn, "%s\r\nHost: %s\r\nUser-Agent: %s\r\n\r\n", head, gateHost, iphone)
		must(t, err)
		w.eventually(func() bool { return w.countSeen() == 1 })
		must(t, conn.CloseWrite())
		_ = conn.SetReadDeadline(time.Now().Add(10 * time.Second))
		if resp, err := http.ReadResponse(bufio.NewReader(conn), nil); err == nil {
			t.Errorf("%.7s: a phone that has closed its side is told %v", head, resp)
		}
		_ = conn.Close()
		close(done)
	}
}

// TestBodiesStayApart: however many commands are under way at once, each gets its own body to the upstream, and its own answer back.
func TestBodiesStayApart(t *testing.T) {
	w := newWorld(t, options{})
	w.answerWith(func(rw http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		rw.Header().Set("Content-Length", fmt.Sprint(len(body)))
		_, _ = rw.Write(body)
	})
	var wg sync.WaitGroup
	for i := range 8 {
		user, id := fmt.Sprintf("user%d@contoso.com", i), fmt.Sprintf("PHONE%d", i)
		_, c := w.managed(user, "")
		phone := w.phone(&c, i%2 == 0)
		wg.Go(func() {
			for n := range 40 {
				k := command("FolderSync", user, id)
				k.body = strings.Repeat(fmt.Sprintf("%s %d. ", user, n), 1+n*n)
				if got, err := w.try(t.Context(), phone, k); err != nil || got.status != 200 || got.body != k.body {
					t.Errorf("%s, %d bytes: status %d, %d bytes, %v", user, len(k.body), got.status, len(got.body), err)
				}
			}
		})
	}
	wg.Wait()
}

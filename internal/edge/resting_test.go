package edge

import (
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"net/url"
	"testing"
)

// TestWhatMayRest: a connection rests only after an answer behind which nothing of it can follow: what comes late would be taken for the next answer.
func TestWhatMayRest(t *testing.T) {
	for name, tt := range map[string]struct {
		method, answer string
		rests          bool
	}{
		"a body":                 {http.MethodPost, "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nanswer", true},
		"chunks":                 {http.MethodPost, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n6\r\nanswer\r\n0\r\n\r\n", true},
		"no body":                {http.MethodPost, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", true},
		"no content":             {http.MethodPost, "HTTP/1.1 204 No Content\r\n\r\n", true},
		"no content, of 5 bytes": {http.MethodPost, "HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n", false},
		"no content, in chunks":  {http.MethodPost, "HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n", false},
		"more than it said":      {http.MethodPost, "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nanswer!", false},
		"said to be the last":    {http.MethodPost, "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 6\r\n\r\nanswer", false},
		"of an older protocol":   {http.MethodPost, "HTTP/1.0 200 OK\r\nContent-Length: 6\r\n\r\nanswer", false},
	} {
		t.Run(name, func(t *testing.T) {
			upstream := answers(t, tt.answer)
			q := &request{conn: newConnection(nil)}
			c := newCommand(t.Context(), q)
			c.small, c.url = true, *upstream
			c.out = http.Request{Method: tt.method, URL: &c.url, Host: upstream.Host, Header: http.Header{}, Body: http.NoBody}
			resp, err := newDialer(&tls.Config{MinVersion: tls.VersionTLS12}).alone(c, &c.out, &habit{keeps: true})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := io.Copy(io.Discard, resp.Body); err != nil {
				t.Error(err)
			}
			_ = resp.Body.Close()
			c.leave()
			if l := q.conn.upstream.take(destination{upstream.Host, ""}); (l != nil) != tt.rests {
				t.Errorf("it rests: %v", l != nil)
			} else if l != nil {
				_ = l.top.Close()
			}
		})
	}
}

// answers is a server that gives every command on a connection the same answer, and closes none.
func answers(t *testing.T, text string) *url.URL {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ln.Close() })
	go func() {
		for c, err := ln.Accept(); err == nil; c, err = ln.Accept() {
			go func() {
				defer func() { _ = c.Close() }()
				for b := make([]byte, 4<<10); ; {
					if _, err := c.Read(b); err != nil {
						return
					}
					_, _ = io.WriteString(c, text)
				}
			}()
		}
	}()
	return &url.URL{Scheme: "http", Host: ln.Addr().String(), Path: pathEAS}
}

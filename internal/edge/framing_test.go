package edge

import (
	"bufio"
	"bytes"
	"io"
	"net/http"
	"strings"
	"testing"
)

// FuzzScanner reads requests along in pieces of any size: it never panics, finds the same whatever the pieces, and passes over no Content-Length beside
// Transfer-Encoding that net/http would accept.
func FuzzScanner(f *testing.F) {
	for _, seed := range []string{
		"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhelloGET / HTTP/1.1\r\nHost: a\r\n\r\n",
		"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
		"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5;a=b\r\nhello\r\n0\r\nT: r\r\n\r\nGET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nContent-Length: 1\r\n\r\n",
		"\r\n\r\nGET / HTTP/1.0\nTransfer-Encoding: chunked\n\n", "POST / HTTP/1.1\r\nX: y\r\n folded\r\n\r\n",
	} {
		f.Add([]byte(seed), uint8(3))
	}
	f.Fuzz(func(t *testing.T, text []byte, size uint8) {
		var whole scanner
		at := whole.feed(text)
		var pieces scanner
		found := false
		for rest := text; len(rest) > 0; {
			n := min(int(size)+1, len(rest))
			found = pieces.feed(rest[:n]) >= 0 || found
			rest = rest[n:]
		}
		if found != (at >= 0) {
			t.Fatalf("whole: %v, in pieces of %d: %v", at >= 0, int(size)+1, found)
		}
		if at >= 0 {
			return
		}
		r := bufio.NewReader(bytes.NewReader(text))
		for {
			head := text[len(text)-r.Buffered():]
			if r.Buffered() == 0 {
				head = text
			}
			req, err := http.ReadRequest(r)
			if err != nil {
				return
			}
			raw, _, _ := bytes.Cut(head, []byte("\n\r\n"))
			if lower := strings.ToLower(string(raw)); len(req.TransferEncoding) > 0 && strings.Contains(lower, "\ncontent-length:") && !strings.Contains(lower, "\n\n") {
				t.Fatalf("not noticed: %q", raw)
			}
			if _, err := io.Copy(io.Discard, req.Body); err != nil {
				return
			}
		}
	})
}

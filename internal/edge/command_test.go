package edge

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"testing"
	"time"
)

// TestRequestBytes: a request is written as net/http writes it, to the byte; what that refuses is refused.
func TestRequestBytes(t *testing.T) {
	pick := func(all ...string) string { return all[rand.N(len(all))] }
	names := []string{"Authorization", "Ms-Asprotocolversion", "X-Ms-Policykey", "Content-Type", "Accept", "Accept-Encoding", "Cookie", "x-lower", "X bad", "X:", "", "X\r\nEvil", "Host",
		"Content-Length", "Transfer-Encoding", "Trailer", "Connection", "Grün", "X-Ünicode", "!#$%&'*+-.^_`|~9", "Zz"}
	values := []string{"", "plain", "  blanks\t ", "two\r\nX-Evil: 1", "\nfirst", "last\r", "a\x00b", "grün", "close", "Basic dXNlcjpzZWNyZXQ="}
	for range 20_000 {
		r := &http.Request{Method: pick("POST", "POST", "POST", "GET", "HEAD", "OPTIONS", "PUT", "PATCH", "PROPFIND", ""), Header: http.Header{}, Close: rand.N(2) == 0,
			Host: pick("mail.contoso.com", "MAIL.contoso.com:444", "[::1]:80", "[fe80::1%25eth0]:443", "grün.example", "two words", "a/b", "host_name", "")}
		r.URL = &url.URL{Scheme: "https", Host: "server.contoso.com", Path: pick("/Microsoft-Server-ActiveSync", "/EWS/Exchange.asmx", "/with space", "/%41", "/ä", ""),
			RawQuery: pick("", "Cmd=Sync&User=alice%40contoso.com", "a=\r\nb", "a b", "a\x7f", "jAkJBBCa"), ForceQuery: rand.N(9) == 0}
		for range rand.N(8) {
			name := pick(names...)
			r.Header[name] = append(r.Header[name], pick(values...))
		}
		for range rand.N(2) * rand.N(60) {
			r.Header["X-"+string(rune('A'+rand.N(26)))+string(rune('a'+rand.N(26)))] = []string{pick(values...)}
		}
		switch rand.N(3) {
		case 0:
			r.Header["User-Agent"] = nil
		case 1:
			r.Header["User-Agent"] = []string{pick(values...)}
		}
		body := make([]byte, rand.N(2)*rand.N(10_000))
		for i := range body {
			body[i] = byte(rand.N(256))
		}
		plain := *r
		plain.Body, plain.ContentLength = http.NoBody, int64(len(body))
		if len(body) > 0 {
			plain.Body = io.NopCloser(bytes.NewReader(body))
		}
		var want bytes.Buffer
		wantErr := plain.Write(&want)
		got, err := appendRequest(nil, r, body)
		if (err == nil) != (wantErr == nil) || err == nil && !bytes.Equal(got, want.Bytes()) {
			t.Fatalf("%v\ngot  %q, %v\nwant %q, %v", r, got, err, want.Bytes(), wantErr)
		}
	}
}

// TestBuffersAreCleared: what was in a buffer is not in the next one.
func TestBuffersAreCleared(t *testing.T) {
	b := buffer(1000)
	for i := range *b {
		(*b)[i] = 's'
	}
	whole := (*b)[:1000]
	discard(b)
	if !bytes.Equal(whole, make([]byte, 1000)) {
		t.Error("a buffer was given back with something in it")
	}
}

// TestAlarms: a timer that is used again ends the command that it is for now, and no other.
func TestAlarms(t *testing.T) {
	for range 200 {
		first, second := ending{ctx: t.Context()}, ending{ctx: t.Context()}
		var one, two deadline
		one.start(time.Hour, &first)
		one.stop()
		two.start(time.Hour, &second)
		one.more()
		one.stop()
		two.stop()
		two.start(time.Millisecond, &second)
		for second.endedBy() == nil {
			time.Sleep(100 * time.Microsecond)
		}
		if err := second.endedBy(); !errors.Is(err, errTimeout) || first.endedBy() != nil {
			t.Fatalf("second %v, first %v", err, first.endedBy())
		}
		two.stop()
	}
}

// TestEndings: the first cause counts; it closes the connection that is held, not one that was released, and ends what was derived before or after it.
func TestEndings(t *testing.T) {
	closed := func(c net.Conn) bool {
		_ = c.SetDeadline(time.Now().Add(-time.Second))
		_, err := c.Write([]byte("x"))
		return errors.Is(err, io.ErrClosedPipe)
	}
	first, second := errors.New("first"), errors.New("second")
	released, held := func() (c net.Conn) { c, _ = net.Pipe(); return }(), func() (c net.Conn) { c, _ = net.Pipe(); return }()
	d := ending{ctx: t.Context()}
	if d.hold(released) != nil || !d.release() || d.hold(held) != nil {
		t.Fatal("ended before its time")
	}
	before := d.context()
	d.end(first)
	d.end(second)
	if closed(released) || !closed(held) || d.release() || !errors.Is(d.endedBy(), first) || !errors.Is(context.Cause(before), first) {
		t.Errorf("released %v, held %v, %v", closed(released), closed(held), d.endedBy())
	}
	if err := d.hold(released); !errors.Is(err, first) || closed(released) {
		t.Errorf("held after the end: %v", err)
	}
	late := ending{ctx: t.Context()}
	late.end(first)
	if !errors.Is(context.Cause(late.context()), first) {
		t.Error("a context derived after the end goes on")
	}
	d.leave()
	late.leave()

	phone, leaves := context.WithCancel(t.Context())
	gone := ending{ctx: phone}
	gone.watch()
	mine, _ := net.Pipe()
	if err := gone.hold(mine); err != nil {
		t.Fatal(err)
	}
	leaves()
	for end := time.Now().Add(5 * time.Second); !closed(mine); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("the phone has gone, and its connection to the upstream is open")
		}
	}
	gone.leave()
}

// lender is a phone's connection that breaks while a part of an answer is on its way, as one of HTTP/2 may: the part is still being written.
type lender struct {
	*httptest.ResponseRecorder
	part []byte
}

func (l *lender) Write(p []byte) (int, error) {
	l.part = p
	return 0, errors.New("stream closed")
}

// TestLentBufferIsNotUsedAgain: what streams to one phone is not written over with another's mail while it may still be on its way.
func TestLentBufferIsNotUsedAgain(t *testing.T) {
	for range 100 { // a pool forgets now and then
		l := &lender{ResponseRecorder: httptest.NewRecorder()}
		if stream(l, endless{}) == nil {
			t.Fatal("a write that failed is nothing")
		}
		if b := buffers.Get().(*[32 << 10]byte); &b[0] == &l.part[0] {
			t.Fatal("the buffer is another's before it was written")
		}
	}
}

type endless struct{}

func (endless) Read(p []byte) (int, error) { return len(p), nil }

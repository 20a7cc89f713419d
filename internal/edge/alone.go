package edge

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"net/url"
	"sync"
	"sync/atomic"
	"time"
)

const (
	smallBody      = 16 << 10 // bytes of a request's body that is read before the upstream is called
	maxInterim     = 5        // answers 1xx before the one that counts, as many as net/http passes over
	dialTimeout    = 10 * time.Second
	handshakeLimit = 10 * time.Second // of TLS with the upstream
	keepAlive      = 30 * time.Second // between probes of a connection that is silent because a Ping waits
	callBuffer     = 4 << 10
	protocolHTTP2  = "h2"
	protocolHTTP1  = "http/1.1"
	sessionsKept   = 64
)

var (
	// errBody is why a command was not sent whole: the phone did not finish its body.
	errBody = errors.New("the body of the request did not come")

	// errHTTP2 is why nothing was sent: the upstream chose HTTP/2, which another transport speaks.
	errHTTP2 = errors.New("the upstream speaks HTTP/2")
)

// The buffers of a request being written, and of an answer that has begun. Who waits for an answer has neither.
var (
	requestWriters = sync.Pool{New: func() any { return bufio.NewWriterSize(nil, callBuffer) }}
	answerReaders  = sync.Pool{New: func() any { return bufio.NewReaderSize(nil, callBuffer) }}
)

// dialer makes the connections that carry one command each.
type dialer struct {
	tls   *tls.Config
	long  net.Dialer // for commands that wait
	short net.Dialer
}

func newDialer(config *tls.Config) *dialer {
	config = config.Clone()
	config.NextProtos = []string{protocolHTTP2, protocolHTTP1}
	return &dialer{tls: config, long: net.Dialer{Timeout: dialTimeout, KeepAlive: keepAlive}, short: net.Dialer{Timeout: dialTimeout, KeepAlive: -1}}
}

// dial connects to the server of a URL. errHTTP2 says that it wants to speak that, and that the connection is closed again.
func (d *dialer) dial(ctx context.Context, to *url.URL, waits bool) (net.Conn, error) {
	by, port := &d.short, "80"
	if waits {
		by = &d.long
	}
	if to.Scheme == "https" {
		port = "443"
	}
	raw, err := by.DialContext(ctx, "tcp", net.JoinHostPort(to.Hostname(), cmp.Or(to.Port(), port)))
	if err != nil || to.Scheme != "https" {
		return raw, err
	}
	config := d.tls.Clone()
	config.ServerName = to.Hostname()
	c := tls.Client(raw, config)
	limit, cancel := context.WithTimeout(ctx, handshakeLimit)
	defer cancel()
	if err := c.HandshakeContext(limit); err != nil {
		_ = raw.Close()
		return nil, fmt.Errorf("TLS handshake with the upstream: %w", err)
	}
	if c.ConnectionState().NegotiatedProtocol == protocolHTTP2 {
		_ = c.Close()
		return nil, errHTTP2
	}
	return c, nil
}

// alone sends a command over HTTP/1.1 on a connection of its own, and reads the head of the answer, all in the caller's goroutine: a phone that waits for an
// hour holds no other, and no buffer. The command is sent once, whatever becomes of it. The body of the answer has to be closed.
func (d *dialer) alone(r *http.Request, waits bool) (*http.Response, error) {
	body := &watched{ReadCloser: r.Body}
	small := r.ContentLength >= 0 && r.ContentLength <= smallBody
	switch {
	case !small:
		r.Body = body
	case r.ContentLength > 0:
		// Before the upstream is called, so that a slow phone holds no connection there.
		whole := make([]byte, r.ContentLength)
		if _, err := io.ReadFull(body, whole); err != nil {
			return nil, fmt.Errorf("%w: %w", errBody, err)
		}
		r.Body = io.NopCloser(bytes.NewReader(whole))
	default:
		r.Body = http.NoBody // anything else would be sent as a body of unknown length
	}
	conn, err := d.dial(r.Context(), r.URL, waits)
	if err != nil {
		return nil, err
	}
	x := &call{conn: conn, stop: context.AfterFunc(r.Context(), func() { _ = conn.Close() })}
	resp, err := x.run(r, small)
	if err != nil {
		x.end()
		if body.failed.Load() {
			err = fmt.Errorf("%w: %w", errBody, err)
		}
		return nil, err
	}
	return resp, nil
}

// call is one command and its answer.
type call struct {
	conn   net.Conn
	stop   func() bool // lets go of the context
	reader *bufio.Reader
	head   headReader
	once   sync.Once
}

func (x *call) run(r *http.Request, small bool) (*http.Response, error) {
	r.Close = true
	if small {
		if err := x.send(r); err != nil {
			return nil, err
		}
	} else {
		// An upstream may answer before it has the whole body. If sending fails, that answer, or its absence, says why.
		go func() {
			if x.send(r) != nil && r.Body.(*watched).failed.Load() {
				_ = x.conn.Close() // half a command must not be taken for a whole one
			}
		}()
	}
	x.head = headReader{conn: x.conn, left: maxHeader}
	if _, err := io.ReadFull(x.conn, x.head.first[:]); err != nil {
		return nil, unanswered(err)
	}
	x.head.pending = true
	x.reader = answerReaders.Get().(*bufio.Reader)
	x.reader.Reset(&x.head)
	for range maxInterim + 1 {
		resp, err := http.ReadResponse(x.reader, r)
		if err != nil {
			return nil, unanswered(err)
		}
		if resp.StatusCode >= 200 || resp.StatusCode == http.StatusSwitchingProtocols {
			x.head.left = math.MaxInt64
			resp.Body = &answerBody{Reader: resp.Body, call: x}
			return resp, nil
		}
	}
	return nil, errors.New("the upstream sends one interim answer after the other")
}

// unanswered makes the end of a connection in place of an answer an error that says so.
func unanswered(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// send writes the request.
func (x *call) send(r *http.Request) error {
	w := requestWriters.Get().(*bufio.Writer)
	defer requestWriters.Put(w)
	w.Reset(x.conn)
	defer w.Reset(nil)
	if err := r.Write(w); err != nil {
		return err
	}
	return w.Flush()
}

// end closes the connection. Whatever was not read of the answer is of no use to anybody.
func (x *call) end() {
	x.once.Do(func() {
		x.stop()
		_ = x.conn.Close()
		if x.reader != nil {
			x.reader.Reset(nil)
			answerReaders.Put(x.reader)
		}
	})
}

// answerBody is the body of an answer. Closing it ends the call and does not read on.
type answerBody struct {
	io.Reader
	call *call
}

// Close implements io.Closer.
func (b *answerBody) Close() error {
	b.call.end()
	return nil
}

// headReader reads a connection whose first byte was read already, and limits what a head may take.
type headReader struct {
	conn    net.Conn
	first   [1]byte
	pending bool
	left    int64
}

// Read implements io.Reader.
func (h *headReader) Read(p []byte) (int, error) {
	switch {
	case len(p) == 0:
		return 0, nil
	case h.left <= 0:
		return 0, errors.New("the head of the answer is too large")
	case h.pending:
		p[0], h.pending = h.first[0], false
		return 1, nil
	}
	n, err := h.conn.Read(p[:min(int64(len(p)), h.left)])
	h.left -= int64(n)
	return n, err
}

// watched is a body that remembers whether reading it failed.
type watched struct {
	io.ReadCloser
	failed atomic.Bool
}

// Read implements io.Reader.
func (w *watched) Read(p []byte) (int, error) {
	n, err := w.ReadCloser.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		w.failed.Store(true)
	}
	return n, err
}

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

// dialer makes the connections that carry one command at a time.
type dialer struct {
	tls    *tls.Config
	tcp    net.Dialer
	mu     sync.RWMutex
	habits map[string]*habit // of servers, by host; only servers that are allowed get so far
}

func newDialer(config *tls.Config) *dialer {
	config = config.Clone()
	config.NextProtos = []string{protocolHTTP2, protocolHTTP1}
	return &dialer{tls: config, tcp: net.Dialer{Timeout: dialTimeout, KeepAlive: keepAlive}, habits: map[string]*habit{}}
}

// dial connects to the server of a URL. errHTTP2 says that it wants to speak that, and that the connection is closed again.
func (d *dialer) dial(ctx context.Context, to *url.URL) (*line, error) {
	port := "80"
	if to.Scheme == "https" {
		port = "443"
	}
	raw, err := d.tcp.DialContext(ctx, "tcp", net.JoinHostPort(to.Hostname(), cmp.Or(to.Port(), port)))
	if err != nil {
		return nil, err
	}
	l, err := newLine(raw.(*net.TCPConn))
	if err != nil || to.Scheme != "https" {
		return l, err
	}
	config := d.tls.Clone()
	config.ServerName = to.Hostname()
	c := tls.Client(l, config)
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
	l.top = c
	return l, nil
}

// habit returns what is known of a server.
func (d *dialer) habit(host string) *habit {
	d.mu.RLock()
	h := d.habits[host]
	d.mu.RUnlock()
	if h != nil {
		return h
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.habits[host] == nil {
		d.habits[host] = &habit{}
	}
	return d.habits[host]
}

// alone sends a command of a user over HTTP/1.1 on a connection that carries nothing else meanwhile, and reads the head of the answer, all in the caller's
// goroutine: a phone that waits for an hour holds no other, and no buffer. The command is sent once, whatever becomes of it. The body of the answer has to be
// closed.
func (d *dialer) alone(r *http.Request, place *resting, user string) (*http.Response, error) {
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
	x := &call{habit: d.habit(r.URL.Host), place: place, to: destination{r.URL.Host, user}}
	if err := x.connect(d, r); err != nil {
		return nil, err
	}
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
	line   *line
	habit  *habit
	plan   plan
	again  bool     // the connection has carried a command before
	place  *resting // of the connection afterwards
	to     destination
	stop   func() bool // lets go of the context
	reader *bufio.Reader
	head   headReader
	sent   atomic.Bool // the whole request
	once   sync.Once
}

// connect finds or makes the connection.
func (x *call) connect(d *dialer, r *http.Request) (err error) {
	if x.line = x.place.take(x.to); x.line != nil && !x.line.silent() {
		// It was restarted, perhaps, or has changed its mind.
		_ = x.line.top.Close()
		x.line = nil
		x.habit.settle(false)
	}
	x.again = x.line != nil
	if !x.again {
		if x.line, err = d.dial(r.Context(), r.URL); err != nil {
			return err
		}
	}
	x.plan = x.habit.plan()
	r.Close = x.plan == planClose
	top := x.line.top
	x.stop = context.AfterFunc(r.Context(), func() { _ = top.Close() })
	return nil
}

func (x *call) run(r *http.Request, small bool) (*http.Response, error) {
	if small {
		if err := x.send(r); err != nil {
			return nil, err
		}
	} else {
		// An upstream may answer before it has the whole body. If sending fails, that answer, or its absence, says why.
		go func() {
			if x.send(r) != nil && r.Body.(*watched).failed.Load() {
				_ = x.line.top.Close() // half a command must not be taken for a whole one
			}
		}()
	}
	x.head = headReader{conn: x.line.top, left: maxHeader}
	if err := x.line.await(x.begin); err != nil {
		return nil, unanswered(err)
	}
	for range maxInterim + 1 {
		resp, err := http.ReadResponse(x.reader, r)
		if err != nil {
			return nil, unanswered(err)
		}
		if resp.StatusCode >= 200 || resp.StatusCode == http.StatusSwitchingProtocols {
			x.head.left = math.MaxInt64
			ends := resp.Close || resp.StatusCode < 200
			resp.Body = &answerBody{Reader: resp.Body, call: x, ends: ends, done: resp.ContentLength == 0}
			return resp, nil
		}
	}
	return nil, errors.New("the upstream sends one interim answer after the other")
}

// begin takes a buffer if there is something to be read.
func (x *call) begin() error {
	b := answerReaders.Get().(*bufio.Reader)
	b.Reset(&x.head)
	_, err := b.Peek(1)
	if err != nil {
		b.Reset(nil)
		answerReaders.Put(b)
		return err
	}
	x.reader = b
	return nil
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
	w.Reset(x.line.top)
	defer w.Reset(nil)
	if err := r.Write(w); err != nil {
		return err
	}
	if err := w.Flush(); err != nil {
		return err
	}
	x.sent.Store(true)
	return nil
}

// end closes the connection. Whatever was not read of the answer is of no use to anybody.
func (x *call) end() { x.once.Do(func() { x.leave(false) }) }

// finish ends a call whose answer was read to its end, and leaves the connection as it was planned.
func (x *call) finish() {
	x.once.Do(func() { x.leave(x.plan != planClose && x.reader.Buffered() == 0 && x.sent.Load()) })
}

func (x *call) leave(open bool) {
	own := x.stop() // not the context's to close
	switch open = open && own; {
	case open && x.plan == planRest:
		x.place.put(x.line, x.to)
	case open:
		x.habit.prove(x.line)
	default:
		_ = x.line.top.Close()
		x.habit.ended(x.plan, own && x.again && x.reader == nil)
	}
	if x.reader != nil {
		x.reader.Reset(nil)
		answerReaders.Put(x.reader)
		x.reader = nil
	}
}

// answerBody is the body of an answer. Closing it ends the call and does not read on.
type answerBody struct {
	io.Reader
	call *call
	ends bool // the connection ends with it
	done bool // it was read to its end
}

// Read implements io.Reader.
func (b *answerBody) Read(p []byte) (int, error) {
	n, err := b.Reader.Read(p)
	b.done = b.done || errors.Is(err, io.EOF)
	return n, err
}

// Close implements io.Closer.
func (b *answerBody) Close() error {
	if b.done && !b.ends {
		b.call.finish()
	} else {
		b.call.end()
	}
	return nil
}

// headReader limits what a head may take.
type headReader struct {
	conn net.Conn
	left int64
}

// Read implements io.Reader.
func (h *headReader) Read(p []byte) (int, error) {
	if h.left <= 0 {
		return 0, errors.New("the head of the answer is too large")
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

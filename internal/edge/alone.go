package edge

import (
	"bufio"
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
	"os"
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

	// errNotSilent is why nothing was sent on a connection that has rested.
	errNotSilent = errors.New("the upstream has closed the connection, or said what nobody asked for")

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
	if err != nil {
		_ = raw.Close()
		return nil, err
	}
	if to.Scheme != "https" {
		return l, nil
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

// alone sends a command over HTTP/1.1 on a connection that carries nothing else meanwhile, and reads the head of the answer, all in the caller's goroutine: a
// phone that waits for an hour holds no other, and no buffer. The command is sent once, whatever becomes of it. The body of the answer has to be closed.
func (d *dialer) alone(c *command, r *http.Request, h *habit) (*http.Response, error) {
	x := &c.call
	if x.command != nil {
		x = new(call) // the goroutine that sends a long body may still look at the first one
	}
	x.command, x.request, x.habit, x.place, x.to = c, r, h, &c.request.conn.upstream, destination{r.URL.Host, c.request.credential.User}
	if !c.small {
		x.body.ReadCloser = r.Body
		r.Body = &x.body
	}
	resp, err := x.run(d)
	if err != nil {
		x.end()
		if x.body.failed.Load() {
			err = fmt.Errorf("%w: %w", errBody, err)
		}
		return nil, err
	}
	return resp, nil
}

// call is one command and its answer.
type call struct {
	command *command
	request *http.Request
	line    *line
	habit   *habit
	plan    plan
	again   bool     // the connection has carried a command before
	asked   bool     // the command was written, or is being written
	place   *resting // of the connection afterwards
	to      destination
	body    watched // of the request, where it is not small
	reader  *bufio.Reader
	head    headReader
	answer  answerBody
	sent    atomic.Bool // the whole request
	once    sync.Once
}

// run finds or makes the connection, and asks on it.
func (x *call) run(d *dialer) (*http.Response, error) {
	if x.line = x.place.take(x.to); x.line != nil {
		x.again = true
		err := x.ask()
		if err == nil {
			return x.read()
		}
		if x.asked {
			return nil, unanswered(err)
		}
		x.command.release()
		_ = x.line.top.Close()
		x.line, x.again = nil, false
		if err := x.command.endedBy(); err != nil {
			return nil, err
		}
		// It was restarted, perhaps, or has changed its mind.
		x.habit.settle(false)
	}
	line, err := d.dial(x.command.context(), x.request.URL)
	if err != nil {
		return nil, err
	}
	x.line = line
	if err := x.ask(); err != nil {
		return nil, unanswered(err)
	}
	return x.read()
}

// ask sends the command on the line, and waits for the answer to begin.
func (x *call) ask() error {
	if err := x.command.hold(x.line.top); err != nil {
		return err
	}
	x.head = headReader{conn: x.line.top, left: maxHeader}
	return x.line.await(x)
}

// look is called by line.await, at once and whenever something has come. A line that has rested is looked at before anything is written: as nothing had come
// by then, whatever comes later is noticed, and need not be looked for after writing.
func (x *call) look(l *line) error {
	if !x.asked {
		if x.again && !l.quiet() {
			return errNotSilent
		}
		l.looking = false
		x.asked = true
		x.plan = x.habit.plan()
		x.request.Close = x.plan == planClose
		if err := x.start(); err != nil || x.again {
			return cmp.Or(err, os.ErrDeadlineExceeded) // come again
		}
		l.looking = true
	}
	return x.begin()
}

// start sends a small command, and begins to send any other.
func (x *call) start() error {
	if x.command.small {
		return x.sendSmall()
	}
	// An upstream may answer before it has the whole body. If sending fails, that answer, or its absence, says why.
	go func() {
		if x.send() != nil && x.body.failed.Load() {
			_ = x.line.top.Close() // half a command must not be taken for a whole one
		}
	}()
	return nil
}

// read reads the head of the answer.
func (x *call) read() (*http.Response, error) {
	for range maxInterim + 1 {
		resp, err := http.ReadResponse(x.reader, x.request)
		if err != nil {
			return nil, unanswered(err)
		}
		if resp.StatusCode >= 200 || resp.StatusCode == http.StatusSwitchingProtocols {
			x.head.left = math.MaxInt64
			x.answer = answerBody{Reader: resp.Body, call: x, ends: isLast(resp), done: resp.ContentLength == 0}
			resp.Body = &x.answer
			return resp, nil
		}
	}
	return nil, errors.New("the upstream sends one interim answer after the other")
}

// isLast reports whether nothing follows an answer on its connection: what comes behind one without a body may be its body after all.
func isLast(r *http.Response) bool {
	return r.Close || r.StatusCode < 200 || r.StatusCode == http.StatusNoContent && (r.Header["Content-Length"] != nil || r.TransferEncoding != nil)
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

// sendSmall writes a request with its body at once. The body is let go of unless it may be needed again.
func (x *call) sendSmall() error {
	var body []byte
	if x.command.body != nil {
		body = *x.command.body
	}
	b := buffer(0)
	defer func() { discard(b) }()
	whole, err := appendRequest(*b, x.request, body)
	*b = whole
	if err != nil {
		return err
	}
	if !x.command.keep {
		x.command.drop()
	}
	if _, err := x.line.top.Write(whole); err != nil {
		return err
	}
	x.sent.Store(true)
	return nil
}

// send writes a request, and its body as it comes.
func (x *call) send() error {
	w := requestWriters.Get().(*bufio.Writer)
	defer requestWriters.Put(w)
	w.Reset(x.line.top)
	defer w.Reset(nil)
	if err := x.request.Write(w); err != nil {
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
	if x.line == nil {
		return // there was none
	}
	own := x.command.release() // not the command's end to close
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

package edge

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"sync"
	"time"
)

// errTimeout is why a command is cancelled that the upstream does not begin to answer.
var errTimeout = errors.New("the upstream did not answer in time")

// forward streams an allowed command to the upstream and its answer to the phone, byte for byte, unless the command ends before: when the phone goes away, when
// it is no longer allowed, or when the edge stops.
func (e *Edge) forward(w http.ResponseWriter, r *http.Request, c *command) {
	defer c.leave()
	e.upstream.outgoing(c, r)
	resp, err := e.answerTo(w, r, c)
	if err == nil {
		if err = c.endedBy(); err == nil {
			e.deliver(w, c, resp)
			return
		}
		// An upstream may answer just because it sees the end of the exchange; that answer is for nobody.
		_ = resp.Body.Close()
	}
	e.unanswered(w, c, err)
}

// answerTo sends a command and its body to the upstream and waits for the answer to begin.
func (e *Edge) answerTo(w http.ResponseWriter, r *http.Request, c *command) (*http.Response, error) {
	limit := timeoutFor(c.request.eas.Command)
	c.small, c.keep = r.ContentLength >= 0 && r.ContentLength <= smallBody, len(e.cfg.UpstreamHosts) > 0
	switch {
	case !c.small:
		return e.upload(w, r, c, limit)
	case r.ContentLength == 0:
		setReadDeadline(w, 0)
	default:
		// Before the upstream is called, so that a slow phone holds no connection there.
		if err := c.readBody(w, r); err != nil {
			return nil, err
		}
	}
	c.watch()
	c.limit.start(limit, &c.ending)
	resp, err := e.exchange(c)
	c.limit.stop()
	return resp, err
}

// upload is answerTo for a body that is sent as it comes.
func (e *Edge) upload(w http.ResponseWriter, r *http.Request, c *command, limit time.Duration) (*http.Response, error) {
	c.watch()
	c.limit.start(limit, &c.ending)
	c.sent = &kept{ReadCloser: r.Body, more: !c.keep}
	body := &progress{ReadCloser: c.sent, limit: &c.limit, wait: func(d time.Duration) { setReadDeadline(w, d) }}
	c.long, c.out.Body = body, body
	resp, err := e.exchange(c)
	c.limit.stop()
	if err == nil {
		setReadDeadline(w, 0)
	}
	return resp, err
}

// deliver sends an answer of the upstream to the phone. It is no part of its caller, whose place on the stack a Ping keeps for an hour.
//
//go:noinline
func (e *Edge) deliver(w http.ResponseWriter, c *command, resp *http.Response) {
	defer func() { _ = resp.Body.Close() }() // an answer that was not read to its end is of no use to anybody
	var whole *[]byte
	n := resp.ContentLength
	if resp.StatusCode == http.StatusNoContent || c.out.Method == http.MethodHead {
		n = 0 // whatever length is said: there is no body
	}
	if n >= 0 && n <= smallAnswer {
		// Whole before it begins: one write instead of three, and an upstream that breaks off is still a fault that can be said.
		whole = buffer(int(n))
		if _, err := io.ReadFull(resp.Body, *whole); err != nil {
			discard(whole)
			e.unanswered(w, c, err)
			return
		}
	}
	e.flights.begun(&c.flight)
	copyHeader(w.Header(), resp.Header)
	e.ownChallenge(w.Header(), c.request)
	e.ownCookies(w.Header(), c.request, resp.Request.URL)
	if resp.StatusCode == http.StatusNoContent {
		delete(w.Header(), "Content-Length") // RFC 9110, section 8.6: it must not be there, and breaks the stream over HTTP/2
	}
	w.WriteHeader(resp.StatusCode)
	var err error
	switch {
	case whole == nil:
		err = stream(w, resp.Body)
	case len(*whole) > 0:
		_, err = w.Write(*whole)
	}
	if err != nil {
		// The phone must not take a part for the whole. The buffer is not used again: of HTTP/2, it may be in a frame that is still being written.
		panic(http.ErrAbortHandler)
	}
	if whole != nil {
		discard(whole)
	}
}

// smallAnswer is how large an answer of known length may be to be read whole before it is sent on.
const smallAnswer = 16 << 10

// unanswered answers for an upstream that did not: with the refusal if the command was ended for that, with a fault otherwise.
func (e *Edge) unanswered(w http.ResponseWriter, c *command, err error) {
	cause, ctx := c.endedBy(), c.ctx
	var end *ended
	var away *redirected
	switch {
	case errors.As(cause, &end):
		e.refuse(w, c.request, end.reference, end.verdict)
	case errors.Is(cause, errDraining):
		// No fault, and nothing to look up: the phone comes back, perhaps to another node.
		w.Header().Set("Retry-After", e.comeBack(time.Second))
		w.Header().Set("Connection", "close")
		answer(w, "", http.StatusServiceUnavailable, "", nil)
	case errors.Is(cause, errTimeout):
		e.failed(w, c.request, faultTimeout, "The upstream did not answer in time.")
	case errors.Is(err, errBody):
		// RFC 9110, section 15.5.9. Nothing, or half a command, has reached the upstream. net/http takes such a phone for one that has gone, but it may be there and
		// wait: one that was only slow, or that says no more.
		closeWith(w, http.StatusRequestTimeout)
	case cause != nil:
		// The phone has gone. If it has not (it may have closed its side only), an empty answer of net/http's own would tell it that all is well.
		panic(http.ErrAbortHandler)
	case errors.As(err, &away):
		e.cfg.Log.WarnContext(ctx, "edge: upstream tried to redirect", "status", away.status, "to", away.host)
		e.failed(w, c.request, faultRedirect, fmt.Sprintf("The upstream answered with %d, which would lead the phone around the gate.", away.status))
	case errors.Is(err, errMoved):
		v := fault(faultMoved, "The upstream says that another server has the mailbox. The request is too large to be sent there again; the next one goes there at once.")
		v.after = "1"
		e.failedWith(w, c.request, v)
	default:
		e.cfg.Log.WarnContext(ctx, "edge: upstream cannot be reached", "error", err)
		if timeoutFor(c.request.eas.Command) == longPollTimeout {
			e.linger(c.context())
			if c.endedBy() != nil {
				e.unanswered(w, c, err)
				return
			}
		}
		e.failed(w, c.request, faultUpstream, "The upstream could not be reached, or broke the connection before its answer was whole. The command was not repeated.")
	}
}

// stream copies an answer, and hands on each part as it comes.
func stream(w http.ResponseWriter, body io.Reader) error {
	flusher := http.NewResponseController(w)
	if err := flusher.Flush(); err != nil {
		return err
	}
	buf := buffers.Get().(*[32 << 10]byte)
	for {
		n, err := body.Read(buf[:])
		if n > 0 {
			_, werr := w.Write(buf[:n])
			if werr == nil {
				werr = flusher.Flush()
			}
			if werr != nil {
				return werr // without the buffer: see deliver
			}
		}
		if err != nil {
			buffers.Put(buf)
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		}
	}
}

// buffers are taken only while an answer streams: a phone that waits holds none.
var buffers = sync.Pool{New: func() any { return new([32 << 10]byte) }}

// progress is a request body that sets the deadlines back with every part. The transport may go on reading it after the answer, when the connection is not
// to be touched any more.
type progress struct {
	io.ReadCloser
	limit *deadline

	mu   sync.Mutex
	wait func(time.Duration) // for the next part; 0: nothing more is expected; nil once the answer is complete
}

// Read implements io.Reader.
func (p *progress) Read(b []byte) (int, error) {
	n, err := p.ReadCloser.Read(b)
	p.limit.more()
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.wait == nil:
	case err == nil:
		p.wait(bodyTimeout)
	default:
		p.wait(0)
	}
	return n, err
}

// end lets go of the connection.
func (p *progress) end() {
	if p == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.wait = nil
}

// targetHost returns where a redirect leads, without path and query.
func targetHost(h http.Header) string {
	for _, name := range []string{"X-Ms-Location", "Location"} {
		if u, err := url.Parse(h.Get(name)); err == nil && u.Host != "" {
			return u.Host
		}
	}
	return ""
}

// drain ends the commands that wait for an answer, spread over the time given, so that the phones do not come back all at once.
func (e *Edge) drain(over time.Duration) {
	waiting := e.flights.waiting()
	began := time.Now()
	for i, f := range waiting {
		c := f.request.eas.Command
		if timeoutFor(c) != longPollTimeout {
			continue // short: it ends by itself
		}
		time.Sleep(time.Until(began.Add(over * time.Duration(i) / time.Duration(len(waiting)))))
		f.cancel(errDraining)
	}
}

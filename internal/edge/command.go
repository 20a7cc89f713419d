package edge

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"sync"
	"time"
)

// command is one command on its way to the upstream and back. What it needs for itself alone is in one piece, made once.
type command struct {
	flight
	ending
	limit deadline
	out   http.Request // to the upstream, to begin with
	url   url.URL      // of out
	call  call         // the first; another follows where the upstream sends the command on
	small bool         // its body is read before the upstream is called, and is in body
	keep  bool         // the body may be needed again
	body  *[]byte      // a small body, see smallBuffers; nil: none, or it was let go of
	sent  *kept        // any other body
	long  *progress    // of sent
}

// newCommand returns the command that a request is. It has to be left, and its flight to leave flights.
func newCommand(ctx context.Context, q *request) *command {
	c := &command{flight: flight{request: q}, ending: ending{ctx: ctx}}
	c.flight.cancel = c.end
	return c
}

// leave lets go of everything that belongs to the command.
func (c *command) leave() {
	c.limit.stop()
	c.drop()
	c.long.end()
	c.ending.leave()
}

// ending is how a command ends before it is answered: the phone goes away, it is no longer allowed, the upstream takes too long, or the edge stops.
type ending struct {
	ctx context.Context // of the request; it ends when the phone goes away

	mu      sync.Mutex
	cause   error                   // the first one; nil: the command goes on
	conn    net.Conn                // closed by the end: it carries the command; nil: none does
	derived context.Context         // see context; nil: nobody asked for it
	cancel  context.CancelCauseFunc // of derived
	unwatch func() bool             // of ctx
}

// end has whatever is under way for the command break off. It may be called at any time.
func (d *ending) end(cause error) {
	d.mu.Lock()
	if d.cause != nil {
		d.mu.Unlock()
		return
	}
	d.cause = cause
	conn, cancel := d.conn, d.cancel
	d.mu.Unlock()
	if cancel != nil {
		cancel(cause)
	}
	if conn != nil {
		_ = conn.Close()
	}
}

// watch ends the command with its request.
func (d *ending) watch() {
	d.unwatch = context.AfterFunc(d.ctx, func() { d.end(context.Cause(d.ctx)) })
}

// endedBy returns why the command has ended, nil while it goes on.
func (d *ending) endedBy() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.cause != nil {
		return d.cause
	}
	return context.Cause(d.ctx)
}

// hold has the end of the command close a connection. Where it has ended already, it says why and leaves the connection alone.
func (d *ending) hold(conn net.Conn) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.cause != nil {
		return d.cause
	}
	d.conn = conn
	return context.Cause(d.ctx)
}

// release takes back hold. False means that the end has closed the connection, or will.
func (d *ending) release() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.conn = nil
	return d.cause == nil
}

// context returns a context that ends with the command, for what takes nothing else.
func (d *ending) context() context.Context {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.derived == nil {
		d.derived, d.cancel = context.WithCancelCause(d.ctx)
		if d.cause != nil {
			d.cancel(d.cause)
		}
	}
	return d.derived
}

func (d *ending) leave() {
	if d.unwatch != nil {
		d.unwatch()
	}
	d.mu.Lock()
	cancel := d.cancel
	d.mu.Unlock()
	if cancel != nil {
		cancel(nil)
	}
}

// deadline ends a command that takes too long. It is set back while a request body is still on its way.
type deadline struct {
	limit time.Duration
	mu    sync.Mutex
	alarm *alarm // nil before it is started, and once it was stopped
}

// alarm is a timer that is used again for another command: only one that was stopped before it went off.
type alarm struct {
	timer *time.Timer
	of    *ending
}

var alarms sync.Pool

func (d *deadline) start(limit time.Duration, of *ending) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.limit = limit
	if a, _ := alarms.Get().(*alarm); a != nil {
		a.of = of
		a.timer.Reset(limit)
		d.alarm = a
		return
	}
	a := &alarm{of: of}
	a.timer = time.AfterFunc(limit, func() { a.of.end(errTimeout) })
	d.alarm = a
}

func (d *deadline) stop() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if a := d.alarm; a != nil && a.timer.Stop() {
		a.of = nil
		alarms.Put(a)
	}
	d.alarm = nil
}

// more sets the timer back unless it was stopped or has gone off.
func (d *deadline) more() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.alarm != nil && d.alarm.timer.Stop() {
		d.alarm.timer.Reset(d.limit)
	}
}

// smallBuffers hold a request being written and small bodies on their way in either direction. What was in them is cleared: it is mail, and credentials. Who waits
// for an answer has none.
var smallBuffers = sync.Pool{New: func() any { b := make([]byte, 0, 2<<10); return &b }}

// buffer returns a buffer of n bytes, which may be any.
func buffer(n int) *[]byte {
	b := smallBuffers.Get().(*[]byte)
	if cap(*b) < n {
		*b = make([]byte, n)
	}
	*b = (*b)[:n]
	return b
}

// discard gives a buffer back that nobody reads or writes any more.
func discard(b *[]byte) {
	if clear(*b); cap(*b) > 2*smallBody {
		return
	}
	*b = (*b)[:0]
	smallBuffers.Put(b)
}

// drop lets go of the body: a Ping is held for an hour.
func (c *command) drop() {
	if c.body != nil {
		discard(c.body)
		c.body = nil
	}
	c.sent.drop()
}

// readBody reads a small body, each part in the time that it has.
func (c *command) readBody(w http.ResponseWriter, r *http.Request) error {
	c.body = buffer(int(r.ContentLength))
	for b := *c.body; len(b) > 0; {
		n, err := r.Body.Read(b)
		b = b[n:]
		switch {
		case len(b) == 0 && errors.Is(err, io.EOF) && r.ProtoMajor == 1:
			// There is nothing left that net/http would have to look for.
			_ = r.Body.Close()
		case len(b) > 0 && err != nil:
			if errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return fmt.Errorf("%w: %w", errBody, err)
		case len(b) > 0:
			setReadDeadline(w, bodyTimeout)
		}
	}
	setReadDeadline(w, 0)
	return nil
}

// again returns the body once more, if all of it was read and kept. That of a small one is in the command.
func (c *command) again() (io.ReadCloser, bool) {
	if c.small {
		return http.NoBody, c.body != nil || c.out.ContentLength == 0
	}
	return c.sent.whole()
}

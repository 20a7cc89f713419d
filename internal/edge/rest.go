package edge

import (
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// A connection to the upstream rests after an answer for the next command of the same user on the same connection of the phone, and for nobody else: a phone
// that catches up sends a dozen commands in a row. No command may get lost on a connection that the server closes at that moment, so a connection is used
// again only before a server that was seen to leave one open for longer, and only if it is open and silent when it is used.
const (
	restLimit = 2 * time.Second
	proofTime = 5 * time.Second // for which a server has to leave a connection open to be trusted with restLimit
	doubtTime = time.Minute     // until a server that closed one is tried again
)

// line is a TCP connection to the upstream, under TLS or not, that can be looked at without waiting.
type line struct {
	*net.TCPConn
	raw   syscall.RawConn
	top   net.Conn              // what carries HTTP: the line itself, or TLS over it
	ready func(fd uintptr) bool // step

	looking bool // Read does not wait
	fd      uintptr
	none    [1]byte // where quiet reads to; what comes there is not used
	turn    *call   // that awaits an answer
	said    error   // by it

	// Under the lock of its place to rest.
	rest  *time.Timer
	until time.Time // when its rest ends
	armed bool      // the timer runs
}

func newLine(c *net.TCPConn) (*line, error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return nil, err
	}
	l := &line{TCPConn: c, raw: raw}
	l.top, l.ready = l, l.step
	return l, nil
}

// Read implements net.Conn.
func (l *line) Read(p []byte) (int, error) {
	if !l.looking {
		return l.TCPConn.Read(p)
	}
	for {
		n, err := syscall.Read(int(l.fd), p)
		switch {
		case errors.Is(err, syscall.EINTR):
		case errors.Is(err, syscall.EAGAIN):
			return 0, os.ErrDeadlineExceeded // which TLS can go on after
		case err != nil:
			return 0, os.NewSyscallError("read", err)
		case n == 0 && len(p) > 0:
			return 0, io.EOF
		default:
			return n, nil
		}
	}
}

// await has x look now and whenever something has come, until it says something else than os.ErrDeadlineExceeded. Reading does not wait within look, so that
// who waits for an hour needs no buffer for it. What comes after await has begun is noticed even if it comes between two looks.
func (l *line) await(x *call) error {
	l.turn = x
	err := l.raw.Read(l.ready)
	said := l.said
	l.turn, l.said = nil, nil
	if err != nil {
		return err
	}
	return said
}

func (l *line) step(fd uintptr) bool {
	l.looking, l.fd = true, fd
	l.said = l.turn.look(l)
	l.looking = false
	return !errors.Is(l.said, os.ErrDeadlineExceeded)
}

// silent reports whether the server has neither closed the connection nor sent what nobody asked for. Of TLS it takes in what is not data, such as tickets.
func (l *line) silent() bool {
	var quiet bool
	err := l.raw.Read(func(fd uintptr) bool {
		l.looking, l.fd = true, fd
		quiet = l.quiet()
		l.looking = false
		return true
	})
	return err == nil && quiet
}

// quiet is silent for who is looking already.
func (l *line) quiet() bool {
	_, err := l.top.Read(l.none[:])
	return errors.Is(err, os.ErrDeadlineExceeded)
}

// resting is the place for a connection to the upstream between two commands of a connection of a phone.
type resting struct {
	mu   sync.Mutex
	line *line
	to   destination
}

// destination is a server and the user of a command there.
type destination struct{ host, user string }

// put leaves a line for a while. One that is there already is closed.
func (p *resting) put(l *line, to destination) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.line != nil {
		_ = p.line.top.Close()
	}
	p.line, p.to = l, to
	l.until = time.Now().Add(restLimit)
	switch {
	case l.rest == nil:
		l.rest = time.AfterFunc(restLimit, func() { p.expire(l) })
	case !l.armed:
		l.rest.Reset(restLimit)
	}
	l.armed = true
}

// expire ends the rest of a line when its time has come. The timer runs on while the line is in use: that is cheaper than to stop it and to start it again
// for every command.
func (p *resting) expire(l *line) {
	p.mu.Lock()
	defer p.mu.Unlock()
	l.armed = false
	if p.line != l {
		return
	}
	if left := time.Until(l.until); left > 0 {
		l.rest.Reset(left)
		l.armed = true
		return
	}
	p.line = nil
	_ = l.top.Close()
}

// take returns the line that rests for this server and user, or nil. Whoever asks for another ends its rest.
func (p *resting) take(to destination) *line {
	p.mu.Lock()
	defer p.mu.Unlock()
	l := p.line
	if l == nil {
		return nil
	}
	p.line = nil
	if p.to != to {
		_ = l.top.Close()
		return nil
	}
	return l
}

// habit is what is known of a server: whether it leaves connections open between two commands.
type habit struct {
	mu    sync.Mutex
	keeps bool
	tried bool      // a connection is being left open to see
	again time.Time // not before then is it tried again

	http2 atomic.Bool // it has last spoken HTTP/2
}

// The plans for a connection after its command.
type plan int

const (
	planClose plan = iota
	planRest
	planProof
)

// plan says what is to become of a connection. Whoever gets planProof has to call prove or ended.
func (h *habit) plan() plan {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case h.keeps:
		return planRest
	case h.tried || time.Now().Before(h.again):
		return planClose
	}
	h.tried = true
	return planProof
}

// settle notes what the server did with a connection that rested.
func (h *habit) settle(kept bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.keeps, h.tried = kept, false
	if !kept {
		h.again = time.Now().Add(doubtTime)
	}
}

// ended notes that a connection was closed with its command; lost says that it had rested, and that nothing was answered.
func (h *habit) ended(p plan, lost bool) {
	switch {
	case lost:
		h.settle(false)
	case p == planProof:
		h.mu.Lock()
		h.tried = false
		h.mu.Unlock()
	}
}

// prove leaves a line open, without using it, to see what the server does.
func (h *habit) prove(l *line) {
	time.AfterFunc(proofTime, func() {
		h.settle(l.silent())
		_ = l.top.Close()
	})
}

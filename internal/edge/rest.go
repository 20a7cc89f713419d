package edge

import (
	"errors"
	"io"
	"net"
	"os"
	"sync"
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
	raw  syscall.RawConn
	top  net.Conn // what carries HTTP: the line itself, or TLS over it
	rest *time.Timer

	looking bool // Read does not wait
	fd      uintptr
}

func newLine(c *net.TCPConn) (*line, error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return nil, err
	}
	l := &line{TCPConn: c, raw: raw}
	l.top = l
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

// await calls try now and whenever something has come, until it says something else than os.ErrDeadlineExceeded. Reading does not wait within try, so that
// who waits for an hour needs no buffer for it.
func (l *line) await(try func() error) error {
	var said error
	err := l.raw.Read(func(fd uintptr) bool {
		l.looking, l.fd = true, fd
		said = try()
		l.looking = false
		return !errors.Is(said, os.ErrDeadlineExceeded)
	})
	if err != nil {
		return err
	}
	return said
}

// silent reports whether the server has neither closed the connection nor sent what nobody asked for. Of TLS it takes in what is not data, such as tickets.
func (l *line) silent() bool {
	var quiet bool
	err := l.raw.Read(func(fd uintptr) bool {
		var b [1]byte
		l.looking, l.fd = true, fd
		_, err := l.top.Read(b[:])
		l.looking = false
		quiet = errors.Is(err, os.ErrDeadlineExceeded)
		return true
	})
	return err == nil && quiet
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
	if l.rest != nil {
		l.rest.Reset(restLimit)
		return
	}
	l.rest = time.AfterFunc(restLimit, func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		if p.line == l {
			p.line = nil
			_ = l.top.Close()
		}
	})
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
	l.rest.Stop()
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

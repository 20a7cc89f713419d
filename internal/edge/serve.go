package edge

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"syscall"
	"time"
)

// Run serves phones on a TCP listener until ctx ends, then stops accepting, ends long polls spread over the drain time, lets short commands finish, and
// returns nil. It closes the listener. An Edge runs once.
func (e *Edge) Run(ctx context.Context, ln net.Listener) error {
	defer e.unwatch()
	defer e.upstream.close()
	work, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	var background sync.WaitGroup
	background.Go(func() { e.watch(work) })
	background.Go(func() { e.observer.run(work) })
	defer background.Wait()
	defer stop()

	g := newGate(ln, e.TLSConfig(), &e.proxies)
	plain, multiplexed := e.server(), e.server()
	failed := make(chan error, 3)
	go func() { failed <- plain.Serve(g.http1) }()
	go func() { failed <- multiplexed.Serve(g.http2) }()
	go func() { failed <- g.accept(work, e.cfg.Log) }()

	var err error
	select {
	case <-ctx.Done():
	case err = <-failed:
	}
	g.close()
	e.shutdown(plain, multiplexed)
	if ctx.Err() != nil && (errors.Is(err, net.ErrClosed) || errors.Is(err, http.ErrServerClosed)) {
		err = nil
	}
	return err
}

// shutdown lets go of the phones in the time that Config.Drain gives.
func (e *Edge) shutdown(servers ...*http.Server) {
	ctx, cancel := context.WithTimeout(context.Background(), e.cfg.Drain)
	defer cancel()
	var done sync.WaitGroup
	done.Go(func() { e.drain(e.cfg.Drain * 4 / 5) })
	for _, s := range servers {
		done.Go(func() {
			if s.Shutdown(ctx) != nil {
				// Whatever has not ended by now is cut off: that is what the deadline is for.
				_ = s.Close()
			}
		})
	}
	done.Wait()
}

// server returns an HTTP server for one of the two protocols. It has no write timeout: a Ping is held for an hour.
func (e *Edge) server() *http.Server {
	return &http.Server{
		Handler:                      e.Handler(),
		ReadHeaderTimeout:            readHeaderTimeout,
		IdleTimeout:                  idleTimeout,
		MaxHeaderBytes:               maxHeader,
		DisableGeneralOptionsHandler: true,
		ErrorLog:                     slog.NewLogLogger(e.cfg.Log.Handler(), slog.LevelDebug),
		HTTP2:                        &http.HTTP2Config{SendPingTimeout: time.Minute, PingTimeout: 30 * time.Second},
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			if t, ok := c.(interface{ ConnectionState() tls.ConnectionState }); ok {
				return withConnection(ctx, t.ConnectionState())
			}
			return ctx
		},
	}
}

// gate does the TLS handshakes, and hands each connection to the server of the protocol that was agreed on. HTTP/1.1 goes through guarded.
type gate struct {
	ln           net.Listener
	config       *tls.Config
	proxies      *proxies
	http1, http2 *queue
	mu           sync.Mutex
	shaking      map[net.Conn]bool
	closed       bool
}

func newGate(ln net.Listener, config *tls.Config, p *proxies) *gate {
	return &gate{ln: ln, config: config, proxies: p, http1: newQueue(ln.Addr()), http2: newQueue(ln.Addr()), shaking: map[net.Conn]bool{}}
}

// accept takes connections until the listener is closed.
func (g *gate) accept(ctx context.Context, log *slog.Logger) error {
	pause := 5 * time.Millisecond
	room := make(chan struct{}, maxConnections())
	for {
		c, err := g.ln.Accept()
		if errors.Is(err, net.ErrClosed) {
			return err
		}
		if err != nil {
			// Out of descriptors, for example: that passes.
			log.ErrorContext(ctx, "edge: cannot accept", "error", err)
			time.Sleep(pause)
			pause = min(2*pause, time.Second)
			continue
		}
		pause = 5 * time.Millisecond
		select {
		case room <- struct{}{}:
			go g.handshake(ctx, &counted{Conn: c, leave: sync.OnceFunc(func() { <-room })}, log)
		default:
			// The rest of the descriptors is for the connections to Exchange and for the other listeners.
			log.WarnContext(ctx, "edge: connection refused, too many are open", "limit", cap(room))
			_ = c.Close()
		}
	}
}

func (g *gate) handshake(ctx context.Context, raw *counted, log *slog.Logger) {
	if !g.track(raw, true) {
		_ = raw.Close()
		return
	}
	defer g.track(raw, false)
	if err := g.proxies.greet(raw); err != nil {
		log.DebugContext(ctx, "edge: connection of a load balancer refused", "remote", raw.RemoteAddr().String(), "error", err)
		_ = raw.Close()
		return
	}
	c := tls.Server(raw, g.config)
	ctx, cancel := context.WithTimeout(ctx, handshakeTimeout)
	defer cancel()
	if err := c.HandshakeContext(ctx); err != nil {
		log.DebugContext(ctx, "edge: TLS handshake failed", "remote", raw.RemoteAddr().String(), "error", err)
		_ = raw.Close()
		return
	}
	if c.ConnectionState().NegotiatedProtocol == "h2" {
		g.http2.put(c)
		return
	}
	g.http1.put(&guarded{Conn: c})
}

// track remembers who is shaking hands; false once the gate is closed.
func (g *gate) track(c net.Conn, begins bool) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !begins {
		delete(g.shaking, c)
		return true
	}
	if !g.closed {
		g.shaking[c] = true
	}
	return !g.closed
}

// close stops accepting and drops who has not finished the handshake.
func (g *gate) close() {
	_ = g.ln.Close() // it may be closed already
	g.mu.Lock()
	defer g.mu.Unlock()
	g.closed = true
	for c := range g.shaking {
		_ = c.Close()
	}
}

// counted is a connection that gives its place back when it is closed.
type counted struct {
	net.Conn
	leave func()
	from  net.Addr // the phone's address as a load balancer says; nil without one
}

// RemoteAddr implements net.Conn.
func (c *counted) RemoteAddr() net.Addr {
	if c.from != nil {
		return c.from
	}
	return c.Conn.RemoteAddr()
}

// Close implements net.Conn.
func (c *counted) Close() error {
	defer c.leave()
	return c.Conn.Close()
}

// maxConnections is how many phones may be connected: each may need a second descriptor for its connection to Exchange, and an eighth of all is left for the
// rest of the process.
func maxConnections() int {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return 8192
	}
	return int(min(limit.Cur, 1<<22)) * 7 / 16
}

// queue is a listener that is fed by a gate.
type queue struct {
	addr  net.Addr
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once
}

func newQueue(addr net.Addr) *queue {
	return &queue{addr: addr, conns: make(chan net.Conn), done: make(chan struct{})}
}

func (q *queue) put(c net.Conn) {
	select {
	case q.conns <- c:
	case <-q.done:
		_ = c.Close()
	}
}

// Accept implements net.Listener.
func (q *queue) Accept() (net.Conn, error) {
	select {
	case c := <-q.conns:
		return c, nil
	case <-q.done:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener.
func (q *queue) Close() error {
	q.once.Do(func() { close(q.done) })
	return nil
}

// Addr implements net.Listener.
func (q *queue) Addr() net.Addr { return q.addr }

package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"time"

	"postern/internal/api"
)

// part is something that lives until its context ends.
type part struct {
	name string
	run  func(context.Context) error
}

// drain is how long the plain HTTP listeners finish what they have begun.
const drain = 10 * time.Second

// Run runs every part until ctx ends or one of them fails; then the doors close first, and what they stand on after them. It returns nil after an orderly end.
func (s *Server) Run(ctx context.Context) error {
	below, stopBelow := context.WithCancel(context.WithoutCancel(ctx))
	defer stopBelow()
	doors, stopDoors := context.WithCancel(ctx)
	defer stopDoors()
	failed := make(chan error, len(s.doors)+len(s.followers))
	start := func(ctx context.Context, wg *sync.WaitGroup, p part) {
		wg.Go(func() {
			if err := p.run(ctx); err != nil {
				failed <- fmt.Errorf("%s: %w", p.name, err)
				stopDoors()
			}
		})
	}
	var followers, open sync.WaitGroup
	for _, p := range s.followers {
		start(below, &followers, p)
	}
	for _, p := range s.doors {
		start(doors, &open, p)
	}
	s.opts.Log.InfoContext(ctx, "ready", "public", s.addresses.Public, "edge", s.addresses.Edge, "admin", s.addresses.Admin, "socket", s.addresses.Socket)
	if s.opts.Ready != nil {
		s.opts.Ready(s.addresses)
	}
	<-doors.Done()
	s.opts.Log.InfoContext(ctx, "draining")
	open.Wait()
	stopBelow()
	followers.Wait()
	close(failed)
	var errs []error
	for err := range failed {
		errs = append(errs, err)
	}
	return errors.Join(append(errs, s.close())...)
}

// serveHTTP runs a server on a listener until the context ends, and then lets it finish what it has begun.
func serveHTTP(srv *http.Server, ln net.Listener) func(context.Context) error {
	return func(ctx context.Context) error {
		stopped := make(chan struct{})
		defer close(stopped)
		shut := make(chan error, 1)
		go func() {
			select {
			case <-ctx.Done():
				end, cancel := context.WithTimeout(context.WithoutCancel(ctx), drain)
				defer cancel()
				shut <- srv.Shutdown(end)
			case <-stopped:
				shut <- nil
			}
		}()
		if err := srv.Serve(ln); !errors.Is(err, http.ErrServerClosed) {
			return err
		}
		if err := <-shut; errors.Is(err, context.DeadlineExceeded) {
			return srv.Close()
		} else if err != nil {
			return err
		}
		return nil
	}
}

// maxPublicHeader has room for a SCEP message in the URL of a GET.
const maxPublicHeader = 160 << 10

func publicServer(h http.Handler, log *slog.Logger) *http.Server {
	return &http.Server{Handler: h,
		ReadHeaderTimeout: 10 * time.Second, ReadTimeout: 30 * time.Second, WriteTimeout: 2 * time.Minute, IdleTimeout: 2 * time.Minute,
		MaxHeaderBytes: maxPublicHeader, ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
}

func adminServer(h http.Handler, log *slog.Logger) *http.Server {
	return &http.Server{Handler: h, ReadHeaderTimeout: 10 * time.Second, ReadTimeout: 30 * time.Second, WriteTimeout: 90 * time.Second,
		IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 32 << 10, ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug)}
}

// listenSocket opens the admin socket. A socket file that is left over belongs to nobody: this process holds the data directory.
func (s *Server) listenSocket() (net.Listener, error) {
	path := filepath.Join(s.opts.Config.Data, api.Socket)
	if len(path) > 100 {
		return nil, fmt.Errorf("the path of the admin socket %s is longer than the 100 bytes that systems allow: use a shorter `data`", path)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("remove old admin socket: %w", err)
	}
	ln, err := net.Listen("unix", path)
	if err != nil {
		return nil, fmt.Errorf("open admin socket: %w", err)
	}
	s.opened(func() error { return ignoreClosed(ln.Close()) })
	// The directory is closed to others already; this is for one that its operator has opened.
	if err := os.Chmod(path, 0o600); err != nil {
		return nil, fmt.Errorf("protect admin socket: %w", err)
	}
	s.addresses.Socket = path
	return ln, nil
}

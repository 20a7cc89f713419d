package test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"postern/internal/api"
)

// patience is how long anything may take that has no promised time, on a machine that is busy with other tests.
const patience = 30 * time.Second

// build makes the binary, once, in a directory that TestMain removes; or takes the one that POSTERN_BINARY names.
var build = sync.OnceValues(func() (string, error) {
	if named := os.Getenv("POSTERN_BINARY"); named != "" {
		return filepath.Abs(named)
	}
	path := filepath.Join(os.Getenv("GOTMPDIR"), "bin", "postern")
	cmd := exec.Command("go", "build", "-tags", tags, "-o", path, "./cmd/postern")
	cmd.Dir, cmd.Env = "..", append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build postern: %w\n%s", err, out)
	}
	return path, nil
})

// TestMain gives the tests a directory with a short name: an admin socket may have a path of a hundred bytes.
func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("/tmp", "p")
	if err == nil {
		err = os.Setenv("GOTMPDIR", dir)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	return m.Run()
}

// lastPort is below the range from which the system takes ports for itself.
var lastPort atomic.Uint32

// freeAddress returns a loopback address on which nobody listens, a different one each time.
func freeAddress() string {
	lastPort.CompareAndSwap(0, uint32(15000+os.Getpid()%8*2000))
	for {
		addr := fmt.Sprintf("127.0.0.1:%d", lastPort.Add(1))
		if ln, err := net.Listen("tcp", addr); err == nil {
			_ = ln.Close()
			return addr
		}
	}
}

// site is one installation of Postern in a directory, with its own ports, and the process that serves it.
type site struct {
	dir                 string
	public, edge, admin string // addresses to listen on
	process             *exec.Cmd
	ended               chan error
}

// siteOptions change what `postern init` writes.
type siteOptions struct{ policy, upstream string }

// newSite runs `postern init` for contoso.com in a directory and gives the configuration ports of its own.
func newSite(dir string, o siteOptions) (*site, error) {
	s := &site{dir: dir, public: freeAddress(), edge: freeAddress(), admin: freeAddress()}
	if out, err := s.postern("init", ".", "--issuer", "contoso", "--domain", "contoso.com"); err != nil {
		return nil, fmt.Errorf("postern init: %w\n%s", err, out)
	}
	changes := [][2]string{{"127.0.0.1:8080", s.public}, {"127.0.0.1:8443", s.edge}, {"127.0.0.1:9000", s.admin}}
	if o.upstream != "" {
		changes = append(changes, [2]string{"https://outlook.office365.com", o.upstream})
	}
	if o.policy != "" {
		changes = append(changes, [2]string{`path: ""`, "path: " + o.policy})
	}
	path := filepath.Join(dir, "postern.yaml")
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	for _, c := range changes {
		if !bytes.Contains(text, []byte(c[0])) {
			return nil, fmt.Errorf("postern.yaml has no %q", c[0])
		}
		text = bytes.ReplaceAll(text, []byte(c[0]), []byte(c[1]))
	}
	return s, os.WriteFile(path, text, 0o600)
}

// command makes a command of the binary that runs in the site's directory.
func (s *site) command(ctx context.Context, args ...string) (*exec.Cmd, error) {
	path, err := build()
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Dir = s.dir
	return cmd, nil
}

// postern runs the binary to its end and returns what it said on both streams.
func (s *site) postern(args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	cmd, err := s.command(ctx, args...)
	if err != nil {
		return "", err
	}
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// logPath is where the server's log goes, over all its lives.
func (s *site) logPath() string { return filepath.Join(s.dir, "serve.log") }

// start runs `postern serve` and returns when it is ready.
func (s *site) start() error {
	log, err := os.OpenFile(s.logPath(), os.O_CREATE|os.O_APPEND|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	info, err := log.Stat()
	if err != nil {
		return err
	}
	cmd, err := s.command(context.Background(), "serve")
	if err != nil {
		return err
	}
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		return err
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	for end := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
		text, err := os.ReadFile(s.logPath())
		if err != nil {
			return err
		}
		text = text[info.Size():]
		if bytes.Contains(text, []byte("msg=ready")) {
			s.process, s.ended = cmd, ended
			return nil
		}
		select {
		case err := <-ended:
			return fmt.Errorf("postern serve ended before it was ready: %w\n%s", err, text)
		default:
		}
		if time.Now().After(end) {
			_ = cmd.Process.Kill()
			return fmt.Errorf("postern serve is not ready after %s\n%s", patience, text)
		}
	}
}

// end sends a signal and returns how the process ended.
func (s *site) end(sig syscall.Signal) error {
	if s.process == nil {
		return errors.New("nothing is running")
	}
	p, ended := s.process, s.ended
	s.process = nil
	if err := p.Process.Signal(sig); err != nil {
		return errors.Join(err, <-ended)
	}
	select {
	case err := <-ended:
		return err
	case <-time.After(patience):
		return errors.Join(fmt.Errorf("postern serve has not ended %s after %s", patience, sig), p.Process.Kill())
	}
}

// stop is SIGTERM: the server must drain and exit with 0.
func (s *site) stop() error { return s.end(syscall.SIGTERM) }

// crash is SIGKILL.
func (s *site) crash() { _ = s.end(syscall.SIGKILL) }

// tidy ends what is still running, and after a failure shows the end of the server's log.
func (s *site) tidy(t testing.TB) {
	if s.process != nil {
		s.crash()
	}
	if !t.Failed() {
		return
	}
	if text, err := os.ReadFile(s.logPath()); err == nil {
		lines := strings.Split(strings.TrimSpace(string(text)), "\n")
		t.Logf("the end of the server's log:\n%s", strings.Join(lines[max(0, len(lines)-15):], "\n"))
	}
}

// client talks to the site's admin socket.
func (s *site) client() *api.Client { return api.Local(filepath.Join(s.dir, "var")) }

// openSite makes and starts a site for a test in Go.
func openSite(t *testing.T, o siteOptions) *site {
	t.Helper()
	dir, err := os.MkdirTemp(os.Getenv("GOTMPDIR"), "s")
	if err != nil {
		t.Fatal(err)
	}
	s, err := newSite(dir, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.tidy(t) })
	if err := s.start(); err != nil {
		t.Fatal(err)
	}
	return s
}

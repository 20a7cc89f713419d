package scep

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strconv"
	"syscall"
	"time"
)

// patience is how long a server may take to start or to end, on a machine that is busy with other tests.
const patience = time.Minute

// process is a server that this package has started.
type process struct {
	cmd   *exec.Cmd
	log   string // path
	ended chan error
}

// start runs a command with its output in a file, and waits until ready says so.
func start(cmd *exec.Cmd, log string, ready func(output []byte) bool) (*process, error) {
	f, err := os.Create(log)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	cmd.Stdout, cmd.Stderr = f, f
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	p := &process{cmd: cmd, log: log, ended: make(chan error, 1)}
	go func() { p.ended <- cmd.Wait() }()
	for end := time.Now().Add(patience); ; time.Sleep(2 * time.Millisecond) {
		output, err := os.ReadFile(log)
		if err != nil {
			return nil, err
		}
		if ready(output) {
			return p, nil
		}
		select {
		case err := <-p.ended:
			return nil, fmt.Errorf("%s ended before it was ready: %w\n%s", cmd.Path, err, output)
		default:
		}
		if time.Now().After(end) {
			_ = cmd.Process.Kill()
			return nil, fmt.Errorf("%s is not ready after %s\n%s", cmd.Path, patience, output)
		}
	}
}

// stop ends the process with SIGTERM.
func (p *process) stop() error {
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	select {
	case <-p.ended: // step-ca exits with an error when it is told to
		return nil
	case <-time.After(patience):
		return fmt.Errorf("%s has not ended %s after SIGTERM: %w", p.cmd.Path, patience, p.cmd.Process.Kill())
	}
}

// tail returns the last lines of what the server said.
func (p *process) tail() string {
	text, err := os.ReadFile(p.log)
	if err != nil {
		return err.Error()
	}
	lines := bytes.Split(bytes.TrimSpace(text), []byte("\n"))
	return string(bytes.Join(lines[max(0, len(lines)-20):], []byte("\n")))
}

// cpu is the processor time that the process has used, in steps of 10 ms; 0 on systems without /proc.
func (p *process) cpu() time.Duration {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.cmd.Process.Pid))
	if err != nil {
		return 0
	}
	// Behind the name in parentheses; user and system time are the 14th and 15th field of all (proc(5)), in hundredths of a second.
	fields := bytes.Fields(text[bytes.LastIndexByte(text, ')')+1:])
	if len(fields) < 13 {
		return 0
	}
	var ticks int64
	for _, f := range fields[11:13] {
		n, err := strconv.ParseInt(string(f), 10, 64)
		if err != nil {
			return 0
		}
		ticks += n
	}
	return time.Duration(ticks) * 10 * time.Millisecond
}

// freeAddress returns a loopback address on which nobody listened a moment ago.
func freeAddress() (string, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer ln.Close()
	return ln.Addr().String(), nil
}

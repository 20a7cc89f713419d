package test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"testing"
	"time"

	"postern/internal/peertest"
)

// browser is a headless Chromium with one page, driven over a pipe by the Chrome DevTools Protocol.
type browser struct {
	t       *testing.T
	to      *os.File
	from    *bufio.Reader
	last    int
	session string
}

func openBrowser(t *testing.T) *browser {
	t.Helper()
	path := peertest.Find(t, "chromium")
	in, to, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	from, out, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), path, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run", "--disable-background-networking",
		"--ignore-certificate-errors", "--remote-debugging-pipe", "--user-data-dir="+t.TempDir(), "about:blank")
	cmd.ExtraFiles = []*os.File{in, out} // 3 and 4: the protocol's ends of the pipes
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	_, _ = in.Close(), out.Close()
	b := &browser{t: t, to: to, from: bufio.NewReader(from)}
	t.Cleanup(func() {
		_ = to.Close()
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		_ = from.Close()
	})
	var target struct{ TargetID string }
	b.call("Target.createTarget", map[string]any{"url": "about:blank"}, &target)
	var attached struct{ SessionID string }
	b.call("Target.attachToTarget", map[string]any{"targetId": target.TargetID, "flatten": true}, &attached)
	b.session = attached.SessionID
	return b
}

// call sends a command and waits for its answer; events are passed over.
func (b *browser) call(method string, params map[string]any, out any) {
	b.t.Helper()
	b.last++
	message := map[string]any{"id": b.last, "method": method, "params": params}
	if b.session != "" {
		message["sessionId"] = b.session
	}
	raw, err := json.Marshal(message)
	if err != nil {
		b.t.Fatal(err)
	}
	if _, err := b.to.Write(append(raw, 0)); err != nil {
		b.t.Fatalf("%s: %v", method, err)
	}
	for {
		raw, err := b.from.ReadBytes(0)
		if err != nil {
			b.t.Fatalf("%s: the browser has gone: %v", method, err)
		}
		var answer struct {
			ID     int
			Result json.RawMessage
			Error  *struct{ Message string }
		}
		if err := json.Unmarshal(raw[:len(raw)-1], &answer); err != nil {
			b.t.Fatal(err)
		}
		switch {
		case answer.ID != b.last:
		case answer.Error != nil:
			b.t.Fatalf("%s: %s", method, answer.Error.Message)
		case out == nil:
			return
		default:
			if err := json.Unmarshal(answer.Result, out); err != nil {
				b.t.Fatal(err)
			}
			return
		}
	}
}

// open goes to an address.
func (b *browser) open(url string) { b.call("Page.navigate", map[string]any{"url": url}, nil) }

// eval runs a script in the page and returns what it makes, as text.
func (b *browser) eval(script string) string {
	var out struct{ Result struct{ Value any } }
	b.call("Runtime.evaluate", map[string]any{"expression": script}, &out)
	return fmt.Sprint(out.Result.Value)
}

// fill waits for a page with the element, and submits its form after the script has filled it in.
func (b *browser) fill(selector, script string) {
	b.t.Helper()
	for end := time.Now().Add(patience); b.eval(`document.readyState === "complete" && document.querySelector(`+selector+`) !== null`) != "true"; time.Sleep(50 * time.Millisecond) {
		if time.Now().After(end) {
			b.t.Fatalf("no %s on %s: %s", selector, b.eval("location.href"), b.eval("document.body.innerText"))
		}
	}
	b.eval(script + `; document.querySelector("form").submit()`)
}

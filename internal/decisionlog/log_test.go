package decisionlog

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"postern/internal/policy"
	"postern/internal/trust"
)

// collector is a decision log service.
type collector struct {
	*httptest.Server
	mu     sync.Mutex
	events []map[string]any
	raw    []byte
	auth   []string
	status atomic.Int64 // what it answers; 0: 200
	hang   atomic.Bool
	asked  atomic.Int64
}

func collect(t *testing.T) *collector {
	t.Helper()
	c := &collector{}
	c.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c.asked.Add(1)
		if c.hang.Load() {
			_, _ = io.Copy(io.Discard, r.Body) // only then does the server see that the client has gone
			<-r.Context().Done()
			return
		}
		if s := c.status.Load(); s != 0 {
			w.WriteHeader(int(s))
			return
		}
		if r.Method != http.MethodPost || r.URL.Path != "/logs" || r.Header.Get("Content-Encoding") != "gzip" || r.Header.Get("Content-Type") != "application/json" {
			t.Errorf("%s %s %v", r.Method, r.URL, r.Header)
		}
		z, err := gzip.NewReader(r.Body)
		if err != nil {
			t.Error(err)
			return
		}
		raw, err := io.ReadAll(z)
		var batch []map[string]any
		if err := json.Unmarshal(raw, &batch); err != nil {
			t.Errorf("%v in %s", err, raw)
		}
		if err != nil {
			t.Error(err)
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		c.events, c.raw, c.auth = append(c.events, batch...), append(c.raw, raw...), append(c.auth, r.Header.Get("Authorization"))
	}))
	t.Cleanup(c.Close)
	return c
}

func (c *collector) got() []map[string]any {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.events)
}

func (c *collector) config(t *testing.T) Config {
	t.Helper()
	u, err := url.Parse(c.URL + "/logs")
	if err != nil {
		t.Fatal(err)
	}
	return Config{URL: u, Every: 20 * time.Millisecond, Token: func() (string, error) { return "secret", nil }, Now: time.Now, Log: slog.New(slog.DiscardHandler)}
}

// opened runs a log until the test ends, or until what it returns is called.
func opened(t *testing.T, cfg Config) (l *Log, stop func()) {
	t.Helper()
	l, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := l.Run(ctx); err != nil {
			t.Error(err)
		}
	}()
	stop = func() { cancel(); <-done }
	t.Cleanup(stop)
	return l, stop
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%s: still not so", what)
		}
	}
}

// alice is an input full of facts about a person; every one of them holds the word secretperson or the address 192.0.2.77.
func alice() policy.AccessInput {
	name := "secretperson@contoso.com"
	return policy.AccessInput{Now: 1780315200, Request: policy.RequestFacts{Class: "command", Command: "sync", SourceIP: "192.0.2.77"},
		Claimed:    policy.ClaimedFacts{DeviceID: "phone1"},
		Credential: policy.CredentialFacts{Kind: "basic", User: name, Names: map[string]bool{name: true}, OID: "secretperson-oid"},
		Device:     policy.DeviceFacts{ID: "dev-1", Labels: map[string]string{}},
		Owner: policy.OwnerFacts{Known: true, Mail: name, Names: map[string]bool{name: true, `contoso\secretperson`: true}, OID: "secretperson-oid",
			Delegations: map[string]bool{"secretperson-shared@contoso.com": true}},
		Exceptions: []policy.ExceptionFacts{{ID: "EX-1", GrantedBy: "token:secretperson", Reasons: []string{"device_silent"}}}}
}

func refusal(t *testing.T, n int) trust.Decision {
	t.Helper()
	in := alice()
	raw, err := json.Marshal(in)
	if err != nil {
		t.Fatal(err)
	}
	return trust.Decision{Reference: fmt.Sprint("R", n), At: time.Unix(in.Now, 5000), Door: "edge", Action: trust.Deny, Policy: "0123456789abcdef", User: in.Owner.Mail, Device: "dev-1",
		Serial: "0a", Command: "sync", Remote: "192.0.2.77", Input: raw, Reasons: []trust.Reason{{Code: "owner_mismatch", Rule: "postern.access",
			Text: "secretperson@contoso.com is not the owner.", Facts: map[string]string{"owner": "secretperson@contoso.com"}}}}
}

// An event has the shape that OPA's has, and nothing about a person in it, however it is sent.
func TestEventsAreMasked(t *testing.T) {
	c := collect(t)
	cfg := c.config(t)
	cfg.File, cfg.Labels = filepath.Join(t.TempDir(), "decisions.log"), Labels("v1", map[string]string{"region": "eu"})
	l, stop := opened(t, cfg)
	in := alice()
	l.Record(refusal(t, 1))
	l.Record(trust.Decision{At: time.Unix(in.Now, 0), Door: "edge", Action: trust.Allow, Serial: "0a", Input: in.Record(), Remote: "192.0.2.77", User: in.Owner.Mail})
	l.Record(trust.Decision{At: time.Unix(in.Now, 0), Door: "edge", Action: trust.Allow})                                               // remembered: not told
	l.Record(trust.Decision{At: time.Unix(in.Now, 0), Door: "edge", Action: trust.Allow, Reasons: []trust.Reason{{Code: "exception"}}}) // nor with a note
	l.Record(trust.Decision{Reference: "F1", At: time.Unix(in.Now, 0), Door: "edge", Action: trust.Fault, Serial: "0a", Reasons: []trust.Reason{{Code: "policy_fault", Text: "panic about secretperson"}}})
	enrol, err := json.Marshal(policy.EnrollInput{SourceIP: "192.0.2.77", Owner: in.Owner, Requested: policy.RequestedFacts{Mails: []string{"secretperson@contoso.com"}}})
	if err != nil {
		t.Fatal(err)
	}
	l.Record(trust.Decision{Reference: "E1", At: time.Unix(in.Now, 0), Door: "scep", Action: trust.Pend, Reasons: []trust.Reason{{Code: "approval_required"}}, Input: enrol})
	eventually(t, "four events", func() bool { return len(c.got()) == 4 })
	stop()
	lines, err := os.ReadFile(cfg.File)
	if err != nil {
		t.Fatal(err)
	}
	for name, raw := range map[string][]byte{"file": lines, "service": c.raw} {
		for _, secret := range []string{"secretperson", "192.0.2.77"} {
			if bytes.Contains(raw, []byte(secret)) {
				t.Errorf("%s is in the bytes of the %s: %s", secret, name, raw)
			}
		}
	}
	if n := bytes.Count(lines, []byte("\n")); n != 4 {
		t.Errorf("%d lines", n)
	}
	deny, allow, fault, pend := c.events[0], c.events[1], c.events[2], c.events[3]
	if deny["decision_id"] != "R1" || deny["path"] != "postern/access/decision" || deny["timestamp"] != "2026-06-01T12:00:00.000005Z" ||
		fmt.Sprint(deny["bundles"]) != "map[postern:map[revision:0123456789abcdef]]" || deny["labels"].(map[string]any)["region"] != "eu" ||
		fmt.Sprint(deny["result"]) != "map[action:deny reasons:[map[code:owner_mismatch rule:postern.access]] valid_until:0]" ||
		deny["input"].(map[string]any)["claimed"].(map[string]any)["device_id"] != "phone1" || deny["custom"].(map[string]any)["device"] != "dev-1" {
		t.Errorf("%v", deny)
	}
	if erased := fmt.Sprint(deny["erased"]); !strings.Contains(erased, "/input/owner/mail") || !strings.Contains(erased, "/result/reasons/0/facts") || !strings.Contains(erased, "/requested_by") ||
		!strings.Contains(erased, "/input/exceptions/0/granted_by") {
		t.Errorf("erased %s", erased)
	}
	if allow["decision_id"] == "" || allow["input"] == nil || fmt.Sprint(allow["result"]) != "map[action:allow reasons:[] valid_until:0]" {
		t.Errorf("%v", allow)
	}
	if fault["result"] != nil || fault["error"].(map[string]any)["code"] != "policy_fault" {
		t.Errorf("%v", fault)
	}
	if pend["path"] != "postern/enroll/decision" || c.auth[0] != "Bearer secret" {
		t.Errorf("%v, %q", pend, c.auth)
	}
	if s := l.Stats(); s.Written != 4 || s.Sent != 4 || s.Dropped != 0 || s.Waiting != 0 || s.Trouble != "" {
		t.Errorf("%+v", s)
	}
}

// A mask of one's own is instead of the default.
func TestOwnMask(t *testing.T) {
	c := collect(t)
	cfg := c.config(t)
	cfg.Mask, cfg.Allows = []string{"/input", "/result/reasons/0/code"}, All
	l, _ := opened(t, cfg)
	l.Record(refusal(t, 1))
	l.Record(trust.Decision{At: time.Unix(1, 0), Door: "edge", Action: trust.Allow, Device: "dev-2"})
	eventually(t, "two events", func() bool { return len(c.got()) == 2 })
	e := c.got()[0]
	if e["input"] != nil || e["requested_by"] != "192.0.2.77" || fmt.Sprint(e["erased"]) != "[/input /result/reasons/0/code]" {
		t.Errorf("%v", e)
	}
	for _, bad := range []string{"input", "/", "/labels/app", "/input//x", "/input/a~2b", "/requested_by/x"} {
		if CheckMask([]string{bad}) == nil {
			t.Errorf("mask %q is taken", bad)
		}
	}
}

// A service that is slow, fails or hangs delays nobody; what it missed it gets when it is back, as far as there is room.
func TestSlowAndDeadService(t *testing.T) {
	c := collect(t)
	c.hang.Store(true)
	l, _ := opened(t, c.config(t))
	begun := time.Now()
	for n := range 500 {
		l.Record(refusal(t, n))
	}
	if took := time.Since(begun); took > 5*time.Second {
		t.Errorf("500 decisions took %v", took)
	}
	eventually(t, "it is asked", func() bool { return c.asked.Load() > 0 })
	c.hang.Store(false)
	c.status.Store(http.StatusServiceUnavailable)
	c.CloseClientConnections()
	eventually(t, "trouble is told", func() bool { return l.Stats().Trouble != "" })
	if s := l.Stats(); s.Waiting == 0 || s.Sent != 0 {
		t.Errorf("%+v", s)
	}
	c.status.Store(0)
	eventually(t, "all is there", func() bool { s := l.Stats(); return s.Sent == 500 && s.Trouble == "" && s.Waiting == 0 })
	ids := map[any]bool{}
	for _, e := range c.got() {
		ids[e["decision_id"]] = true
	}
	if len(ids) != 500 {
		t.Errorf("%d of 500 arrived", len(ids))
	}
	// What is refused for what it is, is not sent again.
	c.status.Store(http.StatusRequestEntityTooLarge)
	l.Record(refusal(t, 501))
	eventually(t, "it is refused", func() bool { s := l.Stats(); return s.Refused == 1 && s.Waiting == 0 })
}

// What there is no room for is dropped and counted: in the queue, in a second, and before a service that is away.
func TestEverythingIsBounded(t *testing.T) {
	cfg := Config{File: filepath.Join(t.TempDir(), "x"), Limit: 10, Now: time.Now, Log: slog.New(slog.DiscardHandler)}
	still, err := Open(cfg) // it does not run
	if err != nil {
		t.Fatal(err)
	}
	big := refusal(t, 0)
	big.Input = append(bytes.Clone(big.Input), bytes.Repeat([]byte(" "), 60<<10)...)
	for range 2 * queueEvents {
		still.Record(big)
	}
	if s := still.Stats(); s.Dropped < queueEvents || len(still.known.waiting) > queueBytes/(60<<10) || still.known.bytes.Load() > queueBytes {
		t.Errorf("%+v, %d wait, %d bytes", s, len(still.known.waiting), still.known.bytes.Load())
	}
	l, stop := opened(t, cfg)
	for n := range 1000 {
		l.Record(refusal(t, n))
	}
	stop()
	if s := l.Stats(); s.Written+s.Dropped != 1000 || s.Written < 10 || s.Written > 60 {
		t.Errorf("%+v, want about ten a second", s)
	}
	u := newUploader(Config{Now: time.Now})
	event := bytes.Repeat([]byte("x"), 100<<10)
	for n := range 1000 {
		u.add(event, n%2 == 0)
	}
	var s Stats
	if u.stats(&s); u.bytes > waitingBytes || s.Waiting == 0 || s.Waiting+int(s.Dropped) != 1000 {
		t.Errorf("%d bytes, %+v", u.bytes, s)
	}
}

func TestFileIsRotated(t *testing.T) {
	path := filepath.Join(t.TempDir(), "decisions.log")
	if err := os.WriteFile(path, []byte(`{"cut": "off`), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := openFile(path, 1000, 2)
	if err != nil {
		t.Fatal(err)
	}
	for n := range 100 {
		if err := f.write([]byte(fmt.Sprintf(`{"n": %d, "pad": %q}`, n, strings.Repeat("x", 80)))); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.close(); err != nil {
		t.Fatal(err)
	}
	all, err := filepath.Glob(path + "*")
	if err != nil || len(all) != 3 {
		t.Fatalf("%v, %v", all, err)
	}
	next := 99
	for _, name := range []string{path, path + ".1", path + ".2"} {
		raw, err := os.ReadFile(name)
		if err != nil || len(raw) > 1000 {
			t.Errorf("%s has %d bytes, %v", name, len(raw), err)
		}
		var numbers []int
		for lines := bufio.NewScanner(bytes.NewReader(raw)); lines.Scan(); {
			var v struct{ N int }
			if err := json.Unmarshal(lines.Bytes(), &v); err != nil {
				t.Errorf("%s: %v", name, err)
			}
			numbers = append(numbers, v.N)
		}
		slices.Reverse(numbers)
		for _, n := range numbers {
			if n != next {
				t.Fatalf("%s: %d where %d was expected", name, n, next)
			}
			next--
		}
	}
}

// A disk that fails loses lines, not the log.
func TestFileThatCannotBeWritten(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "gone")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	l, stop := opened(t, Config{File: filepath.Join(dir, "x"), MaxSize: 1, Now: time.Now, Log: slog.New(slog.DiscardHandler)})
	l.Record(refusal(t, 1))
	eventually(t, "the first is written", func() bool { return l.Stats().Written == 1 })
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	l.Record(refusal(t, 2)) // is to be rotated, which fails
	eventually(t, "trouble is told", func() bool { return strings.Contains(l.Stats().Trouble, "cannot be written") })
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	eventually(t, "it is written again", func() bool { l.Record(refusal(t, 3)); return l.Stats().Written > 1 && l.Stats().Trouble == "" })
	stop()
}

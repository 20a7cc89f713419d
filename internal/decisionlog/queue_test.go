package decisionlog

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"postern/internal/trust"
)

// unknown is a refusal of somebody without a certificate of ours, under the DeviceId of a known device.
func unknown(t *testing.T, n int) trust.Decision {
	d := refusal(t, n)
	d.Reference, d.Serial = fmt.Sprint("S", n), ""
	return d
}

// The name of a field can be an address: where a * stands for it, only the * is told.
func TestErasedNamesNobody(t *testing.T) {
	l, err := Open(Config{File: filepath.Join(t.TempDir(), "x"), Now: time.Now, Log: slog.New(slog.DiscardHandler),
		Mask: []string{"/input/owner/names/*", "/input/*/delegations/*", "/input/credential/*", "/input/exceptions/*/granted_by"}})
	if err != nil {
		t.Fatal(err)
	}
	line, err := l.event(refusal(t, 1))
	if err != nil {
		t.Fatal(err)
	}
	_, erased, _ := strings.Cut(string(line), `"erased":`)
	if erased, _, _ = strings.Cut(erased, "]"); erased != `["/input/*/delegations/*","/input/credential/*","/input/exceptions/0/granted_by","/input/owner/names/*"` {
		t.Errorf("erased %s", erased)
	}
	for _, gone := range []string{`contoso\\secretperson`, "secretperson-shared", "secretperson-oid\",\"names"} {
		if bytes.Contains(line, []byte(gone)) {
			t.Errorf("%s is in %s", gone, line)
		}
	}
}

// However many decisions strangers have made, those about known certificates, and those of the door "scep", are told.
func TestStrangersDoNotPushOut(t *testing.T) {
	cfg := Config{File: filepath.Join(t.TempDir(), "x"), Limit: 40, Now: time.Now, Log: slog.New(slog.DiscardHandler)}
	l, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	for n := range 2 * queueEvents {
		l.Record(unknown(t, n))
	}
	for n := range 19 {
		l.Record(refusal(t, n))
	}
	enrolment := unknown(t, 0)
	enrolment.Reference, enrolment.Door, enrolment.Input = "R19", "scep", nil
	l.Record(enrolment)
	if waiting := len(l.strangers.waiting); waiting > queueEvents/2 || int(l.Stats().Dropped) != 2*queueEvents-waiting || l.strangers.bytes.Load() > queueBytes/2 {
		t.Errorf("%d wait, %+v", waiting, l.Stats())
	}
	// A second in which strangers came first has room for the others all the same.
	second := l.second()
	for range 40 {
		l.take(<-l.strangers.waiting, second)
	}
	for range 10 {
		l.take(<-l.known.waiting, second)
	}
	if *second != (room{10, 0}) {
		t.Errorf("left is %+v", *second)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := l.Run(ctx); err != nil {
		t.Fatal(err)
	}
	lines, err := os.ReadFile(cfg.File)
	if err != nil {
		t.Fatal(err)
	}
	known, strangers := bytes.Count(lines, []byte(`"decision_id":"R`)), bytes.Count(lines, []byte(`"decision_id":"S`))
	if known != 20 || strangers != 20+20 {
		t.Errorf("%d of 20 are told, and %d of strangers", known, strangers)
	}
	if s := l.Stats(); int(s.Written+s.Dropped) != 2*queueEvents+20 || l.known.bytes.Load() != 0 || l.strangers.bytes.Load() != 0 {
		t.Errorf("%+v", s)
	}
}

// While the service is away, strangers make room first.
func TestStrangersMakeRoom(t *testing.T) {
	u := newUploader(Config{Now: time.Now})
	for range 50 {
		u.add(bytes.Repeat([]byte("k"), 100<<10), false)
	}
	for range 1000 {
		u.add(bytes.Repeat([]byte("s"), 100<<10), true)
	}
	taken, ok := u.next()
	if !ok {
		t.Fatal("nothing waits")
	}
	for range 50 {
		u.add(bytes.Repeat([]byte("s"), 100<<10), true)
	}
	u.back(taken)
	known := 0
	for _, b := range u.batches {
		if known += bytes.Count(b.json, []byte("k")) / (100 << 10); b.strangers == bytes.Contains(b.json, []byte("k")) {
			t.Error("a batch is of both")
		}
	}
	if known != 50 || u.bytes > waitingBytes || u.bytes < waitingBytes-2*batchBytes {
		t.Errorf("%d of 50 wait, %d bytes", known, u.bytes)
	}
}

// A secret in the address is in no error, log or health.
func TestAddressIsNotTold(t *testing.T) {
	c := collect(t)
	c.Close()
	var log bytes.Buffer
	cfg := c.config(t)
	cfg.URL, cfg.Log = cfg.URL.JoinPath("in"), slog.New(slog.NewTextHandler(&log, nil))
	cfg.URL.RawQuery, cfg.URL.User, cfg.URL.Fragment = "key=swordfish", url.UserPassword("u", "swordfish"), "swordfish"
	l, stop := opened(t, cfg)
	l.Record(refusal(t, 1))
	eventually(t, "trouble is told", func() bool { return l.Stats().Trouble != "" })
	stop()
	for _, text := range []string{l.Stats().Trouble, log.String()} {
		if strings.Contains(text, "swordfish") || !strings.Contains(text, cfg.URL.Host+"/logs/in") || !strings.Contains(text, "refused") {
			t.Error(text)
		}
	}
	l.up.fail(&url.Error{Op: http.MethodPost, URL: cfg.URL.String(), Err: os.ErrDeadlineExceeded})
	if text := l.Stats().Trouble; strings.Contains(text, "swordfish") {
		t.Error(text)
	}
}

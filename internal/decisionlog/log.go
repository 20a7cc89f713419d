// Package decisionlog tells others what was decided, in the form of OPA's decision logs: as lines of JSON in a file, and as batches to an HTTP service.
//
// It is telemetry and never in the way: whoever records a decision neither waits nor fails. What does not fit is dropped, and counted. Facts about persons
// are erased before anything is written.
package decisionlog

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"sync"
	"sync/atomic"
	"time"

	"postern/internal/trust"
)

// Limits of what waits. Of strangers half as much may.
const (
	queueEvents = 8192
	queueBytes  = 32 << 20 // of facts
	flushEvery  = time.Second
	lastUpload  = 5 * time.Second // when the process ends
)

// Allows says which plain allows are told.
type Allows string

// All tells every request; New those for which the policy was asked anew, with their facts; None none of them. Of allows with reasons, New and None tell those for
// which the policy was asked anew.
const (
	All  Allows = "all"
	New  Allows = "new"
	None Allows = "none"
)

// Config says what to tell whom. At least one of File and URL is required; zero limits mean the defaults.
type Config struct {
	File    string // empty: none
	MaxSize int64  // of the file in bytes, before it is rotated; 100 MB
	Keep    int    // rotated files; 5

	URL    *url.URL               // of the service, whose path takes batches; nil: none
	Token  func() (string, error) // bearer token, asked for with each batch; nil: none
	Every  time.Duration          // the longest time that an event waits for its batch; 10 s
	Limit  int                    // events a second, beyond which they are dropped; strangers have half of it at most; 1000
	Allows Allows                 // empty: New
	Mask   []string               // paths to erase, as ParseMask takes them; nil: DefaultMask
	Labels map[string]string      // of every event
	Now    func() time.Time       // required
	Log    *slog.Logger           // required
}

// Stats counts, since the start.
type Stats struct {
	Written uint64    // events that are in the file
	Sent    uint64    // events that the service has taken
	Dropped uint64    // lost: no room, too many a second, or the disk failed
	Refused uint64    // events that the service does not want (HTTP 4xx)
	Waiting int       // events that wait for the service
	Trouble string    // why the service or the file does not take any; empty: all is well
	Since   time.Time // of the trouble
}

// Log tells decisions. Make it with Open, run it once with Run.
type Log struct {
	cfg       Config
	mask      mask
	known     *queue
	strangers *queue    // whose decisions can be made up without end
	file      *file     // nil: none
	up        *uploader // nil: none

	written, dropped atomic.Uint64

	mu      sync.Mutex
	trouble string // of the file
	since   time.Time
}

// Open opens the file, and checks what can be checked without the service.
func Open(cfg Config) (*Log, error) {
	if cfg.File == "" && cfg.URL == nil {
		return nil, errors.New("decision log: neither a file nor a service")
	}
	if cfg.Mask == nil {
		cfg.Mask = DefaultMask()
	}
	m, err := parseMask(cfg.Mask)
	if err != nil {
		return nil, err
	}
	if cfg.Limit <= 0 {
		cfg.Limit = 1000
	}
	if cfg.Allows == "" {
		cfg.Allows = New
	}
	l := &Log{cfg: cfg, mask: m, known: newQueue(queueEvents, queueBytes), strangers: newQueue(queueEvents/2, queueBytes/2)}
	if cfg.File != "" {
		if l.file, err = openFile(cfg.File, cfg.MaxSize, cfg.Keep); err != nil {
			return nil, fmt.Errorf("open decision log: %w", err)
		}
	}
	if cfg.URL != nil {
		l.up = newUploader(cfg)
	}
	return l, nil
}

// Record hands a decision in. It never waits.
func (l *Log) Record(d trust.Decision) {
	// What was remembered has no facts, whether there are reasons or not.
	if d.Action == trust.Allow && (l.cfg.Allows == None && len(d.Reasons) == 0 || l.cfg.Allows != All && len(d.Input) == 0) {
		return
	}
	q := l.known
	if stranger(d) {
		q = l.strangers
	}
	if !q.offer(d) {
		l.dropped.Add(1)
	}
}

// Run writes and sends until ctx ends; then what waits is written, and sent for a few seconds.
func (l *Log) Run(ctx context.Context) error {
	var uploads sync.WaitGroup
	if l.up != nil {
		uploads.Go(func() { l.up.run(ctx) })
	}
	tick := time.NewTicker(flushEvery)
	defer tick.Stop()
	room := l.second()
	for ctx.Err() == nil {
		select {
		case <-tick.C:
			room = l.second()
			l.flush()
		default:
		}
		select {
		case d := <-l.known.waiting:
			l.take(d, room)
			continue
		default: // strangers come last
		}
		select {
		case <-ctx.Done():
		case <-tick.C:
			room = l.second()
			l.flush()
		case d := <-l.known.waiting:
			l.take(d, room)
		case d := <-l.strangers.waiting:
			l.take(d, room)
		}
	}
	for _, q := range []*queue{l.known, l.strangers} {
		for len(q.waiting) > 0 {
			l.take(<-q.waiting, room)
		}
	}
	l.flush()
	uploads.Wait()
	if l.up != nil {
		last, cancel := context.WithTimeout(context.WithoutCancel(ctx), lastUpload)
		defer cancel()
		l.up.drain(last)
	}
	if l.file != nil {
		return l.file.close()
	}
	return nil
}

// take tells one decision where there is room in this second.
func (l *Log) take(d trust.Decision, left *room) {
	strange, q := stranger(d), l.known
	if strange {
		q = l.strangers
	}
	q.bytes.Add(-int64(len(d.Input)))
	if left.all <= 0 || strange && left.strangers <= 0 {
		l.dropped.Add(1)
		return
	}
	line, err := l.event(d)
	if err != nil {
		l.dropped.Add(1)
		l.cfg.Log.Error("decision log: a decision cannot be told", "reference", d.Reference, "error", err)
		return
	}
	left.all--
	if strange {
		left.strangers--
	}
	if l.file != nil {
		if err := l.file.write(line); err != nil {
			l.dropped.Add(1)
			l.fail(err)
		} else {
			l.written.Add(1)
		}
	}
	if l.up != nil {
		l.up.add(line, strange)
	}
}

func (l *Log) flush() {
	if l.file == nil {
		return
	}
	l.fail(l.file.flush())
}

// fail remembers what is wrong with the file; nil is all well.
func (l *Log) fail(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err == nil {
		l.trouble = ""
		return
	}
	if l.trouble == "" {
		l.since = l.cfg.Now()
		l.cfg.Log.Error("decision log: the file cannot be written", "file", l.cfg.File, "error", err)
	}
	l.trouble = "the decision log " + l.cfg.File + " cannot be written: " + err.Error()
}

// Stats returns the counts.
func (l *Log) Stats() Stats {
	l.mu.Lock()
	s := Stats{Written: l.written.Load(), Dropped: l.dropped.Load(), Trouble: l.trouble, Since: l.since}
	l.mu.Unlock()
	if l.up != nil {
		l.up.stats(&s)
	}
	return s
}

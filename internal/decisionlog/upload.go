package decisionlog

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/url"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Limits of what is sent.
const (
	batchEvents   = 1000
	batchBytes    = 1 << 20  // of JSON
	waitingBytes  = 16 << 20 // of JSON; beyond, the oldest batches are dropped, those of strangers first
	uploadTimeout = 30 * time.Second
	defaultEvery  = 10 * time.Second
	firstRetry    = time.Second
	lastRetry     = time.Minute
)

// uploader sends batches to a service, one at a time and in order.
type uploader struct {
	url    *url.URL
	at     string // scheme, host and path of it, as it may be seen: a query may hold a key
	token  func() (string, error)
	client *http.Client
	every  time.Duration
	now    func() time.Time
	log    *slog.Logger
	full   chan struct{}

	sent, dropped, refused atomic.Uint64

	mu      sync.Mutex
	batches []batch // the last one of known certificates, and of strangers, is being filled
	bytes   int
	events  int
	trouble string
	since   time.Time
}

// batch is a JSON array without its end.
type batch struct {
	events    int
	json      []byte
	strangers bool // all of them are of strangers; otherwise none
}

func newUploader(cfg Config) *uploader {
	u := &uploader{url: cfg.URL, token: cfg.Token, every: cfg.Every, now: cfg.Now, log: cfg.Log, full: make(chan struct{}, 1),
		client: &http.Client{Timeout: uploadTimeout, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}}
	if cfg.URL != nil {
		u.at = (&url.URL{Scheme: cfg.URL.Scheme, Host: cfg.URL.Host, Path: cfg.URL.Path}).String()
	}
	if u.every <= 0 {
		u.every = defaultEvery
	}
	return u
}

// add queues an event, and drops old batches where there is no room.
func (u *uploader) add(event []byte, stranger bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	at := len(u.batches) - 1
	for at >= 0 && u.batches[at].strangers != stranger {
		at--
	}
	full := at >= 0 && (u.batches[at].events >= batchEvents || len(u.batches[at].json)+len(event) > batchBytes)
	if at < 0 || full {
		u.batches = append(u.batches, batch{json: append(make([]byte, 0, len(event)+2), '['), strangers: stranger})
		at = len(u.batches) - 1
	} else {
		u.batches[at].json = append(u.batches[at].json, ',')
	}
	b := &u.batches[at]
	b.json = append(b.json, event...)
	b.events++
	u.bytes += len(event) + 1
	u.events++
	u.fit()
	if full {
		select {
		case u.full <- struct{}{}:
		default:
		}
	}
}

// fit drops the oldest batch until there is room: of strangers, where there is one. The caller holds u.mu.
func (u *uploader) fit() {
	for u.bytes > waitingBytes && len(u.batches) > 1 {
		at := max(0, slices.IndexFunc(u.batches, func(b batch) bool { return b.strangers }))
		u.dropped.Add(uint64(u.batches[at].events))
		u.remove(at)
	}
}

// remove takes a batch out. The caller holds u.mu.
func (u *uploader) remove(at int) {
	u.bytes -= len(u.batches[at].json)
	u.events -= u.batches[at].events
	u.batches = slices.Delete(u.batches, at, at+1)
}

// run sends until ctx ends.
func (u *uploader) run(ctx context.Context) {
	for ctx.Err() == nil {
		timer := time.NewTimer(u.every)
		select {
		case <-ctx.Done():
		case <-u.full:
		case <-timer.C:
		}
		timer.Stop()
		u.drain(ctx)
	}
}

// drain sends all that waits, trying again what fails until ctx ends.
func (u *uploader) drain(ctx context.Context) {
	retry := firstRetry
	for ctx.Err() == nil {
		b, ok := u.next()
		if !ok {
			return
		}
		status, err := u.send(ctx, b)
		switch {
		case err == nil:
			u.sent.Add(uint64(b.events))
			u.fine()
			retry = firstRetry
		case status/100 == 4 && status != http.StatusUnauthorized && status != http.StatusForbidden && status != http.StatusNotFound && status != http.StatusRequestTimeout &&
			status != http.StatusTooManyRequests:
			u.refused.Add(uint64(b.events)) // the same again would be refused again
			u.fail(err)
		default:
			if ctx.Err() == nil {
				u.fail(err)
			}
			u.back(b)
			pause(ctx, retry/2+rand.N(retry/2))
			retry = min(2*retry, lastRetry)
		}
	}
}

// next takes the oldest batch. Later events go into another one.
func (u *uploader) next() (batch, bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if len(u.batches) == 0 {
		return batch{}, false
	}
	b := u.batches[0]
	u.remove(0)
	return b, true
}

// back puts a batch that could not be sent in front again; where there is no room for it, the oldest is dropped.
func (u *uploader) back(b batch) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.batches = append([]batch{b}, u.batches...)
	u.bytes += len(b.json)
	u.events += b.events
	u.fit()
}

// send posts a batch as OPA does: a JSON array, compressed with gzip.
func (u *uploader) send(ctx context.Context, b batch) (status int, err error) {
	var body bytes.Buffer
	z := gzip.NewWriter(&body)
	_, _ = z.Write(b.json) // a buffer takes everything
	_, _ = z.Write([]byte{']'})
	_ = z.Close()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, u.url.String(), &body)
	if err != nil {
		return 0, err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Content-Encoding", "gzip")
	if u.token != nil {
		token, err := u.token()
		if err != nil {
			return 0, err
		}
		req.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := u.client.Do(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, 64<<10)) // so that the connection can be used again
	if resp.StatusCode/100 != 2 {
		return resp.StatusCode, fmt.Errorf("the service answered %s", resp.Status)
	}
	return resp.StatusCode, nil
}

// fail remembers why the service takes nothing, without the address that net/http writes into its errors.
func (u *uploader) fail(err error) {
	var at *url.Error
	if errors.As(err, &at) {
		err = at.Err
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.trouble == "" {
		u.since = u.now()
		u.log.Warn("decision log: the service does not take events", "url", u.at, "error", err)
	}
	u.trouble = "the decision log service " + u.at + " does not take events: " + err.Error()
}

func (u *uploader) fine() {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.trouble = ""
}

func (u *uploader) stats(s *Stats) {
	u.mu.Lock()
	defer u.mu.Unlock()
	s.Sent, s.Refused, s.Waiting = u.sent.Load(), u.refused.Load(), u.events
	s.Dropped += u.dropped.Load()
	if s.Trouble == "" && u.trouble != "" {
		s.Trouble, s.Since = u.trouble, u.since
	}
}

// pause waits for d or until ctx ends.
func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

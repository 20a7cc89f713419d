package mdm

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

// Limits of an answer, in bytes. Answers of services that are trusted with the decision are still not trusted with our memory.
const (
	maxAnswer     = 256 << 10
	maxHeader     = 64 << 10
	maxRetryAfter = time.Hour
)

// httpFault is an exchange that brought no answer. It is never a refusal.
type httpFault struct {
	what       string
	status     int           // 0: there was no answer, or it could not be read
	retryAfter time.Duration // what the other side asked for; 0 for nothing
	body       []byte        // of an answer with the wrong status
	err        error
}

func (f *httpFault) Error() string {
	if f.status != 0 {
		return fmt.Sprintf("%s: HTTP status %d", f.what, f.status)
	}
	return fmt.Sprintf("%s: %v", f.what, f.err)
}

func (f *httpFault) Unwrap() error { return f.err }

// RetryAfter is how long the other side asked to be left alone, an hour at most; 0 for nothing.
func (f *httpFault) RetryAfter() time.Duration { return f.retryAfter }

// newClient returns a client that follows no redirect: what it sends is for the address it was given and no other.
func newClient(transport http.RoundTripper) *http.Client {
	if transport == nil {
		t := http.DefaultTransport.(*http.Transport).Clone()
		t.MaxResponseHeaderBytes = maxHeader
		transport = t
	}
	return &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}

// exchange sends the body, or makes a GET when there is none, and returns the answer of a 2xx, at most limit bytes. The time is limited by ctx.
func exchange(ctx context.Context, c *http.Client, what, target string, header http.Header, body []byte, limit int) ([]byte, error) {
	fault := func(err error) error { return &httpFault{what: what, err: err} }
	method := http.MethodPost
	if body == nil {
		method = http.MethodGet
	}
	req, err := http.NewRequestWithContext(ctx, method, target, bytes.NewReader(body))
	if err != nil {
		return nil, fault(errors.New("the address cannot be used"))
	}
	req.Header = header
	resp, err := c.Do(req)
	if err != nil {
		// Without the address: its query may hold a key.
		var ue *url.Error
		if errors.As(err, &ue) {
			err = ue.Err
		}
		return nil, fault(err)
	}
	defer func() { _ = resp.Body.Close() }()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, int64(limit)+1))
	if resp.StatusCode/100 != 2 {
		return nil, &httpFault{what: what, status: resp.StatusCode, retryAfter: retryAfter(resp.Header), body: answer[:min(len(answer), limit)]}
	}
	if err != nil {
		return nil, fault(err)
	}
	if len(answer) > limit {
		return nil, fmt.Errorf("%s: the answer is larger than %d bytes", what, limit)
	}
	return answer, nil
}

// retryAfter reads Retry-After in seconds (RFC 9110, section 10.2.3); a date or nonsense counts as nothing.
func retryAfter(h http.Header) time.Duration {
	n, err := strconv.Atoi(h.Get("Retry-After"))
	if err != nil || n <= 0 {
		return 0
	}
	return min(time.Duration(min(n, int(maxRetryAfter/time.Second)))*time.Second, maxRetryAfter)
}

// safeURL refuses an address that would show a secret to the network: only HTTPS is allowed, except to this machine itself.
func safeURL(s string) error {
	u, err := url.Parse(s)
	if err != nil || u.Host == "" || u.User != nil || u.Fragment != "" {
		return errors.New("the address cannot be used: want https://host/path") // it may hold a password or a key
	}
	host := u.Hostname()
	ip := net.ParseIP(host)
	if u.Scheme == "https" || u.Scheme == "http" && (host == "localhost" || ip != nil && ip.IsLoopback()) {
		return nil
	}
	return fmt.Errorf("address at %q: use https", clip(u.Host, 200))
}

// gate lets one through at a time, and lets those who wait give up with their context.
type gate chan struct{}

func newGate() gate { return make(gate, 1) }

func (g gate) enter(ctx context.Context) error {
	select {
	case g <- struct{}{}: // also when ctx has ended: what is free needs no waiting
		return nil
	default:
	}
	select {
	case g <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (g gate) leave() { <-g }

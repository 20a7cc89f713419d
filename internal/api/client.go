package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"path/filepath"
	"strings"
	"time"
)

// Client calls the admin API. The zero value is not usable.
type Client struct {
	http  *http.Client
	base  string
	token string
	where string // for error messages
}

// Local returns a client for the server that runs on this data directory, through its socket.
func Local(data string) *Client {
	path := filepath.Join(data, Socket)
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", path)
	}
	return &Client{http: &http.Client{Timeout: time.Minute, Transport: &http.Transport{DialContext: dial}}, base: "http://postern" + Prefix, where: path}
}

// Remote returns a client for an admin API over TCP, for example http://127.0.0.1:9000, with an access token.
func Remote(base, token string) *Client {
	return &Client{http: &http.Client{Timeout: time.Minute}, base: strings.TrimSuffix(base, "/") + Prefix, token: token, where: base}
}

// Call sends in as JSON (nil: no body) and decodes the answer into out (nil: ignored). An answer that is not 2xx is an *Error; a server that does not
// answer is another error, which says what to do.
func (c *Client) Call(ctx context.Context, method, path string, query url.Values, in, out any) error {
	resp, err := c.do(ctx, c.http, method, path, query, in)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(resp.Body, 256<<20))
	if err != nil {
		return fmt.Errorf("read answer: %w", err)
	}
	if out == nil {
		return nil
	}
	if err := json.Unmarshal(b, out); err != nil {
		return fmt.Errorf("decode answer: %w", err)
	}
	return nil
}

// Stream asks for something that is read as it comes, for as long as ctx allows. The caller closes it.
func (c *Client) Stream(ctx context.Context, path string, query url.Values) (io.ReadCloser, error) {
	patient := *c.http
	patient.Timeout = 0
	resp, err := c.do(ctx, &patient, http.MethodGet, path, query, nil)
	if err != nil {
		return nil, err
	}
	return resp.Body, nil
}

// do sends a request and returns an answer that is 2xx.
func (c *Client) do(ctx context.Context, by *http.Client, method, path string, query url.Values, in any) (*http.Response, error) {
	var body io.Reader
	if in != nil {
		b, err := json.Marshal(in)
		if err != nil {
			return nil, fmt.Errorf("encode request: %w", err)
		}
		body = bytes.NewReader(b)
	}
	u := c.base + path
	if len(query) > 0 {
		u += "?" + query.Encode()
	}
	req, err := http.NewRequestWithContext(ctx, method, u, body)
	if err != nil {
		return nil, fmt.Errorf("make request: %w", err)
	}
	req.Header.Set("Content-Type", "application/json")
	if c.token != "" {
		req.Header.Set("Authorization", "Bearer "+c.token)
	}
	resp, err := by.Do(req)
	if err != nil {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		return nil, fmt.Errorf("no Postern answers at %s: start it with `postern serve`, or name its configuration with -c (%w)", c.where, errors.Unwrap(err))
	}
	if resp.StatusCode/100 == 2 {
		return resp, nil
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(resp.Body, MaxBody))
	if err != nil {
		return nil, fmt.Errorf("read answer: %w", err)
	}
	e := &Error{Status: resp.StatusCode, Code: "internal", Message: strings.TrimSpace(string(b))}
	if json.Unmarshal(b, e) != nil || e.Message == "" {
		e.Message = fmt.Sprintf("the server answered %s", resp.Status)
	}
	return nil, e
}

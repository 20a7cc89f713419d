package scep

import (
	"bytes"
	"context"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// maxAnswer is the longest answer that is read, in bytes.
const maxAnswer = 4 << 20

// Client speaks SCEP over HTTP with one server (RFC 8894, section 4).
type Client struct {
	URL  string // without "?operation="
	HTTP *http.Client
}

// NewClient returns a client that keeps up to the given number of connections.
func NewClient(server string, connections int) *Client {
	return &Client{URL: server, HTTP: &http.Client{Timeout: time.Minute,
		Transport: &http.Transport{MaxIdleConnsPerHost: connections, MaxConnsPerHost: connections}}}
}

// Close closes the connections.
func (c *Client) Close() { c.HTTP.CloseIdleConnections() }

// Response is what came back over HTTP.
type Response struct {
	Status      int
	ContentType string // without parameters, lower case
	Body        []byte
}

// Do sends a request of any kind to the server's URL with something behind it.
func (c *Client) Do(ctx context.Context, method, behind, contentType string, body io.Reader) (*Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, c.URL+behind, body)
	if err != nil {
		return nil, err
	}
	if contentType != "" {
		req.Header.Set("Content-Type", contentType)
	}
	resp, err := c.HTTP.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return nil, fmt.Errorf("read answer: %w", err)
	}
	kind, _, _ := strings.Cut(resp.Header.Get("Content-Type"), ";")
	return &Response{resp.StatusCode, strings.ToLower(strings.TrimSpace(kind)), answer}, nil
}

// Get asks an operation without a message.
func (c *Client) Get(ctx context.Context, operation string) (*Response, error) {
	return c.Do(ctx, http.MethodGet, "?operation="+operation, "", nil)
}

// Post sends a pkiMessage by POST.
func (c *Client) Post(ctx context.Context, message []byte) (*Response, error) {
	return c.Do(ctx, http.MethodPost, "?operation=PKIOperation", "application/x-pki-message", bytes.NewReader(message))
}

// GetMessage sends a pkiMessage by GET, in base64 and escaped as RFC 8894, section 4.1 wants it.
func (c *Client) GetMessage(ctx context.Context, message []byte) (*Response, error) {
	return c.Get(ctx, "PKIOperation&message="+url.QueryEscape(base64.StdEncoding.EncodeToString(message)))
}

// Capabilities asks GetCACaps.
func (c *Client) Capabilities(ctx context.Context) ([]string, error) {
	r, err := c.Get(ctx, "GetCACaps")
	if err != nil {
		return nil, err
	}
	if r.Status != http.StatusOK {
		return nil, fmt.Errorf("GetCACaps: HTTP %d", r.Status)
	}
	return strings.Fields(string(r.Body)), nil
}

// Chain asks GetCACert for the certificates, in the order of the answer.
func (c *Client) Chain(ctx context.Context) ([]*x509.Certificate, error) {
	r, err := c.Get(ctx, "GetCACert")
	if err != nil {
		return nil, err
	}
	if r.Status != http.StatusOK {
		return nil, fmt.Errorf("GetCACert: HTTP %d", r.Status)
	}
	if r.ContentType == "application/x-x509-ca-cert" {
		return x509.ParseCertificates(r.Body)
	}
	certs, _, err := ReadCertificates(r.Body)
	return certs, err
}

// Recipient finds the certificate to encrypt to: RSA, good for keyEncipherment, an RA rather than a CA (RFC 8894, section 2.1.2).
func Recipient(chain []*x509.Certificate) (*x509.Certificate, error) {
	var found *x509.Certificate
	for _, c := range chain {
		if _, ok := c.PublicKey.(*rsa.PublicKey); !ok || c.KeyUsage&x509.KeyUsageKeyEncipherment == 0 {
			continue
		}
		if found == nil || found.IsCA && !c.IsCA {
			found = c
		}
	}
	if found == nil {
		return nil, errors.New("GetCACert gave no RSA certificate for encryption")
	}
	return found, nil
}

// CA finds the certificate that issues: the CA that is not the root, where there is one.
func CA(chain []*x509.Certificate) *x509.Certificate {
	var found *x509.Certificate
	for _, c := range chain {
		if c.IsCA && (found == nil || bytes.Equal(found.RawIssuer, found.RawSubject)) {
			found = c
		}
	}
	return found
}

package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"time"

	"postern/internal/policy"
)

// bundleTimeout bounds one request to a bundle server.
const bundleTimeout = 30 * time.Second

// errSameBundle: the server has nothing new (HTTP 304).
var errSameBundle = errors.New("the bundle has not changed")

// bundleSource asks a bundle server for its bundle, and for nothing it has given already (ETag; RFC 9110, section 8.8.3).
type bundleSource struct {
	cfg    BundleSection
	key    *policy.BundleKey // nil: unsigned bundles are taken
	client *http.Client

	etag   string
	failed int // in a row
}

func newBundleSource(cfg BundleSection) (*bundleSource, error) {
	b := &bundleSource{cfg: cfg, client: &http.Client{Timeout: bundleTimeout, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}}
	if standard, ok := http.DefaultTransport.(*http.Transport); ok {
		own := standard.Clone()
		own.DisableCompression = true // stores that call a .tar.gz an archive with Content-Encoding: gzip mean the bundle as it is
		b.client.Transport = own
	}
	if cfg.KeyFile != "" {
		key, err := os.ReadFile(cfg.KeyFile)
		if err != nil {
			return nil, fmt.Errorf("policy.bundle.key_file: %w", err)
		}
		b.key = &policy.BundleKey{ID: cfg.KeyID, Algorithm: cfg.Algorithm, Scope: cfg.Scope, Key: string(key)}
	}
	return b, nil
}

// fetch returns the files of the bundle, or errSameBundle. What cannot be verified was not fetched: it is asked for again the next time.
func (b *bundleSource) fetch(ctx context.Context) (policy.Files, error) {
	files, err := b.ask(ctx)
	if err != nil && !errors.Is(err, errSameBundle) {
		b.failed++
		return nil, fmt.Errorf("bundle %s: %w", shown(b.cfg.URL), withoutAddress(err))
	}
	b.failed = 0
	return files, err
}

func (b *bundleSource) ask(ctx context.Context) (policy.Files, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, b.cfg.URL, nil)
	if err != nil {
		return nil, err
	}
	if b.etag != "" {
		req.Header.Set("If-None-Match", b.etag)
	}
	if b.cfg.TokenFile != "" {
		token, err := readSecretText(b.cfg.TokenFile)
		if err != nil {
			return nil, err
		}
		req.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := b.client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if err := answered(resp); err != nil {
		return nil, err
	}
	raw, err := io.ReadAll(io.LimitReader(resp.Body, policy.MaxBundle+1))
	if err != nil {
		return nil, err
	}
	files, err := policy.ReadBundle(raw, b.key)
	if err == nil {
		b.etag = resp.Header.Get("ETag")
	}
	return files, err
}

// answered returns nil for an answer with a bundle. A redirect is not followed: what the address says is where the policy comes from, and who may change it.
func answered(resp *http.Response) error {
	switch resp.StatusCode {
	case http.StatusOK:
		return nil
	case http.StatusNotModified:
		return errSameBundle
	case http.StatusUnauthorized, http.StatusForbidden:
		return fmt.Errorf("the server answered %s: look at policy.bundle.token_file", resp.Status)
	case http.StatusNotFound:
		return fmt.Errorf("the server answered %s: look at policy.bundle.url", resp.Status)
	}
	if to, err := resp.Location(); err == nil && resp.StatusCode/100 == 3 {
		return fmt.Errorf("the server answered %s and points to %s, where nobody was asked: if that is the right place, write it into policy.bundle.url", resp.Status, shown(to.String()))
	}
	return fmt.Errorf("the server answered %s", resp.Status)
}

// wait returns how long to wait before the next question: a server that does not answer is asked at most every ten intervals.
func (b *bundleSource) wait() time.Duration {
	return time.Duration(b.cfg.Every) * time.Duration(min(1+b.failed, 10))
}

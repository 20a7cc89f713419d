package admin

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/gin-gonic/gin"

	"postern/internal/api"
	"postern/internal/trust"
)

// decode reads a JSON body strictly: bounded, no unknown fields, nothing behind it. An empty body is the zero value.
func decode(c *gin.Context, v any) error {
	limit := int64(api.MaxBody)
	if sized, ok := v.(interface{ MaxBody() int64 }); ok {
		limit = sized.MaxBody()
	}
	d := json.NewDecoder(http.MaxBytesReader(c.Writer, c.Request.Body, limit))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("request body: %s: %w", err, trust.ErrInvalid)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return fmt.Errorf("request body: more than one JSON value: %w", trust.ErrInvalid)
	}
	return nil
}

// limit reads the query's limit; 0 means the default.
func limit(c *gin.Context) (int, error) {
	s := c.Query("limit")
	if s == "" {
		return 0, nil
	}
	n, err := strconv.Atoi(s)
	if err != nil || n < 1 || n > 1000 {
		return 0, fmt.Errorf("limit %q %w: use 1 to 1000", s, trust.ErrInvalid)
	}
	return n, nil
}

// oneOf refuses a filter with a value that nothing can have: an empty list would look like an answer.
func oneOf(c *gin.Context, name string, values ...string) error {
	if v := c.Query(name); v != "" && !slices.Contains(values, v) {
		return fmt.Errorf("%s %q %w: use %s", name, v, trust.ErrInvalid, strings.Join(values, ", "))
	}
	return nil
}

// ttl reads a duration; empty means the default.
func ttl(s string, def time.Duration) (time.Duration, error) {
	if s == "" {
		return def, nil
	}
	d, err := time.ParseDuration(s)
	if err != nil || d <= 0 {
		return 0, fmt.Errorf("ttl %q %w: write it like 30m or 24h", s, trust.ErrInvalid)
	}
	return d, nil
}

// optional is nil for the zero time.
func optional(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}

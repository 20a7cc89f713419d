package api

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"postern/internal/trust"
)

// NewException asks for POST /exceptions: let an owner, or one device, through for a while. Exactly one of User and Device is given.
type NewException struct {
	User    string         `json:"user,omitempty"` // mail address of the owner: every device of his
	Device  trust.DeviceID `json:"device,omitempty"`
	Reasons []string       `json:"reasons"` // codes of what it lifts
	Until   string         `json:"until"`   // 12h, 7d, 2026-12-31 (the end of that day, UTC) or a time in RFC 3339
	Comment string         `json:"comment"`
}

// Exception is one exception in GET /exceptions, and the answer to POST /exceptions and DELETE /exceptions/{id}.
type Exception struct {
	ID       string         `json:"id"`
	User     string         `json:"user"`
	Device   trust.DeviceID `json:"device,omitempty"`
	Reasons  []string       `json:"reasons"`
	Comment  string         `json:"comment"`
	By       string         `json:"by"`     // kind:name
	Status   string         `json:"status"` // live; revoked; ended, because its time is over
	Created  time.Time      `json:"created"`
	Until    time.Time      `json:"until"`
	Revoked  *time.Time     `json:"revoked"`
	Warnings []string       `json:"warnings,omitempty"` // of a new one
}

// ParseEnd reads when something ends: a span from now in Go's form or in days (12h, 7d), a date, whose end in UTC it is, or a time of RFC 3339, section 5.6.
func ParseEnd(s string, now time.Time) (time.Time, error) {
	if days, ok := strings.CutSuffix(s, "d"); ok {
		if n, err := strconv.Atoi(days); err == nil && n > 0 && n < 10_000 {
			return now.Add(time.Duration(n) * 24 * time.Hour), nil
		}
	}
	if d, err := time.ParseDuration(s); err == nil && d > 0 {
		return now.Add(d), nil
	}
	if t, err := time.Parse(time.DateOnly, s); err == nil {
		return t.Add(24 * time.Hour), nil
	}
	t, err := time.Parse(time.RFC3339, s)
	if err != nil {
		return t, fmt.Errorf("end %q %w: write it like 12h, 7d, 2026-12-31 or 2026-12-31T18:00:00Z", s, trust.ErrInvalid)
	}
	return t, nil
}

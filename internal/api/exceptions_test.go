package api

import (
	"errors"
	"strings"
	"testing"
	"time"

	"postern/internal/trust"
)

func TestParseEnd(t *testing.T) {
	now := time.Date(2026, 11, 26, 10, 0, 0, 0, time.UTC)
	for s, want := range map[string]string{
		"12h": "2026-11-26T22:00:00Z", "7d": "2026-12-03T10:00:00Z", "90m": "2026-11-26T11:30:00Z", "2026-12-31": "2027-01-01T00:00:00Z",
		"2026-12-31T18:00:00+02:00": "2026-12-31T16:00:00Z",
		"":                          "", "7": "", "d": "", "-1d": "", "0d": "", "99999d": "", "-5h": "", "tomorrow": "", "2026-13-01": "", "31.12.2026": "",
	} {
		got, err := ParseEnd(s, now)
		if want == "" {
			if err == nil {
				t.Errorf("%q: %v, want an error", s, got)
			}
			continue
		}
		if err != nil || got.UTC().Format(time.RFC3339) != want {
			t.Errorf("%q: %v, %v, want %s", s, got, err, want)
		}
	}
}

// Whatever somebody calls an end, it is refused as invalid or is a time, and a span is one in the future.
func FuzzParseEnd(f *testing.F) {
	for _, s := range []string{"12h", "7d", "9999d", "2026-12-31", "2026-12-31T18:00:00+02:00", "-1d", "9223372036854775807ns", ""} {
		f.Add(s)
	}
	now := time.Date(2026, 11, 26, 12, 0, 0, 0, time.UTC)
	f.Fuzz(func(t *testing.T, s string) {
		end, err := ParseEnd(s, now)
		switch {
		case err != nil && !errors.Is(err, trust.ErrInvalid):
			t.Errorf("%q: %v", s, err)
		case err == nil && !strings.Contains(s, "-") && !end.After(now):
			t.Errorf("%q: a span that ends %v", s, end)
		}
	})
}

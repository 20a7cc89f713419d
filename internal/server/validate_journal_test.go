package server

import (
	"log/slog"
	"math"
	"strings"
	"testing"
	"time"
)

func TestJournalSection(t *testing.T) {
	for name, c := range map[string]struct {
		section *JournalSection
		want    string
		leave   float64
	}{
		"nothing":        {nil, "", 0},
		"empty":          {&JournalSection{}, "", 0},
		"all":            {&JournalSection{PlainAllows: "all"}, "", 0},
		"none":           {&JournalSection{PlainAllows: "none"}, "", 1},
		"a tenth":        {&JournalSection{PlainAllows: "10%"}, "", 0.9},
		"half a percent": {&JournalSection{PlainAllows: "0.5%"}, "", 0.995},
		"no percent":     {&JournalSection{PlainAllows: "10"}, "journal.plain_allows", 0},
		"too much":       {&JournalSection{PlainAllows: "101%"}, "journal.plain_allows", 0},
		"not a number":   {&JournalSection{PlainAllows: "NaN%"}, "journal.plain_allows", 0},
		"nothing of it":  {&JournalSection{PlainAllows: "0%"}, "journal.plain_allows", 0},
		"too short":      {&JournalSection{Keep: Duration(time.Minute)}, "journal.keep", 0},
		"too small":      {&JournalSection{MaxMB: 1}, "journal.max_mb", 0},
		"negative":       {&JournalSection{MaxMB: -100}, "journal.max_mb", 0},
	} {
		var p problems
		got := c.section.valid(&p)
		text := ""
		for _, err := range p {
			text += err.Error()
		}
		if c.want == "" && (text != "" || math.Abs(got.LeaveOut-c.leave) > 1e-9) || !strings.Contains(text, c.want) {
			t.Errorf("%s: %q, want %q; %+v", name, text, c.want, got)
		}
	}
	var p problems
	o := (&JournalSection{Keep: Duration(48 * time.Hour), MaxMB: 7000, PlainAllows: "25%"}).valid(&p).options(slog.New(slog.DiscardHandler), time.Now)
	if o.MaxAge != 48*time.Hour || o.MaxBytes != 3000<<20 || o.MaxAllowedBytes != 3000<<20 || o.MaxStrangerBytes != 1000<<20 || o.LeaveOut != 0.75 || o.MaxAllowed < 1_000_000 {
		t.Errorf("%+v", o)
	}
}

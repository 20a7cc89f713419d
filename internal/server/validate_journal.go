package server

import (
	"log/slog"
	"strconv"
	"strings"
	"time"

	"postern/internal/registry/bolt"
)

// DefaultKeep is how long decisions are kept.
const DefaultKeep = 30 * 24 * time.Hour

// Limits of the journal.
const (
	defaultJournalMB = 3584
	minJournalMB     = 70
	maxJournalMB     = 1 << 20
	minKeep          = time.Hour
	maxKeep          = 10 * 366 * 24 * time.Hour
	perDecision      = 3 << 10 // bytes, at the least; more decisions than fit are never counted on
)

// JournalSection says what is kept of decisions.
type JournalSection struct {
	Keep        Duration `yaml:"keep,omitempty" doc:"for how long; 720h if left out"`
	MaxMB       int      `yaml:"max_mb,omitempty" doc:"on disk, at most: three parts for known devices, three for facts of plain allows, one for strangers; 3584 if left out"`
	PlainAllows string   `yaml:"plain_allows,omitempty" doc:"of the sets of facts that were plainly allowed: all, none, or a share such as 10%; all if left out. A replay says that it saw a part"`
}

// Journal is a validated JournalSection.
type Journal struct {
	Keep     time.Duration
	MaxBytes int64
	LeaveOut float64 // share of the sets of facts of plain allows, 0 to 1
}

// valid checks the section; nil is the defaults.
func (s *JournalSection) valid(p *problems) Journal {
	out := Journal{Keep: DefaultKeep, MaxBytes: defaultJournalMB << 20}
	if s == nil {
		return out
	}
	if s.Keep != 0 {
		out.Keep = time.Duration(s.Keep)
	}
	if out.Keep < minKeep || out.Keep > maxKeep {
		p.add("journal.keep", "%s: want 1h to ten years", out.Keep)
	}
	if s.MaxMB != 0 {
		out.MaxBytes = int64(s.MaxMB) << 20
	}
	if s.MaxMB != 0 && (s.MaxMB < minJournalMB || s.MaxMB > maxJournalMB) {
		p.add("journal.max_mb", "%d: want %d to %d", s.MaxMB, minJournalMB, maxJournalMB)
	}
	switch s.PlainAllows {
	case "", "all":
	case "none":
		out.LeaveOut = 1
	default:
		number, ok := strings.CutSuffix(s.PlainAllows, "%")
		share, err := strconv.ParseFloat(number, 64)
		if !ok || err != nil || !(share > 0 && share <= 100) {
			p.add("journal.plain_allows", "%q: want all, none, or a share such as 10%%", s.PlainAllows)
		}
		out.LeaveOut = 1 - share/100
	}
	return out
}

// options are those of the file: a third of it each for known devices and for plain allows, and the rest for strangers, who cannot take from the others.
func (j Journal) options(log *slog.Logger, now func() time.Time) bolt.JournalOptions {
	if j.MaxBytes == 0 {
		j = (*JournalSection)(nil).valid(nil)
	}
	part := j.MaxBytes / 7
	most := func(n int, size int64) int { return max(n, int(size/perDecision)) }
	return bolt.JournalOptions{Log: log, Now: now, MaxAge: j.Keep, LeaveOut: j.LeaveOut, MaxBytes: 3 * part, MaxAllowedBytes: 3 * part, MaxStrangerBytes: part,
		MaxDecisions: most(400_000, 3*part), MaxAllowed: most(1_000_000, 3*part), MaxStrangers: most(100_000, part)}
}

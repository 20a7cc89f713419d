package policy

import (
	"encoding/json"
	"fmt"
	"regexp"
	"strconv"
	"time"
)

// The bounds of a time in data, in Unix seconds: what is before 2001 was meant otherwise, as days or as 20261231, and what is after 9999 are milliseconds.
const (
	earliestTime = 1_000_000_000
	latestTime   = 253_402_300_799
)

// dateTimePattern is a date with a time and an offset (RFC 3339, section 5.6), which is the same moment to everybody.
const dateTimePattern = `^[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt][0-9]{2}:[0-9]{2}:[0-9]{2}([.][0-9]+)?([Zz]|[+-][0-9]{2}:[0-9]{2})$`

var dateTimeForm = regexp.MustCompile(dateTimePattern)

// timeShape is a moment: a number of Unix seconds, or a text that normalize makes one of.
func timeShape() shape {
	return shape{"type": []string{"integer", "string"}, "minimum": earliestTime, "maximum": latestTime, "pattern": dateTimePattern,
		"description": `a time: Unix seconds such as 1798761599, or a text with an offset such as "2026-12-31T23:59:59Z" (RFC 3339)`}
}

// wrongTime is what is wrong with a time, and what was meant by it where that can be told. An empty message is nothing.
type wrongTime struct {
	message string
	lead    string // of the advice
	meant   time.Time
}

// advice says what to write in data.
func (w wrongTime) advice() string {
	if w.meant.IsZero() {
		return `write Unix seconds such as 1798761599, or a text with an offset such as "2026-12-31T23:59:59Z"`
	}
	return fmt.Sprintf("%s %q or %d", w.lead, rfc3339(w.meant), w.meant.Unix())
}

// adviceInRules says what to write in a rule, where a time is a number.
func (w wrongTime) adviceInRules() string {
	if w.meant.IsZero() {
		return "write Unix seconds such as 1798761599"
	}
	return fmt.Sprintf("%s %d, which is %s", w.lead, w.meant.Unix(), rfc3339(w.meant))
}

// secondsOf reads a time in data.
func secondsOf(v any) (int64, wrongTime) {
	switch v := v.(type) {
	case json.Number:
		n, err := v.Int64()
		if err != nil {
			return 0, wrongTime{message: fmt.Sprintf("%s: must be a whole number of seconds", v)}
		}
		return n, wrongNumber(n)
	case string:
		return secondsOfText(v)
	}
	return 0, wrongTime{message: "must be a time"}
}

func wrongNumber(n int64) wrongTime {
	if n >= earliestTime && n <= latestTime {
		return wrongTime{}
	}
	for _, unit := range []struct {
		name string
		size int64
	}{{"milliseconds", 1e3}, {"microseconds", 1e6}, {"nanoseconds", 1e9}} {
		if whole := n / unit.size; whole >= earliestTime && whole <= latestTime {
			return wrongTime{fmt.Sprintf("%d: these are %s, and a time is in seconds", n, unit.name), "write", time.Unix(whole, 0)}
		}
	}
	if n < 0 || n > latestTime {
		return wrongTime{message: fmt.Sprintf("%d: must be a time from %d to %d", n, earliestTime, latestTime)}
	}
	w := wrongTime{message: fmt.Sprintf("%d: as Unix seconds that is %s", n, rfc3339(time.Unix(n, 0)))}
	if day, err := time.Parse("20060102", strconv.FormatInt(n, 10)); err == nil && day.Unix() >= earliestTime {
		w.lead, w.meant = "for the end of that day write", endOf(day)
	}
	return w
}

// nearlyRFC3339 are forms that people write, which leave the offset out or not.
var nearlyRFC3339 = []string{"2006-01-02T15:04:05", "2006-01-02 15:04:05", "2006-01-02T15:04", "2006-01-02 15:04", "2006-01-02T15:04Z07:00", "2006-01-02 15:04:05Z07:00", "2006-01-02 15:04:05 Z07:00"}

func secondsOfText(s string) (int64, wrongTime) {
	if dateTimeForm.MatchString(s) {
		if t, err := time.Parse(time.RFC3339, s); err == nil {
			return t.Unix(), wrongNumber(t.Unix())
		}
	}
	if n, err := strconv.ParseInt(s, 10, 64); err == nil {
		if w := wrongNumber(n); w.message != "" {
			return 0, w
		}
		return 0, wrongTime{fmt.Sprintf("%q: must be a number or a date with a time", s), "write it without quotes:", time.Unix(n, 0)}
	}
	if day, err := time.Parse(time.DateOnly, s); err == nil {
		return 0, wrongTime{fmt.Sprintf("%q is a whole day, in no time zone", s), "for its end in UTC write", endOf(day)}
	}
	for _, form := range nearlyRFC3339 {
		if t, err := time.Parse(form, s); err == nil {
			return 0, wrongTime{fmt.Sprintf("%q is no date with a time and an offset (RFC 3339)", s), "in UTC write", t}
		}
	}
	return 0, wrongTime{message: fmt.Sprintf("%q: must be a time", s)}
}

func endOf(day time.Time) time.Time { return day.AddDate(0, 0, 1).Add(-time.Second) }

func rfc3339(t time.Time) string { return t.UTC().Format(time.RFC3339) }

// inSeconds writes the times of the rows as the numbers that input.now is compared with.
func inSeconds(list any) {
	rows, _ := list.([]any)
	for _, r := range rows {
		row, _ := r.(map[string]any)
		text, ok := row["until"].(string)
		if !ok {
			continue
		}
		if n, wrong := secondsOf(text); wrong.message == "" {
			row["until"] = json.Number(strconv.FormatInt(n, 10))
		}
	}
}

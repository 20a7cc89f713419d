package revocation

import (
	"math"
	"testing"
	"time"

	"postern/internal/trust"
)

// Sizes as they come out of an encoder of X.509.
func TestEntrySize(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 11, 25, 0, 0, 0, 0, time.UTC)
	serial := func(octets int, first string) trust.Serial {
		s := first
		for len(s) < 2*octets {
			s += "0"
		}
		return trust.Serial(s)
	}
	for _, c := range []struct {
		serial trust.Serial
		reason trust.ReasonCode
		at     time.Time
		want   int
	}{
		{serial(8, "7"), trust.Unspecified, at, 27}, {serial(8, "7"), trust.KeyCompromise, at, 41},
		{serial(16, "7"), trust.Unspecified, at, 35}, {serial(16, "7"), trust.CertificateHold, at, 49},
		{serial(20, "7"), trust.Unspecified, at, 39}, {serial(20, "7"), trust.SupersededReason, at, 53},
		{serial(16, "8"), trust.Unspecified, at, 36}, {serial(16, "f"), trust.KeyCompromise, at, 50},
		{serial(16, "7"), trust.Unspecified, time.Date(2049, 12, 31, 23, 59, 59, 0, time.UTC), 35}, {serial(16, "7"), trust.Unspecified, time.Date(2050, 1, 1, 0, 0, 0, 0, time.UTC), 37},
	} {
		if got := entrySize(trust.Revocation{Serial: c.serial, Reason: c.reason, At: c.at}); got != c.want {
			t.Errorf("%s %s %s: %d, want %d", c.serial, c.reason, c.at, got, c.want)
		}
	}
}

// cohort is so many revocations on each of some days, of certificates that go on for so many days.
type cohort struct {
	from, to int // days ago, from is the earlier
	perDay   int
	left     int // days of validity at the time of the revocation
}

func TestForecast(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC)
	const never = -1
	for name, c := range map[string]struct {
		cohorts                []cohort
		age, ends              int // days of the CA
		rate                   float64
		warning, limit, openBy int // days from now
		peak, peakAt           int
	}{
		"nothing": {age: 100, ends: 3650, warning: never, limit: never, openBy: never, peak: 1000},
		// 28,000 entries of 49 octets are there; 49,000 octets come every day and none goes for 338 days: 15,000,000 - 1,000 - 1,372,000 is 278.1 days' worth.
		// Each entry is listed for 367 days, so at most 367,000 are there at once.
		"grows beyond the warning and levels off": {cohorts: []cohort{{28, 1, 1000, 365}}, age: 1000, ends: 3650, rate: 1000,
			warning: 279, limit: never, openBy: 279, peak: 1000 + 367*49000, peakAt: 367},
		// 98,000 octets come every day, 2,744,000 are there: 15 MB after 125.1 days, 20 MB after 176.1. What is revoked is new: nothing of the old CA is revoked
		// when the new one has opened, so the day of the warning is early enough.
		"grows beyond the limit": {cohorts: []cohort{{28, 1, 2000, 365}}, age: 1000, ends: 3650, rate: 2000, warning: 126, limit: 177, openBy: 126, peak: 1000 + 367*98000, peakAt: 367},
		// The same of certificates that live 90 days: at most 92 days' worth.
		"short lives": {cohorts: []cohort{{28, 1, 2000, 90}}, age: 1000, ends: 3650, rate: 2000, warning: never, limit: never, openBy: never, peak: 1000 + 92*98000, peakAt: 92},
		// 10 days old: 20,000 in all are 2,000 a day and not 714.
		"a young CA": {cohorts: []cohort{{10, 1, 2000, 365}}, age: 10, ends: 3650, rate: 2000, warning: 144, limit: 195, openBy: 144, peak: 1000 + 367*98000, peakAt: 367},
		// The wave of a year ago goes before anything else comes.
		"a wave that passes":              {cohorts: []cohort{{100, 100, 300000, 200}}, age: 1000, ends: 3650, rate: 0, warning: never, limit: never, openBy: never, peak: 1000 + 300000*49},
		"too large today":                 {cohorts: []cohort{{100, 100, 410000, 200}}, age: 1000, ends: 3650, rate: 0, warning: 0, limit: 0, openBy: 0, peak: 1000 + 410000*49},
		"expired and not listed any more": {cohorts: []cohort{{200, 200, 410000, 100}}, age: 1000, ends: 3650, rate: 0, warning: never, limit: never, openBy: never, peak: 1000},
		// Two days after its expiry an entry goes; one day after it is there.
		"expired yesterday": {cohorts: []cohort{{101, 101, 1000, 100}}, age: 1000, ends: 3650, rate: 0, warning: never, limit: never, openBy: never, peak: 1000 + 49000},
		// The CA ends before.
		"the end of the CA": {cohorts: []cohort{{28, 1, 1000, 365}}, age: 1000, ends: 200, rate: 1000, warning: never, limit: never, openBy: never, peak: 1000 + 228*49000, peakAt: 200},
		// Revoked 61 days before their end, of 365: revocations of what the old CA has issued go on for 304 days after the new one has opened. 11 MB are there.
		"too late": {cohorts: []cohort{{28, 1, 8000, 61}}, age: 1000, ends: 3650, rate: 8000, warning: 11, limit: 24, openBy: 0, peak: 1000 + 63*392000, peakAt: 63},
		// Revoked 200 days before their end: each is listed for 202 days, and 202 days' worth of 99,225 octets are more than the limit, 201 are not. The old CA's
		// are revoked for 165 days after the opening: that has to be by day 36, long before the day of the warning.
		"open well before": {cohorts: []cohort{{28, 1, 2025, 200}}, age: 1000, ends: 3650, rate: 2025, warning: 124, limit: 202, openBy: 36, peak: 1000 + 202*99225, peakAt: 202},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			sum := &tally{now: now, begun: now.Add(-time.Duration(c.age) * day), ends: now.Add(time.Duration(c.ends) * day), life: 365 * day}
			for _, w := range c.cohorts {
				for ago := w.from; ago >= w.to; ago-- {
					at := now.Add(-time.Duration(ago)*day + time.Hour)
					for range w.perDay {
						sum.add(trust.Revocation{Serial: "7f000000000000000000000000000000", Reason: trust.KeyCompromise, At: at, NotAfter: at.Add(time.Duration(w.left)*day - time.Hour)})
					}
				}
			}
			f := sum.forecast()
			in := func(at time.Time) int {
				if at.IsZero() {
					return never
				}
				return int(at.Sub(now) / day)
			}
			if math.Abs(f.PerDay-c.rate) > 0.01 || in(f.WarningAt) != c.warning || in(f.LimitAt) != c.limit || in(f.OpenBy) != c.openBy || f.Peak != c.peak || in(f.PeakAt) != c.peakAt {
				t.Errorf("%.1f a day, warning in %d, limit in %d, open in %d, peak %d in %d", f.PerDay, in(f.WarningAt), in(f.LimitAt), in(f.OpenBy), f.Peak, in(f.PeakAt))
			}
		})
	}
}

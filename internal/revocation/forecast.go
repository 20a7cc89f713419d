package revocation

import (
	"context"
	"fmt"
	"sort"
	"time"

	"postern/certs"
	"postern/internal/ca"
	"postern/internal/trust"
)

// The sizes of a complete CRL that matter, in octets. Mega is a million, the smaller reading.
const (
	WarningSize = 15_000_000
	LimitSize   = 20_000_000 // what Entra ID fetches while a user waits
)

const (
	day          = 24 * time.Hour
	rateDays     = 28       // how far back the present rate looks
	horizonDays  = 3650     // how far ahead a forecast looks, at most
	linger       = 2        // days after its expiry that an entry may still be listed: until the second base (RFC 5280, section 3.3)
	fixedSize    = 1000     // octets of a CRL without entries; it has fewer
	proposeAhead = 30 * day // how long before a new issuing CA must be in force it is proposed: it has to be registered with relying parties first
	entryFixed   = 19       // octets of an entry without reason and serial number: SEQUENCE, INTEGER, UTCTime
	entryReason  = 14       // of the extension reasonCode
	lastUTCTime  = 2049     // the last year of a UTCTime; a GeneralizedTime is two octets longer (RFC 5280, section 5.1.2.6)
)

// Forecast is what becomes of the complete CRL of a CA at the present rate of revocations.
type Forecast struct {
	Issuer, CA string
	InForce    bool      // it is the CA that certificates are issued from now
	Size       int       // octets of the CRL published last
	Entries    int       // in it
	PerDay     float64   // revocations a day, over the last 28 days or since the CA began
	Peak       int       // the largest size until the CA ends, or for ten years
	PeakAt     time.Time // the day on which that is reached first
	WarningAt  time.Time // the day on which WarningSize is reached; zero for never
	LimitAt    time.Time // the day on which LimitSize is reached; zero for never
	OpenBy     time.Time // the day by which a new issuing CA has to be in force; zero for never
	Propose    bool      // it is time to open one
}

// String says it in a sentence.
func (f Forecast) String() string {
	const form = "2006-01-02"
	text := fmt.Sprintf("the CRL of %s/%s has %.1f MB and grows by %.1f revocations a day", f.Issuer, f.CA, float64(f.Size)/1e6, f.PerDay)
	if !f.WarningAt.IsZero() {
		text += ": 15 MB on " + f.WarningAt.Format(form)
	}
	if !f.LimitAt.IsZero() {
		text += ", 20 MB, Entra ID's limit, on " + f.LimitAt.Format(form)
	}
	if !f.OpenBy.IsZero() {
		text += "; a new issuing CA has to be in force by " + f.OpenBy.Format(form)
	}
	return text
}

// tally sums up what a CA lists by the days on which it goes.
type tally struct {
	now    time.Time
	begun  time.Time            // when the CA began to issue
	ends   time.Time            // when its certificate ends
	life   time.Duration        // of the certificates that it issues now
	gone   [horizonDays + 2]int // octets that leave the list on that day from now
	recent [horizonDays + 2]int // octets of the last rateDays, by the days that they stay listed
	count  int                  // entries of the last rateDays
}

// daysUntil is rounded up.
func daysUntil(d time.Duration) int { return int((d + day - 1) / day) }

// add takes one entry.
func (t *tally) add(r trust.Revocation) {
	size := entrySize(r)
	if left := daysUntil(r.NotAfter.Sub(t.now)) + linger; left > 0 {
		t.gone[min(left, len(t.gone)-1)] += size
	}
	if age := t.now.Sub(r.At); age >= 0 && age < rateDays*day {
		t.recent[min(max(daysUntil(r.NotAfter.Sub(r.At))+linger, 0), len(t.recent)-1)] += size
		t.count++
	}
}

// entrySize is the size of an entry in DER.
func entrySize(r trust.Revocation) int {
	n := entryFixed + len(r.Serial)/2
	if r.Serial != "" && r.Serial[0] >= '8' { // an INTEGER whose first bit is set has an octet before it
		n++
	}
	if r.Reason.Number() != 0 {
		n += entryReason
	}
	if r.At.Year() > lastUTCTime {
		n += 2
	}
	return n
}

// never is the day on which no new issuing CA opens.
const never = 2 * horizonDays

// sizes calls fn with the size of the list on each day from now, if a new CA takes over what is issued from the day open on. What is listed leaves when its
// certificates have expired; what comes at the present rate stays as long as what came lately. After open only certificates from before are revoked: one of
// which an entry stays for so many days was as much younger than its life when it was revoked, and is the last of its kind that many days after.
func (t *tally) sizes(open int, fn func(d, size int) bool) {
	type kind struct{ stays, last, octets int }
	var kinds []kind
	longest := daysUntil(t.life) + linger
	for stays, octets := range t.recent {
		if octets > 0 && stays > 0 {
			longest = max(longest, stays)
			kinds = append(kinds, kind{stays: stays, octets: octets})
		}
	}
	for i := range kinds {
		kinds[i].last = open + longest - kinds[i].stays
	}
	listed := 0
	for _, n := range t.gone {
		listed += n
	}
	for d := 0; d <= min(horizonDays, daysUntil(t.ends.Sub(t.now))); d++ {
		listed -= t.gone[d] // nothing goes on day 0
		came := 0.0
		for _, k := range kinds {
			came += float64(k.octets) * float64(max(min(d, k.last)-max(d-k.stays, 0), 0))
		}
		if !fn(d, fixedSize+listed+int(came/t.span()+0.5)) {
			return
		}
	}
}

// span is how many days the present rate is taken of.
func (t *tally) span() float64 { return min(max(t.now.Sub(t.begun).Hours()/24, 1), rateDays) }

// forecast says when the list reaches which size.
func (t *tally) forecast() (f Forecast) {
	f.PerDay = float64(t.count) / t.span()
	t.sizes(never, func(d, size int) bool {
		at := t.on(d)
		if size > f.Peak {
			f.Peak, f.PeakAt = size, at
		}
		if size >= WarningSize && f.WarningAt.IsZero() {
			f.WarningAt = at
		}
		if size >= LimitSize && f.LimitAt.IsZero() {
			f.LimitAt = at
		}
		return true
	})
	f.OpenBy = f.WarningAt
	if last := t.lastOpening(); !f.LimitAt.IsZero() && t.on(last).Before(f.OpenBy) {
		f.OpenBy = t.on(last)
	}
	return f
}

func (t *tally) on(d int) time.Time { return t.now.Add(time.Duration(d) * day) }

// lastOpening is the last day on which opening a new CA keeps the list of this one below the limit; 0 if none does.
func (t *tally) lastOpening() int {
	late := sort.Search(horizonDays, func(open int) bool {
		over := false
		t.sizes(open, func(_, size int) bool { over = size >= LimitSize; return !over })
		return over
	})
	return max(late-1, 0)
}

// Forecasts says for each CA that signs here what becomes of its complete CRL. It reads everything that is revoked: seconds for a million, so do not call it
// for every request.
func (p *Publisher) Forecasts(ctx context.Context) ([]Forecast, error) {
	out := []Forecast{}
	for _, s := range p.sites {
		for _, a := range s.edition.Load().authorities {
			if a.imported || !ca.IsIssuing(a.id) {
				continue // what a root revokes are CAs
			}
			profile, _ := certs.Lookup(certs.Default)
			t := &tally{now: a.now().UTC(), begun: a.cert.NotBefore, ends: a.cert.NotAfter, life: profile.With(s.issuer.Spec().Profile).Lifetime}
			if err := a.registry.EachListed(ctx, a.name, a.id, func(r trust.Revocation) bool { t.add(r); return ctx.Err() == nil }); err != nil {
				return nil, fmt.Errorf("forecast of %s/%s: %w", a.name, a.id, err)
			}
			if err := ctx.Err(); err != nil {
				return nil, err
			}
			f := t.forecast()
			f.Issuer, f.CA, f.InForce = a.name, a.id, s.issuer.IssuingCA() == a.id
			if served := a.served.Load(); served != nil {
				f.Size, f.Entries = served.base.record.Size, served.base.record.Entries
			}
			f.Propose = f.InForce && !f.OpenBy.IsZero() && f.OpenBy.Sub(t.now) <= proposeAhead
			out = append(out, f)
		}
	}
	return out, nil
}

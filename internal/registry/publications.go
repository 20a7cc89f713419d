package registry

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"postern/internal/trust"
)

// publicationAge is how long a CRL is remembered after it has expired: nobody who keeps to the rules has it any more, and people ask later.
const publicationAge = 90 * 24 * time.Hour

// Publication is what is remembered of a CRL, also after another one has taken its place: who fetched it can still be told what it had.
type Publication struct {
	Kind       CRLKind   `json:"kind"`
	Number     uint64    `json:"number"`
	At         time.Time `json:"at"` // when it became the published one
	NextUpdate time.Time `json:"next_update"`
	Covers     Revision  `json:"covers"` // every change up to this revision is in it
}

// Publications lists the CRLs of a CA in order of their numbers, from its beginning or from 90 days after the first has expired.
func (r *Registry) Publications(ctx context.Context, issuer, ca string) ([]Publication, error) {
	return listPaged(ctx, r.store, tablePublications, issuer+"/"+ca+"/", "", unlimited, func(Publication) bool { return true })
}

// published remembers a CRL, and returns when the first change happened that it tells the world of, the zero time for none. known are those before it.
func (t *txn) published(c CRL, known []CRL) (first time.Time, err error) {
	prefix := c.Issuer + "/" + c.CA + "/"
	p := Publication{Kind: c.Kind, Number: c.Number, At: t.now.UTC(), NextUpdate: c.NextUpdate, Covers: c.Covers}
	if err := put(t, tablePublications, prefix+seqKey(c.Number), p); err != nil {
		return first, err
	}
	// A few at each time are enough: one comes, and at most so many go.
	old, err := list[Publication](t, tablePublications, prefix, "", 8, nil)
	if err != nil {
		return first, err
	}
	for _, o := range old {
		if t.now.Sub(o.NextUpdate) > publicationAge {
			t.Delete(tablePublications, prefix+seqKey(o.Number))
		}
	}
	covered := Revision(0)
	for _, k := range known {
		covered = max(covered, k.Covers)
	}
	if len(known) == 0 || c.Covers <= covered {
		return first, nil
	}
	news, err := list[trust.Revocation](t, tableRevocations, prefix, prefix+seqKey(uint64(covered)+1), 1, nil)
	if err == nil && len(news) > 0 && Revision(news[0].Revision) <= c.Covers {
		first = news[0].At
	}
	return first, err
}

// PublishTimes tells how long it took from a change to the CRL that has it, on this node; of several changes in one CRL, the first counts.
func (r *Registry) PublishTimes() *Timing { return r.publishTimes }

// maxStatusScan is how many entries of the history StatusChange looks at, for a certificate that no CRL lists now.
const maxStatusScan = 200_000

// StatusChange returns the last entry of the history from which CRLs are made that is about a certificate: its revocation, hold or release. It is
// trust.ErrNotFound where there is none, or none among the last of them.
func (r *Registry) StatusChange(ctx context.Context, c trust.Certificate) (ev trust.Revocation, err error) {
	prefix := c.Issuer + "/" + c.CA + "/"
	err = r.view(ctx, func(rd Reader) error {
		ev, err = get[trust.Revocation](rd, tableStatus, prefix+string(c.Serial))
		return err
	})
	if !errors.Is(err, trust.ErrNotFound) || !c.ChangedAt.After(c.IssuedAt) {
		return ev, err
	}
	before, suffix, seen, found := "", "/"+string(c.Serial), 0, false
	for more := true; more && !found && seen < maxStatusScan; {
		err := r.view(ctx, func(rd Reader) (bad error) {
			n := 0
			rd.ScanBack(tableRevocations, prefix, before, func(key string, raw []byte) bool {
				before = key
				n++
				if found = strings.HasSuffix(key, suffix); found {
					bad = decode(raw, &ev)
				}
				return !found && n < scanPage
			})
			seen, more = seen+n, n == scanPage
			return bad
		})
		if err != nil {
			return ev, fmt.Errorf("look for the last change of %s: %w", c.Serial, err)
		}
	}
	if !found {
		return ev, fmt.Errorf("change of certificate %s: %w", c.Serial, trust.ErrNotFound)
	}
	return ev, nil
}

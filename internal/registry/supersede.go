package registry

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"postern/internal/trust"
)

// sweeper is who revokes what was superseded.
var sweeper = trust.Principal{Kind: "system", Name: "sweeper"}

// maxSuccessors is how many certificates after a superseded one are looked at for its successor's first use.
const maxSuccessors = 16

// superseded returns when a superseded certificate is to be revoked: UsedGrace after the first of its successors is used, or UnusedGrace after its
// successor was issued, whichever comes first. It counts every successor, since one may be renewed before it was ever used.
func (t *txn) superseded(c trust.Certificate) (at time.Time, err error) {
	s := c.Successor
	for i := 0; i < maxSuccessors && s != ""; i++ {
		next, err := get[trust.Certificate](t, tableCertificates, certKey(c.Issuer, s))
		if err != nil {
			return at, fmt.Errorf("look at the successor: %w", err)
		}
		if i == 0 {
			at = next.IssuedAt.Add(t.renewal.UnusedGrace)
		}
		if used := next.FirstUsed.Add(t.renewal.UsedGrace); !next.FirstUsed.IsZero() && used.Before(at) {
			at = used
		}
		s = next.Successor
	}
	return at, nil
}

// plan notes in c when it will be revoked, the zero time for never, in place of what was planned before. The caller stores c.
func (t *txn) plan(c *trust.Certificate, at time.Time) {
	if !c.RevokeAt.IsZero() {
		t.Delete(tableSuperseded, planKey(*c))
	}
	if c.RevokeAt = at.UTC().Truncate(time.Second); !c.RevokeAt.IsZero() {
		t.Put(tableSuperseded, planKey(*c), nil)
	}
}

// planKey sorts by the time of the revocation.
func planKey(c trust.Certificate) string {
	return seqKey(uint64(max(0, c.RevokeAt.Unix()))) + "/" + certKey(c.Issuer, c.Serial)
}

// replan plans anew for those that c has superseded, once c was used.
func (t *txn) replan(c trust.Certificate) error {
	all, err := t.certificatesOf(c.Device)
	if err != nil {
		return err
	}
	for _, o := range all {
		if o.Status != trust.Superseded || o.Issuer != c.Issuer {
			continue
		}
		at, err := t.superseded(o)
		if err != nil {
			return err
		}
		if at = at.UTC().Truncate(time.Second); at.Equal(o.RevokeAt) {
			continue
		}
		t.plan(&o, at)
		if err := t.putCertificate(o); err != nil {
			return err
		}
	}
	return nil
}

// RevokeSuperseded revokes every superseded certificate whose grace is over at now, with that reason, and returns how many. It works in batches and may be
// called at any time and by several nodes at once; what it has done before an error stays done.
func (r *Registry) RevokeSuperseded(ctx context.Context, now time.Time) (n int, err error) {
	const batch = 100
	over := seqKey(uint64(max(0, now.Unix()))) + "0" // the first key after those of now, which go on with a slash
	for {
		var keys []string
		err := r.view(ctx, func(rd Reader) error {
			rd.Scan(tableSuperseded, "", "", func(key string, _ []byte) bool {
				if key < over {
					keys = append(keys, key)
				}
				return key < over && len(keys) < batch
			})
			return nil
		})
		if err != nil || len(keys) == 0 {
			return n, err
		}
		var done int
		_, err = r.update(ctx, sweeper, ActSweep, "superseded certificates", func(t *txn) error {
			done = 0
			for _, key := range keys {
				revoked, err := t.revokePlanned(key)
				if err != nil {
					return err
				}
				if revoked {
					done++
				}
			}
			return nil
		})
		if err != nil {
			return n, err
		}
		n += done
	}
}

// revokePlanned carries out a plan, unless it is none any more. One that has expired meanwhile needs no revocation.
func (t *txn) revokePlanned(key string) (revoked bool, err error) {
	_, name, _ := strings.Cut(key, "/")
	t.Delete(tableSuperseded, key)
	c, err := get[trust.Certificate](t, tableCertificates, name)
	switch {
	case errors.Is(err, trust.ErrNotFound):
		return false, nil
	case err != nil:
		return false, err
	case c.Status != trust.Superseded || planKey(c) != key:
		return false, nil
	case t.now.After(c.NotAfter):
		t.plan(&c, time.Time{})
		return false, t.putCertificate(c)
	}
	return true, t.revoke(c, trust.Revoked, trust.SupersededReason, "superseded by "+string(c.Successor))
}

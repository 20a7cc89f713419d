package registry

import (
	"context"
	"errors"
	"fmt"
	"time"

	"postern/internal/trust"
)

// Listed returns what a complete CRL of the CA lists now, in order of serial numbers, with the revision it is true for. It is for few.
func (r *Registry) Listed(ctx context.Context, issuer, ca string) (out []trust.Revocation, rev Revision, err error) {
	err = r.view(ctx, func(rd Reader) error {
		rev = rd.Revision()
		out, err = list[trust.Revocation](rd, tableStatus, issuer+"/"+ca+"/", "", unlimited, nil)
		return err
	})
	return out, rev, err
}

// RevokedSince returns every change of revocation status at the CA after a revision, oldest first, with the revision up to which that is all. It costs what has
// changed.
func (r *Registry) RevokedSince(ctx context.Context, issuer, ca string, after Revision) (out []trust.Revocation, rev Revision, err error) {
	prefix := issuer + "/" + ca + "/"
	last := prefix + seqKey(uint64(after)+1)
	out = []trust.Revocation{}
	for more := true; more; {
		err := r.view(ctx, func(rd Reader) error {
			rev = rd.Revision() // keys rise with the revision: what is committed later comes behind the last page
			n := 0
			var bad error
			rd.Scan(tableRevocations, prefix, last, func(key string, raw []byte) bool {
				var v trust.Revocation
				if bad = decode(raw, &v); bad != nil {
					bad = fmt.Errorf("decode %s %s: %w", tableRevocations, key, bad)
					return false
				}
				out, last = append(out, v), key
				n++
				return n < scanPage
			})
			more = n == scanPage
			return bad
		})
		if err != nil {
			return nil, 0, err
		}
	}
	return out, rev, nil
}

// Told is what the world was told of a certificate by a CRL.
type Told struct {
	Serial trust.Serial
	Reason trust.ReasonCode // certificateHold for a hold, removeFromCRL for a release
	At     time.Time
}

// mergeBatch is how many revocations are merged back in one commit.
const mergeBatch = 500

// MergeBack takes up revocations that a CRL of the CA has told the world of, and of which the registry knows nothing: it was restored from a backup of before.
// What was told stays so. A certificate that the registry does not know either is listed all the same, as if it expired at notAfter. A release that was
// told is told again. It returns how many were taken up; doing it again changes no standing. A hold that the registry has ended itself, or a revocation it knows, stays as it is only if it says no less.
func (r *Registry) MergeBack(ctx context.Context, p trust.Principal, issuer, ca string, notAfter time.Time, told []Told) (n int, err error) {
	for len(told) > 0 {
		batch := told[:min(len(told), mergeBatch)]
		told = told[len(batch):]
		merged := 0
		_, err := r.update(ctx, p, ActCRLRestore, issuer+"/"+ca, func(t *txn) error {
			merged = 0
			for _, w := range batch {
				did, err := t.mergeBack(issuer, ca, notAfter, w)
				if err != nil {
					return err
				}
				if did {
					merged++
				}
			}
			if merged == 0 {
				return nil
			}
			t.Touch(KindCRL, issuer+"/"+ca)
			return t.audit(AuditEntry{Action: ActCRLRestore, Object: issuer + "/" + ca,
				Detail: fmt.Sprintf("%d revocations that published CRLs list and the registry had forgotten", merged)})
		})
		if n += merged; err != nil {
			return n, err
		}
	}
	return n, nil
}

func (t *txn) mergeBack(issuer, ca string, notAfter time.Time, w Told) (bool, error) {
	status := trust.Revoked
	if w.Reason == trust.CertificateHold {
		status = trust.Held
	}
	listed := issuer + "/" + ca + "/" + string(w.Serial)
	switch now, err := get[trust.Revocation](t, tableStatus, listed); {
	case err == nil && (status == trust.Held || w.Reason == trust.RemoveFromCRL || now.Reason != trust.CertificateHold):
		return false, nil
	case err != nil && !errors.Is(err, trust.ErrNotFound):
		return false, err
	}
	ev := trust.Revocation{Issuer: issuer, CA: ca, Serial: w.Serial, Reason: w.Reason, At: w.At.UTC(), NotAfter: notAfter.UTC(), Revision: uint64(t.Revision())}
	history := issuer + "/" + ca + "/" + seqKey(ev.Revision) + "/" + string(w.Serial)
	if w.Reason == trust.RemoveFromCRL { // deltas have to go on saying so, and nothing else changes
		return true, put(t, tableRevocations, history, ev)
	}
	c, err := get[trust.Certificate](t, tableCertificates, certKey(issuer, w.Serial))
	switch {
	case errors.Is(err, trust.ErrNotFound):
	case err != nil:
		return false, err
	case c.CA != ca:
		return false, fmt.Errorf("certificate %s is of CA %s, and a CRL of %s lists it: %w", w.Serial, c.CA, ca, trust.ErrConflict)
	default:
		ev.NotAfter = c.NotAfter
		c.Status, c.Reason, c.Comment, c.ChangedAt = status, w.Reason, "published before the registry was restored", t.now.UTC()
		if err := t.putCertificate(c); err != nil {
			return false, err
		}
	}
	if err := put(t, tableStatus, listed, ev); err != nil {
		return false, err
	}
	return true, put(t, tableRevocations, history, ev)
}

// Retell writes what the registry knows of revoked or held certificates into its history again: the next delta CRL says it anew. It is for what a CRL that the
// world has, and the registry had forgotten, does not list.
func (r *Registry) Retell(ctx context.Context, p trust.Principal, issuer, ca string, serials []trust.Serial) error {
	for len(serials) > 0 {
		batch := serials[:min(len(serials), mergeBatch)]
		serials = serials[len(batch):]
		_, err := r.update(ctx, p, ActCRLRestore, issuer+"/"+ca, func(t *txn) error {
			for _, s := range batch {
				ev, err := get[trust.Revocation](t, tableStatus, issuer+"/"+ca+"/"+string(s))
				if errors.Is(err, trust.ErrNotFound) {
					continue // released meanwhile, which is in the history
				}
				if err != nil {
					return err
				}
				ev.Revision = uint64(t.Revision())
				if err := put(t, tableRevocations, issuer+"/"+ca+"/"+seqKey(ev.Revision)+"/"+string(s), ev); err != nil {
					return err
				}
			}
			t.Touch(KindCRL, issuer+"/"+ca)
			return t.audit(AuditEntry{Action: ActCRLRestore, Object: issuer + "/" + ca, Detail: fmt.Sprintf("%d revocations are published anew", len(batch))})
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// RevocationsOf returns what a complete CRL of the CA has to list of certificates, of those that are revoked or held.
func (r *Registry) RevocationsOf(ctx context.Context, issuer, ca string, serials []trust.Serial) (map[trust.Serial]trust.Revocation, error) {
	out := map[trust.Serial]trust.Revocation{}
	for len(serials) > 0 {
		batch := serials[:min(len(serials), scanPage)]
		serials = serials[len(batch):]
		err := r.view(ctx, func(rd Reader) error {
			for _, s := range batch {
				ev, err := get[trust.Revocation](rd, tableStatus, issuer+"/"+ca+"/"+string(s))
				switch {
				case err == nil:
					out[s] = ev
				case !errors.Is(err, trust.ErrNotFound):
					return err
				}
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	return out, nil
}

// challengesVoid holds the revision up to which challenges do not count any more.
const challengesVoid = "challenges/void"

// VoidChallenges makes every challenge void that was made until now: after a restore from a backup, one that was spent since may look as if it had not been.
func (r *Registry) VoidChallenges(ctx context.Context, p trust.Principal, why string) error {
	_, err := r.update(ctx, p, ActCRLRestore, "challenges", func(t *txn) error {
		t.Put(tableMeta, challengesVoid, []byte(seqKey(uint64(t.Revision()))))
		t.Touch(KindChallenge, "*")
		return t.audit(AuditEntry{Action: ActCRLRestore, Object: "challenges", Detail: "outstanding challenges are void: " + why})
	})
	return err
}

package registry

import (
	"context"
	"errors"
	"fmt"

	"postern/internal/trust"
)

// CommitPending makes the certificate for a pending request real, with the rules of CommitEnrolment: everything that authorised it is checked again, but
// for the expiry of its challenge, which was reserved in time. seen is the request as the door decided about it; if an administrator settled it
// otherwise meanwhile, that is trust.ErrForbidden. If it was issued meanwhile, that certificate is returned. counted is Enrolment.Counted.
func (r *Registry) CommitPending(ctx context.Context, by trust.Principal, seen Pending, c trust.Certificate, owed *Confirmation, counted Revision) (trust.Certificate, error) {
	action := ActEnrol
	if c.Evidence.Kind == "renewal" {
		action = ActRenew
	}
	out := c
	_, err := r.update(ctx, by, action, string(c.Device), func(t *txn) error {
		out = c
		p, err := readPending(t, seen.ID, t.now)
		if err != nil {
			return err
		}
		if p.State == PendingIssued {
			if out, err = get[trust.Certificate](t, tableCertificates, certKey(p.Issuer, p.Serial)); err != nil {
				return err
			}
			out, err = withDER(t, out)
			return err
		}
		if p.State != seen.State || !p.Open() {
			return fmt.Errorf("pending request is %s: %w", p.State, trust.ErrForbidden)
		}
		d, err := t.enrolable(c)
		if err != nil {
			return err
		}
		if err := t.stillCounted(d, counted); err != nil {
			return err
		}
		if p.Device != c.Device || p.Owner != c.Owner || p.Issuer != c.Issuer || p.Evidence.Kind != c.Evidence.Kind {
			return fmt.Errorf("pending request is for another certificate: %w", trust.ErrForbidden)
		}
		if err := t.authorizePending(p, c, d); err != nil {
			return err
		}
		return t.issuePending(p, c, d, action, owed)
	})
	if err != nil {
		return trust.Certificate{}, err
	}
	return out, nil
}

// issuePending stores the certificate, under the transaction of the request.
func (t *txn) issuePending(p Pending, c trust.Certificate, d trust.Device, action string, owed *Confirmation) error {
	x := Transaction{Issuer: p.Issuer, ID: p.TransactionID, MessageType: "CertPoll"}
	if err := t.issue(x, c, d, action); err != nil {
		return err
	}
	// Its transaction is known by key alone, without the challenge. The same request, sent again, is answered with the certificate too.
	t.Delete(tableTransactions, x.key())
	if err := put(t, tableTransactions, p.Transaction, transactionRecord{certKey(c.Issuer, c.Serial), t.now.UTC()}); err != nil {
		return err
	}
	if owed != nil {
		if err := t.owe(*owed, c, p.Transaction, p.ID); err != nil {
			return err
		}
	}
	p.State, p.Serial, p.IssuedAt = PendingIssued, c.Serial, t.now.UTC()
	return t.putPending(p, AuditEntry{Action: ActPend, Detail: "request " + p.ID + " led to certificate " + string(c.Serial)})
}

// authorizePending checks what authorised the request, and uses it up.
func (t *txn) authorizePending(p Pending, c trust.Certificate, d trust.Device) error {
	switch p.Evidence.Kind {
	case EvidenceChallenge, EvidenceNDES:
		ch, err := get[Challenge](t, tableChallenges, p.Challenge)
		if errors.Is(err, trust.ErrNotFound) {
			return ErrChallengeUnknown
		} else if err != nil {
			return err
		}
		if ch.Pending != p.ID || ch.Device != c.Device || !ch.fits(c.Issuer, c.Device, p.Evidence.Kind) {
			return ErrChallengeUnknown
		}
		// Reserved before it expired.
		was := ch
		was.Pending, was.Expires = "", p.Expires
		if err := usable(t, was, d, t.now); err != nil {
			return err
		}
		ch.Spent, ch.SpentAt = c.Serial, t.now.UTC()
		t.Delete(tableMeta, unboundKey(c.Issuer, p.Challenge))
		return put(t, tableChallenges, p.Challenge, ch)
	case "validated":
		return nil // the validator was asked when the request came, and is told of the certificate
	case "renewal":
		if c.Evidence.Renews != p.Evidence.Renews {
			return fmt.Errorf("pending request renews another certificate: %w", trust.ErrForbidden)
		}
		return t.renewable(c)
	}
	return fmt.Errorf("pending request of kind %q: %w", p.Evidence.Kind, trust.ErrForbidden)
}

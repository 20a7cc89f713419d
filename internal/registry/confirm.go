package registry

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"postern/internal/trust"
)

// Confirmation is a certificate of which its validator has to be told before anybody gets it. It is stored in the commit that makes the certificate, so
// that a crash between the two forgets nothing.
type Confirmation struct {
	Submission  trust.Submission `json:"submission"` // without the challenge
	Validator   string           `json:"validator"`
	Issuer      string           `json:"issuer"`
	Serial      trust.Serial     `json:"certificate"`
	At          time.Time        `json:"at"`
	Transaction string           `json:"transaction"`
	Pending     string           `json:"pending,omitempty"`
}

// owe stores what the validator has to be told.
func (t *txn) owe(o Confirmation, c trust.Certificate, transaction, pending string) error {
	o.Submission.Challenge = ""
	o.Issuer, o.Serial, o.At, o.Transaction, o.Pending = c.Issuer, c.Serial, t.now.UTC(), transaction, pending
	return put(t, tableConfirm, certKey(c.Issuer, c.Serial), o)
}

// CommitValidated is CommitEnrolment for a certificate whose challenge a validator said is genuine. The certificate is owed to the validator: Confirm or
// Withdraw follows.
func (r *Registry) CommitValidated(ctx context.Context, by trust.Principal, e Enrolment, owed Confirmation) (trust.Certificate, error) {
	c := e.Certificate
	_, err := r.update(ctx, by, ActEnrol, string(c.Device), func(t *txn) error {
		c = e.Certificate
		if c.Evidence.Kind != "validated" || c.Evidence.Validator == "" {
			return fmt.Errorf("enrolment without a validator: %w", trust.ErrForbidden)
		}
		d, earlier, err := t.begin(e)
		if err != nil {
			return err
		}
		if earlier != nil {
			c = *earlier
			return nil
		}
		if err := t.owe(owed, c, e.Transaction.key(), ""); err != nil {
			return err
		}
		return t.issue(e.Transaction, c, d, ActEnrol)
	})
	if err != nil {
		return trust.Certificate{}, err
	}
	return c, nil
}

// Unconfirmed returns what the validator of a certificate has yet to be told, or trust.ErrNotFound.
func (r *Registry) Unconfirmed(ctx context.Context, issuer string, s trust.Serial) (o Confirmation, err error) {
	err = r.view(ctx, func(rd Reader) error {
		o, err = get[Confirmation](rd, tableConfirm, certKey(issuer, s))
		return err
	})
	return o, err
}

// UnconfirmedBefore lists up to limit certificates that have been owed since before that time.
func (r *Registry) UnconfirmedBefore(ctx context.Context, at time.Time, limit int) (out []Confirmation, err error) {
	err = r.view(ctx, func(rd Reader) error {
		out, err = list(rd, tableConfirm, "", "", pageLimit(limit), func(o Confirmation) bool { return o.At.Before(at) })
		return err
	})
	return out, err
}

// Confirm settles that the validator knows of the certificate. One that was withdrawn meanwhile is trust.ErrConflict.
func (r *Registry) Confirm(ctx context.Context, by trust.Principal, issuer string, s trust.Serial) error {
	key := certKey(issuer, s)
	_, err := r.update(ctx, by, ActConfirm, string(s), func(t *txn) error {
		o, err := get[Confirmation](t, tableConfirm, key)
		if errors.Is(err, trust.ErrNotFound) {
			return t.unlessWithdrawn(key)
		} else if err != nil {
			return err
		}
		t.Delete(tableConfirm, key)
		t.Touch(KindCertificate, key)
		return t.audit(AuditEntry{Action: ActConfirm, Object: string(s), Detail: o.Validator + " was told"})
	})
	return err
}

func (t *txn) unlessWithdrawn(key string) error {
	c, err := get[trust.Certificate](t, tableCertificates, key)
	if err != nil {
		return err
	}
	if c.Status == trust.Revoked {
		return fmt.Errorf("certificate is revoked: %w", trust.ErrConflict)
	}
	return nil
}

// Withdraw takes back a certificate that was committed and never handed out, because its validator could not be told: it is revoked
// (cessationOfOperation), what it superseded is good again, and the same request may be tried anew. Nobody is answered with it any more. One that was
// confirmed meanwhile is trust.ErrConflict; one that is withdrawn already is no error.
func (r *Registry) Withdraw(ctx context.Context, by trust.Principal, issuer string, s trust.Serial, why string) error {
	key := certKey(issuer, s)
	_, err := r.update(ctx, by, ActWithdraw, string(s), func(t *txn) error {
		o, err := get[Confirmation](t, tableConfirm, key)
		if errors.Is(err, trust.ErrNotFound) {
			if t.unlessWithdrawn(key) == nil {
				return fmt.Errorf("certificate was confirmed: %w", trust.ErrConflict)
			}
			return nil
		} else if err != nil {
			return err
		}
		c, err := get[trust.Certificate](t, tableCertificates, key)
		if err != nil {
			return err
		}
		t.Delete(tableConfirm, key)
		t.Delete(tableTransactions, o.Transaction)
		if c.Status != trust.Revoked {
			if err := t.revoke(c, trust.Revoked, trust.CessationOfOperation, why); err != nil {
				return err
			}
		}
		if err := t.restore(c); err != nil {
			return err
		}
		return t.reopen(o)
	})
	return err
}

// restore makes the certificates that c alone superseded good again: nobody has ever had c.
func (t *txn) restore(c trust.Certificate) error {
	all, err := t.certificatesOf(c.Device)
	if err != nil {
		return err
	}
	for _, old := range slices.DeleteFunc(all, func(o trust.Certificate) bool { return o.Successor != c.Serial || o.Issuer != c.Issuer }) {
		old.Successor = ""
		if old.Status == trust.Superseded {
			old.Status, old.ChangedAt = trust.Good, t.now.UTC()
			t.plan(&old, time.Time{})
		}
		if err := t.putCertificate(old); err != nil {
			return err
		}
		if err := t.audit(AuditEntry{Action: ActWithdraw, Object: string(old.Serial), Detail: "its successor was withdrawn", After: snapshot(old)}); err != nil {
			return err
		}
	}
	return nil
}

// reopen lets the pending request that led to the certificate be polled for again.
func (t *txn) reopen(o Confirmation) error {
	if o.Pending == "" {
		return nil
	}
	p, err := get[Pending](t, tablePending, pendingID(o.Pending))
	if errors.Is(err, trust.ErrNotFound) {
		return nil
	} else if err != nil {
		return err
	}
	p.State, p.Serial, p.IssuedAt = PendingWaiting, "", time.Time{}
	if p.By != nil {
		p.State = PendingApproved
	}
	return t.putPending(p, AuditEntry{Action: ActWithdraw, Detail: "request " + p.ID + " is open again"})
}

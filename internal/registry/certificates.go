package registry

import (
	"context"
	"fmt"
	"strings"
	"time"

	"postern/internal/trust"
)

// putCertificate stores and touches a certificate. Only a superseded one is planned to be revoked.
func (t *txn) putCertificate(c trust.Certificate) error {
	if c.Status != trust.Superseded {
		t.plan(&c, time.Time{})
	}
	key := certKey(c.Issuer, c.Serial)
	t.Touch(KindCertificate, key)
	return put(t, tableCertificates, key, c)
}

// Certificate returns one certificate with its bytes. With an empty issuer every issuer is asked; a serial number that two of them have is a conflict.
func (r *Registry) Certificate(ctx context.Context, issuer string, s trust.Serial) (c trust.Certificate, err error) {
	err = r.view(ctx, func(rd Reader) error {
		if c, err = findCertificate(rd, issuer, s); err != nil {
			return err
		}
		c, err = withDER(rd, c)
		return err
	})
	return c, err
}

func findCertificate(rd Reader, issuer string, s trust.Serial) (trust.Certificate, error) {
	if issuer != "" {
		return get[trust.Certificate](rd, tableCertificates, certKey(issuer, s))
	}
	cas, err := list[CA](rd, tableCAs, "", "", MaxLimit, nil)
	if err != nil {
		return trust.Certificate{}, err
	}
	found := ""
	for _, ca := range cas {
		if _, ok := rd.Get(tableCertificates, certKey(ca.Issuer, s)); ok && found != ca.Issuer {
			if found != "" {
				return trust.Certificate{}, fmt.Errorf("serial number %s was issued by %s and by %s: name the issuer: %w", s, found, ca.Issuer, trust.ErrConflict)
			}
			found = ca.Issuer
		}
	}
	if found == "" {
		return trust.Certificate{}, fmt.Errorf("certificate %q: %w", s, trust.ErrNotFound)
	}
	return get[trust.Certificate](rd, tableCertificates, certKey(found, s))
}

// CertificateFilter selects certificates. Zero fields do not filter.
type CertificateFilter struct {
	Issuer, Owner string
	Device        trust.DeviceID
	Status        trust.CertStatus
	After         string // "issuer/serial" of the last certificate of the previous page
	Limit         int
}

// Certificates lists certificates by issuer and serial number, without their bytes.
func (r *Registry) Certificates(ctx context.Context, f CertificateFilter) (out []trust.Certificate, err error) {
	keep := func(c trust.Certificate) bool {
		return (f.Issuer == "" || c.Issuer == f.Issuer) && (f.Owner == "" || strings.EqualFold(c.Owner, f.Owner)) &&
			(f.Device == "" || c.Device == f.Device) && (f.Status == "" || c.Status == f.Status)
	}
	limit := pageLimit(f.Limit)
	if f.Device == "" {
		prefix := ""
		if f.Issuer != "" {
			prefix = f.Issuer + "/"
		}
		return listPaged(ctx, r.store, tableCertificates, prefix, f.After, limit, keep)
	}
	err = r.view(ctx, func(rd Reader) error {
		all, err := certificatesOf(rd, f.Device)
		out = []trust.Certificate{}
		for _, c := range all {
			if keep(c) && certKey(c.Issuer, c.Serial) > f.After && len(out) < limit {
				out = append(out, c)
			}
		}
		return err
	})
	return out, err
}

// Revoke revokes a certificate for good, for one of the reasons that trust.RevocationReason accepts, and with it those of the device that it has superseded.
// Revoking it again changes nothing and is no error. More than RevocationRules let one person revoke is a conflict.
func (r *Registry) Revoke(ctx context.Context, p trust.Principal, issuer string, s trust.Serial, reason trust.ReasonCode, comment string) (Revision, error) {
	reason, err := trust.RevocationReason(string(reason))
	if err != nil {
		return 0, err
	}
	return r.changeStatus(ctx, p, ActRevoke, issuer, s, func(t *txn, c trust.Certificate) error {
		if c.Status == trust.Revoked {
			return nil
		}
		if err := r.spendOne(t, c); err != nil {
			return err
		}
		if c.Status == trust.Superseded {
			return t.revoke(c, trust.Revoked, reason, comment)
		}
		if err := t.revoke(c, trust.Revoked, reason, comment); err != nil {
			return err
		}
		return t.revokeSuperseded(c, reason)
	})
}

// revokeSuperseded takes with a revoked certificate those that are accepted for a grace only because of it: whoever has lost the one has lost the others.
func (t *txn) revokeSuperseded(by trust.Certificate, reason trust.ReasonCode) error {
	all, err := t.certificatesOf(by.Device)
	if err != nil {
		return err
	}
	for _, o := range all {
		if o.Issuer == by.Issuer && o.Status == trust.Superseded {
			if err := t.revoke(o, trust.Revoked, reason, "superseded by "+string(by.Serial)+", which is revoked"); err != nil {
				return err
			}
		}
	}
	return nil
}

// Hold suspends a certificate and publishes that (certificateHold). Holding a held one changes nothing.
func (r *Registry) Hold(ctx context.Context, p trust.Principal, issuer string, s trust.Serial, comment string) (Revision, error) {
	return r.changeStatus(ctx, p, ActHold, issuer, s, func(t *txn, c trust.Certificate) error {
		switch c.Status {
		case trust.Held:
			return nil
		case trust.Revoked:
			return fmt.Errorf("certificate is revoked for good: %w", trust.ErrConflict)
		}
		return t.revoke(c, trust.Held, trust.CertificateHold, comment)
	})
}

// Release ends a hold (removeFromCRL): the same certificate works again. Releasing one that is not held is a conflict, unless it is good.
func (r *Registry) Release(ctx context.Context, p trust.Principal, issuer string, s trust.Serial, comment string) (Revision, error) {
	return r.changeStatus(ctx, p, ActRelease, issuer, s, func(t *txn, c trust.Certificate) error {
		switch c.Status {
		case trust.Good:
			return nil
		case trust.Held:
			return t.revoke(c, trust.Good, trust.RemoveFromCRL, comment)
		}
		return fmt.Errorf("certificate is %s, not held: %w", c.Status, trust.ErrConflict)
	})
}

func (r *Registry) changeStatus(ctx context.Context, p trust.Principal, action, issuer string, s trust.Serial, fn func(*txn, trust.Certificate) error) (Revision, error) {
	return r.update(ctx, p, action, string(s), func(t *txn) error {
		c, err := findCertificate(t, issuer, s)
		if err != nil {
			return err
		}
		return fn(t, c)
	})
}

// revoke moves a certificate to a status, writes the history from which CRLs are made, and audits. RemoveFromCRL is a release.
func (t *txn) revoke(c trust.Certificate, to trust.CertStatus, reason trust.ReasonCode, comment string) error {
	before := c
	action := map[trust.ReasonCode]string{trust.CertificateHold: ActHold, trust.RemoveFromCRL: ActRelease}[reason]
	if action == "" {
		action = ActRevoke
	}
	c.Status, c.Reason, c.Comment, c.ChangedAt = to, reason, comment, t.now.UTC()
	ev := trust.Revocation{Issuer: c.Issuer, CA: c.CA, Serial: c.Serial, Reason: reason, At: t.now.UTC(), NotAfter: c.NotAfter, Revision: uint64(t.Revision())}
	listed := c.Issuer + "/" + c.CA + "/" + string(c.Serial)
	if reason == trust.RemoveFromCRL {
		c.Reason = ""
		if c.Successor != "" {
			c.Status = trust.Superseded
			at, err := t.superseded(c)
			if err != nil {
				return err
			}
			t.plan(&c, at)
		}
		t.Delete(tableStatus, listed)
	} else if err := put(t, tableStatus, listed, ev); err != nil {
		return err
	}
	if err := put(t, tableRevocations, c.Issuer+"/"+c.CA+"/"+seqKey(ev.Revision)+"/"+string(c.Serial), ev); err != nil {
		return err
	}
	if err := t.putCertificate(c); err != nil {
		return err
	}
	return t.audit(AuditEntry{Action: action, Object: string(c.Serial), Detail: comment, Before: snapshot(before), After: snapshot(c)})
}

// revokeAll revokes every certificate of a device that is not revoked yet.
func (t *txn) revokeAll(id trust.DeviceID, reason trust.ReasonCode, comment string) error {
	all, err := t.certificatesOf(id)
	if err != nil {
		return err
	}
	for _, c := range all {
		if c.Status != trust.Revoked {
			if err := t.revoke(c, trust.Revoked, reason, comment); err != nil {
				return err
			}
		}
	}
	return nil
}

// CertificateUsed remembers when a certificate was first seen on a connection: the grace of the one it superseded counts from there. Later calls change nothing.
func (r *Registry) CertificateUsed(ctx context.Context, p trust.Principal, issuer string, s trust.Serial, at time.Time) error {
	_, err := r.update(ctx, p, ActUsed, string(s), func(t *txn) error {
		c, err := get[trust.Certificate](t, tableCertificates, certKey(issuer, s))
		if err != nil || !c.FirstUsed.IsZero() {
			return err
		}
		c.FirstUsed = at.UTC()
		if err := t.putCertificate(c); err != nil {
			return err
		}
		return t.replan(c)
	})
	return err
}

package registry

import (
	"context"
	"crypto"
	"crypto/x509"
	"errors"
	"fmt"
	"time"

	"postern/internal/trust"
)

// RenewalRules are what a certificate has to meet to be renewed without a challenge, and how long it lives on once it was. Negative values count as zero.
type RenewalRules struct {
	MaxRenewals int           // so often in a row; then a challenge is asked for again; 0: always without one
	Window      time.Duration // before notAfter, in which a certificate may renew; 0: at any time
	MaxSilence  time.Duration // between the device's last report and its MDM's last successful sync; 0: any
	UsedGrace   time.Duration // of a superseded certificate once its successor is used; 0: DefaultUsedGrace
	UnusedGrace time.Duration // of a superseded certificate after its successor was issued, used or not; 0: DefaultUnusedGrace
}

// How long a superseded certificate lives on. DefaultUsedGrace is supersede_grace of the access policy.
const (
	DefaultUsedGrace   = 72 * time.Hour
	DefaultUnusedGrace = 30 * 24 * time.Hour
)

// Why a certificate does not renew. Each wraps trust.ErrForbidden.
var (
	ErrRenewedBefore  = fmt.Errorf("certificate was renewed before: %w", trust.ErrForbidden)
	ErrKeyCopied      = fmt.Errorf("certificate was renewed before with another key, so somebody has a copy of its key: device and certificates are quarantined: %w", trust.ErrForbidden)
	ErrRenewalEarly   = fmt.Errorf("certificate may not be renewed yet: %w", trust.ErrForbidden)
	ErrChallengeAgain = fmt.Errorf("certificate was renewed so often that a challenge is required again: %w", trust.ErrForbidden)
	ErrDeviceSilent   = fmt.Errorf("device has not reported to its MDM for too long: %w", trust.ErrForbidden)
)

// WithRenewal returns the registry with these rules for renewals; those of New let every certificate renew at any time. Grace that was counted from before is not changed.
func (r *Registry) WithRenewal(rules RenewalRules) *Registry {
	c := *r
	c.renewal = rules.complete()
	return &c
}

func (l RenewalRules) complete() RenewalRules {
	if l.UsedGrace <= 0 {
		l.UsedGrace = DefaultUsedGrace
	}
	if l.UnusedGrace <= 0 {
		l.UnusedGrace = DefaultUnusedGrace
	}
	return l
}

// MayRenew says whether a certificate may be renewed by a message that it has signed, for a key. A door asks before it signs anything; CommitEnrolment checks
// again. earlier is the certificate, with its bytes, that the same key was given within RetryWindow: it is the answer then, and nothing is to be signed.
//
// Each certificate renews once. If it was renewed before with another key, two parties hold its key, and nobody can tell which of them is the device: the
// device is quarantined, its certificates are held, both is audited, and the error is ErrKeyCopied.
func (r *Registry) MayRenew(ctx context.Context, p trust.Principal, issuer string, s trust.Serial, key crypto.PublicKey) (earlier *trust.Certificate, err error) {
	if !permitted(p, ActRenew) {
		return nil, fmt.Errorf("%s %s: role %q may not do this: %w", ActRenew, s, p.Role, trust.ErrForbidden)
	}
	ask := func(rd Reader) (q renewal, err error) {
		q.key = func() (crypto.PublicKey, error) { return key, nil }
		if q.old, err = get[trust.Certificate](rd, tableCertificates, certKey(issuer, s)); err != nil {
			return q, err
		}
		if q.device, err = get[trust.Device](rd, tableDevices, string(q.old.Device)); err != nil {
			return q, err
		}
		earlier, err = q.judge(rd, r.renewal, r.now())
		return q, err
	}
	err = r.view(ctx, func(rd Reader) error { _, err := ask(rd); return err })
	if !errors.Is(err, ErrKeyCopied) {
		return earlier, err
	}
	_, err = r.update(ctx, p, ActRenew, string(s), func(t *txn) error {
		q, err := ask(t)
		if errors.Is(err, ErrKeyCopied) {
			return t.quarantine(q.device, s)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return nil, ErrKeyCopied
}

// renewal is a request to renew a certificate of a device for a key.
type renewal struct {
	old    trust.Certificate
	device trust.Device
	key    func() (crypto.PublicKey, error)
}

// judge applies the rules. ErrKeyCopied calls for a quarantine.
func (q renewal) judge(rd Reader, rules RenewalRules, now time.Time) (earlier *trust.Certificate, err error) {
	old := q.old
	switch {
	case old.Device != q.device.ID || old.Owner != q.device.Owner || old.Issuer != q.device.Issuer:
		return nil, fmt.Errorf("certificate to be renewed is not of this device and owner: %w", trust.ErrForbidden)
	case now.After(old.NotAfter):
		return nil, fmt.Errorf("certificate to be renewed has expired: %w", trust.ErrForbidden)
	case old.Status == trust.Superseded:
		return q.again(rd, now)
	case old.Status != trust.Good:
		return nil, fmt.Errorf("certificate to be renewed is %s: %w", old.Status, trust.ErrForbidden)
	case rules.Window > 0 && now.Before(old.NotAfter.Add(-rules.Window)):
		return nil, ErrRenewalEarly
	case rules.MaxRenewals > 0 && old.Renewals >= rules.MaxRenewals:
		return nil, ErrChallengeAgain
	case rules.MaxSilence > 0 && !q.device.SourceSync.IsZero() && q.device.SourceSync.Sub(q.device.Updated) > rules.MaxSilence:
		return nil, ErrDeviceSilent
	}
	return nil, nil
}

// again judges a renewal of a superseded certificate.
func (q renewal) again(rd Reader, now time.Time) (*trust.Certificate, error) {
	next, err := get[trust.Certificate](rd, tableCertificates, certKey(q.old.Issuer, q.old.Successor))
	if err != nil {
		return nil, fmt.Errorf("look at the successor: %w", err)
	}
	if next.Evidence.Kind != "renewal" || next.Evidence.Renews != q.old.Serial {
		return nil, fmt.Errorf("certificate to be renewed is superseded by a new enrolment: %w", trust.ErrForbidden)
	}
	if next, err = withDER(rd, next); err != nil {
		return nil, err
	}
	same, err := q.sameKey(next)
	switch {
	case err != nil:
		return nil, err
	case !same:
		return nil, ErrKeyCopied
	case next.Status != trust.Good || now.Sub(next.IssuedAt) > RetryWindow:
		return nil, ErrRenewedBefore
	}
	return &next, nil
}

// sameKey reports whether the request is for the key of a certificate.
func (q renewal) sameKey(c trust.Certificate) (bool, error) {
	key, err := q.key()
	if err != nil {
		return false, err
	}
	known, err := keyOf(c)
	if err != nil {
		return false, err
	}
	k, ok := known.(interface{ Equal(crypto.PublicKey) bool })
	return ok && k.Equal(key), nil
}

func keyOf(c trust.Certificate) (crypto.PublicKey, error) {
	cert, err := x509.ParseCertificate(c.DER)
	if err != nil {
		return nil, fmt.Errorf("read key of certificate %s: %w", c.Serial, err)
	}
	return cert.PublicKey, nil
}

// quarantine keeps out a device of which a key was copied, and whoever has the copy: every certificate of it that works is held, for the edge and for
// everybody who reads CRLs, until an administrator has settled the device and released or revoked them.
func (t *txn) quarantine(d trust.Device, renewed trust.Serial) error {
	const detail = "second renewal with another key: somebody has a copy of the key"
	all, err := t.certificatesOf(d.ID)
	if err != nil {
		return err
	}
	for _, c := range all {
		if c.Status != trust.Good && c.Status != trust.Superseded || t.now.After(c.NotAfter) {
			continue
		}
		if err := t.revoke(c, trust.Held, trust.CertificateHold, detail); err != nil {
			return err
		}
	}
	if d.State == trust.Pending || d.State == trust.Active {
		before := snapshot(d)
		d.State, d.Updated = trust.Quarantined, t.now.UTC()
		if err := t.putDevice(d, AuditEntry{Action: ActDeviceState, Detail: detail, Before: before, After: snapshot(d)}); err != nil {
			return err
		}
	}
	return t.audit(AuditEntry{Action: ActRenew, Object: string(d.ID), Outcome: Refused, Detail: "certificate " + string(renewed) + ": " + detail})
}

package registry

import (
	"context"
	"crypto"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"time"

	"postern/internal/trust"
)

// RetryWindow is how long a repeated SCEP request gets the certificate already issued. RFC 8894, section 4.4 lets a client repeat itself when a
// reply was lost; clients also reuse a transactionID to renew, much later and with another message.
const RetryWindow = time.Hour

// Transaction is what makes two SCEP requests the same one. All fields count.
type Transaction struct {
	Issuer, ID, MessageType string
	Signer                  [32]byte // SHA-256 of the signer certificate
	CSR                     [32]byte // SHA-256 of the CSR
	Challenge               string   // the secret; only a hash is stored
}

func (x Transaction) key() string {
	h := sha256.New()
	for _, s := range []string{x.Issuer, x.ID, x.MessageType, string(x.Signer[:]), string(x.CSR[:]), hashSecret(x.Challenge)} {
		fmt.Fprintf(h, "%d:%s", len(s), s)
	}
	return hex.EncodeToString(h.Sum(nil))
}

// transactionRecord is where a transaction led.
type transactionRecord struct {
	Certificate string    `json:"certificate"` // key in the table of certificates
	At          time.Time `json:"at"`
}

// Issued returns the certificate that the same request was answered with within RetryWindow, or trust.ErrNotFound.
func (r *Registry) Issued(ctx context.Context, x Transaction) (c trust.Certificate, err error) {
	err = r.view(ctx, func(rd Reader) error {
		c, err = issued(rd, x, r.now())
		return err
	})
	return c, err
}

func issued(rd Reader, x Transaction, now time.Time) (trust.Certificate, error) {
	rec, err := get[transactionRecord](rd, tableTransactions, x.key())
	if err != nil {
		return trust.Certificate{}, err
	}
	if now.Sub(rec.At) > RetryWindow {
		return trust.Certificate{}, fmt.Errorf("transaction is over: %w", trust.ErrNotFound)
	}
	c, err := get[trust.Certificate](rd, tableCertificates, rec.Certificate)
	if err != nil {
		return c, err
	}
	return withDER(rd, c)
}

// Enrolment is a certificate that was signed and not yet handed out.
type Enrolment struct {
	Transaction Transaction
	Certificate trust.Certificate // Evidence says what authorised it
	Challenge   string            // the secret to be spent; empty for a renewal
	Counted     Revision          // that of the index before the owner's devices were counted in it; 0 where their number does not matter
}

// CommitEnrolment makes a signed certificate real: in one commit the challenge is spent or the renewed certificate superseded, the certificate is stored,
// the device active, and all of it audited. If the same request was committed meanwhile, that certificate is returned instead, and the one given is
// nobody's. Everything that authorised the enrolment is checked again here; if it depends on the number of the owner's devices, and another one has enrolled
// since they were counted, the error is a *FleetMoved.
func (r *Registry) CommitEnrolment(ctx context.Context, p trust.Principal, e Enrolment) (trust.Certificate, error) {
	action := ActEnrol
	if e.Certificate.Evidence.Kind == "renewal" {
		action = ActRenew
	}
	c, copied := e.Certificate, false // copied: the transaction is a quarantine
	_, err := r.update(ctx, p, action, string(c.Device), func(t *txn) error {
		c, copied = e.Certificate, false
		d, earlier, err := t.begin(e)
		if err != nil {
			return err
		}
		if earlier != nil {
			c = *earlier
			return nil
		}
		if action == ActEnrol {
			if err := t.spend(e.Challenge, c, d); err != nil {
				return err
			}
			return t.issue(e.Transaction, c, d, action)
		}
		switch same, err := t.judge(c, d); {
		case errors.Is(err, ErrKeyCopied):
			copied = true
			return t.quarantine(d, c.Evidence.Renews)
		case err != nil:
			return err
		case same != nil:
			c = *same
			return nil
		}
		return t.issue(e.Transaction, c, d, action)
	})
	if err != nil {
		return trust.Certificate{}, err
	}
	if copied {
		return trust.Certificate{}, fmt.Errorf("%s %s: %w", action, c.Device, ErrKeyCopied)
	}
	return c, nil
}

// begin returns the device of an enrolment, if it may get the certificate; or the certificate that the same request was given meanwhile.
func (t *txn) begin(e Enrolment) (d trust.Device, earlier *trust.Certificate, err error) {
	c, err := issued(t, e.Transaction, t.now)
	if err == nil {
		return d, &c, nil
	}
	if !errors.Is(err, trust.ErrNotFound) {
		return d, nil, err
	}
	if d, err = t.enrolable(e.Certificate); err == nil {
		err = t.stillCounted(d, e.Counted)
	}
	return d, nil, err
}

// enrolable returns the device of c if it may get a certificate for the owner in c.
func (t *txn) enrolable(c trust.Certificate) (trust.Device, error) {
	d, err := get[trust.Device](t, tableDevices, string(c.Device))
	if err != nil {
		return d, err
	}
	if d.State == trust.Retired || d.State == trust.Blocked || d.State == trust.Quarantined {
		return d, fmt.Errorf("device is %s: %w", d.State, trust.ErrForbidden)
	}
	if err := suspended(t, d, trust.ErrForbidden); err != nil {
		return d, err
	}
	if d.Owner != c.Owner || d.Issuer != c.Issuer {
		return d, fmt.Errorf("device changed hands while its certificate was signed: %w", trust.ErrForbidden)
	}
	return d, nil
}

// spend uses the challenge up for c.
func (t *txn) spend(secret string, c trust.Certificate, d trust.Device) error {
	hash := hashSecret(secret)
	ch, err := get[Challenge](t, tableChallenges, hash)
	if errors.Is(err, trust.ErrNotFound) {
		return ErrChallengeUnknown
	} else if err != nil {
		return err
	}
	if !ch.fits(c.Issuer, c.Device, c.Evidence.Kind) {
		return ErrChallengeUnknown
	}
	if err := usable(t, ch, d, t.now); err != nil {
		return err
	}
	ch.bind(d)
	ch.Spent, ch.SpentAt = c.Serial, t.now.UTC()
	t.Delete(tableMeta, unboundKey(c.Issuer, hash))
	return put(t, tableChallenges, hash, ch)
}

// judge checks that the certificate renewed by c may be. same is the certificate that the key of c was given already; ErrKeyCopied calls for a quarantine.
func (t *txn) judge(c trust.Certificate, d trust.Device) (same *trust.Certificate, err error) {
	old, err := get[trust.Certificate](t, tableCertificates, certKey(c.Issuer, c.Evidence.Renews))
	if err != nil {
		return nil, err
	}
	return renewal{old, d, func() (crypto.PublicKey, error) { return keyOf(c) }}.judge(t, t.renewal, t.now)
}

// renewable checks that the certificate renewed by c may be, where a second renewal is refused and no sign of a copied key: the request is an old one that
// was pending.
func (t *txn) renewable(c trust.Certificate) error {
	d, err := get[trust.Device](t, tableDevices, string(c.Device))
	if err != nil {
		return err
	}
	same, err := t.judge(c, d)
	if errors.Is(err, ErrKeyCopied) || same != nil {
		return ErrRenewedBefore
	}
	return err
}

// issue completes and stores the certificate, supersedes the device's older ones, activates the device, remembers the transaction and audits.
func (t *txn) issue(x Transaction, c trust.Certificate, d trust.Device, action string) error {
	if err := canonical(c); err != nil {
		return err
	}
	key := certKey(c.Issuer, c.Serial)
	if _, taken := t.Get(tableCertificates, key); taken {
		return fmt.Errorf("serial number %s was issued before: %w", c.Serial, trust.ErrConflict)
	}
	older, err := t.certificatesOf(d.ID)
	if err != nil {
		return err
	}
	c.Renewals = 0
	for _, o := range older {
		if action == ActRenew && o.Issuer == c.Issuer && o.Serial == c.Evidence.Renews {
			c.Renewals = o.Renewals + 1
		}
		switch {
		case o.Issuer != c.Issuer || o.Status != trust.Good && o.Status != trust.Held:
			continue
		case o.Status == trust.Good:
			o.Status, o.ChangedAt, c.Predecessor = trust.Superseded, t.now.UTC(), o.Serial
			t.plan(&o, t.now.Add(t.renewal.UnusedGrace))
		}
		if o.Successor == "" { // a held one may have had its successor before; released, it is superseded
			o.Successor = c.Serial
		}
		if err := t.putCertificate(o); err != nil {
			return err
		}
	}
	c.Status, c.ChangedAt, c.IssuedAt, c.Revision = trust.Good, t.now.UTC(), t.now.UTC(), uint64(t.Revision())
	if err := t.putCertificate(c); err != nil {
		return err
	}
	t.Put(tableDER, derKey(c), c.DER)
	t.Put(tableByDevice, string(d.ID)+"/"+key, nil)
	if err := put(t, tableTransactions, x.key(), transactionRecord{key, t.now.UTC()}); err != nil {
		return err
	}
	if d.State != trust.Active {
		if joins(d) {
			d.Enrolled = t.now.UTC()
			t.joined(d)
		}
		d.State, d.Updated = trust.Active, t.now.UTC()
		if err := put(t, tableDevices, string(d.ID), d); err != nil {
			return err
		}
		t.Touch(KindDevice, string(d.ID))
	}
	c.DER = nil
	return t.audit(AuditEntry{Action: action, Object: string(d.ID), Detail: "certificate " + string(c.Serial), After: snapshot(c)})
}

// withDER returns the certificate with its bytes.
func withDER(rd Reader, c trust.Certificate) (trust.Certificate, error) {
	der, ok := rd.Get(tableDER, derKey(c))
	if !ok {
		return c, fmt.Errorf("bytes of certificate %s: %w", c.Serial, trust.ErrNotFound)
	}
	c.DER = der
	return c, nil
}

// certificatesOf returns all certificates of a device, without their bytes.
func (t *txn) certificatesOf(id trust.DeviceID) ([]trust.Certificate, error) {
	return certificatesOf(t, id)
}

func certificatesOf(rd Reader, id trust.DeviceID) ([]trust.Certificate, error) {
	var keys []string
	rd.Scan(tableByDevice, string(id)+"/", "", func(key string, _ []byte) bool {
		keys = append(keys, strings.TrimPrefix(key, string(id)+"/"))
		return true
	})
	out := []trust.Certificate{}
	for _, k := range keys {
		c, err := get[trust.Certificate](rd, tableCertificates, k)
		if err != nil {
			return nil, err
		}
		out = append(out, c)
	}
	return out, nil
}

// derKey rises with every certificate, so that they are written one after the other.
func derKey(c trust.Certificate) string { return seqKey(c.Revision) + "/" + string(c.Serial) }

// certKey is the key of a certificate, in the store and as the ID of a Change.
func certKey(issuer string, s trust.Serial) string { return issuer + "/" + string(s) }

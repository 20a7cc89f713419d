package registry

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base32"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"postern/internal/trust"
)

// Limits of a challenge's life.
const (
	DefaultChallengeTTL = time.Hour
	MaxChallengeTTL     = 30 * 24 * time.Hour
)

// Why a challenge does not authorise an enrolment. Each wraps trust.ErrForbidden; devices are told the same for all of them.
var (
	ErrChallengeUnknown = fmt.Errorf("challenge is unknown: %w", trust.ErrForbidden)
	ErrChallengeSpent   = fmt.Errorf("challenge was used before: %w", trust.ErrForbidden)
	ErrChallengeExpired = fmt.Errorf("challenge has expired: %w", trust.ErrForbidden)
	ErrChallengePending = fmt.Errorf("challenge is reserved for a pending request: %w", trust.ErrForbidden)
	ErrChallengeVoid    = fmt.Errorf("challenge was made for the device's previous owner or state, or before a restore: %w", trust.ErrForbidden)
)

// Challenge authorises one enrolment of one device for one owner. Only a hash of the secret is stored; 160 random bits need no slow hash.
type Challenge struct {
	ID      string          `json:"id"` // the first 16 hex digits of the hash: safe to log
	Issuer  string          `json:"issuer"`
	Device  trust.DeviceID  `json:"device"`
	Owner   string          `json:"owner"`
	By      trust.Principal `json:"by"`
	Created time.Time       `json:"created"`
	Expires time.Time       `json:"expires"`
	Spent   trust.Serial    `json:"spent,omitempty"` // the certificate it was spent on
	SpentAt time.Time       `json:"spent_at"`
	Made    Revision        `json:"made"`              // a later reassignment of the device voids it
	Pending string          `json:"pending,omitempty"` // the pending request that it is reserved for, as long as that one is open
	Unbound bool            `json:"unbound,omitempty"` // made for no device; Device and Owner are those for whom it was used, empty before
}

// CreateChallenge makes a one-time challenge for a device and returns its secret, which is not stored. ttl 0 means DefaultChallengeTTL.
func (r *Registry) CreateChallenge(ctx context.Context, p trust.Principal, id trust.DeviceID, ttl time.Duration) (secret string, c Challenge, err error) {
	if ttl == 0 {
		ttl = DefaultChallengeTTL
	}
	if ttl < time.Second || ttl > MaxChallengeTTL {
		return "", c, fmt.Errorf("challenge lifetime %s %w: use 1s to %s", ttl, trust.ErrInvalid, MaxChallengeTTL)
	}
	secret = newSecret()
	hash := hashSecret(secret)
	_, err = r.update(ctx, p, ActChallenge, string(id), func(t *txn) error {
		d, err := get[trust.Device](t, tableDevices, string(id))
		if err != nil {
			return err
		}
		if err := t.mayHelpEnrol(d); err != nil {
			return err
		}
		if d.State == trust.Retired || d.State == trust.Blocked {
			return fmt.Errorf("device is %s: %w", d.State, trust.ErrConflict)
		}
		if err := suspended(t, d, trust.ErrConflict); err != nil {
			return err
		}
		c = Challenge{ID: hash[:16], Issuer: d.Issuer, Device: id, Owner: d.Owner, By: p, Created: t.now.UTC(), Expires: t.now.Add(ttl).UTC(), Made: t.Revision()}
		if err := put(t, tableChallenges, hash, c); err != nil {
			return err
		}
		t.Touch(KindChallenge, c.ID)
		return t.audit(AuditEntry{Action: ActChallenge, Object: string(id), Detail: "challenge " + c.ID})
	})
	return secret, c, err
}

// mayHelpEnrol keeps a help desk from getting a certificate in the name of somebody who has one: whoever holds a challenge becomes that device.
func (t *txn) mayHelpEnrol(d trust.Device) error {
	if t.p.Role != trust.HelpDesk {
		return nil
	}
	certs, err := t.certificatesOf(d.ID)
	if err != nil {
		return err
	}
	for _, c := range certs {
		if c.Status != trust.Revoked && t.now.Before(c.NotAfter) {
			return fmt.Errorf("the device has a certificate: a PKI officer has to revoke it first, or make the challenge: %w", trust.ErrForbidden)
		}
	}
	return nil
}

// newSecret returns 160 random bits as 32 characters that survive every keyboard, URL and configuration profile.
func newSecret() string {
	var raw [20]byte
	_, _ = rand.Read(raw[:])
	return base32.StdEncoding.EncodeToString(raw[:])
}

// hashSecret is how secrets of 160 random bits are stored and looked up.
func hashSecret(secret string) string {
	sum := sha256.Sum256([]byte("postern secret\x00" + secret))
	return hex.EncodeToString(sum[:])
}

// Challenge looks a secret up at an issuer, without spending it. The error says why it does not authorise; the device is returned also then, where
// the challenge is known, so that the refusal can be recorded with it. An unbound challenge that was not used yet has neither device nor owner.
func (r *Registry) Challenge(ctx context.Context, issuer, secret string) (c Challenge, d trust.Device, o trust.Owner, err error) {
	err = r.view(ctx, func(rd Reader) error {
		var err error
		if c, err = get[Challenge](rd, tableChallenges, hashSecret(secret)); errors.Is(err, trust.ErrNotFound) {
			return ErrChallengeUnknown
		} else if err != nil {
			return err
		}
		if c.Issuer != issuer {
			c = Challenge{}
			return ErrChallengeUnknown
		}
		if c.Unbound && c.Device == "" {
			return usable(rd, c, trust.Device{}, r.now())
		}
		if d, err = deviceOf(rd, c.Device); err != nil {
			return err
		}
		if o, err = ownerOf(rd, d.Owner); err != nil {
			return err
		}
		return usable(rd, c, d, r.now())
	})
	return c, d, o, err
}

// usable reports why a known challenge does not authorise an enrolment of its device now.
func usable(rd Reader, c Challenge, d trust.Device, now time.Time) error {
	reassigned, _ := rd.Get(tableMeta, reassignedKey(d.ID))
	void, _ := rd.Get(tableMeta, challengesVoid)
	switch {
	case c.Spent != "":
		return ErrChallengeSpent
	case !now.Before(c.Expires):
		return ErrChallengeExpired
	case c.Owner != "" && d.Owner != c.Owner || string(reassigned) > seqKey(uint64(c.Made)) || string(void) >= seqKey(uint64(c.Made)) || d.State == trust.Retired ||
		d.State == trust.Blocked:
		return ErrChallengeVoid
	case c.Pending != "":
		return reserved(rd, c.Pending, now)
	}
	return nil
}

// reassignedKey holds the revision at which a device was given to another owner for the last time.
func reassignedKey(id trust.DeviceID) string { return "reassigned/" + string(id) }

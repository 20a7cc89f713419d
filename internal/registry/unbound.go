package registry

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"postern/internal/trust"
)

// Limits of challenges that are made for no device. NDES has passwords of an hour, and five of them at once.
const (
	MaxUnboundTTL  = time.Hour
	MaxUnboundOpen = 10_000
)

// ErrUnboundFull: as many unbound challenges are open as there may be. It wraps trust.ErrConflict.
var ErrUnboundFull = fmt.Errorf("too many challenges are open that are bound to no device: %w", trust.ErrConflict)

// Unbound asks for a challenge that is made for no device, because the MDM that asks cannot say for which.
type Unbound struct {
	Issuer string
	Source string        // the page at which it is asked for, such as ndes; each has a count of its own
	TTL    time.Duration // a second to MaxUnboundTTL
	Open   int           // how many of the issuer and source may be open at once, 1 to MaxUnboundOpen
}

// CreateUnbound makes a one-time challenge of an issuer and returns its secret, which is not stored. It is worth less than one of CreateChallenge: evidence of
// the kind "ndes". Whoever spends it says for which device, and the first device for which it is tried is the only one.
func (r *Registry) CreateUnbound(ctx context.Context, p trust.Principal, u Unbound) (secret string, c Challenge, err error) {
	if u.TTL < time.Second || u.TTL > MaxUnboundTTL || u.Open < 1 || u.Open > MaxUnboundOpen {
		return "", c, fmt.Errorf("unbound challenge for %s, %d at once, %w: use 1s to %s and 1 to %d", u.TTL, u.Open, trust.ErrInvalid, MaxUnboundTTL, MaxUnboundOpen)
	}
	secret = newSecret()
	hash := hashSecret(secret)
	_, err = r.update(ctx, p, ActUnbound, u.Issuer, func(t *txn) error {
		if cas, err := list[CA](t, tableCAs, u.Issuer+"/", "", 1, nil); err != nil || len(cas) == 0 {
			return errors.Join(err, fmt.Errorf("issuer %q: %w", u.Issuer, trust.ErrNotFound))
		}
		if t.openUnbound(u.Issuer, u.Source) >= u.Open {
			return ErrUnboundFull
		}
		c = Challenge{ID: hash[:16], Issuer: u.Issuer, By: p, Created: t.now.UTC(), Expires: t.now.Add(u.TTL).UTC(), Made: t.Revision(), Unbound: true}
		t.Put(tableMeta, unboundKey(u.Issuer, hash), []byte(strconv.FormatInt(c.Expires.Unix(), 10)+" "+u.Source))
		if err := put(t, tableChallenges, hash, c); err != nil {
			return err
		}
		t.Touch(KindChallenge, c.ID)
		return t.audit(AuditEntry{Action: ActUnbound, Object: u.Issuer, Detail: "challenge " + c.ID + " for no device"})
	})
	return secret, c, err
}

// unboundKey is there while an unbound challenge is open; its value is when it expires, and after a blank its source.
func unboundKey(issuer, hash string) string { return "unbound/" + issuer + "/" + hash }

// openUnbound counts the open ones of a source, and forgets those of all sources that have expired. What an earlier version wrote has no source, and counts for
// each.
func (t *txn) openUnbound(issuer, source string) (n int) {
	var over []string
	t.Scan(tableMeta, unboundKey(issuer, ""), "", func(key string, value []byte) bool {
		expires, from, known := strings.Cut(string(value), " ")
		switch at, err := strconv.ParseInt(expires, 10, 64); {
		case err != nil || at <= t.now.Unix():
			over = append(over, key)
		case !known || from == source:
			n++
		}
		return true
	})
	for _, key := range over {
		t.Delete(tableMeta, key)
	}
	return n
}

// Void ends a challenge's life, if it is one of the issuer's that is not spent: it was tried for what it cannot be for. Unknown ones are no error.
func (r *Registry) Void(ctx context.Context, p trust.Principal, issuer, secret, why string) error {
	hash := hashSecret(secret)
	_, err := r.update(ctx, p, ActEnrol, issuer, func(t *txn) error {
		ch, err := get[Challenge](t, tableChallenges, hash)
		if errors.Is(err, trust.ErrNotFound) || err == nil && (ch.Issuer != issuer || ch.Spent != "" || ch.Pending != "") {
			return nil
		}
		if err != nil {
			return err
		}
		if err := t.voidChallenge(hash); err != nil {
			return err
		}
		t.Delete(tableMeta, unboundKey(issuer, hash))
		return t.audit(AuditEntry{Action: ActEnrol, Object: issuer, Outcome: Refused, Detail: strings.TrimSpace("challenge " + ch.ID + " is void: " + why)})
	})
	return err
}

// fits reports whether the challenge is what the evidence says, and is not for another device.
func (c Challenge) fits(issuer string, device trust.DeviceID, kind string) bool {
	if !spends(kind) || c.Issuer != issuer || c.Unbound != (kind == EvidenceNDES) {
		return false
	}
	return c.Device == device || c.Unbound && c.Device == ""
}

// bind makes an unbound challenge one of the device.
func (c *Challenge) bind(d trust.Device) {
	if c.Unbound {
		c.Device, c.Owner = d.ID, d.Owner
	}
}

// The kinds of evidence that spend a challenge of ours.
const (
	EvidenceChallenge = "challenge"
	EvidenceNDES      = "ndes"
)

// spends reports whether evidence of the kind uses a challenge of ours up.
func spends(kind string) bool { return kind == EvidenceChallenge || kind == EvidenceNDES }

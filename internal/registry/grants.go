package registry

import (
	"cmp"
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"postern/internal/trust"
)

// Limits of grants.
const (
	maxGrants   = 16             // of one device; a further one takes the place of the one that expires first
	maxGrantTTL = 48 * time.Hour // access tokens for continuous access evaluation live for up to 28 hours
)

// Grant says that a bearer token was obtained through a ticket, and so by its device. The token itself is not kept: a grant is found by a keyed hash of it,
// and it is over when the token is, when the ticket is dead, and with the device.
type Grant struct {
	Ticket  string         `json:"ticket"` // hash of the ticket
	Device  trust.DeviceID `json:"device"`
	Expires time.Time      `json:"expires"`
}

// GrantKey makes keyed hashes of bearer tokens (HMAC with SHA-256, RFC 2104), so that what the registry holds of a token cannot be compared with tokens by
// anybody else. It prints as nothing.
type GrantKey struct{ key *[32]byte }

// Hash returns the name of a token's grant: 64 hex digits.
func (k GrantKey) Hash(token string) string {
	mac := hmac.New(sha256.New, k.key[:])
	_, _ = mac.Write([]byte(token)) // never fails
	return hex.EncodeToString(mac.Sum(nil))
}

// String implements fmt.Stringer.
func (GrantKey) String() string { return "[redacted]" }

// GoString implements fmt.GoStringer.
func (GrantKey) GoString() string { return "[redacted]" }

const grantKeyName = "grant_key"

// GrantKey returns the key of grants, and makes it where there is none. All edges on one store share it.
func (r *Registry) GrantKey(ctx context.Context, p trust.Principal) (GrantKey, error) {
	var fresh, found [32]byte
	_, _ = rand.Read(fresh[:])
	_, err := r.update(ctx, p, ActGrantRecord, grantKeyName, func(t *txn) error {
		old, ok := t.Get(tableMeta, grantKeyName)
		switch {
		case !ok:
			t.Put(tableMeta, grantKeyName, fresh[:])
			found = fresh
			return t.audit(AuditEntry{Action: ActGrantRecord, Object: grantKeyName, Detail: "key made"})
		case len(old) != len(found):
			return fmt.Errorf("key of grants: %w", errRecord)
		}
		copy(found[:], old)
		return nil
	})
	return GrantKey{&found}, err
}

// RecordGrant remembers that the token with the keyed hash was obtained through a ticket, until it expires. The ticket has to be live. A device has a bounded
// number of grants; grants are no change that is audited, and the tickets and decisions behind them are.
func (r *Registry) RecordGrant(ctx context.Context, p trust.Principal, hash string, g Grant) (Revision, error) {
	now := r.now()
	if len(hash) != 2*sha256.Size || !g.Expires.After(now) {
		return 0, fmt.Errorf("grant without hash, or expired: %w", trust.ErrInvalid)
	}
	if latest := now.Add(maxGrantTTL); g.Expires.After(latest) {
		g.Expires = latest
	}
	g.Expires = g.Expires.UTC()
	return r.update(ctx, p, ActGrantRecord, string(g.Device), func(t *txn) error {
		d, err := get[trust.Device](t, tableDevices, string(g.Device))
		if err != nil {
			return err
		}
		if k, err := get[Ticket](t, tableTickets, g.Ticket); err != nil {
			return err
		} else if !k.Live(d) {
			return fmt.Errorf("ticket %s: %w", k.ID, trust.ErrForbidden)
		}
		if err := t.makeRoom(g.Device); err != nil {
			return err
		}
		key := grantKeyOf(g.Device, hash)
		t.Touch(KindGrant, key)
		return put(t, tableGrants, key, g)
	})
}

func grantKeyOf(id trust.DeviceID, hash string) string { return string(id) + "/" + hash }

// makeRoom deletes the grants of a device that are over, and so many more that there is room for one.
func (t *txn) makeRoom(id trust.DeviceID) error {
	type row struct {
		key     string
		expires time.Time
	}
	var all []row
	var bad error
	t.Scan(tableGrants, grantKeyOf(id, ""), "", func(key string, raw []byte) bool {
		var g Grant
		if bad = decode(raw, &g); bad != nil {
			return false
		}
		all = append(all, row{key, g.Expires})
		return true
	})
	if bad != nil {
		return bad
	}
	slices.SortFunc(all, func(a, b row) int { return cmp.Or(b.expires.Compare(a.expires), strings.Compare(a.key, b.key)) })
	for i, x := range all {
		if i >= maxGrants-1 || !x.expires.After(t.now) {
			t.Delete(tableGrants, x.key)
			t.Touch(KindGrant, x.key)
		}
	}
	return nil
}

// deleteGrants deletes what expired before the given time.
func (r *Registry) deleteGrants(ctx context.Context, before time.Time) (int, error) {
	return deleteWhere(ctx, r, tableGrants, func(g Grant) bool { return g.Expires.Before(before) },
		func(t *txn, key string, _ Grant) { t.Touch(KindGrant, key) })
}

// loadTickets reads tickets and grants.
func (x *Index) loadTickets(ctx context.Context) error {
	err := scanPages(ctx, x.store, tableTickets, "", "", func(hash string, raw []byte) (bool, error) {
		var k Ticket
		err := decode(raw, &k)
		x.tickets[hash] = k
		return err == nil, err
	})
	if err != nil {
		return err
	}
	return scanPages(ctx, x.store, tableGrants, "", "", func(key string, raw []byte) (bool, error) {
		var g Grant
		err := decode(raw, &g)
		x.grants[hashOfGrant(key)] = g
		return err == nil, err
	})
}

func hashOfGrant(key string) string { return key[strings.LastIndexByte(key, '/')+1:] }

// fetchTicket reads a changed ticket or grant, as it is now.
func (x *Index) fetchTicket(rd Reader, c Change) (func(), error) {
	if c.Kind == KindTicket {
		k, err := get[Ticket](rd, tableTickets, c.ID)
		if errors.Is(err, trust.ErrNotFound) {
			return func() { delete(x.tickets, c.ID); x.topics.touch(topicTicket, c.ID) }, nil
		}
		return func() { x.tickets[c.ID] = k; x.topics.touch(topicTicket, c.ID) }, err
	}
	hash := hashOfGrant(c.ID)
	g, err := get[Grant](rd, tableGrants, c.ID)
	if errors.Is(err, trust.ErrNotFound) {
		return func() { delete(x.grants, hash); x.topics.touch(topicGrant, hash) }, nil
	}
	return func() { x.grants[hash] = g; x.topics.touch(topicGrant, hash) }, err
}

// Ticket returns the ticket with the secret, and its hash. Letter case does not matter.
func (x *Index) Ticket(secret string) (hash string, k Ticket, ok bool) {
	hash = hashSecret(strings.ToLower(secret))
	x.mu.RLock()
	defer x.mu.RUnlock()
	k, ok = x.tickets[hash]
	return hash, k, ok
}

// TicketByHash returns the ticket that a Change of KindTicket names.
func (x *Index) TicketByHash(hash string) (k Ticket, ok bool) {
	x.mu.RLock()
	defer x.mu.RUnlock()
	k, ok = x.tickets[hash]
	return k, ok
}

// Grant returns the grant under the keyed hash of a token, with its ticket. It may be over: Expires, the ticket and the device say so.
func (x *Index) Grant(hash string) (g Grant, k Ticket, ok bool) {
	x.mu.RLock()
	defer x.mu.RUnlock()
	if g, ok = x.grants[hash]; ok {
		k, ok = x.tickets[g.Ticket]
	}
	return g, k, ok
}

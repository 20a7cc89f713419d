package registry

import (
	"context"
	"fmt"
	"strings"
	"time"

	"postern/internal/trust"
)

// MaxTickets is how many live tickets a device may have: one for each mail client that has a profile of its own, and some to spare for a change.
const MaxTickets = 8

// Ticket is an address of the OAuth front that belongs to one device: a secret part of the path of OAuthSignInURL and OAuthTokenRequestURL in its mail
// profile. Only a hash of the secret is stored. A ticket has no end of its own: it is dead once it is revoked, the device is retired, or the device belongs
// to another owner than the one it was made for.
type Ticket struct {
	ID      string          `json:"id"` // the first 16 hex digits of the hash: safe to log
	Device  trust.DeviceID  `json:"device"`
	Owner   string          `json:"owner"`
	By      trust.Principal `json:"by"`
	Created time.Time       `json:"created"`
	Revoked time.Time       `json:"revoked,omitzero"` // zero while it is not
}

// Live reports whether the ticket still stands for its device, as that is now. What state a live ticket's device is in is for the policy to judge.
func (k Ticket) Live(d trust.Device) bool {
	return k.Revoked.IsZero() && k.Device == d.ID && k.Owner == d.Owner && d.State != trust.Retired
}

// CreateTicket makes a ticket for a device and returns its secret, 32 letters and digits in lower case, which is not stored. A retired or blocked device, and
// one that has MaxTickets live ones, is a conflict.
func (r *Registry) CreateTicket(ctx context.Context, p trust.Principal, id trust.DeviceID) (secret string, k Ticket, rev Revision, err error) {
	secret = strings.ToLower(newSecret())
	hash := hashSecret(secret)
	rev, err = r.update(ctx, p, ActTicketCreate, string(id), func(t *txn) error {
		d, err := get[trust.Device](t, tableDevices, string(id))
		if err != nil {
			return err
		}
		if d.State == trust.Retired || d.State == trust.Blocked {
			return fmt.Errorf("device is %s: %w", d.State, trust.ErrConflict)
		}
		live, err := t.ticketsOf(d)
		if err != nil {
			return err
		}
		if len(live) >= MaxTickets {
			return fmt.Errorf("device has %d tickets: revoke one that is not in use first: %w", len(live), trust.ErrConflict)
		}
		k = Ticket{ID: hash[:16], Device: id, Owner: d.Owner, By: p, Created: t.now.UTC()}
		t.Put(tableMeta, ticketOfKey(id, hash), []byte{1})
		return t.putTicket(hash, k, AuditEntry{Action: ActTicketCreate, Object: string(id), Detail: "ticket " + k.ID, After: snapshot(k)})
	})
	return secret, k, rev, err
}

// RevokeTicket ends a ticket by its id: the next sign-in at its address is refused, and the bearer tokens that were obtained through it prove nothing any
// more. Revoking a revoked one changes nothing.
func (r *Registry) RevokeTicket(ctx context.Context, p trust.Principal, id string) (k Ticket, rev Revision, err error) {
	rev, err = r.update(ctx, p, ActTicketRevoke, id, func(t *txn) error {
		hash, err := t.ticketNamed(id)
		if err != nil {
			return err
		}
		if k, err = get[Ticket](t, tableTickets, hash); err != nil || !k.Revoked.IsZero() {
			return err
		}
		before := snapshot(k)
		k.Revoked = t.now.UTC()
		return t.putTicket(hash, k, AuditEntry{Action: ActTicketRevoke, Object: string(k.Device), Detail: "ticket " + k.ID, Before: before, After: snapshot(k)})
	})
	return k, rev, err
}

// ticketNamed returns the hash of the ticket with the id.
func (t *txn) ticketNamed(id string) (hash string, err error) {
	if len(id) == 16 {
		t.Scan(tableTickets, id, "", func(key string, _ []byte) bool { hash = key; return false })
	}
	if hash == "" {
		return "", fmt.Errorf("ticket %q: %w", id, trust.ErrNotFound)
	}
	return hash, nil
}

func (t *txn) putTicket(hash string, k Ticket, e AuditEntry) error {
	if err := put(t, tableTickets, hash, k); err != nil {
		return err
	}
	t.Touch(KindTicket, hash)
	return t.audit(e)
}

// ticketOfKey finds the tickets of a device.
func ticketOfKey(id trust.DeviceID, hash string) string { return "ticket/" + string(id) + "/" + hash }

// ticketsOf returns the live tickets of a device.
func (t *txn) ticketsOf(d trust.Device) (out []Ticket, err error) {
	var hashes []string
	prefix := ticketOfKey(d.ID, "")
	t.Scan(tableMeta, prefix, "", func(key string, _ []byte) bool {
		hashes = append(hashes, strings.TrimPrefix(key, prefix))
		return true
	})
	for _, hash := range hashes {
		k, err := get[Ticket](t, tableTickets, hash)
		if err != nil {
			return nil, err
		}
		if k.Live(d) {
			out = append(out, k)
		}
	}
	return out, nil
}

// TicketFilter selects tickets. Zero fields do not filter.
type TicketFilter struct {
	Device trust.DeviceID
	After  string // id of the last ticket of the previous page
	Limit  int
}

// Tickets lists tickets by id, revoked ones too. Those of a retired device, or of one that was given to another owner, are dead without being marked.
func (r *Registry) Tickets(ctx context.Context, f TicketFilter) ([]Ticket, error) {
	after := f.After
	if after != "" {
		after += "~" // behind every hash that begins with the id
	}
	return listPaged(ctx, r.store, tableTickets, "", after, pageLimit(f.Limit), func(k Ticket) bool { return f.Device == "" || k.Device == f.Device })
}

// deleteTickets deletes what was revoked before the given time.
func (r *Registry) deleteTickets(ctx context.Context, before time.Time) (int, error) {
	return deleteWhere(ctx, r, tableTickets, func(k Ticket) bool { return !k.Revoked.IsZero() && k.Revoked.Before(before) },
		func(t *txn, hash string, k Ticket) {
			t.Delete(tableMeta, ticketOfKey(k.Device, hash))
			t.Touch(KindTicket, hash)
		})
}

package registry

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"postern/internal/trust"
)

// maxComment is the size limit of a comment in bytes.
const maxComment = 1024

// suspensionKey is where the suspension of a device or an owner is stored.
func suspensionKey(kind Kind, id string) string { return string(kind) + "/" + id }

// suspensionOf returns the suspension of a device or an owner, nil for none.
func suspensionOf(rd Reader, kind Kind, id string) (*trust.Suspension, error) {
	s, err := get[trust.Suspension](rd, tableSuspensions, suspensionKey(kind, id))
	switch {
	case errors.Is(err, trust.ErrNotFound):
		return nil, nil
	case err != nil:
		return nil, err
	}
	return &s, nil
}

// deviceOf returns a device with its suspension.
func deviceOf(rd Reader, id trust.DeviceID) (d trust.Device, err error) {
	if d, err = get[trust.Device](rd, tableDevices, string(id)); err == nil {
		d.Suspended, err = suspensionOf(rd, KindDevice, string(id))
	}
	return d, err
}

// ownerOf returns an owner with its suspension.
func ownerOf(rd Reader, mail string) (o trust.Owner, err error) {
	if o, err = get[trust.Owner](rd, tableOwners, mail); err == nil {
		o.Suspended, err = suspensionOf(rd, KindOwner, mail)
	}
	return o, err
}

// suspended refuses, with an error of the kind, what a suspended device, or a device of a suspended owner, may not get meanwhile.
func suspended(rd Reader, d trust.Device, as error) error {
	for _, of := range []struct {
		kind Kind
		id   string
	}{{KindDevice, string(d.ID)}, {KindOwner, d.Owner}} {
		switch s, err := suspensionOf(rd, of.kind, of.id); {
		case err != nil:
			return err
		case s != nil:
			return fmt.Errorf("the %s %s is suspended (%s): reinstate it first: %w", of.kind, of.id, s.Reason, as)
		}
	}
	return nil
}

// SuspendDevice keeps a device out at once, until ReinstateDevice. Its state and its certificates stay as they are. Suspending a suspended one replaces
// reason and comment. A retired device is a conflict.
func (r *Registry) SuspendDevice(ctx context.Context, p trust.Principal, id trust.DeviceID, reason trust.SuspendReason, comment string) (Revision, error) {
	return r.suspend(ctx, p, ActDeviceSuspend, KindDevice, string(id), reason, comment)
}

// ReinstateDevice undoes SuspendDevice: the same certificate works again. Reinstating a device that is not suspended changes nothing.
func (r *Registry) ReinstateDevice(ctx context.Context, p trust.Principal, id trust.DeviceID, comment string) (Revision, error) {
	return r.reinstate(ctx, p, ActDeviceReinstate, KindDevice, string(id), comment)
}

// SuspendOwner keeps every device of an owner out at once, also those that are added meanwhile, until ReinstateOwner.
func (r *Registry) SuspendOwner(ctx context.Context, p trust.Principal, mail string, reason trust.SuspendReason, comment string) (Revision, error) {
	return r.suspend(ctx, p, ActOwnerSuspend, KindOwner, strings.ToLower(strings.TrimSpace(mail)), reason, comment)
}

// ReinstateOwner undoes SuspendOwner; a device that is suspended by itself stays so. Reinstating an owner who is not suspended changes nothing.
func (r *Registry) ReinstateOwner(ctx context.Context, p trust.Principal, mail, comment string) (Revision, error) {
	return r.reinstate(ctx, p, ActOwnerReinstate, KindOwner, strings.ToLower(strings.TrimSpace(mail)), comment)
}

func (r *Registry) suspend(ctx context.Context, p trust.Principal, action string, kind Kind, id string, reason trust.SuspendReason, comment string) (Revision, error) {
	reason, err := trust.ParseSuspendReason(string(reason))
	if err != nil {
		return 0, err
	}
	return r.changeSuspension(ctx, p, action, kind, id, comment, func(t *txn, old *trust.Suspension) *trust.Suspension {
		s := trust.Suspension{Reason: reason, Comment: comment, By: p.String(), At: t.now.UTC()}
		if old == nil {
			return &s
		}
		if s.At = old.At; old.Reason == reason && old.Comment == comment {
			return old
		}
		return &s
	})
}

func (r *Registry) reinstate(ctx context.Context, p trust.Principal, action string, kind Kind, id, comment string) (Revision, error) {
	return r.changeSuspension(ctx, p, action, kind, id, comment, func(*txn, *trust.Suspension) *trust.Suspension { return nil })
}

// changeSuspension stores what fn makes of a suspension, nil for none, and audits it. What fn leaves as it is is not written.
func (r *Registry) changeSuspension(ctx context.Context, p trust.Principal, action string, kind Kind, id, comment string,
	fn func(*txn, *trust.Suspension) *trust.Suspension) (Revision, error) {
	if !plain(comment, maxComment) {
		return 0, fmt.Errorf("comment longer than %d bytes or with control characters: %w", maxComment, trust.ErrInvalid)
	}
	return r.update(ctx, p, action, id, func(t *txn) error {
		if err := t.suspendable(kind, id, action); err != nil {
			return err
		}
		old, err := suspensionOf(t, kind, id)
		if err != nil {
			return err
		}
		s := fn(t, old)
		if s == old {
			return nil
		}
		e := AuditEntry{Action: action, Object: id, Detail: comment}
		if old != nil {
			e.Before = snapshot(old)
		}
		key := suspensionKey(kind, id)
		if s == nil {
			t.Delete(tableSuspensions, key)
		} else {
			e.After = snapshot(s)
			if err := put(t, tableSuspensions, key, *s); err != nil {
				return err
			}
		}
		t.Touch(kind, id)
		return t.audit(e)
	})
}

// suspendable checks that there is something to suspend or to reinstate.
func (t *txn) suspendable(kind Kind, id, action string) error {
	if kind == KindOwner {
		_, err := get[trust.Owner](t, tableOwners, id)
		return err
	}
	d, err := get[trust.Device](t, tableDevices, id)
	if err == nil && d.State == trust.Retired && action == ActDeviceSuspend {
		return fmt.Errorf("device is retired: %w", trust.ErrConflict)
	}
	return err
}

// OwnerFilter selects owners. Zero fields do not filter.
type OwnerFilter struct {
	Suspended bool   // only those
	After     string // the last address of the previous page
	Limit     int
}

// Owners lists owners by address.
func (r *Registry) Owners(ctx context.Context, f OwnerFilter) ([]trust.Owner, error) {
	if f.Suspended {
		return listSuspended(ctx, r, KindOwner, f.After, f.Limit, ownerOf, func(trust.Owner) bool { return true })
	}
	out, err := listPaged(ctx, r.store, tableOwners, "", f.After, pageLimit(f.Limit), func(trust.Owner) bool { return true })
	if err != nil {
		return nil, err
	}
	err = r.view(ctx, func(rd Reader) (err error) {
		for i := range out {
			if out[i].Suspended, err = suspensionOf(rd, KindOwner, out[i].Mail); err != nil {
				return err
			}
		}
		return nil
	})
	return out, err
}

// listSuspended lists what is suspended of one kind and kept, in order of their keys.
func listSuspended[T any](ctx context.Context, r *Registry, kind Kind, after string, limit int, of func(Reader, string) (T, error), keep func(T) bool) ([]T, error) {
	out := []T{}
	prefix := suspensionKey(kind, "")
	if after != "" {
		after = prefix + after
	}
	var ids []string
	err := scanPages(ctx, r.store, tableSuspensions, prefix, after, func(key string, _ []byte) (bool, error) {
		ids = append(ids, strings.TrimPrefix(key, prefix))
		return true, nil
	})
	if err != nil {
		return nil, err
	}
	err = r.view(ctx, func(rd Reader) error {
		for _, id := range ids {
			v, err := of(rd, id)
			if errors.Is(err, trust.ErrNotFound) {
				continue
			}
			if err != nil {
				return err
			}
			if keep(v) {
				out = append(out, v)
			}
			if len(out) >= pageLimit(limit) {
				break
			}
		}
		return nil
	})
	return out, err
}

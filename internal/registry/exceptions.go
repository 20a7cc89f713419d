package registry

import (
	"cmp"
	"context"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"postern/internal/trust"
)

// Limits of exceptions.
const (
	MaxExceptions       = 8                   // live ones of one owner, and of one device
	MaxExceptionReasons = 16                  // of one exception
	MinException        = time.Minute         // from grant to end
	DefaultMaxException = 30 * 24 * time.Hour // where PolicyRules do not say
)

// The actions on exceptions that are authorised and audited.
const (
	ActExceptionGrant  = "exception.grant"
	ActExceptionRevoke = "exception.revoke"
)

// managedOnly are the reasons for which a device is none of ours. Who makes challenges for devices must not be who makes a device pass for a managed one.
func managedOnly() []string {
	return []string{"duplicate_profile_without_certificate", "no_certificate", "not_managed", "unmanaged_device"}
}

var reasonCode = regexp.MustCompile(`^[a-z][a-z0-9_]{0,63}$`)

// GrantException stores an exception for an owner (Owner) or for one device (Device). Reasons, Until and Comment say which reasons it lifts, until when, and why;
// the rest is filled in. Whether a policy lets the reasons be lifted at all is for the caller to know. An end that is further away than PolicyRules.MaxException
// is invalid; one more than MaxExceptions is a conflict. The help desk may not lift what keeps out a device that is unmanaged or comes without its certificate:
// with a challenge, which it may make, that would certify any device.
func (r *Registry) GrantException(ctx context.Context, p trust.Principal, e trust.Exception) (trust.Exception, Revision, error) {
	e.Owner = strings.ToLower(strings.TrimSpace(e.Owner))
	e.Reasons = slices.Compact(slices.Sorted(slices.Values(e.Reasons)))
	if err := r.grantable(e); err != nil {
		return e, 0, err
	}
	e.ID, e.By, e.Created, e.Until, e.Revoked = trust.NewIDAt("ex", r.now()), p, r.now().UTC(), e.Until.UTC(), time.Time{}
	owner, object := e.Owner, cmp.Or(string(e.Device), e.Owner)
	if p.Role == trust.HelpDesk {
		for _, code := range e.Reasons {
			if slices.Contains(managedOnly(), code) {
				return e, 0, r.refuse(ctx, p, ActExceptionGrant, object, fmt.Sprintf("role %q may not lift %s: a %s may", p.Role, code, trust.PKIOfficer))
			}
		}
	}
	rev, err := r.update(ctx, p, ActExceptionGrant, object, func(t *txn) error {
		e.Owner = owner
		if e.Device != "" {
			d, err := get[trust.Device](t, tableDevices, string(e.Device))
			if err != nil {
				return err
			}
			if d.State == trust.Retired {
				return fmt.Errorf("device is retired: %w", trust.ErrConflict)
			}
			e.Owner = d.Owner
		} else if _, err := get[trust.Owner](t, tableOwners, e.Owner); err != nil {
			return err
		}
		live, err := exceptionsOf(t, e.Owner, e.Device, t.now)
		if err != nil {
			return err
		}
		if len(live) >= MaxExceptions {
			return fmt.Errorf("%s has %d exceptions: revoke one first, or change the policy: %w", object, len(live), trust.ErrConflict)
		}
		t.Put(tableMeta, exceptionOfKey(e), []byte{1})
		return t.putException(e, AuditEntry{Action: ActExceptionGrant, Object: object, Detail: e.ID + ": " + e.Comment, After: snapshot(e)})
	})
	return e, rev, err
}

// grantable checks what can be checked without the store.
func (r *Registry) grantable(e trust.Exception) error {
	longest := cmp.Or(r.policies.MaxException, DefaultMaxException)
	life := e.Until.Sub(r.now())
	switch {
	case (e.Owner == "") == (e.Device == ""):
		return fmt.Errorf("exception %w: name an owner or a device, one of the two", trust.ErrInvalid)
	case len(e.Reasons) == 0 || len(e.Reasons) > MaxExceptionReasons:
		return fmt.Errorf("exception %w: name 1 to %d reasons that it lifts", trust.ErrInvalid, MaxExceptionReasons)
	case e.Comment == "" || !plain(e.Comment, maxComment):
		return fmt.Errorf("exception %w: say why, in a comment of at most %d bytes without control characters", trust.ErrInvalid, maxComment)
	case life < MinException:
		return fmt.Errorf("exception %w: its end is missing, past or less than %s away", trust.ErrInvalid, MinException)
	case life > longest:
		return fmt.Errorf("exception %w: it may last %s at most (policy.max_exception): what has to last longer belongs into the policy", trust.ErrInvalid, inDays(longest))
	}
	for _, code := range e.Reasons {
		if !reasonCode.MatchString(code) {
			return fmt.Errorf("exception %w: %q is no code of a reason", trust.ErrInvalid, code)
		}
	}
	return nil
}

// RevokeException ends an exception before its time; what it held open is decided again. Revoking one that is over changes nothing.
func (r *Registry) RevokeException(ctx context.Context, p trust.Principal, id, comment string) (e trust.Exception, rev Revision, err error) {
	if !plain(comment, maxComment) {
		return e, 0, fmt.Errorf("comment longer than %d bytes or with control characters: %w", maxComment, trust.ErrInvalid)
	}
	rev, err = r.update(ctx, p, ActExceptionRevoke, id, func(t *txn) error {
		if e, err = get[trust.Exception](t, tableExceptions, id); err != nil || !e.Live(t.now) {
			return err
		}
		before := snapshot(e)
		e.Revoked = t.now.UTC()
		return t.putException(e, AuditEntry{Action: ActExceptionRevoke, Object: cmp.Or(string(e.Device), e.Owner), Detail: strings.TrimSuffix(e.ID+": "+comment, ": "),
			Before: before, After: snapshot(e)})
	})
	return e, rev, err
}

// putException also touches whom it is about: what was decided about these is decided again.
func (t *txn) putException(e trust.Exception, entry AuditEntry) error {
	t.Touch(KindException, e.ID)
	if e.Device != "" {
		t.Touch(KindDevice, string(e.Device))
	} else {
		t.Touch(KindOwner, e.Owner)
	}
	if err := put(t, tableExceptions, e.ID, e); err != nil {
		return err
	}
	return t.audit(entry)
}

// exceptionOfKey finds the exceptions of an owner or of a device.
func exceptionOfKey(e trust.Exception) string { return exceptionsPrefix(e.Owner, e.Device) + e.ID }

func exceptionsPrefix(owner string, device trust.DeviceID) string {
	if device != "" {
		return "exception/device/" + string(device) + "/"
	}
	return "exception/owner/" + owner + "/"
}

// exceptionsOf returns the exceptions for a device, or for all of an owner's, that count at the time.
func exceptionsOf(rd Reader, owner string, device trust.DeviceID, now time.Time) (out []trust.Exception, err error) {
	var ids []string
	prefix := exceptionsPrefix(owner, device)
	rd.Scan(tableMeta, prefix, "", func(key string, _ []byte) bool {
		ids = append(ids, strings.TrimPrefix(key, prefix))
		return true
	})
	for _, id := range ids {
		e, err := get[trust.Exception](rd, tableExceptions, id)
		if err != nil {
			return nil, err
		}
		if e.Live(now) && e.Owner == owner {
			out = append(out, e)
		}
	}
	return out, nil
}

// ExceptionsFor returns the exceptions that count now for a device: its own and its owner's.
func (r *Registry) ExceptionsFor(ctx context.Context, d trust.Device) (out []trust.Exception, err error) {
	err = r.view(ctx, func(rd Reader) error {
		own, err := exceptionsOf(rd, d.Owner, d.ID, r.now())
		if err != nil {
			return err
		}
		all, err := exceptionsOf(rd, d.Owner, "", r.now())
		out = append(own, all...)
		return err
	})
	return out, err
}

// ExceptionFilter selects exceptions. Zero fields do not filter.
type ExceptionFilter struct {
	Owner  string // also those for one of the owner's devices
	Device trust.DeviceID
	Live   bool   // only those that count now
	After  string // id of the last exception of the previous page
	Limit  int
}

// Exceptions lists exceptions by id, which is in the order in which they were granted. Those that are over are kept for 30 days.
func (r *Registry) Exceptions(ctx context.Context, f ExceptionFilter) ([]trust.Exception, error) {
	now := r.now()
	return listPaged(ctx, r.store, tableExceptions, "", f.After, pageLimit(f.Limit), func(e trust.Exception) bool {
		return (f.Owner == "" || strings.EqualFold(e.Owner, f.Owner)) && (f.Device == "" || e.Device == f.Device) && (!f.Live || e.Live(now))
	})
}

// deleteExceptions deletes what was over before the given time.
func (r *Registry) deleteExceptions(ctx context.Context, before time.Time) (int, error) {
	return deleteWhere(ctx, r, tableExceptions, func(e trust.Exception) bool { return !e.Live(before) && !e.Revoked.After(before) },
		func(t *txn, id string, e trust.Exception) {
			t.Delete(tableMeta, exceptionOfKey(e))
			t.Touch(KindException, id)
		})
}

// inDays writes a period as people would, where it is whole days.
func inDays(d time.Duration) string {
	if days := d / (24 * time.Hour); days > 1 && d%(24*time.Hour) == 0 {
		return fmt.Sprintf("%d days", days)
	}
	return d.String()
}

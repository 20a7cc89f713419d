package registry

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"postern/internal/trust"
)

// NewDevice is what an administrator or an MDM says of a device to be added.
type NewDevice struct {
	Device trust.Device // ID, State and times are set by AddDevice
	Owner  trust.Owner  // only Mail is required; the rest is merged into what is known of the owner
}

// AddDevice adds a managed device in state pending and its owner. The owner's address must be in a domain of the issuer. A device with the same serial
// number or UDID at the same issuer that is not retired is a conflict.
func (r *Registry) AddDevice(ctx context.Context, p trust.Principal, n NewDevice) (trust.Device, error) {
	d := n.Device
	d.SerialNumber, d.UDID = strings.TrimSpace(d.SerialNumber), strings.TrimSpace(d.UDID)
	mail, domain, err := trust.Mail(n.Owner.Mail)
	if err != nil {
		return d, fmt.Errorf("owner %q %w: %w", n.Owner.Mail, trust.ErrInvalid, err)
	}
	if err := errors.Join(checkDevice(d), checkOwner(n.Owner)); err != nil {
		return d, err
	}
	d.ID, d.Owner, d.State = trust.DeviceID(trust.NewIDAt("dev", r.now())), mail, trust.Pending
	_, err = r.update(ctx, p, ActDeviceAdd, string(d.ID), func(t *txn) error {
		if err := domainOf(t, d.Issuer, domain); err != nil {
			return err
		}
		if err := uniqueDevice(t, d); err != nil {
			return err
		}
		if err := mergeOwner(t, n.Owner); err != nil {
			return err
		}
		d.Created, d.Updated = t.now.UTC(), t.now.UTC()
		return t.putDevice(d, AuditEntry{Action: ActDeviceAdd, After: snapshot(d)})
	})
	return d, err
}

// checkDevice refuses what no device can have; all texts are bounded, since they end up in logs, certificates and policy inputs.
func checkDevice(d trust.Device) error {
	if d.Issuer == "" {
		return fmt.Errorf("device without issuer: %w", trust.ErrInvalid)
	}
	if d.SerialNumber == "" && d.UDID == "" {
		return fmt.Errorf("device without serial number and UDID: %w", trust.ErrInvalid)
	}
	for _, s := range []string{d.Issuer, d.SerialNumber, d.UDID, d.EASDeviceID, d.Model, d.OS, d.OSVersion, d.Source} {
		if !plain(s, 128) {
			return fmt.Errorf("device attribute longer than 128 bytes or with control characters: %w", trust.ErrInvalid)
		}
	}
	if len(d.Labels) > 32 {
		return fmt.Errorf("device with more than 32 labels: %w", trust.ErrInvalid)
	}
	for k, v := range d.Labels {
		if !plain(k, 128) || !plain(v, 128) {
			return fmt.Errorf("device label longer than 128 bytes or with control characters: %w", trust.ErrInvalid)
		}
	}
	return nil
}

// checkOwner refuses names that nobody can have. Mail is checked where it is used as the key.
func checkOwner(o trust.Owner) error {
	names := append(append([]string{o.UPN, o.SAM, o.OID, o.TID}, o.Proxies...), o.Delegations...)
	if len(names) > 1000 {
		return fmt.Errorf("owner with more than 1000 names: %w", trust.ErrInvalid)
	}
	for _, s := range names {
		if !plain(s, 320) {
			return fmt.Errorf("owner's name longer than 320 bytes or with control characters: %w", trust.ErrInvalid)
		}
	}
	return nil
}

// plain reports whether s is UTF-8 of at most limit bytes without control characters: it then reads the same in a key, in JSON, in a log and on a terminal.
func plain(s string, limit int) bool {
	return len(s) <= limit && utf8.ValidString(s) && !strings.ContainsFunc(s, unicode.IsControl)
}

// hardwareKey is the unique key of a piece of hardware at an issuer; empty where the device has no such number.
func hardwareKeys(d trust.Device) []string {
	var keys []string
	if d.SerialNumber != "" {
		keys = append(keys, "hw/"+d.Issuer+"/sn/"+strings.ToUpper(d.SerialNumber))
	}
	if d.UDID != "" {
		keys = append(keys, "hw/"+d.Issuer+"/udid/"+strings.ToUpper(d.UDID))
	}
	return keys
}

// uniqueDevice claims the hardware keys of d, or says which device has them.
func uniqueDevice(t *txn, d trust.Device) error {
	for _, key := range hardwareKeys(d) {
		if id, ok := t.Get(tableMeta, key); ok {
			return fmt.Errorf("this hardware is device %s already: retire or reassign that one: %w", id, trust.ErrConflict)
		}
		t.Put(tableMeta, key, []byte(d.ID))
	}
	return nil
}

// putDevice stores the device, touches it and audits.
func (t *txn) putDevice(d trust.Device, e AuditEntry) error {
	if err := put(t, tableDevices, string(d.ID), d); err != nil {
		return err
	}
	t.Touch(KindDevice, string(d.ID))
	e.Object = string(d.ID)
	return t.audit(e)
}

// domainOf checks that the issuer exists here and may certify the domain.
func domainOf(rd Reader, issuer, domain string) error {
	cas, err := list[CA](rd, tableCAs, issuer+"/", "", MaxLimit, nil)
	if err != nil {
		return err
	}
	if len(cas) == 0 {
		return fmt.Errorf("issuer %q: %w", issuer, trust.ErrNotFound)
	}
	for _, d := range cas[0].Domains {
		if d == domain {
			return nil
		}
	}
	return fmt.Errorf("issuer %q may not certify %s, only %s: %w", issuer, domain, strings.Join(cas[0].Domains, ", "), trust.ErrInvalid)
}

// RetireDevice takes a device out of service for good: its certificates are revoked (cessationOfOperation) and its challenges are void. More than
// RevocationRules let one person revoke is a conflict.
func (r *Registry) RetireDevice(ctx context.Context, p trust.Principal, id trust.DeviceID, comment string) (Revision, error) {
	return r.update(ctx, p, ActDeviceRetire, string(id), func(t *txn) error {
		d, err := get[trust.Device](t, tableDevices, string(id))
		if err != nil || d.State == trust.Retired {
			return err
		}
		before := snapshot(d)
		if err := r.spendDevice(t, id); err != nil {
			return err
		}
		if err := t.revokeAll(id, trust.CessationOfOperation, comment); err != nil {
			return err
		}
		for _, key := range hardwareKeys(d) {
			t.Delete(tableMeta, key)
		}
		d.State, d.Managed, d.Updated = trust.Retired, false, t.now.UTC()
		return t.putDevice(d, AuditEntry{Action: ActDeviceRetire, Detail: comment, Before: before, After: snapshot(d)})
	})
}

// ReassignDevice gives a device to another owner. Certificates that carry the old owner's address are revoked (affiliationChanged); the device is
// pending until it enrols again. More than RevocationRules let one person revoke is a conflict.
func (r *Registry) ReassignDevice(ctx context.Context, p trust.Principal, id trust.DeviceID, owner trust.Owner) (trust.Device, error) {
	mail, domain, err := trust.Mail(owner.Mail)
	if err != nil {
		return trust.Device{}, fmt.Errorf("owner %q %w: %w", owner.Mail, trust.ErrInvalid, err)
	}
	if err := checkOwner(owner); err != nil {
		return trust.Device{}, err
	}
	var d trust.Device
	_, err = r.update(ctx, p, ActDeviceReassign, string(id), func(t *txn) error {
		if d, err = get[trust.Device](t, tableDevices, string(id)); err != nil {
			return err
		}
		if d.State == trust.Retired {
			return fmt.Errorf("device is retired: %w", trust.ErrConflict)
		}
		if err := domainOf(t, d.Issuer, domain); err != nil {
			return err
		}
		if err := mergeOwner(t, owner); err != nil {
			return err
		}
		if d.Owner == mail {
			return t.audit(AuditEntry{Action: ActOwnerPut, Object: mail, After: snapshot(owner)})
		}
		before := snapshot(d)
		if err := r.spendDevice(t, id); err != nil {
			return err
		}
		if err := t.revokeAll(id, trust.AffiliationChanged, "reassigned to "+mail); err != nil {
			return err
		}
		t.Put(tableMeta, reassignedKey(id), []byte(seqKey(uint64(t.Revision()))))
		d.Owner, d.Enrolled, d.Updated = mail, time.Time{}, t.now.UTC()
		if d.State == trust.Active {
			d.State = trust.Pending
		}
		return t.putDevice(d, AuditEntry{Action: ActDeviceReassign, Before: before, After: snapshot(d)})
	})
	return d, err
}

// SetDeviceState blocks, quarantines or settles a device. It touches no certificate: the edge refuses a blocked device at once, and an active one is back at once.
func (r *Registry) SetDeviceState(ctx context.Context, p trust.Principal, id trust.DeviceID, s trust.State, comment string) (Revision, error) {
	if s != trust.Active && s != trust.Blocked && s != trust.Quarantined {
		return 0, fmt.Errorf("device state %q %w: use active, blocked or quarantined", s, trust.ErrInvalid)
	}
	return r.update(ctx, p, ActDeviceState, string(id), func(t *txn) error {
		d, err := get[trust.Device](t, tableDevices, string(id))
		if err != nil {
			return err
		}
		if d.State == trust.Retired {
			return fmt.Errorf("device is retired: %w", trust.ErrConflict)
		}
		before := snapshot(d)
		d.State, d.Updated = s, t.now.UTC()
		return t.putDevice(d, AuditEntry{Action: ActDeviceState, Detail: strings.TrimSuffix(string(s)+": "+comment, ": "), Before: before, After: snapshot(d)})
	})
}

// Device returns one device.
func (r *Registry) Device(ctx context.Context, id trust.DeviceID) (d trust.Device, err error) {
	err = r.view(ctx, func(rd Reader) error {
		d, err = deviceOf(rd, id)
		return err
	})
	return d, err
}

// DeviceFilter selects devices. Zero fields do not filter.
type DeviceFilter struct {
	Issuer, Owner, SerialNumber string
	State                       trust.State
	Suspended                   bool           // only those
	After                       trust.DeviceID // the last device of the previous page
	Limit                       int
}

// Devices lists devices by id.
func (r *Registry) Devices(ctx context.Context, f DeviceFilter) (out []trust.Device, err error) {
	keep := func(d trust.Device) bool {
		return (f.Issuer == "" || d.Issuer == f.Issuer) && (f.Owner == "" || strings.EqualFold(d.Owner, f.Owner)) &&
			(f.SerialNumber == "" || strings.EqualFold(d.SerialNumber, f.SerialNumber)) && (f.State == "" || d.State == f.State)
	}
	if f.Suspended {
		return listSuspended(ctx, r, KindDevice, string(f.After), f.Limit, func(rd Reader, id string) (trust.Device, error) { return deviceOf(rd, trust.DeviceID(id)) }, keep)
	}
	if out, err = listPaged(ctx, r.store, tableDevices, "", string(f.After), pageLimit(f.Limit), keep); err != nil {
		return nil, err
	}
	err = r.view(ctx, func(rd Reader) (err error) {
		for i := range out {
			if out[i].Suspended, err = suspensionOf(rd, KindDevice, string(out[i].ID)); err != nil {
				return err
			}
		}
		return nil
	})
	return out, err
}

// PutOwner merges what is said of an owner into what is known.
func (r *Registry) PutOwner(ctx context.Context, p trust.Principal, o trust.Owner) error {
	mail, _, err := trust.Mail(o.Mail)
	if err != nil {
		return fmt.Errorf("owner %q %w: %w", o.Mail, trust.ErrInvalid, err)
	}
	if err := checkOwner(o); err != nil {
		return err
	}
	_, err = r.update(ctx, p, ActOwnerPut, mail, func(t *txn) error {
		if err := mergeOwner(t, o); err != nil {
			return err
		}
		return t.audit(AuditEntry{Action: ActOwnerPut, Object: mail, After: snapshot(o)})
	})
	return err
}

// OwnerUpdate is what is said anew of an owner. Nil leaves a name as it is; an empty one takes it away. Aliases and Delegations are added to those known, and those
// to be dropped are taken away: a name that is not there is trust.ErrInvalid, because whoever misspells it would think that it is gone.
type OwnerUpdate struct {
	UPN, SAM, OID, TID           *string
	Aliases, Delegations         []string
	DropAliases, DropDelegations []string
}

// UpdateOwner changes what is known of an owner; one that is not known is trust.ErrNotFound. The address itself is the key, and stays.
func (r *Registry) UpdateOwner(ctx context.Context, p trust.Principal, mail string, u OwnerUpdate) (o trust.Owner, rev Revision, err error) {
	mail = strings.ToLower(mail)
	rev, err = r.update(ctx, p, ActOwnerPut, mail, func(t *txn) error {
		if o, err = ownerOf(t, mail); err != nil {
			return err
		}
		before, suspended := snapshot(o), o.Suspended
		o.Suspended = nil // kept apart
		for _, f := range []struct{ to, from *string }{{&o.UPN, u.UPN}, {&o.SAM, u.SAM}, {&o.OID, u.OID}, {&o.TID, u.TID}} {
			if f.from != nil {
				*f.to = strings.ToLower(strings.TrimSpace(*f.from))
			}
		}
		var wrong, bad error
		o.Proxies, wrong = without(o.Proxies, u.DropAliases, "alias")
		o.Delegations, bad = without(o.Delegations, u.DropDelegations, "shared mailbox")
		o.Proxies, o.Delegations = union(o.Proxies, u.Aliases), union(o.Delegations, u.Delegations)
		if err := errors.Join(wrong, bad, checkOwner(o)); err != nil {
			return err
		}
		if err := put(t, tableOwners, mail, o); err != nil {
			return err
		}
		t.Touch(KindOwner, mail)
		o.Suspended = suspended
		return t.audit(AuditEntry{Action: ActOwnerPut, Object: mail, Before: before, After: snapshot(o)})
	})
	return o, rev, err
}

// mergeOwner adds new facts about an owner: single values replace, lists are united.
func mergeOwner(t *txn, n trust.Owner) error {
	mail, _, err := trust.Mail(n.Mail)
	if err != nil {
		return err
	}
	o, err := get[trust.Owner](t, tableOwners, mail)
	if err != nil && !errors.Is(err, trust.ErrNotFound) {
		return err
	}
	o.Mail = mail
	for _, f := range []struct {
		dst *string
		src string
	}{{&o.UPN, n.UPN}, {&o.SAM, n.SAM}, {&o.OID, n.OID}, {&o.TID, n.TID}} {
		if f.src != "" {
			*f.dst = strings.ToLower(f.src)
		}
	}
	o.Proxies, o.Delegations = union(o.Proxies, n.Proxies), union(o.Delegations, n.Delegations)
	if err := put(t, tableOwners, mail, o); err != nil {
		return err
	}
	t.Touch(KindOwner, mail)
	return nil
}

// union joins two lists of names in lower case without duplicates, keeping the order.
func union(a, b []string) []string {
	var out []string
	seen := map[string]bool{"": true}
	for _, s := range append(append([]string{}, a...), b...) {
		if s = strings.ToLower(strings.TrimSpace(s)); !seen[s] {
			seen[s] = true
			out = append(out, s)
		}
	}
	return out
}

// without takes names out of a list. One that is not in it is an error that says what is.
func without(list, names []string, what string) ([]string, error) {
	for _, name := range names {
		name = strings.ToLower(strings.TrimSpace(name))
		at := slices.Index(list, name)
		if at < 0 {
			return nil, fmt.Errorf("%w: %q is no %s of the owner; there are: %s", trust.ErrInvalid, name, what, cmp.Or(strings.Join(list, ", "), "none"))
		}
		list = slices.Delete(slices.Clone(list), at, at+1)
	}
	return list, nil
}

// Owner returns one owner by mail address.
func (r *Registry) Owner(ctx context.Context, mail string) (o trust.Owner, err error) {
	err = r.view(ctx, func(rd Reader) error {
		o, err = ownerOf(rd, strings.ToLower(mail))
		return err
	})
	return o, err
}

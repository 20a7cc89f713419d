package registry

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"postern/internal/trust"
)

// reportInterval is how old a device's SourceSync may be before a report that says nothing new is written.
const reportInterval = time.Hour

// EnsureDevice makes the registry know what an MDM says of a device: it is added, or found by its serial number or UDID and brought up to date. The MDM
// is the authority for devices that it reported itself: if it names another owner, the device is reassigned and its certificates are revoked. A device of
// another source keeps its facts, and an Applicant with another owner for it is trust.ErrForbidden. The state of a device is never changed here.
func (r *Registry) EnsureDevice(ctx context.Context, p trust.Principal, a trust.Applicant, issuer string) (d trust.Device, o trust.Owner, err error) {
	mail, domain, err := trust.Mail(a.Mail)
	if err != nil {
		return d, o, fmt.Errorf("owner %q %w: %w", a.Mail, trust.ErrInvalid, err)
	}
	said := trust.Device{Issuer: issuer, Owner: mail, SerialNumber: strings.TrimSpace(a.SerialNumber), UDID: strings.TrimSpace(a.UDID), EASDeviceID: a.EASDeviceID,
		Model: a.Model, OS: strings.ToLower(a.OS), Managed: true, Compliant: trust.ComplianceUnsure, Source: a.Source}
	names := trust.Owner{Mail: mail, UPN: a.UPN}
	if err := errors.Join(checkDevice(said), checkOwner(names)); err != nil {
		return d, o, err
	}
	if said.Source == "" || said.Source == "admin" {
		return d, o, fmt.Errorf("source %q %w: an MDM reports under its own name", said.Source, trust.ErrInvalid)
	}
	_, err = r.update(ctx, p, ActDeviceReport, said.SerialNumber+said.UDID, func(t *txn) error {
		if err := domainOf(t, issuer, domain); err != nil {
			return err
		}
		if d, err = t.reported(said); err != nil {
			return err
		}
		if d.ID == "" {
			if d, err = t.addReported(said); err != nil {
				return err
			}
		} else if d, err = t.updateReported(d, said); err != nil {
			return err
		}
		if o, err = ownerOf(t, mail); err == nil && (names.UPN == "" || strings.EqualFold(o.UPN, names.UPN)) {
			return nil
		}
		if err := mergeOwner(t, names); err != nil {
			return err
		}
		if err := t.audit(AuditEntry{Action: ActOwnerPut, Object: mail, After: snapshot(names)}); err != nil {
			return err
		}
		o, err = ownerOf(t, mail)
		return err
	})
	return d, o, err
}

// reported finds the device that has the hardware numbers; one without ID is not known. Numbers of two devices are a contradiction.
func (t *txn) reported(said trust.Device) (d trust.Device, err error) {
	for _, key := range hardwareKeys(said) {
		id, known := t.Get(tableMeta, key)
		if !known {
			continue
		}
		if d.ID != "" && string(d.ID) != string(id) {
			return d, fmt.Errorf("serial number and UDID are those of two devices, %s and %s: %w", d.ID, id, trust.ErrForbidden)
		}
		if d, err = deviceOf(t, trust.DeviceID(id)); err != nil {
			return d, err
		}
	}
	return d, nil
}

func (t *txn) addReported(said trust.Device) (trust.Device, error) {
	d := said
	d.ID, d.State, d.Created, d.Updated, d.SourceSync = trust.DeviceID(trust.NewIDAt("dev", t.now)), trust.Pending, t.now.UTC(), t.now.UTC(), t.now.UTC()
	if err := uniqueDevice(t, d); err != nil {
		return d, err
	}
	return d, t.putDevice(d, AuditEntry{Action: ActDeviceReport, After: snapshot(d)})
}

// updateReported takes over what is new.
func (t *txn) updateReported(d, said trust.Device) (trust.Device, error) {
	if d.SerialNumber != "" && said.SerialNumber != "" && !strings.EqualFold(d.SerialNumber, said.SerialNumber) {
		return d, fmt.Errorf("device %s has another serial number: %w", d.ID, trust.ErrForbidden)
	}
	if d.Source != said.Source {
		if d.Owner != said.Owner {
			return d, fmt.Errorf("device %s belongs to another owner, according to %s: %w", d.ID, d.Source, trust.ErrForbidden)
		}
		return d, nil
	}
	was := d
	for _, f := range []struct {
		dst *string
		src string
	}{{&d.SerialNumber, said.SerialNumber}, {&d.UDID, said.UDID}, {&d.EASDeviceID, said.EASDeviceID}, {&d.Model, said.Model}, {&d.OS, said.OS}} {
		if f.src != "" {
			*f.dst = f.src
		}
	}
	if d.SerialNumber != was.SerialNumber || d.UDID != was.UDID {
		if err := t.moveHardware(was, d); err != nil {
			return d, err
		}
	}
	d.Managed, d.Owner = true, said.Owner
	if d.Owner != was.Owner {
		if err := t.revokeAll(d.ID, trust.AffiliationChanged, "reassigned to "+d.Owner+" by "+d.Source); err != nil {
			return d, err
		}
		t.Put(tableMeta, reassignedKey(d.ID), []byte(seqKey(uint64(t.Revision()))))
		d.Enrolled = time.Time{}
		if d.State == trust.Active {
			d.State = trust.Pending
		}
	}
	same := d.SerialNumber == was.SerialNumber && d.UDID == was.UDID && d.EASDeviceID == was.EASDeviceID && d.Model == was.Model && d.OS == was.OS &&
		d.Managed == was.Managed && d.Owner == was.Owner
	if same && t.now.Sub(was.SourceSync) < reportInterval {
		return was, nil
	}
	d.SourceSync, d.Updated = t.now.UTC(), t.now.UTC()
	return d, t.putDevice(d, AuditEntry{Action: ActDeviceReport, Before: snapshot(was), After: snapshot(d)})
}

// moveHardware keeps the index of hardware numbers.
func (t *txn) moveHardware(was, d trust.Device) error {
	for _, key := range hardwareKeys(was) {
		t.Delete(tableMeta, key)
	}
	return uniqueDevice(t, d)
}

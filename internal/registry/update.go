package registry

import (
	"context"
	"fmt"
	"maps"

	"postern/internal/trust"
)

// DeviceUpdate is what is said anew of a device. Nil leaves a field as it is; an empty string takes it away. Labels are merged, and one with an empty value
// is removed. Of Owner, the further names are united with those known; the owner's mail address changes only by ReassignDevice.
type DeviceUpdate struct {
	EASDeviceID, Model, OS, OSVersion *string
	Compliant                         *trust.Compliance
	Labels                            map[string]string
	Owner                             trust.Owner // Mail is ignored
}

// UpdateDevice changes what is known of a device.
func (r *Registry) UpdateDevice(ctx context.Context, p trust.Principal, id trust.DeviceID, u DeviceUpdate) (d trust.Device, rev Revision, err error) {
	rev, err = r.update(ctx, p, ActDeviceUpdate, string(id), func(t *txn) error {
		if d, err = get[trust.Device](t, tableDevices, string(id)); err != nil {
			return err
		}
		if d.State == trust.Retired {
			return fmt.Errorf("device is retired: %w", trust.ErrConflict)
		}
		before := snapshot(d)
		for _, f := range []struct{ to, from *string }{{&d.EASDeviceID, u.EASDeviceID}, {&d.Model, u.Model}, {&d.OS, u.OS}, {&d.OSVersion, u.OSVersion}} {
			if f.from != nil {
				*f.to = *f.from
			}
		}
		if c := u.Compliant; c != nil {
			if *c != trust.Compliant && *c != trust.NonCompliant && *c != trust.ComplianceUnsure {
				return fmt.Errorf("compliant %q %w: use yes, no or unknown", *c, trust.ErrInvalid)
			}
			d.SetCompliant(*c, t.now)
		}
		labels := map[string]string{}
		maps.Copy(labels, d.Labels)
		for k, v := range u.Labels {
			if labels[k] = v; v == "" {
				delete(labels, k)
			}
		}
		d.Labels, d.Updated = labels, t.now.UTC()
		if err := checkDevice(d); err != nil {
			return err
		}
		u.Owner.Mail = d.Owner
		if err := mergeOwner(t, u.Owner); err != nil {
			return err
		}
		return t.putDevice(d, AuditEntry{Action: ActDeviceUpdate, Before: before, After: snapshot(d)})
	})
	return d, rev, err
}

package registry

import (
	"context"

	"postern/internal/trust"
)

// ActLifecycle lets a principal have the lifecycle policy carried out. What it then does is done, and audited, as the policy.
const ActLifecycle = "lifecycle.run"

// Resident is a device with the newest of its certificates that is not revoked; the zero certificate where it has none.
type Resident struct {
	Device      trust.Device
	Certificate trust.Certificate
}

// Census lists devices that are not retired, by id, with their certificates: at most limit (1 to 1000) of those after a device, in one short view. last is where to
// go on, "" at the end.
func (r *Registry) Census(ctx context.Context, after trust.DeviceID, limit int) (out []Resident, last trust.DeviceID, err error) {
	err = r.view(ctx, func(rd Reader) error {
		out, last = []Resident{}, ""
		page, err := list[trust.Device](rd, tableDevices, "", string(after), limit, nil)
		if err != nil {
			return err
		}
		if len(page) == limit {
			last = page[limit-1].ID
		}
		for _, d := range page {
			if d.State == trust.Retired {
				continue
			}
			one := Resident{Device: d}
			if one.Device.Suspended, err = suspensionOf(rd, KindDevice, string(d.ID)); err != nil {
				return err
			}
			all, err := certificatesOf(rd, d.ID)
			if err != nil {
				return err
			}
			for _, c := range all {
				if c.Status != trust.Revoked && c.IssuedAt.After(one.Certificate.IssuedAt) {
					one.Certificate = c
				}
			}
			out = append(out, one)
		}
		return nil
	})
	return out, last, err
}

// BeginLifecycle authorises a principal to have the lifecycle policy carried out, and audits that it is.
func (r *Registry) BeginLifecycle(ctx context.Context, p trust.Principal, digest string) error {
	_, err := r.update(ctx, p, ActLifecycle, "devices", func(t *txn) error {
		return t.audit(AuditEntry{Action: ActLifecycle, Object: "devices", Detail: "policy " + digest})
	})
	return err
}

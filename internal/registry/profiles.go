package registry

import (
	"context"
	"fmt"
	"strings"
	"time"

	"postern/internal/trust"
)

func profileKey(k trust.ProfileKey) string {
	return strings.Join([]string{k.Tenant, k.Protocol, k.ClientID, k.User, k.Credential}, "\x00")
}

// ObserveProfile records a mail profile at first sight, durably, before the decision that depends on it, and returns what is known of it. If it is known
// already, its certificate, device and last-seen time are refreshed, unless an administrator linked it; going to another device is audited. A device without
// certificate, which a ticket proves, never takes the place of one with it. created says
// which of the two happened.
func (r *Registry) ObserveProfile(ctx context.Context, p trust.Principal, seen trust.MailProfile) (out trust.MailProfile, created bool, err error) {
	for _, s := range []string{seen.Tenant, seen.Protocol, seen.ClientID, seen.User, seen.Credential} {
		if !plain(s, 512) {
			return out, false, fmt.Errorf("mail profile with a name longer than 512 bytes or with control characters: %w", trust.ErrInvalid)
		}
	}
	_, err = r.update(ctx, p, ActProfileObserve, seen.ClientID, func(t *txn) error {
		created = false
		out = seen
		key := profileKey(seen.Key())
		if id, ok := t.Get(tableProfileKeys, key); ok {
			if out, err = get[trust.MailProfile](t, tableProfiles, string(id)); err != nil {
				return err
			}
			out.LastSeen, out.Family, out.Model = seen.LastSeen, seen.Family, seen.Model
			if !out.Linked && (seen.Serial != "" || seen.Device != "" && out.Serial == "") {
				before := out
				out.Serial, out.Device = seen.Serial, seen.Device
				if before.Device != "" && before.Device != out.Device {
					if err := t.audit(AuditEntry{Action: ActProfileObserve, Object: out.ID, Detail: "another device", Before: snapshot(before), After: snapshot(out)}); err != nil {
						return err
					}
				}
			}
		} else {
			out.ID, out.FirstSeen, created = trust.NewIDAt("mp", t.now), seen.LastSeen, true
			t.Put(tableProfileKeys, key, []byte(out.ID))
			if err := t.audit(AuditEntry{Action: ActProfileObserve, Object: out.ID, After: snapshot(out)}); err != nil {
				return err
			}
		}
		return t.putProfile(out)
	})
	return out, created, err
}

func (t *txn) putProfile(p trust.MailProfile) error {
	t.Touch(KindProfile, p.ID)
	return put(t, tableProfiles, p.ID, p)
}

// LinkProfile binds a mail profile to a device by an administrator's word: from then on its client id counts as that device's.
func (r *Registry) LinkProfile(ctx context.Context, p trust.Principal, id string, device trust.DeviceID) (out trust.MailProfile, err error) {
	_, err = r.update(ctx, p, ActProfileLink, id, func(t *txn) error {
		if out, err = get[trust.MailProfile](t, tableProfiles, id); err != nil {
			return err
		}
		d, err := get[trust.Device](t, tableDevices, string(device))
		if err != nil {
			return err
		}
		if d.State == trust.Retired {
			return fmt.Errorf("device is retired: %w", trust.ErrConflict)
		}
		before := snapshot(out)
		out.Device, out.Linked, out.Refused = device, true, false
		if err := t.putProfile(out); err != nil {
			return err
		}
		return t.audit(AuditEntry{Action: ActProfileLink, Object: id, Before: before, After: snapshot(out)})
	})
	return out, err
}

// ForgetProfile removes a mail profile; the client is a newcomer the next time it is seen.
func (r *Registry) ForgetProfile(ctx context.Context, p trust.Principal, id string) error {
	_, err := r.update(ctx, p, ActProfileForget, id, func(t *txn) error {
		old, err := get[trust.MailProfile](t, tableProfiles, id)
		if err != nil {
			return err
		}
		return t.dropProfile(old)
	})
	return err
}

// Profile returns one mail profile.
func (r *Registry) Profile(ctx context.Context, id string) (p trust.MailProfile, err error) {
	err = r.view(ctx, func(rd Reader) error {
		p, err = get[trust.MailProfile](rd, tableProfiles, id)
		return err
	})
	return p, err
}

// ProfileFilter selects mail profiles. Zero fields do not filter.
type ProfileFilter struct {
	Device      trust.DeviceID
	User        string
	SeenBefore  time.Time // last seen earlier than this
	After       string    // id of the last profile of the previous page
	Limit       int
	Unconnected bool // only those without a device
}

// Profiles lists mail profiles by id.
func (r *Registry) Profiles(ctx context.Context, f ProfileFilter) (out []trust.MailProfile, err error) {
	return listPaged(ctx, r.store, tableProfiles, "", f.After, pageLimit(f.Limit), func(p trust.MailProfile) bool {
		return (f.Device == "" || p.Device == f.Device) && (f.User == "" || strings.EqualFold(p.User, f.User)) &&
			(f.SeenBefore.IsZero() || p.LastSeen.Before(f.SeenBefore)) && (!f.Unconnected || p.Device == "")
	})
}

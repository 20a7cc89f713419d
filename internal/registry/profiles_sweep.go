package registry

import (
	"context"
	"time"

	"postern/internal/trust"
)

// How long a mail profile is kept after it was last seen: as long as Exchange keeps a silent partnership, and less where no certificate ever came with it, such
// as that of somebody who tried the DeviceId of a managed phone. One that an administrator linked is kept.
const (
	keepProfile  = 180 * 24 * time.Hour
	keepUnproved = 30 * 24 * time.Hour
)

func staleProfile(p trust.MailProfile, now time.Time) bool {
	keep := keepProfile
	if p.Serial == "" {
		keep = keepUnproved
	}
	return !p.Linked && now.Sub(p.LastSeen) > keep
}

// DeleteStaleProfiles deletes mail profiles that were not seen for 180 days before now, or for 30 where no certificate came with them, and returns how many. Each
// is audited. A client that comes back is a newcomer.
func (r *Registry) DeleteStaleProfiles(ctx context.Context, now time.Time) (n int, err error) {
	for after := ""; ; {
		var ids []string
		err := scanPages(ctx, r.store, tableProfiles, "", after, func(id string, raw []byte) (bool, error) {
			var p trust.MailProfile
			// One that cannot be read stays: whoever needs it is told.
			if after = id; decode(raw, &p) == nil && staleProfile(p, now) {
				ids = append(ids, id)
			}
			return len(ids) < deleteAtOnce, nil
		})
		if err != nil || len(ids) == 0 {
			return n, err
		}
		deleted := 0
		_, err = r.update(ctx, sweeper, ActSweep, string(tableProfiles), func(t *txn) error {
			deleted = 0
			for _, id := range ids {
				// It may have been seen since.
				p, err := get[trust.MailProfile](t, tableProfiles, id)
				if err != nil || !staleProfile(p, now) {
					continue
				}
				if err := t.dropProfile(p); err != nil {
					return err
				}
				deleted++
			}
			return nil
		})
		if err != nil {
			return n, err
		}
		n += deleted
	}
}

// dropProfile removes a mail profile and its key.
func (t *txn) dropProfile(p trust.MailProfile) error {
	t.Delete(tableProfiles, p.ID)
	t.Delete(tableProfileKeys, profileKey(p.Key()))
	t.Touch(KindProfile, p.ID)
	return t.audit(AuditEntry{Action: ActProfileForget, Object: p.ID, Before: snapshot(p)})
}

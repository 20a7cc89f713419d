package registry

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"postern/internal/trust"
)

// Settlement is what an administrator says about a mail profile that is kept waiting because another one uses the same certificate.
type Settlement struct {
	Allow   bool   // the profile is its device's; otherwise it stays refused, also when the other one has fallen silent
	Replace bool   // with Allow: the others of the same mail client on the device are forgotten, as after a wipe; otherwise both may be used
	Comment string // why, for the audit
}

// SettleProfile settles a mail profile for good, or settles it anew. Allowing one that came without a certificate is a conflict: there is no device that it could be
// bound to (LinkProfile names one).
func (r *Registry) SettleProfile(ctx context.Context, p trust.Principal, id string, s Settlement) (out trust.MailProfile, rev Revision, err error) {
	switch {
	case !plain(s.Comment, maxComment):
		return out, 0, fmt.Errorf("comment longer than %d bytes or with control characters: %w", maxComment, trust.ErrInvalid)
	case s.Replace && !s.Allow:
		return out, 0, fmt.Errorf("a refused mail profile %w: replaces no other", trust.ErrInvalid)
	}
	rev, err = r.update(ctx, p, ActProfileSettle, id, func(t *txn) error {
		if out, err = get[trust.MailProfile](t, tableProfiles, id); err != nil {
			return err
		}
		before := snapshot(out)
		if s.Allow && out.Device == "" {
			return fmt.Errorf("mail profile %s came with no certificate: let the device enrol, or bind it by `postern profile link`: %w", id, trust.ErrConflict)
		}
		out.Linked, out.Refused = s.Allow, !s.Allow
		if s.Replace {
			if err := t.forgetOthers(out); err != nil {
				return err
			}
		}
		if err := t.putProfile(out); err != nil {
			return err
		}
		word := map[bool]string{true: "allowed", false: "refused"}[s.Allow]
		return t.audit(AuditEntry{Action: ActProfileSettle, Object: id, Detail: strings.TrimSuffix(word+": "+s.Comment, ": "), Before: before, After: snapshot(out)})
	})
	return out, rev, err
}

// forgetOthers forgets the profiles of the same mail client on the same device.
func (t *txn) forgetOthers(p trust.MailProfile) error {
	var others []trust.MailProfile
	var bad error
	t.Scan(tableProfiles, "", "", func(_ string, raw []byte) bool {
		var o trust.MailProfile
		if bad = decode(raw, &o); bad != nil {
			return false
		}
		if o.ID != p.ID && o.Device == p.Device && o.Protocol == p.Protocol && o.Family == p.Family && o.ClientID != p.ClientID {
			others = append(others, o)
		}
		return true
	})
	if bad != nil {
		return errors.Join(errRecord, bad)
	}
	for _, o := range others {
		if err := t.dropProfile(o); err != nil {
			return err
		}
	}
	return nil
}

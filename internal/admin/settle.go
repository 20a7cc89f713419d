package admin

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/gin-gonic/gin"

	"postern/internal/api"
	"postern/internal/registry"
	"postern/internal/trust"
)

// How far back the journal is read for mail profiles that are kept waiting: one that is used is refused many times an hour.
const (
	waitingFor   = 7 * 24 * time.Hour
	waitingPages = 10
)

// secondDeviceID is the reason for which a mail profile waits to be settled.
const secondDeviceID = "duplicate_profile_second_device_id"

func (a *Admin) settleRoutes(g *gin.RouterGroup) {
	g.GET("/settle", handle(a.listOpen))
	g.POST("/settle/:id", handle(a.settleOne))
}

// listOpen lists what waits for an administrator, the oldest first.
func (a *Admin) listOpen(c *gin.Context, _ none) ([]api.Open, error) {
	out := []api.Open{}
	pending, err := a.cfg.Registry.PendingRequests(c, registry.PendingFilter{State: registry.PendingWaiting, Limit: registry.MaxLimit})
	if err != nil {
		return nil, err
	}
	for _, p := range pending {
		out = append(out, api.Open{ID: p.ID, Kind: "enrolment", User: p.Owner, Device: p.Device, What: "wants a certificate", Since: p.Created, Reasons: codesOf(p.Reasons)})
	}
	devices, err := a.cfg.Registry.Devices(c, registry.DeviceFilter{State: trust.Quarantined, Limit: registry.MaxLimit})
	if err != nil {
		return nil, err
	}
	for _, d := range devices {
		out = append(out, api.Open{ID: string(d.ID), Kind: "device", User: d.Owner, Device: d.ID, What: "is quarantined; certificates on hold stay so until they are released", Since: d.Updated,
			Reasons: []string{"device_quarantined"}})
	}
	profiles, err := a.openProfiles(c)
	if err != nil {
		return nil, err
	}
	out = append(out, profiles...)
	slices.SortStableFunc(out, func(x, y api.Open) int { return x.Since.Compare(y.Since) })
	return out, nil
}

func codesOf(reasons []trust.Reason) []string {
	codes := make([]string, len(reasons))
	for i, r := range reasons {
		codes[i] = r.Code
	}
	return codes
}

// openProfiles are the mail profiles that were lately quarantined for a second DeviceId, and nobody has settled.
func (a *Admin) openProfiles(ctx context.Context) (out []api.Open, err error) {
	seen := map[string]bool{"": true}
	before, oldest := "", a.cfg.Now().Add(-waitingFor)
	for range waitingPages {
		page, err := a.cfg.Journal.Decisions(ctx, registry.DecisionFilter{Action: trust.Quarantine, Before: before, Limit: registry.MaxLimit})
		if err != nil {
			return nil, err
		}
		for _, d := range page {
			i := slices.IndexFunc(d.Reasons, func(r trust.Reason) bool { return r.Code == secondDeviceID })
			if i < 0 || seen[d.Profile] {
				continue
			}
			seen[d.Profile] = true
			p, err := a.cfg.Registry.Profile(ctx, d.Profile)
			if errors.Is(err, trust.ErrNotFound) || err == nil && (p.Linked || p.Refused) {
				continue
			}
			if err != nil {
				return nil, err
			}
			out = append(out, api.Open{ID: p.ID, Kind: "profile", User: p.User, Device: p.Device, Since: p.FirstSeen, Reasons: codesOf(d.Reasons),
				What: fmt.Sprintf("%s under the DeviceId %s, beside %s", p.Family, p.ClientID, d.Reasons[i].Facts["duplicate.other_device_id"])})
		}
		if len(page) < registry.MaxLimit || page[len(page)-1].At.Before(oldest) {
			break
		}
		before = page[len(page)-1].Reference
	}
	return out, nil
}

// settleOne settles a mail profile, a device or an enrolment, which its id tells apart.
func (a *Admin) settleOne(c *gin.Context, in api.Settle) (out api.Settled, err error) {
	id := c.Param("id")
	out = api.Settled{ID: id, Kind: "enrolment"}
	var rev registry.Revision
	switch {
	case strings.HasPrefix(id, "mp-"):
		out.Kind, out.State = "profile", word(in.Allow, "allowed", "refused")
		_, rev, err = a.cfg.Registry.SettleProfile(c, principal(c), id, registry.Settlement{Allow: in.Allow, Replace: in.Replace, Comment: in.Comment})
	case in.Replace:
		return out, fmt.Errorf("replace %w: it is for mail profiles", trust.ErrInvalid)
	case strings.HasPrefix(id, "dev-"):
		state := trust.Active
		if !in.Allow {
			state = trust.Blocked
		}
		out.Kind, out.State = "device", string(state)
		rev, err = a.cfg.Registry.SetDeviceState(c, principal(c), trust.DeviceID(id), state, in.Comment)
	case in.Allow:
		out.State = "approved"
		_, err = a.cfg.Registry.Approve(c, principal(c), id, in.Comment)
	default:
		out.State = "rejected"
		_, err = a.cfg.Registry.Reject(c, principal(c), id, in.Comment)
	}
	if err != nil {
		return out, err
	}
	return out, a.settle(c, rev)
}

func word(b bool, yes, no string) string {
	if b {
		return yes
	}
	return no
}

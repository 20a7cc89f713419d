package admin

import (
	"fmt"

	"github.com/gin-gonic/gin"

	"postern/internal/api"
	"postern/internal/registry"
	"postern/internal/trust"
)

// revokeMany revokes in bulk. Whatever could be found is revoked; what could not says why in its result.
func (a *Admin) revokeMany(c *gin.Context, in api.RevokeMany) (out api.Revocations, err error) {
	reason, err := trust.RevocationReason(in.Reason)
	if err != nil {
		return out, err
	}
	if len(in.Targets) == 0 {
		return out, fmt.Errorf("no targets: %w", trust.ErrInvalid)
	}
	targets := make([]registry.RevokeTarget, len(in.Targets))
	for i, t := range in.Targets {
		targets[i] = registry.RevokeTarget{Issuer: t.Issuer, Device: t.Device, Owner: t.Owner}
		if t.Serial == "" {
			continue
		}
		if targets[i].Serial, err = trust.ParseSerial(string(t.Serial)); err != nil {
			return out, fmt.Errorf("target %d: %w", i+1, err)
		}
	}
	results, rev, err := a.cfg.Registry.RevokeMany(c, principal(c), targets, reason, in.Comment, in.DryRun)
	if err != nil {
		return out, err
	}
	out = api.Revocations{DryRun: in.DryRun, Results: make([]api.Outcome, len(results))}
	for i, r := range results {
		out.Results[i] = api.Outcome{Revoked: r.Certificates, Already: r.Already, Expired: r.Expired}
		if r.Certificates == nil {
			out.Results[i].Revoked = []trust.Serial{}
		}
		if r.Err != nil {
			out.Results[i].Error = r.Err.Error()
		}
	}
	return out, a.settle(c, rev)
}

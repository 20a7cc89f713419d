package admin

import (
	"context"
	"errors"
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
	var proposed *registry.ProposedError
	if err != nil && !errors.As(err, &proposed) {
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
	if proposed != nil {
		p := a.proposal(proposed.Proposal)
		out.Proposal = &p
	}
	return out, a.settle(c, rev)
}

func (a *Admin) proposal(p registry.RevokeProposal) api.RevokeProposal {
	out := api.RevokeProposal{ID: p.ID, State: p.State(a.cfg.Now()), Count: len(p.Certificates), Reason: string(p.Reason), Comment: p.Comment, By: p.By.String(),
		Created: p.Created, Until: p.Created.Add(registry.ProposalTTL), Done: nonZero(p.Done), Digest: p.Digest}
	if p.Second != (trust.Principal{}) {
		out.Second = p.Second.String()
	}
	return out
}

func (a *Admin) listProposals(c *gin.Context, _ none) ([]api.RevokeProposal, error) {
	n, err := limit(c)
	if err != nil {
		return nil, err
	}
	if err := oneOf(c, "all", "true", "false"); err != nil {
		return nil, err
	}
	all, err := a.cfg.Registry.RevokeProposals(c, registry.ProposalFilter{All: c.Query("all") == "true", After: c.Query("after"), Limit: n})
	out := make([]api.RevokeProposal, len(all))
	for i, p := range all {
		out[i] = a.proposal(p)
	}
	return out, err
}

func (a *Admin) showProposal(c *gin.Context, _ none) (out api.RevokeProposal, err error) {
	p, err := a.cfg.Registry.RevokeProposal(c, c.Param("id"))
	if err != nil {
		return out, err
	}
	out = a.proposal(p)
	out.Certificates = p.Certificates
	return out, nil
}

// approveRevocation goes on when the client has gone away: what two persons have agreed to is not left half done.
func (a *Admin) approveRevocation(c *gin.Context, _ none) (out api.Approved, err error) {
	p, done, rev, err := a.cfg.Registry.ApproveRevocation(context.WithoutCancel(c), principal(c), c.Param("id"))
	if err != nil {
		return out, err
	}
	return api.Approved{Proposal: a.proposal(p), Revoked: len(done.Certificates), Already: done.Already}, a.settle(c, rev)
}

func (a *Admin) withdrawRevocation(c *gin.Context, _ none) (out api.RevokeProposal, err error) {
	p, _, err := a.cfg.Registry.WithdrawRevocation(c, principal(c), c.Param("id"))
	if err != nil {
		return out, err
	}
	return a.proposal(p), nil
}

package admin

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/gin-gonic/gin"

	"postern/internal/api"
	"postern/internal/policy"
	"postern/internal/registry"
	"postern/internal/trust"
)

// takeUp is how long an activation waits for this node to have taken the version up.
const takeUp = 10 * time.Second

func (a *Admin) policyRoutes(g *gin.RouterGroup) {
	g.GET("/policies", handle(a.listPolicies))
	g.POST("/policies", handle(a.storePolicy))
	a.shadowRoutes(g)
	g.POST("/policies/facts", handle(a.suppose))
	g.GET("/policies/history", handle(a.policyHistory))
	g.GET("/policies/version/:digest", handle(a.showPolicy))
	g.POST("/policies/version/:digest/activate", handle(a.activatePolicy))
}

func (a *Admin) policyVersion(v registry.PolicyVersion) api.PolicyVersion {
	return api.PolicyVersion{Digest: v.Digest, Source: v.Source, Replace: v.Replace, BuiltIn: builtIn(v), Author: v.Author.String(), Comment: v.Comment, Created: v.Created, Files: v.Files,
		Size: v.Size, Active: v.Digest == a.cfg.Policy.Load().Digest()}
}

// builtIn reports whether a version adds nothing to the built-in policies.
func builtIn(v registry.PolicyVersion) bool { return !v.Replace && len(v.Files) == 0 }

// builtIns are the digests of the versions that add nothing, one for each release that had other built-in policies.
func (a *Admin) builtIns(ctx context.Context) (map[string]bool, error) {
	all, err := a.cfg.Registry.Policies(ctx)
	digests := map[string]bool{}
	for _, v := range all {
		digests[v.Digest] = builtIn(v)
	}
	return digests, err
}

func policyActivation(x registry.Activation, builtIns map[string]bool) api.PolicyActivation {
	out := api.PolicyActivation{Seq: x.Seq, Digest: x.Digest, BuiltIn: builtIns[x.Digest], By: x.By.String(), Comment: x.Comment, At: x.At, Proposed: x.Proposed()}
	if x.Second != (trust.Principal{}) {
		out.Second = x.Second.String()
	}
	return out
}

func (a *Admin) listPolicies(c *gin.Context, _ none) ([]api.PolicyVersion, error) {
	all, err := a.cfg.Registry.Policies(c)
	slices.SortFunc(all, func(x, y registry.PolicyVersion) int { return y.Created.Compare(x.Created) })
	out := make([]api.PolicyVersion, len(all))
	for i, v := range all {
		out[i] = a.policyVersion(v)
	}
	return out, err
}

func (a *Admin) showPolicy(c *gin.Context, _ none) (api.PolicyVersion, error) {
	v, packed, err := a.cfg.Registry.Policy(c, c.Param("digest"))
	out := a.policyVersion(v)
	out.Packed = packed
	return out, err
}

// storePolicy checks a version as `policy check` does, and keeps it. What is not accepted is answered with every problem.
func (a *Admin) storePolicy(c *gin.Context, in api.NewPolicy) (api.PolicyVersion, error) {
	files, err := policy.Unpack(in.Packed)
	if err != nil {
		return api.PolicyVersion{}, fmt.Errorf("%w: %w", err, trust.ErrInvalid)
	}
	r, err := policy.Check(c, policy.Options{Files: files})
	if err != nil {
		return api.PolicyVersion{}, fmt.Errorf("%w: %w", err, trust.ErrInvalid)
	}
	if !r.OK() {
		return api.PolicyVersion{}, fmt.Errorf("%w: %w", &policy.CheckError{Problems: r.Problems}, trust.ErrInvalid)
	}
	packed, err := files.Pack() // in our own form, whatever the archive looked like
	if err != nil {
		return api.PolicyVersion{}, fmt.Errorf("%w: %w", err, trust.ErrInvalid)
	}
	v, err := a.cfg.Registry.PutPolicy(c, principal(c), registry.PolicyVersion{Digest: r.Digest, Source: "api", Comment: in.Comment,
		Files: slices.Sorted(maps.Keys(files))}, packed)
	return a.policyVersion(v), err
}

// activatePolicy brings a version into force, and answers when this node has taken it up.
func (a *Admin) activatePolicy(c *gin.Context, in api.Activate) (api.PolicyActivation, error) {
	if a.cfg.PolicySource != "" {
		return api.PolicyActivation{}, fmt.Errorf("the policies come from %s: change them there, or take that key out of the configuration: %w", a.cfg.PolicySource, trust.ErrConflict)
	}
	x, _, err := a.cfg.Registry.ActivatePolicy(c, principal(c), c.Param("digest"), in.Comment)
	if err != nil {
		return api.PolicyActivation{}, err
	}
	known, err := a.builtIns(c)
	out := policyActivation(x, known)
	if err != nil || x.Proposed() {
		return out, err
	}
	out.InForce = a.takenUp(c, x.Digest)
	return out, nil
}

// takenUp waits until the version decides here; false if it does not in time, which health then explains.
func (a *Admin) takenUp(ctx context.Context, digest string) bool {
	ctx, cancel := context.WithTimeout(ctx, takeUp)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for a.cfg.Policy.Load().Digest() != digest {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return false
		}
	}
	return true
}

func (a *Admin) policyHistory(c *gin.Context, _ none) ([]api.PolicyActivation, error) {
	n, err := limit(c)
	if err != nil {
		return nil, err
	}
	known, err := a.builtIns(c)
	if err != nil {
		return nil, err
	}
	all, err := a.cfg.Registry.PolicyHistory(c, n)
	out := make([]api.PolicyActivation, len(all))
	inForce := a.cfg.Policy.Load().Digest()
	found := false
	for i, x := range all {
		out[i] = policyActivation(x, known)
		if !x.Proposed() && !found {
			out[i].InForce, found = x.Digest == inForce, true
		}
	}
	return out, err
}

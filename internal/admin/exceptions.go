package admin

import (
	"fmt"
	"strings"

	"github.com/gin-gonic/gin"

	"postern/internal/api"
	"postern/internal/policy"
	"postern/internal/registry"
	"postern/internal/trust"
)

func (a *Admin) exceptionRoutes(g *gin.RouterGroup) {
	g.GET("/exceptions", handle(a.listExceptions))
	g.POST("/exceptions", handle(a.grantException))
	g.DELETE("/exceptions/:id", handle(a.revokeException))
}

func (a *Admin) exception(e trust.Exception) api.Exception {
	out := api.Exception{ID: e.ID, User: e.Owner, Device: e.Device, Reasons: e.Reasons, Comment: e.Comment, By: e.By.String(), Status: "ended", Created: e.Created,
		Until: e.Until, Revoked: nonZero(e.Revoked)}
	switch {
	case out.Revoked != nil:
		out.Status = "revoked"
	case e.Live(a.cfg.Now()):
		out.Status = "live"
	}
	return out
}

func (a *Admin) listExceptions(c *gin.Context, _ none) ([]api.Exception, error) {
	n, err := limit(c)
	if err != nil {
		return nil, err
	}
	if err := oneOf(c, "all", "true", "false"); err != nil {
		return nil, err
	}
	all, err := a.cfg.Registry.Exceptions(c, registry.ExceptionFilter{Owner: c.Query("user"), Device: trust.DeviceID(c.Query("device")), Live: c.Query("all") != "true",
		After: c.Query("after"), Limit: n})
	out := make([]api.Exception, len(all))
	for i, e := range all {
		out[i] = a.exception(e)
	}
	return out, err
}

// grantException refuses what would be granted in vain: reasons that nothing lifts, and such as no rule gives.
func (a *Admin) grantException(c *gin.Context, in api.NewException) (out api.Exception, err error) {
	until, err := api.ParseEnd(in.Until, a.cfg.Now())
	if err != nil {
		return out, err
	}
	engine := a.cfg.Policy.Load()
	for _, code := range in.Reasons {
		if err := liftable(engine, code); err != nil {
			return out, err
		}
	}
	e, rev, err := a.cfg.Registry.GrantException(c, principal(c), trust.Exception{Owner: in.User, Device: in.Device, Reasons: in.Reasons, Until: until, Comment: in.Comment})
	if err != nil {
		return out, err
	}
	if err := a.settle(c, rev); err != nil {
		return out, err
	}
	out = a.exception(e)
	for _, code := range e.Reasons {
		if !engine.Says(code) {
			out.Warnings = append(out.Warnings, fmt.Sprintf("no rule of the policy in force says %q: is it spelt as in the decision?", code))
		}
	}
	return out, nil
}

// liftable says why an exception could not lift a reason. Where a rule computes its codes, one that nobody knows may be given.
func liftable(engine *policy.Engine, code string) error {
	switch {
	case !engine.Replaced() && !policy.Liftable(code):
		return fmt.Errorf("reason %q %w: no exception lifts it; settle its cause (`postern decision show` says how). What can be lifted: %s, and what your team's rules say",
			code, trust.ErrInvalid, strings.Join(policy.LiftableReasons(), ", "))
	case engine.Says(code) || engine.Computes():
		return nil
	}
	if like := engine.LikeCode(code); like != "" {
		return fmt.Errorf("reason %q %w: no rule of the policy in force gives it; did you mean %s?", code, trust.ErrInvalid, like)
	}
	return fmt.Errorf("reason %q %w: no rule of the policy in force gives it: write it as `postern decision show` does", code, trust.ErrInvalid)
}

func (a *Admin) revokeException(c *gin.Context, _ none) (out api.Exception, err error) {
	e, rev, err := a.cfg.Registry.RevokeException(c, principal(c), c.Param("id"), c.Query("comment"))
	if err != nil {
		return out, err
	}
	if err := a.settle(c, rev); err != nil {
		return out, err
	}
	return a.exception(e), nil
}

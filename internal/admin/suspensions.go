package admin

import (
	"context"

	"github.com/gin-gonic/gin"

	"postern/internal/api"
	"postern/internal/registry"
	"postern/internal/trust"
)

func (a *Admin) suspensionRoutes(g *gin.RouterGroup) {
	g.POST("/devices/:id/suspend", handle(a.suspendDevice))
	g.POST("/devices/:id/reinstate", handle(a.reinstateDevice))
	g.GET("/owners", handle(a.listOwners))
	g.GET("/owners/:mail", handle(a.showOwner))
	g.PATCH("/owners/:mail", handle(a.updateOwner))
	g.POST("/owners/:mail/suspend", handle(a.suspendOwner))
	g.POST("/owners/:mail/reinstate", handle(a.reinstateOwner))
}

func (a *Admin) suspendDevice(c *gin.Context, in api.Suspend) (trust.Device, error) {
	id := trust.DeviceID(c.Param("id"))
	rev, err := a.cfg.Registry.SuspendDevice(c, principal(c), id, trust.SuspendReason(in.Reason), in.Comment)
	return settled(c, a, rev, err, id, a.cfg.Registry.Device)
}

func (a *Admin) reinstateDevice(c *gin.Context, in api.Comment) (trust.Device, error) {
	id := trust.DeviceID(c.Param("id"))
	rev, err := a.cfg.Registry.ReinstateDevice(c, principal(c), id, in.Comment)
	return settled(c, a, rev, err, id, a.cfg.Registry.Device)
}

func (a *Admin) listOwners(c *gin.Context, _ none) ([]trust.Owner, error) {
	n, err := limit(c)
	if err != nil {
		return nil, err
	}
	if err := oneOf(c, "suspended", "true", "false"); err != nil {
		return nil, err
	}
	return a.cfg.Registry.Owners(c, registry.OwnerFilter{Suspended: c.Query("suspended") == "true", After: c.Query("after"), Limit: n})
}

func (a *Admin) showOwner(c *gin.Context, _ none) (trust.Owner, error) {
	return a.cfg.Registry.Owner(c, c.Param("mail"))
}

func (a *Admin) updateOwner(c *gin.Context, in api.OwnerUpdate) (trust.Owner, error) {
	mail := c.Param("mail")
	_, rev, err := a.cfg.Registry.UpdateOwner(c, principal(c), mail, registry.OwnerUpdate{UPN: in.UPN, SAM: in.SAM, OID: in.OID, TID: in.TID, Aliases: in.Aliases, Delegations: in.Delegations,
		DropAliases: in.DropAliases, DropDelegations: in.DropDelegations})
	return settled(c, a, rev, err, mail, a.cfg.Registry.Owner)
}

func (a *Admin) suspendOwner(c *gin.Context, in api.Suspend) (trust.Owner, error) {
	mail := c.Param("mail")
	rev, err := a.cfg.Registry.SuspendOwner(c, principal(c), mail, trust.SuspendReason(in.Reason), in.Comment)
	return settled(c, a, rev, err, mail, a.cfg.Registry.Owner)
}

func (a *Admin) reinstateOwner(c *gin.Context, in api.Comment) (trust.Owner, error) {
	mail := c.Param("mail")
	rev, err := a.cfg.Registry.ReinstateOwner(c, principal(c), mail, in.Comment)
	return settled(c, a, rev, err, mail, a.cfg.Registry.Owner)
}

// settled returns what was changed once the edge of this node has seen the change: whoever gets the answer may rely on it.
func settled[ID, Out any](c *gin.Context, a *Admin, rev registry.Revision, err error, id ID, show func(context.Context, ID) (Out, error)) (out Out, _ error) {
	if err != nil {
		return out, err
	}
	if err := a.settle(c, rev); err != nil {
		return out, err
	}
	return show(c, id)
}

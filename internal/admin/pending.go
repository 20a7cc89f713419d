package admin

import (
	"encoding/pem"

	"github.com/gin-gonic/gin"

	"postern/internal/api"
	"postern/internal/registry"
	"postern/internal/trust"
)

func (a *Admin) pendingRoutes(g *gin.RouterGroup) {
	g.GET("/pending", handle(a.listPending))
	g.GET("/pending/:id", handle(a.showPending))
	g.POST("/pending/:id/approve", handle(a.approvePending))
	g.POST("/pending/:id/reject", handle(a.rejectPending))
}

func pendingRequest(p registry.Pending) api.Pending {
	out := api.Pending{ID: p.ID, Issuer: p.Issuer, State: string(p.State), Device: p.Device, Owner: p.Owner, MessageType: p.MessageType,
		TransactionID: p.TransactionID, Evidence: p.Evidence, Reasons: p.Reasons, Created: p.Created, Expires: p.Expires, Decided: optional(p.Decided),
		Comment: p.Comment, Certificate: p.Serial}
	if out.Reasons == nil {
		out.Reasons = []trust.Reason{}
	}
	if p.By != nil {
		out.By = p.By.String()
	}
	return out
}

func (a *Admin) listPending(c *gin.Context, _ none) ([]api.Pending, error) {
	n, err := limit(c)
	if err != nil {
		return nil, err
	}
	all, err := a.cfg.Registry.PendingRequests(c, registry.PendingFilter{Issuer: c.Query("issuer"), Device: trust.DeviceID(c.Query("device")),
		State: registry.PendingState(c.Query("state")), After: c.Query("after"), Limit: n})
	out := make([]api.Pending, len(all))
	for i, p := range all {
		out[i] = pendingRequest(p)
	}
	return out, err
}

func (a *Admin) showPending(c *gin.Context, _ none) (api.Pending, error) {
	p, err := a.cfg.Registry.PendingByID(c, c.Param("id"))
	if err != nil {
		return api.Pending{}, err
	}
	out := pendingRequest(p)
	out.CSR = string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: p.CSR}))
	return out, nil
}

func (a *Admin) approvePending(c *gin.Context, in api.Comment) (api.Pending, error) {
	p, err := a.cfg.Registry.Approve(c, principal(c), c.Param("id"), in.Comment)
	return pendingRequest(p), err
}

func (a *Admin) rejectPending(c *gin.Context, in api.Comment) (api.Pending, error) {
	p, err := a.cfg.Registry.Reject(c, principal(c), c.Param("id"), in.Comment)
	return pendingRequest(p), err
}

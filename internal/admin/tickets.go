package admin

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/gin-gonic/gin"

	"postern/internal/api"
	"postern/internal/registry"
	"postern/internal/trust"
)

func (a *Admin) ticketRoutes(g *gin.RouterGroup) {
	g.GET("/tickets", handle(a.listTickets))
	g.POST("/tickets", handle(a.createTicket))
	g.POST("/tickets/:id/revoke", handle(a.revokeTicket))
}

func (a *Admin) listTickets(c *gin.Context, _ none) ([]api.Ticket, error) {
	n, err := limit(c)
	if err != nil {
		return nil, err
	}
	all, err := a.cfg.Registry.Tickets(c, registry.TicketFilter{Device: trust.DeviceID(c.Query("device")), After: c.Query("after"), Limit: n})
	if err != nil {
		return nil, err
	}
	out := make([]api.Ticket, len(all))
	for i, k := range all {
		if out[i], err = a.ticket(c, k); err != nil {
			return nil, err
		}
	}
	return out, nil
}

func (a *Admin) createTicket(c *gin.Context, in api.NewTicket) (out api.TicketAddresses, err error) {
	gate := a.cfg.Gate
	if in.Host != "" {
		if host := strings.ToLower(in.Host); !trust.Domain(host) {
			return out, fmt.Errorf("host %q %w: want the host name of the gate", in.Host, trust.ErrInvalid)
		}
		gate = "https://" + strings.ToLower(in.Host)
	}
	if gate == "" {
		return out, fmt.Errorf("this server has no OAuth front with tickets (edge.oauth.tickets): switch them on, or name the host of the gate that has them: %w", trust.ErrInvalid)
	}
	secret, k, rev, err := a.cfg.Registry.CreateTicket(c, principal(c), in.Device)
	if err != nil {
		return out, err
	}
	if err := a.settle(c, rev); err != nil {
		return out, err
	}
	base := gate + "/proxyservice/oauth2/t/" + secret
	out.SignInURL, out.TokenURL = base+"/authorize", base+"/token"
	out.Ticket, err = a.ticket(c, k)
	return out, err
}

func (a *Admin) revokeTicket(c *gin.Context, _ none) (out api.Ticket, err error) {
	k, rev, err := a.cfg.Registry.RevokeTicket(c, principal(c), c.Param("id"))
	if err != nil {
		return out, err
	}
	if err := a.settle(c, rev); err != nil {
		return out, err
	}
	return a.ticket(c, k)
}

// ticket says what a ticket is worth now.
func (a *Admin) ticket(c *gin.Context, k registry.Ticket) (api.Ticket, error) {
	out := api.Ticket{ID: k.ID, Device: k.Device, Owner: k.Owner, By: k.By.String(), Status: "dead", Created: k.Created}
	d, err := a.cfg.Registry.Device(c, k.Device)
	if err != nil && !errors.Is(err, trust.ErrNotFound) {
		return out, err
	}
	switch {
	case !k.Revoked.IsZero():
		out.Status, out.Revoked = "revoked", nonZero(k.Revoked)
	case err == nil && k.Live(d):
		out.Status = "live"
	}
	return out, nil
}

func nonZero(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}

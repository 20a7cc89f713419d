package admin

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"

	"github.com/gin-gonic/gin"

	"postern/internal/api"
	"postern/internal/registry"
	"postern/internal/trust"
)

func (a *Admin) profileRoutes(g *gin.RouterGroup) {
	g.GET("/profiles", handle(a.listProfiles))
	g.POST("/profiles/:id/link", handle(a.linkProfile))
	g.DELETE("/profiles/:id", handle(a.forgetProfile))
}

func (a *Admin) listProfiles(c *gin.Context, _ none) ([]trust.MailProfile, error) {
	n, err := limit(c)
	if err != nil {
		return nil, err
	}
	return a.cfg.Registry.Profiles(c, registry.ProfileFilter{Device: trust.DeviceID(c.Query("device")), User: c.Query("user"), After: c.Query("after"), Limit: n})
}

func (a *Admin) linkProfile(c *gin.Context, in api.Link) (trust.MailProfile, error) {
	return a.cfg.Registry.LinkProfile(c, principal(c), c.Param("id"), in.Device)
}

func (a *Admin) forgetProfile(c *gin.Context, _ none) (none, error) {
	return none{}, a.cfg.Registry.ForgetProfile(c, principal(c), c.Param("id"))
}

func (a *Admin) recordRoutes(g *gin.RouterGroup) {
	g.GET("/audit", handle(a.listAudit))
	g.GET("/decisions", handle(a.listDecisions))
	g.GET("/decisions/recorded", a.recorded)
	g.GET("/decisions/retained", handle(a.retained))
	g.GET("/decisions/:ref", handle(a.showDecision))
	g.GET("/status", handle(a.status))
}

func (a *Admin) listAudit(c *gin.Context, _ none) ([]api.AuditEntry, error) {
	n, err := limit(c)
	if err != nil {
		return nil, err
	}
	var before uint64
	if s := c.Query("before"); s != "" {
		if before, err = strconv.ParseUint(s, 10, 64); err != nil {
			return nil, fmt.Errorf("before %q %w: use the seq of an entry", s, trust.ErrInvalid)
		}
	}
	all, err := a.cfg.Registry.Audit(c, registry.AuditFilter{Object: c.Query("object"), Action: c.Query("action"), Before: before, Limit: n})
	out := make([]api.AuditEntry, len(all))
	for i, e := range all {
		out[i] = api.AuditEntry{Seq: e.Seq, Revision: uint64(e.Revision), At: e.At, Principal: e.Principal.String(), Role: e.Principal.Role, Action: e.Action,
			Object: e.Object, Outcome: string(e.Outcome), Detail: e.Detail, Before: e.Before, After: e.After}
	}
	return out, err
}

func (a *Admin) listDecisions(c *gin.Context, _ none) ([]api.Decision, error) {
	n, err := limit(c)
	if err != nil {
		return nil, err
	}
	if err := oneOf(c, "action", string(trust.Allow), string(trust.Quarantine), string(trust.Deny), string(trust.Pend), string(trust.Fault)); err != nil {
		return nil, err
	}
	all, err := a.cfg.Journal.Decisions(c, registry.DecisionFilter{Action: trust.Action(c.Query("action")), User: strings.ToLower(c.Query("user")),
		Device: trust.DeviceID(c.Query("device")), Before: c.Query("before"), Limit: n})
	out := make([]api.Decision, len(all))
	for i, d := range all {
		out[i] = decision(d)
		out[i].Input = nil
	}
	return out, err
}

func (a *Admin) showDecision(c *gin.Context, _ none) (api.Decision, error) {
	d, err := a.cfg.Journal.Decision(c, trust.ParseReference(c.Param("ref")))
	return decision(d), err
}

func decision(d trust.Decision) api.Decision {
	reasons := d.Reasons
	if reasons == nil {
		reasons = []trust.Reason{}
	}
	return api.Decision{Reference: d.Reference, At: d.At, Door: d.Door, Action: d.Action, Reasons: reasons, User: d.User, Device: d.Device, Certificate: d.Serial,
		ClientID: d.ClientID, Profile: d.Profile, Command: d.Command, Remote: d.Remote, ValidUntil: optional(d.ValidUntil), Input: json.RawMessage(d.Input), Policy: d.Policy}
}

func (a *Admin) status(c *gin.Context, _ none) (api.Status, error) {
	crls, err := a.crls(c, "")
	p, shadow := a.cfg.Policy.Load(), ""
	if s := a.cfg.Policy.Shadow(); s != nil {
		shadow = s.Policy()
	}
	return api.Status{Version: a.cfg.Version, Started: a.started, Revision: uint64(a.cfg.Index.Revision()), Policy: p.Digest(), Replaced: p.Replaced(), Shadow: shadow,
		Problems: a.problems(), Warnings: a.cfg.Warnings(), CRLs: crls, Gate: api.GateStatus{State: "open",
			Note: "Postern cannot see whether Exchange Online still takes mail clients directly. Until conditional access and the default access level close that path, the gate can be walked around."}}, err
}

func (a *Admin) tokenRoutes(g *gin.RouterGroup) {
	g.GET("/tokens", handle(a.listTokens))
	g.POST("/tokens", handle(a.createToken))
	g.DELETE("/tokens/:id", handle(a.revokeToken))
}

func token(t registry.Token) api.Token {
	return api.Token{ID: t.ID, Name: t.Name, Role: t.Role, Created: t.Created, Expires: t.Expires, Revoked: optional(t.Revoked)}
}

func (a *Admin) listTokens(c *gin.Context, _ none) ([]api.Token, error) {
	all, err := a.cfg.Registry.Tokens(c, principal(c))
	out := make([]api.Token, len(all))
	for i, t := range all {
		out[i] = token(t)
	}
	return out, err
}

// defaultTokenTTL is 90 days.
const defaultTokenTTL = "2160h"

func (a *Admin) createToken(c *gin.Context, in api.NewToken) (api.Token, error) {
	if in.TTL == "" {
		in.TTL = defaultTokenTTL
	}
	life, err := ttl(in.TTL, 0)
	if err != nil {
		return api.Token{}, err
	}
	secret, t, err := a.cfg.Registry.CreateToken(c, principal(c), in.Name, in.Role, life)
	if err != nil {
		return api.Token{}, err
	}
	out := token(t)
	out.Secret = secret
	return out, nil
}

func (a *Admin) revokeToken(c *gin.Context, _ none) (none, error) {
	return none{}, a.cfg.Registry.RevokeToken(c, principal(c), c.Param("id"))
}

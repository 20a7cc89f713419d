// Package admin is the door for administrators: the admin API, health and metrics. It is the only package that imports gin.
//
// The same API is served on a Unix socket in the data directory, where whoever may open it is root, and on TCP, where an access token says who asks and
// which role it has. What a role may change is decided in package registry, in the transaction that changes it.
package admin

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"github.com/gin-gonic/gin"

	"postern/internal/api"
	"postern/internal/policy"
	"postern/internal/registry"
	"postern/internal/trust"
)

// Config is what the door needs. All fields but PolicySource and NoChallenges are required.
type Config struct {
	Registry *registry.Registry
	Index    *registry.Index
	Journal  registry.Journal
	Policy   *policy.Active

	NoChallenges map[string]bool // issuers of this process that take no one-time challenges

	PolicySource string // where the policies come from, if not from what is activated through this API

	Problems    func() []string                               // what makes the process unhealthy
	Warnings    func() []string                               // what an operator should know though it is healthy
	CRLs        func() []CRLState                             // that this process publishes, for the metrics; nil for none
	Forecast    func(context.Context) ([]api.Forecast, error) // of the CRLs that are signed here
	Networks    Networks                                      // Microsoft's; the zero value knows none
	Edge        func() EdgeReactions                          // of the edge of this process; nil without one
	EdgeTrouble func() string                                 // why it tells every phone to come back later, empty while it decides; likewise
	DecisionLog func() DecisionLogCounts                      // nil where decisions are told to nobody
	Gate        string                                        // the address of the OAuth front that serves tickets, https://HOST; empty where this process has none
	Version     string
	Now         func() time.Time
	Log         *slog.Logger
}

// Admin serves the admin API.
type Admin struct {
	cfg     Config
	started time.Time
	parts   Parts
}

// New makes the door.
func New(cfg Config) *Admin {
	if cfg.Networks.Service == nil {
		cfg.Networks.Service = func(string) string { return "" }
	}
	return &Admin{cfg: cfg, started: cfg.Now()}
}

// Local is the handler for the Unix socket: every request is root's.
func (a *Admin) Local() http.Handler {
	return a.engine(func(c *gin.Context) {
		c.Set(principalKey, trust.Principal{Kind: "cli", Name: "root", Role: trust.Root})
	})
}

// Remote is the handler for TCP: health is open, everything else asks for an access token.
func (a *Admin) Remote() http.Handler { return a.engine(a.authenticate) }

const principalKey = "principal"

// engine builds the routes behind one way of knowing who asks.
func (a *Admin) engine(identify gin.HandlerFunc) http.Handler {
	gin.SetMode(gin.ReleaseMode)
	e := gin.New()
	e.Use(gin.CustomRecoveryWithWriter(nil, func(c *gin.Context, cause any) {
		a.cfg.Log.ErrorContext(c, "admin request panicked", "error", fmt.Sprint(cause), "path", c.FullPath())
		render(c, errors.New("internal error"))
	}))
	e.HandleMethodNotAllowed = true
	e.Use(a.logFaults)
	e.NoRoute(func(c *gin.Context) { render(c, fmt.Errorf("no such path: %w", trust.ErrNotFound)) })
	a.health(e)
	g := e.Group(api.Prefix, identify, readers)
	a.deviceRoutes(g)
	a.ticketRoutes(g)
	a.exceptionRoutes(g)
	a.settleRoutes(g)
	g.POST("/lifecycle/run", handle(a.runLifecycle))
	a.certificateRoutes(g)
	a.pendingRoutes(g)
	a.profileRoutes(g)
	a.recordRoutes(g)
	a.tokenRoutes(g)
	a.policyRoutes(g)
	return e
}

// authenticate takes the principal from the access token. What is wrong with a token is not said.
func (a *Admin) authenticate(c *gin.Context) {
	secret, ok := strings.CutPrefix(c.GetHeader("Authorization"), "Bearer ")
	if !ok || len(secret) > 128 {
		unauthorized(c)
		return
	}
	p, err := a.cfg.Registry.Authenticate(c, secret)
	if errors.Is(err, trust.ErrForbidden) {
		unauthorized(c)
		return
	}
	if err != nil {
		render(c, err)
		return
	}
	c.Set(principalKey, p)
}

func unauthorized(c *gin.Context) {
	c.Header("WWW-Authenticate", `Bearer realm="postern"`)
	c.AbortWithStatusJSON(http.StatusUnauthorized, api.Error{Status: http.StatusUnauthorized, Code: "unauthorized",
		Message: "a valid access token is required: make one with `postern admin token create`"})
}

// readers lets in who may look at all; changes are authorised by the registry.
func readers(c *gin.Context) {
	if !registry.MayRead(principal(c)) {
		render(c, trust.ErrForbidden)
	}
}

func principal(c *gin.Context) trust.Principal {
	p, _ := c.Get(principalKey)
	who, _ := p.(trust.Principal)
	return who
}

// handle adapts a function to a route: In is decoded from the body of a request that has one, Out is the answer.
func handle[In, Out any](fn func(*gin.Context, In) (Out, error)) gin.HandlerFunc {
	return func(c *gin.Context) {
		var in In
		if c.Request.Method == http.MethodPost || c.Request.Method == http.MethodPatch {
			if err := decode(c, &in); err != nil {
				render(c, err)
				return
			}
		}
		out, err := fn(c, in)
		if err != nil {
			render(c, err)
			return
		}
		c.JSON(http.StatusOK, out)
	}
}

// none is the In of requests without a body and the Out of those without an answer.
type none struct{}

// logFaults logs what render did not show.
func (a *Admin) logFaults(c *gin.Context) {
	c.Next()
	for _, e := range c.Errors {
		a.cfg.Log.ErrorContext(c, "admin request failed", "path", c.FullPath(), "error", e.Err)
	}
}

// render writes an error. Only errors of kinds that the API knows show their text; the rest is for the log.
func render(c *gin.Context, err error) {
	e := api.Error{Status: http.StatusInternalServerError, Code: "internal", Message: "internal error: see the server's log"}
	for _, k := range []struct {
		kind   error
		status int
		code   string
	}{
		{trust.ErrNotFound, http.StatusNotFound, "not_found"}, {trust.ErrConflict, http.StatusConflict, "conflict"},
		{trust.ErrInvalid, http.StatusBadRequest, "invalid"}, {trust.ErrForbidden, http.StatusForbidden, "forbidden"},
		{context.DeadlineExceeded, http.StatusGatewayTimeout, "timeout"},
	} {
		if errors.Is(err, k.kind) {
			e = api.Error{Status: k.status, Code: k.code, Message: err.Error()}
			break
		}
	}
	if e.Code == "internal" {
		_ = c.Error(err)
	}
	c.AbortWithStatusJSON(e.Status, e)
}

// settle waits until every door of this process sees the change, so that what the API acknowledges is already in force.
func (a *Admin) settle(ctx context.Context, rev registry.Revision) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	return a.cfg.Index.CatchUp(ctx, rev)
}

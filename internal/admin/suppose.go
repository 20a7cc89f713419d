package admin

import (
	"context"
	"fmt"

	"github.com/gin-gonic/gin"

	"postern/internal/api"
	"postern/internal/policy"
	"postern/internal/trust"
)

// Parts are what other parts of this process do when they are asked; nil where it has no such part.
type Parts struct {
	Lifecycle func(context.Context, trust.Principal, api.RunLifecycle) (*api.LifecycleRun, error) // look through the devices
	Suppose   func(context.Context, api.Suppose) (*policy.AccessInput, error)                     // the facts of a request as the edge would see them
}

// With gives the door the parts; call it before it serves.
func (a *Admin) With(p Parts) { a.parts = p }

// suppose says what the edge of this process would see of a request.
func (a *Admin) suppose(c *gin.Context, in api.Suppose) (*policy.AccessInput, error) {
	if a.parts.Suppose == nil {
		return nil, fmt.Errorf("this server is no gate: ask one that has a section edge: %w", trust.ErrNotFound)
	}
	return a.parts.Suppose(c, in)
}

package admin

import (
	"fmt"

	"github.com/gin-gonic/gin"

	"postern/internal/api"
	"postern/internal/trust"
)

// runLifecycle decides about every device now. Whoever may look may ask for a dry run.
func (a *Admin) runLifecycle(c *gin.Context, in api.RunLifecycle) (*api.LifecycleRun, error) {
	if a.parts.Lifecycle == nil {
		return nil, fmt.Errorf("this server looks through no devices: %w", trust.ErrNotFound)
	}
	return a.parts.Lifecycle(c, principal(c), in)
}

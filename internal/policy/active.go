package policy

import (
	"sync"
	"sync/atomic"
)

// Active is the policy in use, and the candidate that decides beside it, if there is one. A new one takes its place between two decisions, never within one.
type Active struct {
	engine atomic.Pointer[Engine]

	mu     sync.Mutex // of those who change it
	shadow *Shadow
}

// NewActive returns an Active that holds e.
func NewActive(e *Engine) *Active {
	a := &Active{}
	a.engine.Store(e)
	return a
}

// Load returns the policy in use.
func (a *Active) Load() *Engine { return a.engine.Load() }

// Swap puts e in use and returns the policy before it. A shadow stays, and begins a new report.
func (a *Active) Swap(e *Engine) *Engine {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.engine.Swap(e.beside(a.shadow))
}

// Beside has a shadow decide beside the policy in use, and nobody any more for nil. What this remembers is forgotten, so that the shadow sees it too.
func (a *Active) Beside(s *Shadow) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.shadow = s
	a.engine.Store(a.engine.Load().beside(s))
}

// Shadow returns the shadow, or nil.
func (a *Active) Shadow() *Shadow {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.shadow
}

// beside returns the same policy with another shadow.
func (e *Engine) beside(s *Shadow) *Engine {
	if e.shadow == s {
		return e
	}
	with := *e
	if with.shadow = s; s != nil {
		with.cache = newCache()
		s.restart(e.digest)
	}
	return &with
}

package edge

import (
	"strings"
	"sync"
	"time"

	"postern/internal/registry"
	"postern/internal/trust"
)

// Reactions is how fast the edge has acted, since its start, on what takes a permission away.
type Reactions struct {
	Applied registry.TimingCounts // from a revocation, hold or suspension to the edge's refusing by it; of several in one step, the first
	Ended   uint64                // commands in flight, long polls above all, that were ended because they were no longer allowed
}

// reactions counts them.
type reactions struct {
	applied registry.Timing

	mu     sync.Mutex
	latest time.Time // the last change that was counted: an object that is touched again for another reason is not a new one
	ended  uint64
}

// Reactions returns what was counted so far.
func (e *Edge) Reactions() Reactions {
	r := &e.reactions
	r.mu.Lock()
	defer r.mu.Unlock()
	return Reactions{Applied: r.applied.Counts(), Ended: r.ended}
}

// pollEnded counts a command in flight that was ended.
func (r *reactions) pollEnded() {
	r.mu.Lock()
	r.ended++
	r.mu.Unlock()
}

// applied notes that the edge decides by these changes from here on. They are in the index, and what is in flight was queued to be decided again.
func (e *Edge) applied(changes []registry.Change) {
	now, certificate := e.now(), changes == nil
	r := &e.reactions
	var first time.Time
	r.mu.Lock()
	latest := r.latest
	for _, c := range changes {
		certificate = certificate || c.Kind == registry.KindCertificate
		at := e.takenAway(c)
		if at.After(r.latest) && (first.IsZero() || at.Before(first)) {
			first = at
		}
		if at.After(latest) {
			latest = at
		}
	}
	r.latest = latest
	r.mu.Unlock()
	if !first.IsZero() {
		r.applied.Observe(now.Sub(first))
	}
	if certificate || !first.IsZero() {
		e.cfg.Journal.Applied(registry.Reaction{Node: e.principal.Name, Revision: e.cfg.Index.Revision(), At: now})
	}
}

// takenAway returns when the object of a change was revoked, held or suspended, the zero time if it is not.
func (e *Edge) takenAway(c registry.Change) time.Time {
	switch c.Kind {
	case registry.KindCertificate:
		issuer, serial, _ := strings.Cut(c.ID, "/")
		if known, ok := e.cfg.Index.Certificate(issuer, trust.Serial(serial)); ok && (known.Status == trust.Revoked || known.Status == trust.Held) {
			return known.ChangedAt
		}
	case registry.KindDevice:
		if d, ok := e.cfg.Index.Device(trust.DeviceID(c.ID)); ok && d.Suspended != nil {
			return d.Suspended.At
		}
	case registry.KindOwner:
		if o, ok := e.cfg.Index.Owner(c.ID); ok && o.Suspended != nil {
			return o.Suspended.At
		}
	}
	return time.Time{}
}

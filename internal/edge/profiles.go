package edge

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"log/slog"
	"sync"
	"time"

	"postern/internal/policy"
	"postern/internal/registry"
	"postern/internal/trust"
)

// Limits of what requests may cause to be written.
const (
	maxProfiles    = 20               // mail profiles of one device, and under one DeviceId; more are not recorded
	refreshAfter   = time.Hour        // how far behind LastSeen may be
	maxRefreshes   = 256              // outstanding; more are left for the next request
	observeTimeout = 5 * time.Second  // of a write that a decision waits for
	refreshTimeout = 10 * time.Second // of one that none does
)

var errTooManyProfiles = errors.New("too many mail profiles")

// observer writes the little that the edge has to say to the registry: mail profiles at first sight, their last use, and the first use of certificates.
type observer struct {
	reg       *registry.Registry
	index     *registry.Index
	principal trust.Principal
	log       *slog.Logger
	seed      maphash.Seed

	first   [256]sync.Mutex // of a device or DeviceId: its profiles are recorded one after the other, so that the limit holds
	mu      sync.Mutex      // guards pending
	pending map[string]bool
	jobs    chan job
}

// job is a write that nothing waits for.
type job struct {
	key string
	do  func(context.Context) error
}

func newObserver(reg *registry.Registry, index *registry.Index, p trust.Principal, log *slog.Logger) *observer {
	return &observer{reg: reg, index: index, principal: p, log: log, seed: maphash.MakeSeed(), pending: map[string]bool{}, jobs: make(chan job, maxRefreshes)}
}

// run does what was left for later until ctx ends.
func (o *observer) run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case j := <-o.jobs:
			jctx, cancel := context.WithTimeout(ctx, refreshTimeout)
			err := j.do(jctx)
			cancel()
			if err != nil && ctx.Err() == nil {
				o.log.WarnContext(ctx, "edge: registry was not told", "what", j.key, "error", err)
			}
			o.mu.Lock()
			delete(o.pending, j.key)
			o.mu.Unlock()
		}
	}
}

// later has a write done soon, unless the same one is outstanding or there are too many.
func (o *observer) later(key string, do func(context.Context) error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.pending[key] {
		return
	}
	select {
	case o.jobs <- job{key, do}:
		o.pending[key] = true
	default:
	}
}

// observe makes a mail profile known durably, and returns when the index has it. Beyond the limits it records nothing and says errTooManyProfiles.
func (o *observer) observe(ctx context.Context, p trust.MailProfile) error {
	ctx, cancel := detached(ctx, observeTimeout)
	defer cancel()
	lock := &o.first[maphash.String(o.seed, cmp.Or(string(p.Device), p.ClientID))%uint64(len(o.first))]
	lock.Lock()
	defer lock.Unlock()
	key := p.Key()
	if known, ok := o.index.Profile(key); ok && known.Serial == p.Serial && known.Device == p.Device {
		return nil
	} else if !ok && o.full(p) {
		return errTooManyProfiles
	}
	if _, _, err := o.reg.ObserveProfile(ctx, o.principal, p); err != nil {
		return fmt.Errorf("record mail profile: %w", err)
	}
	for {
		rev := o.index.Revision()
		if known, ok := o.index.Profile(key); ok && (known.Serial == p.Serial && known.Device == p.Device || known.Linked || p.Device == "") {
			return nil
		}
		if err := o.index.CatchUp(ctx, rev+1); err != nil {
			return fmt.Errorf("wait for the recorded mail profile: %w", err)
		}
	}
}

// full reports whether no further profile is recorded: for a certificate, those of its device count; without one, all under the DeviceId.
func (o *observer) full(p trust.MailProfile) bool {
	if p.Device != "" {
		return len(o.index.ProfilesOfDevice(p.Device)) >= maxProfiles
	}
	return len(o.index.ProfilesOfClient(p.ClientID)) >= maxProfiles
}

// remember records what a command shows, before it is decided where the decision depends on it: a mail profile at first sight or under another
// certificate. It reports whether the facts have to be looked up anew. Only what came with a good certificate, or touches a managed device, is ever
// written: somebody who invents DeviceIds leaves no trace but in the journal.
func (e *Edge) remember(ctx context.Context, s situation, now time.Time) (changed bool, err error) {
	in := s.input
	if !s.proved && !s.managed && !in.Duplicate.DeviceIDManaged || s.profile.User == "" || in.Credential.Problem != "" || len(s.profile.User) > 320 {
		return false, nil
	}
	if s.proved && s.certUse {
		e.noteFirstUse(in, now)
	}
	if s.proved && !ownName(in) {
		// A certificate says nothing of somebody else's profile: recorded, it would stand in that one's way.
		return false, nil
	}
	known, p := in.Profile.Known, *s.profile
	p.LastSeen, p.Family, p.Model = now.UTC(), in.Claimed.Family, in.Claimed.Model
	if s.proved && !s.profile.Linked && (!known || e.rebinds(s)) {
		p.Serial, p.Device = trust.Serial(in.Certificate.Serial), trust.DeviceID(in.Certificate.Device)
	} else if in.Assurance == "token" && ownName(in) && p.Serial == "" && p.Device == "" {
		// Known by its ticket alone: a copy of the ticket shows by a second DeviceId.
		p.Device = trust.DeviceID(in.Ticket.Device)
	} else if known {
		// What a client says of its model comes once in a while, and not with its first command.
		learnt := s.profile.Model == "" && p.Model != ""
		if (learnt || now.Sub(s.profile.LastSeen) > refreshAfter) && (s.proved || s.profile.Serial == "") {
			e.refresh(p)
		}
		return false, nil
	}
	err = e.observer.observe(ctx, p)
	if errors.Is(err, errTooManyProfiles) {
		e.cfg.Log.WarnContext(ctx, "edge: mail profile is not recorded: too many", "device", p.Device, "client_id", p.ClientID)
		return false, nil
	}
	return true, err
}

// refresh has recorded what is seen of a known mail profile.
func (e *Edge) refresh(p trust.MailProfile) {
	e.observer.later("profile "+p.ID, func(ctx context.Context) error {
		_, _, err := e.cfg.Registry.ObserveProfile(ctx, e.principal, p)
		return err
	})
}

// ownName reports whether everybody whom the request names is the owner of the certificate's device, or a mailbox delegated to him.
func ownName(in *policy.AccessInput) bool {
	for name := range in.Credential.Names {
		if !in.Owner.Names[name] && !in.Owner.Delegations[name] {
			return false
		}
	}
	return in.Owner.Known && (in.Owner.Names[in.Credential.User] || in.Owner.Delegations[in.Credential.User])
}

// rebinds reports whether the certificate of this connection is to be the profile's from now on: the one it had does not count any more, or was superseded
// by this one. While both are polled with, the newer stays.
func (e *Edge) rebinds(s situation) bool {
	in := s.input
	if in.Profile.Certificate == in.Certificate.Serial {
		return false
	}
	old, ok := e.cfg.Index.Certificate(in.Certificate.Issuer, trust.Serial(in.Profile.Certificate))
	if !ok || string(old.Device) == in.Certificate.Device {
		return !ok || old.Status != trust.Good && (in.Certificate.Status == string(trust.Good) || old.Status != trust.Superseded)
	}
	// Another device takes a profile over only where the certificate that it has proves nothing any more, or never could: it is not of this user.
	return old.Status == trust.Revoked || old.Status == trust.Held || in.Now >= old.NotAfter.Unix() || !in.Owner.Names[old.Owner] && in.Owner.Names[in.Credential.User]
}

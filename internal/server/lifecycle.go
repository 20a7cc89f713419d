package server

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"postern/internal/api"
	"postern/internal/policy"
	"postern/internal/registry"
	"postern/internal/trust"
)

const (
	firstSweep    = 10 * time.Minute // after the start: a process that is restarted every night sweeps too
	censusPage    = 500              // devices in one view
	fewDevices    = 3                // that may be changed in one sweep, however few there are
	listedChanges = 1000
	listedErrors  = 20
)

// lifecycle looks through all devices and carries out what the lifecycle policy decides about them. A rule that would suspend or retire more than a share of them
// is taken for a mistake: nothing is done until somebody who has looked says so.
type lifecycle struct {
	server *Server
	cfg    Lifecycle

	one     sync.Mutex // a sweep at a time
	mu      sync.Mutex
	problem string
}

// run sweeps now and again until ctx ends.
func (l *lifecycle) run(ctx context.Context) error {
	for pause(ctx, min(l.cfg.Every, firstSweep)); ctx.Err() == nil; pause(ctx, l.cfg.Every) {
		out, err := l.sweep(ctx, trust.Principal{Kind: "system", Name: "lifecycle"}, api.RunLifecycle{})
		if errors.Is(err, registry.ErrClosed) {
			return nil
		}
		if err != nil && ctx.Err() == nil {
			l.server.opts.Log.ErrorContext(ctx, "cannot look through the devices", "error", err)
			continue
		}
		l.server.opts.Log.InfoContext(ctx, "devices looked through", "devices", out.Devices, "notify", out.Notify, "suspend", out.Suspend, "retire", out.Retire,
			"faults", out.Faults, "done", out.Done, "refused", out.Refused)
	}
	return nil
}

// problems say that a sweep did nothing because it would have done too much.
func (l *lifecycle) problems() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.problem == "" {
		return nil
	}
	return []string{l.problem}
}

func (l *lifecycle) report(text string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.problem = text
}

// sweep decides about every device, and then does what was decided.
func (l *lifecycle) sweep(ctx context.Context, p trust.Principal, ask api.RunLifecycle) (*api.LifecycleRun, error) {
	l.one.Lock()
	defer l.one.Unlock()
	engine := l.server.policy.Load()
	if !ask.DryRun {
		if err := l.server.registry.BeginLifecycle(ctx, p, engine.Digest()); err != nil {
			return nil, err
		}
	}
	out := &api.LifecycleRun{DryRun: ask.DryRun, Policy: engine.Digest(), Changes: []api.DeviceChange{}, Errors: []string{}}
	todo, err := l.decide(ctx, engine, out)
	if err != nil {
		return nil, err
	}
	out.Most = max(fewDevices, out.Devices*l.cfg.Share/100)
	out.Refused = !ask.All && len(todo) > out.Most
	if !ask.DryRun {
		l.tell(out)
		if !out.Refused {
			l.carryOut(ctx, engine.Digest(), todo, out)
		}
	}
	return out, ctx.Err()
}

// tell makes a refused sweep a problem of this process, until one is not.
func (l *lifecycle) tell(out *api.LifecycleRun) {
	text := ""
	if out.Refused {
		text = fmt.Sprintf("the lifecycle policy %s would suspend %d and retire %d of %d devices, more than %d%% (lifecycle.share), and nothing was done: look with `postern lifecycle run --dry-run`, then "+
			"correct the policy, or carry it out with `postern lifecycle run --all`", out.Policy, out.Suspend, out.Retire, out.Devices, l.cfg.Share)
	}
	l.report(text)
}

// decide asks the policy about every device and returns what is to be changed. A device about which it has no decision stays as it is.
func (l *lifecycle) decide(ctx context.Context, engine *policy.Engine, out *api.LifecycleRun) (todo []api.DeviceChange, err error) {
	for after := trust.DeviceID(""); ; {
		page, last, err := l.server.registry.Census(ctx, after, censusPage)
		if err != nil {
			return nil, err
		}
		for _, one := range page {
			out.Devices++
			d, err := engine.Lifecycle(ctx, l.facts(one))
			if err != nil {
				if ctx.Err() != nil {
					return nil, ctx.Err()
				}
				out.Faults++
				addError(out, one.Device.ID, err)
				continue
			}
			if change := note(out, one.Device, d); change != nil {
				todo = append(todo, *change)
			}
		}
		if after = last; last == "" {
			return todo, nil
		}
	}
}

// note counts a decision, and returns what is to be changed by it, nil for nothing.
func note(out *api.LifecycleRun, d trust.Device, decision policy.Decision) *api.DeviceChange {
	change := &api.DeviceChange{Device: d.ID, Owner: d.Owner, Action: decision.Action, Reasons: decision.Reasons}
	switch decision.Action {
	case trust.Notify:
		out.Notify++
	case trust.Suspend:
		out.Suspend++
	case trust.Retire:
		out.Retire++
	default:
		return nil
	}
	if len(out.Changes) < listedChanges {
		out.Changes = append(out.Changes, *change)
	}
	if decision.Action == trust.Notify {
		return nil
	}
	return change
}

func addError(out *api.LifecycleRun, id trust.DeviceID, err error) {
	if len(out.Errors) < listedErrors {
		out.Errors = append(out.Errors, fmt.Sprintf("%s: %v", id, err))
	}
}

// facts are what the policy sees of a device.
func (l *lifecycle) facts(one registry.Resident) *policy.LifecycleInput {
	now, c, d := l.server.opts.Now(), one.Certificate, one.Device
	in := &policy.LifecycleInput{Now: now.Unix(), Event: "sweep", Device: policy.FactsOfDevice(&d), Added: policy.Seconds(d.Created), Certificate: policy.HeldFacts{Status: "none"},
		Exceptions: policy.FactsOfExceptions(l.server.index.ExceptionsFor(&d), now)}
	if owner, ok := l.server.index.Owner(d.Owner); ok {
		in.Owner = policy.FactsOfOwner(owner)
	}
	in.Device.Revoked = l.server.index.Withdrawn(d.ID)
	if c.Serial != "" {
		in.Certificate = policy.HeldFacts{Serial: string(c.Serial), Status: string(c.Status), IssuedAt: policy.Seconds(c.IssuedAt), NotAfter: policy.Seconds(c.NotAfter),
			FirstUsed: policy.Seconds(c.FirstUsed)}
	}
	for _, m := range l.server.index.ProfilesOfDevice(d.ID) {
		in.Mail.Profiles++
		in.Mail.LastSeen = max(in.Mail.LastSeen, policy.Seconds(m.LastSeen))
	}
	return in
}

// carryOut suspends and retires, as the policy. A device that has reported since it was decided about, seconds ago, is changed all the same; one whose state does
// not admit the change is an error of the sweep.
func (l *lifecycle) carryOut(ctx context.Context, digest string, todo []api.DeviceChange, out *api.LifecycleRun) {
	p := trust.Principal{Kind: "policy", Name: digest}
	for _, change := range todo {
		if ctx.Err() != nil {
			return
		}
		var err error
		why := "lifecycle policy: " + codesOf(change.Reasons)
		if change.Action == trust.Retire {
			_, err = l.server.registry.RetireDevice(ctx, p, change.Device, why)
		} else {
			_, err = l.server.registry.SuspendDevice(ctx, p, change.Device, trust.SuspendOther, why)
		}
		if err != nil {
			addError(out, change.Device, err)
			continue
		}
		out.Done++
	}
}

func codesOf(reasons []trust.Reason) string {
	codes := make([]string, len(reasons))
	for i, r := range reasons {
		codes[i] = r.Code
	}
	return strings.Join(codes, ", ")
}

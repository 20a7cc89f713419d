package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"postern/internal/policy"
	"postern/internal/registry"
	"postern/internal/trust"
)

// shadowKeeper has the version that the registry names decide beside the policy in force. Nothing that goes wrong here touches an answer.
type shadowKeeper struct {
	registry *registry.Registry
	active   *policy.Active
	now      func() time.Time
	log      *slog.Logger

	running registry.PolicyShadow // of this node; the zero value for none
	stop    func()                // ends it; nil for none

	mu      sync.Mutex
	trouble complaint
}

// run follows the registry until ctx ends.
func (k *shadowKeeper) run(ctx context.Context) error {
	defer k.end()
	var rev registry.Revision
	for ctx.Err() == nil {
		k.look(ctx)
		pause(ctx, storedPace)
		wctx, cancel := context.WithTimeout(ctx, storedPatience)
		next, err := k.registry.Store().Wait(wctx, rev)
		cancel()
		switch {
		case err == nil:
			rev = next
		case errors.Is(err, registry.ErrClosed):
			return nil
		}
	}
	return nil
}

// look begins and ends what the registry says.
func (k *shadowKeeper) look(ctx context.Context) {
	want, err := k.registry.PolicyShadow(ctx)
	if errors.Is(err, trust.ErrNotFound) {
		want, err = registry.PolicyShadow{}, nil
	}
	if err != nil || want == k.running {
		return // the registry's silence is told by others
	}
	k.end()
	k.running = want
	if want.Digest == "" {
		k.complain(ctx, nil)
		return
	}
	s, err := k.load(ctx, want.Digest)
	if ctx.Err() != nil {
		return
	}
	if k.complain(ctx, err); err != nil {
		var refused *policy.CheckError
		if !errors.As(err, &refused) {
			k.running = registry.PolicyShadow{} // to be tried again
		}
		return
	}
	k.begin(s)
	k.log.InfoContext(ctx, "a policy decides in shadow", "digest", s.Policy(), "beside", k.active.Load().Digest())
}

func (k *shadowKeeper) load(ctx context.Context, digest string) (*policy.Shadow, error) {
	v, packed, err := k.registry.Policy(ctx, digest)
	if err != nil {
		return nil, err
	}
	files, err := policy.Unpack(packed)
	if err != nil {
		return nil, err
	}
	e, err := policy.Load(ctx, policy.Options{Files: files, Replace: v.Replace, Log: k.log})
	if err != nil {
		return nil, err
	}
	return policy.NewShadow(e), nil
}

func (k *shadowKeeper) begin(s *policy.Shadow) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = s.Run(ctx) // returns nil
	}()
	k.stop = func() { cancel(); <-done }
	k.active.Beside(s)
}

func (k *shadowKeeper) end() {
	if k.stop == nil {
		return
	}
	k.active.Beside(nil)
	k.stop()
	k.stop = nil
}

func (k *shadowKeeper) complain(ctx context.Context, err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if err == nil {
		k.trouble = complaint{}
		return
	}
	if k.trouble.set(err.Error(), k.now()) {
		k.log.WarnContext(ctx, "a policy cannot decide in shadow", "digest", k.running.Digest, "error", err)
	}
}

// warnings says why the version does not decide in shadow. Nobody's mail depends on it, so the process is healthy.
func (k *shadowKeeper) warnings() []string {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.trouble.text == "" {
		return nil
	}
	return []string{fmt.Sprintf("the policy that should decide in shadow does not, since %s: %s", k.trouble.since.UTC().Format(time.RFC3339), k.trouble.text)}
}

package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"postern/internal/policy"
	"postern/internal/registry"
	"postern/internal/trust"
)

// How often a source is looked at.
const (
	directoryEvery = 2 * time.Second
	storedPace     = 200 * time.Millisecond // between two looks at the registry, however fast its revision moves
	storedPatience = 10 * time.Second
)

// policyKeeper keeps the policy in force that its source names: a directory, a bundle server, or the registry. A version that is not accepted never takes
// the place of one that was: the old one stays, and problems says why. Whatever came into force is recorded in the registry with its files.
type policyKeeper struct {
	cfg      Policy
	registry *registry.Registry
	now      func() time.Time
	log      *slog.Logger
	bundle   *bundleSource // nil unless it is the source

	active *policy.Active

	mu      sync.Mutex
	away    complaint // the source cannot be read
	refused complaint // what it has was not accepted
	digest  string    // of that, not to be tried again
}

// complaint is what is wrong, and since when. The zero value is nothing.
type complaint struct {
	text  string
	since time.Time
}

func (c *complaint) set(text string, now time.Time) (fresh bool) {
	fresh = c.text != text
	if c.text == "" {
		c.since = now
	}
	c.text = text
	return fresh
}

func newPolicyKeeper(cfg Policy, reg *registry.Registry, now func() time.Time, log *slog.Logger) (*policyKeeper, error) {
	k := &policyKeeper{cfg: cfg, registry: reg, now: now, log: log}
	if cfg.Bundle != nil {
		var err error
		if k.bundle, err = newBundleSource(*cfg.Bundle); err != nil {
			return nil, err
		}
	}
	return k, nil
}

// source says in words where the policies come from; empty where they are activated by command.
func (k *policyKeeper) source() string {
	switch {
	case k.cfg.Path != "":
		return "the directory " + k.cfg.Path + " (policy.path)"
	case k.bundle != nil:
		return "the bundle " + shown(k.cfg.Bundle.URL) + " (policy.bundle)"
	}
	return ""
}

// open loads the first policy. Without one that is accepted nothing starts: the built-in policies alone may let in what the team's keep out.
func (k *policyKeeper) open(ctx context.Context) (*policy.Active, error) {
	files, kind, err := k.read(ctx)
	if err != nil && k.bundle != nil {
		// The server is away. What it served last is in the registry.
		k.unreachable(ctx, err)
		if files, kind, err = k.stored(ctx); err == nil && files == nil {
			err = fmt.Errorf("no bundle was ever taken from %s: start when it answers", shown(k.cfg.Bundle.URL))
		}
	}
	if err != nil {
		return nil, fmt.Errorf("load policy: %w", err)
	}
	e, err := policy.Load(ctx, policy.Options{Files: files, Replace: k.cfg.Replace, Log: k.log})
	if err != nil {
		return nil, fmt.Errorf("load policy: %w", err)
	}
	if e.Replaced() {
		k.log.WarnContext(ctx, "the built-in policies are replaced: their rules are not in force", "source", k.source())
	}
	k.active = policy.NewActive(e)
	k.record(ctx, kind, e.Digest(), files)
	return k.active, nil
}

// read returns the files that the source has now. Nil files mean the built-in policies alone.
func (k *policyKeeper) read(ctx context.Context) (policy.Files, string, error) {
	switch {
	case k.cfg.Path != "":
		files, problems, err := policy.ReadFiles(k.cfg.Path)
		if err == nil && len(problems) > 0 {
			err = &policy.CheckError{Problems: problems}
		}
		return files, "directory", err
	case k.bundle != nil:
		files, err := k.bundle.fetch(ctx)
		return files, "bundle", err
	}
	return k.stored(ctx)
}

// stored returns the version that the registry says is in force.
func (k *policyKeeper) stored(ctx context.Context) (policy.Files, string, error) {
	_, _, packed, err := k.registry.ActivePolicy(ctx)
	if errors.Is(err, trust.ErrNotFound) {
		return nil, "", nil
	}
	if err != nil {
		return nil, "", err
	}
	files, err := policy.Unpack(packed)
	return files, "", err
}

// record stores what came into force from outside the registry. It is for the history: a failure does not keep a policy from being used.
func (k *policyKeeper) record(ctx context.Context, kind, digest string, files policy.Files) {
	if kind == "" || files == nil {
		return
	}
	packed, err := files.Pack()
	if err == nil {
		who := trust.Principal{Kind: "system", Name: "policy " + kind}
		_, err = k.registry.PutPolicy(ctx, who, registry.PolicyVersion{Digest: digest, Source: kind, Replace: k.cfg.Replace, Files: slices.Sorted(maps.Keys(files))}, packed)
		if err == nil {
			_, _, err = k.registry.ActivatePolicy(ctx, who, digest, "")
		}
	}
	if err != nil {
		k.log.WarnContext(ctx, "the policy in force is not in the history", "digest", digest, "error", err)
	}
}

// run follows the source until ctx ends.
func (k *policyKeeper) run(ctx context.Context) error {
	var rev registry.Revision
	for ctx.Err() == nil {
		switch {
		case k.cfg.Path != "":
			pause(ctx, directoryEvery)
		case k.bundle != nil:
			pause(ctx, k.bundle.wait())
		default:
			pause(ctx, storedPace)
			wctx, cancel := context.WithTimeout(ctx, storedPatience)
			if next, err := k.registry.Store().Wait(wctx, rev); err == nil {
				rev = next
			} else if errors.Is(err, registry.ErrClosed) {
				cancel()
				return nil
			}
			cancel()
		}
		if ctx.Err() == nil {
			k.look(ctx)
		}
	}
	return nil
}

// look takes up what the source has now, if it is another version and is accepted.
func (k *policyKeeper) look(ctx context.Context) {
	files, kind, err := k.read(ctx)
	if errors.Is(err, errSameBundle) {
		k.reachable()
		return
	}
	var digest string
	if err == nil {
		digest, err = files.Digest(k.cfg.Replace)
	}
	if err != nil {
		k.unreachable(ctx, err)
		return
	}
	k.reachable()
	if digest == k.active.Load().Digest() {
		k.accepted()
		return
	}
	if k.wasRefused(digest) {
		return
	}
	e, err := policy.Load(ctx, policy.Options{Files: files, Replace: k.cfg.Replace, Log: k.log})
	if ctx.Err() != nil {
		return
	}
	if err != nil {
		k.refuse(ctx, digest, err)
		return
	}
	old := k.active.Swap(e)
	k.accepted()
	k.log.InfoContext(ctx, "policy is in force", "digest", e.Digest(), "before", old.Digest(), "source", k.source())
	k.record(ctx, kind, e.Digest(), files)
}

func (k *policyKeeper) wasRefused(digest string) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.refused.text != "" && k.digest == digest
}

func (k *policyKeeper) unreachable(ctx context.Context, err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.away.set(err.Error(), k.now()) {
		k.log.ErrorContext(ctx, "the policy cannot be read, the old one stays", "error", err)
	}
}

func (k *policyKeeper) reachable() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.away = complaint{}
}

func (k *policyKeeper) refuse(ctx context.Context, digest string, err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.digest = digest
	if k.refused.set(err.Error(), k.now()) {
		k.log.ErrorContext(ctx, "a policy is not accepted, the old one stays", "digest", digest, "error", err)
	}
}

func (k *policyKeeper) accepted() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.refused = complaint{}
}

// problems says what keeps the source's version from being in force.
func (k *policyKeeper) problems() (out []string) {
	if k.active == nil {
		return nil // the first policy is not open yet, and nothing decides
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, c := range []struct {
		complaint
		what string
	}{{k.away, "the policy cannot be read from its source"}, {k.refused, "the policy that should be in force was not accepted"}} {
		if c.text != "" {
			out = append(out, fmt.Sprintf("%s since %s, and %s stays in force: %s", c.what, c.since.UTC().Format(time.RFC3339), k.active.Load().Digest(), c.text))
		}
	}
	return out
}

// pause waits for d or until ctx ends.
func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

// faultWarnings says what the policy in force could not decide. The phones concerned are told to try again later, so the process is healthy.
func (s *Server) faultWarnings() []string {
	engine := s.policy.Load()
	f := engine.Faults()
	if f.Count == 0 {
		return nil
	}
	return []string{fmt.Sprintf("the policy in force (%s) has made %d faults on this node since it was loaded, the last at %s: %s; whoever was concerned was told to try again later: correct the rule, or `postern policy rollback`",
		engine.Digest(), f.Count, f.At.UTC().Format(time.RFC3339), f.Last)}
}

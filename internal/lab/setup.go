package lab

import (
	"context"
	"errors"
	"fmt"
)

// ErrNotSetUp is what [Mail.SetUp] returns where the server refused a step: the last result says how.
var ErrNotSetUp = errors.New("the server refused the mail profile")

// SetUp plays what a phone does when an account is added: Discover, OPTIONS, sign in, OPTIONS, FolderSync, which asks for
// Provision, Provision twice, FolderSync and Sync. It gives all results in order and ends at the first refusal with [ErrNotSetUp].
// The first two steps only ask how to sign in, and any answer to them will do.
func (m *Mail) SetUp(ctx context.Context, c Credential) ([]Result, error) {
	anything := func(Result) bool { return true }
	var s journey
	s.step(ctx, m.Discover, anything)
	s.step(ctx, m.Options, anything)
	m.SignIn(c)
	s.step(ctx, m.Options, Result.OK)
	first := s.step(ctx, m.FolderSync, func(r Result) bool { return r.OK() || r.NeedsProvisioning() })
	if first.NeedsProvisioning() {
		offer := s.step(ctx, m.askPolicy, Result.OK)
		s.step(ctx, func(ctx context.Context) (Result, error) { return m.acknowledgePolicy(ctx, offer) }, Result.OK)
		s.step(ctx, m.FolderSync, Result.OK)
	}
	s.step(ctx, m.Sync, Result.OK)
	return s.results, s.err
}

// journey is a row of requests that ends with the first that fails.
type journey struct {
	results []Result
	err     error
}

// step makes a request, unless one before has failed, and checks its result.
func (j *journey) step(ctx context.Context, do func(context.Context) (Result, error), good func(Result) bool) Result {
	if j.err != nil {
		return Result{}
	}
	r, err := do(ctx)
	if err == nil && !good(r) {
		err = fmt.Errorf("set up mail profile: %s: %w", r, ErrNotSetUp)
	}
	j.results, j.err = append(j.results, r), err
	return r
}

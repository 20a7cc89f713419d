package registry

import (
	"context"
	"errors"
	"fmt"
	"time"

	"postern/internal/trust"
)

const shadowKey = "policy_shadow"

// ActPolicyShadow is to have a version decide beside the one in force, and to end it.
const ActPolicyShadow = "policy.shadow"

// PolicyShadow says which stored version decides beside the one in force, on every node, without changing an answer.
type PolicyShadow struct {
	Digest  string          `json:"digest"`
	By      trust.Principal `json:"by"`
	Comment string          `json:"comment,omitempty"`
	At      time.Time       `json:"at"`
}

// ShadowPolicy has a stored version decide beside the one in force, in place of any other. It stays until it is ended or comes into force. What is in force
// cannot be its own shadow: that is trust.ErrConflict.
func (r *Registry) ShadowPolicy(ctx context.Context, p trust.Principal, digest, comment string) (s PolicyShadow, rev Revision, err error) {
	if !plain(comment, maxPolicyNote) {
		return s, 0, fmt.Errorf("comment %w: at most %d bytes on one line", trust.ErrInvalid, maxPolicyNote)
	}
	rev, err = r.update(ctx, p, ActPolicyShadow, digest, func(t *txn) error {
		if _, err := get[PolicyVersion](t, tablePolicies, digest); err != nil {
			return err
		}
		last, err := t.activations(1)
		if err != nil {
			return err
		}
		if len(last) > 0 && last[0].Digest == digest {
			return fmt.Errorf("policy %s is in force already: %w", digest, trust.ErrConflict)
		}
		old, err := get[PolicyShadow](t, tableMeta, shadowKey)
		if err == nil && old.Digest == digest {
			s = old
			return nil
		}
		if err != nil && !errors.Is(err, trust.ErrNotFound) {
			return err
		}
		s = PolicyShadow{Digest: digest, By: t.p, Comment: comment, At: t.now.UTC()}
		t.Touch(KindPolicy, digest)
		if err := put(t, tableMeta, shadowKey, s); err != nil {
			return err
		}
		return t.audit(AuditEntry{Action: ActPolicyShadow, Object: digest, Detail: comment, After: snapshot(s)})
	})
	return s, rev, err
}

// EndPolicyShadow ends the shadow; trust.ErrNotFound if there is none.
func (r *Registry) EndPolicyShadow(ctx context.Context, p trust.Principal) (s PolicyShadow, err error) {
	_, err = r.update(ctx, p, ActPolicyShadow, "", func(t *txn) error {
		if s, err = get[PolicyShadow](t, tableMeta, shadowKey); err != nil {
			return noShadow(err)
		}
		t.Touch(KindPolicy, s.Digest)
		t.Delete(tableMeta, shadowKey)
		return t.audit(AuditEntry{Action: ActPolicyShadow, Object: s.Digest, Detail: "ended", Before: snapshot(s)})
	})
	return s, err
}

// dropShadow ends the shadow of a version that comes into force.
func (t *txn) dropShadow(digest string) error {
	s, err := get[PolicyShadow](t, tableMeta, shadowKey)
	switch {
	case errors.Is(err, trust.ErrNotFound):
		return nil
	case err != nil:
		return err
	case s.Digest == digest:
		t.Delete(tableMeta, shadowKey)
	}
	return nil
}

// PolicyShadow returns the shadow; trust.ErrNotFound if there is none.
func (r *Registry) PolicyShadow(ctx context.Context) (s PolicyShadow, err error) {
	err = r.view(ctx, func(rd Reader) error {
		s, err = get[PolicyShadow](rd, tableMeta, shadowKey)
		return noShadow(err)
	})
	return s, err
}

func noShadow(err error) error {
	if errors.Is(err, trust.ErrNotFound) {
		return noShadowError{}
	}
	return err
}

// noShadowError is trust.ErrNotFound in words of its own.
type noShadowError struct{}

func (noShadowError) Error() string {
	return "no policy decides in shadow: begin with `postern policy shadow start DIR`"
}

// Is implements the interface that errors.Is looks for.
func (noShadowError) Is(err error) bool { return err == trust.ErrNotFound }

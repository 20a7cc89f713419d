package registry

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"postern/internal/trust"
)

// Limits of what is kept of policies.
const (
	MaxPolicy       = 4 << 20            // bytes of a packed version
	maxVersions     = 200                // the oldest that were not in force lately go first
	proposalTTL     = 7 * 24 * time.Hour // for the second person to agree
	maxPolicyNote   = 500                // bytes of a comment
	proposalKey     = "policy_proposal"
	activationsPage = 1000
)

// The actions on policies that are authorised and audited.
const (
	ActPolicyPut      = "policy.put"
	ActPolicyActivate = "policy.activate"
)

// PolicyVersion is one set of a team's policy files. It never changes; its digest is its name.
type PolicyVersion struct {
	Digest  string          `json:"digest"`
	Source  string          `json:"source"` // where the files came from: "api", "directory" or "bundle"
	Replace bool            `json:"replace"`
	Author  trust.Principal `json:"author"`
	Comment string          `json:"comment,omitempty"`
	Created time.Time       `json:"created"`
	Files   []string        `json:"files"`
	Size    int             `json:"size"` // bytes, packed
}

// Activation says that a version came into force, or is proposed to. The last one that is not a proposal is in force.
type Activation struct {
	Seq     uint64          `json:"seq"` // 0 for a proposal
	Digest  string          `json:"digest"`
	By      trust.Principal `json:"by"`
	Second  trust.Principal `json:"second,omitzero"` // who proposed it, where two persons are asked for
	Comment string          `json:"comment,omitempty"`
	At      time.Time       `json:"at"`
}

// Proposed reports whether a second person has yet to agree.
func (a Activation) Proposed() bool { return a.Seq == 0 }

// PolicyRules say how versions come into force, and how long exceptions to them may last.
type PolicyRules struct {
	TwoPersons   bool          // whoever activates a version through the API must not be the only one
	MaxException time.Duration // how far away the end of an exception may be when it is granted; 0: DefaultMaxException
}

// WithPolicyRules sets how versions come into force; call it before the registry is used.
func (r *Registry) WithPolicyRules(rules PolicyRules) *Registry {
	r.policies = rules
	return r
}

// PutPolicy stores a version with its packed files. A digest that is known stays as it is.
func (r *Registry) PutPolicy(ctx context.Context, p trust.Principal, v PolicyVersion, packed []byte) (PolicyVersion, error) {
	if len(v.Digest) != 16 || !plain(v.Digest, 16) || len(packed) == 0 || len(packed) > MaxPolicy || len(v.Comment) > maxPolicyNote || !plain(v.Comment, maxPolicyNote) {
		return v, fmt.Errorf("policy version %w: want a digest of 16 digits, 1 to %d bytes of files, and a comment of at most %d bytes on one line",
			trust.ErrInvalid, MaxPolicy, maxPolicyNote)
	}
	_, err := r.update(ctx, p, ActPolicyPut, v.Digest, func(t *txn) error {
		old, err := get[PolicyVersion](t, tablePolicies, v.Digest)
		if err == nil {
			v = old
			return nil
		}
		if !errors.Is(err, trust.ErrNotFound) {
			return err
		}
		v.Author, v.Created, v.Size = t.p, t.now.UTC(), len(packed)
		if err := put(t, tablePolicies, v.Digest, v); err != nil {
			return err
		}
		t.Put(tablePolicyFiles, v.Digest, packed)
		if err := t.dropOldPolicies(); err != nil {
			return err
		}
		return t.audit(AuditEntry{Action: ActPolicyPut, Object: v.Digest, Detail: v.Comment, After: snapshot(v)})
	})
	return v, err
}

// dropOldPolicies removes the oldest versions above the limit, but none that was in force lately, is proposed or decides in shadow.
func (t *txn) dropOldPolicies() error {
	all, err := list[PolicyVersion](t, tablePolicies, "", "", math.MaxInt, nil)
	if err != nil || len(all) <= maxVersions {
		return err
	}
	keep := map[string]bool{}
	lately, err := t.activations(maxVersions / 2)
	if err != nil {
		return err
	}
	if proposed, err := get[Activation](t, tableMeta, proposalKey); err == nil {
		lately = append(lately, proposed)
	}
	if shadow, err := get[PolicyShadow](t, tableMeta, shadowKey); err == nil {
		lately = append(lately, Activation{Digest: shadow.Digest})
	}
	for _, a := range lately {
		keep[a.Digest] = true
	}
	oldest := ""
	var at time.Time
	for _, v := range all {
		if !keep[v.Digest] && (oldest == "" || v.Created.Before(at)) {
			oldest, at = v.Digest, v.Created
		}
	}
	t.Delete(tablePolicies, oldest)
	t.Delete(tablePolicyFiles, oldest)
	return nil
}

// activations returns the last ones, newest first.
func (t *txn) activations(limit int) (out []Activation, err error) { return activations(t, limit) }

func activations(rd Reader, limit int) (out []Activation, err error) {
	rd.ScanBack(tableActivations, "", "", func(_ string, raw []byte) bool {
		var a Activation
		if err = decode(raw, &a); err != nil {
			return false
		}
		out = append(out, a)
		return len(out) < limit
	})
	return out, err
}

// ActivatePolicy brings a stored version into force: every node takes it up. What is in force already is not activated again. Where two persons are asked
// for, the first call is a proposal, and one of somebody else within seven days is the activation; a door's own sources need no second person.
func (r *Registry) ActivatePolicy(ctx context.Context, p trust.Principal, digest, comment string) (a Activation, rev Revision, err error) {
	if !plain(comment, maxPolicyNote) {
		return a, 0, fmt.Errorf("comment %w: at most %d bytes on one line", trust.ErrInvalid, maxPolicyNote)
	}
	rev, err = r.update(ctx, p, ActPolicyActivate, digest, func(t *txn) error {
		if _, err := get[PolicyVersion](t, tablePolicies, digest); err != nil {
			return err
		}
		last, err := t.activations(1)
		if err != nil {
			return err
		}
		a = Activation{Digest: digest, By: t.p, Comment: comment, At: t.now.UTC()}
		if len(last) > 0 {
			if a.Seq = last[0].Seq; last[0].Digest == digest {
				a = last[0]
				return nil
			}
		}
		a.Seq++
		if r.policies.TwoPersons && p.Kind != "system" {
			if agreed, err := t.agree(&a); err != nil || !agreed {
				return err
			}
		}
		if err := t.dropShadow(digest); err != nil {
			return err
		}
		t.Touch(KindPolicy, digest)
		if err := put(t, tableActivations, seqKey(a.Seq), a); err != nil {
			return err
		}
		return t.audit(AuditEntry{Action: ActPolicyActivate, Object: digest, Detail: comment, After: snapshot(a)})
	})
	return a, rev, err
}

// agree takes the proposal of another person; without one it stores the activation as a proposal.
func (t *txn) agree(a *Activation) (bool, error) {
	proposed, err := get[Activation](t, tableMeta, proposalKey)
	if err != nil && !errors.Is(err, trust.ErrNotFound) {
		return false, err
	}
	if err == nil && proposed.Digest == a.Digest && proposed.By != t.p && t.now.Sub(proposed.At) < proposalTTL {
		a.Second = proposed.By
		t.Delete(tableMeta, proposalKey)
		return true, nil
	}
	a.Seq = 0
	t.Touch(KindPolicy, "proposal")
	if err := put(t, tableMeta, proposalKey, *a); err != nil {
		return false, err
	}
	return false, t.audit(AuditEntry{Action: ActPolicyActivate, Object: a.Digest, Detail: "proposed: a second person has to agree", After: snapshot(*a)})
}

// ActivePolicy returns the activation in force with its version and packed files; trust.ErrNotFound if none ever was.
func (r *Registry) ActivePolicy(ctx context.Context) (a Activation, v PolicyVersion, packed []byte, err error) {
	err = r.view(ctx, func(rd Reader) error {
		last, err := activations(rd, 1)
		if err != nil {
			return err
		}
		if len(last) == 0 {
			return fmt.Errorf("active policy: %w", trust.ErrNotFound)
		}
		a = last[0]
		v, packed, err = policyVersion(rd, a.Digest)
		return err
	})
	return a, v, packed, err
}

// Policy returns a version with its packed files.
func (r *Registry) Policy(ctx context.Context, digest string) (v PolicyVersion, packed []byte, err error) {
	err = r.view(ctx, func(rd Reader) error {
		v, packed, err = policyVersion(rd, digest)
		return err
	})
	return v, packed, err
}

func policyVersion(rd Reader, digest string) (PolicyVersion, []byte, error) {
	v, err := get[PolicyVersion](rd, tablePolicies, digest)
	if err != nil {
		return v, nil, err
	}
	packed, ok := rd.Get(tablePolicyFiles, digest)
	if !ok {
		return v, nil, fmt.Errorf("files of policy %s: %w", digest, trust.ErrNotFound)
	}
	return v, packed, nil
}

// Policies lists the stored versions, in order of their digests.
func (r *Registry) Policies(ctx context.Context) (out []PolicyVersion, err error) {
	err = r.view(ctx, func(rd Reader) error {
		out, err = list[PolicyVersion](rd, tablePolicies, "", "", unlimited, nil)
		return err
	})
	return out, err
}

// PolicyHistory lists what was in force, newest first, and before it the proposal that waits, if there is one.
func (r *Registry) PolicyHistory(ctx context.Context, limit int) (out []Activation, err error) {
	err = r.view(ctx, func(rd Reader) error {
		proposed, err := get[Activation](rd, tableMeta, proposalKey)
		if err == nil && r.now().Sub(proposed.At) < proposalTTL {
			out = append(out, proposed)
		} else if err != nil && !errors.Is(err, trust.ErrNotFound) {
			return err
		}
		last, err := activations(rd, min(pageLimit(limit), activationsPage))
		out = append(out, last...)
		return err
	})
	return out, err
}

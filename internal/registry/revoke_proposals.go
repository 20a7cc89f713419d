package registry

import (
	"context"
	"fmt"
	"time"

	"postern/internal/trust"
)

// ApproveRevocation carries out what another person has proposed: exactly those certificates, in commits of a few hundred. The proposer is forbidden to; an expired or
// withdrawn proposal is a conflict. On an error, or when ctx ends, what was committed before stays, and whoever may revoke can go on by the same call; one
// that is done is not done again.
func (r *Registry) ApproveRevocation(ctx context.Context, p trust.Principal, id string) (prop RevokeProposal, done Revoked, rev Revision, err error) {
	if _, err = r.update(ctx, p, ActRevokeApprove, id, func(t *txn) error {
		if prop, err = get[RevokeProposal](t, tableProposals, id); err != nil {
			return err
		}
		switch state := prop.State(t.now); {
		case state == "agreed", state == "done":
			return nil
		case state != "waiting":
			return fmt.Errorf("the proposal is %s: let it be proposed again: %w", state, trust.ErrConflict)
		case samePerson(t.p, prop.By):
			return fmt.Errorf("%s has proposed it, and another person has to agree: %w", t.p, trust.ErrForbidden)
		}
		return t.agreeTo(&prop)
	}); err != nil {
		return prop, done, 0, err
	}
	plans := make([]revokePlan, len(prop.Certificates))
	for i, key := range prop.Certificates {
		plans[i].key = key
	}
	out := make([]Revoked, 1)
	for len(plans) > 0 && prop.Done.IsZero() {
		chunk := plans[:min(len(plans), revokeAtOnce)]
		if rev, err = r.revokeChunk(ctx, p, chunk, out, prop.Reason, prop.Comment); err != nil {
			return prop, out[0], rev, err
		}
		plans = plans[len(chunk):]
	}
	if prop.Done.IsZero() {
		prop, rev, err = r.proposalDone(ctx, p, id)
	}
	return prop, out[0], rev, err
}

// proposalDone notes that every certificate of a proposal is revoked.
func (r *Registry) proposalDone(ctx context.Context, p trust.Principal, id string) (prop RevokeProposal, rev Revision, err error) {
	rev, err = r.update(ctx, p, ActRevokeApprove, id, func(t *txn) error {
		if prop, err = get[RevokeProposal](t, tableProposals, id); err != nil || !prop.Done.IsZero() {
			return err
		}
		prop.Done = t.now.UTC()
		return t.putProposal(prop, ActRevokeApprove, "carried out")
	})
	return prop, rev, err
}

// WithdrawRevocation ends a proposal that waits; whoever may revoke may do that, also to another's. One that is agreed to or over is a conflict.
func (r *Registry) WithdrawRevocation(ctx context.Context, p trust.Principal, id string) (prop RevokeProposal, rev Revision, err error) {
	rev, err = r.update(ctx, p, ActRevokeWithdraw, id, func(t *txn) error {
		if prop, err = get[RevokeProposal](t, tableProposals, id); err != nil {
			return err
		}
		if state := prop.State(t.now); state != "waiting" {
			return fmt.Errorf("the proposal is %s: %w", state, trust.ErrConflict)
		}
		prop.Second, prop.Withdrawn = t.p, t.now.UTC()
		return t.putProposal(prop, ActRevokeWithdraw, "withdrawn")
	})
	return prop, rev, err
}

// RevokeProposal returns a proposal.
func (r *Registry) RevokeProposal(ctx context.Context, id string) (prop RevokeProposal, err error) {
	err = r.view(ctx, func(rd Reader) error {
		prop, err = get[RevokeProposal](rd, tableProposals, id)
		return err
	})
	return prop, err
}

// ProposalFilter selects proposals.
type ProposalFilter struct {
	All   bool   // also those that are over
	After string // id of the last proposal of the previous page
	Limit int
}

// RevokeProposals lists proposals that wait or are not fully carried out, in the order in which they were made. Those that are over are kept for 30 days.
func (r *Registry) RevokeProposals(ctx context.Context, f ProposalFilter) ([]RevokeProposal, error) {
	now := r.now()
	return listPaged(ctx, r.store, tableProposals, "", f.After, pageLimit(f.Limit), func(p RevokeProposal) bool {
		state := p.State(now)
		return f.All || state == "waiting" || state == "agreed"
	})
}

// deleteProposals deletes what was proposed before the given time.
func (r *Registry) deleteProposals(ctx context.Context, before time.Time) (int, error) {
	return deleteWhere(ctx, r, tableProposals, func(p RevokeProposal) bool { return p.Created.Before(before) },
		func(t *txn, id string, _ RevokeProposal) { t.Touch(KindProposal, id) })
}

package registry

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"postern/internal/trust"
)

const (
	// ProposalTTL is how long a second person may agree to a revocation.
	ProposalTTL   = 24 * time.Hour
	revokedWindow = time.Hour // for which the revocations of one person are counted together
	maxProposals  = 100       // that wait
	maxProposed   = 10_000    // certificates of one proposal
)

// The actions on revocations by two persons that are authorised (ActRevoke is the right to propose) and audited.
const (
	ActRevokePropose  = "revocation.propose"
	ActRevokeApprove  = "revocation.approve"
	ActRevokeWithdraw = "revocation.withdraw"
)

// RevocationRules say how much one person may revoke.
type RevocationRules struct {
	TwoPersons int // certificates that one person may revoke for good in an hour; beyond it a second person has to agree. 0: any number
}

// WithRevocationRules sets how much one person may revoke; call it before the registry is used.
func (r *Registry) WithRevocationRules(rules RevocationRules) *Registry {
	r.revocations = rules
	return r
}

// RevokeProposal is a revocation that a second person has to agree to. What it would revoke, for which reason and who proposed it never change.
type RevokeProposal struct {
	ID           string           `json:"id"`
	Certificates []string         `json:"certificates,omitempty"` // issuer/serial, in order
	Digest       string           `json:"digest"`                 // SHA-256 of the reason and the certificates
	Reason       trust.ReasonCode `json:"reason"`
	Comment      string           `json:"comment,omitempty"`
	By           trust.Principal  `json:"by"`
	Created      time.Time        `json:"created"`
	Second       trust.Principal  `json:"second,omitzero"` // who agreed, or withdrew it
	Agreed       time.Time        `json:"agreed,omitzero"`
	Withdrawn    time.Time        `json:"withdrawn,omitzero"`
	Done         time.Time        `json:"done,omitzero"` // when the last certificate was revoked
}

// State says what became of the proposal: waiting, agreed (begun, and to be carried on by agreeing again), done, withdrawn or expired.
func (p RevokeProposal) State(now time.Time) string {
	switch {
	case !p.Done.IsZero():
		return "done"
	case !p.Withdrawn.IsZero():
		return "withdrawn"
	case !p.Agreed.IsZero():
		return "agreed"
	case now.Sub(p.Created) >= ProposalTTL:
		return "expired"
	}
	return "waiting"
}

// ProposedError says that nothing was revoked, and that the revocation is stored as a proposal.
type ProposedError struct{ Proposal RevokeProposal }

func (e *ProposedError) Error() string {
	return fmt.Sprintf("nothing is revoked yet: a second person has to agree to %s, which would revoke %d certificates", e.Proposal.ID, len(e.Proposal.Certificates))
}

// samePerson compares principals by how they came in, whatever role they have.
func samePerson(a, b trust.Principal) bool { return a.Kind == b.Kind && a.Name == b.Name }

// heldBack reports whether the revocations of p are counted: those of people are, those that doors make on their own evidence are not.
func (r *Registry) heldBack(p trust.Principal) bool {
	return r.revocations.TwoPersons > 0 && p.Role != ""
}

// spent is how many certificates one person has revoked in one minute.
type spent struct {
	At time.Time `json:"at"`
	N  int       `json:"n"`
}

// spend counts n certificates as revoked by the principal, and reports false and counts nothing where that is more than one person may.
func (r *Registry) spend(t *txn, n int) (bool, error) {
	if n == 0 {
		return true, nil
	}
	key := "revoked_by/" + t.p.String()
	all, err := get[[]spent](t, tableMeta, key)
	if err != nil && !errors.Is(err, trust.ErrNotFound) {
		return false, err
	}
	minute := t.now.UTC().Truncate(time.Minute)
	all = slices.DeleteFunc(all, func(s spent) bool { return minute.Sub(s.At) > revokedWindow })
	sum := n
	for _, s := range all {
		sum += s.N
	}
	if sum > r.revocations.TwoPersons {
		return false, nil
	}
	if last := len(all) - 1; last >= 0 && all[last].At.Equal(minute) {
		all[last].N += n
	} else {
		all = append(all, spent{minute, n})
	}
	return true, put(t, tableMeta, key, all)
}

// spendOne is spend for a certificate with those that it has superseded; too many is a conflict.
func (r *Registry) spendOne(t *txn, c trust.Certificate) error {
	if !r.heldBack(t.p) {
		return nil
	}
	var would Revoked
	if err := (revokePlan{key: certKey(c.Issuer, c.Serial), alone: true}).look(t, &would); err != nil {
		return err
	}
	ok, err := r.spend(t, len(would.Certificates))
	if err == nil && !ok {
		err = fmt.Errorf("one person may revoke %d certificates in an hour (revocation.two_persons): suspend the device at once (`postern device suspend`), and propose the revocation with `echo %s | postern cert revoke --file -`: %w",
			r.revocations.TwoPersons, c.Serial, trust.ErrConflict)
	}
	return err
}

// spendDevice is spend for all certificates of a device that is retired or gets another owner; too many is a conflict. Once they are revoked, by two persons, it
// costs nothing.
func (r *Registry) spendDevice(t *txn, id trust.DeviceID) error {
	if !r.heldBack(t.p) {
		return nil
	}
	all, err := t.certificatesOf(id)
	if err != nil {
		return err
	}
	n := 0
	for _, c := range all {
		if c.Status != trust.Revoked {
			n++
		}
	}
	ok, err := r.spend(t, n)
	if err == nil && !ok {
		err = fmt.Errorf("it would revoke %d certificates, and one person may revoke %d in an hour (revocation.two_persons): suspend the device at once (`postern device suspend %s`), propose the revocation with `postern cert revoke --device %s`, and repeat this when another person has agreed: %w",
			n, r.revocations.TwoPersons, id, id, trust.ErrConflict)
	}
	return err
}

// agreeToRevoke returns nil where p may revoke what is planned: because it is little enough, or because another person has proposed exactly that, whose
// proposal's id is returned. Otherwise it stores a proposal, or finds the one that p made before, and returns it as a ProposedError.
func (r *Registry) agreeToRevoke(ctx context.Context, p trust.Principal, plans []revokePlan, out []Revoked, reason trust.ReasonCode, comment string) (agreed string, err error) {
	if !r.heldBack(p) || len(plans) == 0 {
		return "", nil
	}
	var proposed *RevokeProposal
	already := make([]int, len(out))
	_, err = r.update(ctx, p, ActRevoke, fmt.Sprintf("%d certificates", len(plans)), func(t *txn) error {
		agreed, proposed = "", nil // the closure may run again
		clear(already)
		keys, err := wouldRevoke(t, plans, already)
		if err != nil {
			return err
		}
		if ok, err := r.spend(t, len(keys)); err != nil || ok {
			return err
		}
		asked := RevokeProposal{ID: trust.NewIDAt("rp", t.now), Certificates: keys, Digest: digestOf(reason, keys), Reason: reason, Comment: comment, By: p, Created: t.now.UTC()}
		mine, other, err := t.proposalsLike(asked)
		switch {
		case err != nil:
			return err
		case other != nil:
			agreed = other.ID
			return t.agreeTo(other)
		case mine != nil:
			proposed = mine
			return nil
		}
		proposed = &asked
		return t.putProposal(asked, ActRevokePropose, "proposed: a second person has to agree")
	})
	if err == nil && proposed != nil {
		for i, n := range already {
			out[i].Already = n
		}
		err = &ProposedError{*proposed}
	}
	return agreed, err
}

// wouldRevoke returns the keys of what is not revoked yet, in order and each once.
func wouldRevoke(rd Reader, plans []revokePlan, already []int) (keys []string, err error) {
	for _, plan := range plans {
		var would Revoked
		if err := plan.look(rd, &would); err != nil {
			return nil, err
		}
		already[plan.target] += would.Already
		issuer, _, _ := strings.Cut(plan.key, "/")
		for _, s := range would.Certificates {
			keys = append(keys, certKey(issuer, s))
		}
	}
	slices.Sort(keys)
	keys = slices.Compact(keys)
	if len(keys) > maxProposed {
		return nil, fmt.Errorf("%d certificates %w: at most %d at once where a second person has to agree", len(keys), trust.ErrInvalid, maxProposed)
	}
	return keys, nil
}

func digestOf(reason trust.ReasonCode, keys []string) string {
	sum := sha256.Sum256([]byte(string(reason) + "\n" + strings.Join(keys, "\n")))
	return hex.EncodeToString(sum[:])
}

// proposalsLike finds waiting proposals of exactly the same: one of the same person, and one of another.
func (t *txn) proposalsLike(asked RevokeProposal) (mine, other *RevokeProposal, err error) {
	waiting, err := list(t, tableProposals, "", "", unlimited, func(p RevokeProposal) bool { return p.State(t.now) == "waiting" })
	if err != nil {
		return nil, nil, err
	}
	for i, p := range waiting {
		switch {
		case p.Digest != asked.Digest:
		case samePerson(p.By, asked.By):
			mine = &waiting[i]
		default:
			other = &waiting[i]
		}
	}
	if mine == nil && other == nil && len(waiting) >= maxProposals {
		return nil, nil, fmt.Errorf("%d proposals wait for a second person: agree to some or withdraw them first (`postern cert proposal list`): %w", len(waiting), trust.ErrConflict)
	}
	return mine, other, nil
}

func (t *txn) putProposal(p RevokeProposal, action, detail string) error {
	t.Touch(KindProposal, p.ID)
	if err := put(t, tableProposals, p.ID, p); err != nil {
		return err
	}
	detail = fmt.Sprintf("%s: %d certificates (%s) %s", detail, len(p.Certificates), p.Reason, p.Comment)
	p.Certificates = nil // the digest names them, and each has an entry of its own once it is revoked
	return t.audit(AuditEntry{Action: action, Object: p.ID, Detail: detail, After: snapshot(p)})
}

// agreeTo is the second person's word.
func (t *txn) agreeTo(p *RevokeProposal) error {
	p.Second, p.Agreed = t.p, t.now.UTC()
	return t.putProposal(*p, ActRevokeApprove, "agreed; proposed by "+p.By.String())
}

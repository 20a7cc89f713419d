package registry_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"postern/internal/registry"
	"postern/internal/trust"
)

var second = trust.Principal{Kind: "token", Name: "second", Role: trust.PKIOfficer}

// twoPersons is a world in which one person may revoke three certificates in an hour, and some certificates.
func twoPersons(t *testing.T, n int) (*world, []trust.Certificate, []registry.RevokeTarget) {
	w := newWorld(t)
	w.reg.WithRevocationRules(registry.RevocationRules{TwoPersons: 3})
	var all []trust.Certificate
	var targets []registry.RevokeTarget
	for range n {
		c := w.enrol(w.device("alice@contoso.com"))
		all, targets = append(all, c), append(targets, registry.RevokeTarget{Serial: c.Serial})
	}
	return w, all, targets
}

func (w *world) propose(p trust.Principal, targets []registry.RevokeTarget) registry.RevokeProposal {
	w.Helper()
	out, _, err := w.reg.RevokeMany(w.Context(), p, targets, trust.KeyCompromise, "stolen", false)
	var proposed *registry.ProposedError
	if !errors.As(err, &proposed) {
		w.Fatalf("%d revoked by one person: %v", len(targets), err)
	}
	for _, r := range out {
		if len(r.Certificates) > 0 {
			w.Fatalf("a proposal has revoked %v", r.Certificates)
		}
	}
	return proposed.Proposal
}

// proposal is one of a person of its own, for a while in which one person may revoke a single certificate.
func (w *world) proposal() registry.RevokeProposal {
	w.Helper()
	w.reg.WithRevocationRules(registry.RevocationRules{TwoPersons: 1})
	defer w.reg.WithRevocationRules(registry.RevocationRules{})
	return w.propose(second, []registry.RevokeTarget{{Serial: w.enrol(w.device("alice@contoso.com")).Serial}, {Serial: w.enrol(w.device("alice@contoso.com")).Serial}})
}

func (w *world) countRevoked(want int) {
	w.Helper()
	if listed, _ := w.listed(); len(listed) != want {
		w.Fatalf("%d are revoked, want %d", len(listed), want)
	}
}

// What is too much for one is revoked once another agrees, and then exactly that: neither by the proposer, nor by one who may not revoke.
func TestRevokeNeedsTwoPersons(t *testing.T) {
	w, all, targets := twoPersons(t, 5)
	prop := w.propose(officer, targets)
	w.countRevoked(0)
	if again := w.propose(officer, targets); again.ID != prop.ID {
		t.Errorf("the same proposal twice: %s and %s", prop.ID, again.ID)
	}
	if e := w.newest(registry.AuditFilter{Object: prop.ID}); e.Action != registry.ActRevokePropose || e.Principal != officer || !strings.Contains(e.Detail, "5 certificates (keyCompromise) stolen") {
		t.Errorf("audit %+v", e)
	}
	for _, p := range []trust.Principal{officer, {Kind: "token", Name: "officer", Role: trust.Root}, desk} {
		_, _, _, err := w.reg.ApproveRevocation(t.Context(), p, prop.ID)
		w.want(err, trust.ErrForbidden)
	}
	w.countRevoked(0)
	_, err := w.renew(trust.Device{ID: all[0].Device, Issuer: "contoso", Owner: all[0].Owner}, all[0].Serial) // a certificate that nobody has proposed
	w.must(err)
	done, out, _, err := w.reg.ApproveRevocation(t.Context(), second, prop.ID)
	w.must(err)
	if done.State(w.now()) != "done" || done.Second != second || len(out.Certificates) != 5 || w.cert(all[1]).Comment != "stolen" || w.cert(all[1]).Reason != trust.KeyCompromise {
		t.Errorf("%+v, %+v", done, out)
	}
	w.countRevoked(5)
	if e := w.newest(registry.AuditFilter{Object: string(all[1].Serial)}); e.Principal != second || e.Action != registry.ActRevoke {
		t.Errorf("audit %+v", e)
	}
	_, rev := w.listed()
	_, out, _, err = w.reg.ApproveRevocation(t.Context(), second, prop.ID)
	w.must(err)
	if _, now := w.listed(); now != rev || len(out.Certificates) != 0 {
		t.Error("agreeing again has changed something")
	}
}

// The same command by another person is agreement; a list that is not exactly the same is a proposal of its own.
func TestRevokeProposalByTheSameCommand(t *testing.T) {
	w, _, targets := twoPersons(t, 6)
	first := w.propose(officer, targets[:5])
	for _, other := range [][]registry.RevokeTarget{targets, targets[:4], targets[1:]} {
		if p := w.propose(second, other); p.ID == first.ID || p.Digest == first.Digest {
			t.Error("another list counts as agreement")
		}
	}
	w.countRevoked(0)
	out, _, err := w.reg.RevokeMany(t.Context(), second, targets[:5], trust.KeyCompromise, "", false)
	w.must(err)
	if len(out) != 5 || len(out[4].Certificates) != 1 {
		t.Errorf("%+v", out)
	}
	w.countRevoked(5)
	done, err := w.reg.RevokeProposal(t.Context(), first.ID)
	w.must(err)
	if done.State(w.now()) != "done" || done.Second != second {
		t.Errorf("%+v", done)
	}
}

// A proposal of yesterday counts no more, by its id or by the same command; neither does one that was withdrawn.
func TestRevokeProposalEnds(t *testing.T) {
	w, _, targets := twoPersons(t, 5)
	old := w.propose(officer, targets)
	w.pass(registry.ProposalTTL)
	_, _, _, err := w.reg.ApproveRevocation(t.Context(), second, old.ID)
	w.want(err, trust.ErrConflict)
	other := w.propose(second, targets)
	_, _, err = w.reg.WithdrawRevocation(t.Context(), desk, other.ID)
	w.want(err, trust.ErrForbidden)
	gone, _, err := w.reg.WithdrawRevocation(t.Context(), officer, other.ID)
	w.must(err)
	if gone.State(w.now()) != "withdrawn" {
		t.Errorf("%+v", gone)
	}
	_, _, _, err = w.reg.ApproveRevocation(t.Context(), officer, other.ID)
	w.want(err, trust.ErrConflict)
	_, _, err = w.reg.WithdrawRevocation(t.Context(), officer, other.ID)
	w.want(err, trust.ErrConflict)
	w.propose(officer, targets)
	w.countRevoked(0)
	waiting, err := w.reg.RevokeProposals(t.Context(), registry.ProposalFilter{})
	w.must(err)
	all, err := w.reg.RevokeProposals(t.Context(), registry.ProposalFilter{All: true})
	w.must(err)
	if len(waiting) != 1 || len(all) != 3 {
		t.Errorf("%d wait of %d", len(waiting), len(all))
	}
	w.pass(31 * 24 * time.Hour)
	_, err = w.reg.DeleteExpired(t.Context(), w.now())
	w.must(err)
	if all, err := w.reg.RevokeProposals(t.Context(), registry.ProposalFilter{All: true}); err != nil || len(all) != 0 {
		t.Errorf("%d proposals stay for ever: %v", len(all), err)
	}
}

// Many small commands are one big one, single revocations among them, until an hour has passed. What Postern revokes by itself is not counted.
func TestRevokeInSmallSteps(t *testing.T) {
	w, all, targets := twoPersons(t, 12)
	step := func(p trust.Principal, i int) error {
		_, err := w.reg.Revoke(t.Context(), p, "contoso", all[i].Serial, trust.KeyCompromise, "")
		return err
	}
	w.must(step(officer, 0))
	w.must(step(officer, 0)) // revoked already: costs nothing
	w.pass(30 * time.Minute)
	_, _, err := w.reg.RevokeMany(t.Context(), officer, targets[1:3], trust.KeyCompromise, "", false)
	w.must(err)
	w.want(step(officer, 3), trust.ErrConflict)
	w.propose(officer, targets[3:4])
	w.must(step(second, 4)) // another person has an allowance of his own
	for i := 8; i < 12; i++ {
		w.must(step(trust.Principal{Kind: "mdm", Name: "intune"}, i))
	}
	w.countRevoked(8)
	w.pass(31 * time.Minute)
	w.must(step(officer, 6))
	w.want(step(officer, 7), trust.ErrConflict)
	w.pass(62 * time.Minute)
	w.must(step(officer, 7))
	w.countRevoked(10)
}

// What two persons have agreed to and was interrupted is carried on by either, and the rest of it is not proposed anew.
func TestRevokeAgreedInterrupted(t *testing.T) {
	w, _, targets := twoPersons(t, 300)
	prop := w.propose(officer, targets)
	_, rev := w.listed()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	go func() {
		_, _ = w.store.Wait(t.Context(), rev) // for the agreement
		cancel()
	}()
	_, out, _, err := w.reg.ApproveRevocation(ctx, second, prop.ID)
	if err == nil {
		w.countRevoked(300) // it was quicker than the interruption
		return
	}
	w.countRevoked(len(out.Certificates))
	half, err := w.reg.RevokeProposal(t.Context(), prop.ID)
	w.must(err)
	w.pass(2 * registry.ProposalTTL)
	if half.State(w.now()) != "agreed" {
		t.Fatalf("%s", half.State(w.now()))
	}
	_, rest, _, err := w.reg.ApproveRevocation(t.Context(), officer, prop.ID)
	w.must(err)
	if rest.Already != len(out.Certificates) || len(rest.Certificates) != 300-rest.Already {
		t.Errorf("%d and then %d, %d already", len(out.Certificates), len(rest.Certificates), rest.Already)
	}
	w.countRevoked(300)
}

// Retiring and reassigning revoke too, so they are counted: one device after the other is no way around the second person. What two have agreed to costs nothing, a
// device without certificates neither, and the policy is not held back here.
func TestRetiringIsCounted(t *testing.T) {
	w, all, targets := twoPersons(t, 6)
	_, err := w.reg.RetireDevice(t.Context(), officer, all[0].Device, "")
	w.must(err)
	_, err = w.reg.ReassignDevice(t.Context(), officer, all[1].Device, trust.Owner{Mail: "bob@contoso.com"})
	w.must(err)
	_, err = w.reg.Revoke(t.Context(), officer, "contoso", all[2].Serial, trust.KeyCompromise, "")
	w.must(err)
	_, err = w.reg.RetireDevice(t.Context(), officer, all[3].Device, "")
	w.want(err, trust.ErrConflict)
	if !strings.Contains(err.Error(), "revocation.two_persons") || !strings.Contains(err.Error(), "postern cert revoke --device "+string(all[3].Device)) {
		t.Error(err)
	}
	_, err = w.reg.ReassignDevice(t.Context(), officer, all[3].Device, trust.Owner{Mail: "bob@contoso.com"})
	w.want(err, trust.ErrConflict)
	w.countRevoked(3)
	if d, err := w.reg.Device(t.Context(), all[3].Device); err != nil || d.State != trust.Active || d.Owner != "alice@contoso.com" {
		t.Errorf("%+v, %v", d, err)
	}
	_, err = w.reg.RetireDevice(t.Context(), officer, w.device("alice@contoso.com").ID, "never enrolled")
	w.must(err)
	prop := w.propose(officer, targets[3:4])
	_, _, _, err = w.reg.ApproveRevocation(t.Context(), second, prop.ID)
	w.must(err)
	_, err = w.reg.RetireDevice(t.Context(), officer, all[3].Device, "")
	w.must(err)
	_, err = w.reg.RetireDevice(t.Context(), trust.Principal{Kind: "policy", Name: "digest"}, all[4].Device, "")
	w.must(err)
	w.countRevoked(5)
	w.pass(62 * time.Minute)
	_, err = w.reg.RetireDevice(t.Context(), officer, all[5].Device, "")
	w.must(err)
}

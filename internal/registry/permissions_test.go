package registry_test

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"postern/internal/registry"
	"postern/internal/trust"
)

var principals = map[string]trust.Principal{"root": root, "officer": officer, "desk": desk, "author": author, "auditor": auditor, "scep": scepDoor,
	"edge": edgeDoor, "publisher": publisher, "system": system, "nobody": nobody, "stranger": {Kind: "token", Name: "x", Role: "superuser"}}

// rule says who may do an action, and how it is done by p on objects of its own.
type rule struct {
	action, allowed string
	do              func(w *world, p trust.Principal) error
}

func deviceRules() []rule {
	return []rule{
		{registry.ActDeviceAdd, "root officer", func(w *world, p trust.Principal) error {
			_, err := w.reg.AddDevice(w.Context(), p, registry.NewDevice{Device: trust.Device{Issuer: "contoso", SerialNumber: fmt.Sprint("M", w.last.Add(1))},
				Owner: trust.Owner{Mail: "alice@contoso.com"}})
			return err
		}},
		{registry.ActDeviceRetire, "root officer", func(w *world, p trust.Principal) error {
			_, err := w.reg.RetireDevice(w.Context(), p, w.device("alice@contoso.com").ID, "lost")
			return err
		}},
		{registry.ActDeviceReassign, "root officer", func(w *world, p trust.Principal) error {
			_, err := w.reg.ReassignDevice(w.Context(), p, w.device("alice@contoso.com").ID, trust.Owner{Mail: "bob@contoso.com"})
			return err
		}},
		{registry.ActDeviceState, "root officer", func(w *world, p trust.Principal) error {
			_, err := w.reg.SetDeviceState(w.Context(), p, w.device("alice@contoso.com").ID, trust.Blocked, "")
			return err
		}},
		{registry.ActDeviceSuspend, "root officer desk", func(w *world, p trust.Principal) error {
			_, err := w.reg.SuspendDevice(w.Context(), p, w.device("alice@contoso.com").ID, trust.SuspendLost, "")
			return err
		}},
		{registry.ActDeviceReinstate, "root officer desk", func(w *world, p trust.Principal) error {
			d := w.device("alice@contoso.com")
			_, err := w.reg.SuspendDevice(w.Context(), officer, d.ID, trust.SuspendLost, "")
			w.must(err)
			_, err = w.reg.ReinstateDevice(w.Context(), p, d.ID, "")
			return err
		}},
		{registry.ActOwnerSuspend, "root officer desk", func(w *world, p trust.Principal) error {
			_, err := w.reg.SuspendOwner(w.Context(), p, w.owner(), trust.SuspendAbsent, "")
			return err
		}},
		{registry.ActOwnerReinstate, "root officer desk", func(w *world, p trust.Principal) error {
			mail := w.owner()
			_, err := w.reg.SuspendOwner(w.Context(), officer, mail, trust.SuspendAbsent, "")
			w.must(err)
			_, err = w.reg.ReinstateOwner(w.Context(), p, mail, "")
			return err
		}},
		{registry.ActOwnerPut, "root officer", func(w *world, p trust.Principal) error {
			oid := "o-1"
			_, _, err := w.reg.UpdateOwner(w.Context(), p, w.owner(), registry.OwnerUpdate{OID: &oid})
			return err
		}},
		{registry.ActChallenge, "root officer desk", func(w *world, p trust.Principal) error {
			_, _, err := w.reg.CreateChallenge(w.Context(), p, w.device("alice@contoso.com").ID, 0)
			return err
		}},
	}
}

func certificateRules() []rule {
	return []rule{
		{registry.ActEnrol, "scep", func(w *world, p trust.Principal) error {
			d := w.device("alice@contoso.com")
			_, err := w.reg.CommitEnrolment(w.Context(), p, w.first(d, w.challenge(d.ID)))
			return err
		}},
		{registry.ActRenew, "scep", func(w *world, p trust.Principal) error {
			d := w.device("alice@contoso.com")
			_, err := w.reg.CommitEnrolment(w.Context(), p, w.signed(d, trust.Evidence{Kind: "renewal", Renews: w.enrol(d).Serial}))
			return err
		}},
		{registry.ActRevoke, "root officer", func(w *world, p trust.Principal) error {
			_, err := w.reg.Revoke(w.Context(), p, "contoso", w.enrol(w.device("alice@contoso.com")).Serial, trust.KeyCompromise, "")
			return err
		}},
		{registry.ActRevokeApprove, "root officer", func(w *world, p trust.Principal) error {
			_, _, _, err := w.reg.ApproveRevocation(w.Context(), p, w.proposal().ID)
			return err
		}},
		{registry.ActRevokeWithdraw, "root officer", func(w *world, p trust.Principal) error {
			_, _, err := w.reg.WithdrawRevocation(w.Context(), p, w.proposal().ID)
			return err
		}},
		{registry.ActHold, "root officer desk", func(w *world, p trust.Principal) error {
			_, err := w.reg.Hold(w.Context(), p, "contoso", w.enrol(w.device("alice@contoso.com")).Serial, "")
			return err
		}},
		{registry.ActRelease, "root officer desk", func(w *world, p trust.Principal) error {
			c := w.enrol(w.device("alice@contoso.com"))
			_, err := w.reg.Hold(w.Context(), officer, "contoso", c.Serial, "")
			w.must(err)
			_, err = w.reg.Release(w.Context(), p, "contoso", c.Serial, "")
			return err
		}},
		{registry.ActUsed, "edge", func(w *world, p trust.Principal) error {
			return w.reg.CertificateUsed(w.Context(), p, "contoso", w.enrol(w.device("alice@contoso.com")).Serial, w.now())
		}},
		{registry.ActCAPut, "root system", func(w *world, p trust.Principal) error {
			return w.reg.PutCA(w.Context(), p, registry.CA{Issuer: "new", ID: fmt.Sprint("ca", w.last.Add(1))})
		}},
		{registry.ActPublish, "root officer system", func(w *world, p trust.Principal) error {
			_, err := w.reg.RequestPublish(w.Context(), p, "contoso", true)
			return err
		}},
		{registry.ActCRLCommit, "publisher", func(w *world, p trust.Principal) error {
			return w.reg.CommitCRLs(w.Context(), p, 0, registry.CRL{Issuer: "contoso", CA: fmt.Sprint("ca", w.last.Add(1)), Kind: registry.Base, Number: 1})
		}},
		{registry.ActCRLRestore, "publisher", func(w *world, p trust.Principal) error { return w.reg.VoidChallenges(w.Context(), p, "restored") }},
	}
}

func otherRules() []rule {
	profile := func(w *world) string {
		m, _, err := w.reg.ObserveProfile(w.Context(), edgeDoor, seen(fmt.Sprint("client", w.last.Add(1)), "alice@contoso.com"))
		w.must(err)
		return m.ID
	}
	return []rule{
		{registry.ActProfileObserve, "edge", func(w *world, p trust.Principal) error {
			_, _, err := w.reg.ObserveProfile(w.Context(), p, seen("abc", "alice@contoso.com"))
			return err
		}},
		{registry.ActProfileLink, "root officer desk", func(w *world, p trust.Principal) error {
			_, err := w.reg.LinkProfile(w.Context(), p, profile(w), w.device("alice@contoso.com").ID)
			return err
		}},
		{registry.ActProfileSettle, "root officer desk", func(w *world, p trust.Principal) error {
			_, _, err := w.reg.SettleProfile(w.Context(), p, profile(w), registry.Settlement{})
			return err
		}},
		{registry.ActProfileForget, "root officer desk", func(w *world, p trust.Principal) error {
			return w.reg.ForgetProfile(w.Context(), p, profile(w))
		}},
		{registry.ActTokenCreate, "root", func(w *world, p trust.Principal) error {
			_, _, err := w.reg.CreateToken(w.Context(), p, "ci", trust.Auditor, time.Hour)
			return err
		}},
		{registry.ActTokenRevoke, "root", func(w *world, p trust.Principal) error {
			_, tok, err := w.reg.CreateToken(w.Context(), root, "ci", trust.Auditor, time.Hour)
			w.must(err)
			return w.reg.RevokeToken(w.Context(), p, tok.ID)
		}},
		{registry.ActPolicyPut, "root author system", func(w *world, p trust.Principal) error {
			_, err := w.reg.PutPolicy(w.Context(), p, version(int(w.last.Add(1))), []byte("files"))
			return err
		}},
		{registry.ActPolicyShadow, "root author", func(w *world, p trust.Principal) error {
			_, err := w.reg.PutPolicy(w.Context(), author, version(1), []byte("x"))
			w.must(err)
			_, _, err = w.reg.ShadowPolicy(w.Context(), p, version(1).Digest, "")
			return err
		}},
		{registry.ActPolicyActivate, "root author system", func(w *world, p trust.Principal) error {
			v, err := w.reg.PutPolicy(w.Context(), root, version(int(w.last.Add(1))), []byte("files"))
			w.must(err)
			_, _, err = w.reg.ActivatePolicy(w.Context(), p, v.Digest, "")
			return err
		}},
		{registry.ActTicketCreate, "root officer", func(w *world, p trust.Principal) error {
			_, _, _, err := w.reg.CreateTicket(w.Context(), p, w.device("alice@contoso.com").ID)
			return err
		}},
		{registry.ActTicketRevoke, "root officer desk", func(w *world, p trust.Principal) error {
			_, k, _, err := w.reg.CreateTicket(w.Context(), root, w.device("alice@contoso.com").ID)
			w.must(err)
			_, _, err = w.reg.RevokeTicket(w.Context(), p, k.ID)
			return err
		}},
		{registry.ActLifecycle, "root officer system", func(w *world, p trust.Principal) error { return w.reg.BeginLifecycle(w.Context(), p, "digest") }},
		{registry.ActExceptionGrant, "root officer desk author", func(w *world, p trust.Principal) error {
			_, _, err := w.reg.GrantException(w.Context(), p, w.exception(w.owner(), ""))
			return err
		}},
		{registry.ActExceptionRevoke, "root officer desk author", func(w *world, p trust.Principal) error {
			e, _, err := w.reg.GrantException(w.Context(), root, w.exception(w.owner(), ""))
			w.must(err)
			_, _, err = w.reg.RevokeException(w.Context(), p, e.ID, "")
			return err
		}},
		{registry.ActGrantRecord, "edge", func(w *world, p trust.Principal) error {
			_, err := w.reg.GrantKey(w.Context(), p)
			return err
		}},
	}
}

// Who may do what. Whoever may not is told so, changes nothing, and is in the audit.
func TestPermissions(t *testing.T) {
	w := newWorld(t)
	for _, r := range slices.Concat(deviceRules(), certificateRules(), otherRules()) {
		for _, name := range slices.Sorted(maps.Keys(principals)) {
			p := principals[name]
			err := r.do(w, p)
			last := w.newest(registry.AuditFilter{Action: r.action})
			if slices.Contains(strings.Fields(r.allowed), name) {
				if err != nil {
					t.Errorf("%s by %s: %v", r.action, name, err)
				}
				continue
			}
			if !errors.Is(err, trust.ErrForbidden) {
				t.Errorf("%s by %s: got %v, want forbidden", r.action, name, err)
			}
			if last.Outcome != registry.Refused || last.Principal != p {
				t.Errorf("%s by %s: the audit says %+v", r.action, name, last)
			}
		}
	}
}

func TestMayRead(t *testing.T) {
	for name, p := range principals {
		want := slices.Contains([]string{"root", "officer", "desk", "author", "auditor"}, name)
		if registry.MayRead(p) != want {
			t.Errorf("%s may read: %v", name, !want)
		}
	}
}

package registry_test

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"postern/internal/registry"
	"postern/internal/trust"
)

// pending is a first enrolment of the device that waits.
func (w *world) pending(d trust.Device, secret string) (registry.Pending, registry.Transaction, [32]byte) {
	n := w.last.Add(1)
	csr, key := fmt.Append(nil, "csr", n), sha256.Sum256(fmt.Append(nil, "key", n))
	x := registry.Transaction{Issuer: d.Issuer, ID: fmt.Sprint("tx", n), MessageType: "PKCSReq", CSR: sha256.Sum256(csr), Challenge: secret}
	return registry.Pending{ID: trust.NewReference(w.now()), Issuer: d.Issuer, TransactionID: x.ID, MessageType: x.MessageType, Device: d.ID, Owner: d.Owner,
		Evidence: trust.Evidence{Kind: "challenge"}, CSR: csr, Signer: []byte("signer")}, x, key
}

func (w *world) pend(d trust.Device) registry.Pending {
	w.Helper()
	p, x, key := w.pending(d, w.challenge(d.ID))
	p, err := w.reg.Pend(w.Context(), scepDoor, p, x, key)
	w.must(err)
	return p
}

// issue commits a certificate for the pending request as the door saw it.
func (w *world) issuePending(p registry.Pending) (trust.Certificate, error) {
	e := w.signed(trust.Device{ID: p.Device, Issuer: p.Issuer, Owner: p.Owner}, p.Evidence)
	return w.reg.CommitPending(w.Context(), scepDoor, p, e.Certificate, nil, 0)
}

// Who may make requests pending and settle them, and who may speak for an MDM.
func TestPendingPermissions(t *testing.T) {
	w := newWorld(t)
	for _, r := range []rule{
		{registry.ActPend, "scep", func(w *world, by trust.Principal) error {
			d := w.device("alice@contoso.com")
			p, x, key := w.pending(d, w.challenge(d.ID))
			_, err := w.reg.Pend(w.Context(), by, p, x, key)
			return err
		}},
		{registry.ActApprove, "root officer", func(w *world, by trust.Principal) error {
			_, err := w.reg.Approve(w.Context(), by, w.pend(w.device("alice@contoso.com")).ID, "")
			return err
		}},
		{registry.ActReject, "root officer", func(w *world, by trust.Principal) error {
			_, err := w.reg.Reject(w.Context(), by, w.pend(w.device("alice@contoso.com")).ID, "")
			return err
		}},
		{registry.ActWithdraw, "scep", func(w *world, by trust.Principal) error {
			return w.reg.Withdraw(w.Context(), by, "contoso", w.validated(w.device("alice@contoso.com")).Serial, "")
		}},
		{registry.ActConfirm, "scep", func(w *world, by trust.Principal) error {
			return w.reg.Confirm(w.Context(), by, "contoso", w.validated(w.device("alice@contoso.com")).Serial)
		}},
		{registry.ActDeviceReport, "mdm", func(w *world, by trust.Principal) error {
			_, _, err := w.reg.EnsureDevice(w.Context(), by, trust.Applicant{SerialNumber: fmt.Sprint("R", w.last.Add(1)), Mail: "alice@contoso.com", Source: "intune"}, "contoso")
			return err
		}},
	} {
		who := map[string]trust.Principal{"mdm": mdm}
		for name, p := range principals {
			who[name] = p
		}
		for name, p := range who {
			err := r.do(w, p)
			if allowed := slices.Contains(strings.Fields(r.allowed), name); allowed != (err == nil) {
				t.Errorf("%s by %s: %v", r.action, name, err)
			} else if err != nil && (!errors.Is(err, trust.ErrForbidden) || w.newest(registry.AuditFilter{Action: r.action}).Principal != p) {
				t.Errorf("%s by %s: %v", r.action, name, err)
			}
		}
	}
}

// A pending request is found again by transactionID and key, keeps its challenge from others, and is spent on one certificate.
func TestPending(t *testing.T) {
	w := newWorld(t)
	d := w.device("alice@contoso.com")
	secret := w.challenge(d.ID)
	p, x, key := w.pending(d, secret)
	p, err := w.reg.Pend(t.Context(), scepDoor, p, x, key)
	w.must(err)
	second := p
	second.ID = trust.NewReference(w.now())
	if again, err := w.reg.Pend(t.Context(), scepDoor, second, x, key); err != nil || again.ID != p.ID {
		t.Errorf("the same request: %+v, %v", again, err)
	}
	if _, err := w.commit(w.first(d, secret)); !errors.Is(err, registry.ErrChallengePending) {
		t.Errorf("somebody else with its challenge: %v", err)
	}
	w.want(secondRequest(w, d, x, key), registry.ErrChallengePending)
	for _, k := range [][32]byte{{}, sha256.Sum256(nil)} {
		if _, err := w.reg.Pending(t.Context(), "contoso", x.ID, k); !errors.Is(err, trust.ErrNotFound) {
			t.Errorf("another key: %v", err)
		}
	}
	if _, err := w.reg.Pending(t.Context(), "fabrikam", x.ID, key); !errors.Is(err, trust.ErrNotFound) {
		t.Errorf("another issuer: %v", err)
	}
	approved, err := w.reg.Approve(t.Context(), officer, p.ID, "fine")
	w.must(err)
	if _, err := w.issuePending(p); !errors.Is(err, trust.ErrForbidden) {
		t.Errorf("settled otherwise meanwhile: %v", err)
	}
	w.pass(2 * registry.DefaultChallengeTTL)
	c, err := w.issuePending(approved)
	w.must(err)
	if other, err := w.issuePending(approved); err != nil || other.Serial != c.Serial {
		t.Errorf("issued twice: %+v, %v", other, err)
	}
	if got, err := w.reg.Issued(t.Context(), x); err != nil || got.Serial != c.Serial {
		t.Errorf("the request once more: %+v, %v", got, err)
	}
	if _, _, _, err := w.reg.Challenge(t.Context(), "contoso", secret); !errors.Is(err, registry.ErrChallengeSpent) {
		t.Errorf("its challenge: %v", err)
	}
	for _, do := range []func() error{
		func() error { _, err := w.reg.Approve(t.Context(), officer, p.ID, ""); return err },
		func() error { _, err := w.reg.Reject(t.Context(), officer, p.ID, ""); return err },
	} {
		w.want(do(), trust.ErrConflict)
	}
	now, err := w.reg.Pending(t.Context(), "contoso", x.ID, key)
	if err != nil || now.State != registry.PendingIssued || now.Serial != c.Serial || now.By.Name != "officer" || now.Comment != "fine" {
		t.Errorf("%+v, %v", now, err)
	}
}

// secondRequest is another request of the same client under the same transactionID, with the challenge of the first.
func secondRequest(w *world, d trust.Device, x registry.Transaction, key [32]byte) error {
	p, _, _ := w.pending(d, "")
	p.TransactionID = x.ID
	x.CSR = sha256.Sum256(p.CSR)
	_, err := w.reg.Pend(w.Context(), scepDoor, p, x, key)
	return err
}

// A rejected or expired request issues nothing; expiry frees the challenge, and rejection ends it.
func TestPendingEnds(t *testing.T) {
	w := newWorld(t)
	d := w.device("alice@contoso.com")
	secret, _, err := w.reg.CreateChallenge(t.Context(), officer, d.ID, 2*registry.PendingTTL)
	w.must(err)
	p, x, key := w.pending(d, secret)
	p, err = w.reg.Pend(t.Context(), scepDoor, p, x, key)
	w.must(err)
	w.pass(registry.PendingTTL)
	_, err = w.issuePending(p)
	w.want(err, trust.ErrForbidden)
	_, err = w.reg.Approve(t.Context(), officer, p.ID, "")
	w.want(err, trust.ErrConflict)
	if n, err := w.reg.SweepPending(t.Context(), scepDoor, 0); err != nil || n != 1 {
		t.Errorf("swept %d, %v", n, err)
	}
	_, err = w.reg.PendingByID(t.Context(), p.ID)
	w.want(err, trust.ErrNotFound)
	p, x, key = w.pending(d, secret)
	p, err = w.reg.Pend(t.Context(), scepDoor, p, x, key)
	w.must(err)
	_, err = w.reg.Reject(t.Context(), officer, p.ID, "no")
	w.must(err)
	_, err = w.issuePending(p)
	w.want(err, trust.ErrForbidden)
	_, err = w.commit(w.first(d, secret))
	w.want(err, registry.ErrChallengeExpired)
	_, err = w.reg.Approve(t.Context(), officer, p.ID, "")
	w.want(err, trust.ErrConflict)
	if all, err := w.reg.PendingRequests(t.Context(), registry.PendingFilter{State: registry.PendingRejected, Device: d.ID}); err != nil || len(all) != 1 || all[0].CSR != nil {
		t.Errorf("%+v, %v", all, err)
	}
}

// mdm is a validator's voice.
var mdm = trust.Principal{Kind: "mdm", Name: "intune"}

// validated gives the device a certificate of which the validator has to be told.
func (w *world) validated(d trust.Device) trust.Certificate {
	w.Helper()
	e := w.signed(d, trust.Evidence{Kind: "validated", Validator: "intune"})
	c, err := w.reg.CommitValidated(w.Context(), scepDoor, e, registry.Confirmation{Validator: "intune", Submission: trust.Submission{Challenge: "secret"}})
	w.must(err)
	return c
}

// A certificate is owed to its validator until it is confirmed or withdrawn, and never both.
func TestConfirmation(t *testing.T) {
	w := newWorld(t)
	d := w.device("alice@contoso.com")
	first := w.enrol(d)
	c := w.validated(d)
	if o, err := w.reg.Unconfirmed(t.Context(), "contoso", c.Serial); err != nil || o.Validator != "intune" || o.Submission.Challenge != "" {
		t.Errorf("%+v, %v", o, err)
	}
	w.must(w.reg.Withdraw(t.Context(), scepDoor, "contoso", c.Serial, "it did not answer"))
	w.must(w.reg.Withdraw(t.Context(), scepDoor, "contoso", c.Serial, "again"))
	w.want(w.reg.Confirm(t.Context(), scepDoor, "contoso", c.Serial), trust.ErrConflict)
	if got := w.cert(c); got.Status != trust.Revoked || got.Reason != trust.CessationOfOperation {
		t.Errorf("withdrawn: %+v", got)
	}
	if got := w.cert(first); got.Status != trust.Good || got.Successor != "" || !got.RevokeAt.IsZero() {
		t.Errorf("its predecessor: %+v", got)
	}
	c = w.validated(d)
	w.must(w.reg.Confirm(t.Context(), scepDoor, "contoso", c.Serial))
	w.must(w.reg.Confirm(t.Context(), scepDoor, "contoso", c.Serial))
	w.want(w.reg.Withdraw(t.Context(), scepDoor, "contoso", c.Serial, ""), trust.ErrConflict)
	if w.status(c) != trust.Good || w.status(first) != trust.Superseded {
		t.Errorf("%s, %s", w.status(c), w.status(first))
	}
	e := w.signed(d, trust.Evidence{Kind: "challenge"})
	_, err := w.reg.CommitValidated(t.Context(), scepDoor, e, registry.Confirmation{})
	w.want(err, trust.ErrForbidden)
	_, err = w.commit(w.signed(d, trust.Evidence{Kind: "validated", Validator: "intune"}))
	w.want(err, trust.ErrForbidden) // not without what is owed
}

// What an MDM says of a device is added, or taken over; it is the authority for its own devices alone.
func TestEnsureDevice(t *testing.T) {
	w := newWorld(t)
	say := func(serial, udid, mail string) (trust.Device, error) {
		d, _, err := w.reg.EnsureDevice(t.Context(), mdm, trust.Applicant{SerialNumber: serial, UDID: udid, Mail: mail, UPN: "a@x.example", Model: "m", OS: "iOS", Source: "intune"}, "contoso")
		return d, err
	}
	d, err := say("S1", "", "Alice@contoso.com")
	w.must(err)
	if d.Owner != "alice@contoso.com" || !d.Managed || d.Source != "intune" || d.OS != "ios" || d.State != trust.Pending || !d.SourceSync.Equal(w.now()) {
		t.Errorf("%+v", d)
	}
	before := w.audits()
	if again, err := say("s1", "", "alice@contoso.com"); err != nil || again.ID != d.ID || w.audits() != before+1 { // the serial number's spelling
		t.Errorf("%+v, %v, %d entries", again, err, w.audits()-before)
	}
	before = w.audits()
	if again, err := say("s1", "", "alice@contoso.com"); err != nil || again.ID != d.ID || w.audits() != before {
		t.Errorf("nothing new: %+v, %v, %d entries", again, err, w.audits()-before)
	}
	if more, err := say("S1", "U1", "alice@contoso.com"); err != nil || more.ID != d.ID || more.UDID != "U1" {
		t.Errorf("%+v, %v", more, err)
	}
	c := w.enrol(d)
	if moved, err := say("", "U1", "bob@contoso.com"); err != nil || moved.ID != d.ID || moved.Owner != "bob@contoso.com" || moved.State != trust.Pending {
		t.Errorf("%+v, %v", moved, err)
	}
	if got := w.cert(c); got.Status != trust.Revoked || got.Reason != trust.AffiliationChanged {
		t.Errorf("%+v", got)
	}
	other, err := say("S2", "U2", "alice@contoso.com")
	w.must(err)
	admins := w.device("carol@contoso.com")
	for name, c := range map[string]struct {
		serial, udid, mail string
		want               error
	}{
		"numbers of two":     {"S1", "U2", "alice@contoso.com", trust.ErrForbidden},
		"an admin's device":  {admins.SerialNumber, "", "alice@contoso.com", trust.ErrForbidden},
		"foreign domain":     {"S3", "", "alice@fabrikam.com", trust.ErrInvalid},
		"no number":          {"", "", "alice@contoso.com", trust.ErrInvalid},
		"no address":         {"S3", "", "alice", trust.ErrInvalid},
		"another serial":     {"S9", "U2", "alice@contoso.com", trust.ErrForbidden},
		"control characters": {"S\n3", "", "alice@contoso.com", trust.ErrInvalid},
	} {
		if _, err := say(c.serial, c.udid, c.mail); !errors.Is(err, c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if same, err := say(admins.SerialNumber, "", "carol@contoso.com"); err != nil || same.Source != "admin" || same.Model != "" {
		t.Errorf("an admin's device of the same owner: %+v, %v", same, err)
	}
	_, err = w.reg.SetDeviceState(t.Context(), officer, other.ID, trust.Blocked, "")
	w.must(err)
	w.pass(2 * time.Hour)
	if got, err := say("S2", "", "alice@contoso.com"); err != nil || got.State != trust.Blocked || !got.SourceSync.Equal(w.now()) {
		t.Errorf("%+v, %v", got, err)
	}
}

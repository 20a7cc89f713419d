package scep

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"time"

	"postern/internal/ca"
	"postern/internal/policy"
	"postern/internal/registry"
	"postern/internal/trust"
)

// errPending: the answer is PENDING, and the client polls.
var errPending = errors.New("the request is pending")

// spki is by what a pending request is found again: clients make a new self-signed certificate for each message, but keep the key.
func spki(c *x509.Certificate) [32]byte { return sha256.Sum256(c.RawSubjectPublicKeyInfo) }

// pend stores the request until somebody has settled it.
func (d *Door) pend(ctx context.Context, is *issuer, req *Request, tx registry.Transaction, a applicant, why policy.Decision, reference string) error {
	p := registry.Pending{ID: reference, Issuer: is.id, TransactionID: req.TransactionID, MessageType: tx.MessageType, Device: a.device.ID, Owner: a.owner.Mail,
		Evidence: a.evidence, Reasons: why.Reasons, CSR: req.CSR.Raw, Signer: req.Signer.Raw}
	var err error
	d.slots.away(func() {
		_, err = d.cfg.Registry.Pend(ctx, trust.Principal{Kind: "scep", Name: is.id}, p, tx, spki(req.Signer))
	})
	switch {
	case errors.Is(err, registry.ErrPendingFull):
		return fail(BadRequest, err, "too many requests are pending")
	case errors.Is(err, trust.ErrForbidden):
		return fail(BadRequest, err, "the challenge or certificate was used meanwhile")
	case err != nil:
		return err
	}
	return errPending
}

// again answers a PKCSReq or RenewalReq that is pending and was sent once more. ok is false if there is no such request.
func (d *Door) again(ctx context.Context, is *issuer, req *Request, tx registry.Transaction, remote string) (cert *x509.Certificate, ok bool, err error) {
	p, err := d.cfg.Registry.Pending(ctx, is.id, req.TransactionID, spki(req.Signer))
	if errors.Is(err, trust.ErrNotFound) || err == nil && (!p.Same(tx) || !p.Open() && p.State != registry.PendingRejected) {
		return nil, false, nil
	}
	if err != nil {
		return nil, true, err
	}
	cert, err = d.resume(ctx, is, p, remote)
	return cert, true, err
}

// poll answers a CertPoll (RFC 8894, section 3.3.3): the request of the same transactionID, signing key, issuer and subject.
func (d *Door) poll(ctx context.Context, is *issuer, req *Request, remote string) (*x509.Certificate, error) {
	none := fail(BadCertID, nil, "no request of this key is pending under this transactionID")
	p, err := d.cfg.Registry.Pending(ctx, is.id, req.TransactionID, spki(req.Signer))
	if errors.Is(err, trust.ErrNotFound) {
		return nil, none
	}
	if err != nil {
		return nil, err
	}
	csr, err := ca.ParseCSR(p.CSR)
	if err != nil {
		return nil, fmt.Errorf("read pending request %s: %w", p.ID, err)
	}
	if !bytes.Equal(csr.RawSubject, req.Subject) {
		return nil, none
	}
	return d.resume(ctx, is, p, remote)
}

// resume is what has become of a pending request.
func (d *Door) resume(ctx context.Context, is *issuer, p registry.Pending, remote string) (*x509.Certificate, error) {
	switch p.State {
	case registry.PendingExpired:
		return nil, fail(BadCertID, nil, "the request has expired: send a new one")
	case registry.PendingIssued:
		if d.cfg.Now().Sub(p.IssuedAt) > registry.RetryWindow {
			return nil, fail(BadCertID, nil, "the certificate was handed out before")
		}
		c, err := d.cfg.Registry.Certificate(ctx, is.id, p.Serial)
		if err != nil {
			return nil, err
		}
		return d.handOut(ctx, is, c)
	}
	a, err := d.applicantOf(ctx, is, p)
	if err != nil {
		return nil, d.refused(ctx, is, a, err)
	}
	if p.State == registry.PendingRejected {
		return nil, d.refused(ctx, is, a, fail(BadRequest, nil, "the request was rejected (reference %s)", p.ID))
	}
	cert, err := d.reconsider(ctx, is, p, a, remote)
	if err == nil || errors.Is(err, errPending) {
		return cert, err
	}
	return nil, d.refused(ctx, is, a, err)
}

// applicantOf finds the applicant of a pending request as he is today.
func (d *Door) applicantOf(ctx context.Context, is *issuer, p registry.Pending) (a applicant, err error) {
	a.evidence = p.Evidence
	a.evidence.Pending = p.ID
	if p.Evidence.Kind == "validated" {
		a.validator = d.validator(is.id, p.Evidence.Validator)
		a.submission = trust.Submission{Issuer: is.id, TransactionID: p.TransactionID, CSR: p.CSR, Remote: p.Evidence.Remote}
	}
	if a.device, err = d.cfg.Registry.Device(ctx, p.Device); err != nil {
		return a, err
	}
	if a.owner, err = d.cfg.Registry.Owner(ctx, a.device.Owner); err != nil {
		return a, err
	}
	if p.Evidence.Kind == "renewal" {
		c, err := d.cfg.Registry.Certificate(ctx, is.id, p.Evidence.Renews)
		if err != nil {
			return a, err
		}
		a.renews = &c
	}
	if a.owner.Mail != p.Owner {
		return a, fail(BadRequest, nil, "the device has another owner now: enrol again")
	}
	return a, nil
}

// follow waits until the index has reached a revision, for five seconds at most.
func (d *Door) follow(ctx context.Context, rev registry.Revision) (err error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	d.slots.away(func() { err = d.cfg.Index.CatchUp(ctx, rev) })
	return err
}

// reconsider decides about a pending request with the facts of today, and issues if that is settled: nothing that was found when it came is taken for
// granted.
func (d *Door) reconsider(ctx context.Context, is *issuer, p registry.Pending, a applicant, remote string) (*x509.Certificate, error) {
	signer, ok := readSigner(p.Signer)
	if !ok {
		return nil, fmt.Errorf("read pending request %s: its signer's certificate is unreadable", p.ID)
	}
	req := &Request{TransactionID: p.TransactionID, Signer: signer}
	if err := req.readCSR(p.CSR); err != nil {
		return nil, fmt.Errorf("read pending request %s: %w", p.ID, err)
	}
	decision, input, err := d.decide(ctx, is, req, &a, remote, p.State == registry.PendingApproved)
	switch {
	case err != nil:
		return nil, err
	case decision.Action == trust.Pend:
		return nil, errPending
	case decision.Action != trust.Allow:
		return nil, d.denied(decision, d.record(decision, input, "", &a, remote))
	}
	issued, err := d.sign(ctx, is, req, a, decision.Profile)
	if err != nil {
		return nil, err
	}
	var owed *registry.Confirmation
	if a.evidence.Kind == "validated" {
		owed = a.owed()
	}
	var c trust.Certificate
	d.slots.away(func() {
		c, err = d.cfg.Registry.CommitPending(ctx, trust.Principal{Kind: "scep", Name: is.id}, p, issued.Record, owed, a.counted)
	})
	if moved := (*registry.FleetMoved)(nil); errors.As(err, &moved) {
		return nil, errPending // the next poll decides again
	}
	if errors.Is(err, trust.ErrForbidden) {
		return nil, fail(BadRequest, err, "the request, its challenge or certificate was settled meanwhile")
	}
	if err != nil {
		return nil, err
	}
	return d.handOut(ctx, is, c)
}

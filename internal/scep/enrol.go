package scep

import (
	"context"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"postern/internal/ca"
	"postern/internal/policy"
	"postern/internal/registry"
	"postern/internal/trust"
)

// applicant is who asks for a certificate, once that is proved: by a challenge, by a validator, or by the certificate that renews.
type applicant struct {
	device     trust.Device
	owner      trust.Owner
	evidence   trust.Evidence
	secret     string             // of the challenge
	renews     *trust.Certificate // nil for a first enrolment
	earlier    *trust.Certificate // what the same renewal got before
	validator  Validator          // nil unless it approved the request
	submission trust.Submission   // what the validator was asked
	challenge  registry.Challenge // that was shown, where it is known
	names      []string           // in the CSR, where nothing else says who asked
	counted    registry.Revision  // of the index before the owner's devices were counted; 0 where the policy does not ask
}

// owed is what the validator has to be told of the certificate.
func (a *applicant) owed() *registry.Confirmation {
	return &registry.Confirmation{Submission: a.submission, Validator: a.evidence.Validator}
}

// enrol issues a certificate, or returns the one that the same request got before. Names come from the registry, never from the CSR.
func (d *Door) enrol(ctx context.Context, is *issuer, req *Request, remote string) (*x509.Certificate, error) {
	tx := registry.Transaction{Issuer: is.id, ID: req.TransactionID, MessageType: req.MessageType.String(),
		Signer: sha256.Sum256(req.Signer.Raw), CSR: sha256.Sum256(req.CSR.Raw), Challenge: string(req.Challenge)}
	if cert, err := d.earlier(ctx, is, tx); cert != nil || err != nil {
		return cert, err
	}
	if cert, ok, err := d.again(ctx, is, req, tx, remote); ok {
		return cert, err
	}
	a, err := d.identify(ctx, is, req, remote)
	if err == nil && a.earlier != nil {
		return d.handOut(ctx, is, *a.earlier)
	}
	if err == nil {
		var cert *x509.Certificate
		if cert, err = d.settle(ctx, is, req, tx, a, remote); err == nil || errors.Is(err, errPending) {
			return cert, err
		}
	}
	// The same request, sent twice, may have been answered meanwhile and so have used up what authorises it.
	if cert, err := d.earlier(ctx, is, tx); cert != nil || err != nil {
		return cert, err
	}
	if errors.Is(err, trust.ErrForbidden) {
		if cert, ok, err := d.again(ctx, is, req, tx, remote); ok {
			return cert, err
		}
	}
	return nil, d.refused(ctx, is, a, err)
}

// settle decides about an applicant, and does what was decided.
func (d *Door) settle(ctx context.Context, is *issuer, req *Request, tx registry.Transaction, a applicant, remote string) (*x509.Certificate, error) {
	if wait, ok := d.devices.take(a.device.ID, d.cfg.Now()); !ok {
		return nil, &tooMany{wait}
	}
	a.evidence.Remote = remote
	for try := 1; ; try++ {
		cert, err := d.attempt(ctx, is, req, tx, a, remote)
		var moved *registry.FleetMoved
		if try == maxAttempts || !errors.As(err, &moved) {
			return cert, err
		}
		if err := d.follow(ctx, moved.At); err != nil {
			return nil, err
		}
	}
}

// maxAttempts is how often an enrolment is decided, each time because another device of the owner has enrolled meanwhile.
const maxAttempts = 16

// attempt is settle with the facts of the moment.
func (d *Door) attempt(ctx context.Context, is *issuer, req *Request, tx registry.Transaction, a applicant, remote string) (*x509.Certificate, error) {
	decision, input, err := d.decide(ctx, is, req, &a, remote, false)
	if err != nil {
		return nil, err
	}
	if decision.Action != trust.Allow {
		reference := d.record(decision, input, "", &a, remote)
		if decision.Action == trust.Pend {
			return nil, d.pend(ctx, is, req, tx, a, decision, reference)
		}
		return nil, d.denied(decision, reference)
	}
	issued, err := d.sign(ctx, is, req, a, decision.Profile)
	if err != nil {
		return nil, err
	}
	return d.commit(ctx, is, tx, a, issued)
}

// sign makes the certificate; nobody has it until it is committed.
func (d *Door) sign(ctx context.Context, is *issuer, req *Request, a applicant, profile string) (*ca.Issued, error) {
	r := ca.Request{CSR: req.CSR, Proof: req.proof, Device: a.device, Owner: a.owner, Profile: profile, Evidence: a.evidence}
	switch {
	case is.issued(req.Signer): // a renewal, and identifyRenewal has found it to be of the same owner
		r.SID = ca.SIDOf(req.Signer.URIs)
	case a.validator != nil && a.validator.ApprovesNames():
		r.SID = ca.SIDOf(req.CSR.URIs)
	}
	return is.Issue(ctx, r)
}

// earlier returns the certificate that the same request got before, or nil.
func (d *Door) earlier(ctx context.Context, is *issuer, tx registry.Transaction) (*x509.Certificate, error) {
	c, err := d.cfg.Registry.Issued(ctx, tx)
	if errors.Is(err, trust.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return d.handOut(ctx, is, c)
}

// handOut gives a committed certificate away, after its validator has been told of it.
func (d *Door) handOut(ctx context.Context, is *issuer, c trust.Certificate) (*x509.Certificate, error) {
	if c.Evidence.Kind == "validated" {
		var err error
		d.slots.away(func() { err = d.confirm(ctx, is, c) })
		if err != nil {
			return nil, err
		}
	}
	return x509.ParseCertificate(c.DER)
}

// identify proves who asks. A message signed by a certificate of this issuer is a renewal, whichever of the two types it has (RFC 8894, section 2.3);
// anything else is a first enrolment and needs a challenge: one of ours, or one that a validator of the issuer approves.
func (d *Door) identify(ctx context.Context, is *issuer, req *Request, remote string) (applicant, error) {
	if is.issued(req.Signer) {
		return d.identifyRenewal(ctx, is, req)
	}
	var a applicant
	if req.MessageType == RenewalReq {
		return a, fail(BadRequest, nil, "a renewal must be signed by a certificate of this issuer")
	}
	if !req.SameKey() {
		return a, fail(BadRequest, nil, "the request must be signed with the key that is to be certified")
	}
	if req.Challenge == "" {
		return a, fail(BadRequest, errNoChallenge, "a challenge is required")
	}
	a.secret = string(req.Challenge)
	c, device, owner, err := d.challenge(ctx, is, a.secret)
	a.device, a.owner, a.challenge = device, owner, c
	a.evidence = trust.Evidence{Kind: registry.EvidenceChallenge, Challenge: c.ID}
	switch {
	case errors.Is(err, registry.ErrChallengeUnknown):
		a, err = d.validated(ctx, is, req, remote)
		a.names = claims(req)
	case errors.Is(err, trust.ErrForbidden):
		err = fail(BadRequest, err, "the challenge is not valid")
	case err == nil && c.Unbound:
		a, err = d.identifyUnbound(ctx, is, req, c)
	}
	if err != nil {
		return a, err
	}
	return a, d.sameDevice(ctx, is, req, a.device)
}

// challenge looks a one-time challenge up, at an issuer that takes them.
func (d *Door) challenge(ctx context.Context, is *issuer, secret string) (registry.Challenge, trust.Device, trust.Owner, error) {
	if d.cfg.NoChallenges[is.id] {
		return registry.Challenge{}, trust.Device{}, trust.Owner{}, registry.ErrChallengeUnknown
	}
	return d.cfg.Registry.Challenge(ctx, is.id, secret)
}

// maxClaims is how many names of a CSR are compared with the registry.
const maxClaims = 200

// claims lists every text by which a CSR could mean a device or a user: its whole subject, whatever the attributes, and its alternative names.
func claims(req *Request) []string {
	var out []string
	for _, n := range req.CSR.Subject.Names {
		if s, ok := n.Value.(string); ok {
			out = append(out, s)
		}
	}
	return slices.Concat(out, req.Names.Emails, req.Names.UPNs, req.Names.DNSNames, req.Names.URIs)
}

// devicesNamed lists every device that the CSR names. A name counts as a whole, and from its last colon, slash or equals sign: urn:postern:device:ID.
func (d *Door) devicesNamed(ctx context.Context, is *issuer, req *Request) (all []trust.DeviceID, err error) {
	names := claims(req)
	if len(names) > maxClaims {
		return nil, fail(BadRequest, nil, "the CSR has more than %d names", maxClaims)
	}
	for _, n := range names {
		for _, text := range []string{n, n[strings.LastIndexAny(n, ":/=")+1:]} {
			id, ok, err := d.cfg.Registry.DeviceNamed(ctx, is.id, text)
			if err != nil {
				return nil, err
			}
			if ok && !slices.Contains(all, id) {
				all = append(all, id)
			}
		}
	}
	return all, nil
}

// sameDevice refuses a CSR that names other hardware than the challenge or certificate is for. Names are no proof, but a contradiction is one.
func (d *Door) sameDevice(ctx context.Context, is *issuer, req *Request, device trust.Device) error {
	all, err := d.devicesNamed(ctx, is, req)
	if err == nil && slices.ContainsFunc(all, func(id trust.DeviceID) bool { return id != device.ID }) {
		err = fail(BadRequest, errOtherDevice, "the CSR names another device")
	}
	return err
}

// decide asks the policy. Only allow lets an enrolment through, with the profile of the certificate; an error is a fault, for which the client may try
// again. input is what the policy saw.
func (d *Door) decide(ctx context.Context, is *issuer, req *Request, a *applicant, remote string, approved bool) (decision policy.Decision, input []byte, err error) {
	engine := d.cfg.Policy.Load()
	if a.counted = 0; d.cfg.Index != nil && engine.CountsDevices() {
		a.counted = max(d.cfg.Index.Revision(), 1) // nobody has enrolled in the first revision
	}
	in := d.facts(is, req, a, remote)
	in.Approved = approved
	granted, err := d.cfg.Registry.ExceptionsFor(ctx, a.device)
	if err != nil {
		return decision, nil, fmt.Errorf("look for exceptions of %s: %w", a.device.ID, err)
	}
	in.Exceptions = policy.FactsOfExceptions(granted, time.Unix(in.Now, 0))
	if decision, err = engine.Enroll(ctx, in); err != nil {
		return decision, nil, fmt.Errorf("decide enrolment of %s: %w", a.device.ID, err)
	}
	if input, err = json.Marshal(in); err != nil {
		return decision, nil, fmt.Errorf("record enrolment decision: %w", err)
	}
	if decision.Action == trust.Allow {
		d.record(decision, input, in.RecordKey(), a, remote)
	}
	return decision, input, nil
}

// record writes a decision into the journal, and returns its reference. facts are the key of an allow.
func (d *Door) record(decision policy.Decision, input []byte, facts string, a *applicant, remote string) string {
	kind := "enrol"
	if a.renews != nil {
		kind = "renew"
	}
	now := d.cfg.Now()
	rec := trust.Decision{Reference: trust.NewReference(now), At: now.UTC(), Door: "scep", Action: decision.Action, Reasons: decision.Reasons,
		Policy: decision.Policy, User: a.owner.Mail, Device: a.device.ID, Command: kind, Remote: remote, Input: input, Facts: facts}
	d.cfg.Journal.Record(rec)
	return rec.Reference
}

// denied is what the client hears of a denial.
func (d *Door) denied(decision policy.Decision, reference string) error {
	codes := make([]string, len(decision.Reasons))
	for i, r := range decision.Reasons {
		codes[i] = r.Code
	}
	return fail(BadRequest, nil, "refused by policy: %s (reference %s)", strings.Join(codes, ", "), reference)
}

// facts are what the policy sees.
func (d *Door) facts(is *issuer, req *Request, a *applicant, remote string) *policy.EnrollInput {
	_, domain, _ := strings.Cut(a.owner.Mail, "@")
	in := &policy.EnrollInput{Now: d.cfg.Now().Unix(), Kind: "enrol", Issuer: is.id, Evidence: a.evidence.Kind, Key: keyFacts(req.CSR.PublicKey, a.evidence.KeyAttested),
		Requested: policy.RequestedFacts{Mails: requestedMails(req)}, Device: policy.FactsOfDevice(&a.device), Owner: policy.FactsOfOwner(&a.owner),
		Domain: domain, Domains: is.Spec().Domains, SourceIP: remote}
	if x := d.cfg.Index; x != nil {
		in.Owner.Devices, in.Device.Place = x.Fleet(a.owner.Mail, a.device.ID)
		in.Device.Revoked = x.Withdrawn(a.device.ID)
	}
	if a.renews != nil {
		in.Kind = "renew"
		in.Renews = policy.RenewsFacts{Serial: string(a.renews.Serial), Status: string(a.renews.Status), NotBefore: policy.Seconds(a.renews.NotBefore),
			NotAfter: policy.Seconds(a.renews.NotAfter), SameKey: req.SameKey()}
	}
	return in
}

func keyFacts(pub any, attested bool) policy.KeyFacts {
	f := policy.KeyFacts{Algorithm: "other", Attested: attested}
	switch k := pub.(type) {
	case *rsa.PublicKey:
		f.Algorithm, f.Bits = "rsa", k.N.BitLen()
	case *ecdsa.PublicKey:
		f.Algorithm, f.Bits = "ecdsa", k.Curve.Params().BitSize
	}
	return f
}

// requestedMails lists every address that the CSR asks for, wherever it stands, in lower case.
func requestedMails(req *Request) []string {
	mails := []string{}
	for _, s := range claims(req) {
		s, mailto := strings.CutPrefix(strings.ToLower(strings.TrimSpace(s)), "mailto:")
		if web := !mailto && strings.Contains(s, "://"); !web && strings.Contains(s, "@") && !slices.Contains(mails, s) {
			mails = append(mails, s)
		}
	}
	return mails
}

// commit makes the certificate real; only then does anybody get it.
func (d *Door) commit(ctx context.Context, is *issuer, tx registry.Transaction, a applicant, issued *ca.Issued) (*x509.Certificate, error) {
	p := trust.Principal{Kind: "scep", Name: is.id}
	e := registry.Enrolment{Transaction: tx, Certificate: issued.Record, Challenge: a.secret, Counted: a.counted}
	var c trust.Certificate
	var err error
	d.slots.away(func() {
		if a.validator != nil {
			c, err = d.cfg.Registry.CommitValidated(ctx, p, e, *a.owed())
		} else {
			c, err = d.cfg.Registry.CommitEnrolment(ctx, p, e)
		}
	})
	if errors.Is(err, trust.ErrForbidden) {
		return nil, fail(BadRequest, err, "the challenge or certificate was used meanwhile")
	}
	if err != nil {
		return nil, err
	}
	if c.Serial == issued.Record.Serial && a.validator == nil {
		return issued.Cert, nil
	}
	return d.handOut(ctx, is, c)
}

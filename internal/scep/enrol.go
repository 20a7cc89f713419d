package scep

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"postern/internal/ca"
	"postern/internal/policy"
	"postern/internal/registry"
	"postern/internal/trust"
)

// applicant is who asks for a certificate, once that is proved: by a challenge, or by the certificate that renews.
type applicant struct {
	device   trust.Device
	owner    trust.Owner
	evidence trust.Evidence
	secret   string             // of the challenge
	renews   *trust.Certificate // nil for a first enrolment
}

// enrol issues a certificate, or returns the one that the same request got before. Names come from the registry, never from the CSR.
func (d *Door) enrol(ctx context.Context, is *issuer, req *Request, remote string) (*x509.Certificate, error) {
	tx := registry.Transaction{Issuer: is.id, ID: req.TransactionID, MessageType: req.MessageType.String(),
		Signer: sha256.Sum256(req.Signer.Raw), CSR: sha256.Sum256(req.CSR.Raw), Challenge: string(req.Challenge)}
	if cert, err := d.earlier(ctx, tx); cert != nil || err != nil {
		return cert, err
	}
	a, err := d.identify(ctx, is, req)
	profile := ""
	if err == nil {
		a.evidence.Remote = remote
		profile, err = d.decide(ctx, is, req, &a, remote)
	}
	if err == nil {
		var issued *ca.Issued
		if issued, err = is.Issue(ctx, ca.Request{CSR: req.CSR, Device: a.device, Owner: a.owner, Profile: profile, Evidence: a.evidence}); err == nil {
			return d.commit(ctx, is, tx, a, issued)
		}
	}
	// The same request, sent twice, may have been answered meanwhile and so have used up what authorises it.
	if cert, err := d.earlier(ctx, tx); cert != nil || err != nil {
		return cert, err
	}
	return nil, d.refused(ctx, is, a, err)
}

// earlier returns the certificate that the same request got before, or nil.
func (d *Door) earlier(ctx context.Context, tx registry.Transaction) (*x509.Certificate, error) {
	c, err := d.cfg.Registry.Issued(ctx, tx)
	if errors.Is(err, trust.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return x509.ParseCertificate(c.DER)
}

// identify proves who asks. A message signed by a certificate of this issuer is a renewal, whichever of the two types it has (RFC 8894, section 2.3);
// anything else is a first enrolment and needs a challenge.
func (d *Door) identify(ctx context.Context, is *issuer, req *Request) (applicant, error) {
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
		return a, fail(BadRequest, nil, "a challenge is required")
	}
	a.secret = string(req.Challenge)
	c, device, owner, err := d.cfg.Registry.Challenge(ctx, is.id, a.secret)
	a.device, a.owner = device, owner
	a.evidence = trust.Evidence{Kind: "challenge", Challenge: c.ID}
	if errors.Is(err, trust.ErrForbidden) {
		return a, fail(BadRequest, err, "the challenge is not valid")
	}
	if err != nil {
		return a, err
	}
	return a, d.sameDevice(ctx, is, req, device)
}

// issued reports whether the certificate was signed by this issuer's issuing CA. Certificates of other CAs prove nothing here.
func (is *issuer) issued(c *x509.Certificate) bool {
	for _, authority := range is.Certificates() {
		if authority.ID == ca.IssuingCA && bytes.Equal(c.RawIssuer, authority.Cert.RawSubject) && c.CheckSignatureFrom(authority.Cert) == nil {
			return true
		}
	}
	return false
}

// identifyRenewal takes the identity from the record of the signer's certificate.
func (d *Door) identifyRenewal(ctx context.Context, is *issuer, req *Request) (a applicant, err error) {
	c, err := d.cfg.Registry.Certificate(ctx, is.id, trust.SerialOf(req.Signer.SerialNumber))
	if errors.Is(err, trust.ErrNotFound) || err == nil && c.Fingerprint != ca.Fingerprint(req.Signer) {
		return a, fail(BadCertID, nil, "the signer's certificate is not known here")
	}
	if err != nil {
		return a, err
	}
	a.renews = &c
	a.evidence = trust.Evidence{Kind: "renewal", Renews: c.Serial}
	if a.device, err = d.cfg.Registry.Device(ctx, c.Device); err != nil {
		return a, err
	}
	if a.owner, err = d.cfg.Registry.Owner(ctx, a.device.Owner); err != nil {
		return a, err
	}
	now := d.cfg.Now()
	switch {
	case c.Status != trust.Good:
		return a, fail(BadCertID, nil, "the certificate to be renewed is %s", c.Status)
	case now.Before(c.NotBefore) || now.After(c.NotAfter):
		return a, fail(BadCertID, nil, "the certificate to be renewed is not valid now")
	case a.device.Owner != c.Owner:
		return a, fail(BadCertID, nil, "the device has another owner now: enrol again")
	}
	return a, d.sameDevice(ctx, is, req, a.device)
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

// sameDevice refuses a CSR that names other hardware than the challenge or certificate is for. Names are no proof, but a contradiction is one. A name
// counts as a whole, and from its last colon, slash or equals sign: urn:postern:device:ID.
func (d *Door) sameDevice(ctx context.Context, is *issuer, req *Request, device trust.Device) error {
	names := claims(req)
	if len(names) > maxClaims {
		return fail(BadRequest, nil, "the CSR has more than %d names", maxClaims)
	}
	for _, n := range names {
		for _, text := range []string{n, n[strings.LastIndexAny(n, ":/=")+1:]} {
			id, ok, err := d.cfg.Registry.DeviceNamed(ctx, is.id, text)
			if err != nil {
				return err
			}
			if ok && id != device.ID {
				return fail(BadRequest, nil, "the CSR names another device")
			}
		}
	}
	return nil
}

// decide asks the policy. Only allow lets an enrolment through, with the profile of the certificate; an error is a fault, for which the client may try
// again.
func (d *Door) decide(ctx context.Context, is *issuer, req *Request, a *applicant, remote string) (profile string, err error) {
	in := d.facts(is, req, a, remote)
	decision, err := d.cfg.Policy.Load().Enroll(ctx, in)
	if err != nil {
		return "", fmt.Errorf("decide enrolment of %s: %w", a.device.ID, err)
	}
	if decision.Action == trust.Allow {
		return decision.Profile, nil
	}
	raw, err := json.Marshal(in)
	if err != nil {
		return "", fmt.Errorf("record enrolment decision: %w", err)
	}
	rec := trust.Decision{Reference: trust.NewReference(d.cfg.Now()), At: d.cfg.Now().UTC(), Door: "scep", Action: decision.Action, Reasons: decision.Reasons,
		Policy: decision.Policy, User: a.owner.Mail, Device: a.device.ID, Command: in.Kind, Remote: remote, Input: raw}
	d.cfg.Journal.Record(rec)
	codes := make([]string, len(decision.Reasons))
	for i, r := range decision.Reasons {
		codes[i] = r.Code
	}
	return "", fail(BadRequest, nil, "refused by policy: %s (reference %s)", strings.Join(codes, ", "), rec.Reference)
}

// facts are what the policy sees.
func (d *Door) facts(is *issuer, req *Request, a *applicant, remote string) *policy.EnrollInput {
	_, domain, _ := strings.Cut(a.owner.Mail, "@")
	in := &policy.EnrollInput{Now: d.cfg.Now().Unix(), Kind: "enrol", Issuer: is.id, Evidence: a.evidence.Kind, Key: keyFacts(req.CSR.PublicKey),
		Requested: policy.RequestedFacts{Mails: requestedMails(req)}, Device: policy.FactsOfDevice(a.device), Owner: policy.FactsOfOwner(a.owner),
		Domain: domain, Domains: is.Spec().Domains, SourceIP: remote}
	if a.renews != nil {
		in.Kind = "renew"
		in.Renews = policy.RenewsFacts{Serial: string(a.renews.Serial), Status: string(a.renews.Status), NotBefore: policy.Seconds(a.renews.NotBefore),
			NotAfter: policy.Seconds(a.renews.NotAfter), SameKey: req.SameKey()}
	}
	return in
}

func keyFacts(pub any) policy.KeyFacts {
	switch k := pub.(type) {
	case *rsa.PublicKey:
		return policy.KeyFacts{Algorithm: "rsa", Bits: k.N.BitLen()}
	case *ecdsa.PublicKey:
		return policy.KeyFacts{Algorithm: "ecdsa", Bits: k.Curve.Params().BitSize}
	}
	return policy.KeyFacts{Algorithm: "other"}
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
	c, err := d.cfg.Registry.CommitEnrolment(ctx, trust.Principal{Kind: "scep", Name: is.id},
		registry.Enrolment{Transaction: tx, Certificate: issued.Record, Challenge: a.secret})
	if errors.Is(err, trust.ErrForbidden) {
		return nil, d.audit(ctx, is, a, fail(BadRequest, err, "the challenge or certificate was used meanwhile"))
	}
	if err != nil {
		return nil, err
	}
	if c.Serial == issued.Record.Serial {
		return issued.Cert, nil
	}
	return x509.ParseCertificate(c.DER)
}

// refused turns the error of an enrolment into what the client is told, and audits a refusal.
func (d *Door) refused(ctx context.Context, is *issuer, a applicant, err error) error {
	var r *ca.Refusal
	if errors.As(err, &r) {
		info := BadRequest
		if r.Part == ca.PartKey {
			info = BadAlg
		}
		err = fail(info, err, "%s", r.Text)
	}
	var f *Failure
	if !errors.As(err, &f) {
		return err
	}
	return d.audit(ctx, is, a, f)
}

// audit records a refusal. One that cannot be recorded is a fault: the client hears nothing that the audit does not know.
func (d *Door) audit(ctx context.Context, is *issuer, a applicant, f *Failure) error {
	action, object := registry.ActEnrol, "unknown device"
	if a.renews != nil {
		action = registry.ActRenew
	}
	if a.device.ID != "" {
		object = string(a.device.ID)
	}
	if a.device.ID == "" && !d.audits.take(d.cfg.Now()) {
		d.cfg.Log.WarnContext(ctx, "SCEP refusal not audited: too many by strangers", "issuer", is.id, "error", f)
		return f
	}
	// Quoted: the text may hold what a stranger put into his CSR.
	detail := strings.Trim(strconv.Quote(f.Error()), `"`)
	if err := d.cfg.Registry.RecordRefusal(ctx, trust.Principal{Kind: "scep", Name: is.id}, action, object, detail); err != nil {
		return fmt.Errorf("record refusal: %w", err)
	}
	return f
}

package scep

import (
	"bytes"
	"context"
	"crypto/x509"
	"errors"

	"postern/internal/ca"
	"postern/internal/registry"
	"postern/internal/trust"
)

// issued reports whether the certificate was signed by this issuer's issuing CA, the one in force or a retired one, whose certificates renew under the new.
// Certificates of other CAs prove nothing here.
func (is *issuer) issued(c *x509.Certificate) bool {
	for _, authority := range is.Certificates() {
		if ca.IsIssuing(authority.ID) && bytes.Equal(c.RawIssuer, authority.Cert.RawSubject) && c.CheckSignatureFrom(authority.Cert) == nil {
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
	a.evidence = trust.Evidence{Kind: "renewal", Renews: c.Serial, KeyAttested: c.Evidence.KeyAttested && req.SameKey()}
	if a.device, err = d.cfg.Registry.Device(ctx, c.Device); err != nil {
		return a, err
	}
	if a.owner, err = d.cfg.Registry.Owner(ctx, a.device.Owner); err != nil {
		return a, err
	}
	now := d.cfg.Now()
	switch {
	case c.Status != trust.Good && c.Status != trust.Superseded:
		return a, fail(BadCertID, nil, "the certificate to be renewed is %s", c.Status)
	case now.Before(c.NotBefore) || now.After(c.NotAfter):
		return a, fail(BadCertID, nil, "the certificate to be renewed is not valid now")
	case a.device.Owner != c.Owner:
		return a, fail(BadCertID, nil, "the device has another owner now: enrol again")
	}
	if err = d.mayRenew(ctx, is, req, &a); err != nil || a.earlier != nil {
		return a, err
	}
	return a, d.sameDevice(ctx, is, req, a.device)
}

// mayRenew asks the registry whether the certificate may renew for this key. A repetition finds the certificate that it got before. After many renewals,
// a challenge that was made for the device is asked for again.
func (d *Door) mayRenew(ctx context.Context, is *issuer, req *Request, a *applicant) error {
	var err error
	a.earlier, err = d.cfg.Registry.MayRenew(ctx, trust.Principal{Kind: "scep", Name: is.id}, is.id, a.renews.Serial, req.CSR.PublicKey)
	switch {
	case errors.Is(err, registry.ErrChallengeAgain):
		if req.Challenge == "" {
			return fail(BadRequest, err, "a challenge is required: the certificate was renewed too often")
		}
		c, device, owner, err := d.challenge(ctx, is, string(req.Challenge))
		if err == nil && device.ID != a.device.ID {
			err = registry.ErrChallengeUnknown
		}
		if errors.Is(err, trust.ErrForbidden) {
			return fail(BadRequest, err, "the challenge is not valid")
		}
		*a = applicant{device: device, owner: owner, secret: string(req.Challenge),
			evidence: trust.Evidence{Kind: registry.EvidenceChallenge, Challenge: c.ID, KeyAttested: a.evidence.KeyAttested}}
		return err
	case errors.Is(err, registry.ErrKeyCopied):
		return fail(BadCertID, err, "the certificate was renewed before with another key: the device is quarantined")
	case errors.Is(err, registry.ErrRenewalEarly), errors.Is(err, registry.ErrDeviceSilent):
		return fail(BadRequest, err, "the certificate may not be renewed yet")
	case errors.Is(err, trust.ErrForbidden):
		return fail(BadCertID, err, "the certificate was renewed before, or the device has enrolled anew since")
	}
	return err
}

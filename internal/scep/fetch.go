package scep

import (
	"bytes"
	"context"
	"crypto/x509"
	"errors"

	"postern/internal/ca"
	"postern/internal/trust"
)

// maxCRL is the largest CRL that is sent in a SCEP reply, in bytes: the reply is made of several copies of it.
const maxCRL = 256 << 10

// getCert answers a GetCert (RFC 8894, section 3.3.4) of a device, for the certificates of that device. Everybody else hears that there is none.
func (d *Door) getCert(ctx context.Context, is *issuer, req *Request) (*x509.Certificate, error) {
	none := func(cause error) error {
		return fail(BadCertID, cause, "there is no such certificate for this requester")
	}
	own, err := d.own(ctx, is, req.Signer)
	if errors.Is(err, trust.ErrNotFound) || errors.Is(err, trust.ErrForbidden) {
		return nil, none(err)
	}
	if err != nil {
		return nil, err
	}
	named := is.named(req.Issuer)
	if s := req.Serial; s.Sign() <= 0 || s.BitLen() > 160 || !ca.IsIssuing(named) {
		return nil, none(nil)
	}
	c, err := d.cfg.Registry.Certificate(ctx, is.id, trust.SerialOf(req.Serial))
	if errors.Is(err, trust.ErrNotFound) || err == nil && (c.Device != own.Device || c.CA != named) {
		return nil, none(err)
	}
	if err != nil {
		return nil, err
	}
	if c.Evidence.Kind == "validated" {
		switch _, err := d.cfg.Registry.Unconfirmed(ctx, is.id, c.Serial); {
		case err == nil: // nobody may have it yet
			return nil, none(nil)
		case !errors.Is(err, trust.ErrNotFound):
			return nil, err
		}
	}
	return x509.ParseCertificate(c.DER)
}

// own is the record of a certificate that is good now; trust.ErrForbidden if it is not good.
func (d *Door) own(ctx context.Context, is *issuer, cert *x509.Certificate) (c trust.Certificate, err error) {
	if !is.issued(cert) {
		return c, trust.ErrForbidden
	}
	if c, err = d.cfg.Registry.Certificate(ctx, is.id, trust.SerialOf(cert.SerialNumber)); err != nil {
		return c, err
	}
	now := d.cfg.Now()
	if c.Fingerprint != ca.Fingerprint(cert) || c.Status != trust.Good || now.Before(c.NotBefore) || now.After(c.NotAfter) {
		return c, trust.ErrForbidden
	}
	return c, nil
}

// named returns the CA of the issuer that a DER name means, or "".
func (is *issuer) named(name []byte) string {
	for _, c := range is.Certificates() {
		if bytes.Equal(c.Cert.RawSubject, name) {
			return c.ID
		}
	}
	return ""
}

// getCRL answers a GetCRL (RFC 8894, section 3.3.4) with the base CRL of the CA named. A CRL is no secret, so anybody may ask.
func (d *Door) getCRL(is *issuer, responder *Responder, req *Request) ([]byte, error) {
	id := is.named(req.Issuer)
	if id == "" || d.cfg.CRL == nil {
		return nil, fail(BadCertID, nil, "there is no CRL of this issuer here: it is at the address in the certificate")
	}
	crl, ok := d.cfg.CRL(is.id, id)
	if !ok {
		return nil, errors.New("no CRL is published yet")
	}
	if len(crl) > maxCRL {
		return nil, fail(BadRequest, nil, "the CRL is too large for SCEP: it is at the address in the certificate")
	}
	return responder.SuccessCRL(req, crl)
}

package ca

import (
	"context"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"math/big"
	"strings"
	"time"

	"github.com/smallstep/certificates/authority/provisioner"
	"go.step.sm/crypto/x509util"

	"postern/internal/trust"
)

// Issued is a certificate that was signed, parsed back and found to be what was promised.
type Issued struct {
	Cert *x509.Certificate
	// Record is ready to be stored, but for Predecessor, which the registry settles.
	Record trust.Certificate
}

// Issue signs a device certificate. Nothing is stored: a certificate that the caller drops is one that nobody has.
//
// The subject is O, OU (the device), CN and emailAddress (the owner's mail address; a CN has only 64 characters, and is the device where the address is
// longer). The SAN is rfc822Name (mail), UPN (the owner's, or the mail address) and the URI urn:postern:device:<id>, with the URI of Request.SID behind it if
// there is one, and what the profile adds. Errors that are the request's own fault are a *Refusal.
func (i *Issuer) Issue(ctx context.Context, r Request) (*Issued, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	s := i.state.Load() // to the end: a Reload meanwhile does not change CA, URLs and key half-way
	issuing := s.cas[0]
	p, err := i.promise(r, issuing.id)
	if err != nil {
		return nil, err
	}
	now := i.now().UTC().Truncate(time.Second)
	f := frame{serial: newSerial(), notBefore: now.Add(-p.profile.Backdate), notAfter: now.Add(p.profile.Lifetime)}
	if f.notBefore.Before(issuing.cert.NotBefore) {
		f.notBefore = issuing.cert.NotBefore
	}
	if f.notAfter.After(issuing.cert.NotAfter) {
		f.notAfter = issuing.cert.NotAfter
	}
	if !f.notAfter.After(now) || now.Before(f.notBefore) {
		return nil, fmt.Errorf("issue certificate: the issuing CA is valid from %s to %s, and it is %s now",
			stamp(issuing.cert.NotBefore), stamp(issuing.cert.NotAfter), stamp(now))
	}
	chain, err := s.auth.SignWithContext(ctx, r.CSR, provisioner.SignOptions{}, i.template(p), f)
	if err != nil {
		return nil, fmt.Errorf("issue certificate for device %s: %w", p.device, err)
	}
	cert, err := x509.ParseCertificate(chain[0].Raw)
	if err != nil {
		return nil, fmt.Errorf("issue certificate for device %s: parse what was signed: %w", p.device, err)
	}
	if err := i.validate(cert, issuing.cert, p, f); err != nil {
		return nil, fmt.Errorf("issue certificate for device %s: what was signed is not what was promised: %w", p.device, err)
	}
	if err := i.lint.check(cert.Raw); err != nil {
		return nil, fmt.Errorf("issue certificate for device %s: %w", p.device, err)
	}
	return &Issued{Cert: cert, Record: i.record(cert, p, r, now)}, nil
}

func (i *Issuer) record(cert *x509.Certificate, p promise, r Request, now time.Time) trust.Certificate {
	return trust.Certificate{
		Issuer: i.spec.ID, CA: p.ca, Serial: trust.SerialOf(cert.SerialNumber), Device: r.Device.ID, Owner: p.mail, Subject: subjectText(cert, p.mail),
		NotBefore: cert.NotBefore, NotAfter: cert.NotAfter, SKI: hex.EncodeToString(cert.SubjectKeyId), Fingerprint: Fingerprint(cert),
		Profile: p.profile.Name, Evidence: r.Evidence, Status: trust.Good, ChangedAt: now, DER: cert.Raw,
	}
}

// subjectText renders the subject as RFC 4514 does, with the name of emailAddress instead of its number.
func subjectText(cert *x509.Certificate, mail string) string {
	name := cert.Subject
	name.Names, name.ExtraNames = nil, nil
	if mail[0] == '#' {
		mail = `\` + mail
	}
	return "emailAddress=" + strings.ReplaceAll(mail, "+", `\+`) + "," + name.String()
}

// template hands the profile's template to the authority.
func (i *Issuer) template(p promise) templateOption {
	usage := []string{"digitalSignature"}
	if p.keyUsage&x509.KeyUsageKeyEncipherment != 0 {
		usage = append(usage, "keyEncipherment")
	}
	return templateOption{p.profile.Template, func() x509util.TemplateData {
		return x509util.TemplateData{
			"Organization": p.org, "Device": p.device, "CommonName": p.cn, "Mail": p.mail, "UPN": p.upn, "URN": p.urn,
			"SerialNumber": p.serialNumber, "Aliases": p.aliases, "SID": p.sid, "KeyUsage": usage, "Policies": append([]string{}, p.profile.Policies...),
			"CRL": i.spec.CRLURL(p.ca), "FreshestCRL": p.freshest, "OCSP": i.spec.OCSPURL(), "CACertificate": i.spec.CertificateURL(p.ca),
		}
	}}
}

// templateOption implements provisioner.CertificateOptions.
type templateOption struct {
	text string
	data func() x509util.TemplateData
}

// Options implements provisioner.CertificateOptions.
func (t templateOption) Options(provisioner.SignOptions) []x509util.Option {
	return []x509util.Option{x509util.WithTemplate(t.text, t.data())}
}

// frame is what the signer decides and no template: serial number and validity. It implements provisioner.CertificateEnforcer, the authority's last word.
type frame struct {
	serial              *big.Int
	notBefore, notAfter time.Time
}

// Enforce implements provisioner.CertificateEnforcer.
func (f frame) Enforce(c *x509.Certificate) error {
	c.SerialNumber, c.NotBefore, c.NotAfter = f.serial, f.notBefore, f.notAfter
	var err error
	c.SubjectKeyId, err = keyID(c.PublicKey)
	return err
}

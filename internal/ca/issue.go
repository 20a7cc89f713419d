package ca

import (
	"context"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"strings"
	"time"

	"github.com/smallstep/certificates/cas/apiv1"

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
	t, err := i.template(p, f)
	if err != nil {
		return nil, fmt.Errorf("issue certificate for device %s: %w", p.device, err)
	}
	signed, err := s.signs.CreateCertificate(&apiv1.CreateCertificateRequest{Template: t, Lifetime: p.profile.Lifetime})
	if err != nil {
		return nil, fmt.Errorf("issue certificate for device %s: %w", p.device, err)
	}
	cert := signed.Certificate // parsed from what was signed
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

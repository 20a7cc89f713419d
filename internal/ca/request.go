package ca

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"fmt"
	"strings"

	"postern/certs"
	"postern/internal/trust"
)

// Request asks for a device certificate.
type Request struct {
	CSR      *x509.CertificateRequest // gives the public key and the proof that its holder has the private one; its names are ignored
	Device   trust.Device
	Owner    trust.Owner
	Profile  string         // name of a profile of package certs; empty for the default
	Evidence trust.Evidence // copied into the record
}

// Part says which part of a request was refused.
type Part string

// The parts of a request.
const (
	PartKey     Part = "key"     // the kind or size of the public key
	PartProof   Part = "proof"   // the request's own signature
	PartName    Part = "name"    // a name of device or owner that this issuer does not certify
	PartProfile Part = "profile" // there is no such profile
)

// Refusal is why a certificate was not issued, where the request is to blame. It wraps trust.ErrForbidden.
type Refusal struct {
	Part Part
	Text string
}

// Error implements error.
func (r *Refusal) Error() string { return "certificate refused: " + r.Text }

// Unwrap implements errors.Unwrap.
func (r *Refusal) Unwrap() error { return trust.ErrForbidden }

func refuse(part Part, format string, args ...any) error {
	return &Refusal{Part: part, Text: fmt.Sprintf(format, args...)}
}

// promise is what the certificate will say. Everything in it is checked.
type promise struct {
	profile      certs.Profile
	org          string
	device       string
	cn           string
	mail         string
	upn          string
	urn          string
	keyUsage     x509.KeyUsage
	keyID        []byte
	freshest     []byte // DER
	publicKeyDER []byte
}

// promise checks the request and settles what the certificate is to say.
func (i *Issuer) promise(r Request) (promise, error) {
	p := promise{org: i.spec.Organization, device: string(r.Device.ID)}
	var ok bool
	if p.profile, ok = certs.Lookup(r.Profile); !ok {
		return p, refuse(PartProfile, "there is no profile %q", r.Profile)
	}
	if r.CSR == nil {
		return p, refuse(PartProof, "no certificate request")
	}
	if err := checkKey(r.CSR.PublicKey); err != nil { // before the signature: a huge key makes verification slow
		return p, err
	}
	if err := r.CSR.CheckSignature(); err != nil {
		return p, refuse(PartProof, "the request is not signed by its own key: %v", err)
	}
	if err := i.names(&p, r); err != nil {
		return p, err
	}
	p.keyUsage = x509.KeyUsageDigitalSignature
	if _, ok := r.CSR.PublicKey.(*rsa.PublicKey); ok {
		// The reply to a SCEP renewal is enveloped for the certificate that signed it (RFC 8894, section 3.2.2). RFC 5280, section 4.2.1.12, does not
		// list keyEncipherment beside clientAuth, and linters say so. An EC key cannot encipher keys at all (RFC 5480, section 3).
		p.keyUsage |= x509.KeyUsageKeyEncipherment
	}
	p.publicKeyDER = r.CSR.RawSubjectPublicKeyInfo
	var err error
	if p.keyID, err = keyID(r.CSR.PublicKey); err != nil {
		return p, err
	}
	p.freshest, err = distributionPoint(i.spec.DeltaURL(IssuingCA))
	return p, err
}

// names takes device and owner from the registry's records. The library's name policy is not asked: a UPN in the SAN disables it.
func (i *Issuer) names(p *promise, r Request) error {
	if !validDeviceID(p.device) {
		return refuse(PartName, "device id %q: want 1 to 64 of a-z, 0-9 and '-'", p.device)
	}
	if r.Device.Issuer != i.spec.ID {
		return refuse(PartName, "device %s belongs to issuer %q, not to %q", p.device, r.Device.Issuer, i.spec.ID)
	}
	var err error
	if p.mail, err = i.address("mail address", r.Owner.Mail); err != nil {
		return err
	}
	if owner := strings.ToLower(r.Device.Owner); owner != p.mail {
		return refuse(PartName, "device %s belongs to %q, not to %q", p.device, owner, p.mail)
	}
	p.upn = p.mail
	if r.Owner.UPN != "" {
		if p.upn, err = i.address("user principal name", r.Owner.UPN); err != nil {
			return err
		}
	}
	p.urn = "urn:postern:device:" + p.device
	// RFC 5280, appendix A.1, allows 64 characters in a common name and 255 in an emailAddress, which always carries the address.
	if p.cn = p.mail; len(p.cn) > 64 {
		p.cn = p.device
	}
	return nil
}

// address checks that s is a mail address in one of the issuer's domains, exactly as the registry keeps it: lower case, nothing around it.
func (i *Issuer) address(what, s string) (string, error) {
	mail, domain, err := trust.Mail(s)
	switch {
	case err != nil:
		return "", refuse(PartName, "%s %q: %v", what, s, err)
	case mail != s:
		return "", refuse(PartName, "%s %q is not normalised", what, s)
	case !i.spec.certifies(domain):
		return "", refuse(PartName, "%s %q: domain %s is not one of issuer %s", what, s, domain, i.spec.ID)
	}
	return mail, nil
}

func validDeviceID(s string) bool {
	return s != "" && len(s) <= 64 && strings.Trim(s, "abcdefghijklmnopqrstuvwxyz0123456789-") == ""
}

// checkKey accepts RSA of 2048 to 8192 bits and the curves P-256 and P-384.
func checkKey(pub crypto.PublicKey) error {
	switch k := pub.(type) {
	case *rsa.PublicKey:
		if n := k.N.BitLen(); n < 2048 || n > 8192 {
			return refuse(PartKey, "RSA key of %d bits: want 2048 to 8192", n)
		}
		if k.E < 65537 || k.E%2 == 0 || k.N.Bit(0) == 0 { // FIPS 186-5, section 5.1
			return refuse(PartKey, "RSA key with modulus or exponent that no sound program makes (exponent %d)", k.E)
		}
	case *ecdsa.PublicKey:
		if k.Curve != elliptic.P256() && k.Curve != elliptic.P384() {
			return refuse(PartKey, "EC key on curve %s: want P-256 or P-384", k.Curve.Params().Name)
		}
	default:
		return refuse(PartKey, "key of kind %T: want RSA, P-256 or P-384", pub)
	}
	return nil
}

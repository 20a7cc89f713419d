package ca

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"math/big"
	"time"

	"go.step.sm/crypto/x509util"

	"postern/certs"
)

// frame is what the signer decides and no profile: serial number and validity.
type frame struct {
	serial              *big.Int
	notBefore, notAfter time.Time
}

// template is the certificate that the profile asks for, without issuer and signature. Its encodings are those of crypto/x509 and x509util; validate has
// its own, and compares.
func (i *Issuer) template(p promise, f frame) (*x509.Certificate, error) {
	t := &x509.Certificate{
		SerialNumber: f.serial, NotBefore: f.notBefore, NotAfter: f.notAfter, PublicKey: p.publicKey, SubjectKeyId: p.keyID,
		KeyUsage: p.keyUsage, BasicConstraintsValid: true,
		CRLDistributionPoints: []string{i.spec.CRLURL(p.ca)}, OCSPServer: []string{i.spec.OCSPURL()}, IssuingCertificateURL: []string{i.spec.CertificateURL(p.ca)},
	}
	var err error
	if t.RawSubject, err = p.subject(); err != nil {
		return nil, err
	}
	san, err := p.subjectAltName()
	if err != nil {
		return nil, err
	}
	t.ExtraExtensions = []pkix.Extension{san, {Id: oidFreshestCRL, Value: p.freshest}}
	for _, s := range p.profile.Purposes {
		oid, err := parseOID(s)
		if err != nil {
			return nil, err
		}
		t.UnknownExtKeyUsage = append(t.UnknownExtKeyUsage, oid) // crypto/x509 only encodes: it need not know the purpose
	}
	for _, s := range p.profile.Policies {
		oid, err := x509.ParseOID(s)
		if err != nil {
			return nil, fmt.Errorf("policy %s: %w", s, err)
		}
		t.Policies = append(t.Policies, oid)
	}
	return t, nil
}

// subject encodes the names of the profile. What RFC 5280 leaves open is as crypto/x509 does it: PrintableString where it can be, UTF8String elsewhere.
func (p promise) subject() ([]byte, error) {
	var rdns pkix.RDNSequence
	for _, name := range p.profile.Subject {
		var a pkix.AttributeTypeAndValue
		switch name {
		case certs.Organization:
			a = pkix.AttributeTypeAndValue{Type: oidOrganization, Value: p.org}
		case certs.Device:
			a = pkix.AttributeTypeAndValue{Type: oidOrganizationalUnit, Value: p.device}
		case certs.CommonName:
			a = pkix.AttributeTypeAndValue{Type: oidCommonName, Value: p.cn}
		case certs.SerialNumber:
			if p.serialNumber == "" {
				continue
			}
			a = pkix.AttributeTypeAndValue{Type: oidSerialNumber, Value: p.serialNumber}
		case certs.Mail: // RFC 5280, appendix A.1: IA5String
			a = pkix.AttributeTypeAndValue{Type: oidEmailAddress, Value: asn1.RawValue{Tag: asn1.TagIA5String, Bytes: []byte(p.mail)}}
		default:
			return nil, fmt.Errorf("profile %s: no subject attribute %q", p.profile.Name, name)
		}
		rdns = append(rdns, pkix.RelativeDistinguishedNameSET{a})
	}
	return asn1.Marshal(rdns)
}

// subjectAltName encodes the further names of the profile.
func (p promise) subjectAltName() (pkix.Extension, error) {
	var names []x509util.SubjectAlternativeName
	add := func(kind string, values ...string) {
		for _, v := range values {
			if v != "" {
				names = append(names, x509util.SubjectAlternativeName{Type: kind, Value: v})
			}
		}
	}
	for _, name := range p.profile.SANs {
		switch name {
		case certs.Mail:
			add(x509util.EmailType, p.mail)
		case certs.Aliases:
			add(x509util.EmailType, p.aliases...)
		case certs.UPN:
			add(x509util.UserPrincipalNameType, p.upn)
		case certs.URN:
			add(x509util.URIType, p.urn)
		case certs.SID:
			add(x509util.URIType, p.sid)
		default:
			return pkix.Extension{}, fmt.Errorf("profile %s: no subjectAltName %q", p.profile.Name, name)
		}
	}
	raw := make([]asn1.RawValue, len(names))
	for n, name := range names {
		var err error
		if raw[n], err = name.RawValue(); err != nil {
			return pkix.Extension{}, fmt.Errorf("subjectAltName: %w", err)
		}
	}
	value, err := asn1.Marshal(raw)
	return pkix.Extension{Id: oidSubjectAltName, Value: value}, err
}

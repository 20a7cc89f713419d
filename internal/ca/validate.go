package ca

import (
	"bytes"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"slices"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"
)

// validate compares a signed certificate with what was promised: names and extensions octet by octet, against encodings made here and not by the
// library that made the certificate. An extension that was not promised is as wrong as one that is missing. The signature is not verified a second time:
// x509.CreateCertificate has, with the signer's public key, which is that of the issuing CA's certificate (namedPair.check).
func (i *Issuer) validate(c, issuer *x509.Certificate, p promise, f frame) error {
	if err := namedBy(c, issuer); err != nil {
		return err
	}
	switch {
	case c.Version != 3:
		return fmt.Errorf("version %d", c.Version)
	case c.SerialNumber.Cmp(f.serial) != 0:
		return fmt.Errorf("serial number %x instead of %x", c.SerialNumber, f.serial)
	case !c.NotBefore.Equal(f.notBefore) || !c.NotAfter.Equal(f.notAfter):
		return fmt.Errorf("valid from %s to %s instead of %s to %s", stamp(c.NotBefore), stamp(c.NotAfter), stamp(f.notBefore), stamp(f.notAfter))
	case !bytes.Equal(c.RawSubjectPublicKeyInfo, p.publicKeyDER):
		return errors.New("another public key than the request's")
	}
	if err := validateSubject(c.RawSubject, p); err != nil {
		return err
	}
	want, err := i.extensions(p, issuer)
	if err != nil {
		return err
	}
	return validateExtensions(c.Extensions, want)
}

// attribute is one AttributeTypeAndValue with its string type left visible.
type attribute struct {
	Type  asn1.ObjectIdentifier
	Value asn1.RawValue
}

// attributeSET is a SET OF for package asn1, which goes by the suffix of the name.
type attributeSET []attribute

func validateSubject(raw []byte, p promise) error {
	var rdns []attributeSET
	if rest, err := asn1.Unmarshal(raw, &rdns); err != nil || len(rest) != 0 {
		return fmt.Errorf("subject: cannot be read: %v", err)
	}
	type rdn struct {
		name  string
		oid   asn1.ObjectIdentifier
		value string
		tags  []int
	}
	want := []rdn{
		{"O", oidOrganization, p.org, []int{asn1.TagPrintableString, asn1.TagUTF8String}},
		{"OU", oidOrganizationalUnit, p.device, []int{asn1.TagPrintableString}},
		{"CN", oidCommonName, p.cn, []int{asn1.TagPrintableString, asn1.TagUTF8String}},
		{"emailAddress", oidEmailAddress, p.mail, []int{asn1.TagIA5String}},
	}
	if p.serialNumber != "" {
		want = slices.Insert(want, 3, rdn{"serialNumber", oidSerialNumber, p.serialNumber, []int{asn1.TagPrintableString}})
	}
	if len(rdns) != len(want) {
		return fmt.Errorf("subject: %d names instead of %d", len(rdns), len(want))
	}
	for n, w := range want {
		if len(rdns[n]) != 1 || !rdns[n][0].Type.Equal(w.oid) {
			return fmt.Errorf("subject: no single %s in place %d", w.name, n)
		}
		v := rdns[n][0].Value
		if string(v.Bytes) != w.value || v.Class != asn1.ClassUniversal || (v.Tag != w.tags[0] && v.Tag != w.tags[len(w.tags)-1]) {
			return fmt.Errorf("subject: %s is %q (type %d) instead of %q", w.name, v.Bytes, v.Tag, w.value)
		}
	}
	return nil
}

// uris returns the URIs of the SAN.
func (p promise) uris() []string {
	if p.sid == "" {
		return []string{p.urn}
	}
	return []string{p.urn, p.sid}
}

// extensions returns every extension that the certificate must have.
func (i *Issuer) extensions(p promise, issuer *x509.Certificate) ([]pkix.Extension, error) {
	usage := byte(0x80) // digitalSignature: bit 0, RFC 5280, section 4.2.1.3
	unused := byte(7)
	if p.keyUsage&x509.KeyUsageKeyEncipherment != 0 {
		usage, unused = 0xa0, 5 // and keyEncipherment: bit 2
	}
	list := []pkix.Extension{
		{Id: oidKeyUsage, Critical: true, Value: []byte{asn1.TagBitString, 2, unused, usage}},
		{Id: oidBasicConstraints, Critical: true, Value: []byte{0x30, 0}}, // cA FALSE by default
		{Id: oidFreshestCRL, Value: p.freshest},
	}
	type part struct {
		oid  asn1.ObjectIdentifier
		make func() ([]byte, error)
	}
	parts := []part{
		{oidExtKeyUsage, func() ([]byte, error) { return asn1.Marshal([]asn1.ObjectIdentifier{oidClientAuth}) }},
		{oidSubjectKeyID, func() ([]byte, error) { return asn1.Marshal(p.keyID) }},
		{oidAuthorityKeyID, func() ([]byte, error) { return authorityKeyID(issuer.SubjectKeyId) }},
		{oidSubjectAltName, func() ([]byte, error) {
			return subjectAltName(append([]string{p.mail}, p.aliases...), p.upn, p.uris()...)
		}},
		{oidCRLDistribution, func() ([]byte, error) { return distributionPoint(i.spec.CRLURL(p.ca)) }},
		{oidAuthorityInfo, func() ([]byte, error) {
			return authorityInfo(i.spec.OCSPURL(), i.spec.CertificateURL(p.ca))
		}},
	}
	if len(p.profile.Policies) > 0 {
		parts = append(parts, part{oidPolicies, func() ([]byte, error) { return policies(p.profile.Policies) }})
	}
	for _, part := range parts {
		value, err := part.make()
		if err != nil {
			return nil, fmt.Errorf("encode extension %s: %w", part.oid, err)
		}
		list = append(list, pkix.Extension{Id: part.oid, Value: value})
	}
	return list, nil
}

// authorityKeyID encodes AuthorityKeyIdentifier with a key identifier only, RFC 5280, section 4.2.1.1.
func authorityKeyID(id []byte) ([]byte, error) {
	return der(func(b *cryptobyte.Builder) {
		b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) { addString(b, tag0, string(id)) })
	})
}

func validateExtensions(got, want []pkix.Extension) error {
	wanted := make(map[string]pkix.Extension, len(want))
	for _, e := range want {
		wanted[e.Id.String()] = e
	}
	for _, e := range got {
		w, ok := wanted[e.Id.String()]
		switch {
		case !ok:
			return fmt.Errorf("extension %s was not promised, or is there twice", e.Id)
		case e.Critical != w.Critical:
			return fmt.Errorf("extension %s: critical is %t", e.Id, e.Critical)
		case !bytes.Equal(e.Value, w.Value):
			return fmt.Errorf("extension %s is %x instead of %x", e.Id, e.Value, w.Value)
		}
		delete(wanted, e.Id.String())
	}
	for id := range wanted {
		return fmt.Errorf("extension %s is missing", id)
	}
	return nil
}

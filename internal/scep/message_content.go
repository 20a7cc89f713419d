package scep

import (
	"bytes"
	"crypto/rsa"
	"crypto/x509"
	"encoding/asn1"
	"encoding/binary"
	"errors"
	"fmt"
	"math/big"
	"net"
	"slices"
	"unicode/utf16"
	"unicode/utf8"

	"postern/internal/ca"
)

// RequestedNames is what a CSR asks to be called beside its subject, from every
// subjectAltName of its extension requests. It is a claim: data for policy.
type RequestedNames struct {
	Emails      []string // rfc822Name
	UPNs        []string // otherName with a user principal name
	DNSNames    []string
	URIs        []string
	IPAddresses []string
	Others      int // names of other kinds, such as directoryName
}

var (
	oidCommonName       = asn1.ObjectIdentifier{2, 5, 4, 3}
	oidEmailAddress     = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 1}
	oidChallenge        = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 7}
	oidExtensionRequest = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 14}
	oidMSExtensions     = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 311, 2, 1, 14} // the same, from older Windows
	oidSubjectAltName   = asn1.ObjectIdentifier{2, 5, 29, 17}
	oidUPN              = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 311, 20, 2, 3}
)

// maxChallenge is the longest challengePassword in bytes of UTF-8 (RFC 2985,
// section 5.4.1, allows 255 characters).
const maxChallenge = 255

// maxNames is the number of names that a CSR may ask for.
const maxNames = 100

// readContent reads the decrypted messageData (RFC 8894, sections 3.3.1 to 3.3.4).
func (r *Request) readContent(der []byte, ours []*x509.Certificate) error {
	if err := Scan(der); err != nil {
		return unreadable(err)
	}
	switch r.MessageType {
	case PKCSReq, RenewalReq:
		return r.readCSR(der)
	default:
		return r.readCertificateName(der, ours)
	}
}

// readCertificateName reads IssuerAndSubject (CertPoll) or
// IssuerAndSerialNumber. Only the issuer's name shows that the content is
// what the client encrypted, so it must be that of the issuer or the subject of
// one of ours: the recipient and the CAs.
func (r *Request) readCertificateName(der []byte, ours []*x509.Certificate) error {
	var name []asn1.RawValue
	if rest, err := asn1.Unmarshal(der, &name); err != nil || len(rest) > 0 || len(name) != 2 {
		return unreadable(errors.New("read certificate name: not two values"))
	}
	issuer, value := name[0].FullBytes, name[1]
	if !slices.ContainsFunc(ours, func(c *x509.Certificate) bool {
		return bytes.Equal(issuer, c.RawIssuer) || bytes.Equal(issuer, c.RawSubject)
	}) {
		return unreadable(errors.New("read certificate name: not one of this issuer"))
	}
	if r.MessageType == CertPoll {
		if value.Class != asn1.ClassUniversal || value.Tag != asn1.TagSequence {
			return unreadable(errors.New("read certificate name: the subject is not a name"))
		}
		r.Issuer, r.Subject = issuer, value.FullBytes
		return nil
	}
	var serial *big.Int
	if rest, err := asn1.Unmarshal(value.FullBytes, &serial); err != nil || len(rest) > 0 {
		return unreadable(errors.New("read certificate name: the serial number is not an INTEGER"))
	}
	r.Issuer, r.Serial = issuer, serial
	return nil
}

// readCSR reads and verifies a PKCS #10 request (RFC 2986). A SHA-1 signature on
// it passes: it proves possession of the key, and phones still make it.
func (r *Request) readCSR(der []byte) error {
	csr, err := ca.ParseCSR(der)
	if err != nil {
		return unreadable(err)
	}
	key, isRSA := csr.PublicKey.(*rsa.PublicKey)
	if isRSA && key.N.BitLen() > maxRSABits {
		return unreadable(errors.New("read CSR: the RSA key is too long"))
	}
	proof, err := ca.Prove(csr)
	if err != nil {
		return unreadable(fmt.Errorf("verify CSR: %w", err))
	}
	// From here on the content is what the client wrote, and failures may differ.
	if isRSA {
		if f := checkRSA(key); f != nil {
			return f
		}
	}
	attrs, err := csrAttributes(csr)
	if err != nil {
		return fail(BadRequest, err, "the attributes of the CSR are unreadable")
	}
	challenge, f := readChallenge(attrs)
	if f != nil {
		return f
	}
	names, err := readNames(csr, attrs)
	if err != nil {
		return fail(BadRequest, err, "the names in the CSR are unreadable")
	}
	r.CSR, r.proof, r.Challenge, r.Names = csr, proof, challenge, names
	return nil
}

// csrAttribute is Attribute (RFC 2986, section 4.1).
type csrAttribute struct {
	Type   asn1.ObjectIdentifier
	Values []asn1.RawValue `asn1:"set"`
}

// csrAttributes reads all attributes; crypto/x509 drops those that it cannot read.
func csrAttributes(csr *x509.CertificateRequest) ([]csrAttribute, error) {
	var tbs struct {
		Version       int
		Subject, Key  asn1.RawValue
		RawAttributes []asn1.RawValue `asn1:"tag:0"`
	}
	if rest, err := asn1.Unmarshal(csr.RawTBSCertificateRequest, &tbs); err != nil || len(rest) > 0 {
		return nil, fmt.Errorf("read attributes: %w", err)
	}
	if len(tbs.RawAttributes) > maxAttributes {
		return nil, fmt.Errorf("read attributes: there are %d", len(tbs.RawAttributes))
	}
	attrs := make([]csrAttribute, len(tbs.RawAttributes))
	for i, raw := range tbs.RawAttributes {
		if rest, err := asn1.Unmarshal(raw.FullBytes, &attrs[i]); err != nil || len(rest) > 0 {
			return nil, fmt.Errorf("read attribute %d: unreadable", i+1)
		}
	}
	return attrs, nil
}

// readChallenge returns the challengePassword, of which there may be one.
func readChallenge(attrs []csrAttribute) (Challenge, *Failure) {
	var value *asn1.RawValue
	for i := range attrs {
		if !attrs[i].Type.Equal(oidChallenge) {
			continue
		}
		if value != nil || len(attrs[i].Values) != 1 {
			return "", fail(BadRequest, nil, "the CSR must have one challengePassword at most")
		}
		value = &attrs[i].Values[0]
	}
	if value == nil {
		return "", nil
	}
	if len(value.Bytes) > 4*maxChallenge {
		return "", fail(BadRequest, nil, "the challengePassword is too long")
	}
	s, ok := decodeString(*value)
	if !ok {
		return "", fail(BadRequest, nil, "the challengePassword is not a readable string")
	}
	if len(s) > maxChallenge {
		return "", fail(BadRequest, nil, "the challengePassword is too long")
	}
	return Challenge(s), nil
}

// decodeString decodes a DirectoryString or a string of ASCII to UTF-8. T61String is
// taken as Latin-1, as everybody does.
func decodeString(v asn1.RawValue) (string, bool) {
	if v.Class != asn1.ClassUniversal || v.IsCompound {
		return "", false
	}
	switch v.Tag {
	case asn1.TagPrintableString, asn1.TagIA5String, asn1.TagNumericString, tagVisibleString:
		return string(v.Bytes), isPrintableASCII(v.Bytes)
	case asn1.TagUTF8String:
		return string(v.Bytes), utf8.Valid(v.Bytes)
	case asn1.TagT61String:
		runes := make([]rune, len(v.Bytes))
		for i, b := range v.Bytes {
			runes[i] = rune(b)
		}
		return string(runes), true
	case asn1.TagBMPString:
		if len(v.Bytes)%2 != 0 {
			return "", false
		}
		units := make([]uint16, len(v.Bytes)/2)
		for i := range units {
			units[i] = uint16(v.Bytes[2*i])<<8 | uint16(v.Bytes[2*i+1])
		}
		return string(utf16.Decode(units)), true
	case tagUniversalString:
		if len(v.Bytes)%4 != 0 {
			return "", false
		}
		runes := make([]rune, len(v.Bytes)/4)
		for i := range runes {
			runes[i] = rune(binary.BigEndian.Uint32(v.Bytes[4*i:]))
			if !utf8.ValidRune(runes[i]) {
				return "", false
			}
		}
		return string(runes), true
	}
	return "", false
}

// Strings that encoding/asn1 has no constant for (X.680, section 8.6).
const (
	tagVisibleString   = 26
	tagUniversalString = 28
)

// readNames collects the names that the CSR asks for.
func readNames(csr *x509.CertificateRequest, attrs []csrAttribute) (RequestedNames, error) {
	var n RequestedNames
	if len(csr.Subject.Names) > maxNames {
		return n, errors.New("read subject: too many names")
	}
	for _, name := range csr.Subject.Names {
		if _, ok := name.Value.(string); !ok && (name.Type.Equal(oidCommonName) || name.Type.Equal(oidEmailAddress)) {
			return n, fmt.Errorf("read subject: the value of %s is not a string", name.Type)
		}
	}
	for _, attr := range attrs {
		if !attr.Type.Equal(oidExtensionRequest) && !attr.Type.Equal(oidMSExtensions) {
			continue
		}
		for _, value := range attr.Values {
			if err := n.addExtensions(value.FullBytes); err != nil {
				return n, err
			}
		}
	}
	return n, nil
}

// addExtensions adds the names of every subjectAltName in an Extensions value.
func (n *RequestedNames) addExtensions(der []byte) error {
	var extensions []struct {
		ID       asn1.ObjectIdentifier
		Critical bool `asn1:"optional"`
		Value    []byte
	}
	if rest, err := asn1.Unmarshal(der, &extensions); err != nil || len(rest) > 0 {
		return errors.New("read extension request: unreadable")
	}
	for _, ext := range extensions {
		if !ext.ID.Equal(oidSubjectAltName) {
			continue
		}
		var names []asn1.RawValue
		if rest, err := asn1.Unmarshal(ext.Value, &names); err != nil || len(rest) > 0 || len(names) > maxNames {
			return errors.New("read subjectAltName: unreadable or too many names")
		}
		for _, name := range names {
			if err := n.addGeneralName(name); err != nil {
				return err
			}
		}
	}
	return nil
}

// addGeneralName adds one GeneralName (RFC 5280, section 4.2.1.6).
func (n *RequestedNames) addGeneralName(name asn1.RawValue) error {
	if name.Class != asn1.ClassContextSpecific {
		return errors.New("read subjectAltName: not a GeneralName")
	}
	var list *[]string
	switch name.Tag {
	case 0:
		return n.addOtherName(name.Bytes)
	case 1:
		list = &n.Emails
	case 2:
		list = &n.DNSNames
	case 6:
		list = &n.URIs
	case 7:
		if len(name.Bytes) != net.IPv4len && len(name.Bytes) != net.IPv6len {
			return errors.New("read subjectAltName: an IP address of a wrong length")
		}
		n.IPAddresses = append(n.IPAddresses, net.IP(name.Bytes).String())
		return nil
	default:
		n.Others++
		return nil
	}
	if name.IsCompound || !isPrintableASCII(name.Bytes) {
		return errors.New("read subjectAltName: a name that is not printable ASCII")
	}
	*list = append(*list, string(name.Bytes))
	return nil
}

// addOtherName adds a user principal name; other kinds are counted.
func (n *RequestedNames) addOtherName(der []byte) error {
	var id asn1.ObjectIdentifier
	rest, err := asn1.Unmarshal(der, &id)
	if err != nil {
		return errors.New("read otherName: no type")
	}
	if !id.Equal(oidUPN) {
		n.Others++
		return nil
	}
	var explicit, value asn1.RawValue
	if rest, err = asn1.Unmarshal(rest, &explicit); err != nil || len(rest) > 0 || explicit.Class != asn1.ClassContextSpecific {
		return errors.New("read otherName: no value")
	}
	if rest, err = asn1.Unmarshal(explicit.Bytes, &value); err != nil || len(rest) > 0 {
		return errors.New("read otherName: no value")
	}
	upn, ok := decodeString(value)
	if !ok {
		return errors.New("read otherName: the UPN is not a readable string")
	}
	n.UPNs = append(n.UPNs, upn)
	return nil
}

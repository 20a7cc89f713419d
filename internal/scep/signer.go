package scep

import (
	"bytes"
	"crypto/x509"
	"encoding/asn1"
	"math/big"
	"time"

	"github.com/smallstep/pkcs7"
)

// parseSignedData reads a SignedData of one signer, whose certificate is then the only one of the result. The library is not shown the certificates: it
// refuses a message for any of them that Go's parser does not take. A panic in it is an error.
func parseSignedData(der []byte) (p7 *pkcs7.PKCS7, err error) {
	defer func() {
		if p := recover(); p != nil {
			p7, err = nil, malformed("unreadable SignedData")
		}
	}()
	der, set, err := cutCertificates(der)
	if err != nil {
		return nil, err
	}
	if p7, err = pkcs7.Parse(der); err != nil {
		return nil, malformed("unreadable SignedData")
	}
	signer, err := findSigner(p7, set)
	if err != nil {
		return nil, err
	}
	p7.Certificates = []*x509.Certificate{signer}
	return p7, nil
}

// cutCertificates takes the CertificateSet out of a SignedData (RFC 5652, section 5.1). No signature is over it.
func cutCertificates(der []byte) (without, set []byte, err error) {
	var outer contentInfo
	if _, err := asn1.Unmarshal(der, &outer); err != nil {
		return nil, nil, malformed("not a CMS message")
	}
	var parts []asn1.RawValue
	if rest, err := asn1.Unmarshal(outer.Content.Bytes, &parts); err != nil || len(rest) > 0 {
		return nil, nil, malformed("unreadable SignedData")
	}
	var kept []byte
	for _, p := range parts {
		switch {
		case p.Class != asn1.ClassContextSpecific || p.Tag != 0:
			kept = append(kept, p.FullBytes...)
		case set != nil:
			return nil, nil, malformed("two sets of certificates")
		default:
			set = p.Bytes
		}
	}
	signed, err := asn1.Marshal(asn1.RawValue{Tag: asn1.TagSequence, IsCompound: true, Bytes: kept})
	if err != nil {
		return nil, nil, malformed("unreadable SignedData")
	}
	without, err = asn1.Marshal(contentInfo{outer.ContentType, asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: 0, IsCompound: true, Bytes: signed}})
	if err != nil {
		return nil, nil, malformed("unreadable SignedData")
	}
	return without, set, nil
}

// findSigner returns the one certificate of the set that the one SignerInfo names.
func findSigner(p7 *pkcs7.PKCS7, set []byte) (*x509.Certificate, error) {
	if len(p7.Signers) != 1 {
		return nil, malformed("%d signers, not one", len(p7.Signers))
	}
	id := p7.Signers[0].IssuerAndSerialNumber
	if id.SerialNumber == nil {
		return nil, malformed("a signer without serial number")
	}
	var signer []byte
	for rest := set; len(rest) > 0; {
		var one asn1.RawValue
		var err error
		if rest, err = asn1.Unmarshal(rest, &one); err != nil {
			return nil, malformed("unreadable certificates")
		}
		b, ok := readBare(one.FullBytes)
		if !ok || !bytes.Equal(b.Issuer.FullBytes, id.IssuerName.FullBytes) || b.Serial.Cmp(id.SerialNumber) != 0 {
			continue
		}
		if signer != nil {
			return nil, malformed("two certificates that could be the signer's")
		}
		signer = one.FullBytes
	}
	if signer == nil {
		return nil, malformed("the signer's certificate is missing")
	}
	cert, ok := readSigner(signer)
	if !ok {
		return nil, malformed("unreadable key in the signer's certificate")
	}
	return cert, nil
}

// bareCertificate is what a message's signature and the reply need of a TBSCertificate (RFC 5280, section 4.1). What follows is passed over.
type bareCertificate struct {
	Version   int `asn1:"optional,explicit,tag:0"`
	Serial    *big.Int
	Algorithm asn1.RawValue
	Issuer    asn1.RawValue
	Validity  struct{ NotBefore, NotAfter time.Time }
	Subject   asn1.RawValue
	Key       asn1.RawValue
}

func readBare(der []byte) (b bareCertificate, ok bool) {
	var parts []asn1.RawValue
	if rest, err := asn1.Unmarshal(der, &parts); err != nil || len(rest) > 0 || len(parts) != 3 {
		return b, false
	}
	_, err := asn1.Unmarshal(parts[0].FullBytes, &b)
	return b, err == nil
}

// readSigner reads the certificate that a message is signed with. In a first enrolment it brings a key and proves nothing, and clients make it carelessly:
// with a negative serial number, a critical authority key identifier (Windows), a mail address in a PrintableString, extensions twice or damaged. Go's parser
// refuses those; they are read for key, names in DER, serial number and validity alone. Such a certificate has no signature here, so that no CA can be found
// to have signed it: it renews nothing and fetches nothing, whatever issuer it claims.
func readSigner(der []byte) (*x509.Certificate, bool) {
	if cert, err := x509.ParseCertificate(der); err == nil {
		return cert, true
	}
	b, ok := readBare(der)
	if !ok {
		return nil, false
	}
	key, err := x509.ParsePKIXPublicKey(b.Key.FullBytes)
	if err != nil {
		return nil, false
	}
	return &x509.Certificate{Raw: der, RawSubjectPublicKeyInfo: b.Key.FullBytes, RawSubject: b.Subject.FullBytes, RawIssuer: b.Issuer.FullBytes,
		PublicKey: key, SerialNumber: b.Serial, NotBefore: b.Validity.NotBefore, NotAfter: b.Validity.NotAfter}, true
}

package scep

import (
	"crypto/x509"
	"encoding/asn1"
	"encoding/base64"
	"errors"
	"fmt"
	"net/url"
	"strings"

	"github.com/smallstep/pkcs7"
)

// maxQuery is the longest "message" value that is looked at: base64 of a
// message of MaxMessage bytes with each character percent-escaped.
const maxQuery = 3 * ((MaxMessage + 2) / 3 * 4)

// DecodeGETMessage decodes the "message" parameter of a PKIOperation sent by
// GET (RFC 8894, section 4.1): base64 of the DER message. Clients differ, so it takes the
// value with or without its percent-escapes, the URL-safe alphabet, spaces
// where a "+" was decoded as a form, line breaks and missing padding. The error is a *Malformed.
func DecodeGETMessage(value string) ([]byte, error) {
	if len(value) > maxQuery {
		return nil, malformed("%d characters of base64, more than %d", len(value), maxQuery)
	}
	if strings.Contains(value, "%") {
		unescaped, err := url.PathUnescape(value) // unlike a query, keeps "+"
		if err != nil {
			return nil, malformed("a broken percent-escape")
		}
		value = unescaped
	}
	value = strings.Map(func(r rune) rune {
		switch r {
		case '-', ' ':
			return '+'
		case '_':
			return '/'
		case '\r', '\n':
			return -1
		}
		return r
	}, value)
	der, err := base64.RawStdEncoding.DecodeString(strings.TrimRight(value, "="))
	if err != nil {
		return nil, malformed("not base64")
	}
	if len(der) == 0 {
		return nil, malformed("empty")
	}
	if len(der) > MaxMessage {
		return nil, malformed("%d bytes, more than %d", len(der), MaxMessage)
	}
	return der, nil
}

// CertsOnly wraps certificates into a SignedData without content and signers
// (RFC 8894, section 3.4): the body of a GetCACert answer of type
// application/x-x509-ca-ra-cert, and what a successful CertRep carries. The
// certificates keep their order, although DER would sort a SET: clients take the first one.
func CertsOnly(certs ...*x509.Certificate) ([]byte, error) {
	if len(certs) == 0 {
		return nil, errors.New("make certs-only message: no certificate")
	}
	sd, err := pkcs7.NewSignedData(nil)
	if err != nil {
		return nil, fmt.Errorf("make certs-only message: %w", err)
	}
	for _, cert := range certs {
		sd.AddCertificate(cert)
	}
	sd.Detach()
	der, err := sd.Finish()
	if err != nil {
		return nil, fmt.Errorf("make certs-only message: %w", err)
	}
	return der, nil
}

// CRLOnly wraps a CRL into a SignedData without content, certificates and signers (RFC 8894, section 3.3.4: the CRL is in the crls field).
func CRLOnly(crl []byte) ([]byte, error) {
	signed, err := asn1.Marshal(struct {
		Version     int             // RFC 5652, section 5.1
		Digests     []asn1.RawValue `asn1:"set"`
		Content     contentInfo
		CRLs        asn1.RawValue
		SignerInfos []asn1.RawValue `asn1:"set"`
	}{1, []asn1.RawValue{}, contentInfo{ContentType: pkcs7.OIDData},
		asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: 1, IsCompound: true, Bytes: crl}, []asn1.RawValue{}})
	if err != nil {
		return nil, fmt.Errorf("make CRL message: %w", err)
	}
	der, err := asn1.Marshal(contentInfo{ContentType: pkcs7.OIDSignedData,
		Content: asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: 0, IsCompound: true, Bytes: signed}})
	if err != nil {
		return nil, fmt.Errorf("make CRL message: %w", err)
	}
	return der, nil
}

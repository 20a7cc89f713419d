package scep

import (
	"bytes"
	"crypto/x509"
	"encoding/asn1"

	"github.com/smallstep/pkcs7"

	"postern/internal/ca"
)

// parseTolerantly is parseSignedData, which it tries again where a certificate could not be read, for the sake of names that Go does not take; see
// ca.ParseCSR. What was signed is never changed: certificates and the name in the SignerInfo are not.
func parseTolerantly(der []byte) (*pkcs7.PKCS7, ca.Written, error) {
	p7, err := parseSignedData(der)
	if err == nil {
		return p7, ca.Written{}, nil
	}
	w := ca.Written{Original: der, Read: bytes.Clone(der)}
	if !relabelSigner(w.Read) {
		return nil, ca.Written{}, err
	}
	p7, err = parseSignedData(w.Read)
	return p7, w, err
}

// relabelSigner relabels strings in the certificates of a SignedData, and in the issuer that its SignerInfo names (RFC 5652, sections 5.1 and 5.3).
func relabelSigner(der []byte) (found bool) {
	var outer contentInfo
	var sd []asn1.RawValue
	if _, err := asn1.Unmarshal(der, &outer); err != nil {
		return false
	}
	if _, err := asn1.Unmarshal(outer.Content.Bytes, &sd); err != nil || len(sd) == 0 {
		return false
	}
	for _, part := range sd {
		if part.Class == asn1.ClassContextSpecific && part.Tag == 0 {
			found = ca.RelabelStrings(part.Bytes)
		}
	}
	var info []asn1.RawValue
	if _, err := asn1.Unmarshal(sd[len(sd)-1].Bytes, &info); err == nil && len(info) > 1 {
		ca.RelabelStrings(info[1].FullBytes)
	}
	return found
}

// restore gives the signer's certificate its own bytes back: the reply names it by them, and its signature is over them.
func restore(signer *x509.Certificate, w ca.Written) {
	if w.Read == nil {
		return
	}
	one := ca.Written{Original: w.Part(signer.Raw), Read: signer.Raw}
	signer.RawTBSCertificate, signer.RawSubject, signer.RawIssuer = one.Part(signer.RawTBSCertificate), one.Part(signer.RawSubject), one.Part(signer.RawIssuer)
	signer.Raw = one.Original
}

package ca

import (
	"bytes"
	"crypto/x509"
	"encoding/asn1"
	"strings"
)

// ParseCSR reads a PKCS #10 request (RFC 2986) like crypto/x509, and also one with a name in a PrintableString that holds what it cannot hold (X.680,
// section 41.4), such as the "@" of a mail address: clients write that, and Go refuses the whole request for it. The Raw fields are as the client wrote them.
func ParseCSR(der []byte) (*x509.CertificateRequest, error) {
	csr, err := x509.ParseCertificateRequest(der)
	if err == nil {
		return csr, nil
	}
	read := bytes.Clone(der)
	if !relabelStrings(read) {
		return nil, err
	}
	if csr, err = x509.ParseCertificateRequest(read); err != nil {
		return nil, err
	}
	w := written{original: der, read: read}
	csr.Raw, csr.RawTBSCertificateRequest, csr.RawSubject = w.part(csr.Raw), w.part(csr.RawTBSCertificateRequest), w.part(csr.RawSubject)
	return csr, nil
}

// relabelStrings turns, in place, each PrintableString that holds other ASCII characters than it may into a UTF8String, and reports whether there was one.
// No length changes. What is no DER is left alone. Nesting must have been bounded before.
func relabelStrings(der []byte) (found bool) {
	for rest := der; len(rest) > 0; {
		var v asn1.RawValue
		var err error
		if rest, err = asn1.Unmarshal(rest, &v); err != nil {
			return found
		}
		switch {
		case v.IsCompound:
			found = relabelStrings(v.Bytes) || found
		case v.Class == asn1.ClassUniversal && v.Tag == asn1.TagPrintableString && bytes.ContainsFunc(v.Bytes, unprintable):
			v.FullBytes[0] = asn1.TagUTF8String
			found = true
		}
	}
	return found
}

// unprintable reports whether a character is ASCII, no control character, and not what Go takes in a PrintableString.
func unprintable(r rune) bool { return r < 0x7f && strings.ContainsRune(`!"#$%;<>@[\]^_{|}`+"`~", r) }

// written finds the bytes that a client wrote behind those that were read in their place. Both have the same length.
type written struct{ original, read []byte }

// part returns what was written where part was read first; part itself where it was not read.
func (w written) part(part []byte) []byte {
	i := bytes.Index(w.read, part)
	if i < 0 {
		return part
	}
	return w.original[i : i+len(part)]
}

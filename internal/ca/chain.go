package ca

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"

	"github.com/smallstep/pkcs7"
)

// readChain reads what a CA answers a request with: certificates in PEM, or a .p7b, which is a SignedData of certificates alone (RFC 5652, section 5.1; RFC
// 2315, section 9.1), in DER, or in PEM under whatever label: AD CS writes CERTIFICATE above it (RFC 7468, section 8, has PKCS7; OpenSSL also CMS). At most
// maxChain certificates in maxFile octets, in any order.
func readChain(data []byte) (list []*x509.Certificate, err error) {
	if len(data) > maxFile {
		return nil, fmt.Errorf("chain is larger than %d octets", maxFile)
	}
	if isSignedData(data) {
		if list, err = signedCertificates(data); err != nil {
			return nil, err
		}
		return list, checkChain(list)
	}
	for len(bytes.TrimSpace(data)) > 0 {
		var block *pem.Block
		block, data = pem.Decode(data)
		switch {
		case block == nil:
			return nil, errors.New("neither certificates in PEM nor a .p7b (PKCS #7): want the new certificate and all above it, up to the root")
		case isSignedData(block.Bytes):
			more, err := signedCertificates(block.Bytes)
			if err != nil {
				return nil, err
			}
			list = append(list, more...)
		case block.Type == "CERTIFICATE":
			c, err := x509.ParseCertificate(block.Bytes)
			if err != nil {
				return nil, err
			}
			list = append(list, c)
		default:
			return nil, fmt.Errorf("%q in PEM: want certificates or a .p7b (PKCS #7)", clipLabel(block.Type))
		}
		if len(list) > maxChain {
			break
		}
	}
	return list, checkChain(list)
}

func checkChain(list []*x509.Certificate) error {
	switch {
	case len(list) == 0:
		return errors.New("no certificate in it")
	case len(list) > maxChain:
		return fmt.Errorf("more than %d certificates: want the new one and those above it alone", maxChain)
	}
	return nil
}

func clipLabel(s string) string { return s[:min(len(s), 64)] }

// isSignedData reports whether BER begins like a ContentInfo of a SignedData: a SEQUENCE whose first element is that object identifier.
func isSignedData(ber []byte) bool {
	const sequence, longestHeader = 0x30, 6
	i := bytes.Index(ber[:min(len(ber), longestHeader+11)], []byte{6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 7, 2})
	return i > 1 && ber[0] == sequence
}

// signedCertificates are the certificates of a SignedData; its signatures, if it has some, say nothing here. A panic of the library is an error.
func signedCertificates(ber []byte) (list []*x509.Certificate, err error) {
	defer func() {
		if p := recover(); p != nil {
			list, err = nil, errors.New("unreadable PKCS #7")
		}
	}()
	p7, err := pkcs7.Parse(ber)
	if err != nil {
		return nil, fmt.Errorf("unreadable PKCS #7: %w", err)
	}
	return p7.Certificates, nil
}

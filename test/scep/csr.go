package scep

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"math/big"
	"time"
)

// CSR is a PKCS #10 request (RFC 2986) with everything that a client may put into one. Only Key is needed.
type CSR struct {
	Key        crypto.Signer // RSA or EC: its public half is to be certified
	SignedBy   crypto.Signer // nil: Key; another one proves nothing
	CommonName string
	Serial     string // serialNumber in the subject
	Email      string // emailAddress in the subject
	SANEmails  []string
	SANUPNs    []string
	SANURIs    []string
	Challenges []asn1.RawValue // one challengePassword attribute each (RFC 2985, section 5.4.1)
	Extensions []pkix.Extension
	Spoil      bool // break the signature
}

// Challenge makes a challengePassword as most clients encode it.
func Challenge(secret string) asn1.RawValue { return Printable(secret) }

// Subject is the DER of the subject.
func (c CSR) Subject() []byte {
	name := pkix.Name{CommonName: c.CommonName, SerialNumber: c.Serial}
	if c.Email != "" {
		name.ExtraNames = []pkix.AttributeTypeAndValue{
			{Type: asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 1}, Value: asn1.RawValue{Tag: asn1.TagIA5String, Bytes: []byte(c.Email)}},
		}
	}
	return marshal(name.ToRDNSequence())
}

// altNames is the value of the subjectAltName, nil for none (RFC 5280, section 4.2.1.6).
func (c CSR) altNames() []byte {
	var names []asn1.RawValue
	for _, s := range c.SANEmails {
		names = append(names, asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: 1, Bytes: []byte(s)})
	}
	for _, s := range c.SANUPNs {
		names = append(names, asn1.RawValue{FullBytes: marshal(struct {
			Type  asn1.ObjectIdentifier
			Value string `asn1:"utf8,explicit,tag:0"`
		}{asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 311, 20, 2, 3}, s}, "tag:0")})
	}
	for _, s := range c.SANURIs {
		names = append(names, asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: 6, Bytes: []byte(s)})
	}
	if names == nil {
		return nil
	}
	return marshal(names)
}

// Build makes the request and signs it.
func (c CSR) Build() ([]byte, error) {
	var attributes []Attribute
	for _, ch := range c.Challenges {
		attributes = append(attributes, NewAttribute(asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 7}, ch))
	}
	extensions := c.Extensions
	if san := c.altNames(); san != nil {
		extensions = append(extensions, pkix.Extension{Id: asn1.ObjectIdentifier{2, 5, 29, 17}, Value: san})
	}
	if extensions != nil {
		attributes = append(attributes, NewAttribute(asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 14}, extensions))
	}
	public, err := x509.MarshalPKIXPublicKey(c.Key.Public())
	if err != nil {
		return nil, fmt.Errorf("make CSR: %w", err)
	}
	info := marshal(struct {
		Version    int
		Subject    asn1.RawValue
		PublicKey  asn1.RawValue
		Attributes []Attribute `asn1:"set,tag:0"`
	}{0, asn1.RawValue{FullBytes: c.Subject()}, asn1.RawValue{FullBytes: public}, attributes})
	signer := c.SignedBy
	if signer == nil {
		signer = c.Key
	}
	algorithm, signature, err := sign(signer, SHA256, info)
	if err != nil {
		return nil, fmt.Errorf("sign CSR: %w", err)
	}
	if _, ok := signer.(*rsa.PrivateKey); ok {
		algorithm.Algorithm = OIDRSASHA256
	}
	if c.Spoil {
		signature[len(signature)-1] ^= 1
	}
	return marshal(struct {
		Info      asn1.RawValue
		Algorithm pkix.AlgorithmIdentifier
		Signature asn1.BitString
	}{asn1.RawValue{FullBytes: info}, algorithm, asn1.BitString{Bytes: signature, BitLength: 8 * len(signature)}}), nil
}

// sign makes a signature with the algorithm identifier that belongs into a SignerInfo (RFC 3370, section 3.2; RFC 5753, section 2.1.1).
func sign(key crypto.Signer, d Digest, message []byte) (pkix.AlgorithmIdentifier, []byte, error) {
	signature, err := key.Sign(rand.Reader, d.sum(message), d.Hash)
	if _, ok := key.Public().(*ecdsa.PublicKey); ok {
		return pkix.AlgorithmIdentifier{Algorithm: OIDECDSASHA256}, signature, err
	}
	return pkix.AlgorithmIdentifier{Algorithm: OIDRSA, Parameters: asn1.NullRawValue}, signature, err
}

// SelfSigned makes the certificate that a client without one signs its first request with (RFC 8894, section 2.3).
func SelfSigned(key crypto.Signer, subject []byte, from, to time.Time) (*x509.Certificate, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 100))
	if err != nil {
		return nil, fmt.Errorf("make self-signed certificate: %w", err)
	}
	t := &x509.Certificate{SerialNumber: serial, RawSubject: subject, NotBefore: from, NotAfter: to,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageKeyEncipherment}
	return Certify(t, t, key.Public(), key)
}

// Certify signs a certificate with any key and parses it.
func Certify(template, parent *x509.Certificate, public crypto.PublicKey, key crypto.Signer) (*x509.Certificate, error) {
	der, err := x509.CreateCertificate(rand.Reader, template, parent, public, key)
	if err != nil {
		return nil, fmt.Errorf("make certificate: %w", err)
	}
	return x509.ParseCertificate(der)
}

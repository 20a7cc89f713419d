package scep

import (
	"bytes"
	"crypto/rsa"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
	"strconv"
)

// Reply is a CertRep (RFC 8894, section 3.3.2) whose signature has been verified.
type Reply struct {
	MessageType    int
	Status         int // pkiStatus
	FailInfo       int // -1 where there is none
	FailInfoText   string
	TransactionID  string
	SenderNonce    []byte // nil where there is none
	RecipientNonce []byte
	Digest         Digest
	SignatureOID   asn1.ObjectIdentifier
	Signer         *x509.Certificate
	Enveloped      bool
	Cipher         Cipher              // of the envelope
	Certificates   []*x509.Certificate // in it, in the order of the message
	CRLs           []*x509.RevocationList
}

// String says what the server has decided.
func (r *Reply) String() string {
	switch r.Status {
	case Success:
		return "SUCCESS"
	case Pending:
		return "PENDING"
	case Failure:
		return "FAILURE " + FailName(r.FailInfo)
	}
	return fmt.Sprintf("pkiStatus %d", r.Status)
}

// FailName is the RFC's name of a failInfo.
func FailName(n int) string {
	names := []string{"badAlg", "badMessageCheck", "badRequest", "badTime", "badCertId"}
	if n < 0 {
		return "without failInfo"
	}
	if n >= len(names) {
		return fmt.Sprintf("failInfo %d", n)
	}
	return names[n]
}

// ReadReply verifies a CertRep and decrypts what is in it with the certificate and RSA key that signed the request; with a nil key it stays closed.
func ReadReply(der []byte, cert *x509.Certificate, key *rsa.PrivateKey) (*Reply, error) {
	sd, err := readSignedData(der)
	if err != nil {
		return nil, fmt.Errorf("read CertRep: %w", err)
	}
	certs, err := parseCertificates(sd.Certificates)
	if err != nil {
		return nil, fmt.Errorf("read CertRep: %w", err)
	}
	if len(sd.Signers) != 1 {
		return nil, fmt.Errorf("read CertRep: %d signers", len(sd.Signers))
	}
	content, err := octets(sd.Content.Content)
	if err != nil {
		return nil, fmt.Errorf("read CertRep: %w", err)
	}
	r := &Reply{FailInfo: -1, SignatureOID: sd.Signers[0].Algorithm.Algorithm, Enveloped: len(content) > 0}
	attributes, err := r.verify(sd.Signers[0], certs, content)
	if err != nil {
		return nil, fmt.Errorf("verify CertRep: %w", err)
	}
	if err := r.read(attributes); err != nil {
		return nil, fmt.Errorf("read CertRep: %w", err)
	}
	if !r.Enveloped || key == nil {
		return r, nil
	}
	plain, c, err := unseal(content, cert, key)
	r.Cipher = c
	if err != nil {
		return r, fmt.Errorf("open CertRep: %w", err)
	}
	if r.Certificates, r.CRLs, err = ReadCertificates(plain); err != nil {
		return r, fmt.Errorf("open CertRep: %w", err)
	}
	return r, nil
}

// verify checks the signature with the certificate that the message carries, and returns the signed attributes.
func (r *Reply) verify(info signerInfo, certs []*x509.Certificate, content []byte) (map[string]asn1.RawValue, error) {
	var err error
	if r.Digest, err = digestOf(info.Digest.Algorithm); err != nil {
		return nil, err
	}
	for _, c := range certs {
		if bytes.Equal(c.RawIssuer, info.Signer.Issuer.FullBytes) && c.SerialNumber.Cmp(info.Signer.Serial) == 0 {
			r.Signer = c
		}
	}
	if r.Signer == nil {
		return nil, errors.New("the signer's certificate is missing")
	}
	public, ok := r.Signer.PublicKey.(*rsa.PublicKey)
	if !ok {
		return nil, errors.New("the signer's key is not RSA")
	}
	if len(info.Signed.FullBytes) == 0 {
		return nil, errors.New("nothing is signed")
	}
	set := bytes.Clone(info.Signed.FullBytes)
	set[0] = 0x31 // RFC 5652, section 5.4: signed as a SET OF, not under the implicit tag
	if err := rsa.VerifyPKCS1v15(public, r.Digest.Hash, r.Digest.sum(set), info.Signature); err != nil {
		return nil, err
	}
	var list []Attribute
	if _, err := asn1.UnmarshalWithParams(set, &list, "set"); err != nil {
		return nil, err
	}
	attributes := map[string]asn1.RawValue{}
	for _, a := range list {
		if len(a.Values) != 1 {
			return nil, fmt.Errorf("attribute %s has %d values", a.Type, len(a.Values))
		}
		attributes[a.Type.String()] = a.Values[0]
	}
	if !bytes.Equal(attributes[OIDMessageDigest.String()].Bytes, r.Digest.sum(content)) {
		return nil, errors.New("the message digest is of something else")
	}
	return attributes, nil
}

// read takes the SCEP attributes.
func (r *Reply) read(a map[string]asn1.RawValue) error {
	for _, f := range []struct {
		to   *int
		oid  asn1.ObjectIdentifier
		name string
	}{{&r.MessageType, OIDMessageType, "messageType"}, {&r.Status, OIDPKIStatus, "pkiStatus"}, {&r.FailInfo, OIDFailInfo, "failInfo"}} {
		v, ok := a[f.oid.String()]
		if !ok && f.to == &r.FailInfo {
			continue
		}
		n, err := strconv.Atoi(string(v.Bytes))
		if err != nil || v.Tag != asn1.TagPrintableString {
			return fmt.Errorf("%s is no number in a PrintableString", f.name)
		}
		*f.to = n
	}
	r.TransactionID = string(a[OIDTransactionID.String()].Bytes)
	r.SenderNonce, r.RecipientNonce = a[OIDSenderNonce.String()].Bytes, a[OIDRecipientNonce.String()].Bytes
	r.FailInfoText = string(a[OIDFailInfoText.String()].Bytes)
	return nil
}

func readSignedData(der []byte) (*signedData, error) {
	inner, err := unwrap(der, OIDSignedData)
	if err != nil {
		return nil, err
	}
	sd := &signedData{}
	if _, err := asn1.Unmarshal(inner, sd); err != nil {
		return nil, fmt.Errorf("read SignedData: %w", err)
	}
	return sd, nil
}

// octets takes the OCTET STRING out of an encapsulated content, whole or in segments; there may be none.
func octets(explicit asn1.RawValue) ([]byte, error) {
	if len(explicit.Bytes) == 0 {
		return nil, nil
	}
	var v asn1.RawValue
	if _, err := asn1.Unmarshal(explicit.Bytes, &v); err != nil {
		return nil, err
	}
	if !v.IsCompound {
		return v.Bytes, nil
	}
	var all []byte
	for rest := v.Bytes; len(rest) > 0; {
		var piece []byte
		var err error
		if rest, err = asn1.Unmarshal(rest, &piece); err != nil {
			return nil, err
		}
		all = append(all, piece...)
	}
	return all, nil
}

func parseCertificates(raw asn1.RawValue) ([]*x509.Certificate, error) {
	certs, err := x509.ParseCertificates(raw.Bytes)
	if err != nil {
		return nil, fmt.Errorf("read certificates: %w", err)
	}
	return certs, nil
}

// ReadCertificates reads a degenerate SignedData (RFC 8894, section 3.4).
func ReadCertificates(der []byte) ([]*x509.Certificate, []*x509.RevocationList, error) {
	sd, err := readSignedData(der)
	if err != nil {
		return nil, nil, err
	}
	if len(sd.Signers) > 0 || len(sd.Content.Content.FullBytes) > 0 {
		return nil, nil, errors.New("a certificates-only message with signers or content")
	}
	certs, err := parseCertificates(sd.Certificates)
	if err != nil {
		return nil, nil, err
	}
	var crls []*x509.RevocationList
	for rest := sd.CRLs.Bytes; len(rest) > 0; {
		var one asn1.RawValue
		if rest, err = asn1.Unmarshal(rest, &one); err != nil {
			return nil, nil, fmt.Errorf("read CRLs: %w", err)
		}
		crl, err := x509.ParseRevocationList(one.FullBytes)
		if err != nil {
			return nil, nil, fmt.Errorf("read CRLs: %w", err)
		}
		crls = append(crls, crl)
	}
	return certs, crls, nil
}

// ReadNext verifies the answer to GetNextCACert, signed by a certificate of the current chain (RFC 8894, section 4.7.1), and returns the next one's.
func ReadNext(der []byte, chain []*x509.Certificate) ([]*x509.Certificate, error) {
	sd, err := readSignedData(der)
	if err != nil {
		return nil, fmt.Errorf("read next CA: %w", err)
	}
	if len(sd.Signers) != 1 {
		return nil, fmt.Errorf("read next CA: %d signers", len(sd.Signers))
	}
	content, err := octets(sd.Content.Content)
	if err != nil {
		return nil, fmt.Errorf("read next CA: %w", err)
	}
	if err := checkSigner(sd.Signers[0], chain, content); err != nil {
		return nil, fmt.Errorf("verify next CA: %w", err)
	}
	certs, _, err := ReadCertificates(content)
	return certs, err
}

// checkSigner verifies a SignerInfo with a key of the chain, of any kind.
func checkSigner(info signerInfo, chain []*x509.Certificate, content []byte) error {
	d, err := digestOf(info.Digest.Algorithm)
	if err != nil {
		return err
	}
	signed := content
	if len(info.Signed.FullBytes) > 0 {
		signed = bytes.Clone(info.Signed.FullBytes)
		signed[0] = 0x31
	}
	kinds := map[string][]x509.SignatureAlgorithm{
		"SHA-256": {x509.SHA256WithRSA, x509.ECDSAWithSHA256}, "SHA-384": {x509.SHA384WithRSA, x509.ECDSAWithSHA384},
		"SHA-512": {x509.SHA512WithRSA, x509.ECDSAWithSHA512},
	}
	for _, c := range chain {
		for _, kind := range kinds[d.Name] {
			if c.CheckSignature(kind, signed, info.Signature) == nil {
				return nil
			}
		}
	}
	return errors.New("not signed by a certificate of GetCACert")
}

package scep

import (
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/hex"
	"strconv"
	"time"
)

// Message is a pkiMessage (RFC 8894, section 3.2). NewMessage makes a right one; every field may then be made wrong.
type Message struct {
	Type          int
	TransactionID string
	Nonce         []byte
	Digest        Digest
	SignatureOID  asn1.ObjectIdentifier // of the SignerInfo; nil: rsaEncryption, or ecdsa-with-SHA256
	Signer        *x509.Certificate
	SignerKey     crypto.Signer
	Certificates  []*x509.Certificate // sent along; NewMessage puts the signer there
	SigningTime   time.Time           // zero: no such attribute
	Content       []byte              // the messageData
	Seal          Seal
	Envelope      []byte // instead of sealing Content; an empty one that is not nil sends none

	Attributes func([]Attribute) []Attribute // changes the signed attributes before they are signed
	Unsigned   []Attribute
	NoSigned   bool                // no signed attributes at all
	Signers    int                 // how many SignerInfos; 0 means one, -1 none
	Spoil      func(*SignedFields) // changes what was signed, after it was
}

// SignedFields are the parts of a SignedData that can be damaged after signing.
type SignedFields struct{ Attributes, Signature, Content []byte }

// NewMessage makes a message of a type with a fresh transactionID and nonce.
func NewMessage(kind int, to, signer *x509.Certificate, key crypto.Signer, content []byte) *Message {
	return &Message{Type: kind, TransactionID: NewTransactionID(), Nonce: NewNonce(), Digest: SHA256, Signer: signer, SignerKey: key,
		Certificates: []*x509.Certificate{signer}, Content: content, Seal: Seal{To: to, Cipher: AES128}}
}

// NewTransactionID makes 128 random bits in hexadecimal.
func NewTransactionID() string { return hex.EncodeToString(NewNonce()) }

// NewNonce makes 16 random bytes (RFC 8894, section 3.2.1.5).
func NewNonce() []byte {
	b := make([]byte, 16)
	rand.Read(b)
	return b
}

// Build makes the DER.
func (m *Message) Build() ([]byte, error) {
	envelope := m.Envelope
	if envelope == nil {
		var err error
		if envelope, err = m.Seal.Do(m.Content); err != nil {
			return nil, err
		}
	}
	content := contentInfo{ContentType: OIDData}
	fields := SignedFields{Content: envelope}
	info := signerInfo{Version: 1, Signer: nameOf(m.Signer), Digest: m.Digest.algorithm()}
	signed := envelope
	if !m.NoSigned {
		signed = marshal(m.attributes(envelope), "set")
		fields.Attributes = signed
	}
	var err error
	if info.Algorithm, fields.Signature, err = sign(m.SignerKey, m.Digest, signed); err != nil {
		return nil, err
	}
	if m.SignatureOID != nil {
		info.Algorithm = pkix.AlgorithmIdentifier{Algorithm: m.SignatureOID, Parameters: asn1.NullRawValue}
	}
	if m.Spoil != nil {
		m.Spoil(&fields)
	}
	info.Signature = fields.Signature
	if !m.NoSigned {
		info.Signed = retag(fields.Attributes, 0)
	}
	if m.Unsigned != nil {
		info.Unsigned = retag(marshal(m.Unsigned, "set"), 1)
	}
	if len(envelope) > 0 {
		content.Content = implicit(0, marshal(fields.Content))
	}
	sd := signedData{Version: 1, Digests: []pkix.AlgorithmIdentifier{m.Digest.algorithm()}, Content: content, Signers: []signerInfo{}}
	n := m.Signers
	if n == 0 {
		n = 1
	}
	for range n {
		sd.Signers = append(sd.Signers, info)
	}
	if len(m.Certificates) > 0 {
		var all []byte
		for _, c := range m.Certificates {
			all = append(all, c.Raw...)
		}
		sd.Certificates = implicit(0, all)
	}
	return marshal(contentInfo{OIDSignedData, implicit(0, marshal(sd))}), nil
}

// attributes are the signed ones (RFC 8894, section 3.2.1).
func (m *Message) attributes(envelope []byte) []Attribute {
	all := []Attribute{
		NewAttribute(OIDContentType, OIDData),
		NewAttribute(OIDMessageDigest, m.Digest.sum(envelope)),
		NewAttribute(OIDTransactionID, Printable(m.TransactionID)),
		NewAttribute(OIDMessageType, Printable(strconv.Itoa(m.Type))),
		NewAttribute(OIDSenderNonce, m.Nonce),
	}
	if !m.SigningTime.IsZero() {
		all = append(all, NewAttribute(OIDSigningTime, m.SigningTime.UTC()))
	}
	if m.Attributes != nil {
		all = m.Attributes(all)
	}
	return all
}

// retag turns a SET into the implicitly tagged one of a SignerInfo.
func retag(set []byte, tag int) asn1.RawValue {
	var v asn1.RawValue
	if _, err := asn1.Unmarshal(set, &v); err != nil {
		return asn1.RawValue{FullBytes: set} // damaged on purpose
	}
	return implicit(tag, v.Bytes)
}

// IssuerAndSubject is the messageData of a CertPoll (RFC 8894, section 3.3.3).
func IssuerAndSubject(ca *x509.Certificate, subject []byte) []byte {
	return marshal([]asn1.RawValue{{FullBytes: ca.RawSubject}, {FullBytes: subject}})
}

// IssuerAndSerial is the messageData of GetCert and GetCRL (RFC 8894, section 3.3.4).
func IssuerAndSerial(c *x509.Certificate) []byte { return marshal(nameOf(c)) }

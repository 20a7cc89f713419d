package scep

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
	"log/slog"
	"math/big"
	"slices"
	"strconv"

	"github.com/smallstep/pkcs7"

	"postern/internal/ca"
)

// Request is a SCEP request whose outer signature is verified: by the key of
// Signer, about which nothing else is known yet; see readSigner.
type Request struct {
	MessageType   MessageType
	TransactionID string // 1 to 255 printable ASCII characters
	SenderNonce   []byte // 8 to 64 bytes; RFC 8894 asks for 16
	Signer        *x509.Certificate
	Digest        crypto.Hash // of the outer signature
	SignatureWeak bool        // the outer signature is over SHA-1
	Envelope      []byte      // the pkcsPKIEnvelope, BER or DER

	// Set by Open.

	Cipher    Cipher
	CSR       *x509.CertificateRequest // PKCSReq, RenewalReq; signature verified
	Challenge Challenge                // of the CSR; empty if there is none
	Names     RequestedNames           // of the CSR
	Issuer    []byte                   // CertPoll, GetCert, GetCRL: DER Name
	Subject   []byte                   // CertPoll: DER Name
	Serial    *big.Int                 // GetCert, GetCRL

	transactionID asn1.RawValue // as it came, to be echoed
	proof         ca.Proof      // of the CSR
}

// LogValue gives what may be logged.
func (r *Request) LogValue() slog.Value {
	return slog.GroupValue(
		slog.String("type", r.MessageType.String()),
		slog.String("transaction", r.TransactionID))
}

// String gives what may be logged.
func (r *Request) String() string { return r.MessageType.String() + " " + r.TransactionID }

// SameKey reports whether the CSR asks for the key that signed the message, as
// a first enrolment does (RFC 8894, section 2.3).
func (r *Request) SameKey() bool {
	return r.CSR != nil && r.Signer != nil &&
		bytes.Equal(r.CSR.RawSubjectPublicKeyInfo, r.Signer.RawSubjectPublicKeyInfo)
}

// Sizes of RSA keys in bits. The upper limit bounds the cost of a verification.
const (
	minRSABits = 2048
	maxRSABits = 8192
)

// ParseRequest reads a pkiMessage (RFC 8894, section 3.2) of at most MaxMessage bytes
// and verifies its signature with the one signer certificate it carries. The
// error is a *Malformed, with a nil Request, or a *Failure, with a Request that
// is fit for Responder.Fail and nothing else.
func ParseRequest(der []byte) (*Request, error) {
	der, err := normalize(der)
	if err != nil {
		return nil, err
	}
	if err := checkEncapsulated(der); err != nil {
		return nil, err
	}
	p7, err := parseSignedData(der)
	if err != nil {
		return nil, err
	}
	attrs, err := readAttributes(p7)
	if err != nil {
		return nil, err
	}
	r := &Request{Signer: p7.Certificates[0], Envelope: p7.Content}
	if err := r.readHeader(attrs); err != nil {
		return nil, err
	}
	if f := r.verify(p7); f != nil {
		return r, f
	}
	if !r.MessageType.isRequest() {
		return r, fail(BadRequest, ErrUnknownMessageType, "%s is not a request", r.MessageType)
	}
	if _, ok := r.Signer.PublicKey.(*rsa.PublicKey); !ok {
		return r, fail(BadRequest, nil, "the message must be signed with an RSA key, because the reply is encrypted to it: enrol with an RSA key and a challenge")
	}
	if len(r.Envelope) == 0 {
		return r, fail(BadRequest, nil, "the message has no pkcsPKIEnvelope")
	}
	return r, nil
}

// checkEncapsulated checks what the CMS library does not tell: the content
// types of the message (RFC 8894, section 3.2: SignedData over data).
func checkEncapsulated(der []byte) error {
	var outer contentInfo
	if rest, err := asn1.Unmarshal(der, &outer); err != nil || len(rest) > 0 {
		return malformed("not a CMS message")
	}
	if !outer.ContentType.Equal(pkcs7.OIDSignedData) {
		return malformed("not a SignedData")
	}
	var sd struct {
		Version int
		Digests asn1.RawValue
		Content contentInfo
	}
	if _, err := asn1.Unmarshal(outer.Content.Bytes, &sd); err != nil {
		return malformed("unreadable SignedData")
	}
	if !sd.Content.ContentType.Equal(pkcs7.OIDData) {
		return malformed("a SignedData over something else than data")
	}
	return nil
}

// maxAttributes is the number of signed attributes that are looked at. Clients send six.
const maxAttributes = 32

// attributes are the values of signed attributes by type.
type attributes map[string]asn1.RawValue

// readAttributes reads the signed attributes. An attribute that occurs twice or
// does not have one value is refused, because readers could disagree about it.
func readAttributes(p7 *pkcs7.PKCS7) (attributes, error) {
	list := p7.Signers[0].AuthenticatedAttributes
	if len(list) > maxAttributes {
		return nil, malformed("%d signed attributes", len(list))
	}
	attrs := make(attributes, len(list))
	for _, a := range list {
		key := a.Type.String()
		if _, dup := attrs[key]; dup {
			return nil, malformed("signed attribute %s occurs twice", key)
		}
		var value asn1.RawValue
		rest, err := asn1.Unmarshal(a.Value.Bytes, &value)
		if a.Value.Class != asn1.ClassUniversal || a.Value.Tag != asn1.TagSet || err != nil || len(rest) > 0 {
			return nil, malformed("signed attribute %s does not have one value", key)
		}
		attrs[key] = value
	}
	return attrs, nil
}

// get returns a value that must be there, with one of these universal tags.
func (a attributes) get(oid asn1.ObjectIdentifier, name string, tags ...int) (asn1.RawValue, error) {
	value, ok := a[oid.String()]
	if !ok {
		return value, malformed("no %s", name)
	}
	if value.Class != asn1.ClassUniversal || !slices.Contains(tags, value.Tag) || value.IsCompound {
		return value, malformed("%s has the wrong type", name)
	}
	return value, nil
}

// textTags are the strings that stand for the PrintableString of RFC 8894, section 3.2.1. What is in them has to be ASCII all the same.
var textTags = []int{asn1.TagPrintableString, asn1.TagUTF8String, asn1.TagIA5String}

// readHeader takes the SCEP attributes (RFC 8894, section 3.2.1).
func (r *Request) readHeader(attrs attributes) error {
	contentType, err := attrs.get(pkcs7.OIDAttributeContentType, "content type", asn1.TagOID)
	if err != nil {
		return err
	}
	var oid asn1.ObjectIdentifier
	if _, err := asn1.Unmarshal(contentType.FullBytes, &oid); err != nil || !oid.Equal(pkcs7.OIDData) {
		return malformed("the signed content type is not data")
	}
	if _, err := attrs.get(pkcs7.OIDAttributeMessageDigest, "message digest", asn1.TagOctetString); err != nil {
		return err
	}

	// Some clients put characters into the PrintableString that it cannot hold, others take another type of string.
	id, err := attrs.get(oidTransactionID, "transactionID", textTags...)
	if err != nil {
		return err
	}
	if len(id.Bytes) < 1 || len(id.Bytes) > 255 || !isPrintableASCII(id.Bytes) {
		return malformed("transactionID is not 1 to 255 printable characters")
	}
	nonce, err := attrs.get(oidSenderNonce, "senderNonce", asn1.TagOctetString)
	if err != nil {
		return err
	}
	if len(nonce.Bytes) < 8 || len(nonce.Bytes) > 64 {
		return malformed("senderNonce has %d bytes", len(nonce.Bytes))
	}
	kind, err := attrs.get(oidMessageType, "messageType", textTags...)
	if err != nil {
		return err
	}
	number, err := strconv.ParseUint(string(kind.Bytes), 10, 16)
	if err != nil || strconv.FormatUint(number, 10) != string(kind.Bytes) {
		return malformed("messageType is not a number")
	}
	r.transactionID, r.TransactionID = id, string(id.Bytes)
	r.SenderNonce = nonce.Bytes
	r.MessageType = MessageType(number)
	return nil
}

func isPrintableASCII(b []byte) bool {
	for _, c := range b {
		if c < 0x20 || c > 0x7e {
			return false
		}
	}
	return true
}

// verify checks algorithms, key and outer signature, in this order: nothing
// expensive happens before its cost is bounded.
func (r *Request) verify(p7 *pkcs7.PKCS7) *Failure {
	info := p7.Signers[0]
	r.Digest = hashOf(info.DigestAlgorithm.Algorithm)
	if r.Digest == 0 {
		return fail(BadAlg, nil, "digest algorithm %s is not supported", oidText(info.DigestAlgorithm.Algorithm))
	}
	r.SignatureWeak = r.Digest == crypto.SHA1
	if !signatureFits(info.DigestEncryptionAlgorithm.Algorithm, r.Digest) {
		return fail(BadAlg, nil, "signature algorithm %s is not supported with %s",
			oidText(info.DigestEncryptionAlgorithm.Algorithm), r.Digest)
	}
	switch key := r.Signer.PublicKey.(type) {
	case *rsa.PublicKey:
		if f := checkRSA(key); f != nil {
			return f
		}
	case *ecdsa.PublicKey:
	default:
		return fail(BadAlg, nil, "the signer's key is of an unsupported kind")
	}
	err := verifySignature(p7)
	if errors.Is(err, rsa.ErrVerification) && r.verifyAsSent(p7) {
		err = nil
	}
	var late *pkcs7.SigningTimeNotValidError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &late):
		return fail(BadTime, err, "the signing time is outside the validity of the signer's certificate")
	}
	return fail(BadMessageCheck, err, "the signature of the message is not valid")
}

// verifyAsSent verifies the signature over the signed attributes in the order of the message. It is over their DER encoding, which is sorted (RFC 5652,
// section 5.4), and that is what the library looks at; but there are clients that sort neither, and servers built on OpenSSL never notice. Message
// digest and signing time have been found good before the signature was looked at, and no attribute occurs twice, so the order means nothing.
func (r *Request) verifyAsSent(p7 *pkcs7.PKCS7) bool {
	key, ok := r.Signer.PublicKey.(*rsa.PublicKey)
	if !ok {
		return false
	}
	var sent [][]byte
	for _, a := range p7.Signers[0].AuthenticatedAttributes {
		der, err := asn1.Marshal(a)
		if err != nil {
			return false
		}
		sent = append(sent, der)
	}
	if slices.IsSortedFunc(sent, bytes.Compare) {
		return false // that was verified
	}
	set, err := asn1.Marshal(asn1.RawValue{Tag: asn1.TagSet, IsCompound: true, Bytes: bytes.Join(sent, nil)})
	if err != nil {
		return false
	}
	h := r.Digest.New()
	h.Write(set)
	return rsa.VerifyPKCS1v15(key, r.Digest, h.Sum(nil), p7.Signers[0].EncryptedDigest) == nil
}

// verifySignature is the library's Verify behind a barrier: a panic in it is an error.
func verifySignature(p7 *pkcs7.PKCS7) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("verify signature: panic: %v", p)
		}
	}()
	return p7.Verify()
}

func checkRSA(key *rsa.PublicKey) *Failure {
	switch bits := key.N.BitLen(); {
	case bits < minRSABits:
		return fail(BadAlg, nil, "an RSA key of %d bits is too short, use %d", bits, minRSABits)
	case bits > maxRSABits:
		return fail(BadAlg, nil, "an RSA key of %d bits is too long, use %d", bits, minRSABits)
	}
	return nil
}

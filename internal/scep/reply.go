package scep

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
	"strconv"

	"github.com/smallstep/pkcs7"
)

// Responder writes the CertRep messages of one CA or RA (RFC 8894, section 3.3.2).
// It is safe for concurrent use if its key is.
type Responder struct {
	cert  *x509.Certificate
	key   crypto.Signer
	chain []*x509.Certificate
}

// NewResponder makes a Responder that signs with the key of cert, which must be RSA because
// SCEP clients verify nothing else. The chain is sent along with the
// certificate and may be empty.
func NewResponder(cert *x509.Certificate, key crypto.Signer, chain ...*x509.Certificate) (*Responder, error) {
	pub, ok := cert.PublicKey.(*rsa.PublicKey)
	if !ok {
		return nil, errors.New("make SCEP responder: the certificate's key is not RSA")
	}
	if !pub.Equal(key.Public()) {
		return nil, errors.New("make SCEP responder: the key is not the certificate's")
	}
	return &Responder{cert: cert, key: key, chain: chain}, nil
}

// Success answers a PKCSReq, RenewalReq, CertPoll or GetCert with a
// certificate, encrypted to the request's signer. The chain is optional:
// RFC 8894, section 3.4 asks for the leaf, which always comes first. The cipher is
// AES-128, or AES-256 if the client used more than AES-128 itself.
func (r *Responder) Success(req *Request, leaf *x509.Certificate, chain []*x509.Certificate) ([]byte, error) {
	certs, err := CertsOnly(append([]*x509.Certificate{leaf}, chain...)...)
	if err != nil {
		return nil, err
	}
	return r.success(req, certs)
}

// SuccessCRL answers a GetCRL with a CRL in DER (RFC 8894, section 3.3.4).
func (r *Responder) SuccessCRL(req *Request, crl []byte) ([]byte, error) {
	content, err := CRLOnly(crl)
	if err != nil {
		return nil, err
	}
	return r.success(req, content)
}

// success seals the content for the request's signer.
func (r *Responder) success(req *Request, content []byte) ([]byte, error) {
	c := AES128
	if req.Cipher == AES192 || req.Cipher == AES256 {
		c = AES256
	}
	envelope, err := seal(content, req.Signer, c)
	if err != nil {
		return nil, err
	}
	return r.sign(req, statusSuccess, envelope)
}

// Fail answers any request with pkiStatus FAILURE. The text goes to the client
// as failInfoText, unless it is empty.
func (r *Responder) Fail(req *Request, info FailInfo, text string) ([]byte, error) {
	extra := []pkcs7.Attribute{{Type: oidFailInfo, Value: printable(strconv.Itoa(int(info)))}}
	if text != "" {
		extra = append(extra, pkcs7.Attribute{
			Type:  oidFailInfoText,
			Value: asn1.RawValue{Tag: asn1.TagUTF8String, Bytes: []byte(text)},
		})
	}
	return r.sign(req, statusFailure, nil, extra...)
}

// Pending answers a request that somebody has to approve; the client polls.
func (r *Responder) Pending(req *Request) ([]byte, error) {
	return r.sign(req, statusPending, nil)
}

// sign makes the CertRep around an envelope, or without one (RFC 8894, section 3.3.2): its content is then an empty OCTET STRING. Content that is left out
// altogether is a detached signature to OpenSSL, and so "no content" to certmonger and others built on it.
func (r *Responder) sign(req *Request, status pkiStatus, envelope []byte, extra ...pkcs7.Attribute) ([]byte, error) {
	sd, err := pkcs7.NewSignedData(envelope)
	if err != nil {
		return nil, fmt.Errorf("sign CertRep: %w", err)
	}
	sd.SetDigestAlgorithm(replyDigest(req.Digest))
	nonce := make([]byte, 16)
	rand.Read(nonce)
	attrs := append([]pkcs7.Attribute{
		{Type: oidTransactionID, Value: req.transactionID},
		{Type: oidMessageType, Value: printable(strconv.Itoa(int(CertRep)))},
		{Type: oidPKIStatus, Value: printable(strconv.Itoa(int(status)))},
		{Type: oidSenderNonce, Value: nonce},
		{Type: oidRecipientNonce, Value: req.SenderNonce},
	}, extra...)
	return r.finish(sd, pkcs7.SignerInfoConfig{ExtraSignedAttributes: attrs})
}

// finish signs and encodes.
func (r *Responder) finish(sd *pkcs7.SignedData, config pkcs7.SignerInfoConfig) ([]byte, error) {
	if err := sd.AddSigner(r.cert, r.key, config); err != nil {
		return nil, fmt.Errorf("sign SCEP message: %w", err)
	}
	// The library writes sha256WithRSAEncryption. CMS has rsaEncryption here (RFC 3370,
	// section 3.2), and some clients know only that. The field is not signed.
	infos := sd.GetSignedData().SignerInfos
	for i := range infos {
		infos[i].DigestEncryptionAlgorithm = rsaEncryption()
	}
	for _, cert := range r.chain {
		sd.AddCertificate(cert)
	}
	der, err := sd.Finish()
	if err != nil {
		return nil, fmt.Errorf("sign SCEP message: %w", err)
	}
	return der, nil
}

// replyDigest is SHA-256, or what the client used if that is stronger.
func replyDigest(h crypto.Hash) asn1.ObjectIdentifier {
	switch h {
	case crypto.SHA384:
		return pkcs7.OIDDigestAlgorithmSHA384
	case crypto.SHA512:
		return pkcs7.OIDDigestAlgorithmSHA512
	}
	return pkcs7.OIDDigestAlgorithmSHA256
}

func printable(s string) asn1.RawValue {
	return asn1.RawValue{Tag: asn1.TagPrintableString, Bytes: []byte(s)}
}

package lab

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/smallstep/pkcs7"
)

// The signed attributes of RFC 8894, section 3.2.1; failInfoText is in section 3.2.1.4.
var (
	oidMessageType    = asn1.ObjectIdentifier{2, 16, 840, 1, 113733, 1, 9, 2}
	oidPKIStatus      = asn1.ObjectIdentifier{2, 16, 840, 1, 113733, 1, 9, 3}
	oidFailInfo       = asn1.ObjectIdentifier{2, 16, 840, 1, 113733, 1, 9, 4}
	oidSenderNonce    = asn1.ObjectIdentifier{2, 16, 840, 1, 113733, 1, 9, 5}
	oidRecipientNonce = asn1.ObjectIdentifier{2, 16, 840, 1, 113733, 1, 9, 6}
	oidTransactionID  = asn1.ObjectIdentifier{2, 16, 840, 1, 113733, 1, 9, 7}
	oidFailInfoText   = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 24, 1}
)

// transaction is one certificate asked for.
type transaction struct {
	kind      int // the messageType
	key       *rsa.PrivateKey
	csr       []byte
	signer    *x509.Certificate // signs the request; the answer is encrypted to it
	signerKey *rsa.PrivateKey
	keySize   int                 // of AES, in bytes
	chain     []*x509.Certificate // what GetCACert gave
	now       func() time.Time

	id     string
	nonce  []byte
	issued *x509.Certificate
}

// request makes the pkiMessage (RFC 8894, section 3.2).
func (t *transaction) request() ([]byte, error) {
	to, err := recipient(t.chain)
	if err != nil {
		return nil, err
	}
	envelope, err := envelop(t.csr, to, t.keySize)
	if err != nil {
		return nil, err
	}
	sd, err := pkcs7.NewSignedData(envelope)
	if err != nil {
		return nil, fmt.Errorf("sign request: %w", err)
	}
	sd.SetDigestAlgorithm(pkcs7.OIDDigestAlgorithmSHA256)
	t.id, t.nonce = newTransactionID(), make([]byte, 16)
	rand.Read(t.nonce)
	err = sd.AddSigner(t.signer, t.signerKey, pkcs7.SignerInfoConfig{ExtraSignedAttributes: []pkcs7.Attribute{
		{Type: oidTransactionID, Value: printable(t.id)},
		{Type: oidMessageType, Value: printable(strconv.Itoa(t.kind))},
		{Type: oidSenderNonce, Value: t.nonce},
	}})
	if err != nil {
		return nil, fmt.Errorf("sign request: %w", err)
	}
	der, err := sd.Finish()
	if err != nil {
		return nil, fmt.Errorf("sign request: %w", err)
	}
	return der, nil
}

// printable makes a PrintableString, which encoding/asn1 would choose by itself only while every character allows it.
func printable(s string) asn1.RawValue {
	return asn1.RawValue{Tag: asn1.TagPrintableString, Bytes: []byte(s)}
}

// recipient finds the certificate to encrypt to: RSA and good for keyEncipherment, an RA rather than a CA (RFC 8894, section 2.1.2).
func recipient(chain []*x509.Certificate) (*x509.Certificate, error) {
	var found *x509.Certificate
	for _, cert := range chain {
		_, isRSA := cert.PublicKey.(*rsa.PublicKey)
		if !isRSA || cert.KeyUsage&x509.KeyUsageKeyEncipherment == 0 {
			continue
		}
		if !cert.IsCA {
			return cert, nil
		}
		if found == nil {
			found = cert
		}
	}
	if found == nil {
		return nil, errors.New("GetCACert gave no RSA certificate for encryption")
	}
	return found, nil
}

// readReply verifies the CertRep and takes the certificate out of it (RFC 8894, section 3.3.2).
func (t *transaction) readReply(der []byte) error {
	p7, err := pkcs7.Parse(der)
	if err != nil {
		return fmt.Errorf("read CertRep: %w", err)
	}
	if err := p7.Verify(); err != nil {
		return fmt.Errorf("verify CertRep: %w", err)
	}
	if signer := p7.GetOnlySigner(); signer == nil || !among(t.chain, signer) {
		return errors.New("verify CertRep: it is not signed by a certificate of GetCACert")
	}
	a := attributes{p7: p7}
	kind, id, status := a.text(oidMessageType), a.text(oidTransactionID), a.text(oidPKIStatus)
	ours, theirs := a.bytes(oidRecipientNonce), a.bytes(oidSenderNonce)
	switch {
	case a.err != nil:
		return fmt.Errorf("read CertRep: %w", a.err)
	case kind != "3":
		return fmt.Errorf("read CertRep: messageType %q", kind)
	case id != t.id:
		return errors.New("read CertRep: another transactionID")
	case !bytes.Equal(ours, t.nonce):
		return errors.New("read CertRep: recipientNonce is not our senderNonce")
	case len(theirs) != 16 || bytes.Equal(theirs, t.nonce):
		return errors.New("read CertRep: senderNonce is not fresh")
	}
	switch status {
	case "0":
		return t.readCertificate(p7.Content)
	case "2":
		return refusal(p7)
	case "3":
		return ErrPending
	}
	return fmt.Errorf("read CertRep: pkiStatus %q", status)
}

// refusal reads why.
func refusal(p7 *pkcs7.PKCS7) error {
	e := &RefusedError{FailInfo: -1}
	var info string
	if p7.UnmarshalSignedAttribute(oidFailInfo, &info) == nil {
		if n, err := strconv.Atoi(info); err == nil {
			e.FailInfo = n
		}
	}
	var text asn1.RawValue
	if p7.UnmarshalSignedAttribute(oidFailInfoText, &text) == nil {
		e.Text = string(text.Bytes)
	}
	return e
}

// readCertificate decrypts the envelope and checks what was issued: for our key, by a CA of GetCACert, good now.
func (t *transaction) readCertificate(envelope []byte) error {
	sealed, err := pkcs7.Parse(envelope)
	if err != nil {
		return fmt.Errorf("read envelope: %w", err)
	}
	content, err := sealed.Decrypt(t.signer, t.signerKey)
	if err != nil {
		return fmt.Errorf("decrypt envelope: %w", err)
	}
	certs, err := certsOnly(content)
	if err != nil {
		return fmt.Errorf("read issued certificate: %w", err)
	}
	leaf := certs[0]
	if !t.key.PublicKey.Equal(leaf.PublicKey) {
		return errors.New("check issued certificate: it is for another key")
	}
	if now := t.now(); now.Before(leaf.NotBefore) || now.After(leaf.NotAfter) {
		return fmt.Errorf("check issued certificate: good from %s to %s only", leaf.NotBefore, leaf.NotAfter)
	}
	for _, ca := range t.chain {
		if leaf.CheckSignatureFrom(ca) == nil {
			t.issued = leaf
			return nil
		}
	}
	return errUnknownCA
}

var errUnknownCA = errors.New("check issued certificate: not signed by a CA of GetCACert")

// certsOnly reads a SignedData that holds nothing but certificates; there is at least one.
func certsOnly(der []byte) ([]*x509.Certificate, error) {
	p7, err := pkcs7.Parse(der)
	if err != nil {
		return nil, err
	}
	if len(p7.Certificates) == 0 {
		return nil, errors.New("no certificate in it")
	}
	return p7.Certificates, nil
}

func among(chain []*x509.Certificate, cert *x509.Certificate) bool {
	for _, c := range chain {
		if c.Equal(cert) {
			return true
		}
	}
	return false
}

// attributes reads signed attributes and keeps the first error.
type attributes struct {
	p7  *pkcs7.PKCS7
	err error
}

func (a *attributes) text(oid asn1.ObjectIdentifier) (s string) {
	a.read(oid, &s)
	return s
}

func (a *attributes) bytes(oid asn1.ObjectIdentifier) (b []byte) {
	a.read(oid, &b)
	return b
}

func (a *attributes) read(oid asn1.ObjectIdentifier, out any) {
	if err := a.p7.UnmarshalSignedAttribute(oid, out); err != nil && a.err == nil {
		a.err = fmt.Errorf("attribute %s: %w", oid, err)
	}
}

package lab

import (
	"bytes"
	"crypto"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"math/big"
	"time"
)

var (
	oidData              = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 7, 1}
	oidEnvelopedData     = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 7, 3}
	oidRSAEncryption     = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 1}
	oidSHA256WithRSA     = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 11}
	oidAES128CBC         = asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 1, 2}
	oidAES256CBC         = asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 1, 42}
	oidChallengePassword = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 7}
	oidExtensionRequest  = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 14}
	oidEmailAddress      = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 1}
	oidSubjectAltName    = asn1.ObjectIdentifier{2, 5, 29, 17}
	oidUPN               = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 311, 20, 2, 3}
)

// Names is what a CSR asks to be called; a CA that takes names from a registry ignores or refuses it.
type Names struct {
	CommonName string
	Email      string // emailAddress in the subject
	SANEmails  []string
	SANUPNs    []string
}

// subject gives the Name; another common name stands in where none is asked for.
func (n Names) subject(other string) ([]byte, error) {
	name := pkix.Name{CommonName: n.CommonName}
	if name.CommonName == "" {
		name.CommonName = other
	}
	if n.Email != "" {
		name.ExtraNames = []pkix.AttributeTypeAndValue{
			{Type: oidEmailAddress, Value: asn1.RawValue{Tag: asn1.TagIA5String, Bytes: []byte(n.Email)}},
		}
	}
	return asn1.Marshal(name.ToRDNSequence())
}

// altNames gives the value of a subjectAltName, nil for none (RFC 5280, section 4.2.1.6).
func (n Names) altNames() ([]byte, error) {
	var names []asn1.RawValue
	for _, mail := range n.SANEmails {
		names = append(names, asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: 1, Bytes: []byte(mail)})
	}
	for _, upn := range n.SANUPNs {
		other, err := asn1.MarshalWithParams(struct {
			Type  asn1.ObjectIdentifier
			Value string `asn1:"utf8,explicit,tag:0"`
		}{oidUPN, upn}, "tag:0")
		if err != nil {
			return nil, err
		}
		names = append(names, asn1.RawValue{FullBytes: other})
	}
	if names == nil {
		return nil, nil
	}
	return asn1.Marshal(names)
}

type csrAttribute struct {
	Type   asn1.ObjectIdentifier
	Values []asn1.RawValue `asn1:"set"`
}

func newAttribute(oid asn1.ObjectIdentifier, value any) (csrAttribute, error) {
	der, err := asn1.Marshal(value)
	return csrAttribute{oid, []asn1.RawValue{{FullBytes: der}}}, err
}

// csrAttributes makes the challengePassword (RFC 2985, section 5.4.1) and the extensions asked for (section 5.4.2).
func csrAttributes(challenge string, names Names) ([]csrAttribute, error) {
	var all []csrAttribute
	if challenge != "" {
		a, err := newAttribute(oidChallengePassword, challenge)
		if err != nil {
			return nil, err
		}
		all = append(all, a)
	}
	san, err := names.altNames()
	if err != nil || san == nil {
		return all, err
	}
	a, err := newAttribute(oidExtensionRequest, []pkix.Extension{{Id: oidSubjectAltName, Value: san}})
	return append(all, a), err
}

// newCSR makes a PKCS #10 request (RFC 2986), which crypto/x509 cannot do with a challengePassword.
func newCSR(key *rsa.PrivateKey, subject []byte, challenge string, names Names) ([]byte, error) {
	attributes, err := csrAttributes(challenge, names)
	if err != nil {
		return nil, fmt.Errorf("make CSR: %w", err)
	}
	public, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		return nil, fmt.Errorf("make CSR: %w", err)
	}
	info, err := asn1.Marshal(struct {
		Version    int
		Subject    asn1.RawValue
		PublicKey  asn1.RawValue
		Attributes []csrAttribute `asn1:"set,tag:0"`
	}{0, asn1.RawValue{FullBytes: subject}, asn1.RawValue{FullBytes: public}, attributes})
	if err != nil {
		return nil, fmt.Errorf("make CSR: %w", err)
	}
	digest := sha256.Sum256(info)
	signature, err := rsa.SignPKCS1v15(nil, key, crypto.SHA256, digest[:])
	if err != nil {
		return nil, fmt.Errorf("sign CSR: %w", err)
	}
	return asn1.Marshal(struct {
		Info      asn1.RawValue
		Algorithm pkix.AlgorithmIdentifier
		Signature asn1.BitString
	}{
		asn1.RawValue{FullBytes: info},
		pkix.AlgorithmIdentifier{Algorithm: oidSHA256WithRSA, Parameters: asn1.NullRawValue},
		asn1.BitString{Bytes: signature, BitLength: 8 * len(signature)},
	})
}

// selfSigned makes the certificate that a phone without one signs its first request with (RFC 8894, section 2.3).
func selfSigned(key *rsa.PrivateKey, subject []byte, now time.Time) (*x509.Certificate, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, fmt.Errorf("make self-signed certificate: %w", err)
	}
	template := &x509.Certificate{
		SerialNumber: serial.Add(serial, big.NewInt(1)), RawSubject: subject,
		NotBefore: now.Add(-time.Hour), NotAfter: now.Add(24 * time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageKeyEncipherment,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return nil, fmt.Errorf("make self-signed certificate: %w", err)
	}
	return x509.ParseCertificate(der)
}

// The structures of RFC 5652, section 6.
type (
	envelopeInfo struct {
		ContentType asn1.ObjectIdentifier
		Content     envelopedData `asn1:"explicit,tag:0"`
	}
	envelopedData struct {
		Version    int
		Recipients []keyTransport `asn1:"set"`
		Content    encryptedContent
	}
	keyTransport struct {
		Version   int
		Recipient struct {
			Issuer asn1.RawValue
			Serial *big.Int
		}
		Algorithm    pkix.AlgorithmIdentifier
		EncryptedKey []byte
	}
	encryptedContent struct {
		ContentType asn1.ObjectIdentifier
		Algorithm   pkix.AlgorithmIdentifier
		Content     []byte `asn1:"tag:0"`
	}
)

// envelop encrypts content to the RSA key of a certificate with AES-CBC, the key being 16 or 32 bytes long. The cipher of
// pkcs7.Encrypt is a variable of the whole process, which two phones would fight over.
func envelop(content []byte, to *x509.Certificate, keySize int) ([]byte, error) {
	public, ok := to.PublicKey.(*rsa.PublicKey)
	if !ok {
		return nil, fmt.Errorf("encrypt to %q: its key is not RSA", to.Subject)
	}
	secret := make([]byte, keySize+aes.BlockSize)
	rand.Read(secret)
	key, iv := secret[:keySize], secret[keySize:]
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, fmt.Errorf("encrypt: %w", err)
	}
	pad := aes.BlockSize - len(content)%aes.BlockSize
	sealed := append(bytes.Clone(content), bytes.Repeat([]byte{byte(pad)}, pad)...)
	cipher.NewCBCEncrypter(block, iv).CryptBlocks(sealed, sealed)

	kt := keyTransport{Algorithm: pkix.AlgorithmIdentifier{Algorithm: oidRSAEncryption, Parameters: asn1.NullRawValue}}
	kt.Recipient.Issuer, kt.Recipient.Serial = asn1.RawValue{FullBytes: to.RawIssuer}, to.SerialNumber
	// RSA with PKCS #1 v1.5 is what RFC 8894 has for key transport, and all that every server understands.
	if kt.EncryptedKey, err = rsa.EncryptPKCS1v15(rand.Reader, public, key); err != nil {
		return nil, fmt.Errorf("encrypt content key: %w", err)
	}
	oid := oidAES128CBC
	if keySize == 32 {
		oid = oidAES256CBC
	}
	ivParameter, err := asn1.Marshal(iv)
	if err != nil {
		return nil, fmt.Errorf("encrypt: %w", err)
	}
	return asn1.Marshal(envelopeInfo{oidEnvelopedData, envelopedData{
		Recipients: []keyTransport{kt},
		Content: encryptedContent{
			ContentType: oidData,
			Algorithm:   pkix.AlgorithmIdentifier{Algorithm: oid, Parameters: asn1.RawValue{FullBytes: ivParameter}},
			Content:     sealed,
		},
	}})
}

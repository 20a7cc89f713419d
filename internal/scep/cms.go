package scep

import (
	"crypto"
	"crypto/aes"
	"crypto/cipher"
	"crypto/des"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"math/big"

	"github.com/smallstep/pkcs7"
)

// contentInfo is ContentInfo and EncapsulatedContentInfo (RFC 5652, sections 3 and 5.2).
type contentInfo struct {
	ContentType asn1.ObjectIdentifier
	Content     asn1.RawValue `asn1:"explicit,optional,tag:0"`
}

// envelopedData is EnvelopedData (RFC 5652, section 6.1).
type envelopedData struct {
	Version          int
	OriginatorInfo   asn1.RawValue   `asn1:"optional,tag:0"`
	Recipients       []asn1.RawValue `asn1:"set"`
	Content          encryptedContentInfo
	UnprotectedAttrs asn1.RawValue `asn1:"optional,tag:1"`
}

// keyTransport is KeyTransRecipientInfo (RFC 5652, section 6.2.1).
type keyTransport struct {
	Version      int
	Recipient    asn1.RawValue // issuerAndSerialNumber or [0] subjectKeyIdentifier
	Algorithm    pkix.AlgorithmIdentifier
	EncryptedKey []byte
}

// encryptedContentInfo is EncryptedContentInfo (RFC 5652, section 6.1).
type encryptedContentInfo struct {
	ContentType asn1.ObjectIdentifier
	Algorithm   pkix.AlgorithmIdentifier
	Content     asn1.RawValue `asn1:"optional,tag:0"`
}

// issuerAndSerial is IssuerAndSerialNumber (RFC 5652, section 10.2.4).
type issuerAndSerial struct {
	Issuer asn1.RawValue
	Serial *big.Int
}

// Cipher is the content encryption of an envelope.
type Cipher int

// The ciphers that are known. RFC 8894, section 2.9 makes AES-128-CBC
// mandatory, permits triple DES and forbids single DES.
const (
	UnknownCipher Cipher = iota
	DES
	TripleDES
	AES128
	AES192
	AES256
)

// String returns the usual name of the cipher.
func (c Cipher) String() string {
	if p := c.params(); p != nil {
		return p.name
	}
	return "unknown cipher"
}

type cipherParams struct {
	cipher   Cipher
	name     string
	oid      asn1.ObjectIdentifier
	keySize  int // bytes
	newBlock func([]byte) (cipher.Block, error)
	legacy   bool // refused unless asked for
}

var ciphers = [...]cipherParams{
	{DES, "DES-CBC", pkcs7.OIDEncryptionAlgorithmDESCBC, 8, des.NewCipher, true},
	{TripleDES, "DES-EDE3-CBC", pkcs7.OIDEncryptionAlgorithmDESEDE3CBC, 24, des.NewTripleDESCipher, true},
	{AES128, "AES-128-CBC", pkcs7.OIDEncryptionAlgorithmAES128CBC, 16, aes.NewCipher, false},
	{AES192, "AES-192-CBC", asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 1, 22}, 24, aes.NewCipher, false},
	{AES256, "AES-256-CBC", pkcs7.OIDEncryptionAlgorithmAES256CBC, 32, aes.NewCipher, false},
}

func (c Cipher) params() *cipherParams {
	for i := range ciphers {
		if ciphers[i].cipher == c {
			return &ciphers[i]
		}
	}
	return nil
}

func cipherOf(oid asn1.ObjectIdentifier) *cipherParams {
	for i := range ciphers {
		if ciphers[i].oid.Equal(oid) {
			return &ciphers[i]
		}
	}
	return nil
}

// hashOf returns the digest of an algorithm identifier, or 0 if it is not
// accepted: MD5 and anything unknown.
func hashOf(oid asn1.ObjectIdentifier) crypto.Hash {
	switch {
	case oid.Equal(pkcs7.OIDDigestAlgorithmSHA1):
		return crypto.SHA1
	case oid.Equal(pkcs7.OIDDigestAlgorithmSHA256):
		return crypto.SHA256
	case oid.Equal(pkcs7.OIDDigestAlgorithmSHA384):
		return crypto.SHA384
	case oid.Equal(pkcs7.OIDDigestAlgorithmSHA512):
		return crypto.SHA512
	}
	return 0
}

// signatureFits reports whether a SignerInfo's signature algorithm is accepted
// and does not contradict its digest algorithm.
func signatureFits(oid asn1.ObjectIdentifier, digest crypto.Hash) bool {
	switch {
	case oid.Equal(pkcs7.OIDEncryptionAlgorithmRSA):
		return true
	case oid.Equal(pkcs7.OIDEncryptionAlgorithmRSASHA1), oid.Equal(pkcs7.OIDDigestAlgorithmECDSASHA1):
		return digest == crypto.SHA1
	case oid.Equal(pkcs7.OIDEncryptionAlgorithmRSASHA256), oid.Equal(pkcs7.OIDDigestAlgorithmECDSASHA256):
		return digest == crypto.SHA256
	case oid.Equal(pkcs7.OIDEncryptionAlgorithmRSASHA384), oid.Equal(pkcs7.OIDDigestAlgorithmECDSASHA384):
		return digest == crypto.SHA384
	case oid.Equal(pkcs7.OIDEncryptionAlgorithmRSASHA512), oid.Equal(pkcs7.OIDDigestAlgorithmECDSASHA512):
		return digest == crypto.SHA512
	}
	return false
}

// oidText is an object identifier short enough for a failInfoText.
func oidText(oid asn1.ObjectIdentifier) string {
	if s := oid.String(); len(s) <= 64 {
		return s
	}
	return "(unreadable)"
}

// seal encrypts content to one RSA certificate as an EnvelopedData (RFC 5652,
// section 6) with RSA PKCS #1 v1.5 key transport, the only one that all SCEP
// clients know. The library's Encrypt takes its cipher from a global variable.
func seal(content []byte, to *x509.Certificate, c Cipher) ([]byte, error) {
	p, pub := c.params(), to.PublicKey
	rsaKey, ok := pub.(*rsa.PublicKey)
	if !ok || p == nil {
		return nil, errors.New("seal envelope: not an RSA certificate or an unknown cipher")
	}
	key := make([]byte, p.keySize)
	rand.Read(key)
	block, err := p.newBlock(key)
	if err != nil {
		return nil, fmt.Errorf("seal envelope: %w", err)
	}
	iv := make([]byte, block.BlockSize())
	rand.Read(iv)
	pad := block.BlockSize() - len(content)%block.BlockSize()
	sealed := make([]byte, len(content)+pad)
	for i := copy(sealed, content); i < len(sealed); i++ {
		sealed[i] = byte(pad)
	}
	cipher.NewCBCEncrypter(block, iv).CryptBlocks(sealed, sealed)
	encryptedKey, err := rsa.EncryptPKCS1v15(rand.Reader, rsaKey, key)
	if err != nil {
		return nil, fmt.Errorf("seal envelope: encrypt key: %w", err)
	}
	return marshalEnvelope(to, encryptedKey, p.oid, iv, sealed)
}

func marshalEnvelope(to *x509.Certificate, encryptedKey []byte, alg asn1.ObjectIdentifier, iv, sealed []byte) ([]byte, error) {
	id, err := asn1.Marshal(issuerAndSerial{asn1.RawValue{FullBytes: to.RawIssuer}, to.SerialNumber})
	if err != nil {
		return nil, fmt.Errorf("seal envelope: %w", err)
	}
	recipient, err := asn1.Marshal(keyTransport{
		Recipient:    asn1.RawValue{FullBytes: id},
		Algorithm:    rsaEncryption(),
		EncryptedKey: encryptedKey,
	})
	if err != nil {
		return nil, fmt.Errorf("seal envelope: %w", err)
	}
	der, err := asn1.Marshal(envelopedData{
		Recipients: []asn1.RawValue{{FullBytes: recipient}},
		Content: encryptedContentInfo{
			ContentType: pkcs7.OIDData,
			Algorithm:   pkix.AlgorithmIdentifier{Algorithm: alg, Parameters: asn1.RawValue{Tag: asn1.TagOctetString, Bytes: iv}},
			Content:     asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: 0, Bytes: sealed},
		},
	})
	if err != nil {
		return nil, fmt.Errorf("seal envelope: %w", err)
	}
	der, err = asn1.Marshal(contentInfo{
		ContentType: pkcs7.OIDEnvelopedData,
		Content:     asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: 0, IsCompound: true, Bytes: der},
	})
	if err != nil {
		return nil, fmt.Errorf("seal envelope: %w", err)
	}
	return der, nil
}

// rsaEncryption is the algorithm identifier of RFC 3370, sections 3.2 and 4.2.1.
func rsaEncryption() pkix.AlgorithmIdentifier {
	return pkix.AlgorithmIdentifier{Algorithm: pkcs7.OIDEncryptionAlgorithmRSA, Parameters: asn1.NullRawValue}
}

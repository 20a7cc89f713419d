package scep

import (
	"bytes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"math/big"

	_ "crypto/md5"  // for what no server should take
	_ "crypto/sha1" // for old clients
	_ "crypto/sha512"
)

// The structures of CMS (RFC 5652), as far as SCEP uses them.
type (
	contentInfo struct {
		ContentType asn1.ObjectIdentifier
		Content     asn1.RawValue `asn1:"optional,tag:0"`
	}
	issuerAndSerial struct {
		Issuer asn1.RawValue
		Serial *big.Int
	}
	signedData struct {
		Version      int
		Digests      []pkix.AlgorithmIdentifier `asn1:"set"`
		Content      contentInfo
		Certificates asn1.RawValue `asn1:"optional,tag:0"`
		CRLs         asn1.RawValue `asn1:"optional,tag:1"`
		Signers      []signerInfo  `asn1:"set"`
	}
	signerInfo struct {
		Version   int
		Signer    issuerAndSerial
		Digest    pkix.AlgorithmIdentifier
		Signed    asn1.RawValue `asn1:"optional,tag:0"`
		Algorithm pkix.AlgorithmIdentifier
		Signature []byte
		Unsigned  asn1.RawValue `asn1:"optional,tag:1"`
	}
	envelopedData struct {
		Version    int
		Recipients []recipientInfo `asn1:"set"`
		Content    encryptedContent
	}
	recipientInfo struct {
		Version   int
		Recipient asn1.RawValue
		Algorithm pkix.AlgorithmIdentifier
		Key       []byte
	}
	encryptedContent struct {
		ContentType asn1.ObjectIdentifier
		Algorithm   pkix.AlgorithmIdentifier
		Content     asn1.RawValue `asn1:"optional,tag:0"`
	}
)

// Attribute is one attribute of a SignerInfo or of a CSR, with any number of values.
type Attribute struct {
	Type   asn1.ObjectIdentifier
	Values []asn1.RawValue `asn1:"set"`
}

// NewAttribute makes an attribute with one value, which is marshalled unless it is an asn1.RawValue.
func NewAttribute(oid asn1.ObjectIdentifier, value any) Attribute {
	if raw, ok := value.(asn1.RawValue); ok {
		return Attribute{oid, []asn1.RawValue{raw}}
	}
	return Attribute{oid, []asn1.RawValue{{FullBytes: marshal(value)}}}
}

// Printable is a PrintableString, whatever is in it: some clients put characters there that do not belong.
func Printable(s string) asn1.RawValue {
	return asn1.RawValue{Tag: asn1.TagPrintableString, Bytes: []byte(s)}
}

// marshal encodes what this package has made itself; an error is a mistake in it.
func marshal(v any, params ...string) []byte {
	var der []byte
	var err error
	if len(params) > 0 {
		der, err = asn1.MarshalWithParams(v, params[0])
	} else {
		der, err = asn1.Marshal(v)
	}
	if err != nil {
		panic(fmt.Sprintf("marshal %T: %v", v, err))
	}
	return der
}

// implicit puts content behind a context-specific tag.
func implicit(tag int, content []byte) asn1.RawValue {
	return asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: tag, IsCompound: true, Bytes: content}
}

func nameOf(c *x509.Certificate) issuerAndSerial {
	return issuerAndSerial{asn1.RawValue{FullBytes: c.RawIssuer}, c.SerialNumber}
}

// Seal encrypts content to the RSA key of a certificate (RFC 5652, section 6).
type Seal struct {
	To     *x509.Certificate
	Cipher Cipher
	OAEP   bool                  // RSAES-OAEP with SHA-256 instead of PKCS #1 v1.5
	BySKI  bool                  // name the recipient by its subject key identifier
	OID    asn1.ObjectIdentifier // claimed instead of the cipher's own
	// Tampering: changes the padded content before, and the three parts after encryption.
	Plain  func([]byte) []byte
	Sealed func(key, iv, content []byte)
}

// Do returns the EnvelopedData.
func (s Seal) Do(content []byte) ([]byte, error) {
	public, ok := s.To.PublicKey.(*rsa.PublicKey)
	if !ok {
		return nil, fmt.Errorf("encrypt to %q: its key is not RSA", s.To.Subject)
	}
	key := make([]byte, s.Cipher.keySize)
	rand.Read(key)
	block, err := s.Cipher.block(key)
	if err != nil {
		return nil, err
	}
	iv := make([]byte, block.BlockSize())
	rand.Read(iv)
	pad := block.BlockSize() - len(content)%block.BlockSize()
	sealed := append(bytes.Clone(content), bytes.Repeat([]byte{byte(pad)}, pad)...)
	if s.Plain != nil {
		sealed = s.Plain(sealed)
	}
	cipher.NewCBCEncrypter(block, iv).CryptBlocks(sealed, sealed)
	info := recipientInfo{Recipient: asn1.RawValue{FullBytes: marshal(nameOf(s.To))}}
	if s.BySKI {
		info.Version, info.Recipient = 2, asn1.RawValue{Class: asn1.ClassContextSpecific, Bytes: s.To.SubjectKeyId}
	}
	if info.Algorithm, info.Key, err = s.transport(public, key); err != nil {
		return nil, err
	}
	if s.Sealed != nil {
		s.Sealed(info.Key, iv, sealed)
	}
	oid := s.Cipher.OID
	if s.OID != nil {
		oid = s.OID
	}
	return marshal(contentInfo{OIDEnvelopedData, implicit(0, marshal(envelopedData{
		Version:    info.Version,
		Recipients: []recipientInfo{info},
		Content: encryptedContent{
			ContentType: OIDData,
			Algorithm:   pkix.AlgorithmIdentifier{Algorithm: oid, Parameters: asn1.RawValue{Tag: asn1.TagOctetString, Bytes: iv}},
			Content:     asn1.RawValue{Class: asn1.ClassContextSpecific, Bytes: sealed},
		},
	}))}), nil
}

// transport encrypts the content key (RFC 3370, section 4.2.1; RFC 3560 for OAEP).
func (s Seal) transport(to *rsa.PublicKey, key []byte) (pkix.AlgorithmIdentifier, []byte, error) {
	if !s.OAEP {
		sealed, err := rsa.EncryptPKCS1v15(rand.Reader, to, key)
		return pkix.AlgorithmIdentifier{Algorithm: OIDRSA, Parameters: asn1.NullRawValue}, sealed, err
	}
	sealed, err := rsa.EncryptOAEP(sha256.New(), rand.Reader, to, key, nil)
	mask := pkix.AlgorithmIdentifier{Algorithm: asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 8}, Parameters: asn1.RawValue{FullBytes: marshal(SHA256.algorithm())}}
	params := marshal(struct {
		Hash pkix.AlgorithmIdentifier `asn1:"explicit,tag:0"`
		Mask pkix.AlgorithmIdentifier `asn1:"explicit,tag:1"`
	}{SHA256.algorithm(), mask})
	return pkix.AlgorithmIdentifier{Algorithm: OIDRSAOAEP, Parameters: asn1.RawValue{FullBytes: params}}, sealed, err
}

// unseal decrypts an EnvelopedData for a certificate and says with which cipher it was made.
func unseal(der []byte, cert *x509.Certificate, key *rsa.PrivateKey) ([]byte, Cipher, error) {
	var none Cipher
	inner, err := unwrap(der, OIDEnvelopedData)
	if err != nil {
		return nil, none, err
	}
	var env envelopedData
	if _, err := asn1.Unmarshal(inner, &env); err != nil {
		return nil, none, fmt.Errorf("read EnvelopedData: %w", err)
	}
	c, err := cipherOf(env.Content.Algorithm.Algorithm)
	if err != nil {
		return nil, none, err
	}
	for _, r := range env.Recipients {
		if !bytes.Equal(r.Recipient.FullBytes, marshal(nameOf(cert))) {
			continue
		}
		secret, err := rsa.DecryptPKCS1v15(nil, key, r.Key)
		if err != nil {
			return nil, c, fmt.Errorf("decrypt content key: %w", err)
		}
		plain, err := c.open(secret, env.Content.Algorithm.Parameters.Bytes, env.Content.Content)
		return plain, c, err
	}
	return nil, c, errors.New("the reply is not encrypted to the request's signer")
}

// open decrypts and takes off the padding (RFC 5652, section 6.3).
func (c Cipher) open(key, iv []byte, sealed asn1.RawValue) ([]byte, error) {
	data := sealed.Bytes
	if sealed.IsCompound {
		data = nil
		for rest := sealed.Bytes; len(rest) > 0; {
			var piece []byte
			var err error
			if rest, err = asn1.Unmarshal(rest, &piece); err != nil {
				return nil, fmt.Errorf("read encrypted content: %w", err)
			}
			data = append(data, piece...)
		}
	}
	block, err := c.block(key)
	if err != nil {
		return nil, err
	}
	if size := block.BlockSize(); len(iv) != size || len(data) == 0 || len(data)%size != 0 {
		return nil, errors.New("encrypted content or its initialisation vector has a wrong length")
	}
	plain := make([]byte, len(data))
	cipher.NewCBCDecrypter(block, iv).CryptBlocks(plain, data)
	pad := int(plain[len(plain)-1])
	if pad == 0 || pad > block.BlockSize() {
		return nil, errors.New("encrypted content has bad padding")
	}
	return plain[:len(plain)-pad], nil
}

// unwrap takes the content out of a ContentInfo of the type.
func unwrap(der []byte, want asn1.ObjectIdentifier) ([]byte, error) {
	var info contentInfo
	if rest, err := asn1.Unmarshal(der, &info); err != nil {
		return nil, fmt.Errorf("read ContentInfo: %w", err)
	} else if len(rest) > 0 {
		return nil, errors.New("read ContentInfo: something follows it")
	}
	if !info.ContentType.Equal(want) {
		return nil, fmt.Errorf("content type %s, want %s", info.ContentType, want)
	}
	return info.Content.Bytes, nil
}

// Package scep asks any SCEP server whether it keeps to RFC 8894, and what it does with those who do not.
//
// It has a client that can make every message, right or wrong: the codec is its own, over encoding/asn1, so that it shares no mistake with a server. It also
// starts the servers to be asked: the real postern binary, and step-ca as a peer. The table of questions is in the tests, and reads like the RFC.
package scep

import (
	"crypto"
	"crypto/aes"
	"crypto/cipher"
	"crypto/des"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
)

// The message types of RFC 8894, section 3.2.1.2.
const (
	CertRep    = 3
	RenewalReq = 17
	PKCSReq    = 19
	CertPoll   = 20
	GetCert    = 21
	GetCRL     = 22
)

// The values of pkiStatus (RFC 8894, section 3.2.1.3).
const (
	Success = 0
	Failure = 2
	Pending = 3
)

// The values of failInfo (RFC 8894, section 3.2.1.4).
const (
	BadAlg          = 0
	BadMessageCheck = 1
	BadRequest      = 2
	BadTime         = 3
	BadCertID       = 4
)

// The signed attributes of RFC 8894, section 3.2.1, and those of CMS (RFC 5652, section 11).
var (
	OIDMessageType    = asn1.ObjectIdentifier{2, 16, 840, 1, 113733, 1, 9, 2}
	OIDPKIStatus      = asn1.ObjectIdentifier{2, 16, 840, 1, 113733, 1, 9, 3}
	OIDFailInfo       = asn1.ObjectIdentifier{2, 16, 840, 1, 113733, 1, 9, 4}
	OIDSenderNonce    = asn1.ObjectIdentifier{2, 16, 840, 1, 113733, 1, 9, 5}
	OIDRecipientNonce = asn1.ObjectIdentifier{2, 16, 840, 1, 113733, 1, 9, 6}
	OIDTransactionID  = asn1.ObjectIdentifier{2, 16, 840, 1, 113733, 1, 9, 7}
	OIDFailInfoText   = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 24, 1}
	OIDContentType    = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 3}
	OIDMessageDigest  = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 4}
	OIDSigningTime    = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 5}
)

// The content types of CMS and the algorithms of its signatures and key transport (RFC 3370).
var (
	OIDData          = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 7, 1}
	OIDSignedData    = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 7, 2}
	OIDEnvelopedData = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 7, 3}
	OIDRSA           = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 1}
	OIDRSASHA256     = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 11}
	OIDRSAOAEP       = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 7}
	OIDECDSASHA256   = asn1.ObjectIdentifier{1, 2, 840, 10045, 4, 3, 2}
)

// Digest is a digest algorithm by its usual name.
type Digest struct {
	Name string
	OID  asn1.ObjectIdentifier
	Hash crypto.Hash // 0 for one that only its name is sent of
}

// The digests that clients use, and two that no server should take.
var (
	MD5    = Digest{"MD5", asn1.ObjectIdentifier{1, 2, 840, 113549, 2, 5}, crypto.MD5}
	SHA1   = Digest{"SHA-1", asn1.ObjectIdentifier{1, 3, 14, 3, 2, 26}, crypto.SHA1}
	SHA256 = Digest{"SHA-256", asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 1}, crypto.SHA256}
	SHA384 = Digest{"SHA-384", asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 2}, crypto.SHA384}
	SHA512 = Digest{"SHA-512", asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 3}, crypto.SHA512}
)

// digestOf finds a digest by its identifier.
func digestOf(oid asn1.ObjectIdentifier) (Digest, error) {
	for _, d := range []Digest{MD5, SHA1, SHA256, SHA384, SHA512} {
		if d.OID.Equal(oid) {
			return d, nil
		}
	}
	return Digest{}, fmt.Errorf("digest algorithm %s", oid)
}

func (d Digest) algorithm() pkix.AlgorithmIdentifier {
	return pkix.AlgorithmIdentifier{Algorithm: d.OID, Parameters: asn1.NullRawValue}
}

func (d Digest) sum(b []byte) []byte {
	h := d.Hash.New()
	h.Write(b)
	return h.Sum(nil)
}

// Cipher is a content-encryption algorithm in CBC by its usual name.
type Cipher struct {
	Name    string
	OID     asn1.ObjectIdentifier
	keySize int
	block   func([]byte) (cipher.Block, error)
}

// The ciphers that clients use; DES must not be used at all (RFC 8894, section 2.9).
var (
	DES       = Cipher{"DES", asn1.ObjectIdentifier{1, 3, 14, 3, 2, 7}, 8, des.NewCipher}
	TripleDES = Cipher{"3DES", asn1.ObjectIdentifier{1, 2, 840, 113549, 3, 7}, 24, des.NewTripleDESCipher}
	AES128    = Cipher{"AES-128", asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 1, 2}, 16, aes.NewCipher}
	AES192    = Cipher{"AES-192", asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 1, 22}, 24, aes.NewCipher}
	AES256    = Cipher{"AES-256", asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 1, 42}, 32, aes.NewCipher}
)

// cipherOf finds a cipher by its identifier.
func cipherOf(oid asn1.ObjectIdentifier) (Cipher, error) {
	for _, c := range []Cipher{DES, TripleDES, AES128, AES192, AES256} {
		if c.OID.Equal(oid) {
			return c, nil
		}
	}
	return Cipher{}, fmt.Errorf("content cipher %s", oid)
}

package ca

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
	"time"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"
)

// A CRL is assembled in one buffer of its final size around entries that are encoded already: crypto/x509 keeps a structure for each of them, encodes it by
// reflection and copies the whole several times, which takes seconds and gigabytes for a large CA.

// signature is how a CA signs: the algorithm that crypto/x509 picks for the key too.
type signature struct {
	name       x509.SignatureAlgorithm
	hash       crypto.Hash // 0: what is signed is not hashed before
	identifier []byte      // AlgorithmIdentifier in DER: RFC 4055, section 5; RFC 5758, section 3.2; RFC 8410, section 3
}

var (
	sha256WithRSA = signature{x509.SHA256WithRSA, crypto.SHA256, []byte{0x30, 13, 0x06, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 11, 0x05, 0}}
	ecdsaSHA256   = signature{x509.ECDSAWithSHA256, crypto.SHA256, []byte{0x30, 10, 0x06, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 2}}
	ecdsaSHA384   = signature{x509.ECDSAWithSHA384, crypto.SHA384, []byte{0x30, 10, 0x06, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 3}}
	ecdsaSHA512   = signature{x509.ECDSAWithSHA512, crypto.SHA512, []byte{0x30, 10, 0x06, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 4}}
	pureEd25519   = signature{x509.PureEd25519, 0, []byte{0x30, 5, 0x06, 3, 0x2b, 0x65, 112}}
)

// signatureOf returns how the holder of a key signs.
func signatureOf(pub crypto.PublicKey) (signature, error) {
	switch k := pub.(type) {
	case *rsa.PublicKey:
		return sha256WithRSA, nil
	case ed25519.PublicKey:
		return pureEd25519, nil
	case *ecdsa.PublicKey:
		switch k.Curve {
		case elliptic.P256():
			return ecdsaSHA256, nil
		case elliptic.P384():
			return ecdsaSHA384, nil
		case elliptic.P521():
			return ecdsaSHA512, nil
		}
	}
	return signature{}, fmt.Errorf("a key of kind %T cannot sign CRLs", pub)
}

const (
	headroom = 16   // before TBSCertList, for the header of the CertificateList
	tailroom = 1100 // after it, for the algorithm and the signature of the largest key
)

// assemble returns the signed CertificateList, RFC 5280, section 5.1, in DER.
func (c CRL) assemble(p pair) ([]byte, error) {
	if p.cert.KeyUsage&x509.KeyUsageCRLSign == 0 || len(p.cert.SubjectKeyId) == 0 {
		return nil, errors.New("the CA's certificate has no subjectKeyIdentifier, or is not for signing CRLs")
	}
	alg, err := signatureOf(p.cert.PublicKey)
	if err != nil {
		return nil, err
	}
	head, err := c.head(p.cert, alg)
	if err != nil {
		return nil, err
	}
	tail, err := c.tail(p.cert)
	if err != nil {
		return nil, err
	}
	n := len(head) + len(tail)
	var open []byte // the header of revokedCertificates, which is absent when it would be empty
	if c.Entries.Size() > 0 {
		open = appendHeader(nil, 0x30, c.Entries.Size())
		n += len(open) + c.Entries.Size()
	}
	buf := make([]byte, headroom, headroom+8+n+tailroom)
	buf = appendHeader(buf, 0x30, n)
	buf = append(append(append(append(buf, head...), open...), c.Entries.der...), tail...)
	sig, err := alg.sign(p.key, buf[headroom:])
	if err != nil {
		return nil, err
	}
	buf = append(buf, alg.identifier...)
	buf = append(appendHeader(buf, 0x03, len(sig)+1), 0)
	buf = append(buf, sig...)
	outer := appendHeader(nil, 0x30, len(buf)-headroom)
	start := headroom - len(outer)
	copy(buf[start:], outer)
	return buf[start:], nil
}

func (s signature) sign(key crypto.Signer, tbs []byte) ([]byte, error) {
	if s.hash == 0 {
		return key.Sign(rand.Reader, tbs, crypto.Hash(0))
	}
	h := s.hash.New()
	h.Write(tbs)
	return key.Sign(rand.Reader, h.Sum(nil), s.hash)
}

// head encodes what stands before the entries: version 2, algorithm, issuer and times.
func (c CRL) head(ca *x509.Certificate, alg signature) ([]byte, error) {
	return der(func(b *cryptobyte.Builder) {
		b.AddASN1Int64(1)
		b.AddBytes(alg.identifier)
		b.AddBytes(ca.RawSubject)
		addTime(b, c.ThisUpdate)
		addTime(b, c.NextUpdate)
	})
}

// addTime encodes a Time, RFC 5280, section 5.1.2.4: UTCTime through 2049.
func addTime(b *cryptobyte.Builder, t time.Time) {
	if t.Year() < 2050 {
		b.AddASN1UTCTime(t)
		return
	}
	b.AddASN1GeneralizedTime(t)
}

// tail encodes what stands behind the entries: the extensions.
func (c CRL) tail(ca *x509.Certificate) ([]byte, error) {
	return der(func(b *cryptobyte.Builder) {
		b.AddASN1(tag0Cons, func(b *cryptobyte.Builder) {
			b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
				addExtension(b, oidAuthorityKeyID, false, func(b *cryptobyte.Builder) {
					b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) { addString(b, tag0, string(ca.SubjectKeyId)) })
				})
				addExtension(b, oidCRLNumber, false, func(b *cryptobyte.Builder) { b.AddASN1BigInt(c.Number) })
				if c.BaseNumber != nil {
					addExtension(b, oidDeltaIndicator, true, func(b *cryptobyte.Builder) { b.AddASN1BigInt(c.BaseNumber) }) // section 5.2.4
				}
				if c.FreshestURL != "" {
					addExtension(b, oidFreshestCRL, false, func(b *cryptobyte.Builder) {
						value, err := distributionPoint(c.FreshestURL)
						if err != nil {
							b.SetError(err)
						}
						b.AddBytes(value)
					})
				}
				if !c.NextPublish.IsZero() {
					addExtension(b, oidNextCRLPublish, false, func(b *cryptobyte.Builder) { addTime(b, c.NextPublish) })
				}
			})
		})
	})
}

func addExtension(b *cryptobyte.Builder, id asn1.ObjectIdentifier, critical bool, value cryptobyte.BuilderContinuation) {
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1ObjectIdentifier(id)
		if critical {
			b.AddASN1Boolean(true) // false is the default, which DER leaves out
		}
		b.AddASN1(cbasn1.OCTET_STRING, value)
	})
}

// appendHeader appends tag and length of n octets.
func appendHeader(dst []byte, tag byte, n int) []byte {
	dst = append(dst, tag)
	if n < 128 {
		return append(dst, byte(n))
	}
	size := 1
	for n>>(8*size) > 0 {
		size++
	}
	dst = append(dst, 0x80|byte(size))
	for i := size - 1; i >= 0; i-- {
		dst = append(dst, byte(n>>(8*i)))
	}
	return dst
}

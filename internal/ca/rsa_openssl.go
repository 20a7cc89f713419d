//go:build openssl

package ca

import (
	"crypto"
	"crypto/rsa"
	"crypto/subtle"
	"errors"
	"fmt"
	"io"

	"github.com/golang-fips/openssl/v2"
	"github.com/golang-fips/openssl/v2/bbig"
)

// libcrypto is the library of OpenSSL 3, which is loaded when the first RSA key is: its ABI holds for all versions 3.
const libcrypto = "libcrypto.so.3"

// accelerate lets OpenSSL do the private operations of an RSA key that was read from a file. On processors with AVX-512 it takes a quarter of the time of
// crypto/rsa; an enrolment needs two of them, three with an RSA issuing key. Other keys are returned as they are.
func accelerate(s crypto.Signer) (crypto.Signer, error) {
	key, ok := s.(*rsa.PrivateKey)
	if !ok || len(key.Primes) != 2 {
		return s, nil
	}
	if err := openssl.Init(libcrypto); err != nil {
		return nil, fmt.Errorf("this binary was built with -tags openssl and needs OpenSSL 3 (Debian: libssl3): %w", err)
	}
	p := &key.Precomputed
	native, err := openssl.NewPrivateKeyRSA(bbig.Enc(key.N), openssl.BigInt{uint(key.E)}, bbig.Enc(key.D), bbig.Enc(key.Primes[0]), bbig.Enc(key.Primes[1]),
		bbig.Enc(p.Dp), bbig.Enc(p.Dq), bbig.Enc(p.Qinv))
	if err != nil {
		return nil, fmt.Errorf("hand an RSA key to %s: %w", openssl.VersionText(), err)
	}
	return &nativeRSA{key, native}, nil
}

// nativeRSA is an RSA key of this process whose signatures of RSASSA-PKCS1-v1_5 and session keys of RSAES-PKCS1-v1_5 are computed by OpenSSL. What else
// is asked of it, crypto/rsa does.
type nativeRSA struct {
	key    *rsa.PrivateKey
	native *openssl.PrivateKeyRSA
}

// Public implements crypto.Signer.
func (k *nativeRSA) Public() crypto.PublicKey { return &k.key.PublicKey }

// Sign implements crypto.Signer (RFC 8017, section 8.2.1).
func (k *nativeRSA) Sign(random io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	if _, pss := opts.(*rsa.PSSOptions); pss || opts.HashFunc() == 0 {
		return k.key.Sign(random, digest, opts)
	}
	if len(digest) != opts.HashFunc().Size() {
		return nil, errors.New("rsa: the digest has another length than its hash")
	}
	return openssl.SignRSAPKCS1v15(k.native, opts.HashFunc(), digest)
}

// Decrypt implements crypto.Decrypter. A session key (rsa.PKCS1v15DecryptOptions.SessionKeyLen) is what RFC 8017, section 7.2.2, finds, or a random one in its
// place, in the same time: OpenSSL before 3.2 tells bad padding by an error, and so it is asked for the bare number and the padding is read here.
func (k *nativeRSA) Decrypt(random io.Reader, msg []byte, opts crypto.DecrypterOpts) ([]byte, error) {
	o, ok := opts.(*rsa.PKCS1v15DecryptOptions)
	if !ok || o.SessionKeyLen <= 0 || o.SessionKeyLen > k.key.Size()-11 || len(msg) != k.key.Size() {
		return k.key.Decrypt(random, msg, opts)
	}
	session := make([]byte, o.SessionKeyLen)
	if _, err := io.ReadFull(random, session); err != nil {
		return nil, err
	}
	padded, err := openssl.DecryptRSANoPadding(k.native, msg)
	if err != nil || len(padded) != k.key.Size() {
		return nil, rsa.ErrDecryption // the number is not below the modulus, which everybody can see
	}
	defer clear(padded)
	unpadSession(session, padded)
	return session, nil
}

// unpadSession replaces session by the end of padded where that is 00 02 PS 00 session, PS without zeros, in a time that does not depend on it.
func unpadSession(session, padded []byte) {
	end := len(padded) - len(session)
	valid := subtle.ConstantTimeByteEq(padded[0], 0) & subtle.ConstantTimeByteEq(padded[1], 2) & subtle.ConstantTimeByteEq(padded[end-1], 0)
	for _, b := range padded[2 : end-1] {
		valid &= subtle.ConstantTimeByteEq(b, 0) ^ 1
	}
	subtle.ConstantTimeCopy(valid, session, padded[end:])
}

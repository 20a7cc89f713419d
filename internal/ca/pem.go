package ca

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"

	"go.step.sm/crypto/pemutil"
)

// ErrPassphrase is why a key file was not opened: another passphrase than the one it was written with, or damage, which look the same.
var ErrPassphrase = errors.New("wrong passphrase, or a damaged file")

// encryptKey encodes a key as encrypted PKCS #8 (RFC 5958, section 3): PBES2 of RFC 8018, section 6.2, with PBKDF2 of 600,000 rounds of
// HMAC-SHA-256 and AES-256.
func encryptKey(key crypto.Signer, p Passphrase) ([]byte, error) {
	if p.secret == "" {
		return nil, errors.New("no passphrase")
	}
	plain, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	defer clear(plain)
	block, err := pemutil.EncryptPKCS8PrivateKey(rand.Reader, plain, []byte(p.secret), x509.PEMCipherAES256)
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(block), nil
}

func decryptKey(data []byte, p Passphrase) (crypto.Signer, error) {
	block, rest := pem.Decode(data)
	if block == nil || block.Type != "ENCRYPTED PRIVATE KEY" || len(rest) != 0 {
		return nil, errors.New("not one encrypted PKCS #8 key in PEM")
	}
	plain, err := pemutil.DecryptPKCS8PrivateKey(block.Bytes, []byte(p.secret))
	if err != nil {
		return nil, fmt.Errorf("%w: %v", ErrPassphrase, err)
	}
	defer clear(plain)
	key, err := x509.ParsePKCS8PrivateKey(plain)
	if err != nil {
		return nil, ErrPassphrase // the error would quote what was decrypted
	}
	signer, ok := key.(crypto.Signer)
	if !ok {
		return nil, fmt.Errorf("a %T cannot sign", key)
	}
	return signer, nil
}

// openKey decrypts a key to work with. It may compute by other means than the one that decryptKey returns, and cannot be written again.
func openKey(data []byte, p Passphrase) (crypto.Signer, error) {
	key, err := decryptKey(data, p)
	if err != nil {
		return nil, err
	}
	return accelerate(key)
}

func encodeCertificates(certs ...*x509.Certificate) []byte {
	var out []byte
	for _, c := range certs {
		out = append(out, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})...)
	}
	return out
}

// maxChain bounds the certificates in one file.
const maxChain = 8

// decodeCertificates reads one certificate in PEM, and its chain behind it if there is one.
func decodeCertificates(data []byte) (list []*x509.Certificate, err error) {
	for len(bytes.TrimSpace(data)) > 0 {
		var block *pem.Block
		if block, data = pem.Decode(data); block == nil || block.Type != "CERTIFICATE" {
			return nil, errors.New("not certificates in PEM")
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, err
		}
		if list = append(list, c); len(list) > maxChain {
			return nil, fmt.Errorf("more than %d certificates", maxChain)
		}
	}
	if list == nil {
		return nil, errors.New("no certificate in PEM")
	}
	return list, nil
}

package ca

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"testing"
	"time"

	"github.com/smallstep/pkcs7"
)

// FuzzReadChain: whatever a corporate CA answers, it is certificates, at most maxChain, or an error.
func FuzzReadChain(f *testing.F) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		f.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		f.Fatal(err)
	}
	p7b, err := pkcs7.DegenerateCertificate(der)
	if err != nil {
		f.Fatal(err)
	}
	for _, label := range []string{"CERTIFICATE", "PKCS7"} {
		f.Add(pem.EncodeToMemory(&pem.Block{Type: label, Bytes: p7b}))
	}
	f.Add(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	f.Add(p7b)
	f.Fuzz(func(t *testing.T, answer []byte) {
		list, err := readChain(answer)
		if err == nil && (len(list) == 0 || len(list) > maxChain) {
			t.Errorf("%d certificates", len(list))
		}
		for _, c := range list {
			if err == nil && c == nil {
				t.Error("no certificate")
			}
		}
	})
}

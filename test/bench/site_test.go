package bench

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.step.sm/crypto/pemutil"

	"postern/internal/registry"
	"postern/internal/registry/bolt"
	"postern/internal/trust"
	"postern/test/scep"
)

var operator = trust.Principal{Kind: "cli", Name: "bench", Role: trust.Root}

// site is a Postern whose registry can be filled while it is not running.
type site struct{ *scep.Postern }

// newSite makes a Postern that has run once, so that its registry knows its CAs.
func newSite(b *testing.B, binary string) *site {
	b.Helper()
	p, err := scep.NewPostern(dir(b), scep.PosternOptions{Binary: binary})
	if err != nil {
		b.Fatal(err)
	}
	return &site{p}
}

func (s *site) start(b *testing.B) {
	b.Helper()
	if err := s.Start(); err != nil {
		b.Fatal(err)
	}
}

func (s *site) stop(b *testing.B) {
	b.Helper()
	if err := s.Stop(); err != nil {
		b.Fatal(err)
	}
}

// opened gives the registry to fn. The server must not run.
func (s *site) opened(b *testing.B, fn func(*registry.Registry)) {
	b.Helper()
	log := slog.New(slog.DiscardHandler)
	store, err := bolt.Open(filepath.Join(s.Dir, "var", "registry.db"), bolt.Options{Log: log})
	if err != nil {
		b.Fatal(err)
	}
	fn(registry.New(store, time.Now, log))
	if err := store.Close(); err != nil {
		b.Fatal(err)
	}
}

// applicants adds devices with a challenge each, by the registry's rules.
func (s *site) applicants(b *testing.B, n int) []scep.Applicant {
	b.Helper()
	all := make([]scep.Applicant, n)
	batch := scep.NewTransactionID()[:8]
	s.opened(b, func(r *registry.Registry) {
		each(b, n, func(i int) error {
			a := &all[i]
			a.Mail, a.SerialNumber = fmt.Sprintf("applicant%d.%s@%s", i, batch, scep.Domain), fmt.Sprintf("%s%d", batch, i)
			d, err := r.AddDevice(context.Background(), operator, registry.NewDevice{
				Device: trust.Device{Issuer: scep.Issuer, SerialNumber: a.SerialNumber, Managed: true, Compliant: trust.ComplianceUnsure, Source: "admin"},
				Owner:  trust.Owner{Mail: a.Mail}})
			if err != nil {
				return err
			}
			a.Challenge, _, err = r.CreateChallenge(context.Background(), operator, d.ID, time.Hour)
			return err
		})
	})
	return all
}

// useRSA gives the issuer an issuing key of RSA 2048 in place of P-256, for a comparison with equal kinds of keys.
func (s *site) useRSA(b *testing.B) {
	b.Helper()
	keys := filepath.Join(s.Dir, "var", "issuers", scep.Issuer)
	passphrase, err := os.ReadFile(filepath.Join(s.Dir, "var", "passphrase"))
	if err != nil {
		b.Fatal(err)
	}
	secret := []byte(strings.TrimSpace(string(passphrase)))
	root, issuing, ra := readCert(b, keys, "root"), readCert(b, keys, "issuing"), readCert(b, keys, "ra")
	rootKey, raKey := readKey(b, keys, "root", secret), readKey(b, keys, "ra", secret)
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		b.Fatal(err)
	}
	template := *issuing
	template.SignatureAlgorithm, template.PublicKey = 0, nil
	newIssuing, err := scep.Certify(&template, root, key.Public(), rootKey)
	if err != nil {
		b.Fatal(err)
	}
	template = *ra
	template.SignatureAlgorithm, template.PublicKey = 0, nil
	newRA, err := scep.Certify(&template, newIssuing, raKey.Public(), key)
	if err != nil {
		b.Fatal(err)
	}
	plain, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		b.Fatal(err)
	}
	block, err := pemutil.EncryptPKCS8PrivateKey(rand.Reader, plain, secret, x509.PEMCipherAES256)
	if err != nil {
		b.Fatal(err)
	}
	for name, data := range map[string][]byte{"issuing.key": pem.EncodeToMemory(block), "issuing.crt": encode(newIssuing), "ra.crt": encode(newRA)} {
		if err := os.WriteFile(filepath.Join(keys, name), data, 0o600); err != nil {
			b.Fatal(err)
		}
	}
}

func encode(c *x509.Certificate) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})
}

func readCert(b *testing.B, dir, name string) *x509.Certificate {
	b.Helper()
	block := readPEM(b, filepath.Join(dir, name+".crt"))
	c, err := x509.ParseCertificate(block)
	if err != nil {
		b.Fatal(err)
	}
	return c
}

func readKey(b *testing.B, dir, name string, secret []byte) crypto.Signer {
	b.Helper()
	plain, err := pemutil.DecryptPKCS8PrivateKey(readPEM(b, filepath.Join(dir, name+".key")), secret)
	if err != nil {
		b.Fatal(err)
	}
	key, err := x509.ParsePKCS8PrivateKey(plain)
	if err != nil {
		b.Fatal(err)
	}
	return key.(crypto.Signer)
}

func readPEM(b *testing.B, path string) []byte {
	b.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		b.Fatal(err)
	}
	block, _ := pem.Decode(data)
	if block == nil {
		b.Fatalf("%s is not PEM", path)
	}
	return block.Bytes
}

package scep

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"time"
)

// StepCAOptions say what step-ca is to be like.
type StepCAOptions struct {
	Binary   string
	RSA      bool   // a 2048 bit RSA intermediate, which also opens the envelopes; otherwise P-256 with an RSA decrypter
	Database string // badgerv2 (what `step ca init` chooses) or bbolt
}

// StepCA is an installation of step-ca in a directory, with one SCEP provisioner that has a static challenge.
type StepCA struct {
	URL, Challenge string
	binary, dir    string
	serve          *process
}

// NewStepCA makes keys and ca.json as `step ca init` and `step ca provisioner add --type SCEP` do, with AES instead of the default, single DES.
func NewStepCA(dir string, o StepCAOptions) (*StepCA, error) {
	s := &StepCA{Challenge: "static-secret", binary: o.Binary, dir: dir}
	authority, err := newHierarchy(dir, o.RSA)
	if err != nil {
		return nil, err
	}
	tls, err := freeAddress()
	if err != nil {
		return nil, err
	}
	plain, err := freeAddress()
	if err != nil {
		return nil, err
	}
	provisioner := map[string]any{
		"type": "SCEP", "name": "devices", "challenge": s.Challenge, "minimumPublicKeyLength": 2048, "encryptionAlgorithmIdentifier": 1,
		"claims": map[string]any{"maxTLSCertDuration": "8760h", "defaultTLSCertDuration": "2160h"},
	}
	if !o.RSA {
		provisioner["decrypterCertificate"], provisioner["decrypterKeyPEM"] = authority.decrypter, authority.decrypterKey
	}
	config, err := json.MarshalIndent(map[string]any{
		"root": filepath.Join(dir, "root.crt"), "crt": filepath.Join(dir, "ca.crt"), "key": filepath.Join(dir, "ca.key"),
		"address": tls, "insecureAddress": plain, "dnsNames": []string{"localhost"}, "logger": map[string]any{"format": "text"},
		"db":        map[string]any{"type": o.Database, "dataSource": filepath.Join(dir, "db")},
		"authority": map[string]any{"provisioners": []any{provisioner}},
	}, "", "  ")
	if err != nil {
		return nil, err
	}
	s.URL = "http://" + plain + "/scep/devices"
	return s, os.WriteFile(filepath.Join(dir, "ca.json"), config, 0o600)
}

// Start runs step-ca until it is ready.
func (s *StepCA) Start() error {
	cmd := exec.Command(s.binary, filepath.Join(s.dir, "ca.json"))
	cmd.Env = append(os.Environ(), "STEPPATH="+s.dir)
	var err error
	s.serve, err = start(cmd, filepath.Join(s.dir, "serve.log"), func(out []byte) bool { return bytes.Contains(out, []byte("Serving HTTP on")) })
	return err
}

// Stop ends it.
func (s *StepCA) Stop() error { return s.serve.stop() }

// CPU is the processor time that it has used since its start; 0 where the system does not tell.
func (s *StepCA) CPU() time.Duration { return s.serve.cpu() }

// Tail returns the end of its log.
func (s *StepCA) Tail() string { return s.serve.tail() }

// hierarchy is what step-ca needs besides the files: its SCEP decrypter, in PEM.
type hierarchy struct{ decrypter, decrypterKey []byte }

// newHierarchy writes root.crt, ca.crt and ca.key.
func newHierarchy(dir string, useRSA bool) (h hierarchy, err error) {
	rootKey, err := newKey(useRSA)
	if err != nil {
		return h, err
	}
	caKey, err := newKey(useRSA)
	if err != nil {
		return h, err
	}
	root := authorityTemplate("Peer Root CA", 1)
	rootCert, err := Certify(root, root, rootKey.Public(), rootKey)
	if err != nil {
		return h, err
	}
	ca := authorityTemplate("Peer Intermediate CA", 0)
	if useRSA {
		ca.KeyUsage |= x509.KeyUsageDigitalSignature | x509.KeyUsageKeyEncipherment
	}
	caCert, err := Certify(ca, rootCert, caKey.Public(), rootKey)
	if err != nil {
		return h, err
	}
	for name, data := range map[string][]byte{"root.crt": pemCert(rootCert), "ca.crt": pemCert(caCert)} {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			return h, err
		}
	}
	keyPEM, err := pemKey(caKey)
	if err != nil {
		return h, err
	}
	if err := os.WriteFile(filepath.Join(dir, "ca.key"), keyPEM, 0o600); err != nil || useRSA {
		return h, err
	}
	ra, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return h, err
	}
	raCert, err := Certify(&x509.Certificate{SerialNumber: big.NewInt(3), Subject: pkix.Name{CommonName: "Peer SCEP RA"}, NotBefore: time.Now().Add(-time.Hour),
		NotAfter: time.Now().AddDate(1, 0, 0), KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageKeyEncipherment}, caCert, ra.Public(), caKey)
	if err != nil {
		return h, err
	}
	h.decrypter = pemCert(raCert)
	h.decrypterKey, err = pemKey(ra)
	return h, err
}

func newKey(useRSA bool) (crypto.Signer, error) {
	if useRSA {
		return rsa.GenerateKey(rand.Reader, 2048)
	}
	return ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
}

func authorityTemplate(name string, below int) *x509.Certificate {
	serial := NewNonce()
	serial[0] &= 0x7f
	return &x509.Certificate{SerialNumber: new(big.Int).SetBytes(serial), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour),
		NotAfter: time.Now().AddDate(10, 0, 0), KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign, BasicConstraintsValid: true, IsCA: true,
		MaxPathLen: below, MaxPathLenZero: below == 0}
}

func pemCert(c *x509.Certificate) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})
}

func pemKey(key crypto.Signer) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("encode key: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}

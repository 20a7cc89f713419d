package ca_test

import (
	"bytes"
	"encoding/pem"
	"os"
	"path/filepath"
	"testing"
	"time"

	"postern/internal/ca"
	"postern/internal/ca/catest"
	"postern/internal/peertest"
)

// A company's CA answers with a .p7b as often as with PEM: in DER, in PEM, and in PEM under the label of a certificate, as AD CS does.
func TestImportPKCS7(t *testing.T) {
	c := newCompany(t)
	for what, wrap := range map[string]func(p7 []byte) []byte{
		"DER":         func(p7 []byte) []byte { return p7 },
		"PEM":         func(p7 []byte) []byte { return pem.EncodeToMemory(&pem.Block{Type: "PKCS7", Bytes: p7}) },
		"CMS":         func(p7 []byte) []byte { return pem.EncodeToMemory(&pem.Block{Type: "CMS", Bytes: p7}) },
		"certificate": func(p7 []byte) []byte { return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: p7}) },
		"with CRLF": func(p7 []byte) []byte {
			return bytes.ReplaceAll(pem.EncodeToMemory(&pem.Block{Type: "PKCS7", Bytes: p7}), []byte("\n"), []byte("\r\n"))
		},
		"BER": func(p7 []byte) []byte { // the outer SEQUENCE of indefinite length
			return append(append([]byte{0x30, 0x80}, p7[4:]...), 0, 0)
		},
	} {
		t.Run(what, func(t *testing.T) {
			d := &disk{t: t, dir: filepath.Join(t.TempDir(), "contoso"), phrase: phrase(t, "x")}
			d.clock.Store(time.Now().Unix())
			path, err := ca.CSR(d.dir, catest.Spec(), d.phrase)
			d.must(err)
			p7 := degenerate(t, c.sign(t, path, nil))
			for cut, bad := range map[string][]byte{"cut off": p7[:len(p7)/2], "alone": p7[:17], "of others": degenerate(t, pemOf(c.root, c.between))} {
				if err := ca.Import(d.dir, catest.Spec(), d.phrase, d.now(), wrap(bad)); err == nil {
					t.Errorf("%s: imported", cut)
				}
			}
			d.must(ca.Import(d.dir, catest.Spec(), d.phrase, d.now(), wrap(p7)))
			d.open()
			if chain := d.Chain(); len(chain) != 3 || !chain[1].Equal(c.between) || !chain[2].Equal(c.root) {
				t.Errorf("chain %v", chain)
			}
		})
	}
}

// degenerate is a .p7b of certificates in PEM, as OpenSSL writes it.
func degenerate(t *testing.T, chain []byte) []byte {
	t.Helper()
	file := filepath.Join(t.TempDir(), "chain.pem")
	if err := os.WriteFile(file, chain, 0o600); err != nil {
		t.Fatal(err)
	}
	out, ok := run(t, peertest.Find(t, "openssl"), "crl2pkcs7", "-nocrl", "-certfile", file, "-outform", "DER")
	if !ok {
		t.Fatal(out)
	}
	return []byte(out)
}

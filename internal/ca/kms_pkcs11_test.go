//go:build pkcs11

package ca_test

import (
	"bytes"
	"crypto"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1" //nolint:gosec // the default of RSAES-OAEP
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"postern/internal/ca"
	"postern/internal/ca/catest"
	"postern/internal/peertest"
	"postern/internal/trust"
)

// token makes a SoftHSM token and returns the URI of keys in it, without their names, and its PIN's file. SoftHSM reads its configuration from the environment of
// the process, so there is one token for the test.
func token(t *testing.T) (uri func(object string) string, pinFile string) {
	t.Helper()
	util := peertest.Find(t, "softhsm2-util")
	dir := t.TempDir()
	module := ""
	for _, path := range []string{"/usr/lib/softhsm/libsofthsm2.so", "/usr/lib64/pkcs11/libsofthsm2.so", "/usr/local/lib/softhsm/libsofthsm2.so", "/opt/homebrew/lib/softhsm/libsofthsm2.so"} {
		if _, err := os.Stat(path); err == nil {
			module = path
		}
	}
	if module == "" {
		t.Fatal("softhsm2-util is there and its library is not")
	}
	for name, text := range map[string]string{
		"softhsm2.conf": fmt.Sprintf("directories.tokendir = %s\nobjectstore.backend = file\nlog.level = ERROR\nslots.removable = false\n", dir),
		"pin":           "271828\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("SOFTHSM2_CONF", filepath.Join(dir, "softhsm2.conf"))
	if out, ok := run(t, util, "--init-token", "--free", "--label", "postern", "--pin", "271828", "--so-pin", "314159"); !ok {
		t.Fatal(out)
	}
	pinFile = filepath.Join(dir, "pin")
	return func(object string) string {
		return "pkcs11:module-path=" + module + ";token=postern;object=" + object + "?pin-source=" + pinFile
	}, pinFile
}

// Issuing CA and RA live in a token: they issue, sign CRLs, certify the OCSP responder, open what SCEP encrypts, and are rotated.
func TestPKCS11(t *testing.T) {
	uri, pinFile := token(t)
	p, dir, spec := phrase(t, "x"), filepath.Join(t.TempDir(), "contoso"), catest.Spec()
	spec.Keys = ca.Keys{Root: uri("root"), Issuing: uri("issuing-{n}"), RA: uri("ra-{n}")}
	now := time.Now
	if err := ca.Create(dir, spec, p, now()); err != nil {
		t.Fatal(err)
	}
	if keys, _ := filepath.Glob(filepath.Join(dir, "*.key")); keys != nil {
		t.Errorf("keys on disk: %v", keys)
	}
	if stored, err := os.ReadFile(filepath.Join(dir, "issuing.uri")); err != nil || strings.Contains(string(stored), "271828") || !strings.Contains(string(stored), "object=issuing-1") {
		t.Errorf("%s %v", stored, err)
	}
	d := &disk{t: t, dir: dir, phrase: p}
	d.clock.Store(now().Unix())
	i, err := ca.Open(dir, spec, p, d.now, quiet)
	d.must(err)
	t.Cleanup(func() { _ = i.Close() })
	d.Issuer = i
	got := issue(t, i, catest.Request(t, i, "alice@contoso.com", ecKey(t, elliptic.P256())))
	d.openssl(got.Cert)
	d.must(d.crl(ca.IssuingCA))
	d.must(d.crl(ca.RootCA))
	id, err := i.CertID(ca.IssuingCA, crypto.SHA256, got.Cert.SerialNumber)
	d.must(err)
	_, err = i.SignOCSP(t.Context(), ca.IssuingCA, nil, good(id, d.now()))
	d.must(err)
	tokenDecrypts(t, i)
	var wg sync.WaitGroup
	for range 4 {
		r := catest.Request(t, i, "alice@contoso.com", ecKey(t, elliptic.P256()))
		wg.Go(func() {
			for range 5 {
				if _, err := i.Issue(t.Context(), r); err != nil {
					t.Error(err)
				}
			}
		})
	}
	d.must(ca.Rotate(dir, spec, p, d.now(), ca.RotateIssuing))
	d.must(ca.Activate(dir, d.now()))
	d.reload()
	wg.Wait()
	after := issue(t, i, catest.Request(t, i, "alice@contoso.com", ecKey(t, elliptic.P256())))
	if after.Record.CA != "issuing-2" {
		t.Errorf("issued by %s", after.Record.CA)
	}
	d.openssl(after.Cert)
	d.must(d.crl(ca.IssuingCA))
	tokenRefuses(t, uri, pinFile, dir, spec, p)
}

// tokenDecrypts: the RA's key opens PKCS #1 v1.5 and OAEP, and says nothing of bad padding.
func tokenDecrypts(t *testing.T, i *ca.Issuer) {
	t.Helper()
	key := i.RAKey()
	pub, secret := key.Public().(*rsa.PublicKey), []byte("0123456789abcdef")
	sealed, err := rsa.EncryptPKCS1v15(rand.Reader, pub, secret)
	if err != nil {
		t.Fatal(err)
	}
	for _, opts := range []crypto.DecrypterOpts{nil, &rsa.PKCS1v15DecryptOptions{SessionKeyLen: 16}} {
		if got, err := key.Decrypt(rand.Reader, sealed, opts); err != nil || !bytes.Equal(got, secret) {
			t.Errorf("%v: %x %v", opts, got, err)
		}
	}
	for what, bad := range map[string][]byte{"damaged": append([]byte{sealed[0] ^ 1}, sealed[1:]...), "short": sealed[1:], "nothing": nil} {
		got, err := key.Decrypt(rand.Reader, bad, &rsa.PKCS1v15DecryptOptions{SessionKeyLen: 16})
		if err != nil || len(got) != 16 || bytes.Equal(got, secret) {
			t.Errorf("%s: %x %v", what, got, err)
		}
	}
	if got, err := key.Decrypt(rand.Reader, sealed, &rsa.PKCS1v15DecryptOptions{SessionKeyLen: 32}); err != nil || len(got) != 32 {
		t.Errorf("another length: %x %v", got, err)
	}
	if sealed, err = rsa.EncryptOAEP(sha1.New(), rand.Reader, pub, secret, nil); err != nil { //nolint:gosec // see the import
		t.Fatal(err)
	}
	if got, err := key.Decrypt(rand.Reader, sealed, &rsa.OAEPOptions{Hash: crypto.SHA1, MGFHash: crypto.SHA1}); err != nil || !bytes.Equal(got, secret) {
		t.Errorf("OAEP: %x %v", got, err)
	}
}

func tokenRefuses(t *testing.T, uri func(string) string, pinFile, dir string, spec ca.Spec, p ca.Passphrase) {
	t.Helper()
	same := spec
	same.Keys.Issuing = uri("issuing-1")
	if err := ca.Rotate(dir, same, p, time.Now(), ca.RotateIssuing); !errors.Is(err, trust.ErrConflict) {
		t.Errorf("the old key again: %v", err)
	}
	ec := spec
	ec.Keys.RA = uri("issuing-1")
	if err := ca.Create(filepath.Join(t.TempDir(), "x"), ec, p, time.Now()); err == nil {
		t.Error("an EC key is an RA's")
	}
	if err := os.Chmod(pinFile, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := ca.Open(dir, spec, p, time.Now, quiet); err == nil || !strings.Contains(err.Error(), "chmod 600") {
		t.Errorf("a PIN for everybody: %v", err)
	}
	if err := os.Remove(pinFile); err != nil {
		t.Fatal(err)
	}
	if _, err := ca.Open(dir, spec, p, time.Now, quiet); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("without PIN: %v", err)
	}
}

package ca_test

import (
	"crypto/elliptic"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"postern/internal/ca"
	"postern/internal/ca/catest"
	"postern/internal/trust"
)

func TestKeyURIs(t *testing.T) {
	t.Parallel()
	for uri, want := range map[string]string{
		"":                           "",
		"file:/keys/issuing-{n}.key": "",
		"file:///keys/issuing.key":   "",
		"pkcs11:token=t;object=o?pin-source=/pin":                 "",
		"awskms:name=x-{n};region=eu-central-1":                   "",
		"azurekms:name=x;vault=v":                                 "",
		"cloudkms:projects/p/locations/l/keyRings/r/cryptoKeys/k": "",
		"issuing.key":                            "want file:, pkcs11:",
		"vault:x":                                `kind "vault"`,
		"file:":                                  "want file:/path",
		"file://host/x":                          "want file:/path",
		"pkcs11:token=t;object=o?pin-value=1234": "pin-source",
		"pkcs11:token=t;object=o?PIN-VALUE=1234": "pin-source",
		"pkcs11:token=t;object=o?pin-prompt=x":   "pin-source",
		"awskms:name=x;secret-access-key=1234":   "pin-source",
		"pkcs11:token=a b":                       "without blanks",
		"pkcs11:" + strings.Repeat("x", 2048):    "2048",
	} {
		spec := catest.Spec()
		spec.Keys.Issuing = uri
		err := spec.Check()
		switch {
		case want == "" && err != nil:
			t.Errorf("%s: %v", uri, err)
		case want != "" && (!errors.Is(err, trust.ErrInvalid) || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "1234")):
			t.Errorf("%s: %v", uri, err)
		}
	}
	spec := catest.Spec()
	spec.Keys.RA = "awskms:name=x"
	if err := spec.Check(); !errors.Is(err, trust.ErrInvalid) {
		t.Errorf("RA in a cloud: %v", err)
	}
}

// Keys of files elsewhere: each generation has its own, and moving the configuration moves no key.
func TestKeyFilesElsewhere(t *testing.T) {
	t.Parallel()
	p, keys := phrase(t, "x"), t.TempDir()
	spec, dir := catest.Spec(), filepath.Join(t.TempDir(), "contoso")
	spec.Keys = ca.Keys{Issuing: "file:" + filepath.Join(keys, "issuing-{n}.pem"), RA: "file://" + filepath.Join(keys, "ra.pem")}
	if err := ca.Create(dir, spec, p, time.Now()); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"issuing.key", "ra.key"} {
		if _, err := os.Stat(filepath.Join(dir, name)); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if info, err := os.Stat(filepath.Join(keys, "issuing-1.pem")); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v %v", info, err)
	}
	if err := ca.Rotate(dir, spec, p, time.Now(), ca.RotateRA); !errors.Is(err, fs.ErrExist) {
		t.Errorf("a URI without {n}: %v", err)
	}
	if err := ca.Create(filepath.Join(t.TempDir(), "again"), spec, p, time.Now()); !errors.Is(err, fs.ErrExist) {
		t.Errorf("another issuer's key file was taken: %v", err)
	}
	spec.Keys = ca.Keys{}
	if err := ca.Rotate(dir, spec, p, time.Now(), ca.RotateIssuing); err != nil {
		t.Fatal(err)
	}
	if err := ca.Activate(dir, time.Now()); err != nil {
		t.Fatal(err)
	}
	i, err := ca.Open(dir, spec, p, time.Now, quiet)
	if err != nil {
		t.Fatal(err)
	}
	defer i.Close()
	if got := issue(t, i, catest.Request(t, i, "alice@contoso.com", ecKey(t, elliptic.P256()))); got.Record.CA != "issuing-2" || len(i.Certificates()) != 3 {
		t.Errorf("%s", got.Record.CA)
	}
}

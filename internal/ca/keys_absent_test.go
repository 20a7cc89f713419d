//go:build !pkcs11 && !awskms && !azurekms && !cloudkms

package ca_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"postern/internal/ca"
	"postern/internal/ca/catest"
)

// A kind of key that is not in this binary is refused with the tag that brings it, and nothing is left behind.
func TestKeyKindsNotBuilt(t *testing.T) {
	t.Parallel()
	for _, tag := range []string{"pkcs11", "awskms", "azurekms", "cloudkms"} {
		spec, dir := catest.Spec(), filepath.Join(t.TempDir(), "contoso")
		spec.Keys.Issuing = tag + ":token=none;name=none;object=none;vault=none"
		err := ca.Create(dir, spec, phrase(t, "x"), time.Now())
		if err == nil || !strings.Contains(err.Error(), "-tags "+tag) {
			t.Errorf("%s: %v", tag, err)
		}
		if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: directory: %v", tag, err)
		}
	}
}

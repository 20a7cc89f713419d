package registry_test

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"postern/internal/registry"
	"postern/internal/registry/bolt"
	"postern/internal/trust"
)

func TestToken(t *testing.T) {
	w := newWorld(t)
	secret, tok, err := w.reg.CreateToken(t.Context(), root, "ci", trust.Auditor, time.Hour)
	w.must(err)
	p, err := w.reg.Authenticate(t.Context(), secret)
	w.must(err)
	if p != (trust.Principal{Kind: "token", Name: "ci", Role: trust.Auditor}) || tok.By != root || len(tok.ID) != 16 {
		t.Errorf("%+v, %+v", p, tok)
	}
	for _, s := range []string{"", " " + secret, strings.ToUpper(secret), secret[:len(secret)-1], tok.ID, "pst-" + tok.ID} {
		_, err := w.reg.Authenticate(t.Context(), s)
		w.want(err, trust.ErrForbidden)
	}
	w.pass(time.Hour - 1)
	_, err = w.reg.Authenticate(t.Context(), secret)
	w.must(err)
	w.pass(1)
	_, err = w.reg.Authenticate(t.Context(), secret)
	w.want(err, trust.ErrForbidden)
}

func TestRevokeToken(t *testing.T) {
	w := newWorld(t)
	secret, tok, err := w.reg.CreateToken(t.Context(), root, "ci", trust.PKIOfficer, time.Hour)
	w.must(err)
	other, _, err := w.reg.CreateToken(t.Context(), root, "ci", trust.PKIOfficer, time.Hour)
	w.must(err)
	for _, id := range []string{"", tok.ID[:8], tok.ID + "0", "0000000000000000", secret} {
		w.want(w.reg.RevokeToken(t.Context(), root, id), trust.ErrNotFound)
	}
	w.must(w.reg.RevokeToken(t.Context(), root, tok.ID))
	_, err = w.reg.Authenticate(t.Context(), secret)
	w.want(err, trust.ErrForbidden)
	_, err = w.reg.Authenticate(t.Context(), other)
	w.must(err)
	before := w.audits()
	w.must(w.reg.RevokeToken(t.Context(), root, tok.ID))
	if w.audits() != before {
		t.Error("revoked twice")
	}
	all, err := w.reg.Tokens(t.Context(), root)
	w.must(err)
	if len(all) != 2 {
		t.Errorf("tokens %+v", all)
	}
	for _, p := range []trust.Principal{officer, desk, author, auditor, scepDoor, nobody} {
		_, err := w.reg.Tokens(t.Context(), p)
		w.want(err, trust.ErrForbidden)
	}
}

func TestCreateTokenRefused(t *testing.T) {
	w := newWorld(t)
	for name, try := range map[string]struct {
		name string
		role trust.Role
		ttl  time.Duration
	}{
		"root": {"ci", trust.Root, time.Hour}, "no role": {"ci", "", time.Hour}, "unknown role": {"ci", "god", time.Hour}, "no name": {"", trust.Auditor, time.Hour},
		"long name": {strings.Repeat("x", 65), trust.Auditor, time.Hour}, "control in name": {"a\x1b[2J", trust.Auditor, time.Hour},
		"for ever": {"ci", trust.Auditor, registry.MaxTokenTTL + 1}, "too short": {"ci", trust.Auditor, time.Second}, "negative": {"ci", trust.Auditor, -time.Hour},
	} {
		if _, _, err := w.reg.CreateToken(t.Context(), root, try.name, try.role, try.ttl); err == nil {
			t.Errorf("%s: created", name)
		}
	}
}

// No secret is in the file: not of a challenge, spent or not, not of a token, not of a SCEP transaction.
func TestSecretsAtRest(t *testing.T) {
	file := filepath.Join(t.TempDir(), "registry.db")
	store, err := bolt.Open(file, bolt.Options{})
	if err != nil {
		t.Fatal(err)
	}
	w := newWorldOn(t, store)
	d := w.device("alice@contoso.com")
	open, spent := w.challenge(d.ID), w.challenge(d.ID)
	_, err = w.commit(w.first(d, spent))
	w.must(err)
	token, _, err := w.reg.CreateToken(t.Context(), root, "ci", trust.Auditor, time.Hour)
	w.must(err)
	w.must(store.Close())
	raw, err := os.ReadFile(file)
	w.must(err)
	if !bytes.Contains(raw, []byte(d.ID)) {
		t.Fatal("the file is not read as it should be")
	}
	for name, secret := range map[string]string{"open challenge": open, "spent challenge": spent, "token": token, "token without prefix": strings.TrimPrefix(token, "pst-")} {
		if bytes.Contains(bytes.ToLower(raw), bytes.ToLower([]byte(secret))) {
			t.Errorf("%s is in the file", name)
		}
	}
}

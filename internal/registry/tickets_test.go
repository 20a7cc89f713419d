package registry_test

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"postern/internal/registry"
	"postern/internal/registry/bolt"
	"postern/internal/trust"
)

// ticket makes a ticket for a device.
func (w *world) ticket(d trust.DeviceID) (string, registry.Ticket) {
	w.Helper()
	secret, k, _, err := w.reg.CreateTicket(w.Context(), officer, d)
	w.must(err)
	return secret, k
}

// hashOf is how a secret is stored.
func hashOf(secret string) string {
	sum := sha256.Sum256([]byte("postern secret\x00" + secret))
	return hex.EncodeToString(sum[:])
}

// grant records that a token was obtained through a ticket, and returns its keyed hash.
func (w *world) grant(d trust.DeviceID, ticket, token string, life time.Duration) (string, error) {
	w.Helper()
	key, err := w.reg.GrantKey(w.Context(), edgeDoor)
	w.must(err)
	hash := key.Hash(token)
	_, err = w.reg.RecordGrant(w.Context(), edgeDoor, hash, registry.Grant{Ticket: hashOf(ticket), Device: d, Expires: w.now().Add(life)})
	return hash, err
}

func TestTicketLife(t *testing.T) {
	w := newWorld(t)
	x := w.index()
	w.follow(x)
	d := w.device("alice@contoso.com")
	secret, k := w.ticket(d.ID)
	if len(secret) != 32 || secret != strings.ToLower(secret) || k.Device != d.ID || k.Owner != "alice@contoso.com" || !k.Live(d) {
		t.Fatalf("%q, %+v", secret, k)
	}
	w.catchUp(x)
	for _, s := range []string{secret, strings.ToUpper(secret)} {
		if hash, found, ok := x.Ticket(s); !ok || found.ID != k.ID || !strings.HasPrefix(hash, k.ID) {
			t.Errorf("the index has %+v, %v under the secret", found, ok)
		}
	}
	for _, s := range []string{"", k.ID, hashOf(secret), secret + "a", secret[1:]} {
		if _, found, ok := x.Ticket(s); ok {
			t.Errorf("the index has %+v under %q", found, s)
		}
	}
	if _, _, err := w.reg.RevokeTicket(t.Context(), officer, "0123456789abcdef"); err == nil {
		t.Error("a ticket that is not there was revoked")
	}
	if _, _, err := w.reg.RevokeTicket(t.Context(), desk, k.ID); err != nil {
		t.Fatal(err)
	}
	w.catchUp(x)
	if _, found, ok := x.Ticket(secret); !ok || found.Live(d) {
		t.Errorf("a revoked ticket is %+v, %v", found, ok)
	}
	if e := w.newest(registry.AuditFilter{Action: registry.ActTicketRevoke}); e.Object != string(d.ID) || !strings.Contains(e.Detail, k.ID) || e.Principal != desk {
		t.Errorf("audit %+v", e)
	}
	w.pass(31 * 24 * time.Hour)
	if n, err := w.reg.DeleteExpired(t.Context(), w.now()); err != nil || n != 1 {
		t.Errorf("%d deleted, %v", n, err)
	}
	w.catchUp(x)
	if _, _, ok := x.Ticket(secret); ok {
		t.Error("a ticket that was deleted is in the index")
	}
}

// A ticket dies with its device and with the owner that it was made for; what state the device is in is for the policy.
func TestTicketDiesWithDevice(t *testing.T) {
	w := newWorld(t)
	retired, given := w.device("alice@contoso.com"), w.device("alice@contoso.com")
	_, first := w.ticket(retired.ID)
	_, second := w.ticket(given.ID)
	_, err := w.reg.RetireDevice(t.Context(), officer, retired.ID, "")
	w.must(err)
	retired, err = w.reg.Device(t.Context(), retired.ID)
	w.must(err)
	given, err = w.reg.ReassignDevice(t.Context(), officer, given.ID, trust.Owner{Mail: "bob@contoso.com"})
	w.must(err)
	if first.Live(retired) || second.Live(given) || first.Live(given) {
		t.Error("a ticket outlives its device or its owner")
	}
	_, _, _, err = w.reg.CreateTicket(t.Context(), officer, retired.ID)
	w.want(err, trust.ErrConflict)
	_, _, _, err = w.reg.CreateTicket(t.Context(), officer, "dev-none")
	w.want(err, trust.ErrNotFound)
	// Dead tickets do not count towards the limit.
	for range registry.MaxTickets {
		w.ticket(given.ID)
	}
	_, _, _, err = w.reg.CreateTicket(t.Context(), officer, given.ID)
	w.want(err, trust.ErrConflict)
	page, err := w.reg.Tickets(t.Context(), registry.TicketFilter{Device: given.ID, Limit: 5})
	w.must(err)
	rest, err := w.reg.Tickets(t.Context(), registry.TicketFilter{Device: given.ID, After: page[len(page)-1].ID})
	w.must(err)
	if len(page) != 5 || len(rest) != registry.MaxTickets-4 {
		t.Errorf("pages of %d and %d tickets", len(page), len(rest))
	}
}

func TestGrants(t *testing.T) {
	w := newWorld(t)
	x := w.index()
	w.follow(x)
	d, other := w.device("alice@contoso.com"), w.device("bob@contoso.com")
	secret, k := w.ticket(d.ID)
	hash, err := w.grant(d.ID, secret, "token", 100*time.Hour)
	w.must(err)
	w.catchUp(x)
	g, through, ok := x.Grant(hash)
	if !ok || through.ID != k.ID || g.Device != d.ID || !g.Expires.Equal(w.now().Add(48*time.Hour)) {
		t.Errorf("%+v, %+v, %v", g, through, ok)
	}
	if _, _, ok := x.Grant(strings.Repeat("0", 64)); ok {
		t.Error("a grant that nobody recorded")
	}
	_, err = w.grant(other.ID, secret, "stolen", time.Hour)
	w.want(err, trust.ErrForbidden)
	_, err = w.grant(d.ID, secret, "late", -time.Second)
	w.want(err, trust.ErrInvalid)
	_, err = w.grant(d.ID, "nosuchticket", "lost", time.Hour)
	w.want(err, trust.ErrNotFound)
	// Bounded: the ones that expire first give way.
	var hashes []string
	for i := range 20 {
		h, err := w.grant(d.ID, secret, fmt.Sprint("token", i), time.Duration(i+1)*time.Hour)
		w.must(err)
		hashes = append(hashes, h)
	}
	w.catchUp(x)
	if _, _, ok := x.Grant(hashes[0]); ok {
		t.Error("a device's grants are not bounded")
	}
	if _, _, ok := x.Grant(hashes[19]); !ok {
		t.Error("the newest grant is lost")
	}
	w.pass(47 * time.Hour)
	if n, err := w.reg.DeleteExpired(t.Context(), w.now()); err != nil || n != 15 {
		t.Errorf("%d deleted, %v", n, err)
	}
	w.catchUp(x)
	if _, _, ok := x.Grant(hashes[19]); ok {
		t.Error("an expired grant is in the index after the sweep")
	}
	_, _, err = w.reg.RevokeTicket(t.Context(), officer, k.ID)
	w.must(err)
	_, err = w.grant(d.ID, secret, "after", time.Hour)
	w.want(err, trust.ErrForbidden)
}

// All edges on one store share a key, and nothing that is stored tells a token or a ticket.
func TestGrantKeyIsShared(t *testing.T) {
	path := filepath.Join(t.TempDir(), "registry.db")
	store, err := bolt.Open(path, bolt.Options{})
	if err != nil {
		t.Fatal(err)
	}
	w := newWorldOn(t, store)
	first, err := w.reg.GrantKey(t.Context(), edgeDoor)
	w.must(err)
	second, err := w.reg.GrantKey(t.Context(), trust.Principal{Kind: "edge", Name: "another"})
	w.must(err)
	if first.Hash("x") != second.Hash("x") || first.Hash("x") == first.Hash("y") || len(first.Hash("x")) != 64 {
		t.Error("edges have different keys, or the hash is none")
	}
	if plain := hmac.New(sha256.New, make([]byte, 32)); first.Hash("") == hex.EncodeToString(plain.Sum(nil)) {
		t.Error("the key is empty")
	}
	if s := fmt.Sprintf("%v %+v %#v %s", first, first, first, first); strings.Contains(s, "0x") || strings.ContainsAny(s, "0123456789") {
		t.Errorf("the key prints as %s", s)
	}
	d := w.device("alice@contoso.com")
	secret, _ := w.ticket(d.ID)
	_, err = w.grant(d.ID, secret, "S3cretToken", time.Hour)
	w.must(err)
	w.must(store.Close())
	raw, err := os.ReadFile(path)
	w.must(err)
	for _, s := range []string{secret, strings.ToUpper(secret), "S3cretToken"} {
		if bytes.Contains(raw, []byte(s)) {
			t.Errorf("%q is in the file", s)
		}
	}
}

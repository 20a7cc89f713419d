package mdm

import (
	"bytes"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"postern/internal/registry"
)

// askFrom is a request to the page of NDES or to Jamf's, with a password, from an address.
func askFrom(h http.Handler, address, pass string) *httptest.ResponseRecorder {
	r := httptest.NewRequest("GET", NDESPath+"?serial=C39XYZ", nil)
	user := `CONTOSO\mdm`
	if _, ok := h.(*Jamf); ok {
		r, user = httptest.NewRequest("POST", "/mdm/jamf/contoso", strings.NewReader(hook(`,"device":{"serialNumber":"C39XYZ"}`))), "jamf"
	}
	r.RemoteAddr = address
	if pass != "" {
		r.SetBasicAuth(user, pass)
	}
	rec := httptest.NewRecorder()
	h.ServeHTTP(rec, r)
	return rec
}

// wrongAudited are the audit entries about wrong passwords.
func (w *world) wrongAudited() (out []registry.AuditEntry) {
	w.Helper()
	all, err := w.reg.Audit(w.Context(), registry.AuditFilter{Action: registry.ActChallenge, Limit: registry.MaxLimit})
	w.must(err)
	for _, e := range all {
		if e.Outcome == registry.Refused && strings.HasPrefix(e.Detail, "wrong user or password") {
			out = append(out, e)
		}
	}
	return out
}

// After some wrong passwords an address is refused unread, at every page and with the right one too, until a pause is over. Others are not.
func TestWrongPasswordsOfAnAddress(t *testing.T) {
	w := newWorld(t)
	w.device("contoso", "C39XYZ", deviceID)
	attempts := NewAttempts(w.now)
	ndes := w.ndes(0, func(c *NDESConfig) { c.Attempts = attempts })
	jamf := w.jamf(func(c *JamfConfig) { c.Attempts = attempts })
	pages := []http.Handler{ndes, jamf}
	for i := range wrongPerAddress {
		for range 3 { // no attempts: no credentials, and the right ones
			if rec := askFrom(pages[i%2], "203.0.113.7:1", ""); rec.Code != 401 {
				t.Fatalf("without credentials: %d", rec.Code)
			}
		}
		if rec := askFrom(pages[i%2], "203.0.113.7:1", password); rec.Code != 200 {
			t.Fatalf("after %d wrong passwords: %d", i, rec.Code)
		}
		if rec := askFrom(pages[i%2], "203.0.113.7:1", "wrong horse"); rec.Code != 401 {
			t.Fatalf("wrong password %d: %d", i, rec.Code)
		}
	}
	for _, pass := range []string{"wrong horse", password} {
		for _, page := range pages {
			rec := askFrom(page, "203.0.113.7:2", pass)
			if rec.Code != 429 || rec.Header().Get("Retry-After") != "61" || rec.Header().Get("WWW-Authenticate") != "" {
				t.Errorf("%d %v", rec.Code, rec.Header())
			}
		}
	}
	for _, other := range []string{"203.0.113.8:1", "[2001:db8::7]:1", "127.0.0.1:1"} {
		if rec := askFrom(ndes, other, password); rec.Code != 200 {
			t.Errorf("from %s: %d", other, rec.Code)
		}
	}
	audited := w.wrongAudited()
	if len(audited) != wrongPerAddress || !strings.Contains(audited[0].Detail, "from 203.0.113.7; the next ones") || strings.Contains(audited[1].Detail, "next ones") ||
		audited[0].Principal.Kind != "mdm" || audited[0].Object != "contoso" {
		t.Errorf("%d audit entries: %+v", len(audited), audited)
	}
	for _, e := range audited {
		if strings.Contains(e.Detail, "horse") {
			t.Error("a password is in the audit")
		}
	}
	if w.pass(wrongPause); askFrom(ndes, "203.0.113.7:1", password).Code != 200 {
		t.Error("after the pause: refused")
	}
	if askFrom(ndes, "203.0.113.7:1", "wrong horse").Code != 401 || askFrom(ndes, "203.0.113.7:1", "wrong horse").Code != 429 {
		t.Error("a pause is worth one attempt")
	}
}

// One network of IPv6 has one limit: whoever has an address has all of them.
func TestWrongPasswordsOfANetwork(t *testing.T) {
	w := newWorld(t)
	w.device("contoso", "C39XYZ", deviceID)
	n := w.ndes(0, func(c *NDESConfig) { c.Attempts = NewAttempts(w.now) })
	for i := range wrongPerAddress + 1 {
		want := map[bool]int{true: 401, false: 429}[i < wrongPerAddress]
		if rec := askFrom(n, fmt.Sprintf("[2001:db8::%x]:1", i+1), "wrong horse"); rec.Code != want {
			t.Errorf("%d: %d", i, rec.Code)
		}
	}
	if rec := askFrom(n, "[2001:db8:0:1::1]:1", password); rec.Code != 200 {
		t.Errorf("another network: %d", rec.Code)
	}
}

// Who guesses from many addresses has one guess from each, and fills neither memory nor audit; what is right passes all the while.
func TestWrongPasswordsOfMany(t *testing.T) {
	w := newWorld(t)
	w.device("contoso", "C39XYZ", deviceID)
	attempts := NewAttempts(w.now)
	n := w.ndes(0, func(c *NDESConfig) { c.Attempts = attempts })
	compared := 0
	for i := range 400 {
		for range wrongPerAddress {
			if askFrom(n, fmt.Sprintf("198.51.%d.%d:1", i/250, i%250), "wrong horse").Code == 401 {
				compared++
			}
		}
	}
	if want := wrongTogether + 400 - wrongTogether/wrongPerAddress; compared != want {
		t.Errorf("%d guesses were compared, want %d", compared, want)
	}
	if got := len(w.wrongAudited()); got != wrongTogether {
		t.Errorf("%d audit entries", got)
	}
	if rec := askFrom(n, "203.0.113.7:1", password); rec.Code != 200 {
		t.Errorf("the right password: %d", rec.Code)
	}
	for i := range maxAddresses + 100 {
		attempts.try(netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}), 32), func() bool { return false })
	}
	if got := len(attempts.from); got != maxAddresses {
		t.Errorf("%d addresses are remembered", got)
	}
	if rec := askFrom(n, "203.0.113.8:1", password); rec.Code != 200 {
		t.Errorf("the right password: %d", rec.Code)
	}
}

// However many ask at once, no more are compared.
func TestWrongPasswordsAtOnce(t *testing.T) {
	a := NewAttempts(time.Now)
	var compared atomic.Int64
	var all sync.WaitGroup
	for range 16 {
		all.Go(func() {
			for range 10 {
				a.try(netip.Prefix{}, func() bool { compared.Add(1); return false })
			}
		})
	}
	all.Wait()
	if n := compared.Load(); n != wrongPerAddress {
		t.Errorf("%d were compared", n)
	}
}

// Behind a proxy the MDM is one address with those who guess. Ten of their guesses do not keep it out; how many are compared is bounded all the same, and what
// comes from elsewhere takes nothing from it.
func TestWrongPasswordsBehindAProxy(t *testing.T) {
	w := newWorld(t)
	w.device("contoso", "C39XYZ", deviceID)
	n := w.ndes(0, func(c *NDESConfig) {
		c.Attempts = NewAttempts(w.now, netip.MustParsePrefix("10.1.3.0/28"), netip.MustParsePrefix("2001:db8::5/128"))
	})
	for i := range wrongTogether * 2 {
		askFrom(n, fmt.Sprintf("198.51.100.%d:1", i%250), "wrong horse")
	}
	for _, proxy := range []string{"127.0.0.1:1", "[::1]:1", "[::ffff:127.0.0.2]:1", "10.1.3.7:1", "[2001:db8::5]:1"} {
		compared := 0
		for range 3 * wrongPerProxy {
			if askFrom(n, proxy, "wrong horse").Code == 401 {
				compared++
			}
			if compared == 10*wrongPerAddress && askFrom(n, proxy, password).Code != 200 {
				t.Fatalf("%s: the right password is refused", proxy)
			}
		}
		if compared != wrongPerProxy {
			t.Errorf("%s: %d were compared", proxy, compared)
		}
		if rec := askFrom(n, proxy, password); rec.Code != 429 || rec.Header().Get("Retry-After") != "2" {
			t.Errorf("%s: %d %v", proxy, rec.Code, rec.Header())
		}
	}
	if w.pass(proxyPause); askFrom(n, "10.1.3.7:1", password).Code != 200 {
		t.Error("after the pause: refused")
	}
	// A neighbour of a proxy is none.
	compared := 0
	for i := range 50 {
		if askFrom(n, fmt.Sprintf("[2001:db8::%x]:1", 0x10+i), "wrong horse").Code == 401 {
			compared++
		}
	}
	if compared > wrongPerAddress {
		t.Errorf("%d were compared from a network", compared)
	}
}

// Whoever goes on after too many wrong passwords fills no log: it hears of an address once in a pause.
func TestRefusedPasswordsAreLoggedOnce(t *testing.T) {
	w := newWorld(t)
	var out bytes.Buffer
	n := w.ndes(0, func(c *NDESConfig) {
		c.Attempts, c.Log = NewAttempts(w.now), slog.New(slog.NewTextHandler(&out, nil))
	})
	for round := range 3 {
		for range 500 {
			askFrom(n, "203.0.113.7:1", "wrong horse")
			askFrom(n, "203.0.113.8:1", "wrong horse")
		}
		if got, want := strings.Count(out.String(), "passwords are not looked at"), 2*(round+1); got != want {
			t.Errorf("round %d: %d lines, want %d", round, got, want)
		}
		w.pass(wrongPause)
	}
}

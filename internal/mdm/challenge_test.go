package mdm

import (
	"crypto/sha1" //nolint:gosec // the page's thumbprint
	"crypto/x509"
	"fmt"
	"math/big"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
	"time"
	"unicode/utf16"

	"postern/internal/registry"
	"postern/internal/trust"
)

const password = "correct horse"

// secret is what a challenge looks like.
var secret = regexp.MustCompile(`[A-Z2-7]{32}`)

func (w *world) jamf(change func(*JamfConfig)) *Jamf {
	w.Helper()
	cfg := JamfConfig{Issuer: "contoso", User: "jamf", Password: NewSecret(password), Registry: w.reg, Principal: principal("jamf"), Log: w.log}
	if change != nil {
		change(&cfg)
	}
	j, err := NewJamf(cfg)
	w.must(err)
	return j
}

func (w *world) ndes(unbound int, change func(*NDESConfig)) *NDES {
	w.Helper()
	ca, err := x509.ParseCertificate(sign(w.T, big.NewInt(1), "Contoso Issuing CA", w.now()))
	w.must(err)
	cfg := NDESConfig{Issuer: "contoso", Users: []NDESUser{{`CONTOSO\mdm`, NewSecret(password), false}, {`mdm@contoso.com`, NewSecret(password + "2"), unbound > 0}}, CA: func() *x509.Certificate { return ca },
		Registry: w.reg, Principal: principal("ndes"), Unbound: unbound, Log: w.log}
	if change != nil {
		change(&cfg)
	}
	n, err := NewNDES(cfg)
	w.must(err)
	return n
}

// ask sends a request to a page.
func ask(h http.Handler, method, target, user, pass, body string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, target, strings.NewReader(body))
	if user != "" {
		r.SetBasicAuth(user, pass)
	}
	rec := httptest.NewRecorder()
	h.ServeHTTP(rec, r)
	return rec
}

// authorises fails the test unless the secret is a challenge of the device.
func (w *world) authorises(secret string, d trust.Device) {
	w.Helper()
	c, _, _, err := w.reg.Challenge(w.Context(), d.Issuer, secret)
	w.must(err)
	if c.Device != d.ID {
		w.Errorf("challenge of %s, want %s", c.Device, d.ID)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if strings.Contains(w.logged.String(), secret) {
		w.Error("the challenge was logged")
	}
}

// hook is a webhook as Jamf sends it, with these members in its event.
func hook(members string) string {
	return `{"webhook":{"webhookEvent":"SCEPChallenge","id":1,"eventTimestamp":1757435578,"name":""},"event":{"scepServerUrl":"https://scep.contoso.com/scep/contoso",` +
		`"payloadIdentifier":"CDB0BC64-F3EB-4B1A-AA5E-9A5D994CA593","payloadTypes":["com.apple.security.scep"]` + members + `}}`
}

func TestJamf(t *testing.T) {
	w := newWorld(t)
	d, other := w.device("contoso", "C39XYZ", "EBBFF74D-C6B7-5599-93A9-19E8BDDEFE32"), w.device("contoso", "D40", "")
	foreign := w.device("fabrikam", "F1", "")
	retired := w.device("contoso", "R1", "")
	_, err := w.reg.RetireDevice(t.Context(), principal("test"), retired.ID, "")
	w.must(err)
	j := w.jamf(nil)
	for name, members := range map[string]string{
		"serial number":          `,"device":{"serialNumber":"c39xyz"}`,
		"target device":          `,"targetDevice":{"serialNumber":"C39XYZ","jssID":7,"udid":"EBBFF74D-C6B7-5599-93A9-19E8BDDEFE32"}`,
		"event itself":           `,"udid":"ebbff74d-c6b7-5599-93a9-19e8bddefe32"`,
		"an id of the MDM's own": `,"device":{"uuid":"5f0c-own","serialNumber":"C39XYZ"}`,
		"no UDID":                `,"device":{"udid":null,"serialNumber":"C39XYZ"},"targetDevice":null`,
	} {
		rec := ask(j, "POST", "/", "jamf", password, hook(members))
		if rec.Code != http.StatusOK || !strings.HasPrefix(rec.Header().Get("Content-Type"), "text/plain") || rec.Header().Get("Cache-Control") != "no-store" {
			t.Fatalf("%s: %d %s", name, rec.Code, rec.Body)
		}
		w.authorises(rec.Body.String(), d)
	}
	for name, c := range map[string]struct {
		method, user, pass, body string
		want                     int
	}{
		"GET":                 {"GET", "jamf", password, "", 405},
		"no password":         {"POST", "", "", hook(`,"device":{"serialNumber":"C39XYZ"}`), 401},
		"wrong password":      {"POST", "jamf", password + " ", hook(`,"device":{"serialNumber":"C39XYZ"}`), 401},
		"wrong user":          {"POST", "Jamf", password, hook(`,"device":{"serialNumber":"C39XYZ"}`), 401},
		"no device":           {"POST", "jamf", password, hook(``), 403},
		"empty names":         {"POST", "jamf", password, hook(`,"device":{"serialNumber":"","udid":""}`), 403},
		"unknown device":      {"POST", "jamf", password, hook(`,"device":{"serialNumber":"nobody"}`), 403},
		"two devices":         {"POST", "jamf", password, hook(`,"device":{"serialNumber":"C39XYZ"},"targetDevice":{"serialNumber":"` + other.SerialNumber + `"}`), 403},
		"another issuer":      {"POST", "jamf", password, hook(`,"device":{"serialNumber":"F1"}`), 403},
		"another issuer's id": {"POST", "jamf", password, hook(`,"device":{"uuid":"` + string(foreign.ID) + `"}`), 403},
		"retired":             {"POST", "jamf", password, hook(`,"device":{"uuid":"` + string(retired.ID) + `"}`), 403},
		"other event":         {"POST", "jamf", password, strings.Replace(hook(``), "SCEPChallenge", "ComputerAdded", 1), 400},
		"other case":          {"POST", "jamf", password, strings.Replace(hook(``), "webhookEvent", "WebhookEvent", 1), 400},
		"no event":            {"POST", "jamf", password, `{"webhook":{"webhookEvent":"SCEPChallenge"}}`, 400},
		"XML":                 {"POST", "jamf", password, `<JSSEvent/>`, 400},
		"empty":               {"POST", "jamf", password, ``, 400},
		"a number":            {"POST", "jamf", password, hook(`,"device":{"serialNumber":7}`), 400},
		"a list":              {"POST", "jamf", password, hook(`,"device":["C39XYZ"]`), 400},
		"two devices, hidden": {"POST", "jamf", password, hook(`,"device":{},"device":{"serialNumber":"C39XYZ"}`), 400},
		"long":                {"POST", "jamf", password, hook(`,"device":{"serialNumber":"` + strings.Repeat("x", 129) + `"}`), 400},
		"too large":           {"POST", "jamf", password, hook(`,"x":"` + strings.Repeat("x", maxWebhook) + `"`), 413},
	} {
		rec := ask(j, c.method, "/", c.user, c.pass, c.body)
		if rec.Code != c.want || rec.Body.Len() == 0 || secret.MatchString(rec.Body.String()) {
			t.Errorf("%s: %d %s, want %d", name, rec.Code, rec.Body, c.want)
		}
		if (c.want == 401) != (rec.Header().Get("WWW-Authenticate") != "") {
			t.Errorf("%s: WWW-Authenticate %q", name, rec.Header().Get("WWW-Authenticate"))
		}
	}
}

// A principal without the right, and a registry that cannot be written, make no challenge.
func TestChallengeNotMade(t *testing.T) {
	w := newWorld(t)
	w.device("contoso", "C39XYZ", "")
	j := w.jamf(func(cfg *JamfConfig) { cfg.Principal = trust.Principal{Kind: "nobody", Name: "x"} })
	if rec := ask(j, "POST", "/", "jamf", password, hook(`,"device":{"serialNumber":"C39XYZ"}`)); rec.Code != http.StatusForbidden {
		t.Errorf("without the right: %d %s", rec.Code, rec.Body)
	}
	j = w.jamf(nil)
	w.must(w.reg.Store().Close())
	rec := ask(j, "POST", "/", "jamf", password, hook(`,"device":{"serialNumber":"C39XYZ"}`))
	if rec.Code != http.StatusServiceUnavailable || rec.Header().Get("Retry-After") == "" || strings.Contains(rec.Body.String(), "closed") {
		t.Errorf("without registry: %d %s", rec.Code, rec.Body)
	}
}

// text decodes a page as its readers do: by its byte order mark.
func text(t *testing.T, rec *httptest.ResponseRecorder) string {
	t.Helper()
	b := rec.Body.Bytes()
	if len(b) < 2 || len(b)%2 != 0 || b[0] != 0xff || b[1] != 0xfe {
		t.Fatalf("not UTF-16LE with a byte order mark: %d %q", rec.Code, b)
	}
	var units []uint16
	for i := 2; i < len(b); i += 2 {
		units = append(units, uint16(b[i])|uint16(b[i+1])<<8)
	}
	return string(utf16.Decode(units))
}

// How MDMs and scripts read the real page.
var (
	password1  = regexp.MustCompile(`(?i)The enrollment challenge password is: <B> (\S*)`)
	password2  = regexp.MustCompile(`(?is)challenge password.*?([0-9A-Za-z]{8,64})`)
	thumbprint = regexp.MustCompile(`The thumbprint \(hash value\) for the CA certificate is: <B> ([0-9A-F ]+) </B>`)
)

func TestNDES(t *testing.T) {
	w := newWorld(t)
	d := w.device("contoso", "C39XYZ", deviceID)
	n := w.ndes(0, nil)
	for _, query := range []string{"?serial=C39XYZ", "?udid=" + deviceID, "?device=" + string(d.ID), "?serial=C39XYZ&udid=" + deviceID} {
		for _, method := range []string{"GET", "POST"} {
			rec := ask(n, method, NDESPath+query, `CONTOSO\mdm`, password, "operation=x")
			page := text(t, rec)
			m := password1.FindStringSubmatch(page)
			if rec.Code != http.StatusOK || m == nil || rec.Header().Get("Cache-Control") != "no-store" {
				t.Fatalf("%s: %d %s", query, rec.Code, page)
			}
			w.authorises(m[1], d)
			if !strings.Contains(page, "<P> The enrollment challenge password is: <B> "+m[1]+" </B>") || !strings.Contains(page, "expire within 60 minutes.") {
				t.Errorf("page %s", page)
			}
			th := thumbprint.FindStringSubmatch(page)
			if th == nil || len(th[1]) != 44 {
				t.Fatalf("no thumbprint in %s", page)
			}
		}
	}
	for name, c := range map[string]struct {
		method, user, pass, query string
		want                      int
	}{
		"PUT":            {"PUT", `CONTOSO\mdm`, password, "?serial=C39XYZ", 405},
		"no password":    {"GET", "", "", "?serial=C39XYZ", 401},
		"wrong password": {"GET", `CONTOSO\mdm`, password + "2", "?serial=C39XYZ", 401},
		"no device":      {"GET", `CONTOSO\mdm`, password, "", 403},
		"empty device":   {"GET", `mdm@contoso.com`, password + "2", "?device=", 403},
		"unknown device": {"GET", `mdm@contoso.com`, password + "2", "?serial=<B>", 403},
	} {
		rec := ask(n, c.method, NDESPath+c.query, c.user, c.pass, "")
		if rec.Code != c.want || (c.want == 401) != strings.HasPrefix(rec.Header().Get("WWW-Authenticate"), "Basic ") {
			t.Errorf("%s: %d, want %d", name, rec.Code, c.want)
		}
		if c.want == 403 {
			if page := text(t, rec); !strings.Contains(page, "You do not have sufficient permission to enroll with SCEP.") || password1.MatchString(page) || password2.MatchString(page) {
				t.Errorf("%s: page %s", name, page)
			}
		}
	}
}

func TestNDESThumbprint(t *testing.T) {
	w := newWorld(t)
	w.device("contoso", "C39XYZ", "")
	var raw []byte
	n := w.ndes(0, func(cfg *NDESConfig) { raw = cfg.CA().Raw })
	page := text(t, ask(n, "GET", NDESPath+"?serial=C39XYZ", `CONTOSO\mdm`, password, ""))
	got := strings.ReplaceAll(thumbprint.FindStringSubmatch(page)[1], " ", "")
	if want := fmt.Sprintf("%X", sha1.Sum(raw)); got != want { //nolint:gosec // as above
		t.Errorf("got %s, want %s", got, want)
	}
}

// Who may have challenges for no device gets them, once each, and not more at once than the limit.
func TestUnbound(t *testing.T) {
	w := newWorld(t)
	ndes, jamf := principal("ndes"), principal("jamf")
	ndes.Kind, ndes.Role, jamf.Kind, jamf.Role = "mdm", "", "mdm", ""
	n, j := w.ndes(3, func(cfg *NDESConfig) { cfg.Principal = ndes }), w.jamf(func(cfg *JamfConfig) { cfg.Unbound, cfg.Principal = 3, jamf })
	seen := map[string]bool{}
	made := func(secret string) {
		t.Helper()
		c, _, _, err := w.reg.Challenge(t.Context(), "contoso", secret)
		if w.must(err); !c.Unbound || c.Expires.Sub(c.Created) != registry.DefaultChallengeTTL || seen[secret] {
			t.Errorf("%+v", c)
		}
		seen[secret] = true
	}
	for range 3 {
		made(password1.FindStringSubmatch(text(t, ask(n, "GET", NDESPath, `mdm@contoso.com`, password+"2", "")))[1])
	}
	rec := ask(j, "POST", "/", "jamf", password, hook(``))
	if rec.Code != http.StatusOK {
		t.Fatalf("%d %s", rec.Code, rec.Body)
	}
	made(rec.Body.String())
	// A device that is named but not known gets none, and a user who may not have them neither.
	if rec := ask(j, "POST", "/", "jamf", password, hook(`,"device":{"serialNumber":"nobody"}`)); rec.Code != http.StatusForbidden {
		t.Errorf("%d %s", rec.Code, rec.Body)
	}
	if rec := ask(n, "GET", NDESPath, `CONTOSO\mdm`, password, ""); !strings.Contains(text(t, rec), "You do not have sufficient permission") {
		t.Errorf("%d %s", rec.Code, rec.Body)
	}
	rec = ask(n, "GET", NDESPath, `mdm@contoso.com`, password+"2", "")
	if page := text(t, rec); rec.Code != http.StatusForbidden || !strings.Contains(page, "The password cache is full.") || password1.MatchString(page) {
		t.Errorf("full: %d %s", rec.Code, page)
	}
	for range 2 { // NDES has a count of its own
		rec := ask(j, "POST", "/", "jamf", password, hook(``))
		if rec.Code != http.StatusOK {
			t.Fatalf("%d %s", rec.Code, rec.Body)
		}
		made(rec.Body.String())
	}
	if rec := ask(j, "POST", "/", "jamf", password, hook(``)); rec.Code != http.StatusForbidden || secret.MatchString(rec.Body.String()) {
		t.Errorf("full: %d %s", rec.Code, rec.Body)
	}
	w.pass(time.Hour)
	made(password1.FindStringSubmatch(text(t, ask(n, "GET", NDESPath, `mdm@contoso.com`, password+"2", "")))[1])
	w.must(w.reg.Store().Close())
	if rec := ask(n, "GET", NDESPath, `mdm@contoso.com`, password+"2", ""); rec.Code != http.StatusServiceUnavailable {
		t.Errorf("%d %s", rec.Code, rec.Body)
	}
}

func TestPageConfiguration(t *testing.T) {
	w := newWorld(t)
	ca := func() *x509.Certificate { return &x509.Certificate{Raw: []byte{1}} }
	for name, spoil := range map[string]func(*NDESConfig){
		"issuer": func(c *NDESConfig) { c.Issuer = "" }, "no user": func(c *NDESConfig) { c.Users = nil }, "no CA": func(c *NDESConfig) { c.CA = nil },
		"short password": func(c *NDESConfig) { c.Users[0].Password = NewSecret("1234567") }, "no password": func(c *NDESConfig) { c.Users[0].Password = Secret{} },
		"same user": func(c *NDESConfig) { c.Users = append(c.Users, c.Users[0]) }, "lifetime": func(c *NDESConfig) { c.TTL = 31 * 24 * 3600e9 },
		"unbound without a limit": func(c *NDESConfig) { c.Users[0].Unbound = true }, "a limit for nobody": func(c *NDESConfig) { c.Unbound = 5 },
		"too many": func(c *NDESConfig) { c.Users[0].Unbound, c.Unbound = true, registry.MaxUnboundOpen+1 },
		"too long": func(c *NDESConfig) { c.Users[0].Unbound, c.Unbound, c.TTL = true, 5, registry.MaxUnboundTTL+1 }, "name": func(c *NDESConfig) { c.Name = "a/b" },
	} {
		cfg := NDESConfig{Issuer: "contoso", Users: []NDESUser{{"a", NewSecret(password), false}}, CA: ca, Registry: w.reg, Log: w.log}
		if _, err := NewNDES(cfg); err != nil {
			t.Fatal(err)
		}
		spoil(&cfg)
		if _, err := NewNDES(cfg); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	if _, err := NewJamf(JamfConfig{Issuer: "contoso", Registry: w.reg, Log: w.log}); err == nil {
		t.Error("Jamf without a password: accepted")
	}
}

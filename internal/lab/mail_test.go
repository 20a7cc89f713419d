package lab

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"postern/internal/eas"
)

// gate runs a TLS server that asks for a certificate, says whose it got, and refuses with a reference.
func gate(t *testing.T) *httptest.Server {
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if len(r.TLS.PeerCertificates) > 0 {
			w.Header().Set("X-Serial", r.TLS.PeerCertificates[0].SerialNumber.String())
		}
		if strings.HasPrefix(r.URL.Path, "/autodiscover/") {
			fmt.Fprintf(w, `{"Protocol":%q,"Url":"https://%s%s","signed":%t}`,
				r.FormValue("Protocol"), r.Host, Path, r.Header.Get("Authorization") != "")
			return
		}
		req, err := eas.ParseRequest(r.Method, r.URL.RawQuery, r.Header)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		code, contentType, body := eas.Refusal(req.Command, req.Version, eas.StatusDeviceIsBlockedForThisUser)
		w.Header().Set("Content-Type", contentType)
		w.Header().Set("X-Postern-Reference", "ref-1")
		w.Header().Set("X-Device", req.DeviceID.String())
		w.WriteHeader(code)
		w.Write(body)
	}))
	srv.TLS = &tls.Config{ClientAuth: tls.RequestClientCert}
	srv.EnableHTTP2 = true
	srv.StartTLS()
	t.Cleanup(srv.Close)
	return srv
}

func TestCertificates(t *testing.T) {
	srv := gate(t)
	url := newTestCA(t).serve(t)
	p := NewPhone(IPhone("Alice's iPhone", "OCVU77E6TT7JR3Q0H31158OU7C"))
	roots := srv.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs
	if err := p.Enrol(t.Context(), url, "once"); err != nil {
		t.Fatal(err)
	}
	first, ok := p.Identity()
	if !ok {
		t.Fatal("no identity")
	}
	managed := mailOf(t, p, srv.URL, MailOptions{Base64: true}, roots)
	byHand := mailOf(t, p, srv.URL, MailOptions{NoCertificate: true, DeviceID: "other1"}, roots)
	old := mailOf(t, p, srv.URL, MailOptions{Identity: &first}, roots)
	check := func(m *Mail, want, device string) {
		t.Helper()
		r, err := m.FolderSync(t.Context())
		if err != nil || r.Status != 129 || r.OK() || r.Reference != "ref-1" || r.Header.Get("X-Serial") != want || r.Header.Get("X-Device") != device {
			t.Errorf("%v, error %v, certificate %q, device %q", r, err, r.Header.Get("X-Serial"), r.Header.Get("X-Device"))
		}
	}
	const id = "ocvu77e6tt7jr3q0h31158ou7c"
	check(managed, first.Leaf.SerialNumber.String(), id)
	check(byHand, "", "other1")
	if err := p.Renew(t.Context(), url); err != nil {
		t.Fatal(err)
	}
	check(managed, first.Leaf.SerialNumber.String(), id) // the connection is still open
	managed.Reconnect()
	check(managed, p.Certificate().SerialNumber.String(), id)
	check(old, first.Leaf.SerialNumber.String(), id)
}

func mailOf(t *testing.T, p *Phone, url string, opts MailOptions, roots *x509.CertPool) *Mail {
	t.Helper()
	opts.User = alice
	m, err := p.Mail(url, roots, opts)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func TestAutodiscover(t *testing.T) {
	srv := gate(t)
	m := profile(t, srv, MailOptions{})
	m.SignIn(Bearer("secret"))
	r := must(t)(m.Autodiscover(t.Context()))
	var got struct {
		Protocol, URL string
		Signed        bool
	}
	if err := json.Unmarshal(r.Body, &got); err != nil || got.Protocol != "ActiveSync" || got.Signed || !strings.HasSuffix(got.URL, Path) {
		t.Errorf("%+v %v", got, err)
	}
}

func TestMailRefusesNonsense(t *testing.T) {
	p := NewPhone(IPhone("x", ""))
	for url, opts := range map[string]MailOptions{
		"ftp://x":     {User: alice},
		"https://x":   {},
		"https://y":   {User: alice, Base64: true, Version: eas.Version120},
		"https://z":   {User: alice, DeviceID: strings.Repeat("a", 256)},
		"https://%zz": {User: alice},
	} {
		if _, err := p.Mail(url, nil, opts); err == nil {
			t.Errorf("%s: accepted", url)
		}
	}
}

func TestCredentialIsNotPrinted(t *testing.T) {
	c := Basic(alice, "secret")
	var log strings.Builder
	slog.New(slog.NewTextHandler(&log, nil)).Info("x", "c", c)
	text := fmt.Sprintf("%v %+v %#v %s", c, c, c, c) + log.String()
	if strings.Contains(text, "Basic") {
		t.Error(text)
	}
}

func TestToken(t *testing.T) {
	now := time.Unix(1800000000, 0)
	if user := tokenUser(Token("Alice@contoso.com", now, nil), now); user != alice {
		t.Errorf("user %q", user)
	}
	if user := tokenUser(Token(alice, now, map[string]any{"upn": nil, "preferred_username": "b@c"}), now); user != "b@c" {
		t.Errorf("user %q", user)
	}
	if user := tokenUser(Token(alice, now, nil), now.Add(time.Hour)); user != "" {
		t.Errorf("expired: user %q", user)
	}
}

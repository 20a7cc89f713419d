package mdm

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"postern/internal/trust"
)

const (
	shared = "sixteen bytes or more"
	yes    = `{"allow":true,"owner":"Alice@contoso.com","upn":"alice@contoso.com","serial_number":"C39XYZ","udid":"u","eas_device_id":"E","model":"iPhone15,4","os":"iOS","later":{}}`
)

func (w *world) webhook(target string, change func(*WebhookConfig)) *Webhook {
	w.Helper()
	cfg := WebhookConfig{Name: "hr-gate", Issuer: "contoso", URL: target, Secret: NewSecret(shared), Notify: true, Now: w.now}
	if change != nil {
		change(&cfg)
	}
	h, err := NewWebhook(cfg)
	w.must(err)
	return h
}

func TestWebhookExchange(t *testing.T) {
	w, s := newWorld(t), newStage(t)
	s.plays("/hook", ok(yes))
	h, sub := w.webhook(s.URL+"/hook?key=1", nil), submission(t)
	a, err := h.Validate(t.Context(), sub)
	w.must(err)
	if want := (trust.Applicant{Mail: "alice@contoso.com", UPN: "alice@contoso.com", SerialNumber: "C39XYZ", UDID: "u", EASDeviceID: "E", Model: "iPhone15,4", OS: "iOS", Source: "hr-gate"}); a != want {
		t.Errorf("got %+v, want %+v", a, want)
	}
	w.must(h.Issued(t.Context(), sub, trust.Certificate{DER: []byte("der")}))
	w.must(h.Refused(t.Context(), sub, -1, "by policy"))
	csr := base64.StdEncoding.EncodeToString(sub.CSR)
	bodies := []string{
		`{"event":"validate","issuer":"contoso","transaction_id":"A<1>&","csr":"` + csr + `","challenge":"very secret challenge","remote":"192.0.2.1"}`,
		`{"event":"issued","issuer":"contoso","transaction_id":"A<1>&","csr":"` + csr + `","remote":"192.0.2.1","certificate":"ZGVy"}`,
		`{"event":"refused","issuer":"contoso","transaction_id":"A<1>&","csr":"` + csr + `","remote":"192.0.2.1","code":4294967295,"text":"by policy"}`,
	}
	ids := map[string]bool{}
	for i, got := range s.taken("/hook") {
		stamp := strconv.FormatInt(w.now().Unix(), 10)
		mac := hmac.New(sha256.New, []byte(shared))
		fmt.Fprintf(mac, "%s.%s", stamp, bodies[i])
		if got.method != "POST" || got.path != "/hook?key=1" || got.body != bodies[i] || got.header.Get("Postern-Timestamp") != stamp ||
			got.header.Get("Postern-Signature") != "v1="+hex.EncodeToString(mac.Sum(nil)) || got.header.Get("Content-Type") != "application/json" {
			t.Errorf("request %d: %+v", i, got)
		}
		ids[got.header.Get("Postern-Request-Id")] = true
	}
	if len(ids) != 3 {
		t.Errorf("request ids %v", ids)
	}
}

func TestWebhookRefuses(t *testing.T) {
	w, s := newWorld(t), newStage(t)
	h, sub := w.webhook(s.URL+"/hook", nil), submission(t)
	for _, body := range []string{`{"allow":false}`, `{"allow":false,"reason":"left the\ncompany","owner":"alice@contoso.com","udid":"u"}`, `{"allow":false,"reason":7}`} {
		s.plays("/hook", ok(body))
		a, err := h.Validate(t.Context(), sub)
		if r := refused(t, err, "not_allowed"); a != (trust.Applicant{}) || r.Text == "" || strings.Contains(r.Error(), "\n") {
			t.Errorf("%s: %+v %v", body, a, err)
		}
	}
	sub.Challenge = ""
	_, err := h.Validate(t.Context(), sub)
	refused(t, err, "no_challenge")
}

func TestWebhookFaults(t *testing.T) {
	change := func(from, to string) reply { return ok(strings.Replace(yes, from, to, 1)) }
	for name, r := range map[string]reply{
		"refused by the server":   {status: 403, body: yes},
		"unavailable":             {status: 503, body: yes},
		"redirect":                {status: 302, header: http.Header{"Location": {"/elsewhere"}}, body: yes},
		"no content":              {status: 204},
		"empty":                   ok(``),
		"not JSON":                ok(`true`),
		"two values":              ok(yes + yes),
		"no allow":                change(`"allow":true,`, ``),
		"allow is a string":       change(`true`, `"true"`),
		"allow is a number":       change(`true`, `1`),
		"allow is null":           change(`true`, `null`),
		"allow twice":             change(`{`, `{"allow":false,`),
		"Allow":                   change(`allow`, `Allow`),
		"no owner":                change(`"owner":"Alice@contoso.com",`, ``),
		"owner is no address":     change(`Alice@contoso.com`, `alice`),
		"owner is a list":         change(`"Alice@contoso.com"`, `["alice@contoso.com"]`),
		"no device":               ok(`{"allow":true,"owner":"alice@contoso.com"}`),
		"empty device":            ok(`{"allow":true,"owner":"alice@contoso.com","udid":""}`),
		"long":                    change(`C39XYZ`, strings.Repeat("x", 129)),
		"control characters":      change(`C39XYZ`, `C39\u0000`),
		"half":                    ok(yes[:len(yes)-1]),
		"oversized":               change(`{}`, `"`+strings.Repeat("x", maxWebhookAnswer)+`"`),
		"slow":                    {wait: true},
		"broken off in mid-allow": {status: 200, header: http.Header{"Content-Length": {"1000"}}, body: yes},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w, s := newWorld(t), newStage(t)
			s.plays("/hook", r)
			h := w.webhook(s.URL+"/hook?key=hidden", func(cfg *WebhookConfig) {
				if r.wait {
					cfg.Timeout = 50 * time.Millisecond
				}
			})
			a, err := h.Validate(t.Context(), submission(t))
			fault(t, err)
			if a != (trust.Applicant{}) || strings.Contains(err.Error(), "hidden") || len(s.taken("/hook")) != 1 || len(s.taken("/elsewhere")) != 0 {
				t.Errorf("%+v, %v", a, err)
			}
		})
	}
	w := newWorld(t)
	h := w.webhook("http://127.0.0.1:1/hook?key=hidden", nil) // nobody listens there
	_, err := h.Validate(t.Context(), submission(t))
	fault(t, err)
	if strings.Contains(err.Error(), "hidden") {
		t.Errorf("the error shows the query: %v", err)
	}
	sub := submission(t)
	sub.Issuer = "fabrikam"
	_, err = h.Validate(t.Context(), sub)
	fault(t, err)
}

// A notification that fails is an error; without Notify there is none.
func TestWebhookNotify(t *testing.T) {
	w, s := newWorld(t), newStage(t)
	s.plays("/hook", reply{status: 500})
	h, sub := w.webhook(s.URL+"/hook", nil), submission(t)
	fault(t, h.Issued(t.Context(), sub, trust.Certificate{}))
	fault(t, h.Refused(t.Context(), sub, 1, "x"))
	quiet := w.webhook(s.URL+"/quiet", func(cfg *WebhookConfig) { cfg.Notify = false })
	w.must(errors.Join(quiet.Issued(t.Context(), sub, trust.Certificate{}), quiet.Refused(t.Context(), sub, 1, "x")))
}

func TestNewWebhook(t *testing.T) {
	w := newWorld(t)
	for name, spoil := range map[string]func(*WebhookConfig){
		"plain HTTP": func(c *WebhookConfig) { c.URL = "http://hr.contoso.com/" }, "not HTTP": func(c *WebhookConfig) { c.URL = "ftp://127.0.0.1/" },
		"fragment": func(c *WebhookConfig) { c.URL += "#x" }, "looks like this machine": func(c *WebhookConfig) { c.URL = "http://127.0.0.1.contoso.com/" },
		"no secret": func(c *WebhookConfig) { c.Secret = Secret{} }, "short secret": func(c *WebhookConfig) { c.Secret = NewSecret("fifteen bytes.x") },
		"name": func(c *WebhookConfig) { c.Name = "" }, "issuer": func(c *WebhookConfig) { c.Issuer = "" }, "patience": func(c *WebhookConfig) { c.Timeout = 11 * time.Second },
		"clock": func(c *WebhookConfig) { c.Now = nil },
	} {
		cfg := WebhookConfig{Name: "hr", Issuer: "contoso", URL: "https://hr.contoso.com/", Secret: NewSecret(shared), Now: w.now}
		if _, err := NewWebhook(cfg); err != nil {
			t.Fatal(err)
		}
		spoil(&cfg)
		if _, err := NewWebhook(cfg); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

// However they are printed, secrets do not show.
func TestSecretsStaySecret(t *testing.T) {
	w, s := newWorld(t), cloud(t)
	n := w.intune(s, nil)
	_, err := n.Validate(context.Background(), submission(t))
	w.must(err)
	cfg := IntuneConfig{ClientSecret: NewSecret(hush), ClientCertificate: &ClientCertificate{}}
	var out strings.Builder
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		fmt.Fprintf(&out, verb+verb+verb, cfg, n, NewSecret(hush))
		fmt.Fprintf(&out, verb+verb, w.webhook(s.URL, nil), *n.tokens)
	}
	slog.New(slog.NewJSONHandler(&out, nil)).Info("x", "secret", NewSecret(hush), "certificate", &ClientCertificate{}, "config", cfg.ClientSecret)
	b, err := json.Marshal(map[string]any{"s": NewSecret(hush), "c": &ClientCertificate{}})
	w.must(err)
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, secret := range []string{hush, shared, "eyJ0.first", hex.EncodeToString([]byte(hush))} {
		if strings.Contains(out.String()+string(b)+w.logged.String(), secret) {
			t.Errorf("%q shows", secret)
		}
	}
}

func FuzzAnswers(f *testing.F) {
	for _, s := range []string{yes, success, `{"allow":false,"reason":"x"}`, hook(`,"device":{"serialNumber":"x"}`), `{"value":[{"uri":"x"}]}`, `{"a":{"b":[{}]},"a":1}`} {
		f.Add([]byte(s))
	}
	h := &Webhook{cfg: WebhookConfig{Name: "x"}}
	f.Fuzz(func(t *testing.T, data []byte) {
		a, err := h.applicant(data)
		if (err == nil) != (a.Mail != "" && (a.SerialNumber != "" || a.UDID != "")) {
			t.Errorf("applicant %+v, %v", a, err)
		}
		var loose map[string]any
		if err == nil && (json.Unmarshal(data, &loose) != nil || loose["allow"] != true) {
			t.Errorf("allowed by %q", data)
		}
		if o, err := decodeObject(data); err == nil {
			_, _ = o.list("value", 10)
			if code, err := o.text("code", 256); err == nil && len(code) > 256 {
				t.Error("a text is too long")
			}
		}
	})
}

func FuzzJamf(f *testing.F) {
	for _, s := range []string{hook(``), hook(`,"device":{"serialNumber":"x","udid":"y"}`), hook(`,"targetDevice":null,"udid":"z"`)} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		names, err := jamfDevice(data)
		for _, n := range names {
			if err != nil || n == "" || len(n) > maxAttribute {
				t.Errorf("name %q, %v", n, err)
			}
		}
	})
}

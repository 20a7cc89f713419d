package oauth

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"log/slog"
	"strings"
	"testing"
)

func TestSecretsNeverShow(t *testing.T) {
	const password = "S3cretPassw0rd"
	token := jwt(`{"alg":"RS256"}`, `{"upn":"alice@contoso.com"}`)
	for secret, header := range map[string]string{password: basic("alice@contoso.com:" + password), token: "Bearer " + token, "opaque-token": "Bearer opaque-token"} {
		c := parse(t, header)
		if c.Secret().Reveal() != secret {
			t.Fatalf("the secret is %q", c.Secret().Reveal())
		}
		type holder struct {
			Open   Credential
			hidden Credential
			key    Secret
			list   []Secret
		}
		h := holder{c, c, c.Secret(), []Secret{c.Secret()}}
		var b bytes.Buffer
		for _, v := range []any{c, &c, c.Secret(), h, &h, []Credential{c}, map[string]any{"c": c}} {
			for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%T"} {
				fmt.Fprintf(&b, verb+"\n", v)
			}
			data, err := json.Marshal(v)
			if err != nil {
				t.Fatal(err)
			}
			b.Write(data)
			for _, handler := range []slog.Handler{slog.NewJSONHandler(&b, nil), slog.NewTextHandler(&b, nil)} {
				slog.New(handler).Info("m", "v", v, slog.Group("g", "w", v))
			}
		}
		if data, err := xml.Marshal(c.Secret()); err != nil || bytes.Contains(data, []byte(secret)) {
			t.Errorf("xml: %s, %v", data, err)
		}
		for _, form := range []string{secret, fmt.Sprintf("%x", secret), fmt.Sprintf("%X", secret)} {
			if at := strings.Index(b.String(), form); at >= 0 {
				t.Errorf("the secret shows: ...%s", b.String()[max(0, at-200):at+len(form)])
			}
		}
	}
	if s := fmt.Sprint(NewSecret("x"), Secret{}); s != "[redacted] [redacted]" {
		t.Errorf("printed as %q", s)
	}
	if !(Secret{}).IsZero() || !NewSecret("").IsZero() || NewSecret("x").IsZero() {
		t.Error("IsZero")
	}
}

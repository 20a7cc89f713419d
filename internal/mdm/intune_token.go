package mdm

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"postern/internal/trust"
)

const (
	maxTokenAnswer = 64 << 10        // bytes
	tokenMargin    = 5 * time.Minute // a token is renewed so long before it expires, or after half its life if that is later
	assertionLife  = 5 * time.Minute // of a client assertion; Entra ID accepts ten
	maxTokenLife   = 24 * time.Hour
)

// token is an access token, and until when it is used.
type token struct {
	value Secret
	until time.Time
}

// tokens gets access tokens of an application (RFC 6749, section 4.4) and keeps them while they last.
type tokens struct {
	client      *http.Client
	now         func() time.Time
	endpoint    string
	clientID    string
	secret      Secret
	certificate *ClientCertificate

	gate   gate // guards cached; one request at a time
	cached map[string]token
}

// get returns a token for the scope.
func (t *tokens) get(ctx context.Context, scope string) (Secret, error) {
	if err := t.gate.enter(ctx); err != nil {
		return Secret{}, fmt.Errorf("get token: %w", err)
	}
	defer t.gate.leave()
	if c, ok := t.cached[scope]; ok && t.now().Before(c.until) {
		return c.value, nil
	}
	fresh, err := t.fetch(ctx, scope)
	if err != nil {
		return Secret{}, err
	}
	t.cached[scope] = fresh
	return fresh.value, nil
}

// drop forgets a token that was refused, unless there is a newer one already.
func (t *tokens) drop(ctx context.Context, scope string, refused Secret) {
	if t.gate.enter(ctx) != nil {
		return
	}
	defer t.gate.leave()
	if t.cached[scope].value == refused {
		delete(t.cached, scope)
	}
}

// fetch asks the token endpoint.
func (t *tokens) fetch(ctx context.Context, scope string) (token, error) {
	form := url.Values{"client_id": {t.clientID}, "scope": {scope}, "grant_type": {"client_credentials"}}
	if t.certificate == nil {
		form.Set("client_secret", t.secret.reveal())
	} else {
		assertion, err := t.assertion()
		if err != nil {
			return token{}, err
		}
		form.Set("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer")
		form.Set("client_assertion", assertion)
	}
	asked := t.now()
	header := http.Header{"Content-Type": {"application/x-www-form-urlencoded"}, "Accept": {"application/json"}}
	answer, err := exchange(ctx, t.client, "get token", t.endpoint, header, []byte(form.Encode()), maxTokenAnswer)
	if err != nil {
		return token{}, t.explain(err)
	}
	o, err := decodeObject(answer)
	if err != nil {
		return token{}, fmt.Errorf("get token: %w", err)
	}
	kind, err1 := o.text("token_type", 64)
	value, err2 := o.text("access_token", maxTokenAnswer)
	life, err3 := lifetime(o["expires_in"])
	if err := errors.Join(err1, err2, err3); err != nil {
		return token{}, fmt.Errorf("get token: %w", err)
	}
	if value == "" || strings.ContainsFunc(value, func(r rune) bool { return r <= ' ' || r > '~' }) || !strings.EqualFold(kind, "Bearer") {
		return token{}, errors.New("get token: the answer has no bearer token")
	}
	return token{NewSecret(value), asked.Add(life - min(tokenMargin, life/2))}, nil
}

// lifetime reads expires_in: seconds, as a number or, from older endpoints, as a string.
func lifetime(raw json.RawMessage) (time.Duration, error) {
	n, err := strconv.Atoi(strings.Trim(string(raw), `"`))
	if err != nil || n < 1 {
		return 0, errors.New("the answer has no lifetime")
	}
	return time.Duration(min(n, int(maxTokenLife/time.Second))) * time.Second, nil
}

// explain adds what the token endpoint wrote about its refusal (RFC 6749, section 5.2): it names the wrong secret or missing consent. A token that we
// do not get is a fault of ours, not a refusal of the device.
func (t *tokens) explain(err error) error {
	var f *httpFault
	if !errors.As(err, &f) || len(f.body) == 0 {
		return err
	}
	o, derr := decodeObject(f.body)
	if derr != nil {
		return err
	}
	code, err1 := o.text("error", 1024)
	text, err2 := o.text("error_description", maxTokenAnswer)
	if err1 != nil || err2 != nil || code == "" {
		return err
	}
	if !t.secret.IsZero() {
		text = strings.ReplaceAll(text, t.secret.reveal(), redacted)
	}
	return fmt.Errorf("%w: %s: %s", err, clip(code, 64), clip(text, 300))
}

// assertion proves possession of the client certificate's key (RFC 7523, section 2.2), signed with PS256 (RFC 7518, section 3.5).
func (t *tokens) assertion() (string, error) {
	now, sum := t.now(), sha256.Sum256(t.certificate.leaf.Raw)
	header, err1 := encode(map[string]string{"alg": "PS256", "typ": "JWT", "x5t#S256": base64.RawURLEncoding.EncodeToString(sum[:])})
	claims, err2 := encode(map[string]any{"aud": t.endpoint, "iss": t.clientID, "sub": t.clientID, "jti": trust.NewID("jti"),
		"nbf": now.Unix(), "iat": now.Unix(), "exp": now.Add(assertionLife).Unix()})
	if err := errors.Join(err1, err2); err != nil {
		return "", err
	}
	signed := base64.RawURLEncoding.EncodeToString(header) + "." + base64.RawURLEncoding.EncodeToString(claims)
	digest := sha256.Sum256([]byte(signed))
	signature, err := t.certificate.key.Sign(rand.Reader, digest[:], &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash, Hash: crypto.SHA256})
	if err != nil {
		return "", fmt.Errorf("sign client assertion: %w", err)
	}
	return signed + "." + base64.RawURLEncoding.EncodeToString(signature), nil
}

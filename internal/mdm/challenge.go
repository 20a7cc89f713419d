package mdm

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"time"

	"postern/internal/registry"
	"postern/internal/trust"
)

// login is a user name and a password of HTTP Basic authentication.
type login struct {
	name     string
	password Secret
}

// matches compares in constant time, so that an answer's delay tells nothing about the password.
func (l login) matches(name, password string) bool {
	return !l.password.IsZero() && equal(name, l.name)&equal(password, l.password.reveal()) == 1
}

// equal is 1 for the same text, in a time that depends on the lengths alone.
func equal(a, b string) int {
	x, y := sha256.Sum256([]byte(a)), sha256.Sum256([]byte(b))
	return subtle.ConstantTimeCompare(x[:], y[:])
}

// requester makes challenges for an MDM that has proved who it is.
type requester struct {
	source    string
	issuer    string
	registry  *registry.Registry
	principal trust.Principal
	ttl       time.Duration
	unbound   int // challenges for no device that may be open at once; 0: none are made
	log       *slog.Logger
	attempts  *Attempts
}

// check reports every problem of a configuration at once.
func (q *requester) check(logins []login) error {
	var problems []error
	if !sourceName(q.source) {
		problems = append(problems, fmt.Errorf("name %q: use lower-case letters, digits and dashes", clip(q.source, 64)))
	}
	if q.issuer == "" || q.registry == nil || q.log == nil {
		problems = append(problems, errors.New("issuer, registry and log are required"))
	}
	if q.ttl < time.Second || q.ttl > registry.MaxChallengeTTL {
		problems = append(problems, fmt.Errorf("challenge lifetime %s: use 1s to %s", q.ttl, registry.MaxChallengeTTL))
	}
	if q.unbound < 0 || q.unbound > registry.MaxUnboundOpen {
		problems = append(problems, fmt.Errorf("%d challenges that name no device at once: use 0 to %d", q.unbound, registry.MaxUnboundOpen))
	}
	if q.unbound > 0 && q.ttl > registry.MaxUnboundTTL {
		problems = append(problems, fmt.Errorf("lifetime %s of a challenge that names no device: use at most %s", q.ttl, registry.MaxUnboundTTL))
	}
	if len(logins) == 0 {
		problems = append(problems, errors.New("a user is required"))
	}
	seen := map[string]bool{}
	for _, l := range logins {
		name := strings.ToLower(l.name)
		if name == "" || seen[name] || len(l.password.reveal()) < 8 {
			problems = append(problems, fmt.Errorf("user %q: names must differ, passwords have 8 characters or more", clip(l.name, 64)))
		}
		seen[name] = true
	}
	return errors.Join(problems...)
}

// errNoDevice says what an MDM has to do; it wraps trust.ErrInvalid.
var (
	errNoDevice      = fmt.Errorf("the request names no device of this issuer: add the device first, and name it by serial number, UDID or id: %w", trust.ErrInvalid)
	errTwoDevices    = fmt.Errorf("the request names two devices: %w", trust.ErrInvalid)
	errUnboundDenied = fmt.Errorf("the request names no device, and challenges that are made for none are not allowed here: %w", trust.ErrForbidden)
)

// device returns the one device of the issuer that the names mean. Names that mean nothing are passed over: an MDM has ids of its own.
func (q *requester) device(ctx context.Context, names []string) (trust.DeviceID, error) {
	var found trust.DeviceID
	for _, name := range names {
		id, ok, err := q.registry.DeviceNamed(ctx, q.issuer, name)
		if err != nil {
			return "", err
		}
		if !ok || id == found {
			continue
		}
		d, err := q.registry.Device(ctx, id)
		if err != nil {
			return "", err
		}
		if d.Issuer != q.issuer {
			continue
		}
		if found != "" {
			return "", errTwoDevices
		}
		found = id
	}
	if found == "" {
		return "", errNoDevice
	}
	return found, nil
}

// challenge makes one for the device that the names mean; where there is no name at all, an unbound one if that is allowed.
func (q *requester) challenge(ctx context.Context, names []string, unbound bool) (string, error) {
	if len(names) > 0 {
		id, err := q.device(ctx, names)
		if err != nil {
			return "", err
		}
		secret, c, err := q.registry.CreateChallenge(ctx, q.principal, id, q.ttl)
		if err == nil {
			q.log.InfoContext(ctx, "challenge made for an MDM", "source", q.source, "issuer", q.issuer, "device", string(id), "challenge", c.ID)
		}
		return secret, err
	}
	if !unbound || q.unbound == 0 {
		return "", errUnboundDenied
	}
	secret, c, err := q.registry.CreateUnbound(ctx, q.principal, registry.Unbound{Issuer: q.issuer, Source: q.source, TTL: q.ttl, Open: q.unbound})
	if err == nil {
		q.log.InfoContext(ctx, "challenge made for an MDM, and for no device", "source", q.source, "issuer", q.issuer, "challenge", c.ID)
	}
	return secret, err
}

// problem turns an error into a status and a sentence for the MDM's administrator, who is authenticated. Anything unexpected is a fault without detail.
func (q *requester) problem(r *http.Request, err error) (int, string) {
	remote, _, _ := net.SplitHostPort(r.RemoteAddr)
	q.log.WarnContext(r.Context(), "challenge refused to an MDM", "source", q.source, "issuer", q.issuer, "remote", remote, "error", err)
	switch {
	case errors.Is(err, errNoDevice), errors.Is(err, errTwoDevices), errors.Is(err, errUnboundDenied):
		return http.StatusForbidden, err.Error()
	case errors.Is(err, registry.ErrUnboundFull):
		return http.StatusForbidden, "as many challenges are open as may be: use them, or wait until they expire"
	case errors.Is(err, trust.ErrConflict):
		return http.StatusForbidden, "the device is retired or blocked"
	case errors.Is(err, trust.ErrForbidden):
		return http.StatusForbidden, "challenges may not be made here"
	}
	return http.StatusServiceUnavailable, "no challenge can be made now: try again later"
}

// unauthorized asks for the password (RFC 7617, section 2).
func unauthorized(w http.ResponseWriter) {
	w.Header().Set("WWW-Authenticate", `Basic realm="Postern", charset="UTF-8"`)
	plainText(w, http.StatusUnauthorized, "authentication is required")
}

// plainText writes an answer that nobody keeps.
func plainText(w http.ResponseWriter, status int, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	if status == http.StatusServiceUnavailable {
		w.Header().Set("Retry-After", "60")
	}
	w.WriteHeader(status)
	_, _ = w.Write([]byte(text))
}

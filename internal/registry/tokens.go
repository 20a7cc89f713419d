package registry

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"postern/internal/trust"
)

// MaxTokenTTL is the longest life of an access token of the admin API.
const MaxTokenTTL = 366 * 24 * time.Hour

// Token is an access token of the admin API. Only a hash of its secret is stored.
type Token struct {
	ID      string          `json:"id"`
	Name    string          `json:"name"`
	Role    trust.Role      `json:"role"`
	By      trust.Principal `json:"by"`
	Created time.Time       `json:"created"`
	Expires time.Time       `json:"expires"`
	Revoked time.Time       `json:"revoked"` // zero while it is valid
}

// CreateToken makes an access token and returns its secret, which is not stored.
func (r *Registry) CreateToken(ctx context.Context, p trust.Principal, name string, role trust.Role, ttl time.Duration) (secret string, tok Token, err error) {
	switch role {
	case trust.HelpDesk, trust.PolicyAuthor, trust.PKIOfficer, trust.Auditor:
	default:
		return "", tok, fmt.Errorf("role %q %w: use help-desk, policy-author, pki-officer or auditor", role, trust.ErrInvalid)
	}
	if name == "" || !plain(name, 64) || ttl < time.Minute || ttl > MaxTokenTTL {
		return "", tok, fmt.Errorf("token %w: want a name of 1 to 64 bytes without control characters and a lifetime of 1m to %s", trust.ErrInvalid, MaxTokenTTL)
	}
	secret = "pst-" + strings.ToLower(newSecret())
	_, err = r.update(ctx, p, ActTokenCreate, name, func(t *txn) error {
		tok = Token{ID: hashSecret(secret)[:16], Name: name, Role: role, By: p, Created: t.now.UTC(), Expires: t.now.Add(ttl).UTC()}
		if err := put(t, tableTokens, hashSecret(secret), tok); err != nil {
			return err
		}
		t.Touch(KindToken, tok.ID)
		return t.audit(AuditEntry{Action: ActTokenCreate, Object: tok.ID, After: snapshot(tok)})
	})
	return secret, tok, err
}

// Authenticate returns the principal of an access token, or trust.ErrForbidden, without saying why.
func (r *Registry) Authenticate(ctx context.Context, secret string) (p trust.Principal, err error) {
	err = r.view(ctx, func(rd Reader) error {
		tok, err := get[Token](rd, tableTokens, hashSecret(secret))
		if errors.Is(err, trust.ErrNotFound) || err == nil && (!tok.Revoked.IsZero() || !r.now().Before(tok.Expires)) {
			return fmt.Errorf("access token is not valid: %w", trust.ErrForbidden)
		}
		p = trust.Principal{Kind: "token", Name: tok.Name, Role: tok.Role}
		return err
	})
	return p, err
}

// Tokens lists access tokens, without secrets. Only root may.
func (r *Registry) Tokens(ctx context.Context, p trust.Principal) (out []Token, err error) {
	if !permitted(p, ActTokenList) {
		return nil, fmt.Errorf("list tokens: %w", trust.ErrForbidden)
	}
	err = r.view(ctx, func(rd Reader) error {
		out, err = list[Token](rd, tableTokens, "", "", MaxLimit, nil)
		return err
	})
	return out, err
}

// RevokeToken ends an access token by its id. It takes effect with the next request.
func (r *Registry) RevokeToken(ctx context.Context, p trust.Principal, id string) error {
	_, err := r.update(ctx, p, ActTokenRevoke, id, func(t *txn) error {
		if len(id) != 16 {
			return fmt.Errorf("token %q: %w", id, trust.ErrNotFound)
		}
		found := ""
		t.Scan(tableTokens, id, "", func(key string, _ []byte) bool { found = key; return false })
		tok, err := get[Token](t, tableTokens, found)
		if err != nil || !tok.Revoked.IsZero() {
			return err
		}
		before := snapshot(tok)
		tok.Revoked = t.now.UTC()
		if err := put(t, tableTokens, found, tok); err != nil {
			return err
		}
		t.Touch(KindToken, id)
		return t.audit(AuditEntry{Action: ActTokenRevoke, Object: id, Before: before, After: snapshot(tok)})
	})
	return err
}

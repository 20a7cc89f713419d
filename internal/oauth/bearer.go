package oauth

import (
	"encoding/base64"
	"encoding/json"
	"math"
	"slices"
	"strings"
	"time"
)

// parseBearer reads a bearer token. One of three parts is a signed JWT (RFC 7515, section 7.1) or unreadable; anything else,
// an encrypted JWT included, is opaque.
func parseBearer(token string) (Credential, *Error) {
	if !b64token(token) {
		return Credential{}, unreadable("bearer: not a token")
	}
	c := Credential{Kind: KindBearer, secret: NewSecret(token)}
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		c.Opaque = true
		return c, nil
	}
	head, err := decodePart(parts[0])
	if err != nil {
		return Credential{}, err
	}
	if alg, _ := head["alg"].(string); alg == "" || parts[2] == "" {
		return Credential{}, unreadable("bearer: not signed")
	}
	if _, err := base64.RawURLEncoding.Strict().DecodeString(parts[2]); err != nil {
		return Credential{}, unreadable("bearer: not base64url")
	}
	payload, err := decodePart(parts[1])
	if err != nil {
		return Credential{}, err
	}
	r := claims{values: payload}
	r.fill(&c)
	if r.err != nil {
		return Credential{}, r.err
	}
	return c, nil
}

// b64token reports whether s has the form of a bearer token (RFC 6750, section 2.1).
func b64token(s string) bool {
	s = strings.TrimRight(s, "=")
	return s != "" && !strings.ContainsFunc(s, func(r rune) bool {
		return (r < '0' || r > '9') && (r < 'A' || r > 'Z') && (r < 'a' || r > 'z') && !strings.ContainsRune("-._~+/", r)
	})
}

func decodePart(part string) (map[string]any, *Error) {
	data, err := base64.RawURLEncoding.Strict().DecodeString(part)
	if err != nil {
		return nil, unreadable("bearer: not base64url")
	}
	object, ok := decodeObject(data)
	if !ok {
		return nil, unreadable("bearer: not a JSON object")
	}
	return object, nil
}

// claims reads the claims of a token; the first of a wrong type is kept.
type claims struct {
	values map[string]any
	err    *Error
}

func (r *claims) fill(c *Credential) {
	for _, name := range [...]string{"upn", "preferred_username", "unique_name", "email", "smtp"} {
		value, ok := r.text(name)
		if !ok {
			continue
		}
		user, ok := NormalizeUser(value)
		if !ok {
			r.fail("a user name")
			continue
		}
		if !slices.Contains(c.Users, user) {
			c.Users = append(c.Users, user)
		}
	}
	if len(c.Users) > 0 {
		c.User = c.Users[0]
	}
	c.OID, c.TID = r.lower("oid"), r.lower("tid")
	c.Issuer, _ = r.text("iss")
	c.Audience = r.list("aud", false)
	c.Scopes = r.list("scp", true)
	c.Roles = r.list("roles", false)
	c.Expires, c.NotBefore = r.time("exp"), r.time("nbf")
	appid, azp := r.lower("appid"), r.lower("azp")
	if appid != "" && azp != "" && appid != azp {
		r.fail("appid or azp")
	}
	c.AppID = max(appid, azp)
	c.AppOnly = r.lower("idtyp") == "app" || len(c.Users) == 0 && len(c.Roles) > 0
}

func (r *claims) fail(what string) {
	if r.err == nil {
		r.err = unreadable("bearer: " + what + " in the token is not as it should be")
	}
}

// text gives a claim that is a short printable string; false where there is none or it is empty.
func (r *claims) text(name string) (string, bool) {
	value, ok := r.values[name]
	if !ok {
		return "", false
	}
	s, ok := value.(string)
	if !ok || len(s) > maxName || !printable(s) {
		r.fail(name)
		return "", false
	}
	return s, s != ""
}

func (r *claims) lower(name string) string {
	s, _ := r.text(name)
	return strings.ToLower(s)
}

// list gives a claim that is a string or a list of strings, in lower case; split says that a string holds several words.
func (r *claims) list(name string, split bool) []string {
	var items []any
	switch value := r.values[name].(type) {
	case nil:
		if _, ok := r.values[name]; ok {
			r.fail(name)
		}
		return nil
	case []any:
		items = value
	default:
		items = []any{value}
	}
	var all []string
	for _, item := range items {
		s, ok := item.(string)
		if !ok || !printable(s) {
			r.fail(name)
			return nil
		}
		s = strings.ToLower(s)
		if split {
			all = append(all, strings.Fields(s)...)
		} else {
			all = append(all, s)
		}
	}
	return all
}

// maxSeconds is the end of the year 9999, the last that JSON and logs can show.
const maxSeconds = 253402300799

// time gives a NumericDate (RFC 7519, section 2), cut to whole seconds.
func (r *claims) time(name string) time.Time {
	value, ok := r.values[name]
	if !ok {
		return time.Time{}
	}
	number, _ := value.(json.Number)
	seconds, err := number.Float64()
	if err != nil || !(seconds >= 0 && seconds <= maxSeconds) {
		r.fail(name)
		return time.Time{}
	}
	return time.Unix(int64(math.Floor(seconds)), 0).UTC()
}

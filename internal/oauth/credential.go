// Package oauth reads the credentials of a request: bearer tokens (RFC 6750, RFC 7519) and Basic (RFC 7617). It does not
// verify them; Exchange does. It says whose they claim to be, so that a request can be refused before it is forwarded,
// and keeps the secret itself where no log finds it.
package oauth

import (
	"encoding/base64"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// MaxAuthorization is how long an Authorization header may be, in bytes.
const MaxAuthorization = 16 << 10

// maxName is how long a user name or another claim that identifies may be, in bytes.
const maxName = 320

// Kind is the kind of a credential.
type Kind string

// The kinds. KindEmptyBearer is how a phone that is being set up asks where to sign in.
const (
	KindNone        Kind = "none"
	KindEmptyBearer Kind = "empty_bearer"
	KindBearer      Kind = "bearer"
	KindBasic       Kind = "basic"
)

// The codes of an [Error].
const (
	CodeDuplicate  = "duplicate_credentials"
	CodeUnreadable = "unreadable_credentials"
)

// Error is a credential that is refused. It holds nothing of the credential.
type Error struct {
	Code   string // CodeDuplicate or CodeUnreadable
	Detail string // what was wrong, in fixed words
}

func (e *Error) Error() string { return "read credentials: " + e.Code + ": " + e.Detail }

func unreadable(detail string) *Error { return &Error{Code: CodeUnreadable, Detail: detail} }

// Credential is what an Authorization header claims. Nothing of it is verified. Names, identifiers, scopes and audiences
// are in lower case.
type Credential struct {
	Kind  Kind
	User  string   // user@domain, domain\user or user; "" where unknown; for a token the first of Users
	Users []string // every name in the token: upn, preferred_username, unique_name, email, smtp, in this order, each once

	// The rest is of a bearer token that is a JWT (RFC 7519, section 4.1; Microsoft identity platform access tokens).
	OID, TID  string // object and tenant in Entra ID
	Audience  []string
	AppID     string // the client: appid or azp
	Issuer    string // as the token has it
	Scopes    []string
	Roles     []string
	Expires   time.Time // zero where the token does not say
	NotBefore time.Time // zero where the token does not say
	AppOnly   bool      // for an application without user: idtyp is app, or roles without any user name
	Opaque    bool      // a bearer token that is not a signed JWT; nothing is known about it

	secret Secret
}

// Secret gives the bearer token or the Basic password.
func (c Credential) Secret() Secret { return c.secret }

// ParseAuthorization reads the values of the Authorization headers of a request, as [http.Header.Values] gives them. Two of
// them are refused whatever they say. The error is always an [*Error].
func ParseAuthorization(values []string) (Credential, error) {
	switch {
	case len(values) == 0:
		return Credential{Kind: KindNone}, nil
	case len(values) > 1:
		return Credential{}, &Error{Code: CodeDuplicate, Detail: "more than one Authorization header"}
	case len(values[0]) > MaxAuthorization:
		return Credential{}, unreadable("too long")
	}
	scheme, rest, _ := strings.Cut(values[0], " ")
	rest = strings.Trim(rest, " ")
	var c Credential
	var err *Error
	switch {
	case strings.EqualFold(scheme, "Bearer") && rest == "":
		c = Credential{Kind: KindEmptyBearer}
	case strings.EqualFold(scheme, "Bearer"):
		c, err = parseBearer(rest)
	case strings.EqualFold(scheme, "Basic"):
		c, err = parseBasic(rest)
	default:
		err = unreadable("scheme is neither Bearer nor Basic")
	}
	if err != nil {
		return Credential{}, err
	}
	return c, nil
}

// NormalizeUser gives a user name as [Credential] holds it: in lower case, user@domain or user as they are, DOMAIN\user and
// domain/user as domain\user, and without the backslash of an empty domain. The bool is false for what is no user name:
// empty, longer than 320 bytes, not printable UTF-8, or with an empty part or two separators of a kind.
func NormalizeUser(s string) (string, bool) {
	if len(s) > maxName || !printable(s) {
		return "", false
	}
	s = strings.ToLower(strings.ReplaceAll(strings.TrimSpace(s), "/", `\`))
	s = strings.TrimPrefix(s, `\`)
	domain, user, hasDomain := strings.Cut(s, `\`)
	if !hasDomain {
		domain, user = "", s
	}
	local, host, hasHost := strings.Cut(user, "@")
	switch {
	case local == "", hasHost && host == "", strings.Contains(user, `\`), strings.Contains(host, "@"):
		return "", false
	case strings.Contains(domain, "@"), hasDomain && domain == "":
		return "", false
	}
	return s, true
}

func printable(s string) bool {
	return utf8.ValidString(s) && !strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) })
}

// strictBase64 is made once: it is some hundred bytes.
var strictBase64 = base64.StdEncoding.Strict()

// parseBasic reads user name and password (RFC 7617, section 2), both without control characters. The name has to be UTF-8; the password is Exchange's to
// understand, and some clients write it in the character set of their region (section 2.1).
func parseBasic(token string) (Credential, *Error) {
	if strings.ContainsAny(token, "\r\n") {
		return Credential{}, unreadable("basic: not base64")
	}
	data, err := strictBase64.DecodeString(token)
	if err != nil {
		return Credential{}, unreadable("basic: not base64")
	}
	text := string(data)
	name, password, ok := strings.Cut(text, ":")
	switch {
	case !ok:
		return Credential{}, unreadable("basic: no colon")
	case strings.ContainsFunc(text, unicode.IsControl):
		return Credential{}, unreadable("basic: control characters")
	}
	user, ok := NormalizeUser(name)
	if !ok {
		return Credential{}, unreadable("basic: not a user name")
	}
	return Credential{Kind: KindBasic, User: user, Users: []string{user}, secret: NewSecret(password)}, nil
}

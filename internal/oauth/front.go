package oauth

import (
	"net/url"
	"slices"
	"strings"
)

// Limits of requests to the two endpoints.
const (
	MaxAuthorizeQuery = 16 << 10 // bytes; a claims parameter and a login hint fit several times
	MaxTokenForm      = 32 << 10 // bytes; codes and refresh tokens of Entra ID have 1 to 3 KiB
	maxParams         = 64
)

// The codes of a [RequestError]: RFC 6749, sections 4.1.2.1 and 5.2; invalid_target is of RFC 8707, section 2.
const (
	InvalidRequest          = "invalid_request"
	InvalidClient           = "invalid_client"
	InvalidScope            = "invalid_scope"
	InvalidTarget           = "invalid_target"
	UnauthorizedClient      = "unauthorized_client"
	UnsupportedGrantType    = "unsupported_grant_type"
	UnsupportedResponseType = "unsupported_response_type"
	TemporarilyUnavailable  = "temporarily_unavailable"
)

// RequestError is a request to an endpoint that is refused. It holds nothing of the request.
type RequestError struct {
	Code   string // of OAuth
	Detail string // for people, in fixed words
}

func (e *RequestError) Error() string { return "oauth request: " + e.Code + ": " + e.Detail }

// Front changes requests for this gate into requests for the mail service behind it. Its zero value lets nothing through.
type Front struct {
	Resources   []string // this gate, as phones name it: https://mail.contoso.com/; letter case, port 443 and slashes at the end do not matter
	Destination string   // the resource of the mail service: https://outlook.office365.com/
	Clients     []string // client ids, in lower case
	Scopes      []string // what may be asked of the mail service, as full names; empty where resource says it (Microsoft identity platform v1, AD FS)
}

// TokenRequest is a request to the token endpoint, ready to be sent on. Form holds secrets.
type TokenRequest struct {
	Grant string // authorization_code or refresh_token
	Form  Secret // application/x-www-form-urlencoded, in which resource and scope name the mail service and all else is as the client wrote it
}

// param is one parameter of a query or form.
type param struct {
	raw         string // as it was written
	name, value string // decoded; the name in lower case
}

// Authorize rewrites the query, or the form, of an authorization request (RFC 6749, section 4.1.1): resource and scope name the mail service; everything else, state and
// PKCE (RFC 7636) among it, stays byte for byte and in its order. The error is always a [*RequestError].
func (f Front) Authorize(rawQuery string) (string, error) {
	if len(rawQuery) > MaxAuthorizeQuery {
		return "", &RequestError{InvalidRequest, "the request is too long"}
	}
	params, err := f.parse(rawQuery)
	if err != nil {
		return "", err
	}
	for _, p := range params {
		switch {
		case p.value == "": // as if it were not there (RFC 6749, section 3.1)
		case p.name == "response_type" && p.value != "code":
			return "", &RequestError{UnsupportedResponseType, "only code is supported"}
		case p.name == "request" || p.name == "request_uri":
			// What they hold would count instead of what is looked at here (RFC 9101, section 4).
			return "", &RequestError{InvalidRequest, "request objects are not supported"}
		}
	}
	return f.swap(params)
}

// Token rewrites the form of a token request (RFC 6749, sections 4.1.3 and 6) like [Front.Authorize] does a query. Only the grants authorization_code and
// refresh_token are supported, and only public clients. The error is always a [*RequestError].
func (f Front) Token(form []byte) (TokenRequest, error) {
	if len(form) > MaxTokenForm {
		return TokenRequest{}, &RequestError{InvalidRequest, "the request is too long"}
	}
	params, err := f.parse(string(form))
	if err != nil {
		return TokenRequest{}, err
	}
	var r TokenRequest
	proof := ""
	for _, p := range params {
		switch p.name {
		case "grant_type":
			r.Grant = p.value
		case "code", "refresh_token":
			if p.value != "" {
				proof += p.name
			}
		case "client_secret", "client_assertion", "client_assertion_type":
			if p.value != "" { // otherwise as if it were not there (RFC 6749, section 3.2)
				return TokenRequest{}, &RequestError{InvalidClient, "only public clients are supported"}
			}
		}
	}
	switch {
	case r.Grant != "authorization_code" && r.Grant != "refresh_token":
		return TokenRequest{}, &RequestError{UnsupportedGrantType, "only authorization_code and refresh_token are supported"}
	case r.Grant == "authorization_code" && proof != "code" || r.Grant == "refresh_token" && proof != "refresh_token":
		return TokenRequest{}, &RequestError{InvalidRequest, "the request has to hold what its grant type is about, and nothing of the other"}
	}
	swapped, err := f.swap(params)
	r.Form = NewSecret(swapped)
	return r, err
}

// ofToken are the parameters that make a token request (RFC 6749, sections 4 and 6; RFC 7521, 7636 and 8707).
var ofToken = []string{"grant_type", "code", "redirect_uri", "code_verifier", "refresh_token", "scope", "resource", "client_id", "client_secret",
	"client_assertion", "client_assertion_type", "username", "password", "assertion"}

// CheckTokenQuery reads the query of a token endpoint's address (RFC 6749, section 3.2), where some libraries of Microsoft put api-version and
// client-request-id. It is not for sending on, and holds nothing that belongs into the form. The error is always a [*RequestError].
func CheckTokenQuery(rawQuery string) error {
	if len(rawQuery) > MaxAuthorizeQuery {
		return &RequestError{InvalidRequest, "the request is too long"}
	}
	params, err := split(rawQuery)
	if err != nil {
		return err
	}
	for _, p := range params {
		if slices.Contains(ofToken, p.name) {
			return &RequestError{InvalidRequest, "parameters belong into the body"}
		}
	}
	return nil
}

// parse splits a query or form, and checks who the client is.
func (f Front) parse(raw string) ([]param, error) {
	params, err := split(raw)
	if err != nil {
		return nil, err
	}
	for _, p := range params {
		if p.name == "client_id" && p.value != "" && slices.Contains(f.Clients, strings.ToLower(p.value)) {
			return params, nil
		}
	}
	return nil, &RequestError{InvalidClient, "the client is not one of those that may sign in here"}
}

// split takes a query or form apart, and refuses what two readers could understand differently: names that differ in letter case only are one, because some
// servers take them for one.
func split(raw string) ([]param, error) {
	bad := &RequestError{InvalidRequest, "the parameters cannot be read"}
	if strings.Contains(raw, ";") {
		return nil, bad // separates parameters for some readers
	}
	var out []param
	seen := map[string]bool{}
	for part := range strings.SplitSeq(raw, "&") {
		if part == "" {
			continue
		}
		rawName, rawValue, _ := strings.Cut(part, "=")
		name, err := url.QueryUnescape(rawName)
		value, err2 := url.QueryUnescape(rawValue)
		if name = strings.ToLower(name); err != nil || err2 != nil || len(out) == maxParams || !paramName(name) {
			return nil, bad
		}
		if seen[name] {
			return nil, &RequestError{InvalidRequest, "a parameter is there twice"} // RFC 6749, sections 3.1 and 3.2
		}
		seen[name] = true
		out = append(out, param{part, name, value})
	}
	return out, nil
}

// paramName accepts the names of RFC 6749, appendix A: letters, digits, and "-", ".", "_". s is in lower case.
func paramName(s string) bool {
	return s != "" && !strings.ContainsFunc(s, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < '0' || r > '9') && r != '-' && r != '.' && r != '_'
	})
}

// swap puts the mail service in place of this gate. A request that names neither is made to name the mail service: what it means otherwise is up to an
// identity provider.
func (f Front) swap(params []param) (string, error) {
	var parts []string
	named, scopeAt := false, -1
	for i, p := range params {
		part := p.raw
		rawName, _, _ := strings.Cut(p.raw, "=")
		switch p.name {
		case "resource":
			if p.value == "" {
				continue // as if it were not there, and another one may follow
			}
			if !sameResource(p.value, f.Destination) {
				if !slices.ContainsFunc(f.Resources, func(r string) bool { return sameResource(p.value, r) }) {
					return "", &RequestError{InvalidTarget, "the resource is not this gate"}
				}
				part = rawName + "=" + url.QueryEscape(f.Destination)
			}
			named = true
		case "scope":
			scope, service, err := f.scope(p.value)
			if err != nil {
				return "", err
			}
			if scope != p.value {
				part = rawName + "=" + url.QueryEscape(scope)
			}
			params[i].value, scopeAt = scope, i
			named = named || service
		}
		parts = append(parts, part)
	}
	switch {
	case named:
	case len(f.Scopes) == 0:
		parts = append(parts, "resource="+url.QueryEscape(f.Destination))
	case scopeAt >= 0:
		words := append(strings.Fields(params[scopeAt].value), f.Scopes...)
		parts[scopeAt] = "scope=" + url.QueryEscape(strings.Join(words, " "))
	default:
		parts = append(parts, "scope="+url.QueryEscape(strings.Join(f.Scopes, " ")))
	}
	return strings.Join(parts, "&"), nil
}

// scope swaps the resource in the words of a scope (RFC 6749, section 3.3), and reports whether one of them is about the mail service.
func (f Front) scope(value string) (out string, service bool, err error) {
	words := strings.Split(value, " ")
	for i, word := range words {
		switch strings.ToLower(word) {
		case "", "openid", "profile", "email", "offline_access":
			continue // OpenID Connect Core, sections 5.4 and 11: about the user, for the client itself
		}
		words[i] = f.scopeWord(word)
		if !slices.ContainsFunc(f.Scopes, func(s string) bool { return strings.EqualFold(s, words[i]) }) {
			return "", false, &RequestError{InvalidScope, "the scope is not one of those that may be asked for here"}
		}
		service = true
	}
	return strings.Join(words, " "), service, nil
}

// scopeWord puts the mail service in front of a scope that begins with this gate. One of a resource that ends with a slash has two.
func (f Front) scopeWord(word string) string {
	at := strings.LastIndexByte(word, '/')
	if at < 0 {
		return word
	}
	for _, r := range f.Resources {
		if sameResource(word[:at], r) {
			return strings.TrimRight(f.Destination, "/") + word[at:]
		}
	}
	return word
}

// sameResource compares resource identifiers as URLs of hosts.
func sameResource(a, b string) bool { return plainResource(a) == plainResource(b) }

func plainResource(s string) string {
	return strings.TrimSuffix(strings.ToLower(strings.TrimRight(s, "/")), ":443")
}

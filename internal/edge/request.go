package edge

import (
	"crypto/sha256"
	"errors"
	"net/http"
	"strings"

	"postern/internal/eas"
	"postern/internal/oauth"
	"postern/internal/policy"
)

// The classes of a request.
const (
	classDiscovery = "discovery"
	classCommand   = "command"
)

// request is what one request says, read once. Facts that may change while it is open are looked up anew for every decision.
type request struct {
	host, tenant string // tenant is empty where the host leaves it open
	authority    string // host as the phone wrote it, with its port
	protocol     string // eas, ews or oauth
	conn         *connection
	remote       string
	conflict     string // why it can be understood in two ways; empty: it cannot

	method     string
	class      string
	eas        eas.Request
	client     eas.Client
	model, os  string // as the body says, where it does
	userAgent  string
	credential policy.CredentialFacts
	named      bool   // the credential itself names a user
	token      string // the keyed hash of a bearer token that may have come through a ticket; empty: it has not
	grant      string // the grant type of a sign-in

	head   [sha256.Size]byte // see headOf
	headed bool              // the command may be kept under it
}

// The codes of a request that could be understood in two ways.
const (
	reasonFraming = "framing_conflict"
	reasonHeaders = eas.ReasonHeaderConflict
)

// read fills q from the request. The error says how to refuse; q then holds what is needed for that.
func (e *Edge) read(q *request, r *http.Request) *eas.RequestError {
	q.method, q.userAgent = r.Method, clip(r.UserAgent(), eas.MaxUserAgent)
	cred, err := oauth.ParseAuthorization(r.Header["Authorization"])
	q.class = classCommand
	if r.Method == http.MethodOptions || err == nil && (cred.Kind == oauth.KindNone || cred.Kind == oauth.KindEmptyBearer) {
		q.class = classDiscovery
	}
	// A phone that asks how to sign in names no command: GET, or POST without query. What it does name has to be right.
	method := r.Method
	if q.class == classDiscovery && (method == http.MethodGet || method == http.MethodPost && r.URL.RawQuery == "") {
		method = http.MethodOptions
	}
	var bad error
	q.eas, bad = eas.ParseRequest(method, r.URL.RawQuery, r.Header)
	if method != r.Method {
		q.eas.Command = eas.NoCommand
	}
	q.client = e.clients.Parse(r.UserAgent(), q.eas.DeviceType)
	q.credential, q.named = credentialFacts(cred, err, q.eas.User), len(cred.Users) > 0
	q.token = e.tokenOf(q, cred)
	if q.conflict != "" {
		return &eas.RequestError{Status: eas.StatusInvalidContent, HTTPStatus: http.StatusBadRequest, Reason: q.conflict}
	}
	if bad != nil {
		var refused *eas.RequestError
		if errors.As(bad, &refused) {
			return refused
		}
	}
	return nil
}

// credentialFacts says whom a request claims to be for. The User parameter counts as a name, so that a query for one user with the credentials of another
// is no one's; only a bare name that one of the credential's names ends or begins with says nothing new.
func credentialFacts(c oauth.Credential, err error, user string) policy.CredentialFacts {
	f := policy.CredentialFacts{Kind: string(c.Kind), Names: map[string]bool{}, OID: c.OID, TID: c.TID, Audience: c.Audience, AppID: c.AppID, Expires: policy.Seconds(c.Expires)}
	switch {
	case err != nil:
		f.Kind, f.Problem = string(oauth.KindNone), oauth.CodeUnreadable
		var refused *oauth.Error
		if errors.As(err, &refused) {
			f.Problem = refused.Code
		}
	case c.AppOnly:
		f.Problem = "app_only"
	}
	for _, name := range c.Users {
		f.Names[name] = true
	}
	f.User = c.User
	if user != "" && !sameBareName(user, c.Users) {
		f.Names[user] = true
		f.User = user
	}
	return f
}

// sameBareName reports whether user is a name without domain that one of the names has within its domain.
func sameBareName(user string, names []string) bool {
	if strings.ContainsAny(user, `@\`) {
		return false
	}
	for _, name := range names {
		local, _, _ := strings.Cut(name[strings.IndexByte(name, '\\')+1:], "@")
		if local == user {
			return true
		}
	}
	return false
}

// clip cuts s to n bytes.
func clip(s string, n int) string {
	if len(s) <= n {
		return s
	}
	return strings.ToValidUTF8(s[:n], "")
}

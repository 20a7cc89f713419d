package edge

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"postern/internal/eas"
	"postern/internal/oauth"
	"postern/internal/policy"
	"postern/internal/registry"
	"postern/internal/trust"
)

// PathOAuth is where the OAuth front is: PathOAuth + "authorize" and PathOAuth + "token", and with the ticket of a device PathOAuth + "t/TICKET/authorize" and
// PathOAuth + "t/TICKET/token".
const PathOAuth = "/proxyservice/oauth2/"

const (
	protocolOAuth = "oauth"
	classToken    = "token"
)

// OAuth configures the OAuth front: phones sign in here, with this gate as the resource, and the identity provider is asked for a token for the mail service.
type OAuth struct {
	// Authorize and Token are the endpoints of the identity provider: https, or http on a loopback address; without query.
	Authorize, Token *url.URL
	TokenRoots       *x509.CertPool // trusted for Token; nil: those of the system

	Front   oauth.Front
	Tickets bool              // per-device addresses are served, and tokens that were obtained through them are recognised
	Key     registry.GrantKey // required with Tickets
}

func (o *OAuth) check() error {
	if o.Authorize == nil || o.Token == nil || o.Front.Destination == "" || len(o.Front.Resources) == 0 || len(o.Front.Clients) == 0 {
		return errors.New("oauth: endpoints, resources and clients are needed")
	}
	if o.Tickets && o.Key == (registry.GrantKey{}) {
		return errors.New("oauth: tickets need a key")
	}
	for _, u := range []*url.URL{o.Authorize, o.Token} {
		if err := CheckUpstream(u); err != nil {
			return fmt.Errorf("oauth: endpoint: %w", err)
		}
	}
	return nil
}

// front is the OAuth front at work.
type front struct {
	OAuth
	endpoint  *http.Transport
	open      chan struct{} // one place for each request that waits for the identity provider
	strangers *limiter      // by address: requests that were refused, and sign-ins that begin
	devices   *limiter      // by device: requests that were sent on
}

// Limits of the front. Phones ask for a token about once an hour, and many of them may share an address.
const (
	maxExchanges    = 256 // that wait for the identity provider at the same time
	exchangeTimeout = 30 * time.Second
)

func newFront(o *OAuth) *front {
	if o == nil {
		return nil
	}
	return &front{OAuth: *o, open: make(chan struct{}, maxExchanges), strangers: newLimiter(120, time.Second), devices: newLimiter(20, 30*time.Second),
		endpoint: &http.Transport{
			Proxy:       nil, // what the environment says of proxies is not for tokens
			DialContext: (&net.Dialer{Timeout: 10 * time.Second}).DialContext,
			// A code or refresh token is good once: never on a kept connection, whose end cannot be told from a request that was taken.
			DisableKeepAlives:      true,
			DisableCompression:     true,
			TLSClientConfig:        &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: o.TokenRoots, ClientSessionCache: tls.NewLRUClientSessionCache(16)},
			TLSHandshakeTimeout:    10 * time.Second,
			ForceAttemptHTTP2:      true,
			MaxResponseHeaderBytes: maxHeader,
		}}
}

// serves reports whether a path is one of the front.
func (f *front) serves(path string) bool {
	_, _, ok := f.split(path)
	return ok
}

// split takes a path of the front apart. ok is false for any other.
func (f *front) split(path string) (ticket, endpoint string, ok bool) {
	if f == nil || len(path) < len(PathOAuth) || !strings.EqualFold(path[:len(PathOAuth)], PathOAuth) {
		return "", "", false
	}
	endpoint = strings.ToLower(path[len(PathOAuth):])
	if rest, has := strings.CutPrefix(endpoint, "t/"); has && f.Tickets {
		if ticket, endpoint, has = strings.Cut(rest, "/"); !has || ticket == "" || len(ticket) > 64 {
			return "", "", false
		}
	}
	return ticket, endpoint, endpoint == "authorize" || endpoint == "token"
}

// serveOAuth takes a request to the OAuth front.
func (e *Edge) serveOAuth(w http.ResponseWriter, r *http.Request, q *request) {
	q.method, q.userAgent, q.class = r.Method, clip(r.UserAgent(), eas.MaxUserAgent), classToken
	q.client = e.clients.Parse(r.UserAgent(), "")
	ticket, endpoint, _ := e.front.split(r.URL.EscapedPath())
	w.Header().Set("Pragma", "no-cache") // RFC 6749, section 5.1
	if endpoint == "token" {
		e.serveToken(w, r, q, ticket)
		return
	}
	q.grant = "authorize"
	e.serveAuthorize(w, r, q)
}

// serveAuthorize sends a browser on to the identity provider, and nowhere else: the request's own redirect_uri is the identity provider's to check. There is
// nothing to decide yet, because the browser has no certificate and the code that it brings back is worth nothing without the token endpoint here.
func (e *Edge) serveAuthorize(w http.ResponseWriter, r *http.Request, q *request) {
	status := http.StatusFound
	switch r.Method {
	case http.MethodGet, http.MethodHead:
	case http.MethodPost:
		status = http.StatusSeeOther // asked with GET, by every browser (RFC 9110, section 15.4.4)
	default:
		w.Header().Set("Allow", "GET, HEAD, POST")
		answer(w, "", http.StatusMethodNotAllowed, "", nil)
		return
	}
	if !e.front.strangers.take(q.remote, e.now()) {
		w.Header().Set("Retry-After", e.comeBack(returnAfter))
		answer(w, "", http.StatusTooManyRequests, "", nil)
		return
	}
	query, err := e.readAuthorize(r)
	if err != nil {
		// To nobody's redirect_uri (RFC 6749, section 4.1.2.1): the person at the phone reads it.
		ref := e.recordSignIn(q, err)
		text := fmt.Sprintf("You cannot sign in: %v.\nYour help desk can look up why: %s\n", refusedWords(err), ref)
		answer(w, ref, http.StatusBadRequest, "text/plain; charset=utf-8", []byte(text))
		return
	}
	w.Header().Set("Location", e.front.Authorize.String()+"?"+query)
	w.Header().Set("Referrer-Policy", "no-referrer")
	answer(w, "", status, "", nil)
}

// readAuthorize reads an authorization request, and returns the query for the identity provider. With POST (RFC 6749, section 3.1; OpenID Connect Core, section
// 3.1.2.1) a form continues the query: whatever is in both is there twice.
func (e *Edge) readAuthorize(r *http.Request) (string, error) {
	query := r.URL.RawQuery
	if r.Method == http.MethodPost {
		form, err := readForm(r, oauth.MaxAuthorizeQuery)
		if err != nil {
			return "", err
		}
		query = strings.Trim(query+"&"+string(form), "&")
	}
	return e.front.Front.Authorize(query)
}

// refusedWords says why a request was refused, in fixed words.
func refusedWords(err error) string {
	var refused *oauth.RequestError
	if errors.As(err, &refused) {
		return refused.Detail
	}
	return "the request cannot be read"
}

// signInReasons are the reason codes of requests that are refused for what they ask, whoever asks.
func signInReason(code string) (reason, remedy string) {
	switch code {
	case oauth.InvalidClient:
		return "oauth_client_not_allowed", "Use an allowed mail client, or add its client id to edge.oauth.client_ids."
	case oauth.InvalidTarget, oauth.InvalidScope:
		return "oauth_resource_not_allowed", "Only the mail service can be asked for here: look at edge.oauth.resource and edge.oauth.scopes, and at what the mail profile says."
	case oauth.UnsupportedGrantType, oauth.UnsupportedResponseType:
		return "oauth_grant_not_allowed", "Only signing in with a browser (authorization code) and refreshing is possible here. Anything else is somebody who tries."
	}
	return "oauth_request_malformed", "Update the mail client, or find what changes its requests on the way."
}

// recordSignIn records a request that was refused for its form. Nothing of it is kept.
func (e *Edge) recordSignIn(q *request, err error) string {
	var refused *oauth.RequestError
	code := oauth.InvalidRequest
	if errors.As(err, &refused) {
		code = refused.Code
	}
	reason, remedy := signInReason(code)
	now := e.now()
	ref := trust.NewReference(now)
	e.cfg.Journal.Record(trust.Decision{Reference: ref, At: now, Door: "edge", Action: trust.Deny, Remote: q.remote, Command: q.grant,
		Reasons: []trust.Reason{{Code: reason, Text: fmt.Sprintf("A sign-in at the OAuth front was refused: %s (%s).", refusedWords(err), code), Rule: "edge", Remedy: remedy}}})
	return ref
}

// ownChallenge lets Exchange's challenge lead to the OAuth front. Of the header nothing else is changed, and of its values only the address.
func (e *Edge) ownChallenge(h http.Header, q *request) {
	values := h["Www-Authenticate"]
	if e.front == nil || len(values) == 0 {
		return
	}
	uri := (&url.URL{Scheme: "https", Host: ownAuthority(q.host, q.authority), Path: PathOAuth + "authorize"}).String()
	own := make([]string, len(values)) // the values may be shared with other answers
	for i, v := range values {
		own[i] = oauth.RewriteChallenge(v, uri)
	}
	h["Www-Authenticate"] = own
}

// tokenOf returns the keyed hash of a bearer token without a certificate beside it, where there are tickets.
func (e *Edge) tokenOf(q *request, cred oauth.Credential) string {
	if e.front == nil || !e.front.Tickets || cred.Kind != oauth.KindBearer || q.conn.leaf != nil {
		return ""
	}
	return e.front.Key.Hash(cred.Secret().Reveal())
}

// tokenFacts says whether the bearer token of a request without certificate was obtained through a ticket, and of which device. It returns when a ticket that
// counts was made.
func tokenFacts(x *registry.Reading, in *policy.AccessInput, q *request, now time.Time) (made time.Time) {
	if q.token == "" || in.Certificate.Present {
		return made
	}
	g, k, ok := x.Grant(q.token)
	if !ok || !now.Before(g.Expires) {
		return made
	}
	if ticketFacts(x, in, k); in.Ticket.Status == "live" {
		in.Assurance, in.AssuranceUntil = "token", g.Expires.Unix()
		made = k.Created
	}
	return made
}

// ticketFacts fills in a ticket that is known.
func ticketFacts(x *registry.Reading, in *policy.AccessInput, k registry.Ticket) {
	in.Ticket = policy.TicketFacts{Status: "revoked", ID: k.ID, Device: string(k.Device)}
	if d, ok := x.Device(k.Device); ok && k.Live(*d) && (in.Request.Tenant == "" || in.Request.Tenant == d.Issuer) {
		in.Ticket.Status = "live"
	}
}

package edge

import (
	"errors"
	"net/http"
	"strings"

	"postern/internal/eas"
	"postern/internal/oauth"
	"postern/internal/trust"
)

// pathEWS begins the paths of Exchange Web Services.
const pathEWS = "/ews/"

// pathEWSServer is where clients ask them.
const pathEWSServer = "/EWS/Exchange.asmx"

const protocolEWS = "ews"

// isEWS reports whether a path is one of Exchange Web Services where these are switched on: plain letters and digits, so that no two servers can understand it
// differently.
func (e *Edge) isEWS(path string) bool {
	if !e.cfg.EWS || len(path) < len(pathEWS) || !strings.EqualFold(path[:len(pathEWS)], pathEWS) || strings.Contains(path, "..") || strings.Contains(path, "//") {
		return false
	}
	return !strings.ContainsFunc(path, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && !strings.ContainsRune("/._-", r)
	})
}

// serveEWS guards Exchange Web Services like ActiveSync: certificate, device, owner and policy. There is no DeviceId, so what a team wants to know of the client
// is its user agent. A refusal is HTTP 403, because SOAP has no word that clients would understand better.
func (e *Edge) serveEWS(w http.ResponseWriter, r *http.Request, q *request) {
	if r.Method != http.MethodPost && r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD, POST")
		answer(w, "", http.StatusMethodNotAllowed, "", nil)
		return
	}
	cred, err := oauth.ParseAuthorization(r.Header.Values("Authorization"))
	q.method, q.userAgent, q.class = r.Method, clip(r.UserAgent(), eas.MaxUserAgent), classCommand
	q.client = e.clients.Parse(r.UserAgent(), "")
	q.credential, q.named = credentialFacts(cred, err, ""), len(cred.Users) > 0
	q.token = e.tokenOf(q, cred)
	var refused *oauth.Error
	if !errors.As(err, &refused) && (cred.Kind == oauth.KindNone || cred.Kind == oauth.KindEmptyBearer) {
		q.class = classDiscovery
		e.challengeEWS(w, r, q)
		return
	}
	e.serveCommand(w, r, q)
}

// challengeEWS tells a client that does not sign in yet how to: with the challenge that Exchange gives to an empty Bearer. Nothing of its request is sent on.
func (e *Edge) challengeEWS(w http.ResponseWriter, r *http.Request, q *request) {
	now := e.now()
	s := e.situation(q, now)
	v := e.decide(r.Context(), e.cfg.Policy.Load(), s.input, now)
	ref := e.record(q, s, v, now)
	if v.action != trust.Allow {
		e.refuse(w, q, ref, v)
		return
	}
	d, err := e.sharedChallenge(r.Context())
	if err != nil {
		abandoned(r)
		e.cfg.Log.WarnContext(r.Context(), "edge: discovery failed", "error", err)
		e.failed(w, q, faultUpstream, "The upstream did not answer a discovery request.")
		return
	}
	e.answerDiscovery(w, q, d)
}

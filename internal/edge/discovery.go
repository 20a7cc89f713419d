package edge

import (
	"context"
	"fmt"
	"net/http"
	"sync"
	"time"

	"postern/internal/oauth"
	"postern/internal/trust"
)

const (
	discoveryTimeout  = 30 * time.Second
	challengeLifetime = time.Minute
)

// discoveryHeaders are what an answer to discovery consists of: how to sign in, and what the server speaks. Nothing else passes.
var discoveryHeaders = []string{"Www-Authenticate", "X-Ms-Diagnostics", "Ms-Asprotocolversions", "Ms-Asprotocolcommands", "Ms-Server-Activesync", "Allow", "Public",
	"Retry-After", "X-Ms-Asthrottle", "Request-Id"}

// discovered is an answer of the upstream to discovery.
type discovered struct {
	status int
	header http.Header
}

// challengeCache keeps for a moment what the upstream answers to an empty Bearer.
type challengeCache struct {
	mu    sync.Mutex // held while it is fetched: one asks, the others wait
	known discovered
	at    time.Time
}

// serveDiscovery tells a phone that is being set up how to sign in and what the server speaks. It sends no body on and brings none back.
//
// A request without Authorization is answered by the edge, with the challenge that the upstream gives to an empty Bearer: Exchange Online answers it with a
// redirect around the gate instead.
func (e *Edge) serveDiscovery(w http.ResponseWriter, r *http.Request, q *request) {
	now := e.now()
	s := e.situation(q, now)
	v := e.decide(r.Context(), e.cfg.Policy.Load(), s.input, now)
	ref := e.record(q, s, v, now)
	if v.action != trust.Allow {
		e.refuse(w, q, ref, v)
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), discoveryTimeout)
	defer cancel()
	var d discovered
	var err error
	switch {
	case q.credential.Kind == string(oauth.KindNone):
		d, err = e.sharedChallenge(ctx)
	case q.credential.Kind == string(oauth.KindEmptyBearer) && r.Method != http.MethodOptions:
		// Whatever the command was, an empty Bearer asks how to sign in, and GET is how an iPhone asks.
		d, err = e.discover(ctx, http.MethodGet, "", r.Header, true)
	default:
		d, err = e.discover(ctx, http.MethodOptions, r.URL.RawQuery, r.Header, q.credential.Kind == string(oauth.KindEmptyBearer))
	}
	if err != nil {
		if r.Context().Err() == nil {
			e.cfg.Log.WarnContext(r.Context(), "edge: discovery failed", "error", err)
			e.failed(w, q, faultUpstream, "The upstream did not answer a discovery request.")
		}
		return
	}
	e.answerDiscovery(w, q, d)
}

func (e *Edge) answerDiscovery(w http.ResponseWriter, q *request, d discovered) {
	switch {
	case leadsAway(d.status):
		e.failed(w, q, faultRedirect, fmt.Sprintf("The upstream answered a discovery request with %d, which would lead the phone around the gate.", d.status))
		return
	case d.status == http.StatusUnauthorized && len(d.header.Values("Www-Authenticate")) == 0,
		q.credential.Kind == string(oauth.KindNone) && d.status != http.StatusUnauthorized:
		e.failed(w, q, faultChallenge, fmt.Sprintf("The upstream answered a discovery request with %d and without saying how to sign in.", d.status))
		return
	}
	copyHeader(w.Header(), d.header)
	answer(w, "", d.status, "", nil)
}

// sharedChallenge returns what the upstream answers to an empty Bearer of the edge's own, at most a minute old.
func (e *Edge) sharedChallenge(ctx context.Context) (discovered, error) {
	c := &e.challenge
	c.mu.Lock()
	defer c.mu.Unlock()
	if now := e.now(); c.known.status != 0 && now.Sub(c.at) < challengeLifetime && !now.Before(c.at) {
		return c.known, nil
	}
	d, err := e.discover(ctx, http.MethodGet, "", http.Header{}, true)
	if err == nil && d.status == http.StatusUnauthorized {
		c.known, c.at = d, e.now()
	}
	return d, err
}

// discover asks the upstream, with what the phone's header says of its identity, and keeps of the answer what discovery is about.
func (e *Edge) discover(ctx context.Context, method, rawQuery string, phone http.Header, emptyBearer bool) (discovered, error) {
	out := e.upstream.request(ctx, method, pathEAS, rawQuery)
	for _, name := range []string{"Authorization", "User-Agent", "X-User-Identity", "Ms-Asprotocolversion", "Accept-Language", "Client-Request-Id"} {
		if v := phone.Values(name); len(v) > 0 {
			out.Header[name] = v
		}
	}
	if emptyBearer {
		out.Header["Authorization"] = []string{"Bearer"}
	}
	resp, err := e.upstream.pooled.RoundTrip(out)
	if err != nil {
		return discovered{}, err
	}
	defer func() { _ = resp.Body.Close() }() // nothing of the body is wanted
	d := discovered{status: resp.StatusCode, header: http.Header{}}
	for _, name := range discoveryHeaders {
		if v := resp.Header.Values(name); len(v) > 0 {
			d.header[name] = v
		}
	}
	return d, nil
}

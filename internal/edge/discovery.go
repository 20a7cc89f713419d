package edge

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"

	"postern/internal/eas"
	"postern/internal/oauth"
	"postern/internal/trust"
)

const (
	discoveryTimeout  = 30 * time.Second
	challengeLifetime = time.Minute
	failureLifetime   = 2 * time.Second
)

// discoveryHeaders are what an answer to discovery consists of: how to sign in, and what the server speaks. Nothing else passes.
var discoveryHeaders = []string{"Www-Authenticate", "X-Ms-Diagnostics", "Ms-Asprotocolversions", "Ms-Asprotocolcommands", "Ms-Server-Activesync", "Allow", "Public",
	"Retry-After", "X-Ms-Asthrottle", "Request-Id"}

// discovered is an answer of the upstream to discovery.
type discovered struct {
	status int
	header http.Header
}

// challengeCache keeps for a moment what the upstream answers to an empty Bearer: one asks, the others wait for what it learns, or go away.
type challengeCache struct {
	mu      sync.Mutex
	known   discovered
	err     error
	until   time.Time
	waiting chan struct{} // closed when the one who asks is done; nil while nobody does
}

// spoken is what the upstream has last told a proved phone that it speaks.
type spoken struct{ header http.Header }

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
	d, err := e.learn(ctx, r, q, s)
	if err != nil {
		abandoned(r)
		e.cfg.Log.WarnContext(r.Context(), "edge: discovery failed", "error", err)
		e.failed(w, q, faultUpstream, "The upstream did not answer a discovery request.")
		return
	}
	e.answerDiscovery(w, q, d)
}

// learn finds out what a phone may be told. Credentials go to the upstream only from a phone with a certificate of ours: a stranger must not try
// passwords through the gate, under the gate's address.
func (e *Edge) learn(ctx context.Context, r *http.Request, q *request, s situation) (discovered, error) {
	empty := q.credential.Kind == string(oauth.KindEmptyBearer)
	proved := s.input.Certificate.Problem == "" && s.input.Certificate.Status != "none"
	switch {
	case q.credential.Kind == string(oauth.KindNone), empty && !proved && r.Method != http.MethodOptions && r.Header.Get("X-User-Identity") == "":
		return e.sharedChallenge(ctx)
	case empty && r.Method != http.MethodOptions:
		// Whatever the command was, an empty Bearer asks how to sign in, and GET is how an iPhone asks.
		return e.discover(ctx, http.MethodGet, "", r.Header, true)
	case !empty && !proved:
		return discovered{status: http.StatusOK, header: e.speaks()}, nil
	}
	d, err := e.discover(ctx, http.MethodOptions, r.URL.RawQuery, r.Header, empty)
	if err == nil && d.status == http.StatusOK && proved {
		h := http.Header{}
		for _, name := range []string{"Ms-Asprotocolversions", "Ms-Asprotocolcommands", "Ms-Server-Activesync"} {
			if v := d.header.Values(name); len(v) > 0 {
				h[name] = v
			}
		}
		e.spoken.Store(&spoken{h})
	}
	return d, err
}

// speaks is what a stranger learns of the upstream's protocol (MS-ASHTTP, section 2.2.1.2.2): what it said last, or, before it was heard, what the edge
// itself understands.
func (e *Edge) speaks() http.Header {
	if known := e.spoken.Load(); known != nil && len(known.header.Values("Ms-Asprotocolversions")) > 0 {
		return known.header
	}
	var commands []string
	for _, c := range eas.Commands() {
		commands = append(commands, c.String())
	}
	return http.Header{"Ms-Asprotocolversions": {"14.1,16.0,16.1"}, "Ms-Asprotocolcommands": {strings.Join(commands, ",")}}
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
	e.ownChallenge(w.Header(), q)
	answer(w, "", d.status, "", nil)
}

// sharedChallenge returns what the upstream answers to an empty Bearer of the edge's own, at most a minute old. A failure is kept for two seconds, so that
// an upstream that is ill is not asked by everybody in turn.
func (e *Edge) sharedChallenge(ctx context.Context) (discovered, error) {
	c := &e.challenge
	for {
		c.mu.Lock()
		if now := e.now(); now.Before(c.until) && c.until.Sub(now) <= challengeLifetime {
			defer c.mu.Unlock()
			return c.known, c.err
		}
		if c.waiting == nil {
			c.waiting = make(chan struct{})
			c.mu.Unlock()
			// Not with the context of the one who happens to be first: the others wait for it too.
			go e.fetchChallenge(context.WithoutCancel(ctx))
			continue
		}
		done := c.waiting
		c.mu.Unlock()
		select {
		case <-done:
		case <-ctx.Done():
			return discovered{}, ctx.Err()
		}
	}
}

func (e *Edge) fetchChallenge(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, discoveryTimeout)
	defer cancel()
	d, err := e.discover(ctx, http.MethodGet, "", http.Header{}, true)
	life := failureLifetime
	if err == nil && d.status == http.StatusUnauthorized {
		life = challengeLifetime
	}
	c := &e.challenge
	c.mu.Lock()
	defer c.mu.Unlock()
	c.known, c.err, c.until = d, err, e.now().Add(life)
	close(c.waiting)
	c.waiting = nil
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
	resp, err := e.askAround(out)
	if err != nil {
		return discovered{}, err
	}
	d := discovered{status: resp.StatusCode, header: http.Header{}}
	for _, name := range discoveryHeaders {
		if v := resp.Header.Values(name); len(v) > 0 {
			d.header[name] = v
		}
	}
	return d, nil
}

// askAround sends a request without body, and follows where it is sent on to. Of the answer only the head is left.
func (e *Edge) askAround(out *http.Request) (*http.Response, error) {
	server := e.upstream.base
	var been trail
	for {
		resp, err := e.upstream.pooled.RoundTrip(out)
		if err != nil {
			return nil, err
		}
		_ = resp.Body.Close() // nothing of it is wanted
		to := e.upstream.routes.next(out.URL, resp)
		if !leadsAway(resp.StatusCode) || to == nil || !been.leads(out.URL, to) {
			return resp, nil
		}
		out, server = retarget(out, server, to), to
	}
}

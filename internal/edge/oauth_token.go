package edge

import (
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strings"
	"time"

	"postern/internal/oauth"
	"postern/internal/policy"
	"postern/internal/trust"
)

// faultEndpoint is the code of an identity provider that does not answer as one.
const faultEndpoint = "identity_provider_unreachable"

// tokenAnswer is what the identity provider said.
type tokenAnswer struct {
	status int
	header http.Header
	body   []byte
}

// serveToken takes a request to the token endpoint. What is not the form of a sign-in, and whoever does not come with the certificate or the ticket of a
// device that the policy lets sign in, never reaches the identity provider: a stolen code or refresh token is not to be redeemed through the gate.
func (e *Edge) serveToken(w http.ResponseWriter, r *http.Request, q *request, ticket string) {
	if r.Method != http.MethodPost {
		w.Header().Set("Allow", http.MethodPost)
		answer(w, "", http.StatusMethodNotAllowed, "", nil)
		return
	}
	asked, err := e.readToken(r)
	if err != nil {
		e.refuseForm(w, q, err)
		return
	}
	q.grant = asked.Grant
	now := e.now()
	s := e.signIn(q, ticket, policy.CredentialFacts{Kind: "none", Names: map[string]bool{}}, now)
	v := e.decide(r.Context(), e.cfg.Policy.Load(), s.input, now)
	if v.action != trust.Allow {
		e.refuseSignIn(w, q, s, v, now)
		return
	}
	if !e.front.devices.take(s.input.Device.ID, now) {
		e.throttle(w, "The device asks for tokens too often.")
		return
	}
	if s.certUse {
		e.noteFirstUse(s.input, now)
	}
	got, err := e.askIdentityProvider(r, asked)
	if err != nil {
		abandoned(r)
		e.cfg.Log.WarnContext(r.Context(), "edge: identity provider cannot be used", "error", err)
		e.refuseSignIn(w, q, s, fault(faultEndpoint, "The identity provider did not answer a sign-in that was allowed, or not as a token endpoint does."), e.now())
		return
	}
	e.handOver(w, r, q, ticket, s, v, got)
}

// handOver gives the phone what the identity provider answered, byte for byte, unless the device may not have it any more or it is for somebody else.
func (e *Edge) handOver(w http.ResponseWriter, r *http.Request, q *request, ticket string, s situation, v verdict, got *tokenAnswer) {
	if tokens, ok := oauth.ParseTokenAnswer(got.body); ok && got.status == http.StatusOK {
		now := e.now()
		facts := policy.CredentialFacts{Kind: "none", Names: map[string]bool{}}
		if cred, err := tokens.Credential(); err == nil {
			facts = credentialFacts(cred, nil, "")
		}
		s = e.signIn(q, ticket, facts, now)
		switch again := e.decide(r.Context(), e.cfg.Policy.Load(), s.input, now); again.action {
		case trust.Deny, trust.Quarantine:
			e.refuseSignIn(w, q, s, again, now)
			return
		case trust.Allow:
			v = again
		}
		e.keepGrant(r.Context(), s, ticket, tokens, now)
	}
	e.record(q, s, v, e.now())
	copyHeader(w.Header(), got.header)
	answer(w, "", got.status, "", got.body)
}

// readToken reads a token request.
func (e *Edge) readToken(r *http.Request) (oauth.TokenRequest, error) {
	if len(r.Header.Values("Authorization")) > 0 {
		return oauth.TokenRequest{}, &oauth.RequestError{Code: oauth.InvalidClient, Detail: "only public clients are supported"}
	}
	if err := oauth.CheckTokenQuery(r.URL.RawQuery); err != nil {
		return oauth.TokenRequest{}, err
	}
	form, err := readForm(r, oauth.MaxTokenForm)
	if err != nil {
		return oauth.TokenRequest{}, err
	}
	return e.front.Front.Token(form)
}

// readForm reads a body of at most limit bytes, and one more where it is longer.
func readForm(r *http.Request, limit int64) ([]byte, error) {
	malformed := func(detail string) ([]byte, error) {
		return nil, &oauth.RequestError{Code: oauth.InvalidRequest, Detail: detail}
	}
	kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil || kind != "application/x-www-form-urlencoded" || len(r.Header.Values("Content-Encoding")) > 0 {
		return malformed("the request has to be application/x-www-form-urlencoded")
	}
	body, err := io.ReadAll(io.LimitReader(r.Body, limit+1))
	if err != nil {
		return malformed("the request is not complete")
	}
	return body, nil
}

// signIn computes the facts of a sign-in, from the index only.
func (e *Edge) signIn(q *request, ticket string, credential policy.CredentialFacts, now time.Time) situation {
	in := &policy.AccessInput{Now: now.Unix(), Credential: credential, Assurance: "claimed", Ticket: policy.TicketFacts{Status: "none"}}
	in.Claimed = policy.ClaimedFacts{UserAgent: q.userAgent, Family: q.client.Family, Platform: q.client.Platform, Model: q.client.Model}
	x := e.cfg.Index.Read()
	named, own := e.certificate(x, &in.Certificate, q.conn, q.tenant, now)
	s := situation{input: in, named: named}
	in.Request = policy.RequestFacts{Class: q.class, Protocol: q.protocol, Tenant: e.tenant(q, in), Host: q.host, Method: q.method, Command: q.grant, SourceIP: q.remote}
	in.Snapshot.Behind = int64(e.behind(now) / time.Second)
	device := in.Certificate.Device
	if ticket != "" {
		in.Ticket.Status = "unknown"
		if _, k, ok := x.Ticket(ticket); ok {
			ticketFacts(x, in, k)
			if in.Certificate.Status == "none" {
				device = string(k.Device)
			}
		}
	}
	switch c := in.Certificate; {
	case c.Problem == "" && (c.Status == string(trust.Good) || c.Status == string(trust.Superseded)):
		in.Assurance, s.proved, s.certUse = "certificate", true, own.FirstUsed == 0
	case in.Ticket.Status == "live" && !c.Present:
		in.Assurance = "token"
	}
	if d, ok := x.Device(trust.DeviceID(device)); ok && device != "" {
		ownerFacts(x, in, q.conn, d)
		s.managed = isManaged(d)
	}
	return s
}

// askIdentityProvider sends a token request on, once.
func (e *Edge) askIdentityProvider(r *http.Request, asked oauth.TokenRequest) (*tokenAnswer, error) {
	select {
	case e.front.open <- struct{}{}:
		defer func() { <-e.front.open }()
	default:
		return nil, errors.New("too many requests wait for it")
	}
	ctx, cancel := context.WithTimeout(r.Context(), exchangeTimeout)
	defer cancel()
	out, err := http.NewRequestWithContext(ctx, http.MethodPost, e.front.OAuth.Token.String(), strings.NewReader(asked.Form.Reveal()))
	if err != nil {
		return nil, errors.New("its address cannot be used") // the cause may quote the request
	}
	out.GetBody = nil // never a second time
	out.Header = r.Header.Clone()
	for _, name := range []string{"Cookie", "Accept-Encoding", "Content-Length"} {
		delete(out.Header, name)
	}
	if _, ok := out.Header["User-Agent"]; !ok {
		out.Header["User-Agent"] = nil
	}
	resp, err := e.front.endpoint.RoundTrip(out)
	if err != nil {
		return nil, err
	}
	defer func() { _ = resp.Body.Close() }() // what was not read is not wanted
	if leadsAway(resp.StatusCode) {
		return nil, fmt.Errorf("it answered with %d, which leads elsewhere", resp.StatusCode)
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, oauth.MaxTokenAnswer+1))
	if err != nil || len(body) > oauth.MaxTokenAnswer {
		return nil, errors.New("its answer is not complete, or too long")
	}
	// Its cookies are for its own name.
	delete(resp.Header, "Set-Cookie")
	delete(resp.Header, "Content-Length")
	return &tokenAnswer{status: resp.StatusCode, header: resp.Header, body: body}, nil
}

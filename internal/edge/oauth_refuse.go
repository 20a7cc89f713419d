package edge

import (
	"context"
	"errors"
	"net/http"
	"time"

	"postern/internal/oauth"
	"postern/internal/policy"
	"postern/internal/registry"
	"postern/internal/trust"
)

// grantTimeout is how long an answer with tokens waits for the registry to know them.
const grantTimeout = 5 * time.Second

// keepGrant remembers, under a keyed hash, that tokens came through a ticket, and returns when this edge knows it. A phone does not lose its tokens because
// that fails: it is refused until it refreshes them, and the log says why.
func (e *Edge) keepGrant(ctx context.Context, s situation, ticket string, tokens oauth.TokenAnswer, now time.Time) {
	if s.input.Ticket.Status != "live" {
		return
	}
	ctx, cancel := detached(ctx, grantTimeout)
	defer cancel()
	hash, _, _ := e.cfg.Index.Ticket(ticket)
	g := registry.Grant{Ticket: hash, Device: trust.DeviceID(s.input.Ticket.Device), Expires: now.Add(tokens.Life)}
	rev, err := e.cfg.Registry.RecordGrant(ctx, e.principal, e.front.Key.Hash(tokens.Access.Reveal()), g)
	if err == nil {
		err = e.cfg.Index.CatchUp(ctx, rev)
	}
	if err != nil {
		e.cfg.Log.ErrorContext(ctx, "edge: a token that was obtained through a ticket is not remembered", "device", s.input.Ticket.Device, "ticket", s.input.Ticket.ID, "error", err)
	}
}

// refuseForm answers a request that is refused for what it asks.
func (e *Edge) refuseForm(w http.ResponseWriter, q *request, err error) {
	if !e.front.strangers.take(q.remote, e.now()) {
		e.throttle(w, "Too many requests from this address were refused.")
		return
	}
	code := oauth.InvalidRequest
	var refused *oauth.RequestError
	if errors.As(err, &refused) {
		code = refused.Code
	}
	ref := e.recordSignIn(q, err)
	answer(w, ref, http.StatusBadRequest, contentTypeJSON, oauth.ErrorAnswer(code, refusedWords(err)+" (reference "+ref+")"))
}

const contentTypeJSON = "application/json"

// refuseSignIn answers a sign-in that was not allowed, in OAuth's words (RFC 6749, section 5.2). unauthorized_client, and not invalid_grant: the phone is not to
// throw its refresh token away and ask for a password, because what is wrong is not the user's sign-in.
func (e *Edge) refuseSignIn(w http.ResponseWriter, q *request, s situation, v verdict, now time.Time) {
	if v.action != trust.Fault && s.input.Device.ID == "" && !e.front.strangers.take(q.remote, now) {
		e.throttle(w, "Too many requests from this address were refused.")
		return
	}
	ref := e.record(q, s, v, now)
	if v.action == trust.Fault {
		w.Header().Set("Retry-After", e.comeBack(returnAfter))
		answer(w, ref, http.StatusServiceUnavailable, contentTypeJSON, oauth.ErrorAnswer(oauth.TemporarilyUnavailable, "Try again later (reference "+ref+")"))
		return
	}
	answer(w, ref, http.StatusBadRequest, contentTypeJSON, oauth.ErrorAnswer(oauth.UnauthorizedClient, "This device may not sign in (reference "+ref+")"))
}

// throttle asks a phone to come back later (RFC 6585, section 4). It is not recorded: whoever floods the gate is not to flood the journal.
func (e *Edge) throttle(w http.ResponseWriter, why string) {
	w.Header().Set("Retry-After", e.comeBack(returnAfter))
	answer(w, "", http.StatusTooManyRequests, contentTypeJSON, oauth.ErrorAnswer(oauth.TemporarilyUnavailable, why))
}

// noteFirstUse has the first use of a certificate recorded soon.
func (e *Edge) noteFirstUse(in *policy.AccessInput, now time.Time) {
	issuer, serial := in.Certificate.Issuer, trust.Serial(in.Certificate.Serial)
	e.observer.later("certificate "+issuer+"/"+string(serial), func(ctx context.Context) error {
		return e.cfg.Registry.CertificateUsed(ctx, e.principal, issuer, serial, now)
	})
}

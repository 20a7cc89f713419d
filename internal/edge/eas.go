package edge

import (
	"cmp"
	"context"
	"errors"
	"net/http"
	"strconv"
	"time"

	"postern/internal/eas"
	"postern/internal/policy"
	"postern/internal/trust"
)

// serveEAS takes one request of Exchange ActiveSync from its form to its answer.
func (e *Edge) serveEAS(w http.ResponseWriter, r *http.Request, q *request) {
	if bad := e.read(q, r); bad != nil {
		e.malformed(w, q, bad)
		return
	}
	if q.class == classDiscovery {
		e.serveDiscovery(w, r, q)
		return
	}
	q.inform(r)
	e.serveCommand(w, r, q)
}

// serveCommand decides about a command and lets it through or refuses it.
func (e *Edge) serveCommand(w http.ResponseWriter, r *http.Request, q *request) {
	c := newCommand(r.Context(), q)
	defer e.flights.leave(&c.flight)
	if e.admitted(r.Context(), w, &c.flight) {
		e.forward(w, r, c)
	}
}

// admitted decides about a command, records that, and answers what is not allowed. It is no part of its caller, whose place on the stack a Ping keeps for an
// hour.
//
//go:noinline
func (e *Edge) admitted(ctx context.Context, w http.ResponseWriter, f *flight) bool {
	s, v := e.admit(ctx, f)
	ref := e.record(f.request, s, v, e.now())
	if v.action != trust.Allow {
		e.refuse(w, f.request, ref, v)
		return false
	}
	return true
}

// admit looks a command's facts up, records what it shows, and decides.
func (e *Edge) admit(ctx context.Context, f *flight) (situation, verdict) {
	now, rev, a, x := e.now(), e.cfg.Index.Revision(), e.anchors.Load(), e.cfg.Index.Read()
	s := e.situationBy(x, f.request, now)
	if !e.isStale(now) {
		changed, err := e.remember(ctx, s, now)
		if err != nil {
			e.cfg.Log.ErrorContext(ctx, "edge: mail profile cannot be recorded", "error", err)
			return s, fault(faultProfile, "The mail profile could not be recorded before the decision.")
		}
		if changed {
			rev, x = e.cfg.Index.Revision(), e.cfg.Index.Read()
			s = e.situationBy(x, f.request, now)
		}
	}
	v := e.judge(ctx, f, s, now)
	if v.action == trust.Allow && e.cfg.Index.Revision() != rev {
		// Something changed between looking and being findable; every later change finds the flight.
		asked := v.fresh
		s = e.situation(f.request, now)
		v = e.judge(ctx, f, s, now)
		v.fresh = v.fresh || asked // for this very command, and not recorded yet: the second answer comes from memory
		return s, v
	}
	e.keepKnown(f.request, a, x, s, v, now)
	return s, v
}

// judge decides on facts, and keeps an allowed command findable under them.
func (e *Edge) judge(ctx context.Context, f *flight, s situation, now time.Time) verdict {
	engine := e.cfg.Policy.Load()
	v := e.decide(ctx, engine, s.input, now)
	if keys := dependenciesOf(&s); v.action == trust.Allow && !e.flights.enter(f, &keys, engine, until(s.input, engine, v.decision, now)) {
		return fault(faultTooMany, "The phone has more commands under way than it can need.")
	}
	return v
}

// reconsider decides about a command in flight again, and ends it where it is no longer allowed.
func (e *Edge) reconsider(ctx context.Context, f *flight) {
	now := e.now()
	s := e.situation(f.request, now)
	v := e.judge(ctx, f, s, now)
	if v.action == trust.Allow || !e.flights.leave(f) {
		return
	}
	e.reactions.pollEnded()
	ref := e.record(f.request, s, v, now)
	e.cfg.Log.InfoContext(ctx, "edge: command in flight is ended", "command", s.input.Request.Command, "device", s.input.Device.ID, "action", string(v.action), "reference", ref)
	f.cancel(&ended{verdict: v, reference: ref})
}

// ended is why a command in flight is cancelled: it was decided again.
type ended struct {
	verdict   verdict
	reference string
}

func (e *ended) Error() string { return "no longer allowed: " + e.reference }

// errDraining is why a command in flight is cancelled when the edge stops.
var errDraining = errors.New("the edge is being stopped")

// refuse answers a verdict that is not allow. Quarantine has no mailbox of its own here: it is refused like deny.
func (e *Edge) refuse(w http.ResponseWriter, q *request, ref string, v verdict) {
	if v.action == trust.Fault {
		w.Header().Set("Retry-After", cmp.Or(v.after, e.comeBack(returnAfter)))
		answer(w, ref, http.StatusServiceUnavailable, "", nil)
		return
	}
	status, contentType, body := eas.Refusal(q.eas.Command, q.eas.Version, eas.StatusDeviceIsBlockedForThisUser)
	answer(w, ref, status, contentType, body)
}

// abandoned breaks the connection off where the phone has gone. If it has not (it may have closed its side only), an empty answer of net/http's own would tell
// it that all is well.
func abandoned(r *http.Request) {
	if r.Context().Err() != nil {
		panic(http.ErrAbortHandler)
	}
}

// answer writes a whole answer of the edge's own.
func answer(w http.ResponseWriter, ref string, status int, contentType string, body []byte) {
	setReadDeadline(w, leftoverTimeout)
	h := w.Header()
	if ref != "" {
		h.Set("X-Postern-Reference", ref)
	}
	if contentType != "" {
		h.Set("Content-Type", contentType)
	}
	h.Set("Cache-Control", "no-store")
	h.Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(status)
	_, _ = w.Write(body) // a client that is gone needs no answer
}

// failed records a fault of the upstream and answers it. The facts are looked up again: a Ping that is held for an hour keeps none.
func (e *Edge) failed(w http.ResponseWriter, q *request, code, text string) {
	e.failedWith(w, q, fault(code, text))
}

func (e *Edge) failedWith(w http.ResponseWriter, q *request, v verdict) {
	now := e.now()
	e.refuse(w, q, e.record(q, e.situation(q, now), v, now), v)
}

// until returns when an allowed command has to be decided again by the clock alone; the zero time for never. A policy that allows beyond its own end is
// asked again every second, and one that goes by the time of day twice a minute.
func until(in *policy.AccessInput, engine *policy.Engine, d policy.Decision, now time.Time) time.Time {
	end := d.ValidUntil
	if in.Certificate.NotAfter > 0 && (end == 0 || in.Certificate.NotAfter < end) {
		end = in.Certificate.NotAfter
	}
	if in.AssuranceUntil > 0 && (end == 0 || in.AssuranceUntil < end) {
		end = in.AssuranceUntil
	}
	at := time.Unix(end, 0)
	switch {
	case end == 0:
		at = time.Time{}
	case end <= now.Unix():
		at = now.Add(time.Second)
	}
	if again := now.Add(restlessAfter); engine.Restless(d) && (end == 0 || again.Before(at)) {
		return again
	}
	return at
}

// restlessAfter is how long a command is in flight before a policy that goes by the time of day is asked again.
const restlessAfter = 30 * time.Second

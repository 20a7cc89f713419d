package edge

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"postern/internal/policy"
	"postern/internal/trust"
)

// The reason codes of faults and of requests that cannot be read; those of refusals come from the policy.
const (
	faultPolicy    = "policy_fault"
	faultStale     = "registry_stale"
	faultProfile   = "profile_not_recorded"
	faultRedirect  = "upstream_redirect"
	faultMoved     = "upstream_moved"
	faultUpstream  = "upstream_unreachable"
	faultTimeout   = "upstream_timeout"
	faultChallenge = "upstream_no_challenge"
	faultTooMany   = "too_many_commands"
)

// verdict is what was decided about a request: allow, quarantine, deny or fault.
type verdict struct {
	action   trust.Action
	decision policy.Decision
	after    string         // of a fault: Retry-After in seconds; empty: comeBack
	fresh    bool           // the policy was asked, not only remembered
	engine   *policy.Engine // that was asked; nil of a fault
	until    int64          // Unix seconds: before then the engine decides the same facts alike; 0 where that cannot be said
	key      string         // of the facts, see policy.Judgement; empty where it was not made
	facts    []byte         // as they are recorded; likewise
}

// fault is the verdict of no decision.
func fault(code, text string) verdict {
	return verdict{action: trust.Fault, decision: policy.Decision{Action: trust.Fault, Reasons: []trust.Reason{{Code: code, Text: text, Rule: "edge",
		Remedy: "Nothing has to change on the phone: it tries again by itself. Look at the log of the edge at this time."}}}}
}

// decide asks the policy. Whatever is not a decision is a fault, and what is neither allow, quarantine nor deny is none.
func (e *Edge) decide(ctx context.Context, engine *policy.Engine, in *policy.AccessInput, now time.Time) (v verdict) {
	defer func() {
		if p := recover(); p != nil {
			v = fault(faultPolicy, fmt.Sprintf("The policy could not decide: panic: %v", p))
		}
	}()
	if e.isStale(now) {
		return fault(faultStale, fmt.Sprintf("Nothing was heard from the registry for %d seconds.", in.Snapshot.Behind))
	}
	engine.Surround(in)
	d, err := engine.Judge(ctx, in)
	if err != nil {
		e.cfg.Log.ErrorContext(ctx, "edge: the policy could not decide", "error", err)
		v = fault(faultPolicy, "The policy could not decide: "+clip(err.Error(), 500))
		v.decision.Policy = engine.Digest()
		return v
	}
	switch d.Action {
	case trust.Allow, trust.Quarantine, trust.Deny:
		return verdict{action: d.Action, decision: d.Decision, fresh: d.Fresh, engine: engine, until: d.Until, key: d.RecordKey, facts: d.Record}
	}
	return fault(faultPolicy, fmt.Sprintf("The policy answered %q, which is no decision.", d.Action))
}

// record hands a verdict to the journal and returns its reference. Allows are recorded once for each set of facts: those with reasons have the reference of these,
// plain ones none.
func (e *Edge) record(q *request, s situation, v verdict, now time.Time) string {
	in, out := s.input, decisionOf(q, s, v, now)
	switch noted := len(v.decision.Reasons) > 0; {
	case v.action != trust.Allow:
		out.Reference = trust.NewReference(now)
	case v.fresh && noted:
		out.Facts = v.recordKey(in)
		out.Reference = trust.ReferenceOf(out.Facts)
	default:
		// Of strangers who are told how to sign in nothing is remembered: there is no end of them.
		if v.fresh && (in.Request.Class == classCommand || in.Certificate.Serial != "") {
			if out.Facts, out.Input = v.recordKey(in), v.facts; out.Input == nil {
				out.Input = in.Record()
			}
		}
		e.cfg.Journal.Record(out)
		return ""
	}
	input, err := json.Marshal(in)
	if err != nil {
		e.cfg.Log.Error("edge: facts of a decision cannot be recorded", "reference", out.Reference, "error", err)
	}
	out.Input = input
	e.cfg.Journal.Record(out)
	return out.Reference
}

func (v *verdict) recordKey(in *policy.AccessInput) string {
	if v.key != "" {
		return v.key
	}
	return in.RecordKey()
}

// decisionOf is what the journal is told of a verdict, but for the facts.
func decisionOf(q *request, s situation, v verdict, now time.Time) trust.Decision {
	in, d := s.input, v.decision
	out := trust.Decision{At: now, Door: "edge", Action: v.action, Reasons: d.Reasons, Policy: d.Policy, User: in.Credential.User, Device: trust.DeviceID(in.Device.ID),
		Serial: trust.Serial(in.Certificate.Serial), ClientID: in.Claimed.DeviceID, Profile: in.Profile.ID, Command: in.Request.Command, Remote: q.remote}
	if d.ValidUntil > 0 {
		out.ValidUntil = time.Unix(d.ValidUntil, 0).UTC()
	}
	return out
}

// recordMalformed records a request that could not be read. Nothing of what could not be read is kept.
func (e *Edge) recordMalformed(q *request, code string) string {
	now := e.now()
	ref := trust.NewReference(now)
	e.cfg.Journal.Record(trust.Decision{Reference: ref, At: now, Door: "edge", Action: trust.Deny, User: q.credential.User, Remote: q.remote,
		ClientID: q.eas.DeviceID.String(), Command: strings.ToLower(q.eas.Command.String()),
		Reasons: []trust.Reason{{Code: code, Text: "The request does not have the form of Exchange ActiveSync.", Rule: "edge",
			Remedy: "Update the mail client, or find what changes its requests on the way."}}})
	return ref
}

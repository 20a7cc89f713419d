package scep

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"postern/internal/ca"
	"postern/internal/registry"
	"postern/internal/trust"
)

// Causes that are told in words.
var (
	errNoChallenge = errors.New("the message has no challengePassword")
	errOtherDevice = errors.New("a contradiction to the challenge or certificate")
)

// refused turns the error of an enrolment into what the client is told, and audits a refusal.
func (d *Door) refused(ctx context.Context, is *issuer, a applicant, err error) error {
	var r *ca.Refusal
	if errors.As(err, &r) {
		info := BadRequest
		if r.Part == ca.PartKey {
			info = BadAlg
		}
		err = fail(info, err, "%s", r.Text)
	}
	var f *Failure
	if !errors.As(err, &f) {
		return err
	}
	if errors.Is(err, registry.ErrKeyCopied) { // audited with the quarantine
		return f
	}
	if err := d.audit(ctx, is, a, f); !errors.Is(err, f) {
		return err
	}
	d.notifyRefused(ctx, a, f)
	return f
}

// audit records a refusal. One that cannot be recorded is a fault: the client hears nothing that the audit does not know.
func (d *Door) audit(ctx context.Context, is *issuer, a applicant, f *Failure) error {
	action, object := registry.ActEnrol, "unknown device"
	if a.renews != nil {
		action = registry.ActRenew
	}
	if a.device.ID != "" {
		object = string(a.device.ID)
	}
	if a.device.ID == "" {
		if _, ok := d.audits.take("strangers", d.cfg.Now()); !ok {
			d.cfg.Log.WarnContext(ctx, "SCEP refusal not audited: too many by strangers", "issuer", is.id, "error", f)
			return f
		}
	}
	// Quoted: the text may hold what a stranger put into his CSR.
	detail := strings.Trim(strconv.Quote(f.Error()), `"`)
	if words := inWords(f, &a); words != "" {
		detail += ". " + words
	}
	if err := d.cfg.Registry.RecordRefusal(ctx, trust.Principal{Kind: "scep", Name: is.id}, action, object, detail); err != nil {
		return fmt.Errorf("record refusal: %w", err)
	}
	return f
}

// inWords says to a help desk what was wrong with the challenge of an enrolment and what helps; empty where the text for the client says it. It is for the
// audit and holds no secret; what a stranger wrote is quoted and short.
func inWords(err error, a *applicant) string {
	device, c := cmp.Or(string(a.device.ID), "ID"), a.challenge
	again := "Make a new one (`postern device challenge " + device + "`) and let the device enrol with it."
	if c.Unbound {
		again = "Let the MDM send the certificate profile to the device again: it fetches a new one."
	}
	switch {
	case errors.Is(err, registry.ErrChallengeSpent) && c.Spent != "":
		return "The one-time challenge was used before, on " + at(c.SpentAt) + " for the certificate " + string(c.Spent) + "; each is good for one enrolment. " + again
	case errors.Is(err, registry.ErrChallengeExpired):
		return "The one-time challenge could be used until " + at(c.Expires) + ". " + again
	case errors.Is(err, registry.ErrChallengePending):
		return "Another request with this one-time challenge waits for approval (`postern pending list`): settle that one, or make another challenge (`postern device challenge " + device + "`)."
	case errors.Is(err, registry.ErrChallengeVoid):
		return "The one-time challenge was made before the device got another owner, was blocked or retired, or before the registry was restored from a backup. " + again
	case errors.Is(err, registry.ErrChallengeUnknown):
		return "No such one-time challenge was made at this issuer, or it ended long ago: the certificate profile (SCEP) on the device holds an old or mistyped one. The request names " + quoted(a.names) +
			", which proves nothing. If it is a device of yours, make a new challenge (`postern device challenge ID`; `postern device list` shows the ID) and let it enrol with that."
	case errors.Is(err, errNoChallenge):
		return "The device sent no one-time challenge: the certificate profile (SCEP) in the MDM has none. Put one into it (`postern device challenge ID`)."
	case errors.Is(err, errOtherDevice):
		return "The challenge or certificate is that of " + device + ", and the request names other hardware: the profile went to another phone. Give each device its own challenge."
	}
	return ""
}

func at(t time.Time) string { return t.UTC().Format("2006-01-02 15:04 MST") }

// quoted writes a few names that a stranger chose.
func quoted(names []string) string {
	const most, long = 3, 64
	var out []string
	for _, n := range names {
		if len(out) == most {
			out = append(out, fmt.Sprintf("and %d more", len(names)-most))
			break
		}
		out = append(out, strconv.QuoteToASCII(n[:min(len(n), long)]))
	}
	return cmp.Or(strings.Join(out, ", "), "nobody")
}

package policy

import (
	"context"

	"github.com/open-policy-agent/opa/v1/ast"

	"postern/internal/trust"
)

// LifecycleInput is what data.postern.lifecycle.decision sees of one device when the server looks through all of them.
type LifecycleInput struct {
	Now         int64            `json:"now"`
	Event       string           `json:"event" enum:"sweep"` // sweep
	Device      DeviceFacts      `json:"device"`
	Owner       OwnerFacts       `json:"owner"`
	Added       int64            `json:"added"`       // when the device came into the registry
	Certificate HeldFacts        `json:"certificate"` // the newest that is not revoked
	Mail        MailFacts        `json:"mail"`
	Exceptions  []ExceptionFacts `json:"exceptions"`
}

// HeldFacts are a certificate that a device has, whether it is used or not.
type HeldFacts struct {
	Serial    string `json:"serial"`                                  // empty: it has none
	Status    string `json:"status" enum:"good,held,superseded,none"` // good, held, superseded; none
	IssuedAt  int64  `json:"issued_at"`
	NotAfter  int64  `json:"not_after"`
	FirstUsed int64  `json:"first_used"`
}

// MailFacts say how a device reads mail.
type MailFacts struct {
	Profiles int   `json:"profiles"`
	LastSeen int64 `json:"last_seen"` // of the mail profile that was seen last; up to an hour behind
}

func (in *LifecycleInput) value() *ast.Term {
	c := &in.Certificate
	return object(number("now", in.Now), text("event", in.Event), pair{keys["device"], in.Device.value()}, pair{keys["owner"], in.Owner.value()}, number("added", in.Added),
		pair{keys["certificate"], object(text("serial", c.Serial), text("status", c.Status), number("issued_at", c.IssuedAt), number("not_after", c.NotAfter),
			number("first_used", c.FirstUsed))},
		pair{keys["mail"], object(number("profiles", int64(in.Mail.Profiles)), number("last_seen", in.Mail.LastSeen))}, exceptionTerms(in.Exceptions))
}

// Lifecycle decides what becomes of a device: trust.Keep, Notify, Suspend or Retire. Every error is a *Fault, and the device is to stay as it is.
func (e *Engine) Lifecycle(ctx context.Context, in *LifecycleInput) (Decision, error) {
	if e.queries["lifecycle"] == nil {
		return Decision{Action: trust.Keep, Reasons: []trust.Reason{}, Policy: e.digest}, nil
	}
	same := *in
	if !e.replaced {
		same.Owner.Groups = e.around.groupsOf(&in.Owner)
	}
	return e.decide(ctx, &question{entry: "lifecycle", whole: same.value})
}

type lifecycleSample struct {
	name string
	in   LifecycleInput
}

// lifecycleSamples are devices as a sweep finds them.
func lifecycleSamples() []lifecycleSample {
	base := func(name string, change func(*LifecycleInput)) lifecycleSample {
		in := LifecycleInput{Now: sampleNow, Event: "sweep", Device: sampleDevice("active"), Owner: sampleOwner(), Added: sampleNow - 300*86400,
			Certificate: HeldFacts{Serial: "0a1b", Status: "good", IssuedAt: sampleNow - 100*86400, NotAfter: sampleNow + 200*86400, FirstUsed: sampleNow - 99*86400},
			Mail:        MailFacts{Profiles: 1, LastSeen: sampleNow - 3600}, Exceptions: []ExceptionFacts{}}
		change(&in)
		return lifecycleSample{name, in}
	}
	return []lifecycleSample{
		base("in_use", func(*LifecycleInput) {}),
		base("silent", func(in *LifecycleInput) { in.Device.SilentFor = 120 * 86400 }),
		base("unused", func(in *LifecycleInput) { in.Certificate.FirstUsed, in.Mail = 0, MailFacts{} }),
		base("no_mail", func(in *LifecycleInput) { in.Mail.LastSeen = sampleNow - 90*86400 }),
	}
}

package policy

import (
	"slices"
	"testing"
	"time"

	"postern/internal/trust"
)

// leanPolicy asks for the conditions of a managed profile and nothing else, as tersely as Rego can: no configuration, no teams, no reasons, no times.
const leanPolicy = `package postern.access

decision := {"action": "allow", "rule": "managed_profile", "reasons": set(), "valid_until": 0} if {
	input.certificate.status == "good"
	input.request.class == "command"
	input.certificate.present
	input.certificate.problem == ""
	input.now < input.certificate.not_after
	input.certificate.device == input.device.id
	input.device.known
	input.device.managed
	input.device.state == "active"
	input.device.suspended == false
	input.device.silent_for <= 604800
	input.credential.problem == ""
	input.credential.kind in {"basic", "bearer"}
	input.credential.user != ""
	input.owner.known
	input.owner.suspended == false
	input.owner.names[input.credential.user]
	object.subset(input.owner.names, input.credential.names)
	input.credential.oid in {"", input.owner.oid}
	input.credential.tid in {"", input.owner.tid}
	input.device.eas_device_id in {"", input.claimed.device_id}
	input.duplicate.managed_device in {"", input.certificate.device}
	input.duplicate.other_device_id == ""
	input.claimed.family != "other"
} else := {"action": "deny", "reasons": {"refused"}, "valid_until": 0}
`

const leanEnroll = "package postern.enroll\n\ndecision := {\"action\": \"deny\", \"reasons\": {\"closed\"}, \"valid_until\": 0}\n"

// managedByHand is the same in Go.
func managedByHand(in *AccessInput) bool {
	c, d, o, k := &in.Certificate, &in.Device, &in.Owner, &in.Credential
	if c.Status != "good" || in.Request.Class != "command" || !c.Present || c.Problem != "" || in.Now >= c.NotAfter || c.Device != d.ID || !d.Known || !d.Managed ||
		d.State != string(trust.Active) || d.Suspended || d.SilentFor > 604800 || k.Problem != "" || k.Kind != "basic" && k.Kind != "bearer" || k.User == "" || !o.Known || o.Suspended || !o.Names[k.User] {
		return false
	}
	for name := range k.Names {
		if !o.Names[name] {
			return false
		}
	}
	u := &in.Duplicate
	return (k.OID == "" || k.OID == o.OID) && (k.TID == "" || k.TID == o.TID) && (d.EASDeviceID == "" || d.EASDeviceID == in.Claimed.DeviceID) &&
		(u.ManagedDevice == "" || u.ManagedDevice == c.Device) && u.OtherDeviceID == "" && in.Claimed.Family != "other"
}

// BenchmarkDecision compares the built-in policies with the leanest that proves the same, with the same rules in Go, and with a decision that is remembered,
// each on the whole input of a managed phone. They take turns in slices, because what else the machine does would otherwise happen to one of them.
func BenchmarkDecision(b *testing.B) {
	builtin := mustLoad(b, Options{})
	lean := mustLoad(b, Options{Path: dir(b, map[string]string{"access.rego": leanPolicy, "enroll.rego": leanEnroll}), Replace: true})
	in := managedSample()
	ask := func(decide func() (Decision, error)) func() {
		return func() {
			if d, err := decide(); err != nil || d.Action != trust.Allow {
				b.Fatal(d, err)
			}
		}
	}
	ctx := b.Context()
	contestants := []struct {
		name string
		do   func()
		took []float64
	}{
		{name: "lean", do: ask(func() (Decision, error) { return lean.decideAccess(ctx, &in) })},
		{name: "builtin", do: ask(func() (Decision, error) { return builtin.decideAccess(ctx, &in) })},
		{name: "remembered", do: ask(func() (Decision, error) { return builtin.Access(ctx, &in) })},
		{name: "go", do: func() {
			if !managedByHand(&in) {
				b.Fatal("not managed")
			}
		}},
	}
	const slice, rounds = 20 * time.Millisecond, 15
	for b.Loop() {
		for range rounds {
			for i := range contestants {
				c := &contestants[i]
				n, began := 0, time.Now()
				for time.Since(began) < slice {
					for range 50 {
						c.do()
					}
					n += 50
				}
				c.took = append(c.took, float64(time.Since(began).Nanoseconds())/float64(n))
			}
		}
	}
	middle := map[string]float64{}
	for _, c := range contestants {
		middle[c.name] = slices.Sorted(slices.Values(c.took))[len(c.took)/2]
		b.ReportMetric(middle[c.name], c.name+"-ns")
	}
	b.ReportMetric(middle["builtin"]/middle["lean"], "builtin/lean")
	b.ReportMetric(0, "ns/op")
}

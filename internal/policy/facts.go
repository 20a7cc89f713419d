package policy

import (
	"strings"
	"time"

	"postern/internal/trust"
)

// FactsOfDevice returns what a policy may know of a device that the registry knows. SilentFor is measured to the last successful sync of the
// device's source, so that an outage of the MDM makes nobody silent; an administrator as source never is.
func FactsOfDevice(d trust.Device) DeviceFacts {
	f := DeviceFacts{
		Known: true, ID: string(d.ID), State: string(d.State), Managed: d.Managed, Compliant: string(d.Compliant), EASDeviceID: d.EASDeviceID,
		SerialNumber: d.SerialNumber, Model: d.Model, OS: d.OS, OSVersion: d.OSVersion, Source: d.Source, Labels: d.Labels,
	}
	if d.Compliant == "" {
		f.Compliant = string(trust.ComplianceUnsure)
	}
	if !d.SourceSync.IsZero() && d.SourceSync.After(d.Updated) {
		f.SilentFor = int64(d.SourceSync.Sub(d.Updated) / time.Second)
	}
	if s := d.Suspended; s != nil {
		f.Suspended, f.SuspendedAt, f.SuspendReason = true, Seconds(s.At), string(s.Reason)
	}
	return f
}

// FactsOfOwner returns what a policy may know of an owner, all names in lower case.
func FactsOfOwner(o trust.Owner) OwnerFacts {
	f := OwnerFacts{Known: o.Mail != "", Mail: o.Mail, Names: map[string]bool{}, OID: strings.ToLower(o.OID), TID: strings.ToLower(o.TID), Delegations: map[string]bool{}}
	for _, n := range o.Names() {
		f.Names[n] = true
	}
	for _, n := range o.Delegations {
		f.Delegations[strings.ToLower(n)] = true
	}
	if s := o.Suspended; s != nil {
		f.Suspended, f.SuspendedAt, f.SuspendReason = true, Seconds(s.At), string(s.Reason)
	}
	return f
}

// Seconds returns Unix seconds, and 0 for the zero time.
func Seconds(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.Unix()
}

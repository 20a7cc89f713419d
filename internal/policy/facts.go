package policy

import (
	"hash/fnv"
	"strings"
	"time"

	"postern/internal/trust"
)

// FactsOfDevice returns what a policy may know of a device that the registry knows. SilentFor is measured to the last successful sync of the
// device's source, so that an outage of the MDM makes nobody silent; an administrator as source never is. OS
// is the name that policies know the system by, however the registry has it.
func FactsOfDevice(d *trust.Device) DeviceFacts {
	f := DeviceFacts{
		Known: true, ID: string(d.ID), State: string(d.State), Managed: d.Managed, Compliant: string(d.Compliant), EASDeviceID: d.EASDeviceID,
		ComplianceSince: Seconds(d.ComplianceSince), SerialNumber: d.SerialNumber, Model: d.Model, OS: PlatformOf(d.OS), OSVersion: d.OSVersion, OSNumber: VersionNumber(d.OSVersion),
		Source: d.Source, Labels: d.Labels, Bucket: bucket(d.ID),
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

// FactsOfOwner returns what a policy may know of an owner, all names in lower case. Nobody changes the maps of facts: they may be shared.
func FactsOfOwner(o *trust.Owner) OwnerFacts {
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

// NoDevice returns the facts of a device that is not known.
func NoDevice() DeviceFacts {
	return DeviceFacts{Compliant: string(trust.ComplianceUnsure), Bucket: buckets - 1}
}

// buckets is into how many parts of equal size devices are divided.
const buckets = 100

// bucket is always the same for a device, and says nothing about it.
func bucket(id trust.DeviceID) int {
	h := fnv.New32a()
	h.Write([]byte(id))
	return int(h.Sum32() % buckets)
}

const maxPart = 999 // of a version

// VersionNumber returns a version of up to three parts as one number: 17.5.1 is 17005001, and 26 is 26000000. A fourth part, and what stands behind a blank,
// is left out. It is 0 for what cannot be read, and for a part above 999.
func VersionNumber(version string) int64 { return versionNumber(version, 0) }

// HighestVersion is VersionNumber with 999 for the parts that are not there: the highest version that the text may stand for.
func HighestVersion(version string) int64 { return versionNumber(version, maxPart) }

func versionNumber(version string, missing int64) (n int64) {
	version, _, _ = strings.Cut(strings.TrimSpace(version), " ")
	more := true
	for range 3 {
		part := missing
		if more {
			var text string
			if text, version, more = strings.Cut(version, "."); len(text) == 0 || len(text) > 3 {
				return 0
			}
			part = 0
			for i := range len(text) {
				digit := int64(text[i]) - '0'
				if digit < 0 || digit > 9 {
					return 0
				}
				part = 10*part + digit
			}
		}
		n = n*(maxPart+1) + part
	}
	if more && strings.Contains(version, ".") {
		return 0 // five parts
	}
	return n
}

// Seconds returns Unix seconds, and 0 for the zero time.
func Seconds(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.Unix()
}

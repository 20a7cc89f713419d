package policy

import (
	"crypto/sha256"
	"encoding/binary"
	"slices"
)

// The digest of facts is what a decision is remembered under. It covers every field of the input but the clock: input.now, and input.snapshot.behind where
// no policy reads it, because the seconds since the registry was last heard go by for everybody. Each value is written behind its length, and sets in the
// order of their names, so that two inputs have one digest only if they are equal. SHA-256, because a phone chooses many of the facts.
func (in *AccessInput) digest(snapshot bool) [sha256.Size]byte {
	var room [factsRoom]byte
	_, digest := in.sums(in.append(room[:0]), snapshot)
	return digest
}

// factsRoom is what the facts of nearly every request fit into, in bytes.
const factsRoom = 2048

// sums returns the digest of the lasting facts, which append has written, and that of all.
func (in *AccessInput) sums(lasting []byte, snapshot bool) (key, digest [sha256.Size]byte) {
	key = sha256.Sum256(lasting)
	var room [sha256.Size + 3*binary.MaxVarintLen64]byte
	b := binary.AppendVarint(append(room[:0], key[:]...), in.Credential.Expires)
	b = binary.AppendVarint(b, in.AssuranceUntil)
	if snapshot {
		b = binary.AppendVarint(b, in.Snapshot.Behind)
	}
	return key, sha256.Sum256(b)
}

// append writes the facts that last: all but the clock, the age of the snapshot, and when the token ends.
func (in *AccessInput) append(b []byte) []byte {
	b = in.Request.append(b)
	b = in.Claimed.append(b)
	b = in.Credential.append(b)
	b = in.Certificate.append(b)
	b = in.Device.append(b)
	b = in.Owner.append(b)
	b = in.Profile.append(b)
	b = in.Duplicate.append(b)
	b = appendTexts(b, in.Ticket.Status, in.Ticket.ID, in.Ticket.Device, in.Assurance)
	return appendExceptions(b, in.Exceptions)
}

func appendText(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

func appendTexts(b []byte, list ...string) []byte {
	for _, s := range list {
		b = appendText(b, s)
	}
	return b
}

func appendBool(b []byte, v bool) []byte {
	if v {
		return append(b, 1)
	}
	return append(b, 0)
}

// sorted returns the keys of a map in order, in room where they fit.
func sorted[V any](m map[string]V, room []string) []string {
	for k := range m {
		room = append(room, k)
	}
	slices.Sort(room)
	return room
}

func appendSet(b []byte, m map[string]bool) []byte {
	var room [16]string
	b = binary.AppendUvarint(b, uint64(len(m)))
	for _, k := range sorted(m, room[:0]) {
		b = appendBool(appendText(b, k), m[k])
	}
	return b
}

func appendTable(b []byte, m map[string]string) []byte {
	var room [16]string
	b = binary.AppendUvarint(b, uint64(len(m)))
	for _, k := range sorted(m, room[:0]) {
		b = appendTexts(b, k, m[k])
	}
	return b
}

func (r *RequestFacts) append(b []byte) []byte {
	b = appendTexts(b, r.Class, r.Protocol, r.Tenant, r.Host, r.Method, r.Command, r.SourceIP)
	return appendSet(binary.AppendVarint(b, int64(r.Version)), r.Zones)
}

func (c *ClaimedFacts) append(b []byte) []byte {
	return binary.AppendVarint(appendTexts(b, c.DeviceID, c.DeviceType, c.UserAgent, c.Family, c.Platform, c.Model, c.OS), c.OSNumber)
}

func (c *CredentialFacts) append(b []byte) []byte {
	b = appendTexts(b, c.Kind, c.Problem, c.User, c.OID, c.TID, c.AppID)
	b = appendSet(b, c.Names)
	b = binary.AppendUvarint(b, uint64(len(c.Audience)))
	return appendTexts(b, c.Audience...)
}

func (c *CertFacts) append(b []byte) []byte {
	b = appendTexts(appendBool(b, c.Present), c.Problem, c.Status, c.Issuer, c.Serial, c.Device, c.Reason)
	b = binary.AppendVarint(b, c.NotAfter)
	b = binary.AppendVarint(b, c.ChangedAt)
	return binary.AppendVarint(b, c.SuccessorFirstUse)
}

func (d *DeviceFacts) append(b []byte) []byte {
	b = appendBool(appendBool(appendBool(appendBool(b, d.Known), d.Managed), d.Suspended), d.Revoked)
	b = appendTexts(b, d.ID, d.State, d.Compliant, d.EASDeviceID, d.SerialNumber, d.Model, d.OS, d.OSVersion, d.Source, d.SuspendReason)
	for _, n := range [...]int64{d.SilentFor, d.SuspendedAt, d.ComplianceSince, d.OSNumber, int64(d.Bucket), int64(d.Place)} {
		b = binary.AppendVarint(b, n)
	}
	return appendTable(b, d.Labels)
}

func (o *OwnerFacts) append(b []byte) []byte {
	b = appendTexts(appendBool(appendBool(b, o.Known), o.Suspended), o.Mail, o.OID, o.TID, o.SuspendReason)
	b = binary.AppendVarint(binary.AppendVarint(b, o.SuspendedAt), int64(o.Devices))
	return appendSet(appendSet(appendSet(b, o.Names), o.Delegations), o.Groups)
}

func (p *ProfileFacts) append(b []byte) []byte {
	b = appendTexts(appendBool(appendBool(appendBool(b, p.Known), p.Linked), p.Refused), p.ID, p.Certificate)
	return binary.AppendVarint(b, p.FirstSeen)
}

func (d *DuplicateFacts) append(b []byte) []byte {
	b = appendBool(appendBool(appendBool(b, d.DeviceIDManaged), d.OtherIsOlder), d.SameUserModel)
	b = appendTexts(b, d.ManagedDevice, d.OtherDeviceID)
	b = binary.AppendVarint(b, d.OtherLastSeen)
	return binary.AppendVarint(b, d.OtherFirstSeen)
}

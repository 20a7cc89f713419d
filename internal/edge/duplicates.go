package edge

import (
	"cmp"
	"slices"
	"time"

	"postern/internal/policy"
	"postern/internal/registry"
	"postern/internal/trust"
)

// duplicates says where else the claimed DeviceId and the certificate's device are in use. used is when the certificate was first used, or the
// ticket made, in Unix seconds; 0: never.
func duplicates(x *registry.Reading, in *policy.AccessInput, c *claimed, own *trust.MailProfile, device trust.DeviceID, used int64) {
	if in.Claimed.DeviceID == "" {
		return
	}
	if id := managedUnder(x, in, c); id != "" {
		in.Duplicate.DeviceIDManaged, in.Duplicate.ManagedDevice = true, string(id)
	}
	if in.Certificate.Device != "" || in.Assurance == "token" {
		otherDeviceID(x, in, own, device, used)
	}
	in.Duplicate.SameUserModel = in.Certificate.Status == "none" && in.Claimed.Model != "" && sameUserModel(x, in, c)
}

// activeProfile is how lately a mail profile was seen that counts as in use; the built-in policy's duplicate_window is as long.
const activeProfile = 14 * 24 * time.Hour

// sameUserModel reports whether a user whom the request names has a managed mail profile in use on the hardware model that it claims, under another DeviceId:
// what it comes from may be that very phone, with an account made by hand in another client, or after a restore. It is a hint and proves nothing.
func sameUserModel(x *registry.Reading, in *policy.AccessInput, c *claimed) bool {
	for name := range in.Credential.Names {
		for _, p := range x.ProfilesOfUser(name) {
			if p.Tenant != c.tenant || p.ClientID == in.Claimed.DeviceID || in.Now-p.LastSeen.Unix() > int64(activeProfile/time.Second) || !counts(x, c, p) {
				continue
			}
			if d, ok := x.Device(p.Device); ok && isManaged(d) && (p.Model == in.Claimed.Model || d.Model == in.Claimed.Model) {
				return true
			}
		}
	}
	return false
}

// managedUnder returns the managed device whose DeviceId the request claims: its MDM reports it, an administrator linked it, or a mail profile under it
// came with one of the device's certificates that still counts. Where several do (two people typed the same, or somebody copied it), the device that
// proves itself on this connection is the one: a copy of its DeviceId must not lock a phone out.
func managedUnder(x *registry.Reading, in *policy.AccessInput, c *claimed) trust.DeviceID {
	all := make([]trust.DeviceID, 0, 2*usualClaimants)
	for _, d := range c.devices {
		if d.Issuer == c.tenant && isManaged(d) {
			all = append(all, d.ID)
		}
	}
	for _, p := range c.profiles {
		if p.Tenant != c.tenant || p.Device == "" || !p.Linked && !counts(x, c, p) {
			continue
		}
		d := c.own // nearly always
		if d == nil || d.ID != p.Device {
			d, _ = x.Device(p.Device)
		}
		if d != nil && isManaged(d) {
			all = append(all, d.ID)
		}
	}
	switch {
	case len(all) == 0:
		return ""
	case slices.Contains(all, trust.DeviceID(in.Certificate.Device)):
		return trust.DeviceID(in.Certificate.Device)
	case in.Assurance == "token" && slices.Contains(all, trust.DeviceID(in.Ticket.Device)):
		return trust.DeviceID(in.Ticket.Device)
	}
	return all[0]
}

// counts reports whether the certificate that a mail profile came with is one of its device and neither held nor revoked.
func counts(x *registry.Reading, c *claimed, p *trust.MailProfile) bool {
	of := &c.standing // nearly always
	if of.Issuer == "" || p.Serial != c.serial || p.Tenant != of.Issuer {
		other, ok := x.Standing(p.Tenant, p.Serial)
		if !ok {
			return false
		}
		of = &other
	}
	return of.Device == p.Device && (of.Status == trust.Good || of.Status == trust.Superseded)
}

// otherDeviceID finds the DeviceId that stands against the claimed one: of the same client family on the device of the certificate or, without one, of the
// ticket that the token came through. Of several, the one most
// recently seen among those that were there first decides, because each of them has to have fallen silent before a newcomer takes the place.
func otherDeviceID(x *registry.Reading, in *policy.AccessInput, own *trust.MailProfile, device trust.DeviceID, used int64) {
	var room [usualClaimants]*trust.MailProfile
	others := x.ProfilesOfDevice(room[:], device)
	full := len(others) >= maxProfiles && !in.Profile.Known
	token := in.Assurance == "token"
	begun := in.Now // where it is used for the first time
	if used != 0 {
		begun = used
	}
	others = slices.DeleteFunc(others, func(p *trust.MailProfile) bool {
		if (token || string(p.Serial) != in.Certificate.Serial) && p.LastSeen.Unix() <= begun {
			// Not seen since this certificate or ticket came into use: it is what was on the phone before a wipe, which changes the DeviceId.
			return true
		}
		// Beyond the limit a newcomer stands against every client, so that nobody gains by inventing families.
		return p.Protocol != protocolEAS || p.Serial == "" && !token || p.ClientID == in.Claimed.DeviceID || p.Family != in.Claimed.Family && !full
	})
	if len(others) == 0 {
		return
	}
	since, seen := firstSeen(x, in, own, device)
	first := func(p *trust.MailProfile) bool {
		return !seen || cmp.Or(p.FirstSeen.Compare(since), cmp.Compare(p.ClientID, in.Claimed.DeviceID)) < 0
	}
	worst := slices.MaxFunc(others, func(a, b *trust.MailProfile) int {
		if first(a) != first(b) {
			if first(a) {
				return 1
			}
			return -1
		}
		return a.LastSeen.Compare(b.LastSeen)
	})
	if !in.Profile.Known && !first(worst) {
		return // another mailbox on a phone that was there before all others
	}
	in.Duplicate.OtherDeviceID = worst.ClientID
	in.Duplicate.OtherLastSeen, in.Duplicate.OtherFirstSeen = policy.Seconds(worst.LastSeen), policy.Seconds(worst.FirstSeen)
	in.Duplicate.OtherIsOlder = first(worst)
}

// firstSeen returns when the claimed DeviceId was first seen on the device, in whosever mailbox: a phone that opens a shared one, or whose credentials cannot be
// read, is no newcomer for it.
func firstSeen(x *registry.Reading, in *policy.AccessInput, own *trust.MailProfile, device trust.DeviceID) (since time.Time, seen bool) {
	if in.Profile.Known {
		since, seen = own.FirstSeen, true
	}
	var room [usualClaimants]*trust.MailProfile
	for _, p := range x.ProfilesOfDevice(room[:], device) {
		if p.Protocol == protocolEAS && p.ClientID == in.Claimed.DeviceID && (!seen || p.FirstSeen.Before(since)) {
			since, seen = p.FirstSeen, true
		}
	}
	return since, seen
}

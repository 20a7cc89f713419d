package policy

import "fmt"

// spoilers lists what would stop a request that was allowed.
func spoilers(in *AccessInput) []accessChange {
	change := func(is, instead string, apply func(*AccessInput)) accessChange {
		return accessChange{Change: Change{Fact: is, Do: instead}, apply: apply}
	}
	return []accessChange{
		change("The certificate is good.", "The certificate is revoked or put on hold.", func(in *AccessInput) { in.Certificate.Status = "revoked" }),
		change("A certificate was shown.", "No certificate is shown.", func(in *AccessInput) { in.Certificate, in.Assurance = CertFacts{Status: "none"}, "claimed" }),
		change("The device is managed.", "The MDM no longer manages the device.", func(in *AccessInput) { in.Device.Managed = false }),
		change("The device was heard of.", "The device is silent for thirty days.", func(in *AccessInput) { in.Device.SilentFor = 30 * 86400 }),
		change("The owner signs in.", "Somebody else signs in.", func(in *AccessInput) {
			in.Credential.User, in.Credential.Names = "somebody.else@example.com", map[string]bool{"somebody.else@example.com": true}
		}),
		change("The phone says "+deviceIDText(in.Claimed.DeviceID)+".", "Another DeviceId is used.", func(in *AccessInput) { in.Claimed.DeviceID = "another" }),
		change("The client is of the family "+or(in.Claimed.Family, "unknown")+".", "A client that nobody knows is used.", func(in *AccessInput) { in.Claimed.Family = "other" }),
		change(known(in.Device.Compliant == "yes", "The device is compliant.", "Nobody says that the device is compliant."), "The device is not compliant.", func(in *AccessInput) {
			in.Device.Compliant, in.Device.ComplianceSince = "no", in.Now-year
		}),
		change("The system of the device is "+systemOf(in)+".", "The version of the system is older.", func(in *AccessInput) {
			in.Device.OSVersion, in.Device.OSNumber = "1", VersionNumber("1")
		}),
		change("The client speaks version "+FactText("request.version", fmt.Sprint(in.Request.Version))+" of ActiveSync.", "The client speaks an older version, 12.0.", func(in *AccessInput) { in.Request.Version = 120 }),
		change(fmt.Sprintf("It is the owner's device number %d.", in.Device.Place), "The owner enrolled nine others before it.", func(in *AccessInput) {
			in.Device.Place, in.Owner.Devices = 10, 10
		}),
	}
}

package policy

import (
	"testing"

	"postern/internal/trust"
)

// TestNoGapInLibrary tries every pair of odd facts with every policy of the library on: there is always a decision, one that allows names the rule that proved
// it, and a fact that a policy is about is never both refused and allowed by the data's stages.
func TestNoGapInLibrary(t *testing.T) {
	const all = `networks: {guests: 198.51.100.0/24, office: 203.0.113.0/24}
groups: {pilot: [alice@contoso.com]}
postern:
  config:
    access:
      noncompliant: deny
      noncompliant_grace: 60
      unknown_compliance: quarantine
      min_os_version: {ios: "17.5.1"}
      unknown_os_version: deny
      claimed_os_version: true
      min_eas_version: 141
      max_devices: 2
      allowed_clients: [apple_mail, gmail, other]
      denied_platforms: [windows]
      allowed_zones: [office, guests]
      quarantined_zones: [guests]
      same_user_model: deny
      sign_on: [{clients: [gmail], zones: [guests], action: deny}, {platforms: [android], action: quarantine}, {action: allow}]
`
	engines := map[string]*Engine{
		"on":       mustLoad(t, Options{Files: Files{"a.yaml": []byte(all)}}),
		"observed": mustLoad(t, Options{Files: Files{"a.yaml": []byte(all + "      rollout: {device_not_compliant: [{stage: observe}], os_too_old: [{stage: observe, percent: 50}], zone_not_allowed: [{stage: deny, group: pilot}]}\n")}}),
		"glass":    mustLoad(t, Options{Files: Files{"a.yaml": []byte(all + "      break_glass: [{user: alice@contoso.com}]\n")}}),
	}
	changes := []func(*AccessInput){
		func(*AccessInput) {},
		func(in *AccessInput) { in.Device.Compliant = "no" },
		func(in *AccessInput) { in.Device.Compliant, in.Device.ComplianceSince = "no", in.Now },
		func(in *AccessInput) { in.Device.Compliant = "odd" },
		func(in *AccessInput) { in.Device.OSVersion, in.Device.OSNumber = "16", 16000000 },
		func(in *AccessInput) { in.Device.OSVersion, in.Device.OSNumber = "odd", 0 },
		func(in *AccessInput) { in.Device.OS, in.Device.OSVersion, in.Device.OSNumber = "", "", 0 },
		func(in *AccessInput) { in.Device.OS, in.Claimed.Platform = "", "unknown" },
		func(in *AccessInput) { in.Device.OS = "android" },
		func(in *AccessInput) { in.Device.OS = "windows" },
		func(in *AccessInput) { in.Device.Place, in.Owner.Devices = 3, 3 },
		func(in *AccessInput) { in.Request.Version = 0 },
		func(in *AccessInput) { in.Request.SourceIP = "198.51.100.7" },
		func(in *AccessInput) { in.Request.SourceIP = "odd" },
		func(in *AccessInput) { in.Claimed.Family, in.Device.EASDeviceID = "gmail", "" },
		func(in *AccessInput) { in.Claimed.Family, in.Device.EASDeviceID = "other", "" },
		func(in *AccessInput) { in.Claimed.Family, in.Device.EASDeviceID = "nine", "" },
		func(in *AccessInput) { in.Duplicate.SameUserModel = true },
		func(in *AccessInput) { in.Certificate.Status = "revoked" },
		func(in *AccessInput) { in.Device, in.Owner = NoDevice(), OwnerFacts{} },
		func(in *AccessInput) { in.Device.Bucket = 99 },
	}
	final := func(in *AccessInput) bool { return in.Certificate.Status == "revoked" || !in.Device.Known }
	for name, e := range engines {
		for i := range changes {
			for j := range changes {
				in := managedSample()
				changes[i](&in)
				changes[j](&in)
				d, err := e.Access(t.Context(), &in)
				switch {
				case err != nil:
					t.Errorf("%s, changes %d and %d: %v", name, i, j, err)
				case final(&in) && d.Action != trust.Deny:
					t.Errorf("%s, changes %d and %d: %s of what nothing lifts", name, i, j, d.Action)
				case name == "glass" && !final(&in) && d.Action != trust.Allow:
					t.Errorf("%s, changes %d and %d: %s %s", name, i, j, d.Action, codes(d.Reasons))
				}
			}
		}
	}
}

package policy

import "slices"

// ownRules are a company's own rules and data, and what they refuse.
var ownRules = Files{"team.rego": []byte(`package postern.access.team.lock

deny contains {"code": "no_screen_lock", "text": "The phone has no screen lock.", "remedy": "Set a code on the phone, and let it check in with the MDM."} if {
	input.device.labels.screen_lock == "no"
}

quarantine contains {"code": "on_leave", "text": "The owner is on leave.", "remedy": "The owner asks HR to end the leave."} if input.owner.groups.away

deny contains "old_protocol" if {
	input.request.class == "command"
	input.request.version == 140
}

deny contains "stale_label" if input.device.labels.check == "stale"
`), "tuning.yaml": []byte(`postern:
  config:
    access:
      max_silence: 86400
      token_families: [gmail]
      denied_commands: [itemoperations]
      allowed_clients: [apple_mail, gmail, nine]
      denied_platforms: [android]
      min_eas_version: 140
      unknown_compliance: quarantine
      unknown_os_version: deny
      min_os_version: {ios: "16.0", windows: "11"}
      token_audiences: ["https://outlook.office365.com"]
      rollout: {device_silent: [{stage: observe}], stale_label: [{stage: observe}], eas_version_too_old: [{stage: quarantine, group: pilot}, {stage: observe}]}
      sign_on: [{name: Nine, clients: [nine], action: deny}, {name: Guests, zones: [guests], action: quarantine}, {name: others, action: allow}]
groups: {pilot: [alice@contoso.com], away: [zoe@contoso.com]}
networks: {guests: 192.0.2.0/24}
`)}

// ownRefusals are requests that ownRules refuse.
func ownRefusals() (access []accessSample) {
	with := func(name string, change func(*AccessInput)) { access = append(access, sampleWith(name, change)) }
	label := func(in *AccessInput, name, value string) { in.Device.Labels = map[string]string{name: value} }
	with("a team's rule with a remedy of its own", func(in *AccessInput) { label(in, "screen_lock", "no") })
	with("a team's quarantine that asks for a group", func(in *AccessInput) {
		in.Owner.Mail, in.Owner.Names = "zoe@contoso.com", map[string]bool{"zoe@contoso.com": true}
		in.Credential.User, in.Credential.Names = in.Owner.Mail, map[string]bool{in.Owner.Mail: true}
	})
	with("a team's rule by its code alone", func(in *AccessInput) { in.Request.Version = 140 })
	with("two rules of a team", func(in *AccessInput) { label(in, "screen_lock", "no"); in.Request.Version = 140 })
	with("blocked, while silence and a team's label are only observed", func(in *AccessInput) {
		label(in, "check", "stale")
		in.Device.State, in.Device.SilentFor = "blocked", 30*86400
	})
	with("quarantined by a rollout", func(in *AccessInput) { in.Request.Version = 139 })
	with("a row of the sign-on table", func(in *AccessInput) { in.Claimed.Family, in.Device.EASDeviceID = "nine", "" })
	with("a row that quarantines", func(in *AccessInput) { in.Request.SourceIP = "192.0.2.9" })
	with("a token of a device whose newest certificate is revoked", func(in *AccessInput) { *in = sampleCalled("token"); in.Device.Revoked = true })
	with("a token that ran out", func(in *AccessInput) { *in = sampleCalled("token"); in.AssuranceUntil = in.Now })
	with("a sign-in through the ticket of such a device", func(in *AccessInput) { *in = sampleCalled("sign_in"); in.Device.Revoked = true })
	with("a sign-in without ticket", func(in *AccessInput) { *in = sampleCalled("sign_in"); in.Ticket = TicketFacts{Status: "none"} })
	with("a sign-in at an address that was never given out", func(in *AccessInput) {
		*in = sampleCalled("sign_in")
		in.Ticket, in.Device, in.Owner = TicketFacts{Status: "unknown"}, NoDevice(), OwnerFacts{}
	})
	with("a sign-in at a revoked address", func(in *AccessInput) { *in = sampleCalled("sign_in"); in.Ticket.Status = "revoked" })
	with("an exception that does not help", func(in *AccessInput) {
		bare(in)
		in.Device.Revoked = true
		in.Exceptions = []ExceptionFacts{{ID: "ex-7", GrantedBy: "token:desk", Until: in.Now + 86400, Reasons: []string{"no_certificate"}}}
	})
	with("another client", func(in *AccessInput) { in.Claimed.Family, in.Device.EASDeviceID = "outlook", "" })
	with("another platform", func(in *AccessInput) { in.Device.OS = "android" })
	with("another command", func(in *AccessInput) { in.Request.Command = "itemoperations" })
	with("compliance that nobody reports", func(in *AccessInput) { in.Device.Compliant = "unknown" })
	with("a version that nobody reports", func(in *AccessInput) { in.Device.OSVersion, in.Device.OSNumber = "", 0 })
	with("a token for another service", func(in *AccessInput) {
		in.Credential.Kind, in.Credential.Problem, in.Credential.Audience = "bearer", "", []string{"https://graph.microsoft.com"}
	})
	with("the token of an application", func(in *AccessInput) {
		in.Credential = CredentialFacts{Kind: "bearer", Problem: "app_only", AppID: "app-1", TID: "t-contoso", Names: map[string]bool{}}
	})
	with("two Authorization headers", func(in *AccessInput) {
		in.Credential = CredentialFacts{Kind: "basic", Problem: "duplicate_credentials", Names: map[string]bool{}}
	})
	return access
}

// sampleCalled is a sample that every policy has to decide about.
func sampleCalled(name string) AccessInput {
	all := accessSamples()
	return *all[slices.IndexFunc(all, func(s accessSample) bool { return s.name == name })].in.clone()
}

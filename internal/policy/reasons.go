package policy

import (
	"cmp"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"

	"postern/internal/trust"
)

var codeForm = regexp.MustCompile(`^[a-z][a-z0-9_]{0,63}$`)

// saying is how a reason is told. Text and remedy may hold {path} for a fact of the input, {config.key} for a setting, {exception.key} for what the
// policy itself attached, each also as {path|time} (Unix seconds as a date), {path|span} (seconds as days or hours), {path|version} (17005001 as 17.5.1) or
// {path|eas} (161 as 16.1).
type saying struct {
	code, text, remedy string
	facts              string // further facts worth recording, separated by blanks
}

// sayings are the reasons of the built-in policies, the most telling first: that is the order in which a decision lists them.
var sayings = []saying{
	{code: "certificate_revoked",
		text:   "The certificate {certificate.serial} was revoked on {certificate.changed_at|time} (reason: {certificate.reason}).",
		remedy: "A revocation is final. If the device may have mail again, issue a new challenge for it and let it enrol a new certificate.",
		facts:  "certificate.device owner.mail"},
	{code: "device_blocked",
		text:   "The device {device.id} was blocked by an administrator.",
		remedy: "An administrator unblocks the device once the cause is settled.",
		facts:  "owner.mail device.serial_number"},
	{code: "device_retired",
		text:   "The device {device.id} was retired.",
		remedy: "A retired device does not come back: register it again, then let it enrol.",
		facts:  "owner.mail device.serial_number"},
	{code: "device_suspended",
		text:   "The device {device.id} has been suspended since {device.suspended_at|time} (reason: {device.suspend_reason}).",
		remedy: "Reinstate the device when the cause is settled (`postern device reinstate`): mail returns at once, with the same certificate.",
		facts:  "owner.mail device.serial_number"},
	{code: "owner_suspended",
		text:   "The owner {owner.mail} has been suspended since {owner.suspended_at|time} (reason: {owner.suspend_reason}), with every device.",
		remedy: "Reinstate the owner when the cause is settled (`postern owner reinstate`): mail returns at once, with the same certificates.",
		facts:  "device.id device.serial_number"},
	{code: "certificate_held",
		text:   "The certificate {certificate.serial} has been on hold since {certificate.changed_at|time}.",
		remedy: "Release the certificate when the cause of the hold is settled, or revoke it.",
		facts:  "certificate.device owner.mail"},
	{code: "duplicate_credentials",
		text:   "The request carries credentials more than once, so it cannot be said whose it is.",
		remedy: "The client, or a proxy before it, must send one Authorization header that names one user.",
		facts:  "claimed.user_agent request.source_ip"},
	{code: "unreadable_credentials",
		text:   "The credentials of the request cannot be read ({credential.kind}: {credential.problem}).",
		remedy: "The client must send a well-formed Authorization header; remove the account from the phone and let the profile set it up again.",
		facts:  "claimed.user_agent request.source_ip"},
	{code: "app_only_credential",
		text:   "The token belongs to the application {credential.app_id} and to no user.",
		remedy: "Mail is for users: the client must sign in as the owner of the device.",
		facts:  "credential.tid"},
	{code: "wrong_tenant",
		text:   "The token is from the tenant {credential.tid}; the owner {owner.mail} belongs to {owner.tid}.",
		remedy: "Sign in with the account of the owner's tenant, or correct the owner's tenant id in the registry.",
		facts:  "credential.user"},
	{code: "wrong_audience",
		text:   "The token was made for {credential.audience} and not for this mail service.",
		remedy: "The client must ask for a token for the mail service; remove the account from the phone and let the profile set it up again.",
		facts:  "credential.app_id"},
	{code: "owner_mismatch",
		text:   "The request is for {credential.user} (credential names: {credential.names}), and the device {device.id} belongs to {owner.mail}.",
		remedy: "The user signs in as the owner, or the device is reassigned to the user. A shared mailbox needs a delegation to the owner.",
		facts:  "credential.oid owner.oid"},
	{code: "no_user",
		text:   "The request names no user (credential: {credential.kind}).",
		remedy: "The client must sign in; if it did, remove the account from the phone and let the profile set it up again.",
		facts:  "claimed.user_agent request.command"},
	{code: "certificate_not_trusted",
		text:   "The certificate of the connection is not accepted ({certificate.problem}, status {certificate.status}).",
		remedy: "The phone must use the certificate that its mail profile brought; install the profile again or let the device enrol.",
		facts:  "certificate.serial certificate.issuer"},
	{code: "certificate_expired",
		text:   "The certificate {certificate.serial} expired on {certificate.not_after|time}.",
		remedy: "Let the device enrol again with a new challenge; an expired certificate cannot renew itself.",
		facts:  "certificate.device owner.mail"},
	{code: "certificate_superseded",
		text:   "The certificate {certificate.serial} was superseded, and its successor has been in use since {certificate.successor_first_use|time}: longer than the grace of {config.supersede_grace|span}.",
		remedy: "The mail profile on the phone must use the newer certificate: install the profile again.",
		facts:  "certificate.device owner.mail"},
	{code: "ticket_revoked",
		text:   "The address of the OAuth front that the phone signs in at (ticket {ticket.id}, device {ticket.device}) was revoked, or the device was given to another owner.",
		remedy: "If the device may have mail, make a new ticket (`postern device ticket`) and put its two addresses into the mail profile.",
		facts:  "owner.mail request.source_ip"},
	{code: "ticket_of_another_device",
		text:   "The sign-in came to the address of the device {ticket.device} (ticket {ticket.id}) with the certificate of {certificate.device}.",
		remedy: "The mail profile has to hold the ticket of its own device. If nobody mixed them up, revoke the ticket (`postern device revoke-ticket`).",
		facts:  "certificate.serial owner.mail request.source_ip"},
	{code: "ticket_unknown",
		text:   "The sign-in came to an address of the OAuth front that was never given out.",
		remedy: "Make a ticket for the device (`postern device ticket`) and put its two addresses into the mail profile.",
		facts:  "request.source_ip claimed.user_agent"},
	{code: "no_certificate_or_ticket",
		text:   "A sign-in asked for a token without the certificate and without the ticket of a device, so it was not passed on to the identity provider.",
		remedy: "Use the mail profile that brings the certificate, or one with the two addresses of a ticket (`postern device ticket`).",
		facts:  "request.source_ip request.command claimed.user_agent"},
	{code: "profile_refused",
		text:   "An administrator has refused the mail profile {profile.id} ({claimed.device_id}, client {claimed.family}) of {credential.user}.",
		remedy: "`postern audit list --object {profile.id}` says who and why; `postern settle allow {profile.id}` lets it in.",
		facts:  "device.id certificate.serial"},
	{code: "duplicate_profile_without_certificate",
		text:   "The DeviceId {claimed.device_id} belongs to the managed device {duplicate.managed_device}, and this request came without that device's certificate: it is a second mail profile on it, or a copy of its DeviceId.",
		remedy: "Remove the hand-made mail account from the phone; the managed mail profile keeps working.",
		facts:  "credential.user claimed.user_agent certificate.device"},
	{code: "no_certificate",
		text:   "The connection brought no client certificate (DeviceId {claimed.device_id}, client {claimed.family}).",
		remedy: "Enrol the device and use the mail profile that brings the certificate.",
		facts:  "assurance ticket.id credential.user claimed.user_agent claimed.model duplicate.same_user_model"},
	{code: "unmanaged_device",
		text:   "The device is not managed (known: {device.known}, managed: {device.managed}, state: {device.state}, certificate of device: {certificate.device}).",
		remedy: "The device must be in the registry, reported as managed by its MDM, and enrolled.",
		facts:  "device.id device.source claimed.device_id credential.user"},
	{code: "device_silent",
		text:   "The device {device.id} has not reported to {device.source} for {device.silent_for|span}; {config.max_silence|span} are allowed.",
		remedy: "Let the device check in with its MDM; mail returns with the next sync of {device.source}.",
		facts:  "owner.mail"},
	{code: "device_not_compliant",
		text:   "The device {device.id} has not been compliant since {device.compliance_since|time}, according to {device.source}; the grace is {config.noncompliant_grace|span}.",
		remedy: "Open the MDM's app on the phone: it says what is missing. Mail returns with the report that the device is compliant.",
		facts:  "owner.mail device.os_version"},
	{code: "compliance_unknown",
		text:   "{device.source} does not say whether the device {device.id} is compliant.",
		remedy: "Give the device a compliance policy in the MDM, and let it check in; unknown_compliance in the policy's data says what becomes of such devices.",
		facts:  "owner.mail"},
	{code: "os_too_old",
		text:   "The device {device.id} has version {os.version|version} of {device.os}; mail needs {os.minimum|version} or later.",
		remedy: "Update the phone's system, then let it check in with its MDM; mail returns with its report.",
		facts:  "device.os_version claimed.os_number owner.mail"},
	{code: "os_version_unknown",
		text:   "The version of the system of the device {device.id} is not known ({device.os} {device.os_version}).",
		remedy: "Let the device check in with its MDM; for a device kept by hand, `postern device update --os --os-version`.",
		facts:  "device.source claimed.platform owner.mail"},
	{code: "device_id_mismatch",
		text:   "The client claims the DeviceId {claimed.device_id}; the MDM reports {device.eas_device_id} for the device {device.id}.",
		remedy: "Use the mail account of the managed profile on this device, or correct the DeviceId in the registry, or link the mail profile to the device.",
		facts:  "claimed.family credential.user"},
	{code: "client_not_allowed",
		text:   "Mail clients of the family {claimed.family} are not allowed.",
		remedy: "Use an allowed mail client, or change denied_clients or allowed_clients in the policy's data.",
		facts:  "claimed.user_agent claimed.device_type"},
	{code: "platform_not_allowed",
		text:   "Mail on the platform {claimed.platform} (system of the device: {device.os}) is not allowed.",
		remedy: "Use a device of another platform, or change denied_platforms or allowed_platforms in the policy's data.",
		facts:  "device.id claimed.user_agent"},
	{code: "eas_version_too_old",
		text:   "The client speaks version {request.version|eas} of Exchange ActiveSync; {config.min_eas_version|eas} or later is needed.",
		remedy: "Update the mail client, or use another one.",
		facts:  "claimed.family claimed.user_agent"},
	{code: "zone_not_allowed",
		text:   "Mail from {request.source_ip} is not allowed (zones: {request.zones}).",
		remedy: "Use an allowed network, or change denied_zones, quarantined_zones or allowed_zones in the policy's data.",
		facts:  "device.id owner.mail"},
	{code: "sign_on_rule",
		text:   "Row {sign_on.row} of the sign-on table ({sign_on.name}) says {sign_on.action} (client {claimed.family}, groups {owner.groups}, zones {request.zones}).",
		remedy: "Use a client, a device or a network for which the table has a row that allows, or change sign_on in the policy's data.",
		facts:  "owner.mail device.os claimed.platform request.source_ip"},
	{code: "command_not_allowed",
		text:   "The command {request.command} is not allowed.",
		remedy: "Change denied_commands in the policy's data if it should be.",
		facts:  "credential.user"},
	{code: "device_unknown",
		text:   "The device {device.id} is not in the registry.",
		remedy: "Register the device, then issue a challenge for it.",
		facts:  "source_ip"},
	{code: "not_managed",
		text:   "The device {device.id} is not managed according to {device.source}.",
		remedy: "Enrol the device in the MDM, and let it report the device as managed.",
		facts:  "owner.mail"},
	{code: "owner_unknown",
		text:   "The device {device.id} has no owner in the registry.",
		remedy: "Assign the device to its owner.",
		facts:  "device.source"},
	{code: "names_another_user",
		text:   "The request names {requested.mails}, and the device belongs to {owner.mail}.",
		remedy: "The request must name the owner or nobody: correct the SCEP profile, or reassign the device.",
		facts:  "device.id"},
	{code: "domain_not_allowed",
		text:   "The issuer {issuer} may not certify addresses of {domain} (owner {owner.mail}).",
		remedy: "Add the domain to the issuer's configuration, or give the owner an address of {domains}.",
		facts:  "device.id"},
	{code: "weak_key",
		text:   "A key of {key.algorithm} with {key.bits} bits is not certified; RSA needs {config.min_rsa_bits} bits, ECDSA one of {config.ecdsa_bits}.",
		remedy: "Set a stronger key in the SCEP profile.",
		facts:  "device.id"},
	{code: "renewal_certificate_expired",
		text:   "The certificate {renews.serial} that signed the renewal is valid from {renews.not_before|time} to {renews.not_after|time} only.",
		remedy: "Let the device enrol again with a new challenge.",
		facts:  "device.id"},
	{code: "renewal_certificate_not_good",
		text:   "The certificate {renews.serial} that signed the renewal is {renews.status}.",
		remedy: "Renew with the device's current certificate, release it if it is held, or let the device enrol again with a new challenge.",
		facts:  "device.id"},
	{code: "renewal_too_early",
		text:   "The certificate {renews.serial} is valid until {renews.not_after|time} and may be renewed in the last {config.renewal_window|span} only.",
		remedy: "Wait, or enrol with a challenge.",
		facts:  "device.id"},
	{code: "device_quarantined",
		text:   "The device {device.id} is quarantined.",
		remedy: "An administrator settles why it was quarantined and activates it, or retires it.",
		facts:  "owner.mail"},
	{code: "ndes_approval_required",
		text:   "The challenge was made for no device, and the device {device.id} has a certificate already.",
		remedy: "Make sure that it is {owner.mail}'s device that asks, then approve the request with `postern pending approve`, or reject it; an MDM that names the device needs no approval.",
		facts:  "device.serial_number source_ip requested.mails"},
	{code: "approval_required",
		text:   "An administrator has to approve the enrolment of the device {device.id}.",
		remedy: "See it with `postern pending show`, and approve or reject it; the client polls until then.",
		facts:  "owner.mail device.serial_number source_ip"},
	{code: "duplicate_profile_second_device_id",
		text:   "The {assurance} of the device {device.id} is in use under the DeviceId {duplicate.other_device_id} since {duplicate.other_first_seen|time}, last seen {duplicate.other_last_seen|time}; {claimed.device_id} is a second one of the client family {claimed.family}.",
		remedy: "Remove the second account from the phone. After a wipe or restore, let the new one in with `postern settle allow {profile.id}` (--replace: in place of the old one); after {config.duplicate_window|span} of silence of the old one it is taken over.",
		facts:  "device.id certificate.serial ticket.id credential.user"},
	{code: "too_many_devices",
		text:   "The owner {owner.mail} has {owner.devices} devices in use, and {config.max_devices} may have mail; the device {device.id} is number {device.place} in the order in which they enrolled (0: not yet).",
		remedy: "Retire a device that is no longer used (`postern device list --owner`, `postern device retire`): the next one takes its place at once.",
		facts:  "device.serial_number device.model"},
	{code: "same_user_and_model",
		text:   "{credential.user} has a managed mail profile in use on a device of the same model ({claimed.model}), and this request came without its certificate: it may be a second account on that phone, made by hand.",
		remedy: "Remove the hand-made mail account from the phone; the managed mail profile keeps working.",
		facts:  "claimed.device_id claimed.user_agent"},
	{code: "break_glass",
		text:   "BREAK GLASS: {break_glass.user} gets mail in spite of {break_glass.lifts} (why the account is listed: {break_glass.why}).",
		remedy: "Find out who used the account and what for, and settle the reasons that it lifts; take it out of break_glass in the policy's data when it is over.",
		facts:  "device.id request.source_ip claimed.user_agent"},
	{code: "exception",
		text:   "The exception {exception.id}, granted by {exception.granted_by} until {exception.until|time}, lifts {exception.reasons}.",
		remedy: "Nothing is needed until the exception ends."},
	{code: "unknown_client",
		text:   "The client is of no known family (user agent {claimed.user_agent}, type {claimed.device_type}).",
		remedy: "Nothing is needed while unknown clients are allowed; unknown_client in the policy's data says what becomes of them.",
		facts:  "claimed.device_id"},
	{code: "device_silent_long",
		text:   "The device {device.id} of {owner.mail} has not reported to {device.source} for {device.silent_for|span}; {config.silent_after|span} are allowed.",
		remedy: "Let the device check in with its MDM, or keep it for a while: `postern exception grant --device {device.id} --reasons device_silent_long`.",
		facts:  "device.state"},
	{code: "certificate_unused",
		text:   "The certificate {certificate.serial} of the device {device.id} of {owner.mail} was issued on {certificate.issued_at|time} and never used; {config.unused_after|span} are allowed.",
		remedy: "Look whether the mail profile on the device names the certificate, or keep it for a while: `postern exception grant --device {device.id} --reasons certificate_unused`.",
		facts:  "device.state"},
	{code: "no_mail",
		text:   "No mail profile of the device {device.id} of {owner.mail} was seen since {mail.last_seen|time}; {config.no_mail_after|span} are allowed.",
		remedy: "Let the device fetch mail, or keep it for a while: `postern exception grant --device {device.id} --reasons no_mail`.",
		facts:  "device.state mail.profiles"},
}

// rank orders reasons: denials before the codes of teams before quarantines and notes.
func rank(code string) int {
	i := slices.IndexFunc(sayings, func(s saying) bool { return s.code == code })
	switch {
	case i < 0:
		return slices.IndexFunc(sayings, func(s saying) bool { return s.code == "device_quarantined" })*2 - 1
	default:
		return i * 2
	}
}

func sortReasons(list []trust.Reason) {
	slices.SortStableFunc(list, func(a, b trust.Reason) int {
		return cmp.Or(rank(a.Code)-rank(b.Code), strings.Compare(a.Code, b.Code), strings.Compare(a.Rule, b.Rule))
	})
}

var placeholder = regexp.MustCompile(`\{([a-z0-9_.]+)(\|time|\|span|\|version|\|eas)?\}`)

// stageFact is in the facts of a reason whose rollout says only to observe it.
const stageFact = "rollout.stage"

// explain fills in what the policy left open: the facts, and a sentence and a remedy where the code is a built-in one.
func (e *Engine) explain(entry string, r *trust.Reason, input *ast.Term) {
	i := slices.IndexFunc(sayings, func(s saying) bool { return s.code == r.Code })
	s := saying{code: r.Code, text: strings.ToUpper(r.Code[:1]) + strings.ReplaceAll(r.Code[1:], "_", " ") + "."}
	if i >= 0 {
		s = sayings[i]
	}
	facts := map[string]string{}
	fill := func(text string) string {
		return placeholder.ReplaceAllStringFunc(text, func(match string) string {
			m := placeholder.FindStringSubmatch(match)
			value, ok := r.Facts[m[1]]
			if !ok {
				value = e.fact(entry, m[1], input)
			}
			facts[m[1]] = value
			return show(value, m[2])
		})
	}
	if r.Text == "" {
		r.Text = fill(s.text)
	}
	if r.Remedy == "" {
		r.Remedy = fill(s.remedy)
	}
	if r.Facts[stageFact] == "observe" {
		r.Text = "Only observed: " + r.Text
	}
	for path := range strings.FieldsSeq(s.facts) {
		facts[path] = e.fact(entry, path, input)
	}
	maps.Copy(facts, r.Facts)
	maps.DeleteFunc(facts, func(_, v string) bool { return v == "" })
	r.Facts = facts
}

// fact looks up a path in the input or, behind "config.", in the configuration of the entry point.
func (e *Engine) fact(entry, path string, input *ast.Term) string {
	t := input
	if rest, ok := strings.CutPrefix(path, "config."); ok {
		t, path = e.config[entry], rest
	}
	for name := range strings.SplitSeq(path, ".") {
		o, ok := t.Value.(ast.Object)
		if !ok {
			return ""
		}
		if t = o.Get(ast.StringTerm(name)); t == nil {
			return ""
		}
	}
	return plain(t)
}

// plain writes a fact as text: lists and the names of a set with commas between them.
func plain(t *ast.Term) string {
	var words []string
	switch v := t.Value.(type) {
	case ast.String:
		return string(v)
	case ast.Object:
		words = make([]string, 0, v.Len())
		v.Foreach(func(k, _ *ast.Term) { words = append(words, plain(k)) })
	case *ast.Array:
		v.Foreach(func(x *ast.Term) { words = append(words, plain(x)) })
	default:
		return t.String()
	}
	return strings.Join(words, ", ")
}

// show writes a fact for people.
func show(value, form string) string {
	n, err := strconv.ParseInt(value, 10, 64)
	switch {
	case value == "":
		return "none"
	case form == "|time" && err == nil && n == 0:
		return "an unknown time"
	case form == "|time" && err == nil:
		return time.Unix(n, 0).UTC().Format("2006-01-02 15:04 MST")
	case form == "|span" && err == nil:
		return span(n)
	case form == "|version" && err == nil:
		return fmt.Sprintf("%d.%d.%d", n/1e6, n/1000%1000, n%1000)
	case form == "|eas" && err == nil:
		return fmt.Sprintf("%d.%d", n/10, n%10)
	}
	return value
}

// span writes seconds in the largest unit that fits at least twice.
func span(seconds int64) string {
	for _, u := range []struct {
		name string
		size int64
	}{{"days", 86400}, {"hours", 3600}, {"minutes", 60}} {
		if seconds >= 2*u.size {
			return strconv.FormatInt(seconds/u.size, 10) + " " + u.name
		}
	}
	return strconv.FormatInt(seconds, 10) + " seconds"
}

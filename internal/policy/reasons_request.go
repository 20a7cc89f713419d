package policy

import (
	"fmt"
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
)

// credentialSayings are about who signs in.
var credentialSayings = []saying{
	{code: "duplicate_credentials", page: "identity",
		text:   "The request carries credentials more than once, so it cannot be said whose it is.",
		remedy: "The client, or a proxy before Postern, must send one Authorization header that names one user. Remove the account from the phone and let the profile set it up again.",
		facts:  "claimed.user_agent request.source_ip"},
	{code: "unreadable_credentials", page: "identity",
		text:   "The sign-in of the phone ({credential.kind}) cannot be read.",
		remedy: "Remove the account from the phone and let the mail profile set it up again; if it comes back, a proxy on the way changes the Authorization header.",
		facts:  "credential.problem claimed.user_agent request.source_ip", say: sayUnreadable},
	{code: "app_only_credential", page: "identity",
		text:   "The token belongs to the application {credential.app_id} and to no user.",
		remedy: "Mail is for users: sign in as the owner of the device.",
		facts:  "credential.tid"},
	{code: "wrong_tenant", page: "identity",
		text:   "The token is from the tenant {credential.tid}; the owner {owner.mail} belongs to {owner.tid}.",
		remedy: "Sign in with the account of the owner's tenant. If the registry has the wrong tenant for {owner.mail}, a PKI officer corrects the owner (`postern owner show {owner.mail}`).",
		facts:  "credential.user"},
	{code: "wrong_audience", page: "identity",
		text:   "The token was made for {credential.audience} and not for this mail service.",
		remedy: "The client must ask for a token for the mail service: remove the account from the phone and let the profile set it up again.",
		facts:  "credential.app_id"},
	{code: "owner_mismatch", page: "identity",
		text:   "The request is for {credential.user}, and the device {device.id} belongs to {owner.mail}.",
		remedy: "The owner of the device, {owner.mail}, signs in; or a PKI officer gives the device to the user (`postern device reassign {device.id} --owner MAIL`).",
		facts:  "device.id credential.names credential.oid owner.oid", say: sayOwnerMismatch},
	{code: "no_user", page: "identity",
		text:   "The request names no user (credential: {credential.kind}).",
		remedy: "The client must sign in; if it did, remove the account from the phone and let the profile set it up again.",
		facts:  "claimed.user_agent request.command"},
}

// clientSayings are about the mail client and where the request comes from.
var clientSayings = []saying{
	{code: "client_not_allowed", page: "clients",
		text:   "Mail clients of the family {claimed.family} are not allowed.",
		remedy: "Use another mail client. A policy author can allow this one (denied_clients in the policy's data).",
		facts:  "claimed.user_agent claimed.device_type", say: sayListed("allowed_clients", "Mail clients of the family {claimed.family} are not allowed", "one of these mail clients", "denied_clients")},
	{code: "platform_not_allowed", page: "clients",
		text:   "Mail on the platform {claimed.platform|os} (system of the device: {device.os|os}) is not allowed.",
		remedy: "Use a device of another platform. A policy author can allow this one (denied_platforms in the policy's data).",
		facts:  "device.id claimed.user_agent", say: sayListed("allowed_platforms", "Mail on the platform {claimed.platform|os} (system of the device: {device.os|os}) is not allowed",
			"a device of one of these platforms", "denied_platforms")},
	{code: "eas_version_too_old", page: "versions",
		text:   "The client speaks version {request.version|eas} of Exchange ActiveSync; {config.min_eas_version|eas} or later is needed.",
		remedy: "Update the mail client, or use another one.",
		facts:  "claimed.family claimed.user_agent"},
	{code: "zone_not_allowed", page: "zones",
		text:   "Mail from {request.source_ip} (zones: {request.zones}) is not allowed.",
		remedy: "Use another network. A policy author can change denied_zones, quarantined_zones and allowed_zones in the policy's data.",
		facts:  "device.id owner.mail", say: sayZone},
	{code: "sign_on_rule", page: "sign_on",
		text:   "Row {sign_on.row} of the sign-on table ({sign_on.name}) says {sign_on.action} (client {claimed.family}, groups {owner.groups}, zones {request.zones}).",
		remedy: "Use a client, a device or a network for which a row of the table allows. A policy author can change sign_on in the policy's data.",
		facts:  "owner.mail device.os claimed.platform request.source_ip", say: saySignOn},
	{code: "command_not_allowed", page: "clients",
		text:   "The command {request.command} is not allowed.",
		remedy: "A policy author can allow it (denied_commands in the policy's data).",
		facts:  "credential.user"},
}

// noteSayings are what stands beside a decision that allows.
var noteSayings = []saying{
	{code: "break_glass", page: "break_glass",
		text:   "BREAK GLASS: {break_glass.user} gets mail in spite of {break_glass.lifts} (why the account is listed: {break_glass.why}).",
		remedy: "Find out who used the account and what for, and settle the reasons that it lifts; a policy author takes it out of break_glass in the policy's data when it is over.",
		facts:  "device.id request.source_ip claimed.user_agent"},
	{code: "exception",
		text:   "The exception {exception.id}, granted by {exception.granted_by} until {exception.until|time}, lifts {exception.reasons}.",
		remedy: "Nothing is needed until the exception ends."},
	{code: "unknown_client", page: "clients",
		text:   "The client is of no known family (user agent {claimed.user_agent}, type {claimed.device_type}).",
		remedy: "Use a mail client that is known. A policy author can allow the others (unknown_client in the policy's data).",
		facts:  "claimed.device_id", say: sayUnknownClient},
}

func sayUnreadable(w words) (text, remedy string) {
	switch w.of("credential.kind") {
	case "bearer":
		return "The token was cut off or damaged: it cannot be read.", ""
	case "basic":
		return "The user name and password cannot be read: they were cut off or damaged.", ""
	}
	return "", ""
}

// sayOwnerMismatch says who signed in, whose mailbox was asked for, and whose the device is.
func sayOwnerMismatch(w words) (text, remedy string) {
	const device = "the device {device.id} belongs to {owner.mail}."
	if !w.is("owner.known", "true") {
		return "The request is for {credential.user}, and the owner of the device {device.id} is not known.", "A PKI officer names the owner of the device: `postern device reassign {device.id} --owner MAIL`."
	}
	user, own := w.of("credential.user"), w.names("owner.names")
	foreign := slices.DeleteFunc(w.names("credential.names"), func(n string) bool { return slices.Contains(own, n) })
	switch {
	case len(foreign) == 0 && slices.Contains(own, user):
		return "The names fit, but the account that signed in ({credential.oid}) is not the one of {owner.mail} ({owner.oid}).",
			"The owner signs in with the right account. If the account was made anew, a PKI officer corrects the owner's object id."
	case len(foreign) == 1 && foreign[0] == user && len(w.names("credential.names")) > 1:
		return "The owner {owner.mail} signed in and asked for the mailbox of {credential.user}; " + device,
			"Take the other mailbox out of the account on the phone. If it is a shared mailbox, a PKI officer delegates it: `postern device update {device.id} --delegate {credential.user}`."
	}
	signed := slices.DeleteFunc(slices.Clone(foreign), func(n string) bool { return n == user })
	text = "{credential.user} signed in; " + device
	if len(signed) > 0 {
		text = strings.Join(signed, ", ") + " signed in and asked for the mailbox of {credential.user}; " + device
	}
	if who := strings.Join(append(signed, user), ""); user != "" && !strings.ContainsAny(who, `@\`) {
		return text, "If {credential.user} is the login name of {owner.mail}, a PKI officer adds it: `postern device update {device.id} --alias {credential.user}`. Otherwise the owner signs in."
	}
	return text, ""
}

// sayListed names what is allowed where a list says it.
func sayListed(list, text, use, denied string) func(words) (string, string) {
	return func(w words) (string, string) {
		if w.of("config."+list) == "" {
			return "", ""
		}
		return text + "; allowed are: {config." + list + "}.", "Use " + use + ": {config." + list + "}. A policy author can change " + list + " and " + denied + " in the policy's data."
	}
}

func sayZone(w words) (text, remedy string) {
	allowed := w.of("config.allowed_zones")
	switch {
	case allowed == "":
		return "", ""
	case w.of("request.zones") == "":
		text = "The address {request.source_ip} is in no named network; allowed are: {config.allowed_zones}."
	default:
		text = "Mail from {request.source_ip} (zones: {request.zones}) is not allowed; allowed are: {config.allowed_zones}."
	}
	return text, "Use one of these networks: {config.allowed_zones}. A policy author can change allowed_zones, denied_zones and quarantined_zones in the policy's data."
}

// saySignOn names the rows that allow.
func saySignOn(w words) (text, remedy string) {
	table := w.engine.term(w.entry, "config.sign_on", w.input)
	if table == nil {
		return "", ""
	}
	rows, _ := table.Value.(*ast.Array)
	if rows == nil {
		return "", ""
	}
	var allow []string
	for i := range rows.Len() {
		row, ok := rows.Elem(i).Value.(ast.Object)
		if !ok || row.Get(ast.StringTerm("action")) == nil || plain(row.Get(ast.StringTerm("action"))) != "allow" {
			continue
		}
		name := fmt.Sprintf("row %d", i+1)
		if t := row.Get(ast.StringTerm("name")); t != nil {
			name += " (" + strings.NewReplacer("{", "", "}", "").Replace(plain(t)) + ")"
		}
		allow = append(allow, name)
	}
	if len(allow) == 0 || len(allow) > 10 {
		return "", ""
	}
	return "", "Use a client, a device or a network that fits a row which allows: " + strings.Join(allow, ", ") + ". A policy author can change sign_on in the policy's data."
}

func sayUnknownClient(w words) (text, remedy string) {
	if w.is("config.unknown_client", "allow") {
		return "", "Nothing is needed while unknown clients are allowed; unknown_client in the policy's data says what becomes of them."
	}
	return "", ""
}

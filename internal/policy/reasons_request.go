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
		text:   "The request carries more than one sign-in, so it cannot be said whose it is.",
		remedy: "The user removes the mail account from the phone and lets the mail profile set it up again. If it comes back, whoever runs the network looks for a proxy between the phone and Postern that adds a second sign-in (Authorization header).",
		facts:  "claimed.user_agent request.source_ip"},
	{code: "unreadable_credentials", page: "identity",
		text: "The sign-in of the phone cannot be read: it is cut off or damaged, or neither a password nor a token.",
		remedy: "The user removes the mail account from the phone and lets the mail profile set it up again. If it comes back, whoever runs the network looks for a proxy between the phone and Postern that changes the sign-in " +
			"(Authorization header).",
		facts: "credential.problem claimed.user_agent request.source_ip", say: sayUnreadable},
	{code: "app_only_credential", page: "identity",
		text:   "The token of the sign-in belongs to a program (application {credential.app_id}) and to no user.",
		remedy: "A program gets no mail here. On the phone, sign in as its owner.",
		facts:  "credential.tid", say: sayAppOnly},
	{code: "wrong_tenant", page: "identity",
		text: "The sign-in comes from the tenant {credential.tid} (directory of a company in Entra ID); the owner of the device, {owner.mail}, belongs to the tenant {owner.tid}.",
		remedy: "Sign in with the account of {owner.mail} in the tenant {owner.tid}. If {credential.tid} is right because the account moved there, a PKI officer corrects the owner: " +
			"`postern owner update {owner.mail} --tid {credential.tid|id} --oid {credential.oid|id}`.",
		facts: "credential.user"},
	{code: "wrong_audience", page: "identity",
		text: "The token of the sign-in was made for {credential.audience} and not for this mail service ({config.token_audiences}).",
		remedy: "The user removes the mail account from the phone and lets the mail profile set it up again. If this mail client always asks for that service, use another one, or a policy author accepts the service " +
			"(token_audiences in the policy's data).",
		facts: "credential.app_id"},
	{code: "owner_mismatch", page: "identity",
		text:   "The phone signs in as {credential.user}, and its device {device.id} belongs to {owner.mail}.",
		remedy: "The owner of the device, {owner.mail}, signs in; or a PKI officer gives the device to the user (`postern device reassign {device.id} --owner MAIL`).",
		facts:  "device.id credential.names credential.oid owner.oid", say: sayOwnerMismatch},
	{code: "no_user", page: "identity",
		text:   "The phone asked for mail without naming a user (sign-in: {credential.kind}).",
		remedy: "Sign in on the phone. If that was done, the user removes the mail account from the phone and lets the mail profile set it up again.",
		facts:  "claimed.user_agent request.command"},
}

// clientSayings are about the mail client and where the request comes from.
var clientSayings = []saying{
	{code: "client_not_allowed", page: "clients",
		text:   "The mail client {claimed.family} is not allowed.",
		remedy: "Use another mail client. A policy author can allow this one (denied_clients in the policy's data).",
		facts:  "claimed.user_agent claimed.device_type", say: sayListed("allowed_clients", "The mail client {claimed.family} is not allowed", "one of these mail clients", "denied_clients")},
	{code: "platform_not_allowed", page: "clients",
		remedy: "Use a device with another system. A policy author can allow this one (denied_platforms in the policy's data).",
		facts:  "device.id claimed.platform claimed.user_agent", say: sayPlatform},
	{code: "eas_version_too_old", page: "versions",
		text:   "The mail client ({claimed.family}) speaks version {request.version|eas} of Exchange ActiveSync, the protocol by which phones fetch mail; {config.min_eas_version|eas} or later is needed.",
		remedy: "Update the mail client, or use another one.",
		facts:  "claimed.family claimed.user_agent"},
	{code: "zone_not_allowed", page: "zones",
		text:   "The phone is at {request.source_ip}, which is in the network or country {request.zones}; mail from there is not allowed.",
		remedy: "Use another network. A policy author can change which are allowed (denied_zones, quarantined_zones and allowed_zones in the policy's data).",
		facts:  "device.id owner.mail", say: sayZone},
	{code: "sign_on_rule", page: "sign_on",
		remedy: "Use a mail client, a device or a network for which a row of the table allows. A policy author can change the table (sign_on in the policy's data).",
		facts:  "owner.mail device.os claimed.platform request.source_ip", say: saySignOn},
	{code: "command_not_allowed", page: "clients",
		text:   "The mail client ({claimed.family}) asked for {request.command}. That command of Exchange ActiveSync is not allowed here; others are.",
		remedy: "Nothing on the phone helps. A policy author can allow the command (denied_commands in the policy's data).",
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

// sayUnreadable tells a token that nobody can read from one that names an account and no user.
func sayUnreadable(w words) (text, remedy string) {
	switch {
	case !w.is("credential.kind", "bearer"):
		return "", ""
	case w.of("credential.oid") == "":
		return "The token of the sign-in names nobody: it is of a kind that only its maker can read (opaque), so it cannot be said whose it is.",
			"Sign in on the phone again, with the company's account. If it comes back, this mail client uses tokens that cannot be read here: use another one."
	case w.of("owner.mail") == "":
		return "The token of the sign-in names no user but the account {credential.oid} (object id in Entra ID), which no owner in the registry has.",
			"If the account is that of an owner, a PKI officer writes it down: `postern owner update MAIL --oid {credential.oid}`."
	}
	return "The token of the sign-in names no user but the account {credential.oid} (object id in Entra ID), which is not the one of the owner of the device, {owner.mail} ({owner.oid}).",
		"If {credential.oid} is the account of {owner.mail} in Entra ID, a PKI officer writes it down: `postern owner update {owner.mail} --oid {credential.oid}`. Otherwise the owner signs in."
}

// accountRemedy is what helps where the sign-in names an account and no user: what the reason about the sign-in says, where there is one.
func (w words) accountRemedy() string {
	switch {
	case w.says("credential.problem", "unreadable_credentials", "duplicate_credentials", "wrong_audience", "wrong_tenant"):
		return seeOther + w.engine.fact(w.entry, "credential.problem", w.input) + ": with the right sign-in, this is settled too."
	case w.says("credential.problem", "app_only"):
		return seeOther + "app_only_credential: with the right sign-in, this is settled too."
	}
	return "The owner signs in with the right account. If the account was made anew, a PKI officer corrects the owner: `postern owner update {owner.mail} --oid {credential.oid|id}`."
}

func sayAppOnly(w words) (text, remedy string) {
	if w.of("owner.mail") != "" {
		return "", "A program gets no mail here. On the phone, sign in as its owner, {owner.mail}."
	}
	return "", ""
}

// sayPlatform says who vouches for the system.
func sayPlatform(w words) (text, remedy string) {
	text = "The device {device.id} has {device.os|os}, and mail on that is not allowed"
	if w.of("device.os") == "" {
		text = "The mail client says that it runs on {claimed.platform|os}, and mail on that is not allowed"
	}
	listed, remedy := sayListed("allowed_platforms", text, "a device with one of these systems", "denied_platforms")(w)
	return or(listed, text+"."), remedy
}

// sayOwnerMismatch says who signed in, whose mailbox was asked for, and whose the device is.
func sayOwnerMismatch(w words) (text, remedy string) {
	if !w.is("owner.known", "true") {
		return "The phone signs in as {credential.user}, and the owner of its device {device.id} is not known.", "A PKI officer names the owner of the device: `postern device reassign {device.id} --owner MAIL`."
	}
	user, own := w.of("credential.user"), w.names("owner.names")
	if user == "" {
		return "The account that signed in ({credential.oid}, its object id in Entra ID) is not the one that is known of {owner.mail}, the owner of the device {device.id} ({owner.oid}).",
			w.accountRemedy()
	}
	foreign := slices.DeleteFunc(w.names("credential.names"), func(n string) bool { return slices.Contains(own, n) })
	switch {
	case len(foreign) == 0 && slices.Contains(own, user):
		return "The name fits, but the account that signed in ({credential.oid}, its object id in Entra ID) is not the one that is known of {owner.mail} ({owner.oid}).",
			"The owner signs in with the right account. If the account was made anew, a PKI officer corrects the owner: `postern owner update {owner.mail} --oid {credential.oid|id}`."
	case len(foreign) == 1 && foreign[0] == user && len(w.names("credential.names")) > 1:
		return "{owner.mail}, the owner of the device {device.id}, signed in and asked for another mailbox: {credential.user}. That is neither a name of {owner.mail} nor a mailbox that was shared with that owner (delegated).",
			"If it is a shared mailbox that {owner.mail} may open, a PKI officer says so: `postern owner update {owner.mail} --delegate {credential.user}`. " +
				"If it is another address of {owner.mail}: `postern owner update {owner.mail} --alias {credential.user}`. Otherwise take that mailbox out of the account on the phone."
	}
	signed := slices.DeleteFunc(slices.Clone(foreign), func(n string) bool { return n == user })
	const device = "its device {device.id} belongs to {owner.mail}."
	text = "The phone signs in as {credential.user}, and " + device
	if len(signed) > 0 {
		text = "The phone signs in as " + strings.Join(signed, ", ") + " and asks for the mailbox of {credential.user}, and " + device
	}
	if who := strings.Join(append(signed, user), ""); user != "" && !strings.ContainsAny(who, `@\`) {
		return text, "If {credential.user} is the login name of {owner.mail}, a PKI officer adds it: `postern owner update {owner.mail} --alias {credential.user}`. Otherwise the owner signs in."
	}
	if len(signed) == 0 && strings.Contains(user, "@") {
		return text, "Sign in as {owner.mail} on the phone. If {credential.user} is another address of {owner.mail}, a PKI officer adds it: `postern owner update {owner.mail} --alias {credential.user}`. " +
			"If {credential.user} has the device now, a PKI officer hands it over: `postern device reassign {device.id} --owner {credential.user}`; then it enrols again."
	}
	return text, ""
}

// sayListed names what is allowed where a list says it.
func sayListed(list, text, use, denied string) func(words) (string, string) {
	return func(w words) (string, string) {
		if w.of("config."+list) == "" {
			return "", ""
		}
		return text + "; allowed are: {config." + list + "}.", "Use " + use + ": {config." + list + "}. A policy author can change which are allowed (" + list + " and " + denied + " in the policy's data)."
	}
}

func sayZone(w words) (text, remedy string) {
	allowed := w.of("config.allowed_zones")
	switch {
	case allowed == "":
		return "", ""
	case w.of("request.zones") == "":
		text = "The phone is at {request.source_ip}, which is in no network or country that has a name here; mail is allowed from: {config.allowed_zones}."
	default:
		text = "The phone is at {request.source_ip}, which is in {request.zones}; mail is allowed from: {config.allowed_zones}."
	}
	return text, "Use one of these networks: {config.allowed_zones}. A policy author can change which are allowed (allowed_zones, denied_zones and quarantined_zones in the policy's data)."
}

// saySignOn says what the row makes of the request, and names the rows that allow.
func saySignOn(w words) (text, remedy string) {
	does := "refuses it"
	switch {
	case w.is("sign_on.action", "quarantine"):
		does = "keeps it waiting (quarantine)"
	case w.of("sign_on.row") == "":
		does = ""
	}
	text = "The company's table of who may have mail (sign-on table) says no: row {sign_on.row} ({sign_on.name}) is the first that fits this request, and " + does + ". "
	if does == "" {
		text = "The company's table of who may have mail (sign-on table) says no: no row fits this request. "
	}
	text += "The request: mail client {claimed.family}, system {device.os|os}, groups of the owner: {owner.groups}, network or country: {request.zones}."
	table := w.engine.term(w.entry, "config.sign_on", w.input)
	if table == nil {
		return text, ""
	}
	rows, _ := table.Value.(*ast.Array)
	if rows == nil {
		return text, ""
	}
	var allow []string
	for i := range rows.Len() {
		row, ok := rows.Elem(i).Value.(ast.Object)
		if !ok || row.Get(ast.StringTerm("action")) == nil || plain(row.Get(ast.StringTerm("action"))) != "allow" {
			continue
		}
		allow = append(allow, fmt.Sprintf("row %d, ", i+1)+rowText(row))
	}
	if len(allow) == 0 || len(allow) > 10 {
		return text, ""
	}
	return text, "Use a mail client, a device or a network for which another row is the first that fits, one which allows: " + strings.Join(allow, "; ") + ". A policy author can change the table (sign_on in the policy's data)."
}

// rowText says what a row of the sign-on table fits.
func rowText(row ast.Object) string {
	var columns []string
	for _, c := range [][2]string{{"clients", "mail client"}, {"platforms", "system"}, {"groups", "group of the owner"}, {"zones", "network or country"}} {
		if t := row.Get(ast.StringTerm(c[0])); t != nil {
			columns = append(columns, c[1]+" "+strings.ReplaceAll(plain(t), ", ", " or "))
		}
	}
	text := strings.Join(columns, ", ")
	if text == "" {
		text = "everything that no row before it fits"
	}
	if t := row.Get(ast.StringTerm("name")); t != nil {
		text = plain(t) + " (" + text + ")"
	}
	return strings.NewReplacer("{", "", "}", "").Replace(text)
}

func sayUnknownClient(w words) (text, remedy string) {
	if w.is("config.unknown_client", "allow") {
		return "", "Nothing is needed while unknown clients are allowed; unknown_client in the policy's data says what becomes of them."
	}
	return "", ""
}

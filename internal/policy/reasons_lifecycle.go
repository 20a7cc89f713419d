package policy

// lifecycleSayings are findings about devices that nobody uses.
var lifecycleSayings = []saying{
	{code: "device_silent_long", page: "lifecycle",
		text:   "The device {device.id} of {owner.mail} has not reported to {device.source} for {device.silent_for|span}; {config.silent_after|span} are allowed.",
		remedy: "Let the device check in with its MDM, or keep it for a while: `postern exception grant --device {device.id} --reasons device_silent_long`.",
		facts:  "device.state"},
	{code: "certificate_unused", page: "lifecycle",
		text:   "The certificate {certificate.serial} of the device {device.id} of {owner.mail} was issued on {certificate.issued_at|time} and never used; {config.unused_after|span} are allowed.",
		remedy: "Look whether the mail profile on the device names the certificate, or keep it for a while: `postern exception grant --device {device.id} --reasons certificate_unused`.",
		facts:  "device.state"},
	{code: "no_mail", page: "lifecycle",
		text:   "No mail profile of the device {device.id} of {owner.mail} was seen since {mail.last_seen|time}; {config.no_mail_after|span} are allowed.",
		remedy: "Let the device fetch mail, or keep it for a while: `postern exception grant --device {device.id} --reasons no_mail`.",
		facts:  "device.state mail.profiles"},
}

package policy

import (
	"slices"
	"strings"
)

// platforms are the systems of devices by the names that policies know them by: what clients say of themselves, and what MDMs report besides.
var platforms = []string{"android", "chromeos", "harmonyos", "ios", "linux", "macos", "tvos", "unknown", "visionos", "watchos", "windows", "windows_phone"}

// otherNames are those that MDMs have for a system, in lower case without blanks, hyphens and underscores.
var otherNames = map[string]string{"androidenterprise": "android", "androidforwork": "android", "chrome": "chromeos", "ipad": "ios", "ipados": "ios", "iphone": "ios",
	"iphoneos": "ios", "ios/ipados": "ios", "ipod": "ios", "mac": "macos", "macosx": "macos", "osx": "macos", "windowsmobile": "windows_phone", "windowsphone": "windows_phone"}

// commands are those of ActiveSync as input.request.command has them. Package edge, which reads them, tests that they are all of them.
var commands = []string{"find", "foldercreate", "folderdelete", "foldersync", "folderupdate", "getattachment", "getitemestimate", "itemoperations", "meetingresponse", "moveitems",
	"ping", "provision", "resolverecipients", "search", "sendmail", "settings", "smartforward", "smartreply", "sync", "validatecert"}

// otherCommands are what input.request.command is beside them: OPTIONS, and at the OAuth front what is asked for (RFC 6749, sections 4.1.3 and 6).
var otherCommands = []string{"options", "authorize", "authorization_code", "refresh_token"}

// claimedPlatforms are what clients are told to be by their user agents. Package edge tests that they are all of them.
var claimedPlatforms = []string{"android", "ios", "unknown", "visionos", "watchos", "windows", "windows_phone"}

// PlatformOf returns the one name that a system has in policies, however an MDM spells it: "iOS", "iPadOS 17.5" and "iPhone OS" are ios. A name that is not
// known comes back in lower case.
func PlatformOf(os string) string {
	name := strings.ToLower(strings.TrimSpace(os))
	if slices.Contains(platforms, name) {
		return name
	}
	plain := strings.NewReplacer(" ", "", "-", "", "_", "").Replace(name)
	if version := strings.IndexAny(plain, "0123456789"); version > 0 {
		plain = plain[:version]
	}
	if known, ok := otherNames[plain]; ok {
		return known
	}
	if slices.Contains(platforms, plain) {
		return plain
	}
	return name
}

// platform checks the name of a system. Another spelling is refused with the right one, for a rule compares with that alone.
func (a *agreement) platform(in string, path []any, name string) {
	if slices.Contains(platforms, name) {
		return
	}
	advice := didYouMean(PlatformOf(name), platforms)
	if known := PlatformOf(name); slices.Contains(platforms, known) {
		advice = "did you mean " + known + "?"
	}
	a.add(in, path, advice, "%s is no platform", name)
}

// platformsAndCommands checks the settings that name these.
func (a *agreement) platformsAndCommands(set map[string]string) {
	at := func(key string, step any) []any { return []any{"postern", "config", "access", key, step} }
	least, _ := a.setting("min_os_version").(map[string]any)
	for name := range least {
		a.platform(set["access.min_os_version"], at("min_os_version", name), name)
	}
	for _, key := range []string{"allowed_platforms", "denied_platforms"} {
		for i, name := range textsOf(a.setting(key)) {
			a.platform(set["access."+key], at(key, i), name)
		}
	}
	for i, name := range textsOf(a.setting("denied_commands")) {
		if !slices.Contains(commands, name) {
			a.add(set["access.denied_commands"], at("denied_commands", i), didYouMean(strings.ToLower(name), commands), "%s is no command of ActiveSync in lower case", name)
		}
	}
}

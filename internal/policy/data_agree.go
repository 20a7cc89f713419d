package policy

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// What data says has to agree with other data, and with the rules: a group that nobody has listed, or a reason that no rule gives, is a mistake that would
// show itself on the day when it counts.

// clientFamilies are what input.claimed.family may be. Package edge, which tells clients apart, tests that they are all of them.
var clientFamilies = []string{"aosp", "apple_mail", "connectivity_analyzer", "email_plus", "gmail", "ios_settings", "nine", "other", "outlook", "outlook_native",
	"samsung", "touchdown", "windows_mail", "windows_outlook", "windows_phone"}

// agreement collects what does not agree, each in the file that says it.
type agreement struct {
	sources
	doc      map[string]any
	problems []Problem
}

// agree compares data with other data. origin and set tell which file defines a key, and a setting.
func (s sources) agree(doc map[string]any, origin, set map[string]string) []Problem {
	a := &agreement{sources: s, doc: doc}
	a.prefixes("networks", origin)
	a.prefixes("countries", origin)
	a.rollout(set["access.rollout"])
	a.signOn(set["access.sign_on"])
	for _, key := range []string{"allowed_zones", "denied_zones", "quarantined_zones"} {
		for i, zone := range textsOf(a.setting(key)) {
			a.zone(set["access."+key], []any{"postern", "config", "access", key, i}, zone)
		}
	}
	for _, key := range []string{"allowed_clients", "denied_clients", "token_families", "device_id_families"} {
		a.clients(set["access."+key], []any{"postern", "config", "access", key}, a.setting(key))
	}
	a.platformsAndCommands(set)
	a.exceptions(origin["exceptions"])
	return a.problems
}

func (a *agreement) add(in string, path []any, advice, format string, args ...any) {
	for _, f := range a.files {
		if f.name == in {
			a.problems = append(a.problems, f.problems([]finding{{path, fmt.Sprintf(format, args...), advice}})...)
		}
	}
}

// setting returns a setting of the access policy.
func (a *agreement) setting(key string) any { return settingsOf(a.doc, "access")[key] }

func settingsOf(doc map[string]any, section string) map[string]any {
	product, _ := doc["postern"].(map[string]any)
	config, _ := product["config"].(map[string]any)
	settings, _ := config[section].(map[string]any)
	return settings
}

// prefixes checks that every prefix can be read, and that no country is called like a network.
func (a *agreement) prefixes(key string, origin map[string]string) {
	named, _ := a.doc[key].(map[string]any)
	networks, _ := a.doc["networks"].(map[string]any)
	seen := map[string]string{}
	if key == "countries" {
		for name := range networks {
			seen[zoneOf(name)] = "networks." + name
		}
	}
	for _, name := range slices.Sorted(maps.Keys(named)) {
		if other, twice := seen[zoneOf(name)]; twice {
			a.add(origin[key], []any{key, name}, "", "%s is the same zone", other)
		}
		seen[zoneOf(name)] = key + "." + name
		for i, text := range textsOf(named[name]) {
			if _, err := prefixOf(text); err != nil && text != "" { // what is no text was told
				a.add(origin[key], []any{key, name, i}, "write an address or a prefix such as 192.0.2.0/24", "%q is neither", text)
			}
		}
	}
}

// textsOf returns a text, or those of a list.
func textsOf(v any) (texts []string) {
	if s, ok := v.(string); ok {
		return []string{s}
	}
	list, _ := v.([]any)
	for _, e := range list {
		s, _ := e.(string)
		texts = append(texts, s)
	}
	return texts
}

// prefixOf reads a prefix, or an address as the prefix of it alone. An IPv4 address written as one of IPv6 (RFC 4291, section 2.5.5.2) is that of IPv4, as it
// is in the facts; a prefix of such addresses that is more than the IPv4 ones would fit nothing that can be asked for, and is refused.
func prefixOf(text string) (netip.Prefix, error) {
	if !strings.Contains(text, "/") {
		addr, err := netip.ParseAddr(text)
		if err != nil {
			return netip.Prefix{}, err
		}
		addr = addr.Unmap()
		return addr.Prefix(addr.BitLen())
	}
	p, err := netip.ParsePrefix(text)
	if err != nil || !p.Addr().Is4In6() {
		return p, err
	}
	if p.Bits() < mappedBits {
		return netip.Prefix{}, fmt.Errorf("%s holds more than the IPv4 addresses: write the IPv4 prefix", text)
	}
	return p.Addr().Unmap().Prefix(p.Bits() - mappedBits)
}

// mappedBits stand before the IPv4 address in an IPv4-mapped one.
const mappedBits = 96

// rollout checks that the reasons exist and may be held back, and that the groups exist.
func (a *agreement) rollout(in string) {
	plans, _ := a.setting("rollout").(map[string]any)
	codes := a.codes()
	for _, code := range slices.Sorted(maps.Keys(plans)) {
		path := []any{"postern", "config", "access", "rollout", code}
		switch {
		case !Liftable(code):
			a.add(in, path, "", "%s is never lifted, so it has no stages", code)
		case !slices.Contains(codes, code):
			a.add(in, path, didYouMean(code, codes), "no rule gives the reason %s", code)
		}
		steps, _ := plans[code].([]any)
		for i, step := range steps {
			m, _ := step.(map[string]any)
			a.group(in, append(slices.Clip(path), i, "group"), m["group"])
		}
	}
}

// exceptions checks that somebody granted them, and that the reasons exist and may be lifted.
func (a *agreement) exceptions(in string) {
	list, _ := a.doc["exceptions"].([]any)
	for i, e := range list {
		m, _ := e.(map[string]any)
		if m != nil && m["by"] == nil && m["granted_by"] == nil {
			a.add(in, []any{"exceptions", i}, "name who granted it: an exception without is a fault", "by is missing")
		}
		for j, code := range textsOf(m["reasons"]) {
			path := []any{"exceptions", i, "reasons", j}
			switch codes := a.codes(); {
			case slices.Contains(codes, code) && !Liftable(code):
				a.add(in, path, "", "no exception lifts %s", code)
			case !slices.Contains(codes, code):
				a.add(in, path, didYouMean(code, codes), "no rule gives the reason %s", code)
			}
		}
	}
}

// signOn checks that every name in the table is known, and that exactly its last row fits everything.
func (a *agreement) signOn(in string) {
	rows, _ := a.setting("sign_on").([]any)
	for i, r := range rows {
		row, _ := r.(map[string]any)
		path := []any{"postern", "config", "access", "sign_on", i}
		all, last := true, i == len(rows)-1
		for _, column := range []string{"clients", "platforms", "groups", "zones"} {
			cells, there := row[column]
			all = all && !there
			at := append(slices.Clip(path), column)
			switch names := textsOf(cells); {
			case there && len(names) == 0:
				a.add(in, at, "leave it out for everything", "an empty list fits nothing")
			case column == "clients":
				a.clients(in, at, cells)
			default:
				for j, name := range names {
					if column == "groups" {
						a.group(in, append(slices.Clip(at), j), name)
					} else if column == "zones" {
						a.zone(in, append(slices.Clip(at), j), name)
					} else if column == "platforms" {
						a.platform(in, append(slices.Clip(at), j), name)
					}
				}
			}
		}
		switch {
		case all && !last:
			a.add(in, path, "move it to the end", "this row fits everything, so no later one is ever reached")
		case last && !all:
			a.add(in, path, "add {action: deny} or {action: allow} at the end", "the last row has to fit everything, and this one does not")
		}
	}
}

// zone checks that the data has a network or a country of the name.
func (a *agreement) zone(in string, path []any, name string) {
	var known []string
	for _, key := range []string{"networks", "countries"} {
		named, _ := a.doc[key].(map[string]any)
		for n := range named {
			known = append(known, zoneOf(n))
		}
	}
	slices.Sort(known)
	if !slices.Contains(known, zoneOf(name)) {
		a.add(in, path, didYouMean(zoneOf(name), known), "neither data.networks nor data.countries has a zone %s", name)
	}
}

// clients checks names of client families.
func (a *agreement) clients(in string, path []any, list any) {
	for i, name := range textsOf(list) {
		if !slices.Contains(clientFamilies, name) {
			a.add(in, append(slices.Clip(path), i), didYouMean(name, clientFamilies), "%s is no client family", name)
		}
	}
}

// group checks that a group exists, where one is named.
func (a *agreement) group(in string, path []any, named any) {
	groups, _ := a.doc["groups"].(map[string]any)
	name, is := named.(string)
	if _, known := groups[name]; is && !known {
		a.add(in, path, didYouMean(name, slices.Sorted(maps.Keys(groups))), "data.groups has no group %s", name)
	}
}

// codes are the reasons of the built-in rules, and every text in a team's rules that could be one.
func (a *agreement) codes() (codes []string) {
	for _, s := range sayings {
		codes = append(codes, s.code)
	}
	for _, f := range a.files {
		if f.builtin || !f.rego() || f.test() {
			continue
		}
		for i, part := range strings.Split(string(f.content), `"`) {
			if i%2 == 1 && codeForm.MatchString(part) {
				codes = append(codes, part)
			}
		}
	}
	return codes
}

// normalize writes settings as inputs have the facts that they are compared with: versions and times as numbers, names of zones and users in lower case.
func normalize(doc map[string]any) {
	settings := settingsOf(doc, "access")
	inSeconds(doc["exceptions"])
	inSeconds(settings["break_glass"])
	for _, key := range []string{"allowed_zones", "denied_zones", "quarantined_zones"} {
		lower(settings[key])
	}
	for _, key := range []string{"sign_on", "break_glass"} {
		rows, _ := settings[key].([]any)
		for _, r := range rows {
			row, _ := r.(map[string]any)
			lower(row["zones"])
			if user, ok := row["user"].(string); ok {
				row["user"] = strings.ToLower(user)
			}
		}
	}
	least, ok := settings["min_os_version"].(map[string]any)
	if !ok {
		return
	}
	numbers := map[string]any{}
	for platform, version := range least {
		text, _ := version.(string)
		numbers[platform] = json.Number(strconv.FormatInt(VersionNumber(text), 10))
	}
	settings["min_os_version"] = numbers
}

// lower writes the texts of a list in lower case.
func lower(v any) {
	list, _ := v.([]any)
	for i, e := range list {
		if s, ok := e.(string); ok {
			list[i] = strings.ToLower(s)
		}
	}
}

// surroundings makes the facts that the data says, which agree has checked.
func (p *program) surroundings() surroundings {
	s := surroundings{zones: &zones{}, groups: map[string]map[string]bool{}}
	if p.replaced {
		return s
	}
	prefixes := map[string][]netip.Prefix{}
	for _, key := range []string{"networks", "countries"} {
		named, _ := p.data[key].(map[string]any)
		for name, list := range named {
			for _, text := range textsOf(list) {
				if prefix, err := prefixOf(text); err == nil {
					prefixes[zoneOf(name)] = append(prefixes[zoneOf(name)], prefix)
				}
			}
		}
	}
	s.zones = newZones(prefixes)
	groups, _ := p.data["groups"].(map[string]any)
	for group, list := range groups {
		for _, member := range textsOf(list) {
			name := strings.ToLower(member)
			if s.groups[name] == nil {
				s.groups[name] = map[string]bool{}
			}
			s.groups[name][group] = true
		}
	}
	return s
}

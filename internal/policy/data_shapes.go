package policy

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"

	"postern/policies"
)

// The forms of what tunes the built-in policies: keys of data that every policy may read, and settings of postern.config that are more than a number, a word
// or a list. A policy that replaces the built-in ones has data of its own form.

const (
	zoneName  = "^[A-Za-z0-9][A-Za-z0-9_-]{0,62}$"
	groupName = "^[a-z0-9][a-z0-9_.-]{0,62}$"
	codeName  = "^[a-z][a-z0-9_]{0,63}$"
)

// documentShapes are the keys of data whose form is known. Any other key of a team's data has the form that the team likes.
func documentShapes() map[string]shape {
	prefix := patternShape(`^[0-9A-Fa-f:.]+(/[0-9]{1,3})?$`, "an address or a prefix such as 192.0.2.0/24")
	prefixes := shape{"anyOf": []shape{prefix, listShape(prefix)}}
	exception := shape{"type": "object", "required": []string{"id", "until", "reasons"}, "additionalProperties": true, "properties": map[string]shape{
		"id": textShape(), "by": textShape(), "granted_by": textShape(), "until": timeShape(), "reasons": listShape(patternShape(codeName, "the code of a reason"))}}
	named := func(of shape, pattern, says string) shape {
		s := tableShape(of)
		s["propertyNames"] = patternShape(pattern, says)
		return s
	}
	return map[string]shape{
		"groups":     named(listShape(textShape()), groupName, "a name of lower-case letters, digits, underscores, dots and hyphens"),
		"networks":   named(prefixes, zoneName, "a name of letters, digits, underscores and hyphens"),
		"countries":  named(prefixes, "^[A-Za-z]{2}$", "a country of two letters (ISO 3166-1)"),
		"exceptions": listShape(exception),
	}
}

var (
	actionsOfRules   = []string{"quarantine", "deny"}
	lifecycleActions = []string{"notify", "suspend", "retire"}
)

// settingShapes are the forms of settings that their default does not tell.
func settingShapes() map[string]shape {
	versions := tableShape(patternShape(`^[0-9]{1,3}(\.[0-9]{1,3}){0,2}$`, "a version of up to three parts, such as 17.5.1"))
	step := rowShape([]string{"stage"}, map[string]shape{"stage": oneOfShape("observe", "quarantine", "deny"), "group": textShape(), "percent": wholeShape(0, 100)})
	rollout := tableShape(listShape(step))
	rollout["propertyNames"] = patternShape(codeName, "the code of a reason")
	names := listShape(textShape())
	row := rowShape([]string{"action"}, map[string]shape{"name": textShape(), "clients": names, "platforms": names, "groups": names, "zones": names,
		"action": oneOfShape("allow", "quarantine", "deny")})
	account := rowShape([]string{"user"}, map[string]shape{"user": patternShape("^[^@ ]+@[^@ ]+$", "a mail address"), "until": timeShape(), "why": textShape()})
	return map[string]shape{
		"access.sign_on":            listShape(row),
		"access.break_glass":        listShape(account),
		"access.unknown_client":     oneOfShape("allow", "quarantine", "deny"),
		"access.noncompliant":       oneOfShape("allow", "quarantine", "deny"),
		"access.unknown_compliance": oneOfShape("allow", "quarantine", "deny"),
		"access.old_os":             oneOfShape(actionsOfRules...),
		"access.unknown_os_version": oneOfShape("allow", "quarantine", "deny"),
		"access.min_os_version":     versions,
		"access.excess_devices":     oneOfShape(actionsOfRules...),
		"access.same_user_model":    oneOfShape("off", "note", "quarantine", "deny"),
		"access.rollout":            rollout,
		"enroll.excess_devices":     oneOfShape("pend", "deny"),
		"lifecycle.silent_action":   oneOfShape(lifecycleActions...),
		"lifecycle.unused_action":   oneOfShape(lifecycleActions...),
		"lifecycle.no_mail_action":  oneOfShape(lifecycleActions...),
	}
}

// settingShape returns the form of a setting: its own, or the one that its default has.
func settingShape(name string, standard any) shape {
	if s, ok := settingShapes()[name]; ok {
		return s
	}
	switch v := standard.(type) {
	case json.Number:
		return shape{"type": "integer", "minimum": 0}
	case bool:
		return shape{"type": "boolean"}
	case []any:
		if len(v) > 0 {
			return listShape(settingShape("", v[0]))
		}
		return listShape(shape{"type": "string"})
	}
	return shape{"type": "string"}
}

// DataSchema returns the JSON schema of the data beside policies: what policies/schemas/data.json holds for editors.
func DataSchema() ([]byte, error) {
	content, err := fs.ReadFile(policies.Files(), "config.yaml")
	if err != nil {
		return nil, fmt.Errorf("read built-in configuration: %w", err)
	}
	doc, p := decodeData(file{name: "builtin/config.yaml", content: content, builtin: true})
	if p != nil {
		return nil, fmt.Errorf("read built-in configuration: %s", p)
	}
	properties := map[string]shape{}
	maps.Copy(properties, documentShapes())
	product, _ := doc["postern"].(map[string]any)
	config, _ := product["config"].(map[string]any)
	sections := map[string]shape{}
	for _, section := range slices.Sorted(maps.Keys(config)) {
		settings, _ := config[section].(map[string]any)
		keys := map[string]shape{}
		for key, standard := range settings {
			keys[key] = settingShape(section+"."+key, standard)
			keys[key]["description"] = remarkOn(string(content), section, key)
			keys[key]["default"] = standard
		}
		sections[section] = rowShape([]string{}, keys)
	}
	properties["postern"] = rowShape([]string{"config"}, map[string]shape{"config": rowShape([]string{}, sections)})
	text, err := json.MarshalIndent(shape{"$schema": "http://json-schema.org/draft-07/schema#", "title": "data beside policies", "type": "object",
		"properties": properties, "additionalProperties": true}, "", "  ")
	return append(text, '\n'), err
}

// remarkOn returns the comment above a setting in the built-in configuration.
func remarkOn(content, section, key string) string {
	_, rest, _ := strings.Cut(content, "\n    "+section+":\n")
	var words []string
	fresh := true
	for line := range strings.Lines(rest) {
		line = strings.TrimSpace(line)
		comment, is := strings.CutPrefix(line, "# ")
		switch {
		case is && fresh:
			words = append(words, comment)
		case is:
			words, fresh = []string{comment}, true
		case strings.HasPrefix(line, key+":"):
			return strings.Join(words, " ")
		default:
			fresh = false // the next comment is about something else, but several settings may share this one
		}
	}
	return ""
}

package policy

// pageTitles are the titles of the pages in policies/library, by name.
var pageTitles = map[string]string{
	"break_glass": "Break-glass accounts",
	"clients":     "Mail clients and platforms",
	"compliance":  "Non-compliant devices",
	"devices":     "How many devices a user has",
	"duplicates":  "Duplicate mail profiles",
	"identity":    "The owner and the DeviceId",
	"lifecycle":   "Devices that are silent, unused or gone",
	"managed":     "Managed devices",
	"revoked":     "Revoked, held, blocked, suspended",
	"sign_on":     "The sign-on table",
	"versions":    "Least versions",
	"zones":       "Networks and countries",
}

// NoRemedy is what there is to do about a reason that names no remedy.
const NoRemedy = "The rule names no remedy. Where a change of facts would help, it stands below; otherwise ask a policy author, who knows the rule by its name."

// RuleTitle names the rule that gave a reason for people: a built-in one by the page that describes it, a team's by its package.
func RuleTitle(code, rule string) string {
	switch rule {
	case "postern.access", "postern.enroll", "postern.lifecycle":
	case "edge":
		return "the edge itself, before any policy"
	default:
		if isTeams(rule) {
			return "a rule of a team of the company (package " + rule + ")"
		}
		return rule
	}
	if s, ok := sayingOf(code); ok && s.page != "" {
		return pageTitles[s.page] + " (policies/library/" + s.page + ".md)"
	}
	if rule == "postern.enroll" {
		return "Enrolment (policies/README.md)"
	}
	return rule
}

// ruleOf names the rule that gives a reason in a report, whether it spoke or not: a team's by its file and line, a built-in one by its page. rule is what a
// decision said of it, if one was seen.
func (e *Engine) ruleOf(code, rule string) string {
	if place := e.codes[code]; place != "" {
		return place
	}
	s, builtin := sayingOf(code)
	switch {
	case builtin && !e.replaced && s.page != "":
		return "built-in: " + s.page
	case builtin && !e.replaced:
		return "built-in"
	case rule == "":
		return "of the policy before"
	}
	return rule
}

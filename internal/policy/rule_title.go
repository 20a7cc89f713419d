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

// RuleTitle names the rule that gave a reason for people: a built-in one by the page that describes it, a team's by its package.
func RuleTitle(code, rule string) string {
	switch rule {
	case "postern.access", "postern.enroll", "postern.lifecycle":
	case "edge":
		return "the edge itself, before any policy"
	default:
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

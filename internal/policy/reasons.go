package policy

import (
	"cmp"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"

	"postern/internal/trust"
)

var codeForm = regexp.MustCompile(`^[a-z][a-z0-9_]{0,63}$`)

// saying is how a reason is told. Text and remedy may hold {path} for a fact of the input, {config.key} for a setting, {exception.key} for what the
// policy itself attached, each also in one of the forms of show: {path|time}.
type saying struct {
	code, text, remedy string
	facts              string // further facts worth recording, separated by blanks
	page               string // of the library
	// say returns other words where the facts ask for them; an empty one leaves text or remedy as it is.
	say func(w words) (text, remedy string)
}

// ranking is the order in which a decision lists its reasons, the most telling first.
var ranking = []string{"device_retired", "certificate_revoked", "device_blocked", "device_suspended", "owner_suspended", "certificate_held", "duplicate_credentials",
	"unreadable_credentials", "app_only_credential", "wrong_tenant", "wrong_audience", "owner_mismatch", "no_user", "certificate_not_trusted",
	"certificate_expired", "certificate_superseded", "token_of_revoked_device", "ticket_revoked", "ticket_of_another_device", "ticket_unknown", "no_certificate_or_ticket", "profile_refused",
	"duplicate_profile_without_certificate", "no_certificate", "unmanaged_device", "device_silent", "device_not_compliant", "compliance_unknown", "os_too_old",
	"os_version_unknown", "device_id_mismatch", "client_not_allowed", "platform_not_allowed", "eas_version_too_old", "zone_not_allowed", "sign_on_rule",
	"command_not_allowed", "device_unknown", "not_managed", "owner_unknown", "names_another_user", "domain_not_allowed", "weak_key",
	"renewal_certificate_expired", "renewal_certificate_not_good", "renewal_too_early", "device_quarantined", "ndes_approval_required", "approval_required",
	"duplicate_profile_second_device_id", "too_many_devices", "same_user_and_model", "break_glass", "exception", "unknown_client",
	"device_silent_long", "certificate_unused", "no_mail"}

// sayings are the reasons of the built-in policies, in the order of the ranking.
var sayings = ranked(certificateSayings, deviceSayings, stateSayings, credentialSayings, clientSayings, enrolmentSayings, noteSayings, lifecycleSayings)

func ranked(subjects ...[]saying) []saying {
	all := slices.Concat(subjects...)
	slices.SortStableFunc(all, func(a, b saying) int { return slices.Index(ranking, a.code) - slices.Index(ranking, b.code) })
	return all
}

func sayingOf(code string) (saying, bool) {
	if i := slices.IndexFunc(sayings, func(s saying) bool { return s.code == code }); i >= 0 {
		return sayings[i], true
	}
	return saying{code: code, text: strings.ToUpper(code[:1]) + strings.ReplaceAll(code[1:], "_", " ") + "."}, false
}

// rank orders reasons: denials before the codes of teams before quarantines and notes.
func rank(code string) int {
	if i := slices.Index(ranking, code); i >= 0 {
		return i * 2
	}
	return slices.Index(ranking, "device_quarantined")*2 - 1
}

func sortReasons(list []trust.Reason) {
	slices.SortStableFunc(list, func(a, b trust.Reason) int {
		return cmp.Or(rank(a.Code)-rank(b.Code), strings.Compare(a.Code, b.Code), strings.Compare(a.Rule, b.Rule))
	})
}

var placeholder = regexp.MustCompile(`\{([a-z0-9_.]+)(\|[a-z]+)?\}`)

// stageFact is in the facts of a reason whose rollout says only to observe it.
const stageFact = "rollout.stage"

// words are what the sentences about one reason are made from. Every fact that is asked for is recorded with the reason.
type words struct {
	engine *Engine
	entry  string
	input  *question
	said   map[string]string // what the policy itself attached
	facts  map[string]string // to record
}

// of returns a fact, or an empty text.
func (w words) of(path string) string {
	value, ok := w.said[path]
	if !ok {
		value = w.engine.fact(w.entry, path, w.input)
	}
	w.facts[path] = value
	return value
}

// is reports whether a fact is one of the values.
func (w words) is(path string, values ...string) bool { return slices.Contains(values, w.of(path)) }

// says is is without recording: for what only chooses the words.
func (w words) says(path string, values ...string) bool {
	return slices.Contains(values, w.engine.fact(w.entry, path, w.input))
}

// names returns the names of a set, sorted, without recording them.
func (w words) names(path string) []string {
	t := w.engine.term(w.entry, path, w.input)
	if t == nil {
		return nil
	}
	o, _ := t.Value.(ast.Object)
	if o == nil {
		return nil
	}
	var out []string
	o.Foreach(func(k, _ *ast.Term) { out = append(out, plain(k)) })
	slices.Sort(out)
	return out
}

// fill puts facts in the place of their paths.
func (w words) fill(text string) string {
	return placeholder.ReplaceAllStringFunc(text, func(match string) string {
		m := placeholder.FindStringSubmatch(match)
		return show(w.of(m[1]), m[2])
	})
}

// explain fills in what the policy left open: the facts, and a sentence and a remedy where the code is a built-in one.
func (e *Engine) explain(entry string, r *trust.Reason, input *question) {
	s, _ := sayingOf(r.Code)
	w := words{engine: e, entry: entry, input: input, said: r.Facts, facts: map[string]string{}}
	if s.say != nil {
		text, remedy := s.say(w)
		s.text, s.remedy = or(text, s.text), or(remedy, s.remedy)
	}
	if r.Text == "" {
		r.Text = w.fill(s.text) + w.stopped(r.Code)
	}
	if r.Remedy == "" {
		r.Remedy = w.fill(s.remedy)
	}
	if r.Facts[stageFact] == "observe" {
		r.Text = "Only observed: " + r.Text
	}
	for path := range strings.FieldsSeq(s.facts) {
		w.of(path)
	}
	maps.Copy(w.facts, r.Facts)
	maps.DeleteFunc(w.facts, func(_, v string) bool { return v == "" })
	r.Facts = w.facts
}

// term looks up a path in the input or, behind "config.", in the configuration of the entry point; nil where it leads nowhere.
func (e *Engine) term(entry, path string, input *question) *ast.Term {
	rest, ok := strings.CutPrefix(path, "config.")
	if !ok {
		return input.fact(path)
	}
	return below(e.config[entry], rest)
}

// below looks up a path in objects, nil where it leads nowhere.
func below(t *ast.Term, path string) *ast.Term {
	for name := range strings.SplitSeq(path, ".") {
		o, ok := t.Value.(ast.Object)
		if !ok {
			return nil
		}
		if t = o.Get(ast.StringTerm(name)); t == nil {
			return nil
		}
	}
	return t
}

// fact is term as text.
func (e *Engine) fact(entry, path string, input *question) string {
	if t := e.term(entry, path, input); t != nil {
		return plain(t)
	}
	return ""
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

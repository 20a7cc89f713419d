package oauth

import "strings"

// RewriteChallenge puts uri in place of every authorization_uri in the Bearer challenges of a WWW-Authenticate value (RFC 9110, section 11.6.1; RFC 6750,
// section 3). All other bytes, claims among them, stay as they are, and so does a value that cannot be read. uri must hold neither quotes nor backslashes.
func RewriteChallenge(value, uri string) string {
	s := challengeScanner{rest: value}
	var out strings.Builder
	for s.next() {
		if s.param && strings.EqualFold(s.scheme, "Bearer") && strings.EqualFold(s.name, "authorization_uri") {
			out.WriteString(value[len(value)-s.before : len(value)-s.valueAt])
			out.WriteString(`"` + uri + `"`)
		} else {
			out.WriteString(value[len(value)-s.before : len(value)-len(s.rest)])
		}
	}
	if s.bad {
		return value
	}
	return out.String()
}

// challengeScanner reads a list of challenges item by item: an item is a scheme, a parameter, the token68 of a scheme, or what separates them. Positions are
// counted from the end of the value.
type challengeScanner struct {
	rest    string
	scheme  string // of the challenge that the item belongs to
	name    string // of the parameter
	param   bool   // the item is a parameter
	before  int    // where the item begins
	valueAt int    // where the value of the parameter begins
	fresh   bool   // a scheme was just read: a token68 may follow
	bad     bool   // the value cannot be read
}

// next reads one item; false at the end or when the value cannot be read.
func (s *challengeScanner) next() bool {
	s.before, s.param = len(s.rest), false
	if s.rest == "" || s.bad {
		return false
	}
	if blank := strings.TrimLeft(s.rest, " \t,"); blank != s.rest {
		if strings.Contains(s.rest[:len(s.rest)-len(blank)], ",") {
			s.fresh = false
		}
		s.rest = blank
		return true
	}
	word := s.word(tchar)
	after := strings.TrimLeft(s.rest, " \t")
	switch {
	case word != "" && s.scheme != "" && strings.HasPrefix(after, "=") && s.value(after[1:]):
		s.name, s.param, s.fresh = word, true, false
	case s.fresh && s.token68(word):
		s.fresh = false
	case word == "" || s.rest != "" && !strings.ContainsRune(" \t,", rune(s.rest[0])):
		s.bad = true
	default:
		s.scheme, s.fresh = word, true
	}
	return !s.bad
}

// value reads the value of a parameter, a token or a quoted string (RFC 9110, section 5.6), from text, which is the end of rest.
func (s *challengeScanner) value(text string) bool {
	text = strings.TrimLeft(text, " \t")
	at := len(text)
	if !strings.HasPrefix(text, `"`) {
		end := strings.IndexFunc(text, func(r rune) bool { return !tchar(r) })
		if end < 0 {
			end = len(text)
		}
		rest := text[end:]
		if end == 0 || rest != "" && !strings.ContainsRune(" \t,", rune(rest[0])) {
			return false
		}
		s.rest, s.valueAt = rest, at
		return true
	}
	for i := 1; i < len(text); i++ {
		switch text[i] {
		case '\\':
			i++
		case '"':
			rest := text[i+1:]
			if rest != "" && !strings.ContainsRune(" \t,", rune(rest[0])) {
				return false
			}
			s.rest, s.valueAt = rest, at
			return true
		}
	}
	return false
}

// token68 reads the rest of a token68 (RFC 9110, section 11.2) that begins with word.
func (s *challengeScanner) token68(word string) bool {
	rest := s.rest
	s.word(func(r rune) bool { return tchar(r) || r == '/' })
	s.word(func(r rune) bool { return r == '=' })
	if after := strings.TrimLeft(s.rest, " \t"); (word == "" && s.rest == rest) || after != "" && after[0] != ',' {
		s.rest = rest
		return false
	}
	return true
}

// word takes the longest beginning of rest of which all characters are accepted.
func (s *challengeScanner) word(accepts func(rune) bool) string {
	end := strings.IndexFunc(s.rest, func(r rune) bool { return !accepts(r) })
	if end < 0 {
		end = len(s.rest)
	}
	word := s.rest[:end]
	s.rest = s.rest[end:]
	return word
}

// tchar accepts what a token consists of (RFC 9110, section 5.6.2).
func tchar(r rune) bool {
	return r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || strings.ContainsRune("!#$%&'*+-.^_`|~", r)
}

package decisionlog

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// maxMask is how many paths may be erased.
const maxMask = 200

// DefaultMask erases who it is about: names, addresses, object ids and source addresses. Device, certificate and profile ids stay, by which a help desk finds the rest.
func DefaultMask() []string {
	return []string{
		"/input/credential/user", "/input/credential/names", "/input/credential/oid", "/input/owner/mail", "/input/owner/names", "/input/owner/oid", "/input/owner/delegations",
		"/input/request/source_ip", "/input/source_ip", "/input/requested/mails", "/input/exceptions/*/granted_by", "/result/reasons/*/facts", "/requested_by",
	}
}

// mask is a list of paths, each of its segments. "*" stands for every element.
type mask [][]string

// parseMask reads JSON pointers (RFC 6901) into an event: below /input or /result, or /requested_by. A segment that is * means every element or field, which JSON pointers
// do not have.
func parseMask(paths []string) (mask, error) {
	if len(paths) > maxMask {
		return nil, fmt.Errorf("mask of %d paths: at most %d", len(paths), maxMask)
	}
	var m mask
	for _, p := range paths {
		segments := strings.Split(p, "/")
		if segments[0] != "" || len(segments) < 2 || slices.Contains(segments[1:], "") {
			return nil, fmt.Errorf("mask %q: want a path such as /input/owner/mail", p)
		}
		segments = segments[1:]
		if at := segments[0]; at != "input" && at != "result" && p != "/requested_by" {
			return nil, fmt.Errorf("mask %q: only /input, /result and /requested_by can be erased", p)
		}
		for i, s := range segments {
			if strings.Contains(strings.NewReplacer("~0", "", "~1", "").Replace(s), "~") {
				return nil, fmt.Errorf("mask %q: ~ is written ~0, and / within a name ~1", p)
			}
			segments[i] = strings.NewReplacer("~1", "/", "~0", "~").Replace(s)
		}
		m = append(m, segments)
	}
	return m, nil
}

// CheckMask says what is wrong with paths to erase.
func CheckMask(paths []string) error {
	_, err := parseMask(paths)
	return err
}

// erase removes what the mask names from an event, and returns the paths of what was there. Of fields that a * stands for it tells the *, because the name of
// a field may itself be a fact about a person, such as an address.
func (m mask) erase(event map[string]any) (erased []string) {
	for _, path := range m {
		erased = erase(event, path, "", erased)
	}
	slices.Sort(erased)
	return slices.Compact(erased)
}

func erase(v any, path []string, at string, erased []string) []string {
	name, last := path[0], len(path) == 1
	switch v := v.(type) {
	case map[string]any:
		for key, child := range v {
			if key != name && name != "*" {
				continue
			}
			here := at + "/" + pointer(name)
			if last {
				delete(v, key)
				erased = append(erased, here)
			} else {
				erased = erase(child, path[1:], here, erased)
			}
		}
	case []any:
		for i, child := range v {
			here := fmt.Sprintf("%s/%d", at, i)
			if fmt.Sprint(i) != name && name != "*" {
				continue
			}
			if last {
				v[i] = nil // the others keep their places
				erased = append(erased, here)
			} else {
				erased = erase(child, path[1:], here, erased)
			}
		}
	}
	return erased
}

// pointer escapes a segment of a path.
func pointer(name string) string { return strings.NewReplacer("~", "~0", "/", "~1").Replace(name) }

var errNoFacts = errors.New("facts are no JSON object")

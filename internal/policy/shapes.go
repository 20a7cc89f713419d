package policy

import (
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// shape is a JSON schema (draft 7) of data, of the keywords that check knows: type, enum, pattern, minimum, maximum, items, properties, required,
// additionalProperties and propertyNames. Of two types there is only a time. What is published for editors is therefore what is checked.
type shape map[string]any

func textShape() shape                 { return shape{"type": "string", "minLength": 1} }
func oneOfShape(words ...string) shape { return shape{"type": "string", "enum": words} }
func patternShape(p, says string) shape {
	return shape{"type": "string", "pattern": p, "description": says}
}
func listShape(of shape) shape  { return shape{"type": "array", "items": of} }
func tableShape(of shape) shape { return shape{"type": "object", "additionalProperties": of} }
func wholeShape(low, high int) shape {
	return shape{"type": "integer", "minimum": low, "maximum": high}
}

// rowShape is a mapping of known keys.
func rowShape(required []string, properties map[string]shape) shape {
	return shape{"type": "object", "properties": properties, "required": required, "additionalProperties": false}
}

// finding is one thing wrong with data, and where: names of mappings and numbers of lists.
type finding struct {
	path            []any
	message, advice string
}

// deeper returns a path with one more step, in memory of its own.
func deeper(path []any, step any) []any { return append(slices.Clip(path), step) }

// check compares data as encoding/json would read it, numbers as json.Number.
func (s shape) check(path []any, v any) []finding {
	wrong := func(format string, args ...any) []finding {
		return []finding{{path: path, message: fmt.Sprintf(format, args...)}}
	}
	if either, ok := s["anyOf"].([]shape); ok { // text, or a list of such texts
		if _, text := v.(string); text {
			return either[0].check(path, v)
		}
		return either[1].check(path, v)
	}
	if _, several := s["type"].([]string); several {
		if _, wrong := secondsOf(v); wrong.message != "" {
			return []finding{{path, wrong.message, wrong.advice()}}
		}
		return nil
	}
	switch s["type"] {
	case "string":
		text, ok := v.(string)
		if !ok {
			return []finding{{path, "must be text", quoting(v)}}
		}
		if words, _ := s["enum"].([]string); words != nil && !slices.Contains(words, text) {
			return []finding{{path, fmt.Sprintf("%q: must be one of %s", text, strings.Join(words, ", ")), closest(text, words)}}
		}
		if p, _ := s["pattern"].(string); p != "" && !regexp.MustCompile(p).MatchString(text) {
			return wrong("%q: must be %s", text, s["description"])
		}
		if s["minLength"] != nil && text == "" {
			return wrong("must not be empty")
		}
	case "integer":
		n, ok := v.(json.Number)
		if !ok {
			return wrong("must be a number")
		}
		i, err := n.Int64()
		low, _ := s["minimum"].(int)
		high, bounded := s["maximum"].(int)
		if err != nil || i < int64(low) || bounded && i > int64(high) {
			return wrong("%s: must be a whole number, %s", n, rangeText(low, high, bounded))
		}
	case "boolean":
		if _, ok := v.(bool); !ok {
			return wrong("must be true or false")
		}
	case "array":
		return s.checkList(path, v)
	case "object":
		return s.checkMapping(path, v)
	}
	return nil
}

const inQuotes = "write it in quotes: "

// quoting advises about what YAML takes for something else than text.
func quoting(v any) string {
	switch v.(type) {
	case json.Number, bool, nil:
		return inQuotes + strconv.Quote(fmt.Sprint(v))
	case map[string]any:
		return "write a text with colons in quotes"
	}
	return ""
}

func rangeText(low, high int, bounded bool) string {
	switch {
	case bounded:
		return fmt.Sprintf("%d to %d", low, high)
	case low == 0:
		return "and not negative"
	}
	return fmt.Sprintf("at least %d", low)
}

func (s shape) checkList(path []any, v any) (found []finding) {
	list, ok := v.([]any)
	if !ok {
		return []finding{{path: path, message: "must be a list"}}
	}
	items, ok := s["items"].(shape)
	if !ok {
		return nil
	}
	var form *regexp.Regexp // compiled once for a list of many thousand
	if p, _ := items["pattern"].(string); p != "" {
		form = regexp.MustCompile(p)
	}
	for i, e := range list {
		s, text := e.(string)
		_, number := e.(json.Number)
		switch {
		case items["type"] == "string" && !text:
			found = append(found, finding{deeper(path, i), "must be a list of texts", quoting(e)})
		case items["type"] == "integer" && !number:
			found = append(found, finding{deeper(path, i), "must be a list of numbers", ""})
		case text && form != nil && form.MatchString(s):
		default:
			found = append(found, items.check(deeper(path, i), e)...)
		}
	}
	return found
}

func (s shape) checkMapping(path []any, v any) (found []finding) {
	m, ok := v.(map[string]any)
	if !ok {
		return []finding{{path: path, message: "must be a mapping"}}
	}
	properties, _ := s["properties"].(map[string]shape)
	names, _ := s["propertyNames"].(shape)
	for _, key := range slices.Sorted(maps.Keys(m)) {
		at := deeper(path, key)
		if names != nil {
			if bad := names.check(at, key); len(bad) > 0 {
				found = append(found, bad...)
				continue
			}
		}
		if of, known := properties[key]; known {
			found = append(found, of.check(at, m[key])...)
		} else if of, free := s["additionalProperties"].(shape); free {
			found = append(found, of.check(at, m[key])...)
		} else if s["additionalProperties"] == false {
			found = append(found, finding{at, fmt.Sprintf("%s is not known", key), didYouMean(key, slices.Sorted(maps.Keys(properties)))})
		}
	}
	required, _ := s["required"].([]string)
	for _, key := range required {
		if _, there := m[key]; !there {
			found = append(found, finding{path, key + " is missing", ""})
		}
	}
	return found
}

package policy

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"reflect"
	"slices"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/lexer"
	"github.com/goccy/go-yaml/token"
	"github.com/open-policy-agent/opa/v1/util"
)

// maxNesting bounds how deep YAML may nest in flow style, because its parser recurses.
const maxNesting = 64

// configChoices are the values that a setting of text may have.
var configChoices = map[string][]string{"access.unknown_client": {"allow", "quarantine", "deny"}}

// document merges the data files into one document. Each file is a mapping whose keys become data.KEY. The key "postern" belongs to the product: a
// team's file may set keys of postern.config again that the built-in configuration has, with values of the same type, and nothing else.
func (s sources) document() (map[string]any, []Problem) {
	doc, origin := map[string]any{}, map[string]string{}
	var problems []Problem
	var overrides []file
	for _, f := range s.files {
		if f.rego() {
			continue
		}
		m, p := decodeData(f)
		if p != nil {
			problems = append(problems, *p)
			continue
		}
		for _, key := range slices.Sorted(maps.Keys(m)) {
			switch {
			case key == "postern" && !f.builtin && !s.replaced:
				overrides = append(overrides, f)
			case origin[key] != "":
				problems = append(problems, f.problem(key, fmt.Sprintf("data.%s is already defined by %s", key, origin[key])))
			default:
				doc[key], origin[key] = m[key], f.name
			}
		}
	}
	set := map[string]string{}
	for _, f := range overrides {
		m, _ := decodeData(f)
		problems = append(problems, override(doc, m["postern"], f, set)...)
	}
	return doc, problems
}

// problem places a message at the line where the key first occurs as a word.
func (f file) problem(key, message string) Problem {
	p := Problem{File: f.name, Message: message}
	for i, line := range strings.Split(string(f.content), "\n") {
		if at := strings.Index(line, key); at >= 0 && !strings.HasPrefix(strings.TrimSpace(line), "#") {
			p.Line, p.Column = i+1, at+1
			break
		}
	}
	return p
}

// override sets keys of the built-in configuration; set remembers which file set what.
func override(doc map[string]any, with any, f file, set map[string]string) []Problem {
	product, _ := with.(map[string]any)
	builtin, _ := doc["postern"].(map[string]any)
	base, _ := builtin["config"].(map[string]any)
	if len(product) != 1 || product["config"] == nil {
		return []Problem{f.problem("postern", "data.postern belongs to the product: only postern.config may be set here")}
	}
	sections, ok := product["config"].(map[string]any)
	if !ok {
		return []Problem{f.problem("config", "postern.config must be a mapping")}
	}
	var problems []Problem
	for _, section := range slices.Sorted(maps.Keys(sections)) {
		known, ok := base[section].(map[string]any)
		keys, isMap := sections[section].(map[string]any)
		if !ok || !isMap {
			problems = append(problems, f.problem(section, fmt.Sprintf("postern.config.%s is not a section of the configuration", section)))
			continue
		}
		for _, key := range slices.Sorted(maps.Keys(keys)) {
			name := section + "." + key
			if message := acceptable(name, known, key, keys[key]); message != "" {
				p := f.problem(key, message)
				if _, ok := known[key]; !ok {
					p.Advice = didYouMean(key, slices.Sorted(maps.Keys(known)))
				}
				problems = append(problems, p)
			} else if other, twice := set[name]; twice {
				problems = append(problems, f.problem(key, fmt.Sprintf("postern.config.%s is already set by %s", name, other)))
			} else {
				known[key], set[name] = keys[key], f.name
			}
		}
	}
	return problems
}

// acceptable says what is wrong with a value for one key of the configuration, or nothing.
func acceptable(name string, known map[string]any, key string, value any) string {
	old, ok := known[key]
	if !ok {
		return fmt.Sprintf("postern.config.%s is not known", name)
	}
	if reflect.TypeOf(old) != reflect.TypeOf(value) {
		return fmt.Sprintf("postern.config.%s must be a %s", name, jsonType(old))
	}
	switch v := value.(type) {
	case json.Number:
		if n, err := v.Int64(); err != nil || n < 0 {
			return fmt.Sprintf("postern.config.%s must be a whole number and not negative", name)
		}
	case string:
		if choices := configChoices[name]; choices != nil && !slices.Contains(choices, v) {
			return fmt.Sprintf("postern.config.%s must be one of %s", name, strings.Join(choices, ", "))
		}
	case []any:
		want, word := reflect.TypeFor[string](), "texts"
		if list := old.([]any); len(list) > 0 && reflect.TypeOf(list[0]) != want {
			want, word = reflect.TypeFor[json.Number](), "numbers"
		}
		for _, e := range v {
			if reflect.TypeOf(e) != want {
				return fmt.Sprintf("postern.config.%s must be a list of %s", name, word)
			}
		}
	}
	return ""
}

func jsonType(v any) string {
	switch v.(type) {
	case json.Number:
		return "number"
	case string:
		return "text"
	case []any:
		return "list"
	case map[string]any:
		return "mapping"
	}
	return "boolean"
}

// decodeData reads one data file as JSON or YAML into what encoding/json would make of it, numbers as json.Number.
func decodeData(f file) (map[string]any, *Problem) {
	var m map[string]any
	var err error
	if strings.HasSuffix(f.name, ".json") {
		err = decodeStrict(f.content, &m, false)
	} else {
		m, err = decodeYAML(f.content)
	}
	if err == nil {
		return m, nil
	}
	p := &Problem{File: f.name, Message: "not data: " + err.Error()}
	var bad yaml.Error
	if errors.As(err, &bad) {
		p.Message = "not data: " + bad.GetMessage()
		if t := bad.GetToken(); t != nil && t.Position != nil {
			p.Line, p.Column = t.Position.Line, t.Position.Column
		}
	}
	var syntax *json.SyntaxError
	if errors.As(err, &syntax) {
		p.Line = 1 + bytes.Count(f.content[:min(int(syntax.Offset), len(f.content))], []byte("\n"))
	}
	return nil, p
}

// decodeYAML refuses aliases, which can make a small file huge, and deep nesting before the parser sees it.
func decodeYAML(content []byte) (map[string]any, error) {
	depth, line, entries := 0, 0, 0
	for _, t := range lexer.Tokenize(string(content)) {
		if t.Position.Line != line {
			line, entries = t.Position.Line, 0
		}
		switch t.Type {
		case token.SequenceEntryType, token.MappingKeyType:
			entries++ // "- - - x" nests within one line
		case token.AnchorType, token.AliasType, token.MergeKeyType:
			return nil, fmt.Errorf("line %d: anchors and aliases are not supported", t.Position.Line)
		case token.SequenceStartType, token.MappingStartType:
			depth++
		case token.SequenceEndType, token.MappingEndType:
			depth--
		}
		if depth > maxNesting || entries > maxNesting || t.Position.IndentNum > 4*maxNesting {
			return nil, fmt.Errorf("line %d: nested too deeply", t.Position.Line)
		}
	}
	var v any
	if err := yaml.Unmarshal(content, &v); err != nil {
		return nil, err
	}
	if v == nil {
		return map[string]any{}, nil
	}
	if _, ok := v.(map[string]any); !ok {
		return nil, errors.New("want a mapping whose keys become data.KEY")
	}
	if err := util.RoundTrip(&v); err != nil {
		return nil, err
	}
	m, _ := v.(map[string]any)
	return m, nil
}

// decodeStrict reads exactly one JSON value, numbers as json.Number; with known set, a field that v does not have is an error.
func decodeStrict(content []byte, v any, known bool) error {
	d := json.NewDecoder(bytes.NewReader(content))
	d.UseNumber()
	if known {
		d.DisallowUnknownFields()
	}
	if err := d.Decode(v); err != nil {
		return err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return errors.New("more than one JSON value")
	}
	return nil
}

package policy

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/lexer"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
	"github.com/open-policy-agent/opa/v1/util"
)

// maxFindings is how many things wrong with one part of a file are told.
const maxFindings = 50

// maxNesting bounds how deep YAML may nest in flow style, because its parser recurses.
const maxNesting = 64

// document merges the data files into one document. Each file is a mapping whose keys become data.KEY. The key "postern" belongs to the product: a
// team's file may set keys of postern.config again that the built-in configuration has, with values of the same type, and nothing else.
func (s sources) document() (map[string]any, []Problem) {
	doc, origin, shapes := map[string]any{}, map[string]string{}, documentShapes()
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
				if of, known := shapes[key]; known && !s.replaced {
					problems = append(problems, f.problems(of.check([]any{key}, m[key]))...)
				}
			}
		}
	}
	set := map[string]string{}
	for _, f := range overrides {
		m, _ := decodeData(f)
		problems = append(problems, override(doc, m["postern"], f, set)...)
	}
	if !s.replaced {
		problems = append(problems, s.agree(doc, origin, set)...)
		normalize(doc)
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

// problems places what was found at the node of the file that it is about.
func (f file) problems(found []finding) (all []Problem) {
	if len(found) == 0 {
		return nil
	}
	err := shallow(f.content)
	var tree *ast.File
	if err == nil {
		tree, err = parser.ParseBytes(f.content, 0) // JSON is YAML
	}
	for i, x := range found {
		if i == maxFindings {
			return append(all, Problem{File: f.name, Message: fmt.Sprintf("and %d more of the kind", len(found)-i)})
		}
		p := Problem{File: f.name, Message: "data." + pathText(x.path) + ": " + x.message, Advice: x.advice}
		if x.path[0] == "postern" {
			p.Message = strings.TrimPrefix(p.Message, "data.")
		}
		if err == nil {
			p.Line, p.Column = nodeAt(tree, x.path)
			p.Advice = asWritten(p.Advice, find(tree, x.path))
		}
		all = append(all, p)
	}
	return all
}

// asWritten puts into the advice to write quotes what the file says: 17.10 is another version than the number 17.1.
func asWritten(advice string, node ast.Node) string {
	if n, scalar := node.(ast.ScalarNode); scalar && n.GetToken() != nil && strings.HasPrefix(advice, inQuotes) {
		return inQuotes + strconv.Quote(n.GetToken().Value)
	}
	return advice
}

// nodeAt returns the line and column of what is at a path, or of the nearest thing above it that can be found: of a list or mapping its key, for that is what
// people look for.
func nodeAt(tree *ast.File, path []any) (line, column int) {
	for ; len(path) > 0; path = path[:len(path)-1] {
		node := find(tree, path)
		if node == nil || node.GetToken() == nil {
			continue
		}
		t := node.GetToken()
		if m, ok := node.(*ast.MappingNode); ok && len(m.Values) > 0 {
			t = m.Values[0].Key.GetToken()
		}
		name, named := path[len(path)-1].(string)
		if _, scalar := node.(ast.ScalarNode); named && !scalar {
			if m, ok := find(tree, path[:len(path)-1]).(*ast.MappingNode); ok {
				for _, v := range m.Values {
					if v.Key.GetToken().Value == name {
						t = v.Key.GetToken()
					}
				}
			}
		}
		return t.Position.Line, t.Position.Column
	}
	return 0, 0
}

// find returns the node at a path; nil where there is none.
func find(tree *ast.File, path []any) ast.Node {
	b := (&yaml.PathBuilder{}).Root()
	for _, step := range path {
		switch s := step.(type) {
		case string:
			b = b.Child(s)
		case int:
			b = b.Index(uint(s))
		}
	}
	node, err := b.Build().FilterFile(tree)
	if err != nil {
		return nil
	}
	return node
}

// pathText writes a path as a policy would refer to it.
func pathText(path []any) string {
	var b strings.Builder
	for _, step := range path {
		switch s := step.(type) {
		case string:
			if b.Len() > 0 {
				b.WriteByte('.')
			}
			b.WriteString(s)
		case int:
			fmt.Fprintf(&b, "[%d]", s)
		}
	}
	return b.String()
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
			standard, exists := known[key]
			if !exists {
				p := f.problem(key, fmt.Sprintf("postern.config.%s is not known", name))
				p.Advice = didYouMean(key, slices.Sorted(maps.Keys(known)))
				problems = append(problems, p)
				continue
			}
			found := settingShape(name, standard).check([]any{"postern", "config", section, key}, keys[key])
			problems = append(problems, f.problems(found)...)
			if other, twice := set[name]; twice {
				problems = append(problems, f.problem(key, fmt.Sprintf("postern.config.%s is already set by %s", name, other)))
			} else if len(found) == 0 {
				known[key], set[name] = keys[key], f.name
			}
		}
	}
	return problems
}

// decodeData reads one data file as JSON or YAML into what encoding/json would make of it, numbers as json.Number.
func decodeData(f file) (map[string]any, *Problem) {
	var m map[string]any
	var err error
	if strings.HasSuffix(f.name, ".json") {
		if err = decodeStrict(f.content, &m, false); err == nil {
			err = keysOnce(f.content)
		}
	} else {
		m, err = decodeYAML(f.content)
	}
	if err == nil {
		err = withinReach(m)
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
	var twice *saidTwice
	if errors.As(err, &twice) {
		p.Line, p.Column, p.Advice = twice.line, twice.column, "leave one of them out, for which of the two counts is not the same to all readers"
	}
	var syntax *json.SyntaxError
	if errors.As(err, &syntax) {
		p.Line = 1 + bytes.Count(f.content[:min(int(syntax.Offset), len(f.content))], []byte("\n"))
	}
	return nil, p
}

// withinReach refuses what is no value that a policy can compare: a number that is out of reach, and a name that begins with a byte order mark.
func withinReach(v any) error {
	switch v := v.(type) {
	case json.Number:
		if _, err := strconv.ParseFloat(v.String(), 64); err != nil {
			return fmt.Errorf("the number %.40s is too large", v)
		}
	case []any:
		for _, e := range v {
			if err := withinReach(e); err != nil {
				return err
			}
		}
	case map[string]any:
		for name, e := range v {
			if strings.HasPrefix(name, "\ufeff") {
				return errors.New("the file begins with a byte order mark: save it as UTF-8 without one")
			}
			if err := withinReach(e); err != nil {
				return err
			}
		}
	}
	return nil
}

// shallow refuses aliases, which can make a small file huge, and deep nesting before the parser sees it.
func shallow(content []byte) error {
	depth, line, entries := 0, 0, 0
	for _, t := range lexer.Tokenize(string(content)) {
		if t.Position.Line != line {
			line, entries = t.Position.Line, 0
		}
		switch t.Type {
		case token.SequenceEntryType, token.MappingKeyType:
			entries++ // "- - - x" nests within one line
		case token.AnchorType, token.AliasType, token.MergeKeyType:
			return fmt.Errorf("line %d: anchors and aliases are not supported", t.Position.Line)
		case token.SequenceStartType, token.MappingStartType:
			depth++
		case token.SequenceEndType, token.MappingEndType:
			depth--
		}
		if depth > maxNesting || entries > maxNesting || t.Position.IndentNum > 4*maxNesting {
			return fmt.Errorf("line %d: nested too deeply", t.Position.Line)
		}
	}
	return nil
}

func decodeYAML(content []byte) (map[string]any, error) {
	v, err := parseYAML(content)
	if err != nil {
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

// parseYAML reads one document in which no key is said twice.
func parseYAML(content []byte) (v any, err error) {
	if err := shallow(content); err != nil {
		return nil, err
	}
	tree, err := parser.ParseBytes(content, 0)
	if err != nil {
		return nil, err
	}
	if len(tree.Docs) > 1 {
		return nil, errors.New("more than one document: what stands behind --- would not be read")
	}
	keys := &apart{}
	for _, doc := range tree.Docs {
		ast.Walk(keys, doc)
	}
	if keys.twice != nil {
		return nil, keys.twice
	}
	err = yaml.Unmarshal(content, &v)
	return v, err
}

package policy

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/goccy/go-yaml/ast"
)

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

// decodeInput reads what somebody wrote by hand: as decodeStrict, and no field may be said twice.
func decodeInput(content []byte, v any) error {
	if err := decodeStrict(content, v, true); err != nil {
		return err
	}
	return keysOnce(content)
}

// saidTwice is the error of a JSON object that says one key twice.
type saidTwice struct {
	path         []any // of the second
	line, column int   // of the second
	first        int   // the line of the first
}

// Error implements error.
func (e *saidTwice) Error() string {
	return fmt.Sprintf("%s is said twice: it is in line %d already", pathText(e.path), e.first)
}

// keysOnce refuses JSON in which an object says a key twice: encoding/json takes the last without a word, and others take the first (RFC 8259, section 4). The
// content was decoded before, which bounds how deep it nests.
func keysOnce(content []byte) error {
	d := json.NewDecoder(bytes.NewReader(content))
	d.UseNumber()
	return (&keyReader{d: d, content: content}).value()
}

// keyReader reads JSON token by token. path is where it is.
type keyReader struct {
	d       *json.Decoder
	content []byte
	path    []any

	line, upTo, lineAt int // lines before the byte upTo, of which the last begins at lineAt
}

func (r *keyReader) value() error {
	t, err := r.d.Token()
	switch {
	case err != nil:
		return err
	case t == json.Delim('{'):
		return r.object()
	case t != json.Delim('['):
		return nil
	}
	for i := 0; r.d.More(); i++ {
		r.path = append(r.path, i)
		if err := r.value(); err != nil {
			return err
		}
		r.path = r.path[:len(r.path)-1]
	}
	_, err = r.d.Token()
	return err
}

func (r *keyReader) object() error {
	seen := map[string]int{}
	for r.d.More() {
		t, err := r.d.Token()
		if err != nil {
			return err
		}
		key, _ := t.(string)
		r.path = append(r.path, key)
		line, column := r.place()
		if first, twice := seen[key]; twice {
			return &saidTwice{path: r.path, line: line, column: column, first: first}
		}
		seen[key] = line
		if err := r.value(); err != nil {
			return err
		}
		r.path = r.path[:len(r.path)-1]
	}
	_, err := r.d.Token()
	return err
}

// place returns line and column of the key that was read last. What was counted before is not counted again.
func (r *keyReader) place() (line, column int) {
	end := int(r.d.InputOffset())
	r.line += bytes.Count(r.content[r.upTo:end], []byte("\n"))
	if last := bytes.LastIndexByte(r.content[r.upTo:end], '\n'); last >= 0 {
		r.lineAt = r.upTo + last + 1
	}
	r.upTo = end
	// The opening quote is the last one before the closing one that no backslash escapes.
	start := end - 1
	for start > r.lineAt {
		start--
		if escapes := len(r.content[:start]) - len(bytes.TrimRight(r.content[:start], "\\")); r.content[start] == '"' && escapes%2 == 0 {
			break
		}
	}
	return r.line + 1, start - r.lineAt + 1
}

// apart finds keys of YAML that are written apart and mean one: 0x10 and 16, 1.0 and 1, ~ and null. Those that are written alike its parser refuses. The first is
// kept.
type apart struct{ twice *saidTwice }

// Visit implements ast.Visitor.
func (a *apart) Visit(n ast.Node) ast.Visitor {
	m, ok := n.(*ast.MappingNode)
	if !ok || a.twice != nil {
		return a
	}
	seen := map[string]int{}
	for _, v := range m.Values {
		key, ok := v.Key.(ast.ScalarNode)
		if !ok || key.GetToken() == nil {
			continue
		}
		name, at := "null", key.GetToken().Position
		if value := key.GetValue(); value != nil {
			name = fmt.Sprint(value)
		}
		if first, twice := seen[name]; twice {
			a.twice = &saidTwice{path: []any{name}, line: at.Line, column: at.Column, first: first}
			return a
		}
		seen[name] = at.Line
	}
	return a
}

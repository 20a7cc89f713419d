package mdm

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"unicode/utf8"
)

// object is one JSON object whose names are told apart by case and occur once: two readers of one answer must never see two answers.
type object map[string]json.RawMessage

// decodeObject reads exactly one object. The caller has bounded the size of data.
func decodeObject(data []byte) (object, error) {
	if !utf8.Valid(data) {
		return nil, errors.New("read JSON: not UTF-8")
	}
	d := json.NewDecoder(bytes.NewReader(data))
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return nil, errors.New("read JSON: not an object")
	}
	o := object{}
	for d.More() {
		t, err := d.Token()
		name, ok := t.(string)
		if err != nil || !ok {
			return nil, errors.New("read JSON: malformed object")
		}
		if _, again := o[name]; again {
			return nil, fmt.Errorf("read JSON: %q twice", clip(name, 64))
		}
		var value json.RawMessage
		if err := d.Decode(&value); err != nil {
			return nil, errors.New("read JSON: malformed value")
		}
		o[name] = value
	}
	if _, err := d.Token(); err != nil {
		return nil, errors.New("read JSON: object does not end")
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("read JSON: something behind the object")
	}
	return o, nil
}

// null reports whether the value is absent or null.
func (o object) null(name string) bool { return len(o[name]) == 0 || string(o[name]) == "null" }

// text returns a string of at most limit bytes; "" where it is absent or null.
func (o object) text(name string, limit int) (string, error) {
	if o.null(name) {
		return "", nil
	}
	var s string
	if o[name][0] != '"' || json.Unmarshal(o[name], &s) != nil {
		return "", fmt.Errorf("read JSON: %s is not a string", name)
	}
	if len(s) > limit {
		return "", fmt.Errorf("read JSON: %s is longer than %d bytes", name, limit)
	}
	return s, nil
}

// flag returns a boolean, which must be there.
func (o object) flag(name string) (bool, error) {
	switch string(o[name]) {
	case "true":
		return true, nil
	case "false":
		return false, nil
	}
	return false, fmt.Errorf("read JSON: %s is not true or false", name)
}

// member returns an object; nil where it is absent or null.
func (o object) member(name string) (object, error) {
	if o.null(name) {
		return nil, nil
	}
	m, err := decodeObject(o[name])
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return m, nil
}

// list returns a list of at most limit objects, which must be there.
func (o object) list(name string, limit int) ([]object, error) {
	var raw []json.RawMessage
	if len(o[name]) == 0 || o[name][0] != '[' || json.Unmarshal(o[name], &raw) != nil {
		return nil, fmt.Errorf("read JSON: %s is not a list", name)
	}
	if len(raw) > limit {
		return nil, fmt.Errorf("read JSON: %s has more than %d entries", name, limit)
	}
	out := make([]object, len(raw))
	for i, r := range raw {
		var err error
		if out[i], err = decodeObject(r); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
	}
	return out, nil
}

// encode writes JSON as other programs do: without escaping <, > and &.
func encode(v any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return nil, fmt.Errorf("write JSON: %w", err)
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}

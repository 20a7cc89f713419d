package oauth

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"unicode/utf8"
)

// maxJSONDepth is how deep the JSON of a token may be nested; those of Entra ID and AD FS need three.
const maxJSONDepth = 8

// decodeObject reads one JSON object strictly: UTF-8, no name twice in any object, no nesting beyond [maxJSONDepth],
// nothing after it. Two readers of one token must never see two users. Names are told apart by case. Numbers are
// [json.Number].
func decodeObject(data []byte) (map[string]any, bool) {
	if !utf8.Valid(data) {
		return nil, false
	}
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber()
	value, ok := decodeValue(d, 0)
	object, isObject := value.(map[string]any)
	if !ok || !isObject {
		return nil, false
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, false
	}
	return object, true
}

func decodeValue(d *json.Decoder, depth int) (any, bool) {
	t, err := d.Token()
	if err != nil || depth > maxJSONDepth {
		return nil, false
	}
	switch t {
	case json.Delim('{'):
		return decodeMembers(d, depth)
	case json.Delim('['):
		list := []any{}
		for d.More() {
			item, ok := decodeValue(d, depth+1)
			if !ok {
				return nil, false
			}
			list = append(list, item)
		}
		_, err := d.Token()
		return list, err == nil
	}
	return t, true
}

func decodeMembers(d *json.Decoder, depth int) (any, bool) {
	object := map[string]any{}
	for d.More() {
		t, err := d.Token()
		name, isName := t.(string)
		if _, again := object[name]; err != nil || !isName || again {
			return nil, false
		}
		value, ok := decodeValue(d, depth+1)
		if !ok {
			return nil, false
		}
		object[name] = value
	}
	_, err := d.Token()
	return object, err == nil
}

package policy

import (
	"encoding/json"
	"reflect"
)

// Schema returns the JSON schema of an entry point's input ("access" or "enroll"), made from AccessInput or EnrollInput; nil for any other name. It is
// what policies are compiled against and what policies/schemas holds for editors.
func Schema(entry string) []byte {
	var t reflect.Type
	switch entry {
	case "access":
		t = reflect.TypeFor[AccessInput]()
	case "enroll":
		t = reflect.TypeFor[EnrollInput]()
	default:
		return nil
	}
	s := schemaOf(t)
	s["$schema"] = "http://json-schema.org/draft-07/schema#"
	s["title"] = "input of data.postern." + entry + ".decision"
	text, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return nil // not reached: maps of text, lists and booleans
	}
	return append(text, '\n')
}

// schemaOf covers the kinds that the contract uses: structs, text, whole numbers, booleans, lists and maps by name.
func schemaOf(t reflect.Type) map[string]any {
	switch t.Kind() {
	case reflect.Struct:
		properties, required := map[string]any{}, []string{}
		for i := range t.NumField() {
			name := t.Field(i).Tag.Get("json")
			properties[name] = schemaOf(t.Field(i).Type)
			required = append(required, name)
		}
		return map[string]any{"type": "object", "additionalProperties": false, "properties": properties, "required": required}
	case reflect.Map:
		return map[string]any{"type": "object", "additionalProperties": schemaOf(t.Elem())}
	case reflect.Slice:
		return map[string]any{"type": "array", "items": schemaOf(t.Elem())}
	case reflect.Bool:
		return map[string]any{"type": "boolean"}
	case reflect.Int, reflect.Int64:
		return map[string]any{"type": "integer"}
	default:
		return map[string]any{"type": "string"}
	}
}

package policy

import (
	"encoding/json"
	"reflect"
	"strings"
)

// draft is the version of JSON Schema that OPA and editors read.
const draft = "http://json-schema.org/draft-07/schema#"

// inputs are the inputs by entry point.
func inputs() map[string]reflect.Type {
	return map[string]reflect.Type{"access": reflect.TypeFor[AccessInput](), "enroll": reflect.TypeFor[EnrollInput](), "lifecycle": reflect.TypeFor[LifecycleInput]()}
}

// Schema returns the JSON schema of an entry point's input ("access", "enroll" or "lifecycle"), made from the struct in Go; nil for any other name. It is
// what policies are compiled against and what policies/schemas holds for editors.
func Schema(entry string) []byte {
	t, ok := inputs()[entry]
	if !ok {
		return nil
	}
	return written(schemaOf(t), "input of data.postern."+entry+".decision")
}

// answer is the shape in which a policy answers. What Engine.decision reads is this, and nothing else.
type answer struct {
	Action     string `json:"action"`
	Reasons    []said `json:"reasons"`     // a set or an array
	ValidUntil int64  `json:"valid_until"` // Unix seconds, 0: for as long as the facts hold
	Rule       string `json:"rule,omitempty"`
	Profile    string `json:"profile,omitempty"`
}

// said is one reason with what is to be said about it. A code alone is a reason too.
type said struct {
	Code   string            `json:"code"`
	Text   string            `json:"text,omitempty"`
	Remedy string            `json:"remedy,omitempty"`
	Rule   string            `json:"rule,omitempty"`
	Facts  map[string]string `json:"facts,omitempty"`
}

// OutputSchema returns the JSON schema of what an entry point answers; nil for any other name.
func OutputSchema(entry string) []byte {
	if _, ok := actions[entry]; !ok {
		return nil
	}
	code := map[string]any{"type": "string", "pattern": codeForm.String()}
	s := schemaOf(reflect.TypeFor[answer]())
	properties := s["properties"].(map[string]any)
	properties["action"] = map[string]any{"type": "string", "enum": actions[entry]}
	properties["valid_until"] = map[string]any{"type": "integer", "minimum": 0}
	reason := schemaOf(reflect.TypeFor[said]())
	reason["properties"].(map[string]any)["code"] = code
	properties["reasons"] = map[string]any{"type": "array", "items": map[string]any{"anyOf": []any{code, reason}}}
	return written(s, "answer of data.postern."+entry+".decision")
}

func written(s map[string]any, title string) []byte {
	s["$schema"], s["title"] = draft, title
	text, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return nil // not reached: maps of text, lists and booleans
	}
	return append(text, '\n')
}

// schemaOf covers the kinds that the contract uses: structs, text, whole numbers, booleans, lists and maps by name. A field with omitempty may be left out;
// one with the tag enum is one of its words.
func schemaOf(t reflect.Type) map[string]any {
	switch t.Kind() {
	case reflect.Struct:
		properties, required := map[string]any{}, []string{}
		for i := range t.NumField() {
			name, options, _ := strings.Cut(t.Field(i).Tag.Get("json"), ",")
			property := schemaOf(t.Field(i).Type)
			if words, closed := t.Field(i).Tag.Lookup("enum"); closed {
				property["enum"] = strings.Split(words, ",")
			}
			properties[name] = property
			if !strings.Contains(options, "omitempty") {
				required = append(required, name)
			}
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

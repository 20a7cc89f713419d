package policy

import (
	"reflect"
	"testing"
)

// TestAccessFields compares the fields that are written out with those that there are.
func TestAccessFields(t *testing.T) {
	var in AccessInput
	seen := 0
	var compare func(v reflect.Value, prefix string)
	compare = func(v reflect.Value, prefix string) {
		for i := range v.NumField() {
			name, f := prefix+v.Type().Field(i).Tag.Get("json"), v.Field(i)
			if f.Kind() == reflect.Struct {
				compare(f, name+".")
				continue
			}
			seen++
			if at := accessFields[name]; at == nil || at(&in) != f.Addr().Interface() {
				t.Errorf("%s is another field", name)
			}
			accessFacts[name].term(&in) // panics for a type that it does not know
		}
	}
	compare(reflect.ValueOf(&in).Elem(), "")
	if seen != len(accessFields) {
		t.Errorf("%d fields, of which %d are written out", seen, len(accessFields))
	}
}

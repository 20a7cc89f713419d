package registry_test

import (
	"reflect"
	"testing"
	"time"

	"postern/internal/registry"
	"postern/internal/trust"
)

// fill gives every field of a struct a value of its own, so that none can be left out or mixed up.
func fill(v reflect.Value, n *int) {
	*n++
	switch v.Kind() {
	case reflect.Struct:
		if v.Type() == reflect.TypeFor[time.Time]() {
			v.Set(reflect.ValueOf(time.Unix(int64(*n)*1e6, int64(*n)).UTC()))
			return
		}
		for i := range v.NumField() {
			fill(v.Field(i), n)
		}
	case reflect.String:
		v.SetString(string(rune('a' + *n)))
	case reflect.Int:
		v.SetInt(int64(*n))
	case reflect.Uint64:
		v.SetUint(uint64(*n))
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Slice:
		if v.Type().Elem().Kind() == reflect.String {
			v.Set(reflect.ValueOf([]string{"", "x"}))
		}
	case reflect.Map:
		v.Set(reflect.ValueOf(map[string]string{"": "b", "c": ""}))
	case reflect.Pointer: // a suspension is a record of its own
	default:
		panic(v.Kind())
	}
}

func roundTrip[T any](t *testing.T) {
	t.Helper()
	var zero, full, got T
	n := 0
	fill(reflect.ValueOf(&full).Elem(), &n)
	for _, want := range []T{zero, full} {
		raw, err := registry.Encode(want)
		if err != nil {
			t.Fatal(err)
		}
		var back T
		if err := registry.Decode(raw, &back); err != nil || !reflect.DeepEqual(back, want) {
			t.Errorf("%T: %v\ngot  %+v\nwant %+v", want, err, back, want)
		}
		for cut := range raw {
			if err := registry.Decode(raw[:cut], &got); err == nil {
				t.Errorf("%T: the first %d of %d bytes are a record", want, cut, len(raw))
			}
		}
		if err := registry.Decode(append(raw, 0), &got); err == nil {
			t.Errorf("%T: bytes behind the record", want)
		}
	}
}

// Every field survives, and nothing but a whole record is one.
func TestRecords(t *testing.T) {
	roundTrip[trust.Certificate](t)
	roundTrip[trust.Device](t)
	roundTrip[trust.Owner](t)
	roundTrip[trust.MailProfile](t)
}

func FuzzRecords(f *testing.F) {
	for _, v := range []any{trust.Certificate{Serial: "01", NotAfter: time.Unix(1, 2)}, trust.Device{ID: "dev-x", Labels: map[string]string{"a": "b"}}, trust.Owner{Proxies: []string{"a"}},
		trust.MailProfile{ID: "mp-x", Linked: true}} {
		raw, err := registry.Encode(v)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(raw)
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		for _, v := range []any{new(trust.Certificate), new(trust.Device), new(trust.Owner), new(trust.MailProfile)} {
			if registry.Decode(raw, v) != nil {
				continue
			}
			again, err := registry.Encode(reflect.ValueOf(v).Elem().Interface())
			back := reflect.New(reflect.TypeOf(v).Elem()).Interface()
			if err != nil || registry.Decode(again, back) != nil || !reflect.DeepEqual(v, back) {
				t.Errorf("%+v comes back as %+v, %v", v, back, err)
			}
		}
	})
}

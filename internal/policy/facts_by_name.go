package policy

import (
	"cmp"
	"fmt"
	"math"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
)

// field finds a fact by its path in the contract: the field itself, or the map that holds it and its key.
func field[I any](in *I, path []string) (f reflect.Value, key string, ok bool) {
	f = reflect.ValueOf(in).Elem()
	for i, name := range path {
		if f.Kind() == reflect.Map {
			return f, name, i == len(path)-1
		}
		if f.Kind() != reflect.Struct {
			return f, "", false
		}
		at := slices.IndexFunc(reflect.VisibleFields(f.Type()), func(sf reflect.StructField) bool { return sf.Tag.Get("json") == name })
		if at < 0 {
			return f, "", false
		}
		f = f.Field(at)
	}
	return f, "", true
}

// nothing is how a fact without value is told.
const nothing = "empty, or not there"

// fixed are facts that nobody can take away.
var fixed = []string{"owner.", "certificate.", "device.id", "device.serial_number", "device.model"}

// otherValues returns changes of one fact: to the constants of the rule that reads it, and to nothing, the nearest numbers first.
func otherValues[I any](in *I, path []string, r *ast.Rule) (all []changeOf[I]) {
	f, key, ok := field(in, path)
	if !ok {
		return nil
	}
	name := strings.Join(path, ".")
	is := fmt.Sprint(f.Interface())
	if key != "" {
		is = "not set"
		if v := f.MapIndex(reflect.ValueOf(key)); v.IsValid() {
			is = fmt.Sprint(v.Interface())
		}
	}
	values := candidates(f, key != "", r)
	if slices.ContainsFunc(fixed, func(prefix string) bool { return strings.HasPrefix(name, prefix) }) {
		values = slices.DeleteFunc(values, func(v string) bool { return v == "" })
	}
	if n, err := strconv.ParseInt(is, 10, 64); err == nil {
		slices.SortStableFunc(values, func(a, b string) int { return cmp.Compare(distance(a, n), distance(b, n)) })
	}
	for _, value := range values {
		text := or(value, nothing)
		if text == is {
			continue
		}
		said := Change{Fact: fmt.Sprintf("%s is %s.", factName(path), FactText(name, or(is, "empty"))), Do: fmt.Sprintf("It is %s.", FactText(name, text))}
		all = append(all, changeOf[I]{Change: said, fact: name, value: FactText(name, text), apply: func(in *I) {
			if f, key, ok := field(in, path); ok {
				setValue(f, key, value)
			}
		}})
	}
	return all
}

// factName calls a fact what people call it, where its path is not plain enough.
func factName(path []string) string {
	name := strings.Join(path, ".")
	if len(path) == 3 && path[0] == "device" && path[1] == "labels" {
		return "The label " + path[2] + " of the device (" + name + ")"
	}
	return "The fact " + name
}

func distance(value string, from int64) int64 {
	n, err := strconv.ParseInt(value, 10, 64)
	if err != nil {
		return math.MaxInt64
	}
	return max(n-from, from-n)
}

// candidates are the texts of other values that a field could have.
func candidates(f reflect.Value, inMap bool, r *ast.Rule) (out []string) {
	kind := f.Kind()
	if inMap {
		kind = f.Type().Elem().Kind()
	}
	switch kind {
	case reflect.Bool:
		return []string{"true", "false"}
	case reflect.String:
		out = append(out, "")
		ast.WalkTerms(r.Body, func(t *ast.Term) bool {
			if s, ok := t.Value.(ast.String); ok {
				out = append(out, string(s))
			}
			_, ref := t.Value.(ast.Ref) // whose parts are names
			return ref
		})
	case reflect.Int, reflect.Int64:
		out = append(out, "0")
		ast.WalkTerms(r.Body, func(t *ast.Term) bool {
			if n, ok := t.Value.(ast.Number); ok {
				if i, whole := n.Int64(); whole {
					out = append(out, strconv.FormatInt(i-1, 10), strconv.FormatInt(i, 10), strconv.FormatInt(i+1, 10))
				}
			}
			return false
		})
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// setValue writes a text into a field, or under a key of a map.
func setValue(f reflect.Value, key, value string) {
	to := f
	if key != "" {
		to = reflect.New(f.Type().Elem()).Elem()
	}
	switch to.Kind() {
	case reflect.Bool:
		to.SetBool(value == "true")
	case reflect.String:
		to.SetString(value)
	case reflect.Int, reflect.Int64:
		n, _ := strconv.ParseInt(value, 10, 64) // candidates wrote it
		to.SetInt(n)
	default:
		return
	}
	switch {
	case key == "":
	case f.IsNil():
	case value == "":
		f.SetMapIndex(reflect.ValueOf(key), reflect.Value{})
	default:
		f.SetMapIndex(reflect.ValueOf(key), to)
	}
}

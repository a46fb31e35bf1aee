package manifest

import (
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/stackforge/magnum/manifest/v1"
)

// check refuses what the rules refuse in a value that a manifest gave, and texts that no
// container can be given.
func check(v reflect.Value, path string) error {
	switch v.Kind() {
	case reflect.Pointer:
		if !v.IsNil() {
			return check(v.Elem(), path)
		}
	case reflect.Struct:
		if _, own := v.Addr().Interface().(json.Unmarshaler); own {
			return nil // a quantity, a time, or a port
		}
		for _, f := range fieldsOf(v.Type()) {
			if err := checkField(v.FieldByIndex(f.Index), f.rule, join(path, f.name)); err != nil {
				return err
			}
		}
	case reflect.Slice:
		for i := range v.Len() {
			if err := check(v.Index(i), path+"["+strconv.Itoa(i)+"]"); err != nil {
				return err
			}
		}
	case reflect.Map:
		for _, key := range v.MapKeys() {
			if err := check(key, path); err != nil {
				return err
			}
			if v.Type().Elem().Kind() == reflect.String {
				if err := check(v.MapIndex(key), join(path, key.String())); err != nil {
					return err
				}
			}
		}
	case reflect.String:
		if strings.IndexByte(v.String(), 0) >= 0 {
			return refuse(path, "contains a NUL byte: leave it out")
		}
	}
	return nil
}

// unions are the types of which one field is given, so that an empty object says
// something too.
var unions = []string{"VolumeSource", "EnvVarSource", "ProbeHandler", "LifecycleHandler"}

// checkField checks a field against its rule.
func checkField(v reflect.Value, name, path string) error {
	r, known := rules()[name]
	owner, _, _ := strings.Cut(name, ".")
	switch union := slices.Contains(unions, owner); {
	case r.verdict == yes && r.values == nil:
		return check(v, path)
	case union && v.IsNil() || !union && isEmpty(v):
		return nil
	case !known:
		return refuse(path, "is not supported")
	case r.verdict == no:
		return refuse(path, "is not supported: %s", plain(r.note))
	case r.values != nil:
		if v.Kind() == reflect.Slice {
			for i := range v.Len() {
				if err := checkField(v.Index(i), name, path+"["+strconv.Itoa(i)+"]"); err != nil {
					return err
				}
			}
			return nil
		}
		value := fmt.Sprint(reflect.Indirect(v).Interface())
		if slices.Contains(r.values, value) {
			return nil
		}
		if r.note == "" || r.verdict == yes {
			return refuse(path, "%.64q must be %s", value, list(r.values))
		}
		return refuse(path, "%.64q must be %s: %s", value, list(r.values), plain(r.note))
	}
	return nil
}

// list writes values as an enumeration.
func list(values []string) string {
	if n := len(values) - 1; n > 0 {
		return strings.Join(values[:n], ", ") + " or " + values[n]
	}
	return values[0]
}

// plain returns a note without the marks of the manual.
func plain(note string) string { return strings.ReplaceAll(note, "`", "") }

// isEmpty reports whether a field says nothing: it is absent, or an object or list
// without anything in it.
func isEmpty(v reflect.Value) bool {
	switch v.Kind() {
	case reflect.Slice, reflect.Map:
		if raw, ok := v.Interface().(v1.Raw); ok {
			var value any
			return raw == nil || json.Unmarshal(raw, &value) == nil && saysNothing(value)
		}
		return v.Len() == 0
	case reflect.Pointer:
		return v.IsNil() || v.Elem().Kind() == reflect.Struct && isEmpty(v.Elem())
	case reflect.Struct:
		for i := range v.NumField() {
			if !isEmpty(v.Field(i)) {
				return false
			}
		}
		return true
	}
	return v.IsZero()
}

// saysNothing is isEmpty for a value whose fields are not read.
func saysNothing(v any) bool {
	switch v := v.(type) {
	case nil:
		return true
	case string:
		return v == ""
	case []any:
		return len(v) == 0
	case map[string]any:
		for _, in := range v {
			if !saysNothing(in) {
				return false
			}
		}
		return true
	}
	return false
}

package wire

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"sync"

	"github.com/stackforge/magnum/structs"
)

// Shape describes the bodies of one type. It holds the fields of the struct by their
// JSON names.
type Shape struct {
	name     string           // in messages, such as "bay"
	fields   map[string][]int // index paths of the struct's fields
	readOnly map[string]bool  // fields that are shown but can't be set
}

// NewShape returns the shape of the request's type. Fields that shown's type has and
// the request lacks are read-only. shown may be nil.
func NewShape(name string, request, shown any) *Shape {
	s := &Shape{name: name, fields: jsonFields(reflect.TypeOf(request)), readOnly: make(map[string]bool)}
	if shown != nil {
		for field := range jsonFields(reflect.TypeOf(shown)) {
			if s.fields[field] == nil {
				s.readOnly[field] = true
			}
		}
	}
	return s
}

// jsonFields returns the index paths of a struct's fields that are in bodies of the
// API, by their JSON names.
func jsonFields(t reflect.Type) map[string][]int {
	fields := make(map[string][]int)
	for _, f := range bodyFields(t) {
		if f.Tag.Get("api") != "-" {
			name, _ := jsonName(f)
			fields[name] = f.Index
		}
	}
	return fields
}

// bodyFields returns the fields of a struct that are in its JSON. Embedded structs are
// replaced by their fields. The outer one of two fields with the same name wins, as in
// encoding/json. Index is relative to t.
func bodyFields(t reflect.Type) []reflect.StructField {
	var all []reflect.StructField
	outermost := make(map[string]int) // length of the index by JSON name
	var walk func(t reflect.Type, index []int)
	walk = func(t reflect.Type, index []int) {
		for i := range t.NumField() {
			f := t.Field(i)
			f.Index = append(slices.Clip(index), i)
			name, ok := jsonName(f)
			switch {
			case ok:
				if n, known := outermost[name]; !known || len(f.Index) < n {
					outermost[name] = len(f.Index)
				}
				all = append(all, f)
			case f.Anonymous && f.Type.Kind() == reflect.Struct && f.Tag.Get("json") == "":
				walk(f.Type, f.Index)
			}
		}
	}
	walk(t, nil)
	return slices.DeleteFunc(all, func(f reflect.StructField) bool {
		name, _ := jsonName(f)
		return len(f.Index) > outermost[name]
	})
}

// jsonName returns the field's JSON name. ok is false if JSON omits the field or
// embeds it.
func jsonName(f reflect.StructField) (name string, ok bool) {
	name, _, _ = strings.Cut(f.Tag.Get("json"), ",")
	if !f.IsExported() || f.Anonymous && name == "" || name == "-" {
		return "", false
	}
	if name == "" {
		name = f.Name
	}
	return name, true
}

// Decode reads a body into the struct that target points to. Like the API of 2015, it
// accepts numbers as strings, and null for an unset value. Errors are CodeInvalid and
// name the field and the value.
func (s *Shape) Decode(body []byte, target any) error {
	if err := checkJSON(body); err != nil {
		return err
	}
	body = bytes.TrimSpace(body)
	if body[0] != '{' {
		return structs.Errorf(structs.CodeInvalid,
			"The request's body is %s: it has to be an object with the fields of a %s.", kindOf(body), s.name)
	}
	return s.object("", body, reflect.ValueOf(target).Elem())
}

// DecodeLenient reads the body of an agent's or another server's request into target.
// Unknown fields are ignored, because the sender may be newer than this server. Errors
// are CodeInvalid.
func DecodeLenient(body []byte, target any) error {
	if err := json.Unmarshal(body, target); err != nil {
		return structs.Errorf(structs.CodeInvalid, "The request's body can't be read: %v", err)
	}
	return nil
}

// checkJSON refuses a body that isn't a single JSON value.
func checkJSON(body []byte) error {
	if json.Valid(body) {
		return nil
	}
	var raw json.RawMessage
	if err := json.Unmarshal(body, &raw); err != nil { // says what is wrong, and where
		where := ""
		if syntax, ok := err.(*json.SyntaxError); ok {
			where = fmt.Sprintf(" (after %d bytes)", syntax.Offset)
		}
		return structs.Errorf(structs.CodeInvalid, "The request's body is not valid JSON%s: %v", where, err)
	}
	return nil
}

// object reads a JSON object into a struct. Messages put prefix before the names of
// its fields.
func (s *Shape) object(prefix string, raw []byte, v reflect.Value) error {
	return eachMember(prefix, raw, func(name string, value json.RawMessage) error {
		index := s.fields[name]
		switch {
		case index != nil:
			return decodeValue(prefix+name, value, v.FieldByIndex(index))
		case !s.readOnly[name]:
			return structs.Errorf(structs.CodeInvalid, "Unknown attribute for argument %s: %s", s.name, structs.Shorten(prefix+name))
		case string(value) != "null":
			return structs.Invalid(prefix+name, Unquote(value), "Cannot set read only field.")
		}
		return nil
	})
}

var (
	unmarshaler = reflect.TypeFor[json.Unmarshaler]()
	stringMap   = reflect.TypeFor[map[string]string]()
)

// decodeValue reads one JSON value into v. null leaves v as it is.
func decodeValue(field string, raw json.RawMessage, v reflect.Value) error {
	if string(raw) == "null" {
		return nil
	}
	if v.Kind() == reflect.Pointer {
		v.Set(reflect.New(v.Type().Elem()))
		v = v.Elem()
	}
	read := readers[v.Type()]
	switch {
	case read != nil:
	case v.Addr().Type().Implements(unmarshaler):
		read = func(raw json.RawMessage, v reflect.Value) error {
			return v.Addr().Interface().(json.Unmarshaler).UnmarshalJSON(raw)
		}
	case v.Kind() == reflect.Bool:
		read = readBool
	case v.Kind() == reflect.Int, v.Kind() == reflect.Int64:
		read = readInt
	}
	if read != nil {
		err := read(raw, v)
		if err == nil || structs.CodeOf(err) == structs.CodeInvalid {
			return err // the limit has a message of its own
		}
		if isSecret(field) {
			return structs.Invalid(field, shown(field, raw), "It can't be read.")
		}
		return structs.Invalid(field, Unquote(raw), "%v.", err)
	}
	switch v.Kind() {
	case reflect.Struct:
		if raw[0] != '{' {
			return wrongType(field, raw, "an object")
		}
		return shapeOf(field, v.Type()).object(field+".", raw, v)
	case reflect.Slice:
		return decodeSlice(field, raw, v)
	case reflect.Map:
		return decodeMap(field, raw, v)
	case reflect.String:
		if raw[0] != '"' {
			return wrongType(field, raw, "a string")
		}
		v.SetString(Unquote(raw))
	default:
		return fmt.Errorf("field %s of type %v has no decoder", field, v.Type())
	}
	return nil
}

// innerFields caches the jsonFields of structs inside bodies, by type.
var innerFields sync.Map

// shapeOf returns the shape of a struct inside a body.
func shapeOf(name string, t reflect.Type) *Shape {
	fields, ok := innerFields.Load(t)
	if !ok {
		fields, _ = innerFields.LoadOrStore(t, jsonFields(t))
	}
	return &Shape{name: name, fields: fields.(map[string][]int)}
}

func decodeSlice(field string, raw json.RawMessage, v reflect.Value) error {
	if raw[0] != '[' {
		return wrongType(field, raw, "a list")
	}
	items := items(raw)
	v.Set(reflect.MakeSlice(v.Type(), len(items), len(items)))
	for i, item := range items {
		if string(item) == "null" {
			return wrongType(fmt.Sprintf("%s[%d]", field, i), item, "a value")
		}
		if err := decodeValue(fmt.Sprintf("%s[%d]", field, i), item, v.Index(i)); err != nil {
			return err
		}
	}
	return nil
}

func decodeMap(field string, raw json.RawMessage, v reflect.Value) error {
	if v.Type() != stringMap {
		return fmt.Errorf("field %s of type %v has no decoder", field, v.Type())
	}
	if raw[0] != '{' {
		return wrongType(field, raw, "an object of strings")
	}
	m := make(map[string]string)
	v.Set(reflect.ValueOf(m))
	return eachMember(field+".", raw, func(name string, value json.RawMessage) error {
		if value[0] != '"' {
			return wrongType(field+"."+name, value, "a string")
		}
		m[name] = Unquote(value)
		return nil
	})
}

func wrongType(field string, raw json.RawMessage, want string) error {
	return structs.Invalid(field, shown(field, raw), "Wrong type. Expected %s, got %s.", want, kindOf(raw))
}

// secretFields holds the secret fields of requests, by their JSON names.
var secretFields = jsonFields(reflect.TypeFor[structs.Secrets]())

// isSecret reports whether the field is a secret or a part of one.
func isSecret(field string) bool {
	name, _, _ := strings.Cut(field, ".")
	name, _, _ = strings.Cut(name, "[")
	return secretFields[name] != nil
}

// shown returns a refused value for the message. Secrets are masked.
func shown(field string, raw json.RawMessage) string {
	if isSecret(field) {
		return "***"
	}
	return Unquote(raw)
}

// kindOf names the kind of a JSON value.
func kindOf(raw []byte) string {
	switch raw[0] {
	case '"':
		return "a string"
	case '{':
		return "an object"
	case '[':
		return "a list"
	case 't', 'f':
		return "true or false"
	case 'n':
		return "null"
	}
	return "a number"
}

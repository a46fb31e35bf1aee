// Package msgpack writes values as go-msgpack does with sorted keys, but faster. Package
// state encodes rows with it. It knows nothing of rows.
package msgpack

import (
	"encoding/binary"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"sync"
	"time"
)

// plan is a compiled msgpack encoder for one type. It caches the field list that go-msgpack
// would look up by reflection for every value, and writes the same bytes as go-msgpack with
// the handle of package state, faster and without garbage: a create encodes its row twice, for the entry and for
// the row's hash. Plans are built by reflection, so a new field is included automatically.
// Rows are decoded by go-msgpack.
//
// Values must be addressable, such as what a pointer points to.
type plan struct {
	append func(b []byte, v reflect.Value) []byte
	empty  func(v reflect.Value) bool // whether a struct with omitempty leaves the value out
}

// field is a field of a struct.
type field struct {
	index []int
	key   []byte // its encoded name
	plan  *plan
	omit  bool // leave the field out if it is empty
}

// Append appends the encoding of the value, which must be addressable.
func Append(b []byte, v reflect.Value) []byte { return planOf(v.Type()).append(b, v) }

// Size returns how many bytes Append appends for a struct without its empty fields, and the
// name and the size of the largest field. buf is where fields are encoded; it is returned
// for the next call.
func Size(v reflect.Value, buf []byte) (size int, largest string, of int, used []byte) {
	fields, ok := structs.Load(v.Type())
	if !ok {
		fields, _ = structs.LoadOrStore(v.Type(), fieldsOf(v.Type()))
	}
	n := 0
	for _, f := range fields.([]field) {
		fv := f.of(v)
		if f.plan.empty(fv) {
			continue
		}
		buf = f.plan.append(buf[:0], fv)
		if len(buf) > of {
			largest, of = v.Type().FieldByIndex(f.index).Name, len(buf)
		}
		size += len(f.key) + len(buf)
		n++
	}
	var head [3]byte
	return size + len(appendLen(head[:0], n, 0x80, 16, 0, 0xde)), largest, of, buf
}

// structs contains the []field of each type that Size was asked for.
var structs sync.Map

// plans contains the *plan of each row type.
var plans sync.Map

// planOf returns the plan of a row type. It panics on a type that it can't encode: a
// mistake in package structs, which any test shows.
func planOf(t reflect.Type) *plan {
	p, ok := plans.Load(t)
	if !ok {
		p, _ = plans.LoadOrStore(t, newPlan(t))
	}
	return p.(*plan)
}

func newPlan(t reflect.Type) *plan {
	switch t {
	case reflect.TypeFor[time.Time]():
		return &plan{appendTime, func(v reflect.Value) bool { return v.Addr().Interface().(*time.Time).IsZero() }}
	case reflect.TypeFor[map[string]string]():
		return &plan{appendStringMap, func(v reflect.Value) bool { return v.Len() == 0 }}
	}
	switch t.Kind() {
	case reflect.String:
		return &plan{func(b []byte, v reflect.Value) []byte { return appendString(b, v.String()) }, reflect.Value.IsZero}
	case reflect.Bool:
		return &plan{appendBool, reflect.Value.IsZero}
	case reflect.Int, reflect.Int64:
		return &plan{func(b []byte, v reflect.Value) []byte { return appendInt(b, v.Int()) }, reflect.Value.IsZero}
	case reflect.Uint64:
		return &plan{func(b []byte, v reflect.Value) []byte { return appendUint(b, v.Uint()) }, reflect.Value.IsZero}
	case reflect.Pointer:
		elem := newPlan(t.Elem())
		return &plan{func(b []byte, v reflect.Value) []byte {
			if v.IsNil() {
				return append(b, 0xc0)
			}
			return elem.append(b, v.Elem())
		}, reflect.Value.IsNil}
	case reflect.Slice:
		if t.Elem().Kind() != reflect.Uint8 {
			return slicePlan(newPlan(t.Elem()))
		}
	case reflect.Struct:
		if _, ok := t.MethodByName("IsZero"); !ok {
			return structPlan(t)
		}
	}
	panic(fmt.Sprintf("msgpack: rows can't contain a %v", t))
}

func appendBool(b []byte, v reflect.Value) []byte {
	if v.Bool() {
		return append(b, 0xc3)
	}
	return append(b, 0xc2)
}

func slicePlan(elem *plan) *plan {
	return &plan{func(b []byte, v reflect.Value) []byte {
		if v.IsNil() {
			return append(b, 0xc0)
		}
		n := v.Len()
		b = appendLen(b, n, 0x90, 16, 0, 0xdc)
		for i := range n {
			b = elem.append(b, v.Index(i))
		}
		return b
	}, func(v reflect.Value) bool { return v.Len() == 0 }}
}

// maxFields bounds the fields of a struct, so that the set of fields to write fits in one
// word.
const maxFields = 64

func structPlan(t reflect.Type) *plan {
	fields := fieldsOf(t)
	p := &plan{empty: func(reflect.Value) bool { return false }}
	if t.Comparable() { // go-msgpack treats only comparable structs as empty
		p.empty = reflect.Value.IsZero
	}
	p.append = func(b []byte, v reflect.Value) []byte {
		var here uint64 // the fields to write, by number
		n := 0
		for i := range fields {
			if f := &fields[i]; !f.omit || !f.plan.empty(f.of(v)) {
				here |= 1 << i
				n++
			}
		}
		b = appendLen(b, n, 0x80, 16, 0, 0xde)
		for i := range fields {
			if here&(1<<i) != 0 {
				f := &fields[i]
				b = f.plan.append(append(b, f.key...), f.of(v))
			}
		}
		return b
	}
	return p
}

func (f *field) of(v reflect.Value) reflect.Value {
	for _, i := range f.index {
		v = v.Field(i)
	}
	return v
}

// fieldsOf returns the fields in the order in which they are written, which is by name.
func fieldsOf(t reflect.Type) []field {
	_, options, _ := structTag(t, "_struct")
	omitAll := strings.Contains(options, "omitempty")
	var fields []field
	for _, f := range reflect.VisibleFields(t) {
		name, options, tagged := structTag(t, f.Name)
		if !f.IsExported() || f.Anonymous || name == "-" && tagged {
			continue
		}
		if name == "" {
			name = f.Name
		}
		fields = append(fields, field{f.Index, appendString(nil, name), newPlan(f.Type), omitAll || strings.Contains(options, "omitempty")})
	}
	slices.SortFunc(fields, func(a, b field) int { return strings.Compare(string(a.key[1:]), string(b.key[1:])) })
	for i := range fields {
		if i > 0 && string(fields[i].key) == string(fields[i-1].key) || i >= maxFields || len(fields[i].key) > 32 {
			panic(fmt.Sprintf("msgpack: field %s of %v is duplicate, exceeds the number of fields, or has too long a name",
				fields[i].key[1:], t))
		}
	}
	return fields
}

// structTag returns what go-msgpack reads from a field's tags.
func structTag(t reflect.Type, name string) (encoded, options string, tagged bool) {
	f, _ := t.FieldByName(name)
	tag := f.Tag.Get("codec")
	if tag == "" {
		tag = f.Tag.Get("json")
	}
	encoded, options, _ = strings.Cut(tag, ",")
	return encoded, options, tag != ""
}

// appendLen appends the head of a string, array or map. A length below fixed is in the
// first byte. A longer one follows code8 (0 if there is none), code16, or the code after
// code16.
func appendLen(b []byte, n int, fix byte, fixed int, code8, code16 byte) []byte {
	switch {
	case n < fixed:
		return append(b, fix|byte(n))
	case n < 1<<8 && code8 != 0:
		return append(b, code8, byte(n))
	case n < 1<<16:
		return binary.BigEndian.AppendUint16(append(b, code16), uint16(n))
	}
	return binary.BigEndian.AppendUint32(append(b, code16+1), uint32(n))
}

func appendString(b []byte, s string) []byte {
	return append(appendLen(b, len(s), 0xa0, 32, 0xd9, 0xda), s...)
}

func appendStringMap(b []byte, v reflect.Value) []byte {
	m := *v.Addr().Interface().(*map[string]string)
	if m == nil {
		return append(b, 0xc0)
	}
	keys := make([]string, 0, 16) // on the stack for up to 16 keys
	for key := range m {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	b = appendLen(b, len(keys), 0x80, 16, 0, 0xde)
	for _, key := range keys {
		b = appendString(appendString(b, key), m[key])
	}
	return b
}

func appendInt(b []byte, n int64) []byte {
	switch {
	case n >= -32 && n < 1<<7:
		return append(b, byte(n))
	case n >= -1<<7 && n < 0:
		return append(b, 0xd0, byte(n))
	case n >= -1<<15 && n < 1<<15:
		return binary.BigEndian.AppendUint16(append(b, 0xd1), uint16(n))
	case n >= -1<<31 && n < 1<<31:
		return binary.BigEndian.AppendUint32(append(b, 0xd2), uint32(n))
	}
	return binary.BigEndian.AppendUint64(append(b, 0xd3), uint64(n))
}

func appendUint(b []byte, n uint64) []byte {
	switch {
	case n < 1<<7:
		return append(b, byte(n))
	case n < 1<<8:
		return append(b, 0xcc, byte(n))
	case n < 1<<16:
		return binary.BigEndian.AppendUint16(append(b, 0xcd), uint16(n))
	case n < 1<<32:
		return binary.BigEndian.AppendUint32(append(b, 0xce), uint32(n))
	}
	return binary.BigEndian.AppendUint64(append(b, 0xcf), n)
}

// appendTime writes msgpack's extension for times, in the shortest of its three forms.
func appendTime(b []byte, v reflect.Value) []byte {
	t := v.Addr().Interface().(*time.Time)
	if t.IsZero() {
		return append(b, 0xc0)
	}
	const tag = 0xff
	sec, nsec := t.Unix(), uint64(t.Nanosecond())
	switch {
	case sec < 0 || sec >= 1<<34:
		b = binary.BigEndian.AppendUint32(append(b, 0xc7, 12, tag), uint32(nsec))
		return binary.BigEndian.AppendUint64(b, uint64(sec))
	case nsec != 0 || sec >= 1<<32:
		return binary.BigEndian.AppendUint64(append(b, 0xd7, tag), nsec<<34|uint64(sec))
	}
	return binary.BigEndian.AppendUint32(append(b, 0xd6, tag), uint32(sec))
}

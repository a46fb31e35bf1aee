// Package msgpack writes values as go-msgpack does with sorted keys, and reads what it has
// written, but faster. Package state encodes and decodes rows with it. It knows nothing of
// rows.
package msgpack

import (
	"encoding/binary"
	"fmt"
	"math/bits"
	"reflect"
	"slices"
	"strings"
	"sync"
	"time"
	"unsafe"
)

// plan is a compiled msgpack encoder and decoder for one type. It caches the field list that
// go-msgpack would look up by reflection for every value, and writes the same bytes as
// go-msgpack with the handle of package state, faster and without garbage: a create encodes
// its row for the size, for the entry, and again for the check of the entry. Plans are built
// by reflection, so a new field is included automatically.
//
// A plan reaches values through pointers: a row has dozens of fields, most of them empty, and
// reflection takes longer to reach a field than to encode it. Each pointer is to a value of
// the plan's type, because the plans of a type's parts are built from its fields.
type plan struct {
	append func(b []byte, v unsafe.Pointer) []byte
	empty  func(v unsafe.Pointer) bool // whether a struct with omitempty leaves the value out
	read   readFunc
}

// readFunc reads a value from the start of b into v, which is zero. It returns what follows,
// and false if go-msgpack has to read the value: see Decoder.Decode.
type readFunc func(k *known, b []byte, v unsafe.Pointer) (rest []byte, ok bool)

// field is a field of a struct.
type field struct {
	name   string // in Go
	offset uintptr
	key    []byte // its encoded name
	plan   *plan
	omit   bool // leave the field out if it is empty
}

// Append appends the encoding of the value, which must be addressable, such as what a
// pointer points to.
func Append(b []byte, v reflect.Value) []byte {
	return planOf(v.Type()).append(b, v.Addr().UnsafePointer())
}

// Size returns how many bytes Append appends for a struct without its empty fields, and the
// name and the size of the largest field. buf is where fields are encoded; it is returned
// for the next call.
func Size(v reflect.Value, buf []byte) (size int, largest string, of int, used []byte) {
	fields, ok := structs.Load(v.Type())
	if !ok {
		fields, _ = structs.LoadOrStore(v.Type(), fieldsOf(v.Type()))
	}
	n, at := 0, v.Addr().UnsafePointer()
	for _, f := range fields.([]field) {
		fv := unsafe.Add(at, f.offset)
		if f.plan.empty(fv) {
			continue
		}
		buf = f.plan.append(buf[:0], fv)
		if len(buf) > of {
			largest, of = f.name, len(buf)
		}
		size += len(f.key) + len(buf)
		n++
	}
	var head [3]byte
	return size + len(appendLen(head[:0], n, 0x80, 16, 0, 0xde)), largest, of, buf
}

// Identical reports whether two values are the same in memory, as those of a row and of its
// copy are: then they are equal. Otherwise they may be equal too.
func Identical[T any](a, b *T) bool {
	size := unsafe.Sizeof(*a)
	return string(unsafe.Slice((*byte)(unsafe.Pointer(a)), size)) == string(unsafe.Slice((*byte)(unsafe.Pointer(b)), size))
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
		return &plan{appendTime, func(v unsafe.Pointer) bool { return (*time.Time)(v).IsZero() }, readTime}
	case reflect.TypeFor[map[string]string]():
		return &plan{appendStringMap, func(v unsafe.Pointer) bool { return len(*(*map[string]string)(v)) == 0 }, readStringMap}
	}
	switch t.Kind() {
	case reflect.String:
		return &plan{func(b []byte, v unsafe.Pointer) []byte { return appendString(b, *(*string)(v)) }, isZero[string], readString}
	case reflect.Bool:
		return &plan{appendBool, isZero[bool], readBool}
	case reflect.Int:
		return &plan{func(b []byte, v unsafe.Pointer) []byte { return appendInt(b, int64(*(*int)(v))) }, isZero[int], readInt}
	case reflect.Int64:
		return &plan{func(b []byte, v unsafe.Pointer) []byte { return appendInt(b, *(*int64)(v)) }, isZero[int64], readInt64}
	case reflect.Uint64:
		return &plan{func(b []byte, v unsafe.Pointer) []byte { return appendUint(b, *(*uint64)(v)) }, isZero[uint64], readUint64}
	case reflect.Pointer:
		elem := newPlan(t.Elem())
		return &plan{func(b []byte, v unsafe.Pointer) []byte {
			p := *(*unsafe.Pointer)(v)
			if p == nil {
				return append(b, 0xc0)
			}
			return elem.append(b, p)
		}, isZero[unsafe.Pointer], pointerReader(t.Elem(), elem)}
	case reflect.Slice:
		if t.Elem().Kind() != reflect.Uint8 {
			return slicePlan(t, newPlan(t.Elem()))
		}
	case reflect.Struct:
		if _, ok := t.MethodByName("IsZero"); !ok {
			return structPlan(t)
		}
	}
	panic(fmt.Sprintf("msgpack: rows can't contain a %v", t))
}

// isZero reports whether the value is zero. T has the layout of the plan's type.
func isZero[T comparable](v unsafe.Pointer) bool {
	var zero T
	return *(*T)(v) == zero
}

func appendBool(b []byte, v unsafe.Pointer) []byte {
	if *(*bool)(v) {
		return append(b, 0xc3)
	}
	return append(b, 0xc2)
}

func slicePlan(t reflect.Type, elem *plan) *plan {
	size := t.Elem().Size()
	// Length and first element of a slice are the same for all types of elements.
	return &plan{func(b []byte, v unsafe.Pointer) []byte {
		s := *(*[]struct{})(v)
		if s == nil {
			return append(b, 0xc0)
		}
		b = appendLen(b, len(s), 0x90, 16, 0, 0xdc)
		first := unsafe.Pointer(unsafe.SliceData(s))
		for i := range len(s) {
			b = elem.append(b, unsafe.Add(first, uintptr(i)*size))
		}
		return b
	}, func(v unsafe.Pointer) bool { return len(*(*[]struct{})(v)) == 0 }, sliceReader(t, elem)}
}

// maxFields bounds the fields of a struct, so that the set of fields to write fits in one
// word.
const maxFields = 64

func structPlan(t reflect.Type) *plan {
	fields := fieldsOf(t)
	p := &plan{empty: func(unsafe.Pointer) bool { return false }, read: structReader(fields)}
	if t.Comparable() { // go-msgpack treats only comparable structs as empty
		p.empty = func(v unsafe.Pointer) bool { return reflect.NewAt(t, v).Elem().IsZero() }
	}
	p.append = func(b []byte, v unsafe.Pointer) []byte {
		var here uint64 // the fields to write, by number
		n := 0
		for i := range fields {
			if f := &fields[i]; !f.omit || !f.plan.empty(unsafe.Add(v, f.offset)) {
				here |= 1 << i
				n++
			}
		}
		b = appendLen(b, n, 0x80, 16, 0, 0xde)
		for ; here != 0; here &= here - 1 {
			f := &fields[bits.TrailingZeros64(here)]
			b = f.plan.append(append(b, f.key...), unsafe.Add(v, f.offset))
		}
		return b
	}
	return p
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
		fields = append(fields, field{f.Name, offsetOf(t, f.Index), appendString(nil, name), newPlan(f.Type),
			omitAll || strings.Contains(options, "omitempty")})
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

// offsetOf returns where in a struct the field is to which the path of indexes leads. It
// panics if an embedded pointer is on the path.
func offsetOf(t reflect.Type, path []int) (offset uintptr) {
	for _, i := range path {
		f := t.Field(i)
		offset, t = offset+f.Offset, f.Type
	}
	return offset
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

func appendStringMap(b []byte, v unsafe.Pointer) []byte {
	m := *(*map[string]string)(v)
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

// timeTag is the type of the extension for times.
const timeTag = 0xff

// appendTime writes msgpack's extension for times, in the shortest of its three forms.
func appendTime(b []byte, v unsafe.Pointer) []byte {
	t := (*time.Time)(v)
	if t.IsZero() {
		return append(b, 0xc0)
	}
	sec, nsec := t.Unix(), uint64(t.Nanosecond())
	switch {
	case sec < 0 || sec >= 1<<34:
		b = binary.BigEndian.AppendUint32(append(b, 0xc7, 12, timeTag), uint32(nsec))
		return binary.BigEndian.AppendUint64(b, uint64(sec))
	case nsec != 0 || sec >= 1<<32:
		return binary.BigEndian.AppendUint64(append(b, 0xd7, timeTag), nsec<<34|uint64(sec))
	}
	return binary.BigEndian.AppendUint32(append(b, 0xd6, timeTag), uint32(sec))
}

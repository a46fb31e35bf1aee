package msgpack

import (
	"bytes"
	"encoding/binary"
	"hash/maphash"
	"reflect"
	"time"
	"unsafe"
)

// Decoder reads what Append has written. It shares equal strings and maps between the
// values that it decodes: a create of a row like the last ones makes little garbage, and
// leaves little for the collector to look at. So the maps must not be modified. The zero
// value is ready. It must be used by one goroutine.
type Decoder struct {
	known *known // nil until it is needed
}

// known are the last strings and maps, by their hashes. Those with equal hashes replace each
// other.
type known struct {
	seed    maphash.Seed
	strings [512]string
	maps    [64]knownMap
}

type knownMap struct {
	encoded string
	value   map[string]string
}

// The longest encodings that are shared, in bytes. They bound what a Decoder keeps.
const (
	sharedString = 128
	sharedMap    = 512
)

// mostElements bounds the elements of a slice, which is allocated before they are read.
const mostElements = 1024

// Decode decodes b into a zero value, which must be addressable. It returns false if b is
// not in the form that Append writes, or if it is damaged. The value is then undefined:
// the caller decodes b with go-msgpack into another one. If Decode returns true, go-msgpack
// would have decoded an equal value.
func (d *Decoder) Decode(b []byte, v reflect.Value) bool {
	if d.known == nil {
		d.known = &known{seed: maphash.MakeSeed()}
	}
	rest, ok := planOf(v.Type()).read(d.known, b, v.Addr().UnsafePointer())
	return ok && len(rest) == 0
}

// readHead reads the head of a string, array or map as appendLen writes it.
func readHead(b []byte, fix byte, fixed int, code8, code16 byte) (n int, rest []byte, ok bool) {
	if len(b) == 0 {
		return 0, nil, false
	}
	switch c := b[0]; {
	case c >= fix && c < fix+byte(fixed):
		return int(c - fix), b[1:], true
	case c == code8 && code8 != 0 && len(b) >= 2:
		return int(b[1]), b[2:], true
	case c == code16 && len(b) >= 3:
		return int(binary.BigEndian.Uint16(b[1:])), b[3:], true
	case c == code16+1 && len(b) >= 5:
		return int(binary.BigEndian.Uint32(b[1:])), b[5:], true
	}
	return 0, nil, false
}

// cutString splits b after its first value, a string.
func cutString(b []byte) (s, rest []byte, ok bool) {
	n, rest, ok := readHead(b, 0xa0, 32, 0xd9, 0xda)
	if !ok || n > len(rest) {
		return nil, nil, false
	}
	return rest[:n], rest[n:], true
}

// text returns b as a string.
func (k *known) text(b []byte) string {
	if len(b) == 0 || len(b) > sharedString {
		return string(b)
	}
	s := &k.strings[maphash.Bytes(k.seed, b)%uint64(len(k.strings))]
	if *s != string(b) {
		*s = string(b)
	}
	return *s
}

func readString(k *known, b []byte, v unsafe.Pointer) ([]byte, bool) {
	s, rest, ok := cutString(b)
	if ok {
		*(*string)(v) = k.text(s)
	}
	return rest, ok
}

// readNil reads a nil, which is the zero value of every type that can have it.
func readNil(b []byte) (rest []byte, ok bool) {
	if len(b) > 0 && b[0] == 0xc0 {
		return b[1:], true
	}
	return nil, false
}

func readStringMap(k *known, b []byte, v unsafe.Pointer) ([]byte, bool) {
	n, pairs, ok := readHead(b, 0x80, 16, 0, 0xde)
	if !ok {
		return readNil(b)
	}
	if n > len(pairs) {
		return nil, false
	}
	rest := pairs
	for range 2 * n {
		if _, rest, ok = cutString(rest); !ok {
			return nil, false
		}
	}
	encoded := b[:len(b)-len(rest)]
	var shared *knownMap
	if len(encoded) <= sharedMap {
		shared = &k.maps[maphash.Bytes(k.seed, encoded)%uint64(len(k.maps))]
		if shared.encoded == string(encoded) {
			*(*map[string]string)(v) = shared.value
			return rest, true
		}
	}
	m := make(map[string]string, n)
	for range n {
		var key, value []byte
		key, pairs, _ = cutString(pairs)
		value, pairs, _ = cutString(pairs)
		m[k.text(key)] = k.text(value)
	}
	if shared != nil {
		*shared = knownMap{string(encoded), m}
	}
	*(*map[string]string)(v) = m
	return rest, true
}

func readBool(_ *known, b []byte, v unsafe.Pointer) ([]byte, bool) {
	if len(b) == 0 || b[0] != 0xc2 && b[0] != 0xc3 {
		return nil, false
	}
	*(*bool)(v) = b[0] == 0xc3
	return b[1:], true
}

// cutInt splits b after its first value, an integer as appendInt writes it.
func cutInt(b []byte) (n int64, rest []byte, ok bool) {
	if len(b) == 0 {
		return 0, nil, false
	}
	c, rest := b[0], b[1:]
	switch {
	case c < 0x80 || c >= 0xe0:
		return int64(int8(c)), rest, true
	case c == 0xd0 && len(rest) >= 1:
		return int64(int8(rest[0])), rest[1:], true
	case c == 0xd1 && len(rest) >= 2:
		return int64(int16(binary.BigEndian.Uint16(rest))), rest[2:], true
	case c == 0xd2 && len(rest) >= 4:
		return int64(int32(binary.BigEndian.Uint32(rest))), rest[4:], true
	case c == 0xd3 && len(rest) >= 8:
		return int64(binary.BigEndian.Uint64(rest)), rest[8:], true
	}
	return 0, nil, false
}

func readInt(_ *known, b []byte, v unsafe.Pointer) ([]byte, bool) {
	n, rest, ok := cutInt(b)
	*(*int)(v) = int(n)
	return rest, ok
}

func readInt64(_ *known, b []byte, v unsafe.Pointer) ([]byte, bool) {
	n, rest, ok := cutInt(b)
	*(*int64)(v) = n
	return rest, ok
}

func readUint64(_ *known, b []byte, v unsafe.Pointer) ([]byte, bool) {
	if len(b) == 0 {
		return nil, false
	}
	n := (*uint64)(v)
	c, rest := b[0], b[1:]
	switch {
	case c < 0x80:
		*n = uint64(c)
		return rest, true
	case c == 0xcc && len(rest) >= 1:
		*n = uint64(rest[0])
		return rest[1:], true
	case c == 0xcd && len(rest) >= 2:
		*n = uint64(binary.BigEndian.Uint16(rest))
		return rest[2:], true
	case c == 0xce && len(rest) >= 4:
		*n = uint64(binary.BigEndian.Uint32(rest))
		return rest[4:], true
	case c == 0xcf && len(rest) >= 8:
		*n = binary.BigEndian.Uint64(rest)
		return rest[8:], true
	}
	return nil, false
}

// readTime reads the extension that appendTime writes.
func readTime(_ *known, b []byte, v unsafe.Pointer) ([]byte, bool) {
	var sec, nsec uint64
	switch {
	case len(b) >= 6 && b[0] == 0xd6 && b[1] == timeTag:
		sec, b = uint64(binary.BigEndian.Uint32(b[2:])), b[6:]
	case len(b) >= 10 && b[0] == 0xd7 && b[1] == timeTag:
		n := binary.BigEndian.Uint64(b[2:])
		sec, nsec, b = n&(1<<34-1), n>>34, b[10:]
	case len(b) >= 15 && b[0] == 0xc7 && b[1] == 12 && b[2] == timeTag:
		sec, nsec, b = binary.BigEndian.Uint64(b[7:]), uint64(binary.BigEndian.Uint32(b[3:])), b[15:]
	default:
		return readNil(b)
	}
	*(*time.Time)(v) = time.Unix(int64(sec), int64(nsec)).UTC()
	return b, true
}

// pointerReader returns the read function of a pointer to a value of type elem.
func pointerReader(elem reflect.Type, p *plan) readFunc {
	return func(k *known, b []byte, v unsafe.Pointer) ([]byte, bool) {
		if rest, ok := readNil(b); ok {
			return rest, true
		}
		to := reflect.New(elem).UnsafePointer()
		*(*unsafe.Pointer)(v) = to
		return p.read(k, b, to)
	}
}

// sliceReader returns the read function of a slice of type t.
func sliceReader(t reflect.Type, elem *plan) readFunc {
	size := t.Elem().Size()
	return func(k *known, b []byte, v unsafe.Pointer) ([]byte, bool) {
		n, rest, ok := readHead(b, 0x90, 16, 0, 0xdc)
		if !ok {
			return readNil(b)
		}
		if n > len(rest) || n > mostElements {
			return nil, false
		}
		s := reflect.MakeSlice(t, n, n)
		reflect.NewAt(t, v).Elem().Set(s)
		at := s.UnsafePointer()
		for i := range n {
			if rest, ok = elem.read(k, rest, unsafe.Add(at, uintptr(i)*size)); !ok {
				return nil, false
			}
		}
		return rest, true
	}
}

// structReader returns the read function of a struct, whose fields come by name.
func structReader(fields []field) readFunc {
	return func(k *known, b []byte, v unsafe.Pointer) ([]byte, bool) {
		n, rest, ok := readHead(b, 0x80, 16, 0, 0xde)
		if !ok {
			return nil, false
		}
		next := 0
		for range n {
			for next < len(fields) && !bytes.HasPrefix(rest, fields[next].key) {
				next++
			}
			if next == len(fields) {
				return nil, false // unknown, or not in order
			}
			f := &fields[next]
			if rest, ok = f.plan.read(k, rest[len(f.key):], unsafe.Add(v, f.offset)); !ok {
				return nil, false
			}
			next++
		}
		return rest, true
	}
}

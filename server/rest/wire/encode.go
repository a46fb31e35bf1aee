package wire

import (
	"bytes"
	"encoding/json"
	"fmt"
	"sync"
)

// Encoder writes JSON as encoding/json does, without escapes for HTML, into a reused
// buffer.
type Encoder struct {
	Buf  bytes.Buffer // the output; callers may append to it
	json *json.Encoder
}

// leastRoom is the free space in bytes that a body starts with. Most bodies fit.
const leastRoom = 2 << 10

// maxKept is the size in bytes of the largest buffer that is reused.
const maxKept = 256 << 10

var encoders = sync.Pool{New: func() any {
	e := new(Encoder)
	e.json = json.NewEncoder(&e.Buf)
	e.json.SetEscapeHTML(false)
	return e
}}

// NewEncoder returns an empty Encoder. The caller returns it with Free.
func NewEncoder() *Encoder {
	e := encoders.Get().(*Encoder)
	e.Buf.Reset()
	return e
}

// Free returns the encoder for reuse. Neither the encoder nor the bytes of Buf may be
// used afterwards.
func (e *Encoder) Free() {
	if e.Buf.Cap() <= maxKept {
		encoders.Put(e)
	}
}

// Value appends the JSON of v. It fails for a value without a JSON form, such as NaN.
func (e *Encoder) Value(v any) error {
	e.Buf.Grow(leastRoom)
	if err := e.json.Encode(v); err != nil {
		return fmt.Errorf("encode %T: %w", v, err)
	}
	e.Buf.Truncate(e.Buf.Len() - 1) // Encode ends with a newline
	return nil
}

// AppendText appends s as a JSON string.
func AppendText(b []byte, s string) []byte {
	for i := range len(s) {
		if !plain[s[i]] {
			e := NewEncoder()
			defer e.Free()
			if err := e.Value(s); err != nil {
				panic(err) // strings always encode
			}
			return append(b, e.Buf.Bytes()...)
		}
	}
	return append(append(append(b, '"'), s...), '"')
}

// plain holds the bytes that need no escape in a JSON string.
var plain = func() (table [256]bool) {
	for c := ' '; c <= '~'; c++ {
		table[c] = c != '"' && c != '\\'
	}
	return table
}()

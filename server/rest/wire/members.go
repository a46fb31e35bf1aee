package wire

import (
	"bytes"
	"encoding/json"
	"slices"
	"unicode/utf8"

	"github.com/stackforge/magnum/structs"
)

// The functions of this file split JSON that checkJSON has found valid, so they don't
// check its syntax. encoding/json would parse and copy each level of a body again.

// eachMember calls visit for each member of a JSON object. It refuses a repeated
// member with CodeInvalid.
func eachMember(prefix string, raw []byte, visit func(name string, value json.RawMessage) error) error {
	var seen names
	for rest := skipSpace(raw[1:]); rest[0] != '}'; {
		var quoted, value []byte
		quoted, rest = cutValue(rest)
		value, rest = cutValue(skipSpace(skipSpace(rest)[1:])) // after the colon
		if rest = skipSpace(rest); rest[0] == ',' {
			rest = skipSpace(rest[1:])
		}
		name := Unquote(quoted)
		if !seen.add(name) {
			return structs.Errorf(structs.CodeInvalid, "The attribute %s is given twice.", structs.Shorten(prefix+name))
		}
		if err := visit(name, value); err != nil {
			return err
		}
	}
	return nil
}

// names is a set of names. The first ones, all of most objects, need no map.
type names struct {
	first [16]string
	n     int // of first
	more  map[string]bool
}

// add adds the name. It returns false if it is there.
func (s *names) add(name string) bool {
	if slices.Contains(s.first[:s.n], name) || s.more[name] {
		return false
	}
	if s.n < len(s.first) {
		s.first[s.n] = name
		s.n++
		return true
	}
	if s.more == nil {
		s.more = make(map[string]bool)
	}
	s.more[name] = true
	return true
}

// items returns the items of a JSON array.
func items(raw []byte) []json.RawMessage {
	var out []json.RawMessage
	for rest := skipSpace(raw[1:]); rest[0] != ']'; {
		var item []byte
		item, rest = cutValue(rest)
		out = append(out, item)
		if rest = skipSpace(rest); rest[0] == ',' {
			rest = skipSpace(rest[1:])
		}
	}
	return out
}

// cutValue splits b after its first value.
func cutValue(b []byte) (value, rest []byte) {
	n := valueLen(b)
	return b[:n], b[n:]
}

func valueLen(b []byte) int {
	switch b[0] {
	case '"':
		return stringLen(b)
	case '{', '[':
		depth := 0
		for i := 0; ; i++ {
			switch b[i] {
			case '"':
				i += stringLen(b[i:]) - 1
			case '{', '[':
				depth++
			case '}', ']':
				if depth--; depth == 0 {
					return i + 1
				}
			}
		}
	}
	if n := bytes.IndexAny(b, ",]} \t\r\n"); n >= 0 {
		return n
	}
	return len(b)
}

// stringLen returns the length of the string at the start of b, including its quotes.
func stringLen(b []byte) int {
	for i := 1; ; i++ {
		switch b[i] {
		case '\\':
			i++
		case '"':
			return i + 1
		}
	}
}

// skipSpace returns b without white space at its start. Most bodies have none.
func skipSpace(b []byte) []byte {
	for i, c := range b {
		if c > ' ' || c != ' ' && c != '\t' && c != '\r' && c != '\n' {
			return b[i:]
		}
	}
	return nil
}

// Unquote returns the text of a JSON string, and any other value unchanged.
func Unquote(raw json.RawMessage) string {
	if raw[0] != '"' {
		return string(raw)
	}
	if plain := raw[1 : len(raw)-1]; bytes.IndexByte(plain, '\\') < 0 && utf8.Valid(plain) {
		return string(plain)
	}
	var s string
	if json.Unmarshal(raw, &s) != nil {
		return string(raw)
	}
	return s
}

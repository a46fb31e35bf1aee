package audit

import (
	"strconv"
	"unicode/utf8"
)

// MaxLine is the limit of a line in bytes, its newline included.
const MaxLine = 8 << 10

// The limits of values. A line that is too long is encoded again with the next one. Each
// byte of a value takes at most six bytes of a line.
var maxValues = []int{256, 64, 16}

// maxTexts is how many texts of a list a line has.
const maxTexts = 16

// cutMark ends a value that was cut.
const cutMark = "…[cut]"

// cut returns text in at most most bytes and the mark.
func cut(text string, most int) string {
	if len(text) <= most {
		return text
	}
	for most > 0 && !utf8.RuneStart(text[most]) {
		most--
	}
	return text[:most] + cutMark
}

// writer writes JSON with bounded texts. It is several times faster than encoding/json,
// which would take most of the time that a line may cost.
type writer struct {
	b    []byte
	most int // limit of a text, in bytes
}

// key begins a member of an object, or with "" an element of a list.
func (w *writer) key(name string) {
	if n := len(w.b); n > 0 && w.b[n-1] != '{' && w.b[n-1] != '[' {
		w.b = append(w.b, ',')
	}
	if name != "" {
		w.b = append(append(append(w.b, '"'), name...), '"', ':')
	}
}

// begin begins an object or a list.
func (w *writer) begin(name string, bracket byte) {
	w.key(name)
	w.b = append(w.b, bracket)
}

func (w *writer) end(bracket byte) { w.b = append(w.b, bracket) }

func (w *writer) text(name, text string) {
	w.key(name)
	w.quote(cut(text, w.most))
}

// option writes a text that isn't empty.
func (w *writer) option(name, text string) {
	if text != "" {
		w.text(name, text)
	}
}

func (w *writer) number(name string, n int) {
	w.key(name)
	w.b = strconv.AppendInt(w.b, int64(n), 10)
}

// texts writes a list, at most maxTexts of it.
func (w *writer) texts(name string, list []string) {
	w.begin(name, '[')
	for i, text := range list {
		if i == min(maxTexts, w.most) {
			w.text("", cutMark)
			break
		}
		w.text("", text)
	}
	w.end(']')
}

// attachment writes an attachment of CADF, whose content is an object.
func (w *writer) attachment(name string, content func()) {
	w.begin("", '{')
	w.text("name", name)
	w.text("typeURI", "application/json")
	w.begin("content", '{')
	content()
	w.end('}')
	w.end('}')
}

// quote writes a string of JSON. It escapes what JSON requires, and what some programs take
// for the end of a line. Bytes that aren't UTF-8 become U+FFFD.
func (w *writer) quote(s string) {
	const hex = "0123456789abcdef"
	b := append(w.b, '"')
	for i := 0; i < len(s); {
		c := s[i]
		switch {
		case c == '"' || c == '\\':
			b = append(b, '\\', c)
		case c < ' ' || c == 0x7f:
			b = append(b, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
		case c < utf8.RuneSelf:
			b = append(b, c)
		default:
			r, n := utf8.DecodeRuneInString(s[i:])
			if r >= 0x80 && r < 0xa0 || r == 0x2028 || r == 0x2029 {
				b = append(b, '\\', 'u', hex[r>>12], hex[r>>8&15], hex[r>>4&15], hex[r&15])
			} else {
				b = utf8.AppendRune(b, r)
			}
			i += n
			continue
		}
		i++
	}
	w.b = append(b, '"')
}

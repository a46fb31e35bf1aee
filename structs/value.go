package structs

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// Bytes is a number of bytes. 0 is null in JSON.
type Bytes int64

// MarshalJSON writes null for 0.
func (n Bytes) MarshalJSON() ([]byte, error) {
	if n == 0 {
		return null, nil
	}
	return strconv.AppendInt(nil, int64(n), 10), nil
}

// MilliCPU is processor time in thousandths of a core. In JSON it is a number of
// cores, and 0 is null.
type MilliCPU int64

// MarshalJSON writes cores.
func (n MilliCPU) MarshalJSON() ([]byte, error) {
	if n == 0 {
		return null, nil
	}
	return strconv.AppendFloat(nil, n.Cores(), 'f', -1, 64), nil
}

// UnmarshalJSON accepts a number of cores, and null as 0.
func (n *MilliCPU) UnmarshalJSON(b []byte) error {
	var cores float64
	if err := json.Unmarshal(b, &cores); err != nil {
		return err
	}
	var err error
	*n, err = CPUOf(cores)
	return err
}

// Cores returns n as a number of cores.
func (n MilliCPU) Cores() float64 { return float64(n) / 1000 }

// CPUOf returns a number of cores as MilliCPU. A number that is too large becomes
// 1<<62. CodeInvalid: the number rounds to 0 but is not 0.
func CPUOf(cores float64) (MilliCPU, error) {
	n := math.Round(cores * 1000)
	switch {
	case n == 0 && cores != 0:
		return 0, Errorf(CodeInvalid, "cpu %v is less than 0.001 of a core, the least that can be given", cores)
	case math.Abs(n) >= math.MaxInt64:
		return MilliCPU(math.Copysign(1<<62, n)), nil
	}
	return MilliCPU(n), nil
}

// Text is a string. "" is null in JSON.
type Text string

// MarshalJSON writes null for "". Like every MarshalJSON of this package, it doesn't
// escape < and >.
func (t Text) MarshalJSON() ([]byte, error) {
	if t == "" {
		return null, nil
	}
	return marshalText(string(t))
}

// Words is a program with its arguments, as a list. rest/wire also reads it from a
// string, which it splits with SplitCommand.
type Words []string

// null is the JSON null. It is shared and must not be written to: encoders copy what
// MarshalJSON returns.
var null = []byte("null")

// marshalText writes a string without escapes for HTML. An encoder can add such escapes
// later, but can't undo them.
func marshalText(s string) ([]byte, error) {
	if b := []byte(`"` + s + `"`); plainASCII(b[1 : len(b)-1]) {
		return b, nil
	}
	return marshalPlain(s)
}

// marshalPlain writes a value without escapes for HTML; see marshalText.
func marshalPlain(v any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}

// unitBits are the units of ParseBytes.
var unitBits = map[string]int{"": 0, "b": 0, "k": 10, "kb": 10, "kib": 10, "m": 20, "mb": 20, "mib": 20,
	"g": 30, "gb": 30, "gib": 30, "t": 40, "tb": 40, "tib": 40}

// ParseBytes reads a size such as "512m". Without a unit it is in bytes; the
// units b, k, m, g and t may be followed by "b" or "ib".
func ParseBytes(s string) (Bytes, error) {
	digits := strings.ToLower(strings.TrimSpace(s))
	number := strings.TrimRight(digits, "kmgtib")
	bits, ok := unitBits[digits[len(number):]]
	v, err := strconv.ParseFloat(strings.TrimSpace(number), 64)
	if !ok || err != nil || !(v >= 0) || v*float64(int64(1)<<bits) > 1<<60 {
		return 0, fmt.Errorf("%q is not a size: write bytes, or a number with k, m, g or t, such as 512m", s)
	}
	return Bytes(v * float64(int64(1)<<bits)), nil
}

// Command is a program with its arguments. In JSON it is an array, or a string
// that is split as a shell splits it, without expansions.
type Command struct {
	Args []string
	Text string // the string that Args was split from, "" if it was an array
}

// UnmarshalJSON accepts "echo hi", ["echo","hi"], and null as no command.
func (c *Command) UnmarshalJSON(b []byte) error {
	if string(b) == "null" {
		*c = Command{}
		return nil
	}
	if len(b) > 0 && b[0] == '[' {
		*c = Command{}
		if err := json.Unmarshal(b, &c.Args); err != nil {
			return fmt.Errorf("%s is not a list of strings", quoteJSON(b))
		}
		return nil
	}
	s, err := scalar(b)
	if err != nil {
		return fmt.Errorf("%s is neither a string nor a list of strings", quoteJSON(b))
	}
	args, err := SplitCommand(s)
	if err != nil {
		return err
	}
	*c = Command{Args: args, Text: s}
	return nil
}

// MarshalJSON writes Text if it is set, else Args. Nil Args are an empty list: rows
// don't distinguish the two, and some agents refuse null.
func (c Command) MarshalJSON() ([]byte, error) {
	if c.Text == "" && c.Args == nil {
		return []byte("[]"), nil
	}
	if c.Text != "" {
		return marshalText(c.Text)
	}
	return marshalPlain(c.Args)
}

// SplitCommand splits s into words as a POSIX shell does: white space separates words
// unless a backslash or quotes protect it. Nothing is expanded: $, `, |, ; and & are
// ordinary characters. It fails for a trailing backslash and an unclosed quote.
func SplitCommand(s string) ([]string, error) {
	var words []string
	var word strings.Builder
	inWord, quote := false, byte(0)
	for i := 0; i < len(s); i++ {
		c := s[i]
		switch {
		case quote == '\'':
			if c == '\'' {
				quote = 0
			} else {
				word.WriteByte(c)
			}
		case c == '\\':
			if i+1 == len(s) {
				return nil, fmt.Errorf("command %q ends with a backslash", s)
			}
			i++
			if quote == '"' && !strings.ContainsRune("\\\"$`\n", rune(s[i])) {
				word.WriteByte('\\')
			}
			if s[i] != '\n' {
				word.WriteByte(s[i])
				inWord = true
			}
		case quote == '"':
			if c == '"' {
				quote = 0
			} else {
				word.WriteByte(c)
			}
		case c == '\'' || c == '"':
			quote, inWord = c, true
		case c == ' ' || c == '\t' || c == '\n' || c == '\r':
			if inWord {
				words = append(words, word.String())
				word.Reset()
				inWord = false
			}
		default:
			word.WriteByte(c)
			inWord = true
		}
	}
	if quote != 0 {
		return nil, fmt.Errorf("command %q has an unclosed quote %c", s, quote)
	}
	if inWord {
		words = append(words, word.String())
	}
	return words, nil
}

// Time is a time as the API of 2015 writes it: 2015-04-20T19:06:08+00:00. The zero
// time is null.
type Time struct{ Time time.Time }

// TimeLayout is the layout of Time in UTC.
const TimeLayout = "2006-01-02T15:04:05+00:00"

// IsZero reports whether t is the zero time.
func (t Time) IsZero() bool { return t.Time.IsZero() }

// These are the methods of time.Time that programs most often use on times of the API.
// The field has the others.

// UTC returns t in UTC.
func (t Time) UTC() time.Time { return t.Time.UTC() }

// Unix returns the seconds since January 1, 1970 UTC.
func (t Time) Unix() int64 { return t.Time.Unix() }

// Equal reports whether t and u are the same instant, in any time zone.
func (t Time) Equal(u time.Time) bool { return t.Time.Equal(u) }

// Before reports whether t is before u.
func (t Time) Before(u time.Time) bool { return t.Time.Before(u) }

// After reports whether t is after u.
func (t Time) After(u time.Time) bool { return t.Time.After(u) }

// Sub returns the duration t-u.
func (t Time) Sub(u time.Time) time.Duration { return t.Time.Sub(u) }

// Format formats t in a layout of package time.
func (t Time) Format(layout string) string { return t.Time.Format(layout) }

// String formats t as time.Time does.
func (t Time) String() string { return t.Time.String() }

// MarshalJSON writes t in UTC and whole seconds.
func (t Time) MarshalJSON() ([]byte, error) {
	if t.IsZero() {
		return []byte("null"), nil
	}
	return []byte(`"` + t.UTC().Format(TimeLayout) + `"`), nil
}

// UnmarshalJSON accepts null and RFC 3339.
func (t *Time) UnmarshalJSON(b []byte) error {
	if string(b) == "null" {
		*t = Time{}
		return nil
	}
	return t.Time.UnmarshalJSON(b)
}

// scalar returns the text of a JSON string, number or boolean.
func scalar(b []byte) (string, error) {
	if len(b) == 0 {
		return "", fmt.Errorf("there is no value")
	}
	switch b[0] {
	case '"':
		// Most strings have no escapes. For these encoding/json would set up a
		// decoder and allocate.
		if s := b[1:max(1, len(b)-1)]; len(b) > 1 && b[len(b)-1] == '"' && plainASCII(s) {
			return string(s), nil
		}
		var s string
		err := json.Unmarshal(b, &s)
		return s, err
	case '{', '[', 'n':
		return "", fmt.Errorf("%s is not a single value", quoteJSON(b))
	}
	return string(b), nil
}

// plainASCII reports whether the text needs no escapes in a JSON string.
func plainASCII(b []byte) bool {
	for _, c := range b {
		if c < ' ' || c > '~' || c == '"' || c == '\\' {
			return false
		}
	}
	return true
}

// quoteJSON returns the start of a JSON value for an error message.
func quoteJSON(b []byte) string {
	const most = 60
	if len(b) > most {
		return strings.ToValidUTF8(string(b[:most]), "") + "..."
	}
	return string(b)
}

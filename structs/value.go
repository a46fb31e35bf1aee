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

// Int is a JSON integer that the 2015 client sends as a string.
type Int int

// UnmarshalJSON takes 2 and "2".
func (n *Int) UnmarshalJSON(b []byte) error {
	s, err := scalar(b)
	if err != nil {
		return err
	}
	v, err := strconv.Atoi(strings.TrimSpace(s))
	if err != nil {
		return fmt.Errorf("%s is not a whole number", quoteJSON(b))
	}
	*n = Int(v)
	return nil
}

// Float is a JSON number that clients may send as a string.
type Float float64

// UnmarshalJSON takes 0.5 and "0.5".
func (f *Float) UnmarshalJSON(b []byte) error {
	s, err := scalar(b)
	if err != nil {
		return err
	}
	v, err := strconv.ParseFloat(strings.TrimSpace(s), 64)
	if err != nil || math.IsNaN(v) || math.IsInf(v, 0) {
		return fmt.Errorf("%s is not a number", quoteJSON(b))
	}
	*f = Float(v)
	return nil
}

// Bool is a JSON boolean that clients may send as a string.
type Bool bool

// UnmarshalJSON takes true, "true" and "True" and their opposites.
func (v *Bool) UnmarshalJSON(b []byte) error {
	s, err := scalar(b)
	if err != nil {
		return err
	}
	switch strings.ToLower(s) {
	case "true":
		*v = true
	case "false":
		*v = false
	default:
		return fmt.Errorf("%s is not true or false", quoteJSON(b))
	}
	return nil
}

// Bytes is a number of bytes. In JSON it is a number, or a string with a unit
// of powers of 1024: "512m", "1.5g", "64k", "10b".
type Bytes int64

// UnmarshalJSON takes 536870912, "536870912" and "512m".
func (n *Bytes) UnmarshalJSON(b []byte) error {
	s, err := scalar(b)
	if err != nil {
		return err
	}
	v, err := ParseBytes(s)
	if err != nil {
		return err
	}
	*n = v
	return nil
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

// UnmarshalJSON takes "echo hi", ["echo","hi"], and null as nothing.
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

// MarshalJSON writes the text if there is one, else the arguments. No arguments
// are an empty list: rows don't tell it from nil, and there are agents that
// refuse null. It leaves < and > as they are: an encoder that escapes them for
// HTML does so itself, and one that doesn't can't undo it.
func (c Command) MarshalJSON() ([]byte, error) {
	if c.Text == "" && c.Args == nil {
		return []byte("[]"), nil
	}
	var v any = c.Args
	if c.Text != "" {
		v = c.Text
	}
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}

// SplitCommand splits s into words as a POSIX shell does: white space parts
// words; backslash, single and double quotes keep it. Nothing is expanded:
// $, `, |, ; and & stand for themselves.
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
		return nil, fmt.Errorf("command %q has a quote %c without its end", s, quote)
	}
	if inWord {
		words = append(words, word.String())
	}
	return words, nil
}

// Time is a moment as the 2015 API writes it: 2015-04-20T19:06:08+00:00. The
// zero time is null.
type Time struct{ Time time.Time }

// TimeLayout is the layout of Time in UTC.
const TimeLayout = "2006-01-02T15:04:05+00:00"

// IsZero reports whether there is no moment.
func (t Time) IsZero() bool { return t.Time.IsZero() }

// The methods of time.Time that programs use on moments of the API. The others are
// those of the field.

// UTC returns the moment in UTC.
func (t Time) UTC() time.Time { return t.Time.UTC() }

// Unix returns the seconds since 1970.
func (t Time) Unix() int64 { return t.Time.Unix() }

// Equal reports whether the moment is u, in whatever zone.
func (t Time) Equal(u time.Time) bool { return t.Time.Equal(u) }

// Before reports whether the moment is before u.
func (t Time) Before(u time.Time) bool { return t.Time.Before(u) }

// After reports whether the moment is after u.
func (t Time) After(u time.Time) bool { return t.Time.After(u) }

// Sub returns the time from u until the moment.
func (t Time) Sub(u time.Time) time.Duration { return t.Time.Sub(u) }

// Format writes the moment in a layout of package time.
func (t Time) Format(layout string) string { return t.Time.Format(layout) }

// String returns the moment as time.Time writes it.
func (t Time) String() string { return t.Time.String() }

// MarshalJSON writes the moment in UTC and whole seconds.
func (t Time) MarshalJSON() ([]byte, error) {
	if t.IsZero() {
		return []byte("null"), nil
	}
	return []byte(`"` + t.UTC().Format(TimeLayout) + `"`), nil
}

// UnmarshalJSON takes null and RFC 3339.
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
		// Most have no escapes in them; encoding/json would take the time and
		// garbage of a whole body for each.
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

// plainASCII reports whether JSON writes the text just so between quotes.
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

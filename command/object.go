package command

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/stackforge/magnum/structs"
)

// object is a JSON object that keeps the order of its fields: tables show the server's
// order, as the 2015 client did.
type object []field

// field is a field of an object.
type field struct {
	key string
	raw json.RawMessage
}

// parseObject parses a JSON object.
func parseObject(raw json.RawMessage) (object, error) {
	dec := json.NewDecoder(bytes.NewReader(raw))
	start, err := dec.Token()
	if err != nil {
		return nil, fmt.Errorf("decoding the response: %w", err)
	}
	if start != json.Delim('{') {
		return nil, fmt.Errorf("the response is not a JSON object but %v", start)
	}
	var o object
	for dec.More() {
		key, err := dec.Token()
		if err != nil {
			return nil, fmt.Errorf("decoding the response: %w", err)
		}
		f := field{key: key.(string)} // Token returns keys as strings
		if err := dec.Decode(&f.raw); err != nil {
			return nil, fmt.Errorf("decoding the response: %w", err)
		}
		o = append(o, f)
	}
	if _, err := dec.Token(); err != nil {
		return nil, fmt.Errorf("decoding the response: %w", err)
	}
	return o, nil
}

// get returns the value of a field, nil if there is none.
func (o object) get(key string) json.RawMessage {
	for _, f := range o {
		if f.key == key {
			return f.raw
		}
	}
	return nil
}

// text returns the text of a field in the table of an object.
func (o object) text(key string) string { return cellText(o.get(key)) }

// cell returns the text of a field in a list. Some structures have a short form there;
// all other fields are as in text.
func (o object) cell(key string) string {
	raw := o.get(key)
	switch key {
	case "command":
		var words []string
		if json.Unmarshal(raw, &words) == nil && words != nil {
			return printable(joinWords(words))
		}
	case "ports":
		var ports []structs.Port
		if json.Unmarshal(raw, &ports) == nil && ports != nil {
			return printable(joinPorts(ports))
		}
	case "size":
		var bytes int64
		if json.Unmarshal(raw, &bytes) == nil {
			return sizeText(bytes)
		}
	case "addresses", "node_addresses", "names", "images", "used_by":
		var words []string
		if json.Unmarshal(raw, &words) == nil && words != nil {
			return printable(strings.Join(words, ", "))
		}
	case "labels":
		var pairs map[string]string
		if json.Unmarshal(raw, &pairs) == nil && pairs != nil {
			return printable(joinPairs(pairs))
		}
	}
	return cellText(raw)
}

// joinWords returns a command with the quotes that a shell needs.
func joinWords(words []string) string {
	quoted := make([]string, len(words))
	for i, w := range words {
		if w == "" || strings.ContainsFunc(w, func(r rune) bool {
			return !unicode.IsLetter(r) && !unicode.IsDigit(r) && !strings.ContainsRune("-_./:=,@%+", r)
		}) {
			w = "'" + strings.ReplaceAll(w, "'", `'\''`) + "'"
		}
		quoted[i] = w
	}
	return strings.Join(quoted, " ")
}

// joinPorts returns ports in docker's form, such as 8080->80/tcp. It omits host ports
// that are not known yet.
func joinPorts(ports []structs.Port) string {
	texts := make([]string, len(ports))
	for i, p := range ports {
		texts[i] = fmt.Sprintf("%d/%s", p.ContainerPort, p.Protocol)
		if p.HostPort != 0 {
			texts[i] = fmt.Sprintf("%d->%s", p.HostPort, texts[i])
		}
	}
	return strings.Join(texts, ", ")
}

// joinPairs returns KEY=VALUE pairs, sorted by key.
func joinPairs(pairs map[string]string) string {
	var texts []string
	for _, key := range slices.Sorted(maps.Keys(pairs)) {
		texts = append(texts, key+"="+pairs[key])
	}
	return strings.Join(texts, ", ")
}

// cellText returns the text of a JSON value in a table: strings without quotes, lists
// and objects as JSON. Null and missing values are None, as in the 2015 client.
func cellText(raw json.RawMessage) string {
	trimmed := bytes.TrimSpace(raw)
	if len(trimmed) == 0 || string(trimmed) == "null" {
		return "None"
	}
	switch trimmed[0] {
	case '"':
		var s string
		if json.Unmarshal(trimmed, &s) == nil {
			return printable(s)
		}
	case '{', '[':
		var v any
		dec := json.NewDecoder(bytes.NewReader(trimmed))
		dec.UseNumber()
		if dec.Decode(&v) == nil {
			var b strings.Builder
			enc := json.NewEncoder(&b)
			enc.SetEscapeHTML(false)
			if enc.Encode(v) == nil {
				return printable(strings.TrimRight(b.String(), "\n"))
			}
		}
	}
	return printable(string(trimmed))
}

// printable protects the terminal from text of other users: it escapes control and
// format characters except line feeds.
func printable(s string) string {
	if strings.IndexFunc(s, unprintable) < 0 {
		return s
	}
	var b strings.Builder
	for _, r := range s {
		switch {
		case r == '\t':
			b.WriteString("    ")
		case unprintable(r):
			b.WriteString(escaped(r))
		default:
			b.WriteRune(r)
		}
	}
	return b.String()
}

func unprintable(r rune) bool { return r != '\n' && structs.IsControl(r) }

// escaped returns the escape sequence of a character in Go and JSON.
func escaped(r rune) string {
	if r < utf8.RuneSelf {
		return fmt.Sprintf("\\x%02x", r)
	}
	return strings.Trim(strconv.QuoteToASCII(string(r)), `"`)
}

// fields returns the object for templates. Whole numbers are int64, so that templates
// can compare them with constants.
func (o object) fields() (map[string]any, error) {
	m := make(map[string]any, len(o))
	for _, f := range o {
		dec := json.NewDecoder(bytes.NewReader(f.raw))
		dec.UseNumber()
		var v any
		if err := dec.Decode(&v); err != nil {
			return nil, fmt.Errorf("decoding field %s: %w", f.key, err)
		}
		m[f.key] = plainNumbers(v)
	}
	return m, nil
}

// plainNumbers turns the json.Numbers inside v into int64 or float64.
func plainNumbers(v any) any {
	switch v := v.(type) {
	case json.Number:
		if n, err := v.Int64(); err == nil {
			return n
		}
		f, _ := v.Float64() // can't fail for a JSON number; may be infinite
		return f
	case []any:
		for i := range v {
			v[i] = plainNumbers(v[i])
		}
	case map[string]any:
		for k := range v {
			v[k] = plainNumbers(v[k])
		}
	}
	return v
}

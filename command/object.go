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

// object is a JSON object whose fields keep the order in which they were sent:
// tables show the server's order, as the 2015 client did.
type object []field

// field is one field of an object.
type field struct {
	key string
	raw json.RawMessage
}

// parseObject reads a JSON object.
func parseObject(raw json.RawMessage) (object, error) {
	dec := json.NewDecoder(bytes.NewReader(raw))
	start, err := dec.Token()
	if err != nil {
		return nil, fmt.Errorf("the answer can't be read: %w", err)
	}
	if start != json.Delim('{') {
		return nil, fmt.Errorf("the answer is no JSON object but %v", start)
	}
	var o object
	for dec.More() {
		key, err := dec.Token()
		if err != nil {
			return nil, fmt.Errorf("the answer can't be read: %w", err)
		}
		f := field{key: key.(string)} // a key of an object is a string, or Token fails
		if err := dec.Decode(&f.raw); err != nil {
			return nil, fmt.Errorf("the answer can't be read: %w", err)
		}
		o = append(o, f)
	}
	if _, err := dec.Token(); err != nil {
		return nil, fmt.Errorf("the answer can't be read: %w", err)
	}
	return o, nil
}

// get returns a field, nil if there is none.
func (o object) get(key string) json.RawMessage {
	for _, f := range o {
		if f.key == key {
			return f.raw
		}
	}
	return nil
}

// text returns a field as a table cell shows it.
func (o object) text(key string) string { return cellText(o.get(key)) }

// cell returns a field as a list shows it: what the API has as a structure in
// a short form that a person reads. Where a field has no such form it is as
// text has it.
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

// joinWords writes a command as a shell would take it.
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

// joinPorts writes ports as docker does: 8080->80/tcp. A port of the host that
// isn't known yet is left out.
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

// joinPairs writes KEY=VALUE, in the order of keys.
func joinPairs(pairs map[string]string) string {
	var texts []string
	for _, key := range slices.Sorted(maps.Keys(pairs)) {
		texts = append(texts, key+"="+pairs[key])
	}
	return strings.Join(texts, ", ")
}

// cellText is a JSON value as a table cell shows it: strings bare, null and
// what is absent as None, as the 2015 client's, lists and objects as JSON.
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

// printable keeps other people's text from steering the terminal: control and
// format characters but the line feed are written as escapes.
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

// escaped is the character as Go and JSON write it.
func escaped(r rune) string {
	if r < utf8.RuneSelf {
		return fmt.Sprintf("\\x%02x", r)
	}
	return strings.Trim(strconv.QuoteToASCII(string(r)), `"`)
}

// data is the object as templates see it: whole numbers as int64, so that
// they compare.
func (o object) fields() (map[string]any, error) {
	m := make(map[string]any, len(o))
	for _, f := range o {
		dec := json.NewDecoder(bytes.NewReader(f.raw))
		dec.UseNumber()
		var v any
		if err := dec.Decode(&v); err != nil {
			return nil, fmt.Errorf("field %s can't be read: %w", f.key, err)
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
		f, _ := v.Float64() // a number of JSON always is one, if perhaps infinite
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

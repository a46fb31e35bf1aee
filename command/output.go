package command

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/template"
	"unicode/utf16"
)

// output holds the flags for the format of a command's output.
type output struct {
	format      string // table, json or a Go template; "" means table
	json        bool   // -json: JSON on one line
	wide        bool   // more columns
	hasWide     bool   // the command has the flag -wide
	noJSONFlag  bool   // the command has another flag -json
	unformatted string // name of the output without -format and -json; "" means table
	cells       cells  // of a list
}

// cells are the columns of a list that are not fields: functions of the object.
type cells map[string]func(object) string

// of returns the text of a column.
func (c cells) of(obj object, column string) string {
	if text := c[column]; text != nil {
		return printable(text(obj))
	}
	return obj.cell(column)
}

// flags adds -format, -json and, for lists, -wide.
func (o *output) flags(f *flagSet) {
	f.text(&o.format, "format", "FORMAT", "table, json, or a Go template over the JSON fields such as '{{.name}}'").
		suggest("table", "json").defaultText(orDefault(o.unformatted, "table")).common()
	if !o.noJSONFlag {
		f.switchOn(&o.json, "json", "short for -format json").common()
	}
	if o.hasWide {
		f.switchOn(&o.wide, "wide", "show more columns").common()
	}
}

// isTable reports whether the output is a table.
func (o *output) isTable() bool { return !o.json && (o.format == "" || o.format == "table") }

// isUnformatted reports whether neither -format nor -json was given.
func (o *output) isUnformatted() bool { return !o.json && o.format == "" }

// isJSON reports whether the output is JSON.
func (o *output) isJSON() bool { return o.json || o.format == "json" }

// check validates the flags, so that a command fails before it changes anything.
func (o *output) check() error {
	if o.json && o.format != "" && o.format != "json" {
		return usagef("-json and -format %s exclude each other", o.format)
	}
	if o.isTable() || o.isJSON() {
		return nil
	}
	if !strings.Contains(o.format, "{{") {
		return usagef("-format %q is neither table nor json, and no template: it has no {{...}}", o.format)
	}
	_, err := o.template()
	return err
}

func (o *output) template() (*template.Template, error) {
	t, err := template.New("format").Option("missingkey=error").Funcs(template.FuncMap{
		"json":  func(v any) (string, error) { b, err := json.Marshal(v); return string(b), err },
		"join":  joinAny,
		"lower": strings.ToLower,
		"upper": strings.ToUpper,
	}).Parse(o.format)
	if err != nil {
		return nil, usagef("-format: %s", strings.TrimPrefix(err.Error(), "template: "))
	}
	return t, nil
}

// joinAny joins the values of a list.
func joinAny(list []any, sep string) string {
	words := make([]string, len(list))
	for i, v := range list {
		words[i] = fmt.Sprint(v)
	}
	return strings.Join(words, sep)
}

// show prints an object as a table of its properties without links, as JSON, or by the
// template.
func (o *output) show(w io.Writer, raw json.RawMessage) error {
	obj, err := parseObject(raw)
	if err != nil {
		return err
	}
	switch {
	case o.isJSON():
		return writeJSON(w, raw, o.json)
	case !o.isTable():
		return o.executeTemplate(w, []object{obj})
	}
	t := table{head: []string{"Property", "Value"}}
	for _, f := range obj {
		if f.key != "links" {
			t.rows = append(t.rows, []string{f.key, strings.ReplaceAll(cellText(f.raw), `\n`, "\n")})
		}
	}
	return t.writeTo(w)
}

// list prints objects as a table, as a JSON array, or by the template. With -wide the
// table also has the columns more.
func (o *output) list(w io.Writer, items []json.RawMessage, columns, more []string, sorted bool) error {
	if o.isJSON() {
		if items == nil {
			items = []json.RawMessage{}
		}
		array, err := json.Marshal(items)
		if err != nil {
			return fmt.Errorf("encoding the list as JSON: %w", err)
		}
		return writeJSON(w, array, o.json)
	}
	objects := make([]object, len(items))
	for i, raw := range items {
		var err error
		if objects[i], err = parseObject(raw); err != nil {
			return err
		}
	}
	if !o.isTable() {
		return o.executeTemplate(w, objects)
	}
	t := table{head: columns}
	if o.wide {
		t.head = append(append([]string{}, columns...), more...)
	}
	for _, obj := range objects {
		row := make([]string, len(t.head))
		for i, column := range t.head {
			row[i] = o.cells.of(obj, column)
		}
		t.rows = append(t.rows, row)
	}
	if sorted {
		t.sortByFirst()
	}
	return t.writeTo(w)
}

// executeTemplate prints the template's output for each object.
func (o *output) executeTemplate(w io.Writer, objects []object) error {
	t, err := o.template()
	if err != nil {
		return err
	}
	for _, obj := range objects {
		data, err := obj.fields()
		if err != nil {
			return err
		}
		var b bytes.Buffer
		if err := t.Execute(&b, data); err != nil {
			var keys []string
			for _, f := range obj {
				keys = append(keys, f.key)
			}
			return usagef("-format: %s (the fields are %s)",
				strings.TrimPrefix(err.Error(), "template: "), strings.Join(keys, ", "))
		}
		text := b.String()
		if _, isTerminal := terminalOf(w); isTerminal {
			tabs := strings.Split(text, "\t") // tabs come from the template
			for i := range tabs {
				tabs[i] = printable(tabs[i])
			}
			text = strings.Join(tabs, "\t")
		}
		if _, err := io.WriteString(w, text+"\n"); err != nil {
			return err
		}
	}
	return nil
}

// writeJSON prints JSON on one line or indented. For a terminal it uses plainJSON.
func writeJSON(w io.Writer, raw json.RawMessage, oneLine bool) error {
	var b bytes.Buffer
	var err error
	if oneLine {
		err = json.Compact(&b, raw)
	} else {
		err = json.Indent(&b, raw, "", "  ")
	}
	if err != nil {
		return fmt.Errorf("the response is not JSON: %w", err)
	}
	text := b.String()
	if _, isTerminal := terminalOf(w); isTerminal {
		text = plainJSON(text)
	}
	_, err = io.WriteString(w, text+"\n")
	return err
}

// plainJSON escapes the characters in JSON text that can control a terminal and that JSON
// allows unescaped, such as U+009B and U+202E.
func plainJSON(text string) string {
	if strings.IndexFunc(text, unprintable) < 0 {
		return text
	}
	var b strings.Builder
	for _, r := range text {
		if !unprintable(r) {
			b.WriteRune(r)
			continue
		}
		for _, unit := range utf16.Encode([]rune{r}) {
			fmt.Fprintf(&b, "\\u%04x", unit)
		}
	}
	return b.String()
}

package manifest

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/stackforge/magnum/structs"
)

// Document is one object of a file.
type Document struct {
	Kind string // as the file has it, whether it can be created or not
	Name string // metadata.name; "" if it has none
	Text string // as the file has it
	Line int    // that it begins in, from 1; of an item of a List that of the List
}

// Split splits a file into its documents, in order: YAML documents, JSON objects one
// after the other, and the items of a List. Documents without content are left out.
// Errors are CodeInvalid; those about one of several documents say where it begins.
func Split(text string) ([]Document, error) {
	parts, err := splitJSON(text)
	if err != nil {
		parts = splitYAML(text)
	}
	var all []Document
	for _, part := range parts {
		found, err := documents(part.text)
		for i := range found {
			found[i].Line = part.line
		}
		if err != nil && len(parts) > 1 {
			var e *structs.Error
			errors.As(err, &e)
			return nil, structs.Errorf(e.Code, "the document that begins in line %d: %s", part.line, e.Msg)
		}
		if err != nil {
			return nil, err
		}
		all = append(all, found...)
	}
	if len(all) == 0 {
		return nil, checkText("")
	}
	return all, nil
}

// part is a part of a file.
type part struct {
	text string
	line int // that it begins in, from 1
}

// splitJSON splits JSON values that follow each other.
func splitJSON(text string) ([]part, error) {
	if !strings.HasPrefix(strings.TrimSpace(text), "{") {
		return nil, errors.New("not JSON")
	}
	var parts []part
	for decoder, from := json.NewDecoder(strings.NewReader(text)), 0; ; {
		var raw json.RawMessage
		err := decoder.Decode(&raw)
		if err == io.EOF {
			return parts, nil
		}
		if err != nil {
			return nil, err
		}
		from = int(decoder.InputOffset()) - len(raw)
		parts = append(parts, part{string(raw), 1 + strings.Count(text[:from], "\n")})
	}
}

// splitYAML splits at the markers of documents. A line that begins with one is always a
// marker, inside of texts too.
func splitYAML(text string) []part {
	parts := []part{{line: 1}}
	n, from, at := 0, 0, 0
	for line := range strings.Lines(text) {
		n++
		marker := (strings.HasPrefix(line, "---") || strings.HasPrefix(line, "...")) &&
			(len(line) == 3 || strings.IndexByte(" \t\r\n", line[3]) >= 0)
		if marker && at > 0 && (line[0] == '.' || !onlyDirectives(text[from:at])) {
			parts[len(parts)-1].text = text[from:at]
			parts = append(parts, part{line: n})
			from = at
		}
		at += len(line)
		if marker && line[0] == '.' {
			from = at
			parts[len(parts)-1].line = n + 1
		}
	}
	parts[len(parts)-1].text = text[from:]
	var full []part
	for _, p := range parts {
		if hasContent(p.text) {
			full = append(full, p)
		}
	}
	return full
}

// onlyDirectives reports whether a text has directives such as %YAML, and apart from them
// only comments. They belong to the document whose marker follows.
func onlyDirectives(text string) bool {
	directives := false
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, "%") {
			directives = true
		} else if hasContent(line) || strings.HasPrefix(line, "---") {
			return false
		}
	}
	return directives
}

// hasContent reports whether a document has more than markers and comments.
func hasContent(text string) bool {
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(strings.TrimPrefix(strings.TrimPrefix(line, "---"), "\ufeff"))
		if line != "" && line[0] != '#' {
			return true
		}
	}
	return false
}

// documents returns the objects of one document: itself, or the items of a List.
func documents(text string) ([]Document, error) {
	b, err := toJSON(text)
	if err != nil {
		return nil, err
	}
	var head struct {
		Kind     any
		Metadata any
		Items    []json.RawMessage
	}
	if err := json.Unmarshal(b, &head); err != nil {
		return nil, refuse("manifest", "is not an object: begin with apiVersion: v1 and kind")
	}
	kind, _ := head.Kind.(string)
	if kind == "" {
		return nil, refuse("kind", "is missing: begin with apiVersion: v1 and kind")
	}
	if kind != "List" && kind != "PodList" {
		meta, _ := head.Metadata.(map[string]any)
		name, _ := meta["name"].(string)
		return []Document{{Kind: kind, Name: name, Text: text}}, nil
	}
	var all []Document
	for i, item := range head.Items {
		found, err := documents(string(item))
		if err != nil {
			var e *structs.Error
			errors.As(err, &e)
			return nil, refuse(fmt.Sprintf("items[%d]", i), "%s", e.Msg)
		}
		all = append(all, found...)
	}
	return all, nil
}

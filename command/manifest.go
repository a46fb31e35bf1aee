package command

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// maxManifests bounds the manifests that a command reads, in bytes.
const maxManifests = 16 << 20

// document is one manifest. The server reads it; the command line only splits files into
// documents, and looks at their kind.
type document struct {
	from string // where it stands, for messages: "web.yaml", "document 2 of web.yaml (line 14)"
	text string // as it was written
}

// manifestFlags holds the flags that name manifests.
type manifestFlags struct {
	paths []string
	url   string
}

func (m *manifestFlags) flags(f *flagSet) {
	f.repeatable("manifest f", "FILE|-|DIR", "manifests, as YAML or JSON: a file, standard input, or the files *.yaml, *.yml and "+
		"*.json of a directory", func(s string) error { m.paths = append(m.paths, s); return nil }).predict = completeFiles
	f.text(&m.url, "manifest-url", "URL", "where the server fetches the manifest, by http or https")
}

// read returns the documents of the files in their order: at least one, and all of the
// kind. It returns none if the server is to fetch the manifest.
func (m *manifestFlags) read(e *env, kind string) ([]document, error) {
	switch {
	case len(m.paths) == 0 && m.url == "":
		return nil, usagef("-manifest is missing, or -manifest-url")
	case len(m.paths) > 0 && m.url != "":
		return nil, usagef("-manifest and -manifest-url exclude each other")
	case m.url != "":
		return nil, nil
	}
	var all []document
	left := int64(maxManifests)
	for i, path := range m.paths {
		if path == "-" && slices.Index(m.paths, "-") != i {
			return nil, usagef("-manifest - is given twice")
		}
		files, err := manifestFiles(path)
		if err != nil {
			return nil, err
		}
		for _, file := range files {
			documents, err := readManifest(e, file, &left)
			if err != nil {
				return nil, err
			}
			all = append(all, documents...)
		}
	}
	for _, d := range all {
		if err := d.check(kind); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// manifestFiles returns the files of a path: those of a directory, sorted by name, or the
// path itself.
func manifestFiles(path string) ([]string, error) {
	if path == "-" {
		return []string{path}, nil
	}
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("reading the manifest: %w", err)
	}
	if !info.IsDir() {
		return []string{path}, nil
	}
	entries, err := os.ReadDir(path)
	if err != nil {
		return nil, fmt.Errorf("reading the manifests: %w", err)
	}
	var files []string
	for _, entry := range entries {
		switch strings.ToLower(filepath.Ext(entry.Name())) {
		case ".yaml", ".yml", ".json":
			if !entry.IsDir() {
				files = append(files, filepath.Join(path, entry.Name()))
			}
		}
	}
	if len(files) == 0 {
		return nil, fmt.Errorf("directory %s has no manifests: no files *.yaml, *.yml or *.json", path)
	}
	return files, nil
}

// readManifest returns the documents of a file, at least one. "-" is standard input. left
// is how many bytes may still be read.
func readManifest(e *env, path string, left *int64) ([]document, error) {
	in, name := e.stdin, "standard input"
	if path != "-" {
		file, err := os.Open(path)
		if err != nil {
			return nil, fmt.Errorf("reading the manifest: %w", err)
		}
		defer file.Close()
		in, name = file, path
	}
	b, err := io.ReadAll(io.LimitReader(in, *left+1))
	if err != nil {
		return nil, fmt.Errorf("reading the manifest: %w", err)
	}
	if *left -= int64(len(b)); *left < 0 {
		return nil, fmt.Errorf("%s: the manifests are larger than %d bytes together", name, maxManifests)
	}
	text := string(b)
	documents := splitManifest(text)
	switch len(documents) {
	case 0:
		return nil, fmt.Errorf("%s is empty: write a manifest into it", name)
	case 1:
		return []document{{from: name, text: text}}, nil // also the comments around it
	}
	all := make([]document, len(documents))
	for i, d := range documents {
		all[i] = document{from: fmt.Sprintf("document %d of %s (line %d)", i+1, name, d.line), text: d.text}
	}
	return all, nil
}

// check returns an error if the document is of another kind. A document whose kind can't
// be seen is left to the server.
func (d document) check(kind string) error {
	switch got := kindOf(d.text); got {
	case "", kind:
		return nil
	case "List":
		return fmt.Errorf("%s is a List: write its items as documents of their own, separated by lines ---", d.from)
	default:
		return fmt.Errorf("%s is a %s: this command takes manifests of kind %s only", d.from, printable(got), kind)
	}
}

// part is a document of a file, with the number of its first line.
type part struct {
	line int
	text string
}

// splitManifest splits the text of a file into its documents that aren't empty: JSON values,
// or YAML documents. A line that begins with --- always ends a YAML document, also in a
// quoted or literal text.
func splitManifest(text string) []part {
	if parts, ok := splitJSON(text); ok {
		return parts
	}
	var parts []part
	var now part
	content, directives := false, false // of now
	end := func(line int) {
		if content {
			parts = append(parts, now)
		}
		now, content, directives = part{line: line}, false, false
	}
	n := 0
	now.line = 1
	for line := range strings.Lines(text) {
		n++
		switch {
		case isMarker(line, "---"):
			if content || !directives {
				end(n)
			}
			now.text += line
			directives = false
			content = hasContent(line[3:])
		case isMarker(line, "..."):
			end(n + 1)
		default:
			now.text += line
			if !content && strings.HasPrefix(line, "%") {
				directives = true
			} else {
				content = content || hasContent(line)
			}
		}
	}
	end(0)
	return parts
}

// isMarker reports whether a line of YAML is the marker, or begins with it.
func isMarker(line, marker string) bool {
	rest, ok := strings.CutPrefix(line, marker)
	return ok && (rest == "" || strings.ContainsAny(rest[:1], " \t\r\n"))
}

// hasContent reports whether a line of YAML has more than a comment.
func hasContent(line string) bool {
	line = strings.TrimSpace(strings.TrimPrefix(line, "\ufeff"))
	return line != "" && line[0] != '#'
}

// splitJSON splits a sequence of JSON values. ok is false if the text isn't one.
func splitJSON(text string) (parts []part, ok bool) {
	dec := json.NewDecoder(strings.NewReader(text))
	for {
		var raw json.RawMessage
		switch err := dec.Decode(&raw); {
		case errors.Is(err, io.EOF):
			return parts, len(parts) > 0
		case err != nil:
			return nil, false
		}
		at := int(dec.InputOffset()) - len(raw)
		parts = append(parts, part{line: 1 + strings.Count(text[:at], "\n"), text: string(raw)})
	}
}

// kindLine matches the kind of a YAML manifest: a key of the document itself stands in the
// first column.
var kindLine = regexp.MustCompile(`(?m)^["']?kind["']?[ \t]*:[ \t]+["']?([A-Za-z0-9]+)`)

// kindOf returns the kind of a manifest, "" if it can't be told without reading all of it.
func kindOf(text string) string {
	var object struct {
		Kind string `json:"kind"`
	}
	if json.Unmarshal([]byte(text), &object) == nil {
		return object.Kind
	}
	if m := kindLine.FindStringSubmatch(text); m != nil {
		return m[1]
	}
	return ""
}

// manifestValue returns the value of a patch of a manifest: the text of a file with one
// document. As with the client of 2015 a text that is no file name is the manifest itself.
func manifestValue(e *env, value, kind string) (string, error) {
	if strings.ContainsAny(value, "\n{") {
		return value, nil
	}
	documents, err := (&manifestFlags{paths: []string{value}}).read(e, kind)
	if err != nil {
		return "", err
	}
	if len(documents) > 1 {
		return "", fmt.Errorf("%s has %d documents: give the manifest of this %s only", value, len(documents), strings.ToLower(kind))
	}
	return documents[0].text, nil
}

package command

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/stackforge/magnum/manifest"
	"github.com/stackforge/magnum/structs"
)

// maxManifests bounds the manifests that a command reads, in bytes.
const maxManifests = 16 << 20

// document is one manifest. The server reads it; the command line only splits files into
// documents, and looks at their kinds and names.
type document struct {
	manifest.Document
	from string // where it stands, for messages: "web.yaml", "document 2 of web.yaml (line 14)"
}

// manifestFlags holds the flags that name manifests.
type manifestFlags struct {
	paths []string
	url   string
}

// pathFlags adds the flag that names files, under the given names.
func (m *manifestFlags) pathFlags(f *flagSet, names string) {
	f.repeatable(names, "FILE|-|DIR", "manifests, as YAML or JSON: a file, standard input, or the files *.yaml, *.yml and "+
		"*.json of a directory", func(s string) error { m.paths = append(m.paths, s); return nil }).predict = completeFiles
}

func (m *manifestFlags) flags(f *flagSet) {
	m.pathFlags(f, "manifest f")
	f.text(&m.url, "manifest-url", "URL", "where the server fetches the manifest, by http or https")
}

// read returns the documents of the files in their order: at least one, and all of the
// kinds. It returns none if the server is to fetch the manifest.
func (m *manifestFlags) read(e *env, kinds ...string) ([]document, error) {
	switch {
	case len(m.paths) == 0 && m.url == "":
		return nil, usagef("-manifest is missing, or -manifest-url")
	case len(m.paths) > 0 && m.url != "":
		return nil, usagef("-manifest and -manifest-url exclude each other")
	case m.url != "":
		return nil, nil
	}
	if first := slices.Index(m.paths, "-"); first >= 0 && slices.Contains(m.paths[first+1:], "-") {
		return nil, usagef("standard input (-) is given twice")
	}
	var all []document
	left := int64(maxManifests)
	for _, path := range m.paths {
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
		if err := d.check(kinds); err != nil {
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
	found, err := manifest.Split(string(b))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	all := make([]document, len(found))
	for i, d := range found {
		all[i] = document{d, name}
		if len(found) > 1 {
			all[i].from = fmt.Sprintf("document %d of %s (line %d)", i+1, name, d.Line)
		}
	}
	return all, nil
}

// check returns an error unless the document is of one of the kinds.
func (d document) check(kinds []string) error {
	if slices.Contains(kinds, d.Kind) {
		return nil
	}
	text := fmt.Sprintf("%s is a %s: this command takes manifests of kind %s only", d.from, printable(structs.Shorten(d.Kind)),
		strings.Join(kinds, ", "))
	switch docker, cluster := manifest.Instead(d.Kind), manifest.InsteadInCluster(d.Kind); {
	case docker == "":
	case docker == cluster:
		text += "; " + docker
	default:
		text += "; in a bay of Docker hosts, " + docker + "; in a Kubernetes bay, " + cluster
	}
	return errors.New(text)
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
	return documents[0].Text, nil
}

package command

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestSplitManifest(t *testing.T) {
	for _, c := range []struct {
		name, text string
		want       []part
	}{
		{"nothing", "", nil},
		{"comments", "# a\n\n  # b\n---\n# c\n...\n", nil},
		{"one", "kind: Pod\n", []part{{1, "kind: Pod\n"}}},
		{"no line feed", "kind: Pod", []part{{1, "kind: Pod"}}},
		{"two", "a: 1\n---\nb: 2\n", []part{{1, "a: 1\n"}, {2, "---\nb: 2\n"}}},
		{"empty ones", "---\n---\na: 1\n---\n# c\n---\nb: 2\n---\n", []part{{2, "---\na: 1\n"}, {6, "---\nb: 2\n"}}},
		{"CRLF", "a: 1\r\n---\r\nb: 2\r\n", []part{{1, "a: 1\r\n"}, {2, "---\r\nb: 2\r\n"}}},
		{"text after the marker", "--- # one\na: 1\n--- {b: 2}\n", []part{{1, "--- # one\na: 1\n"}, {3, "--- {b: 2}\n"}}},
		{"end markers", "a: 1\n...\n# c\nb: 2\n... # end\n", []part{{1, "a: 1\n"}, {3, "# c\nb: 2\n"}}},
		{"directives", "%YAML 1.1\n---\na: 1\n...\n%YAML 1.1\n# c\n---\nb: 2\n",
			[]part{{1, "%YAML 1.1\n---\na: 1\n"}, {5, "%YAML 1.1\n# c\n---\nb: 2\n"}}},
		{"no markers", "a: |\n  ---\n  x\nb: '---'\n----\n---x\n- --- \n", []part{{1, "a: |\n  ---\n  x\nb: '---'\n----\n---x\n- --- \n"}}},
		{"a BOM", "\ufeff# c\n---\na: 1\n", []part{{2, "---\na: 1\n"}}},
		{"JSON", "\n{\"a\":\n1}\n", []part{{2, "{\"a\":\n1}"}}},
		{"JSON values", "{\"a\":1}\n\n {\"b\":2}{}", []part{{1, `{"a":1}`}, {3, `{"b":2}`}, {3, `{}`}}},
		{"JSON documents", "{\"a\":1}\n---\n{\"b\":2}\n", []part{{1, "{\"a\":1}\n"}, {2, "---\n{\"b\":2}\n"}}},
		{"broken JSON", "{\"a\":1\n", []part{{1, "{\"a\":1\n"}}},
		{"flow style", "{a: 1}\n", []part{{1, "{a: 1}\n"}}},
	} {
		if got := splitManifest(c.text); !slices.Equal(got, c.want) {
			t.Errorf("%s: %#v\nwant %#v", c.name, got, c.want)
		}
	}
}

// FuzzSplitManifest checks that no content gets lost, whatever the text is.
func FuzzSplitManifest(f *testing.F) {
	for _, seed := range []string{"a: 1\n---\nb: 2", "%YAML 1.1\n---\n...\n", "{}{}\n", "---\r\n...x\n--- y", "\ufeff#\n\n%"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		parts := splitManifest(text)
		if _, isJSON := splitJSON(text); isJSON {
			return
		}
		var kept strings.Builder
		for i, p := range parts {
			if !strings.Contains(text, p.text) || p.line < 1 || i > 0 && p.line <= parts[i-1].line {
				t.Errorf("part %d is %q in line %d", i, p.text, p.line)
			}
			kept.WriteString(p.text)
		}
		for line := range strings.Lines(text) {
			if hasContent(line) && !isMarker(line, "---") && !isMarker(line, "...") && !strings.HasPrefix(line, "%") &&
				!strings.Contains(kept.String(), line) {
				t.Errorf("line %q is in none of %#v", line, parts)
			}
		}
	})
}

func TestKindOf(t *testing.T) {
	for text, want := range map[string]string{
		"kind: Pod": "Pod",
		"apiVersion: v1\nkind:  \"Service\" # c\nx: 1": "Service",
		"\"kind\": 'Pod'\r\n":                          "Pod",
		"'kind' : Pod":                                 "Pod",
		`{"kind":"Deployment"}`:                        "Deployment",
		"{kind: Pod}":                                  "",
		"spec:\n  kind: Service\n":                     "",
		"kind:Pod":                                     "",
		"kind: !!str Pod":                              "",
		"mankind: Pod":                                 "",
		"":                                             "",
		"[1]":                                          "",
	} {
		if got := kindOf(text); got != want {
			t.Errorf("%q is of kind %q, want %q", text, got, want)
		}
	}
}

// write writes a file of a test's directory and returns its path.
func write(t *testing.T, dir, name, text string) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

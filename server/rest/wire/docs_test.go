package wire

import (
	"bytes"
	"encoding/json"
	"flag"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write docs.json")

// TestDocs checks that docs.json has the texts in the comments of types and fields.
func TestDocs(t *testing.T) {
	all := make(map[string]map[string]string)
	for _, dir := range []string{"../../../structs", "..", "../web", "."} {
		files, err := filepath.Glob(filepath.Join(dir, "*.go"))
		if err != nil || len(files) == 0 {
			t.Fatalf("%s has no files: %v", dir, err)
		}
		for _, name := range files {
			if strings.HasSuffix(name, "_test.go") {
				continue
			}
			f, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ParseComments|parser.SkipObjectResolution)
			if err != nil {
				t.Fatal(err)
			}
			docsIn(t, f, all)
		}
	}
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", " ")
	if err := e.Encode(all); err != nil {
		t.Fatal(err)
	}
	if *update {
		if err := os.WriteFile("docs.json", b.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if !bytes.Equal(b.Bytes(), docsJSON) {
		t.Error("docs.json differs from the comments of the fields: run go generate ./server/rest/wire")
	}
}

// docsIn adds the texts of a file. A text that belongs to no type or field fails the
// test.
func docsIn(t *testing.T, f *ast.File, all map[string]map[string]string) {
	t.Helper()
	texts := make(map[string]map[string]string)
	found := 0
	ast.Inspect(f, func(n ast.Node) bool {
		decl, ok := n.(*ast.GenDecl)
		if !ok || decl.Tok != token.TYPE {
			return true
		}
		for _, spec := range decl.Specs {
			typ := spec.(*ast.TypeSpec)
			s, ok := typ.Type.(*ast.StructType)
			if !ok {
				continue
			}
			key := f.Name.Name + "." + typ.Name.Name
			texts[key] = make(map[string]string)
			doc := typ.Doc
			if doc == nil {
				doc = decl.Doc
			}
			if text := apiDoc(doc); text != "" {
				texts[key][""], found = text, found+1
			}
			for _, field := range s.Fields.List {
				text := apiDoc(field.Doc)
				if text == "" {
					continue
				}
				name := ""
				if field.Tag != nil {
					name, _, _ = strings.Cut(reflect.StructTag(strings.Trim(field.Tag.Value, "`")).Get("json"), ",")
				}
				if name == "" || name == "-" {
					t.Errorf("a field of %s has a text but no JSON name: %s", key, text)
				}
				texts[key][name], found = text, found+1
			}
		}
		return true
	})
	for key, of := range texts {
		if len(of) > 0 {
			all[key] = of
		}
	}
	for _, group := range f.Comments {
		if apiDoc(group) != "" {
			found--
		}
	}
	if found != 0 {
		t.Errorf("%s: %d texts belong to no type or field", f.Name.Name, -found)
	}
}

// apiDoc returns the text in the //api:doc lines of a comment.
func apiDoc(doc *ast.CommentGroup) string {
	if doc == nil {
		return ""
	}
	var lines []string
	for _, c := range doc.List {
		if text, ok := strings.CutPrefix(c.Text, "//api:doc "); ok {
			lines = append(lines, strings.TrimSpace(text))
		}
	}
	return strings.Join(lines, " ")
}

// TestDocTextsAreSentences also checks that types without a text have none.
func TestDocTextsAreSentences(t *testing.T) {
	type nothing struct{}
	for what, doc := range map[string]string{
		"a type of another package": docOf(reflect.TypeFor[bytes.Buffer](), ""),
		"a type without a text":     docOf(reflect.TypeFor[nothing](), ""),
	} {
		if doc != "" {
			t.Errorf("%s has the text %q", what, doc)
		}
	}
	for key, texts := range docs() {
		for name, text := range texts {
			if text == "" || strings.Contains(text, "  ") || !strings.HasSuffix(text, ".") {
				t.Errorf("%s.%s: %q is not a sentence", key, name, text)
			}
		}
	}
}

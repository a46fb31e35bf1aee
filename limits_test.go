package main

import (
	"bytes"
	"fmt"
	"go/ast"
	"go/importer"
	"go/parser"
	"go/token"
	"go/types"
	"io"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"
)

// The limits of size. What is larger is hard to see as a whole, and usually two
// things in one.
const (
	maxMethods = 40   // of a type, those that embedding promotes included
	maxLines   = 100  // of a function
	maxPackage = 4000 // lines of a package below server or agent, tests aside
	maxColumns = 140  // of a line, a tab being 4 of them
)

// checked is one package of this module with its types.
type checked struct {
	path  string // from the module's root
	files map[string]*ast.File
	types *types.Package
}

func TestLimits(t *testing.T) {
	fset := token.NewFileSet()
	over := make(map[string]string)
	for _, pkg := range typedPackages(t, fset) {
		lines := 0
		for _, file := range pkg.files {
			lines += fset.File(file.Pos()).LineCount()
			for name, n := range longFunctions(fset, file) {
				over[pkg.path+"."+name] = fmt.Sprintf("%d lines, at most %d", n, maxLines)
			}
		}
		if (strings.HasPrefix(pkg.path, "server/") || strings.HasPrefix(pkg.path, "agent/")) && lines > maxPackage {
			over[pkg.path] = fmt.Sprintf("%d lines, at most %d", lines, maxPackage)
		}
		for name, n := range manyMethods(pkg.types) {
			over[pkg.path+"."+name] = fmt.Sprintf("%d methods, at most %d", n, maxMethods)
		}
	}
	for _, what := range slices.Sorted(maps.Keys(over)) {
		t.Errorf("%s has %s", what, over[what])
	}
}

// TestLineLengths checks all Go files, of every build tag, tests included.
func TestLineLengths(t *testing.T) {
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && path != "." && (strings.HasPrefix(d.Name(), ".") || d.Name() == "testdata"):
			return filepath.SkipDir
		case d.IsDir() || !strings.HasSuffix(path, ".go"):
			return nil
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		n := 0
		for line := range strings.Lines(string(b)) {
			n++
			if width := columns(line); width > maxColumns && !strings.HasPrefix(line, "| ") { // of a table in a page
				t.Errorf("%s:%d has %d columns, at most %d", path, n, width, maxColumns)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// columns returns the width of a line.
func columns(line string) int {
	return utf8.RuneCountInString(strings.TrimRight(strings.ReplaceAll(line, "\t", "    "), "\n"))
}

// TestLimitsSeeWhatIsTooLarge checks the measures: a limit that sees nothing would
// pass for ever.
func TestLimitsSeeWhatIsTooLarge(t *testing.T) {
	var src strings.Builder
	src.WriteString("package p\ntype inner struct{}\ntype outer struct{ *inner }\ntype other struct{ in inner }\ntype face interface{")
	for i := range maxMethods + 1 {
		fmt.Fprintf(&src, "M%d();", i)
	}
	src.WriteString("}\n")
	for i := range maxMethods {
		fmt.Fprintf(&src, "func (*inner) m%d() {}\n", i)
	}
	src.WriteString("func (outer) own() {}\n")
	fmt.Fprintf(&src, "func (outer) long() {%s}\n", strings.Repeat("\n", maxLines))
	fmt.Fprintf(&src, "func short() {%s}\n", strings.Repeat("\n", maxLines-1))
	fset := token.NewFileSet()
	file, err := parser.ParseFile(fset, "p.go", src.String(), 0)
	if err != nil {
		t.Fatal(err)
	}
	pkg, err := new(types.Config).Check("p", fset, []*ast.File{file}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := fmt.Sprint(manyMethods(pkg)), fmt.Sprint(map[string]int{"face": maxMethods + 1, "outer": maxMethods + 2}); got != want {
		t.Errorf("methods: %s, want %s", got, want)
	}
	if got, want := fmt.Sprint(longFunctions(fset, file)), fmt.Sprint(map[string]int{"outer.long": maxLines + 1}); got != want {
		t.Errorf("functions: %s, want %s", got, want)
	}
}

// manyMethods returns the types that have too many methods, and how many they have.
func manyMethods(pkg *types.Package) map[string]int {
	many := make(map[string]int)
	for _, name := range pkg.Scope().Names() {
		tn, ok := pkg.Scope().Lookup(name).(*types.TypeName)
		if !ok || tn.IsAlias() {
			continue
		}
		typ := tn.Type()
		if !types.IsInterface(typ) {
			typ = types.NewPointer(typ)
		}
		if n := types.NewMethodSet(typ).Len(); n > maxMethods {
			many[name] = n
		}
	}
	return many
}

// longFunctions returns the functions of a file that are too long, and how long they
// are.
func longFunctions(fset *token.FileSet, file *ast.File) map[string]int {
	long := make(map[string]int)
	for _, d := range file.Decls {
		f, ok := d.(*ast.FuncDecl)
		if !ok {
			continue
		}
		n := fset.Position(f.End()).Line - fset.Position(f.Pos()).Line + 1
		if n <= maxLines {
			continue
		}
		name := f.Name.Name
		if f.Recv != nil {
			typ := f.Recv.List[0].Type
			if star, ok := typ.(*ast.StarExpr); ok {
				typ = star.X
			}
			if index, ok := typ.(*ast.IndexExpr); ok {
				typ = index.X
			}
			name = types.ExprString(typ) + "." + name
		}
		long[name] = n
	}
	return long
}

// typedPackages checks the types of this module's packages. What they import comes
// from the build cache.
func typedPackages(t *testing.T, fset *token.FileSet) []checked {
	t.Helper()
	format := "{{.ImportPath}}\t{{.Dir}}\t{{.Export}}\t{{range .GoFiles}}{{.}} {{end}}"
	list := exec.Command("go", "list", "-export", "-deps", "-f", format, "./...")
	var problems bytes.Buffer
	list.Stderr = &problems
	out, err := list.Output()
	if err != nil {
		t.Fatalf("go list: %v: %s", err, problems.String())
	}
	exports := make(map[string]string)
	gc := importer.ForCompiler(fset, "gc", func(path string) (io.ReadCloser, error) {
		if exports[path] == "" {
			return nil, fmt.Errorf("go list tells of no package %s", path)
		}
		return os.Open(exports[path])
	})
	var all []checked
	var names []string
	for line := range strings.Lines(string(out)) {
		fields := strings.Split(strings.TrimSuffix(line, "\n"), "\t")
		exports[fields[0]] = fields[2]
		path, ours := strings.CutPrefix(fields[0], module)
		if !ours {
			continue
		}
		pkg := checked{path: strings.TrimPrefix(path, "/"), files: make(map[string]*ast.File)}
		for _, name := range strings.Fields(fields[3]) {
			file, err := parser.ParseFile(fset, filepath.Join(fields[1], name), nil, parser.SkipObjectResolution)
			if err != nil {
				t.Fatal(err)
			}
			pkg.files[name] = file
		}
		all = append(all, pkg)
		names = append(names, fields[0])
	}
	if len(all) < 10 {
		t.Fatalf("only %d packages were found: this test runs in the module's root", len(all))
	}
	for i := range all {
		config := types.Config{Importer: gc, IgnoreFuncBodies: true}
		if all[i].types, err = config.Check(names[i], fset, slices.Collect(maps.Values(all[i].files)), nil); err != nil {
			t.Fatal(err)
		}
	}
	return all
}

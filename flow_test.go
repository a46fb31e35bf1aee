package main

import (
	"go/ast"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// flowStep is a step as website/docs/architecture.md writes it: a numbered line with
// a file and what it calls, a function or Type.method.
var flowStep = regexp.MustCompile("(?m)^(\\d)\\. .*?`([a-z_/]+\\.go)`, `([A-Za-z]+(?:\\.[A-Za-z]+)?)`")

// TestFlowOfOneCreate: the manual's steps of one create are few, and each names a
// function, or the variable that holds it, where it is.
func TestFlowOfOneCreate(t *testing.T) {
	page, err := os.ReadFile("website/docs/architecture.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, found := strings.Cut(string(page), "\n## One create, step by step\n")
	section, _, _ = strings.Cut(section, "\n## ")
	steps := flowStep.FindAllStringSubmatch(section, -1)
	lines := regexp.MustCompile(`(?m)^\d+\. `).FindAllString(section, -1)
	if !found || len(steps) != len(lines) || len(steps) < 5 || len(steps) > 9 {
		t.Fatalf("%d steps of %d lines can be read; there are to be five to nine", len(steps), len(lines))
	}
	declared := make(map[string]bool) // "file name"
	for _, src := range sources(t) {
		for _, d := range src.file.Decls {
			switch d := d.(type) {
			case *ast.FuncDecl:
				declared[src.path+" "+nameOfFunc(d)] = true
			case *ast.GenDecl: // a handler may be a variable
				for _, spec := range d.Specs {
					if v, ok := spec.(*ast.ValueSpec); ok {
						for _, name := range v.Names {
							declared[src.path+" "+name.Name] = true
						}
					}
				}
			}
		}
	}
	for i, step := range steps {
		if step[1] != string(rune('1'+i)) {
			t.Errorf("step %d has number %s", i+1, step[1])
		}
		if !declared[step[2]+" "+step[3]] {
			t.Errorf("step %s: %s declares no %s", step[1], step[2], step[3])
		}
	}
}

// goFile is a file of Go as the manual names it.
var goFile = regexp.MustCompile("`([a-z0-9_/]+\\.go)`")

// TestManualNamesFilesThatExist: files of Go that the manual and its pages for
// contributors name exist. Without a directory any file of that name will do.
func TestManualNamesFilesThatExist(t *testing.T) {
	exists := make(map[string]bool)
	err := filepath.WalkDir(".", func(path string, d os.DirEntry, err error) error {
		exists[filepath.Base(path)], exists[path] = true, true
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	pages, err := filepath.Glob("website/docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	named := 0
	for _, page := range append(pages, "README.md", "CONTRIBUTING.md") {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range goFile.FindAllStringSubmatch(string(text), -1) {
			if named++; !exists[m[1]] {
				t.Errorf("%s names %s, which does not exist", page, m[1])
			}
		}
	}
	if named < 9 {
		t.Errorf("only %d names of files were found", named)
	}
}

// TestManualListsThePackages: the table of packages has every package of the first
// two levels, and no other.
func TestManualListsThePackages(t *testing.T) {
	page, err := os.ReadFile("website/docs/architecture.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(page), "\n## Packages\n")
	section, _, _ = strings.Cut(section, "\n## ")
	listed := make(map[string]bool)
	for _, row := range regexp.MustCompile("(?m)^\\| (`[^|]*) \\|").FindAllStringSubmatch(section, -1) {
		for _, name := range regexp.MustCompile("`([a-z0-9/]+)`").FindAllStringSubmatch(row[1], -1) {
			listed[name[1]] = true
		}
	}
	for _, pattern := range []string{"*/*.go", "*/*/*.go"} {
		files, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range files {
			dir := filepath.Dir(file)
			if !listed[dir] {
				t.Errorf("architecture.md does not list package %s", dir)
				listed[dir] = true // once is enough
			}
		}
	}
	for name := range listed {
		if info, err := os.Stat(name); err != nil || !info.IsDir() {
			t.Errorf("architecture.md lists package %s, which does not exist", name)
		}
	}
}

// nameOfFunc returns a function's name, and of a method Type.name.
func nameOfFunc(d *ast.FuncDecl) string {
	if d.Recv == nil {
		return d.Name.Name
	}
	of := d.Recv.List[0].Type
	if p, ok := of.(*ast.StarExpr); ok {
		of = p.X
	}
	if g, ok := of.(*ast.IndexExpr); ok {
		of = g.X
	}
	if id, ok := of.(*ast.Ident); ok {
		return id.Name + "." + d.Name.Name
	}
	return d.Name.Name
}

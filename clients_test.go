package main

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// dockerClients are the files that open a client of a Docker engine. These clients negotiate
// the version of the API lazily, but several methods read the version first: concurrent
// first calls are a data race, and may use a version that the engine refuses. So each client
// is negotiated where it is opened, or before its first call.
var dockerClients = []string{"agent/docker/dockertest/client.go", "agent/docker/engine/engine.go"}

// opensDocker returns where a file opens a client of a Docker engine.
func opensDocker(fset *token.FileSet, file *ast.File) (at []token.Position) {
	ast.Inspect(file, func(n ast.Node) bool {
		if sel, ok := n.(*ast.SelectorExpr); ok && (sel.Sel.Name == "NewClientWithOpts" || sel.Sel.Name == "NewEnvClient") {
			at = append(at, fset.Position(sel.Pos()))
		}
		return true
	})
	return at
}

// TestDockerClientsAreOpenedInOnePlace: only the product's connection and the one of tests
// open clients of a Docker engine. Tests count, too.
func TestDockerClientsAreOpenedInOnePlace(t *testing.T) {
	opened := make(map[string]bool)
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && path != "." && (strings.HasPrefix(d.Name(), ".") || d.Name() == "testdata" || otherModule(path)):
			return filepath.SkipDir
		case d.IsDir() || !strings.HasSuffix(path, ".go"):
			return nil
		}
		fset := token.NewFileSet()
		file, err := parser.ParseFile(fset, path, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		path = filepath.ToSlash(path)
		for _, at := range opensDocker(fset, file) {
			opened[path] = true
			if !slices.Contains(dockerClients, path) {
				t.Errorf("%s opens a client of a Docker engine: tests use dockertest.Open, all others engine.New", at)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range dockerClients {
		if !opened[path] {
			t.Errorf("%s opens no client of a Docker engine", path)
		}
	}
}

// TestDockerClientIsSeen: an opened client is found under any name of its package.
func TestDockerClientIsSeen(t *testing.T) {
	fset := token.NewFileSet()
	file, err := parser.ParseFile(fset, "x.go", `package x
import docker "github.com/docker/docker/client"
var a, _ = docker.NewClientWithOpts(docker.FromEnv)
`, parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	if at := opensDocker(fset, file); len(at) != 1 || at[0].Line != 3 {
		t.Errorf("found at %v", at)
	}
}

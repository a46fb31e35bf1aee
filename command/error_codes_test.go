package command

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"strings"
	"testing"
)

// compared are the functions that search or compare a text.
var compared = map[string]bool{
	"Contains": true, "ContainsAny": true, "ContainsFunc": true, "HasPrefix": true, "HasSuffix": true, "EqualFold": true, "Index": true,
	"LastIndex": true,
	"Compare":   true, "Count": true, "Cut": true, "CutPrefix": true, "CutSuffix": true, "Equal": true, "Match": true, "MatchString": true,
	"Split": true, "Fields": true,
}

// TestCommandsDoNotCompareErrorTexts checks that commands handle errors by code, kind or
// hint. Rewording a server's message must not change what a command does.
func TestCommandsDoNotCompareErrorTexts(t *testing.T) {
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	read := 0
	for _, path := range files {
		if strings.HasSuffix(path, "_test.go") {
			continue
		}
		set := token.NewFileSet()
		file, err := parser.ParseFile(set, path, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		read++
		for _, at := range comparesErrors(file) {
			t.Errorf("%s compares the text of an error", set.Position(at))
		}
	}
	if read < 30 {
		t.Errorf("only %d files were read", read)
	}
}

// comparesErrors returns where a file compares the text of an error.
func comparesErrors(file *ast.File) (at []token.Pos) {
	texts := make(map[string]bool) // variables of the function that hold an error's text
	isText := func(e ast.Node) (found bool) {
		ast.Inspect(e, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.SelectorExpr:
				found = found || n.Sel.Name == "Msg" || n.Sel.Name == "Detail" || n.Sel.Name == "ErrorMessage"
			case *ast.CallExpr:
				if sel, ok := n.Fun.(*ast.SelectorExpr); ok && sel.Sel.Name == "Error" && len(n.Args) == 0 {
					found = true
				}
			case *ast.Ident:
				found = found || texts[n.Name]
			case *ast.FuncLit:
				return false
			}
			return true
		})
		return found
	}
	ast.Inspect(file, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.FuncDecl:
			clear(texts)
		case *ast.AssignStmt:
			for i, value := range n.Rhs {
				if id, ok := n.Lhs[min(i, len(n.Lhs)-1)].(*ast.Ident); ok {
					texts[id.Name] = isText(value)
				}
			}
		case *ast.CallExpr:
			sel, ok := n.Fun.(*ast.SelectorExpr)
			if !ok || !compared[sel.Sel.Name] {
				return true
			}
			for _, arg := range n.Args {
				if isText(arg) {
					at = append(at, n.Pos())
					break
				}
			}
		case *ast.BinaryExpr:
			if (n.Op == token.EQL || n.Op == token.NEQ) && (isText(n.X) || isText(n.Y)) && !empty(n.X) && !empty(n.Y) {
				at = append(at, n.Pos())
			}
		case *ast.SwitchStmt:
			if n.Tag != nil && isText(n.Tag) {
				at = append(at, n.Pos())
			}
		}
		return true
	})
	return at
}

// empty reports whether an expression is "". Comparing a text with "" is allowed.
func empty(e ast.Expr) bool {
	lit, ok := e.(*ast.BasicLit)
	return ok && lit.Value == `""`
}

// TestErrorTextComparisonsAreFound tests comparesErrors.
func TestErrorTextComparisonsAreFound(t *testing.T) {
	for body, want := range map[string]int{
		`if strings.HasPrefix(ours.Msg, "x") { }`:                              1,
		`if strings.Contains(strings.ToLower(err.Error()), "x") { }`:           1,
		`text := err.Error(); if strings.HasSuffix(text, "x") { }`:             1,
		`if err.Error() == "x" { }`:                                            1,
		`switch ours.Msg { case "x": }`:                                        1,
		`_, _, ok := strings.Cut(printable(err.Error()), "x"); _ = ok`:         1,
		`if ours.Msg == "" { }; if strings.Contains(name, "x") { }`:            0,
		`return printable(strings.TrimPrefix(err.Error(), "template: "))`:      0,
		`if ours.Hint == structs.HintChoose || strings.HasPrefix(a, "-") { }`:  0,
		`out := printable(err.Error()); fmt.Println(out, name == other)`:       0,
		`x := printable(err.Error()); f(x); y := 1; if strings.Cut(y, "") { }`: 0,
	} {
		file, err := parser.ParseFile(token.NewFileSet(), "x.go", "package x\nfunc f() {\n"+body+"\n}\n", 0)
		if err != nil {
			t.Fatal(err)
		}
		if got := len(comparesErrors(file)); got != want {
			t.Errorf("%s: %d, want %d", body, got, want)
		}
	}
}

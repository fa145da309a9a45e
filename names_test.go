package main

// The rules of the house that a program can check: names, sizes of functions, the
// opening comments of files.

import (
	"go/ast"
	"go/token"
	"go/types"
	"path/filepath"
	"strings"
	"testing"
)

const (
	maxFunction   = 40 // lines: a screen
	maxComplexity = 15 // cyclomatic: branches, cases and conditions, and one
)

// A reader who meets a name in a function knows at once whether it is the package's.
func TestNoLocalShadowsAPackageLevelName(t *testing.T) {
	fset, files, info := typeCheck(t)
	for _, f := range files {
		for _, d := range f.Decls {
			ast.Inspect(d, func(n ast.Node) bool {
				id, ok := n.(*ast.Ident)
				if !ok {
					return true
				}
				local, ok := info.Defs[id].(*types.Var)
				if !ok || local.IsField() || local.Parent() == nil || local.Parent() == local.Pkg().Scope() {
					return true
				}
				if global := local.Pkg().Scope().Lookup(id.Name); global != nil {
					t.Errorf("%s: the variable %s has the name of what %s declares", position(fset, id.Pos()), id.Name, position(fset, global.Pos()))
				}
				return true
			})
		}
	}
}

// A function fits on a screen, and has few ways through it. One that has more gives the
// reason for its complexity in its comment.
func TestFunctionsFitOnAScreen(t *testing.T) {
	fset, files, _ := typeCheck(t)
	for _, f := range files {
		for _, d := range f.Decls {
			fn, ok := d.(*ast.FuncDecl)
			if !ok || fn.Body == nil {
				continue
			}
			if n := fset.Position(fn.End()).Line - fset.Position(fn.Pos()).Line + 1; n > maxFunction {
				t.Errorf("%s: %s has %d lines, want at most %d", position(fset, fn.Pos()), fn.Name.Name, n, maxFunction)
			}
			if n := complexity(fn); n > maxComplexity && !strings.Contains(fn.Doc.Text(), "complexity") {
				t.Errorf("%s: %s has a complexity of %d, want at most %d", position(fset, fn.Pos()), fn.Name.Name, n, maxComplexity)
			}
		}
	}
}

// complexity is McCabe's, with the conditions of && and || counted:
// https://doi.org/10.1109/TSE.1976.233837.
func complexity(fn *ast.FuncDecl) int {
	n := 1
	ast.Inspect(fn.Body, func(node ast.Node) bool {
		switch node := node.(type) {
		case *ast.IfStmt, *ast.ForStmt, *ast.RangeStmt, *ast.CommClause:
			n++
		case *ast.CaseClause:
			if node.List != nil {
				n++
			}
		case *ast.BinaryExpr:
			if node.Op == token.LAND || node.Op == token.LOR {
				n++
			}
		}
		return true
	})
	return n
}

func TestEveryFileOpensWithWhatItIsFor(t *testing.T) {
	fset, files, _ := typeCheck(t)
	for _, f := range files {
		opening := f.Doc
		for _, g := range f.Comments {
			if g.Pos() > f.Name.End() && (len(f.Decls) == 0 || g.End() < f.Decls[0].Pos()) {
				opening = g
				break
			}
		}
		if opening == nil || len(strings.Fields(opening.Text())) < 5 {
			t.Errorf("%s does not open with a comment that says what it is for", position(fset, f.Pos()))
		}
	}
}

// position returns a position with the base name of its file.
func position(fset *token.FileSet, p token.Pos) string {
	at := fset.Position(p)
	at.Filename = filepath.Base(at.Filename)
	return at.String()
}

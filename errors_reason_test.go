package main

import (
	"go/ast"
	"go/parser"
	gotoken "go/token"
	"maps"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// declaredReasons returns the constants of the type refusalReason, by name.
func declaredReasons(t *testing.T) map[string]string {
	t.Helper()
	file, err := parser.ParseFile(gotoken.NewFileSet(), "errors_reason.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	words := map[string]string{}
	ast.Inspect(file, func(n ast.Node) bool {
		if spec, ok := n.(*ast.ValueSpec); ok {
			if kind, ok := spec.Type.(*ast.Ident); ok && kind.Name == "refusalReason" {
				words[spec.Names[0].Name], _ = strconv.Unquote(spec.Values[0].(*ast.BasicLit).Value)
			}
		}
		return true
	})
	return words
}

func TestEveryReasonHasOneTextWithARemedy(t *testing.T) {
	declared := slices.Sorted(maps.Values(declaredReasons(t)))
	var listed []string
	word := regexp.MustCompile(`^[a-z]+(_[a-z]+)*$`)
	for _, r := range reasons {
		listed = append(listed, string(r.reason))
		if !word.MatchString(string(r.reason)) || r.meaning == "" || r.remedy == "" || r.reason.text().meaning != r.meaning {
			t.Errorf("the reason %+v is not a word with a meaning and a remedy, found by its word", r)
		}
		if r.reason.isTrouble() && !strings.HasPrefix(string(r.reason), "backend_") {
			t.Errorf("the account is down for the reason %s, which is not the backend's", r.reason)
		}
	}
	if slices.Sort(listed); !slices.Equal(listed, declared) {
		t.Errorf("the table has the reasons %q, want each declared one once: %q", listed, declared)
	}
	if refusalReason("").text() != nil || refusalReason("role ").text() != nil {
		t.Error("a word that is no reason has a text")
	}
}

// A reason that no error has would be a promise that nothing keeps.
func TestEveryReasonIsThatOfAnError(t *testing.T) {
	var program strings.Builder
	files, err := os.ReadDir(".")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if name := f.Name(); strings.HasSuffix(name, ".go") && !strings.HasSuffix(name, "_test.go") && name != "errors_reason.go" {
			text, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			program.Write(text)
		}
	}
	for name := range declaredReasons(t) {
		if !regexp.MustCompile(`\b` + name + `\b`).MatchString(program.String()) {
			t.Errorf("no error has the reason %s", name)
		}
	}
}

func TestEveryReasonIsInTheDocs(t *testing.T) {
	var documented, want []string
	for _, row := range docsTable(t, "metrics-and-logs", "reason", "what it means", "what to do") {
		word, _ := codeSpan(row[0])
		documented = append(documented, word+"|"+row[1]+"|"+row[2])
	}
	for _, r := range reasons {
		want = append(want, string(r.reason)+"|"+r.meaning+"|"+r.remedy)
	}
	for i := range max(len(documented), len(want)) {
		if i >= len(documented) || i >= len(want) || documented[i] != want[i] {
			t.Fatalf("row %d of the reasons in docs/metrics-and-logs.md is not that of the program:\n%q\nwant\n%q", i, documented[min(i, len(documented)):], want[min(i, len(want)):])
		}
	}
}

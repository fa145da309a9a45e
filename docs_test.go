package main

// The documentation leads to what is there: files, headings, functions.

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// maxReadme is the size of README.md in bytes: a page that people read to its end.
const maxReadme = 12_000

func TestReadmeIsShort(t *testing.T) {
	if n := len(readDoc(t, "README.md")); n > maxReadme {
		t.Errorf("README.md has %d bytes, want at most %d; docs/ has room", n, maxReadme)
	}
}

func readDoc(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// docs returns the paths of all pages.
func docs(t *testing.T) []string {
	t.Helper()
	pages, err := filepath.Glob("docs/*.md")
	if err != nil || len(pages) < 10 {
		t.Fatal(pages, err)
	}
	return append(pages, "README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md")
}

// headings returns the anchors of a page, as GitHub makes them.
func headings(text string) map[string]bool {
	anchors := map[string]bool{}
	for _, m := range regexp.MustCompile(`(?m)^#+ (.*)$`).FindAllStringSubmatch(text, -1) {
		anchor := regexp.MustCompile(`[^\pL\pN _-]`).ReplaceAllString(strings.ToLower(m[1]), "")
		anchors[strings.ReplaceAll(anchor, " ", "-")] = true
	}
	return anchors
}

func TestEveryLinkLeadsSomewhere(t *testing.T) {
	for _, page := range docs(t) {
		text := readDoc(t, page)
		for _, m := range regexp.MustCompile(`\]\(([^)\s]+)\)`).FindAllStringSubmatch(text, -1) {
			if strings.Contains(m[1], "://") {
				continue
			}
			path, anchor, _ := strings.Cut(m[1], "#")
			to := page
			if path != "" {
				to = filepath.Join(filepath.Dir(page), path)
			}
			if _, err := os.Stat(to); err != nil {
				t.Errorf("%s leads to %s: %v", page, m[1], err)
			} else if anchor != "" && !headings(readDoc(t, to))[anchor] {
				t.Errorf("%s leads to %s, and there is no such heading", page, m[1])
			}
		}
	}
}

// Every name that docs/code.md gives for a function or type, after the name of its file,
// is declared in that file; README.md and docs/ name files that are there.
func TestCodeNamedInTheDocsIsThere(t *testing.T) {
	code := regexp.MustCompile("`([A-Za-z*_]+\\.go|[A-Za-z]+)`")
	for _, page := range []string{"README.md", "CONTRIBUTING.md", "docs/code.md"} {
		file := ""
		for _, m := range code.FindAllStringSubmatch(readDoc(t, page), -1) {
			if strings.HasSuffix(m[1], ".go") {
				if file = m[1]; !exists(file) {
					t.Errorf("%s names %s, which is not there", page, file)
				}
			}
		}
	}
	named := regexp.MustCompile("`([a-z_0-9]+\\.go)` `([A-Za-z]+)`")
	found := named.FindAllStringSubmatch(readDoc(t, "docs/code.md"), -1)
	if len(found) < 30 {
		t.Errorf("docs/code.md names %d functions in files, want a tour", len(found))
	}
	for _, m := range found {
		if exists(m[1]) && !declares(t, m[1], m[2]) {
			t.Errorf("docs/code.md names %s in %s, which does not declare it", m[2], m[1])
		}
	}
}

func exists(pattern string) bool {
	files, _ := filepath.Glob(pattern)
	return len(files) > 0
}

// declares reports whether a file declares a function, a method or a type.
func declares(t *testing.T, file, name string) bool {
	t.Helper()
	f, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range f.Decls {
		switch d := d.(type) {
		case *ast.FuncDecl:
			if d.Name.Name == name {
				return true
			}
		case *ast.GenDecl:
			for _, s := range d.Specs {
				if s, ok := s.(*ast.TypeSpec); ok && s.Name.Name == name {
					return true
				}
			}
		}
	}
	return false
}

// The configuration in README.md is complete: it starts as it is.
func TestConfigurationOfTheReadmeLoads(t *testing.T) {
	_, text, _ := strings.Cut(readDoc(t, "README.md"), "```json\n")
	text, _, found := strings.Cut(text, "```")
	if !found {
		t.Fatal("README.md has no configuration")
	}
	t.Chdir(t.TempDir())
	for name, content := range map[string]string{"minio-secret": "secret\n", "root-key": "root-key-0123456789\n"} {
		if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	env := map[string]string{"AWS_KEY_ID": "AKIAIOSFODNN7EXAMPLE", "AWS_SECRET": "secret", "ALICE_KEY": "alice-key-0123456789"}
	conf, err := parseConfig([]byte(text), func(name string) (string, bool) { value, ok := env[name]; return value, ok })
	if err != nil || len(conf.buckets) != 3 || len(conf.warnings) != 0 {
		t.Errorf("the configuration of README.md: %v, %+v", err, conf)
	}
}

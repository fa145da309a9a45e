package main

// The documentation leads to what is there: files, headings, functions.

import (
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
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

// A page names only files that exist. A pattern such as `config*.go` names at least one.
func TestFilesNamedInTheDocsExist(t *testing.T) {
	for _, page := range docs(t) {
		for _, m := range regexp.MustCompile("`([A-Za-z0-9_*]+\\.go)`").FindAllStringSubmatch(readDoc(t, page), -1) {
			if files, _ := filepath.Glob(m[1]); len(files) == 0 {
				t.Errorf("%s names %s, which does not exist", page, m[1])
			}
		}
	}
}

// docs/code.md gives a name after its file, as in `path.go` `parsePath`, and that file
// declares it. A name that stands alone is declared in some file of the program.
func TestCodeNamedInTheTourExists(t *testing.T) {
	declared := declarations(t)
	tour := readDoc(t, "docs/code.md")
	pairs := 0
	for _, m := range regexp.MustCompile("`([a-z0-9_]+\\.go)` `([A-Za-z0-9]+)`").FindAllStringSubmatch(tour, -1) {
		if pairs++; !slices.Contains(declared[m[2]], m[1]) {
			t.Errorf("docs/code.md names %s in %s; it is declared in %v", m[2], m[1], declared[m[2]])
		}
	}
	if pairs < 30 {
		t.Errorf("docs/code.md names %d functions with their files, want a tour", pairs)
	}
	for _, m := range regexp.MustCompile("`([A-Za-z][A-Za-z0-9]*)`").FindAllStringSubmatch(tour, -1) {
		if m[1] != "ls" && m[1] != "Connection" && len(declared[m[1]]) == 0 { // a command, and a header
			t.Errorf("docs/code.md names %s, which no file declares", m[1])
		}
	}
}

// declarations maps each function, method and type of the program to the files that
// declare it.
func declarations(t *testing.T) map[string][]string {
	t.Helper()
	declared := map[string][]string{}
	for _, file := range programFiles(t) {
		f, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range f.Decls {
			switch d := d.(type) {
			case *ast.FuncDecl:
				declared[d.Name.Name] = append(declared[d.Name.Name], file)
			case *ast.GenDecl:
				for _, s := range d.Specs {
					if s, ok := s.(*ast.TypeSpec); ok {
						declared[s.Name.Name] = append(declared[s.Name.Name], file)
					}
				}
			}
		}
	}
	return declared
}

// programFiles returns the names of the program's own files, without tests.
func programFiles(t *testing.T) []string {
	t.Helper()
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	return slices.DeleteFunc(files, func(file string) bool { return strings.HasSuffix(file, "_test.go") })
}

// The map of README.md and that of go doc have every file, by its wing: the part of its
// name before the underscore. They have nothing else.
func TestTheMapsHaveEveryFile(t *testing.T) {
	wings := map[string]bool{}
	for _, file := range programFiles(t) {
		wing, _, _ := strings.Cut(strings.TrimSuffix(file, ".go"), "_")
		wings[wing] = true
	}
	_, readme, _ := strings.Cut(readDoc(t, "README.md"), "| wing | files |")
	manual := readDoc(t, "main.go")
	manual, _, _ = strings.Cut(manual, "\npackage main")
	_, manual, _ = strings.Cut(manual, "The names of the files group them")
	onMap := map[string]map[string]bool{"README.md": {}, "main.go": {}}
	for _, m := range regexp.MustCompile("`([a-z0-9]+)\\*?\\.go`").FindAllStringSubmatch(readme, -1) {
		onMap["README.md"][m[1]] = true
	}
	for _, m := range regexp.MustCompile(`(?m)^//\t([a-z0-9 ]+?)(?: {2,}.*)?$`).FindAllStringSubmatch(manual, -1) {
		for _, wing := range strings.Fields(m[1]) {
			onMap["main.go"][wing] = true
		}
	}
	for page, named := range onMap {
		if !maps.Equal(named, wings) {
			t.Errorf("the map of %s has %v, want %v", page, slices.Sorted(maps.Keys(named)), slices.Sorted(maps.Keys(wings)))
		}
	}
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

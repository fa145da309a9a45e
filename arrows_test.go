package main

import (
	"go/ast"
	"go/importer"
	"go/parser"
	"go/token"
	"go/types"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// mutual are the files that may know each other, and why. All other files form layers:
// a file uses what stands below it, and nothing below uses the file.
var mutual = []struct{ files, reason string }{
	{"admin admin_health", "the pages of the admin listener, and what of them the front serves as well"},
	{"answer answer_cork answer_splice", "one answer, by three ways of sending it"},
	{"auth auth_signature", "an authenticator tries the key, then the signature, which knows the user's secrets"},
	{"config config_check config_hints", "a file, the faults in it, and what they probably are"},
	{"config_json config_json_hints", "a decoder, and what its errors probably mean"},
	{"credentials credentials_aws", "a source, and the providers that fill it"},
	{"demo demo_list demo_object demo_store demo_upload", "one server, a file for each family of operations"},
	{"errors errors_cause", "an error, and its cause in words for the log"},
	{"exchange exchange_operation exchange_record", "an exchange has an operation, which runs an exchange"},
	{"handlers_document handlers_multipart", "the list of parts is a document"},
	{"handlers_head handlers_send", "a HEAD that is refused is sent again as a GET"},
	{"limiter_redis limiter_redis_queue limiter_redis_resp", "a store, its connections and their protocol"},
	{"listener listener_conn listener_cork", "a connection, in layers"},
	{"metrics metrics_process", "a registry, and the families of the process"},
	{"progress progress_linux", "a pulse, and the counters of the kernel"},
	{"upstream upstream_conn upstream_pool upstream_retry", "an upstream, its connections, their pool, and what is sent again"},
}

// Arrows between files point down. The graph is that of all names which a file uses and
// another declares: functions, types, methods, fields, constants and variables.
func TestFilesUseOnlyWhatStandsBelowThem(t *testing.T) {
	arrows := fileArrows(t)
	for _, component := range components(arrows) {
		if len(component) == 1 {
			continue
		}
		known := slices.ContainsFunc(mutual, func(m struct{ files, reason string }) bool {
			files := strings.Fields(m.files)
			return !slices.ContainsFunc(component, func(file string) bool { return !slices.Contains(files, file) })
		})
		if known {
			continue
		}
		t.Errorf("%d files know each other: %s", len(component), strings.Join(component, " "))
		for _, from := range component {
			for _, to := range component {
				if names := arrows[from][to]; len(names) > 0 {
					t.Logf("%s uses, of %s: %s", from, to, strings.Join(slices.Sorted(maps.Keys(names)), " "))
				}
			}
		}
	}
	for _, m := range mutual {
		for file := range strings.FieldsSeq(m.files) {
			if arrows[file] == nil {
				t.Errorf("mutual names %s.go, which is not there", file)
			}
		}
	}
}

// fileArrows returns, by the name of a file without .go, the files that it uses and the
// names that it uses of each. Files of other systems than Linux are left out: they
// declare what others do.
func fileArrows(t *testing.T) map[string]map[string]map[string]bool {
	t.Helper()
	fset, files, info := typeCheck(t)
	arrows := map[string]map[string]map[string]bool{}
	fileOf := func(p token.Pos) string {
		return strings.TrimSuffix(filepath.Base(fset.Position(p).Filename), ".go")
	}
	for _, f := range files {
		arrows[fileOf(f.Pos())] = map[string]map[string]bool{}
	}
	for id, object := range info.Uses {
		if object.Pkg() == nil || object.Pkg().Name() != "main" || !object.Pos().IsValid() {
			continue
		}
		from, to := fileOf(id.Pos()), fileOf(object.Pos())
		if from == to {
			continue
		}
		if arrows[from][to] == nil {
			arrows[from][to] = map[string]bool{}
		}
		arrows[from][to][object.Name()] = true
	}
	return arrows
}

// typeCheck returns the program's files with the objects that their identifiers stand for.
func typeCheck(t *testing.T) (*token.FileSet, []*ast.File, *types.Info) {
	t.Helper()
	fset := token.NewFileSet()
	names, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	var files []*ast.File
	for _, name := range names {
		if strings.HasSuffix(name, "_test.go") || strings.HasSuffix(name, "_other.go") {
			continue
		}
		f, err := parser.ParseFile(fset, name, nil, parser.ParseComments)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, f)
	}
	info := &types.Info{Uses: map[*ast.Ident]types.Object{}, Defs: map[*ast.Ident]types.Object{}}
	checker := types.Config{Importer: importer.ForCompiler(fset, "source", nil)}
	if _, err := checker.Check("main", fset, files, info); err != nil {
		t.Fatal(err)
	}
	return fset, files, info
}

// components returns the strongly connected components of a graph, each sorted, by
// Tarjan's algorithm: https://epubs.siam.org/doi/10.1137/0201010.
func components(arrows map[string]map[string]map[string]bool) [][]string {
	var all [][]string
	var stack []string
	index, low := map[string]int{}, map[string]int{}
	var visit func(string)
	visit = func(v string) {
		index[v] = len(index) + 1
		low[v] = index[v]
		stack = append(stack, v)
		for w := range arrows[v] {
			if index[w] == 0 {
				visit(w)
				low[v] = min(low[v], low[w])
			} else if slices.Contains(stack, w) {
				low[v] = min(low[v], index[w])
			}
		}
		if low[v] == index[v] {
			at := slices.Index(stack, v)
			all = append(all, slices.Sorted(slices.Values(stack[at:])))
			stack = stack[:at]
		}
	}
	for v := range arrows {
		if index[v] == 0 {
			visit(v)
		}
	}
	return all
}

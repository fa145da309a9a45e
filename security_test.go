package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// SECURITY.md names tests behind each promise. Each of them exists, and each promise has
// some, so that who renames or removes a test looks at what it stood for.
func TestPromisesHaveTheirTests(t *testing.T) {
	text, err := os.ReadFile("SECURITY.md")
	if err != nil {
		t.Fatal(err)
	}
	known := knownTests(t)
	_, promises, ok := strings.Cut(string(text), "\n## Promises\n")
	promises, _, end := strings.Cut(promises, "\n## ")
	if !ok || !end {
		t.Fatal("SECURITY.md has no section of promises")
	}
	number := regexp.MustCompile(`(?m)^(\d+)\. `)
	starts := number.FindAllStringSubmatchIndex(promises, -1)
	if len(starts) != 11 {
		t.Errorf("SECURITY.md has %d promises, want 11", len(starts))
	}
	for i, start := range starts {
		end := len(promises)
		if i+1 < len(starts) {
			end = starts[i+1][0]
		}
		tests := regexp.MustCompile("`((?:Test|Fuzz)\\w+)`").FindAllStringSubmatch(promises[start[0]:end], -1)
		if len(tests) < 3 {
			t.Errorf("promise %d has %d tests", i+1, len(tests))
		}
		for _, test := range tests {
			if !known[test[1]] {
				t.Errorf("promise %d: there is no %s", i+1, test[1])
			}
		}
	}
}

// docs/reliability.md names a test for each row of its table.
func TestReliabilityHasItsTests(t *testing.T) {
	known := knownTests(t)
	for _, row := range docsTable(t, "reliability", "what happens") {
		tests := regexp.MustCompile("`(Test\\w+)`").FindAllStringSubmatch(row[2], -1)
		if len(tests) == 0 && row[2] != "the same" {
			t.Errorf("%q has no test", row[0])
		}
		for _, test := range tests {
			if !known[test[1]] {
				t.Errorf("%q: there is no %s", row[0], test[1])
			}
		}
	}
}

// knownTests returns the names of all tests of the program.
func knownTests(t *testing.T) map[string]bool {
	t.Helper()
	names, err := filepath.Glob("*_test.go")
	if err != nil {
		t.Fatal(err)
	}
	others, err := filepath.Glob("abuse/*_test.go")
	if err != nil {
		t.Fatal(err)
	}
	known := map[string]bool{}
	function := regexp.MustCompile(`(?m)^func ((?:Test|Fuzz)\w+)\(`)
	for _, name := range append(names, others...) {
		source, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, match := range function.FindAllSubmatch(source, -1) {
			known[string(match[1])] = true
		}
	}
	return known
}

package main

// The proof that a run can fail: deliberate bugs in a copy of the program, one at a time, each of
// which a run has to find.

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// A mutation is a deliberate bug: a text of a file, which must be there once, and what replaces
// it.
type mutation struct{ name, file, old, new string }

var mutations = []mutation{}

// apply applies the mutation to a tree.
func (m *mutation) apply(tree string) error {
	path := filepath.Join(tree, m.file)
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if n := strings.Count(string(data), m.old); n != 1 {
		return fmt.Errorf("%s: %s has %q %d times, want once", m.name, m.file, m.old, n)
	}
	return os.WriteFile(path, []byte(strings.Replace(string(data), m.old, m.new, 1)), 0o600)
}

// mutate runs each mutation until it is found, for at most the duration.
func mutate(o options, tree string) error {
	survived := 0
	for _, m := range mutations {
		if !strings.Contains(m.name, o.only) {
			continue
		}
		begin := time.Now()
		l, err := m.run(o, tree)
		if err != nil {
			return err
		}
		if len(l.violations) == 0 {
			survived++
			fmt.Printf("%-52s SURVIVED %v\n", m.name, time.Since(begin).Round(time.Second))
			continue
		}
		detail, _, _ := strings.Cut(l.violations[0].detail, "\n")
		fmt.Printf("%-52s found after %v: %s: %.160s\n", m.name, l.violations[0].at.Round(100*time.Millisecond), l.violations[0].promise, detail)
	}
	if survived > 0 {
		return fmt.Errorf("%d mutations survived", survived)
	}
	return nil
}

// run runs a copy of the tree that has the bug.
func (m *mutation) run(o options, tree string) (*ledger, error) {
	dir, err := os.MkdirTemp("", "soak-mutation-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	if err := copySources(tree, dir); err != nil {
		return nil, err
	}
	if err := m.apply(dir); err != nil {
		return nil, err
	}
	l := newLedger()
	return l, run(o, l, dir, false)
}

// copySources copies what the program is built from.
func copySources(from, to string) error {
	entries, err := os.ReadDir(from)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.IsDir() || strings.HasSuffix(e.Name(), "_test.go") || strings.HasPrefix(e.Name(), ".") {
			continue
		}
		data, err := os.ReadFile(filepath.Join(from, e.Name()))
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(to, e.Name()), data, 0o600); err != nil {
			return err
		}
	}
	return nil
}

package main

// The lines of an explanation.

import (
	"fmt"
	"io"
	"strings"
	"unicode/utf8"
)

// An explainedStep is a line of an explanation.
type explainedStep struct {
	severity severity
	name     string
	text     string
}

// writeSteps writes a line for each step, in columns.
func writeSteps(w io.Writer, steps []explainedStep, utf8Locale bool) {
	mark, name := 0, 0
	for _, s := range steps {
		mark = max(mark, utf8.RuneCountInString(marks[utf8Locale][s.severity]))
		name = max(name, len(s.name))
	}
	for _, s := range steps {
		for i, line := range strings.Split(s.text, "\n") {
			if i == 0 {
				fmt.Fprintf(w, "%-*s  %-*s  %s\n", mark, marks[utf8Locale][s.severity], name, s.name, line)
			} else {
				fmt.Fprintf(w, "%-*s  %-*s  %s\n", mark, "", name, "", line)
			}
		}
	}
}

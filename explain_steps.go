package main

// The lines of an explanation.

import (
	"io"
	"strings"
)

// An explainedStep is a line of an explanation.
type explainedStep struct {
	severity severity
	name     string
	text     string
}

// writeSteps writes a line for each step, in columns. The further lines of a text have nothing in
// the others.
func writeSteps(w io.Writer, steps []explainedStep, utf8Locale bool) {
	var rows [][]string
	for _, s := range steps {
		mark, name := marks[utf8Locale][s.severity], s.name
		for line := range strings.SplitSeq(s.text, "\n") {
			rows = append(rows, []string{mark, name, line})
			mark, name = "", ""
		}
	}
	writeColumns(w, rows)
}

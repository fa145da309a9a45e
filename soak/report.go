package main

// The report of a run.

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"
)

// note adds a line to the end of the report.
func (l *ledger) note(format string, arguments ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.notes = append(l.notes, fmt.Sprintf(format, arguments...))
}

// report prints the figures, the violations and the verdict.
func (l *ledger) report(w io.Writer) {
	l.table(w, "operation ", "operation", "ok", "refused", "broken", "left", "cut off")
	l.faultTable(w)
	fmt.Fprintf(w, "\n%-44s %9s\n", "what", "times")
	l.mu.Lock()
	for _, name := range slices.Sorted(maps.Keys(l.counts)) {
		kind, _, _ := strings.Cut(name, " ")
		if kind != "operation" && kind != "fault" && kind != "met" {
			fmt.Fprintf(w, "%-44s %9d\n", name, l.counts[name])
		}
	}
	for _, line := range l.notes {
		fmt.Fprintln(w, line)
	}
	for i, v := range l.violations {
		if i == 20 {
			fmt.Fprintf(w, "… and %d more\n", len(l.violations)-i)
			break
		}
		fmt.Fprintf(w, "\n%v: %s\n  %s\n", v.at.Round(time.Millisecond), v.promise, v.detail)
	}
	l.mu.Unlock()
	fmt.Fprintf(w, "\npromises\n%s", l.verdict())
}

// table prints the counts whose names begin with a prefix and end with one of the columns.
func (l *ledger) table(w io.Writer, prefix, title string, columns ...string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	fmt.Fprintf(w, "\n%-44s", title)
	for _, column := range columns {
		fmt.Fprintf(w, " %9s", column)
	}
	rows := map[string]bool{}
	for name := range l.counts {
		if rest, ok := strings.CutPrefix(name, prefix); ok {
			for _, column := range columns {
				if row, ok := strings.CutSuffix(rest, " "+column); ok {
					rows[row] = true
				}
			}
		}
	}
	for _, row := range slices.Sorted(maps.Keys(rows)) {
		fmt.Fprintf(w, "\n%-44s", row)
		for _, column := range columns {
			fmt.Fprintf(w, " %9d", l.counts[prefix+row+" "+column])
		}
	}
	fmt.Fprintln(w)
}

// faultTable prints how often each fault was injected, and how the requests that met one ended. A
// request that ends ok has survived it: by a retry, or because the download was continued. The
// others ended in an error that the client sees.
func (l *ledger) faultTable(w io.Writer) {
	l.mu.Lock()
	defer l.mu.Unlock()
	fmt.Fprintf(w, "\n%-44s %9s %9s %9s %9s\n", "fault", "injected", "ok", "refused", "broken")
	var sum [4]int64
	for _, name := range slices.Sorted(maps.Keys(l.counts)) {
		fault, ok := strings.CutPrefix(name, "fault ")
		if !ok {
			continue
		}
		row := [4]int64{l.counts[name], l.counts["met "+fault+" ok"], l.counts["met "+fault+" refused"], l.counts["met "+fault+" broken"]}
		fmt.Fprintf(w, "%-44s %9d %9d %9d %9d\n", fault, row[0], row[1], row[2], row[3])
		for i, n := range row {
			sum[i] += n
		}
	}
	fmt.Fprintf(w, "%-44s %9d %9d %9d %9d\n", "all", sum[0], sum[1], sum[2], sum[3])
}

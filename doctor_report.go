package main

// What the doctor has found: a table for people, a document for programs, and a line of
// progress while it is looking.
//
// A backend may be hostile, and a report is pasted into tickets. So no text of a peer gets into
// a finding but through foreign, which takes short printable words that hold no secret.

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
)

// A severity says what a finding means for the exit status: only an error fails.
type severity string

const (
	severityOK      severity = "ok"
	severityWarning severity = "warning"
	severityError   severity = "error"
)

// verdicts are all that a finding can say, by the name that docs/doctor.md explains.
var verdicts = severities(map[severity]string{
	severityOK: "config_ok port_free certificate_ok descriptors_ok connected tls_ok clock_ok credentials_ok bucket_ok " +
		"write_ok redis_ok",
	severityWarning: "config_warning port_gateway certificate_expires client_ca_expired descriptors_few bucket_unused " +
		"tls_expires clock_drift buckets_left probe_left redis_clock",
	severityError: "interrupted config_error port_taken port_refused certificate_expired certificate_error dns_unknown dns_failed " +
		"connection_refused connection_timeout connection_failed tls_expired tls_authority tls_name " +
		"tls_invalid tls_plain tls_failed plain_tls no_answer broken_off not_http redirected not_s3 " +
		"clock_wrong credentials_missing key_unknown secret_wrong token_wrong region_wrong endpoint_wrong " +
		"addressing_wrong backend_error backend_refuses bucket_missing bucket_denied write_denied " +
		"write_failed write_differs redis_password redis_right redis_refuses redis_slow not_redis",
})

// severities returns the severity of each name in the lists.
func severities(lists map[severity]string) map[string]severity {
	of := map[string]severity{}
	for kind, names := range lists {
		for name := range strings.FieldsSeq(names) {
			of[name] = kind
		}
	}
	return of
}

// A finding is one line of the report.
type finding struct {
	Severity severity `json:"severity"`
	Subject  string   `json:"subject"` // a setting, or a bucket
	Verdict  string   `json:"verdict"` // of verdicts
	Text     string   `json:"text"`    // what is the case, and what to do
}

// A report is what was found, in chapters that are filled at the same time.
type report struct {
	secrets     func() []string // that no finding may hold a piece of
	interrupted func() bool     // by the user; nil: never
	chapters    []*chapter
	progress    func() // called after each step of a chapter; may be nil
}

// A chapter is the findings about one thing, in order. It may be used by several goroutines
// at once.
type chapter struct {
	report *report
	title  string

	mu       sync.Mutex // guards the rest
	findings []finding
	step     string // what is being looked at; "": nothing any more
}

// chapter adds a chapter. It is called before the chapters are filled.
func (r *report) chapter(title string) *chapter {
	s := &chapter{report: r, title: title}
	r.chapters = append(r.chapters, s)
	return s
}

// add adds a finding, unless it is there already. A text of a peer must have gone through foreign.
// After an interruption it adds no error: what fails then fails for that reason.
func (s *chapter) add(subject, verdict, format string, args ...any) {
	if interrupted := s.report.interrupted; interrupted != nil && interrupted() && severityOf(verdict) == severityError {
		return
	}
	s.keep(subject, verdict, fmt.Sprintf(format, args...))
}

// keep adds a finding, unless it is there already.
func (s *chapter) keep(subject, verdict, text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	found := finding{severityOf(verdict), subject, verdict, text}
	if !slices.Contains(s.findings, found) {
		s.findings = append(s.findings, found)
	}
}

func severityOf(verdict string) severity {
	if kind, known := verdicts[verdict]; known {
		return kind
	}
	return severityError
}

// begin notes what is looked at next; "" is the end.
func (s *chapter) begin(step string) {
	s.mu.Lock()
	s.step = step
	s.mu.Unlock()
	if s.report.progress != nil {
		s.report.progress()
	}
}

// foreign returns a text that a peer wrote, if it may be in a report: it is short, it is
// printable, and it holds no piece of a secret, nor of those in more, in any case.
func (s *chapter) foreign(text string, more ...string) string {
	switch {
	case text == "":
		return "(nothing)"
	case !isShowable(text):
		return "(a text that is not shown)"
	case holdsAnyPiece(text, append(more, s.report.secrets()...)):
		return "(a text that repeats a secret)"
	}
	return text
}

// findings returns the findings of all chapters, in their order.
func (r *report) findings() []finding {
	all := []finding{}
	for _, s := range r.chapters {
		s.mu.Lock()
		all = append(all, s.findings...)
		s.mu.Unlock()
	}
	return all
}

// count returns how many findings have a severity.
func (r *report) count(kind severity) int {
	n := 0
	for _, f := range r.findings() {
		if f.Severity == kind {
			n++
		}
	}
	return n
}

// marks are the first column: for a locale in UTF-8, and for any.
var marks = map[bool]map[severity]string{
	true:  {severityOK: "✓", severityWarning: "!", severityError: "✗"},
	false: {severityOK: "ok", severityWarning: "warning", severityError: "ERROR"},
}

// writeTable writes a line for each finding, and a summary. No text can look like another line,
// or act on a terminal.
func (r *report) writeTable(w io.Writer, utf8Locale bool) {
	var rows [][]string
	for _, f := range r.findings() {
		rows = append(rows, []string{marks[utf8Locale][f.Severity], f.Subject, f.Verdict, f.Text})
	}
	writeColumns(w, rows)
	fmt.Fprintf(w, "\n%s, %s", plural(r.count(severityError), "error"), plural(r.count(severityWarning), "warning"))
	if r.count(severityError)+r.count(severityWarning) > 0 {
		fmt.Fprint(w, "; docs/doctor.md explains the words of the third column")
	}
	fmt.Fprintln(w)
}

// writeColumns writes rows in columns. What a terminal could act on, and the end of a line, is
// escaped.
func writeColumns(w io.Writer, rows [][]string) {
	var widths []int
	for _, row := range rows {
		for i, text := range row {
			if i == len(widths) {
				widths = append(widths, 0)
			}
			widths[i] = max(widths[i], columnsOfText(text, false))
		}
	}
	for _, row := range rows {
		var line []byte
		for i, text := range row {
			line = appendVisible(line, text, false)
			if i < len(row)-1 {
				line = appendSpaces(line, widths[i]-columnsOfText(text, false)+len("  "))
			}
		}
		w.Write(append(line, '\n'))
	}
}

// writeJSON writes the report as one document.
func (r *report) writeJSON(w io.Writer, path string) error {
	var text bytes.Buffer
	encoder := json.NewEncoder(&text)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	if err := encoder.Encode(struct {
		OK       bool      `json:"ok"`
		Config   string    `json:"config"`
		Version  string    `json:"version"`
		Findings []finding `json:"findings"`
	}{r.count(severityError) == 0, path, buildVersion(), r.findings()}); err != nil {
		return err
	}
	_, err := w.Write(text.Bytes())
	return err
}

// isUTF8Locale reports whether the locale of the environment is in UTF-8: POSIX, "Internationalization
// Variables".
// https://pubs.opengroup.org/onlinepubs/9799919799/basedefs/V1_chap08.html#tag_08_02
func isUTF8Locale(env func(string) string) bool {
	for _, name := range []string{"LC_ALL", "LC_CTYPE", "LANG"} {
		if value := strings.ToLower(env(name)); value != "" {
			return strings.Contains(value, "utf-8") || strings.Contains(value, "utf8")
		}
	}
	return false
}

// maxProgress is the width of the line of progress, in characters: less than any terminal's.
const maxProgress = 78

// showProgress keeps one line of w up to date until the function that it returns is called.
func (r *report) showProgress(w io.Writer) (end func()) {
	var mu sync.Mutex // held while the line is written
	ended := false
	r.progress = func() {
		mu.Lock()
		defer mu.Unlock()
		if !ended {
			fmt.Fprintf(w, "\r\x1b[K%s", shortened(r.steps(), maxProgress))
		}
	}
	return func() {
		mu.Lock()
		defer mu.Unlock()
		ended = true
		fmt.Fprint(w, "\r\x1b[K")
	}
}

// steps returns what is being looked at.
func (r *report) steps() string {
	var all []string
	for _, s := range r.chapters {
		s.mu.Lock()
		if s.step != "" {
			all = append(all, s.title+": "+s.step)
		}
		s.mu.Unlock()
	}
	return strings.Join(all, ", ")
}

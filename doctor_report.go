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
	"unicode/utf8"
)

// A severity says what a finding means for the exit status: only problem fails.
type severity string

const (
	fine    severity = "ok"
	caution severity = "warning"
	problem severity = "error"
)

// verdicts are all that a finding can say, by the name that docs/doctor.md explains.
var verdicts = map[string]severity{
	"config_ok": fine, "config_warning": caution, "config_error": problem,

	"port_free": fine, "port_gateway": caution, "port_taken": problem, "port_refused": problem,
	"certificate_ok": fine, "certificate_expires": caution, "certificate_expired": problem, "certificate_error": problem,
	"client_ca_expired": caution, "descriptors_ok": fine, "descriptors_few": caution, "bucket_unused": caution,

	"connected": fine, "dns_unknown": problem, "dns_failed": problem, "connection_refused": problem, "connection_timeout": problem, "connection_failed": problem,
	"tls_ok": fine, "tls_expires": caution, "tls_expired": problem, "tls_authority": problem, "tls_name": problem,
	"tls_invalid": problem, "tls_plain": problem, "tls_failed": problem, "plain_tls": problem,

	"no_answer": problem, "broken_off": problem, "not_http": problem, "redirected": problem, "not_s3": problem,
	"clock_ok": fine, "clock_drift": caution, "clock_wrong": problem,
	"credentials_missing": problem, "credentials_ok": fine, "key_unknown": problem, "secret_wrong": problem, "token_wrong": problem,
	"region_wrong": problem, "endpoint_wrong": problem, "addressing_wrong": problem, "backend_error": problem, "backend_refuses": problem,

	"bucket_ok": fine, "bucket_missing": problem, "bucket_denied": problem,
	"write_ok": fine, "write_denied": problem, "write_failed": problem, "write_differs": problem, "probe_left": caution,

	"redis_ok": fine, "redis_password": problem, "redis_right": problem, "redis_refuses": problem, "redis_slow": problem, "redis_clock": caution, "not_redis": problem,
}

// A finding is one line of the report.
type finding struct {
	Severity severity `json:"severity"`
	Subject  string   `json:"subject"` // a setting, or a bucket
	Verdict  string   `json:"verdict"` // of verdicts
	Text     string   `json:"text"`    // what is the case, and what to do
}

// A report is what was found, in sections that are filled at the same time.
type report struct {
	secrets  func() []string // that no finding may hold a piece of
	sections []*section
	progress func() // called after each step of a section; may be nil
}

// A section is the findings about one thing, in order. It may be used by several goroutines
// at once.
type section struct {
	report *report
	title  string

	mu       sync.Mutex // guards the rest
	findings []finding
	step     string // what is being looked at; "": nothing any more
}

// section adds a section. It is called before the sections are filled.
func (r *report) section(title string) *section {
	s := &section{report: r, title: title}
	r.sections = append(r.sections, s)
	return s
}

// add adds a finding. A text of a peer must have gone through foreign.
func (s *section) add(subject, verdict, format string, args ...any) {
	kind, known := verdicts[verdict]
	if !known {
		kind = problem
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.findings = append(s.findings, finding{kind, subject, verdict, fmt.Sprintf(format, args...)})
}

// begin notes what is looked at next; "" is the end.
func (s *section) begin(step string) {
	s.mu.Lock()
	s.step = step
	s.mu.Unlock()
	if s.report.progress != nil {
		s.report.progress()
	}
}

// maxForeign bounds a text of a peer, in bytes.
const maxForeign = 240

// foreign returns a text that a peer wrote, if it may be in a report: it is short, it is
// printable, and it holds no piece of a secret, nor of those in more.
func (s *section) foreign(text string, more ...string) string {
	odd := func(c rune) bool { return c < ' ' || c > '~' }
	switch {
	case text == "":
		return "(nothing)"
	case len(text) > maxForeign, strings.ContainsFunc(text, odd):
		return "(a text that is not shown)"
	case slices.ContainsFunc(append(more, s.report.secrets()...), func(secret string) bool { return holdsPiece(text, secret) }):
		return "(a text that repeats a secret)"
	}
	return text
}

// findings returns the findings of all sections, in their order.
func (r *report) findings() []finding {
	all := []finding{}
	for _, s := range r.sections {
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
	true:  {fine: "✓", caution: "!", problem: "✗"},
	false: {fine: "ok", caution: "warning", problem: "ERROR"},
}

// writeTable writes a line for each finding, and a summary.
func (r *report) writeTable(w io.Writer, utf8Locale bool) {
	all := r.findings()
	mark, subjects, names := 0, 0, 0
	for _, f := range all {
		mark = max(mark, utf8.RuneCountInString(marks[utf8Locale][f.Severity]))
		subjects, names = max(subjects, len(f.Subject)), max(names, len(f.Verdict))
	}
	for _, f := range all {
		fmt.Fprintf(w, "%-*s  %-*s  %-*s  %s\n", mark, marks[utf8Locale][f.Severity], subjects, f.Subject, names, f.Verdict, f.Text)
	}
	fmt.Fprintf(w, "\n%s, %s", plural(r.count(problem), "error"), plural(r.count(caution), "warning"))
	if r.count(problem)+r.count(caution) > 0 {
		fmt.Fprint(w, "; docs/doctor.md explains the words of the third column")
	}
	fmt.Fprintln(w)
}

func plural(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
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
	}{r.count(problem) == 0, path, buildVersion(), r.findings()}); err != nil {
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
	for _, s := range r.sections {
		s.mu.Lock()
		if s.step != "" {
			all = append(all, s.title+": "+s.step)
		}
		s.mu.Unlock()
	}
	return strings.Join(all, ", ")
}

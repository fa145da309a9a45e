package main

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// A patient is a configuration for the doctor, and what it should find.
type patient struct {
	name    string
	config  map[string]any
	write   bool
	dialer  func(ctx context.Context, network, addr string) (net.Conn, error)
	subject string   // of the finding that is wanted
	verdict string   // of it
	text    []string // that is in it
}

// everyVerdict collects what the doctor has found in a test, so that no verdict is without one.
type everyVerdict struct {
	mu   sync.Mutex // guards seen
	seen map[string]bool
}

// examine runs the doctor, and returns the report. No secret may be in it.
func (e *everyVerdict) examine(t *testing.T, p patient) *report {
	t.Helper()
	path := filepath.Join(t.TempDir(), "config.json")
	data, err := json.Marshal(p.config)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	r := (&doctor{write: p.write, dialer: p.dialer}).examine(t.Context(), path)
	e.note(r)
	text := renderings(t, r)
	checkNoSecret(t, "the report", text)
	if strings.ContainsFunc(text, func(c rune) bool { return c < ' ' && c != '\n' }) {
		t.Errorf("a control character is in the report:\n%q", text)
	}
	return r
}

func (e *everyVerdict) note(r *report) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, f := range r.findings() {
		e.seen[f.Verdict] = true
	}
}

// renderings returns a report in all its forms.
func renderings(t *testing.T, r *report) string {
	t.Helper()
	var out bytes.Buffer
	r.writeTable(&out, false)
	if err := r.writeJSON(&out, "config.json"); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

// diagnose examines patients and wants their findings.
func (e *everyVerdict) diagnose(t *testing.T, patients []patient) {
	for _, p := range patients {
		t.Run(p.verdict+" "+p.name, func(t *testing.T) {
			t.Parallel()
			e.examine(t, p).want(t, p.subject, p.verdict, p.text...)
		})
	}
}

// want fails the test unless there is a finding, with these texts in it.
func (r *report) want(t *testing.T, subject, verdict string, text ...string) {
	t.Helper()
	for _, f := range r.findings() {
		if f.Subject == subject && f.Verdict == verdict {
			for _, part := range text {
				if !strings.Contains(f.Text, part) {
					t.Errorf("%s %s says %q, want %q in it", subject, verdict, f.Text, part)
				}
			}
			return
		}
	}
	t.Errorf("no finding %s %s:\n%s", subject, verdict, renderings(t, r))
}

// Each verdict is found where it is the case.
func TestDoctorFindsEveryVerdict(t *testing.T) {
	e := &everyVerdict{seen: map[string]bool{}}
	t.Run("all", func(t *testing.T) {
		for name, test := range map[string]func(t *testing.T, e *everyVerdict){
			"configuration": testDoctorConfiguration,
			"local":         testDoctorLocal,
			"connection":    testDoctorConnection,
			"TLS":           testDoctorTLS,
			"answer":        testDoctorAnswer,
			"bucket":        testDoctorBucket,
			"write":         testDoctorWrite,
			"Redis":         testDoctorRedis,
		} {
			t.Run(name, func(t *testing.T) { test(t, e) })
		}
	})
	if strings.Contains(flag.Lookup("test.run").Value.String(), "/") {
		return // a part of them was run
	}
	if missing := slices.DeleteFunc(slices.Sorted(maps.Keys(verdicts)), func(name string) bool { return e.seen[name] }); len(missing) > 0 {
		t.Errorf("no test finds %v", missing)
	}
	for name := range e.seen {
		if _, known := verdicts[name]; !known {
			t.Errorf("the verdict %q is not in the table", name)
		}
	}
}

func testDoctorConfiguration(t *testing.T, e *everyVerdict) {
	e.diagnose(t, []patient{
		{name: "of two settings", config: testConfig("ftp://x", with("users.user.role", "king")), subject: "users.user.role", verdict: "config_error", text: []string{`not "king"`}},
		{name: "an endpoint with a bucket", config: testConfig("http://127.0.0.1:1/photos"), subject: "accounts.main.endpoint_url", verdict: "config_error", text: []string{"leave it out"}},
		{name: "a user without buckets", config: testConfig("http://127.0.0.1:1"), subject: "users.none", verdict: "config_warning", text: []string{"allowed_buckets"}},
	})
}

// All errors of a file are separate findings, and there is nothing else.
func TestDoctorListsEveryConfigurationError(t *testing.T) {
	path := writeConfig(t, testConfig("ftp://x", with("users.user.role", "king"), with("server.port", 99999)))
	var subjects []string
	for _, f := range (&doctor{}).examine(t.Context(), path).findings() {
		subjects = append(subjects, f.Subject)
	}
	if want := []string{"server.port", "accounts.main.endpoint_url", "users.user.role"}; !slices.Equal(subjects, want) {
		t.Errorf("findings about %q, want %q", subjects, want)
	}
}

// The command prints the table or the document, and its status is that of the errors.
func TestDoctorCommand(t *testing.T) {
	healthy := writeConfig(t, testConfig(startDemoBackend(t).URL))
	wrong := writeConfig(t, testConfig(startDemoBackend(t).URL, with("accounts.main.secret_access_key", "another-secret-0123")))
	t.Setenv("LC_ALL", "C.UTF-8")
	for _, test := range []struct {
		args   []string
		status error
		want   string
	}{
		{[]string{"-config", healthy, "-write"}, nil, "✓  bucket photos "},
		{[]string{"-config", healthy, "-json"}, nil, `"ok": true`},
		{[]string{"-config", wrong}, errReported, "✗  accounts.main "},
		{[]string{"-config", wrong, "-json"}, errReported, `"verdict": "secret_wrong"`},
		{[]string{"-config", wrong + ".none"}, errReported, "no such file"},
	} {
		var out syncBuffer
		err := run(t.Context(), append([]string{"doctor"}, test.args...), &out, &out)
		if err != test.status || !strings.Contains(out.String(), test.want) {
			t.Errorf("doctor %q = %v, want %v and %q in\n%s", test.args, err, test.status, test.want, out.String())
		}
		checkNoSecret(t, "the output", out.String())
		if slices.Contains(test.args, "-json") && !json.Valid([]byte(out.String())) {
			t.Errorf("doctor %q is no JSON document:\n%s", test.args, out.String())
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := run(ctx, []string{"doctor", "-config", healthy}, &syncBuffer{}, &syncBuffer{}); err == nil || err == errReported {
		t.Errorf("an interrupted doctor = %v, want an error that says so", err)
	}
}

// A terminal that is not in UTF-8 gets words in ASCII.
func TestDoctorMarksFollowTheLocale(t *testing.T) {
	r := &report{}
	s := r.chapter("x")
	s.add("a", "bucket_ok", "a")
	s.add("b", "bucket_denied", "b")
	for _, test := range []struct {
		env  map[string]string
		utf8 bool
	}{
		{nil, false},
		{map[string]string{"LANG": "C"}, false},
		{map[string]string{"LANG": "de_DE.UTF-8"}, true},
		{map[string]string{"LANG": "C.utf8"}, true},
		{map[string]string{"LANG": "de_DE.UTF-8", "LC_ALL": "C"}, false},
		{map[string]string{"LC_CTYPE": "en_US.UTF-8", "LANG": "C"}, true},
	} {
		got := isUTF8Locale(func(name string) string { return test.env[name] })
		var out bytes.Buffer
		r.writeTable(&out, got)
		ascii := !strings.ContainsFunc(out.String(), func(c rune) bool { return c > '~' })
		if got != test.utf8 || ascii == test.utf8 {
			t.Errorf("with %v: UTF-8 is %t, want %t; the table is %q", test.env, got, test.utf8, out.String())
		}
	}
}

// The line of progress says what is waited for, and is gone at the end.
func TestDoctorProgress(t *testing.T) {
	var out syncBuffer
	r := &report{}
	s := r.chapter("accounts.main")
	end := r.showProgress(&out)
	s.begin("connection")
	if !strings.Contains(out.String(), "accounts.main: connection") {
		t.Errorf("progress = %q", out.String())
	}
	end()
	s.begin("buckets") // by a goroutine that is late
	if got := out.String(); !strings.HasSuffix(got, "\r\x1b[K") || strings.Contains(got, "buckets") {
		t.Errorf("progress at the end = %q, want an empty line", got)
	}
}

// hostileTexts hold what a hostile backend may send where the doctor reads a word: secrets in
// pieces and whole, the request's own signature, and what would change a terminal.
func hostileTexts(r *http.Request) []string {
	_, signed, _ := strings.Cut(r.Header.Get("Authorization"), "Signature=")
	return []string{
		testCredentials.SecretAccessKey, testCredentials.AccessKeyID, strings.ToLower(testCredentials.AccessKeyID), userKey,
		testCredentials.SecretAccessKey[4:16], signed, signed[:30], "Signature=" + signed,
		"\x1b[31mred", "line\nbreak", strings.Repeat("a", 5000), "eu-west-1\x00", "\u202eevil",
	}
}

// Whatever a backend says, and wherever, nothing secret is in the report.
func TestDoctorRepeatsNoSecret(t *testing.T) {
	e := &everyVerdict{seen: map[string]bool{}}
	for i := range 13 {
		for _, shape := range []string{"AuthorizationHeaderMalformed", "PermanentRedirect", "InvalidArgument", "AccessDenied", "NoSuchBucket", "SlowDown", "html", "code"} {
			t.Run(fmt.Sprint(shape, i), func(t *testing.T) {
				t.Parallel()
				var mu sync.Mutex
				said := map[string]bool{}
				backend := startRecorder(t, func(w http.ResponseWriter, r *http.Request) {
					text := hostileTexts(r)[i]
					mu.Lock()
					said[text] = true
					mu.Unlock()
					w.Header().Set("x-amz-bucket-region", regexp.MustCompile(`[^ -~]`).ReplaceAllString(text, "?"))
					escaped := string(appendText(nil, text))
					switch {
					case r.URL.Path == "/" && shape != "html":
						fmt.Fprintf(w, "<ListAllMyBucketsResult><Buckets><Bucket><Name>%s</Name></Bucket></Buckets></ListAllMyBucketsResult>", escaped)
					case shape == "html":
						fmt.Fprintf(w, "<html>%s</html>", escaped)
					case shape == "code":
						w.WriteHeader(400)
						fmt.Fprintf(w, "<Error><Code>%s</Code></Error>", escaped)
					default:
						w.WriteHeader(400)
						fmt.Fprintf(w, "<Error><Code>%s</Code><Message>expecting '%s' %[2]s</Message><Region>%[2]s</Region></Error>", shape, escaped)
					}
				})
				text := renderings(t, e.examine(t, patient{config: testConfig(backend.URL)}))
				for word := range said {
					if len(word) > 7 && strings.Contains(text, word) {
						t.Errorf("the report repeats %q:\n%s", word, text)
					}
				}
			})
		}
	}
}

// drip sends a text once a second, until the connection is closed.
func drip(conn net.Conn, text string) {
	for {
		time.Sleep(time.Second)
		if _, err := io.WriteString(conn, text); err != nil {
			return
		}
	}
}

// A backend that never ends its answer takes an account 10 seconds, and others no longer.
func TestDoctorIsBoundedInTime(t *testing.T) {
	data, err := json.Marshal(testConfig("http://s3.example", with("accounts.main.buckets", []any{"photos", "secret", "three"})))
	if err != nil {
		t.Fatal(err)
	}
	for name, serve := range map[string]func(conn net.Conn){
		"silent": func(conn net.Conn) { conn.Read(make([]byte, 4096)) },
		"slow head": func(conn net.Conn) {
			conn.Read(make([]byte, 4096))
			drip(conn, "H")
		},
		"slow body": func(conn net.Conn) {
			conn.Read(make([]byte, 4096))
			fmt.Fprint(conn, "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n<")
			drip(conn, " ")
		},
	} {
		synctest.Test(t, func(t *testing.T) {
			conf, err := parseConfig(data, func(string) (string, bool) { return "", false })
			if err != nil {
				t.Fatal(err)
			}
			r := &report{secrets: func() []string { return nil }}
			examined := addAccount(r, conf, conf.accounts[0], true)
			ctx, cancel := context.WithCancel(t.Context())
			var serving sync.WaitGroup
			examined.upstream.pool.dialer = func(context.Context, string, string) (net.Conn, error) {
				client, server := net.Pipe()
				context.AfterFunc(ctx, func() { server.Close() })
				serving.Go(func() { serve(server) })
				return client, nil
			}
			start := time.Now()
			examined.examine(ctx)
			if took := time.Since(start); took > accountTime {
				t.Errorf("%s: the account took %s, want at most %s", name, took, accountTime)
			}
			r.want(t, "accounts.main", "no_answer")
			cancel()
			serving.Wait()
		})
	}
}

// No text can look like another line, or act on a terminal: not the names of the gateway's own
// certificate, and not those of the configuration.
func TestDoctorTableHasNoControlCharacters(t *testing.T) {
	r := &report{}
	s := r.chapter("x")
	s.add("\x1b[2Jboo", "config_error", "a\n✓ b \u202e\x9b c\xff é")
	s.add("plain", "config_ok", "b")
	var out bytes.Buffer
	r.writeTable(&out, true)
	want := `✗  \x1b[2Jboo  config_error  a\n✓ b \u202e\x9b c\xff é` + "\n" + `✓  plain       config_ok     b` + "\n"
	if got := out.String(); !strings.HasPrefix(got, want) {
		t.Errorf("the table is\n%swant\n%s", got, want)
	}
}

// Every verdict is in docs/doctor.md, with its severity.
func TestEveryVerdictIsInTheDocs(t *testing.T) {
	got := map[string]severity{}
	for line := range strings.Lines(readDoc(t, "docs/doctor.md")) {
		cells := strings.Split(line, "|")
		if len(cells) < 5 || !strings.HasPrefix(strings.TrimSpace(cells[1]), "`") {
			continue
		}
		name, _ := codeSpan(strings.TrimSpace(cells[1]))
		if _, twice := got[name]; twice {
			t.Errorf("docs/doctor.md has %s twice", name)
		}
		if got[name] = severity(strings.TrimSpace(cells[2])); strings.TrimSpace(cells[3]) == "" {
			t.Errorf("docs/doctor.md does not say what %s means", name)
		}
	}
	if !maps.Equal(got, verdicts) {
		t.Errorf("verdicts in the docs = %v, want %v", got, verdicts)
	}
}

package main

import (
	"bufio"
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
	"sync/atomic"
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
			"time":          testDoctorTime,
			"interruption":  testDoctorInterruption,
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
	var out syncBuffer
	if err := run(ctx, []string{"doctor", "-config", healthy}, &out, &syncBuffer{}); err == nil || err == errReported || !strings.Contains(out.String(), " interrupted ") {
		t.Errorf("an interrupted doctor = %v, want an error that says so, and the report\n%s", err, out.String())
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
			r.want(t, "accounts.main", "no_answer", map[string]string{"slow body": "does not end it"}[name])
			cancel()
			serving.Wait()
		})
	}
}

// A slowServer is an S3 server that has every bucket, and takes slowServerTime for each answer.
type slowServer struct {
	objects    sync.Map // by path
	open, most atomic.Int64
	serving    sync.WaitGroup
}

const slowServerTime = 100 * time.Millisecond

// dial is a dialer whose connections all lead to the server.
func (s *slowServer) dial(context.Context, string, string) (net.Conn, error) {
	client, server := net.Pipe()
	for now, most := s.open.Add(1), s.most.Load(); now > most && !s.most.CompareAndSwap(most, now); most = s.most.Load() {
	}
	s.serving.Go(func() { s.serve(server) })
	return &countedConn{Conn: client, closes: sync.OnceFunc(func() { s.open.Add(-1) })}, nil
}

// A countedConn tells when it is closed.
type countedConn struct {
	net.Conn
	closes func()
}

func (c *countedConn) Close() error {
	c.closes()
	return c.Conn.Close()
}

func (s *slowServer) serve(conn net.Conn) {
	defer conn.Close()
	for in := bufio.NewReader(conn); ; {
		r, err := http.ReadRequest(in)
		if err != nil {
			return
		}
		text := ""
		switch object, stored := s.objects.Load(r.URL.Path); {
		case r.Method == "PUT":
			content, _ := io.ReadAll(r.Body)
			s.objects.Store(r.URL.Path, string(content))
		case r.Method == "DELETE":
			s.objects.Delete(r.URL.Path)
		case stored:
			text = object.(string)
		default:
			text = emptyList
		}
		time.Sleep(slowServerTime)
		if _, err := fmt.Fprintf(conn, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(text), text); err != nil {
			return
		}
	}
}

// manyBuckets returns a configuration of accounts with buckets that the admin may use.
func manyBuckets(accounts, buckets int) map[string]any {
	all := map[string]any{}
	for a := range accounts {
		var names []any
		for b := range buckets {
			names = append(names, fmt.Sprintf("bucket-%04d-%04d", a, b))
		}
		all[fmt.Sprintf("account-%04d", a)] = map[string]any{"endpoint_url": "http://s3.example", "access_key_id": testCredentials.AccessKeyID,
			"secret_access_key": testCredentials.SecretAccessKey, "buckets": names}
	}
	return testConfig("http://s3.example", with("accounts", all), with("users", map[string]any{"admin": map[string]any{"api_key": adminKey, "role": "admin", "allowed_buckets": []any{"*"}}}))
}

// An account that answers, and has more buckets than there is time for, has no errors: those that
// were not asked for are counted in a warning. No probe object is begun that there is no time for.
func testDoctorTime(t *testing.T, e *everyVerdict) {
	path := writeConfig(t, manyBuckets(1, 1200))
	for _, write := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			var server slowServer
			start := time.Now()
			r := (&doctor{write: write, dialer: server.dial}).examine(t.Context(), path)
			if took := time.Since(start); took > accountTime+deleteTime {
				t.Errorf("with write %t: took %s", write, took)
			}
			server.serving.Wait()
			server.objects.Range(func(path, _ any) bool {
				t.Errorf("%s was left", path)
				return true
			})
			e.note(r)
			found := map[string]int{}
			for _, f := range r.findings() {
				found[f.Verdict]++
				if f.Severity == severityError || f.Verdict == "probe_left" {
					t.Errorf("with write %t: %s %s: %s", write, f.Subject, f.Verdict, f.Text)
					return
				}
			}
			r.want(t, "accounts.account-0000", "buckets_left", "of 1200 not looked at", "10s")
			if !write && (found["bucket_ok"] < 700 || found["buckets_left"] != 1) {
				t.Errorf("found %v, want nearly 800 buckets_ok and a warning", found)
			}
		})
	}
}

// However many accounts there are, the doctor has few connections at once: a shell may allow 256
// descriptors.
func TestDoctorHasFewConnectionsAtOnce(t *testing.T) {
	path := writeConfig(t, manyBuckets(300, 4))
	synctest.Test(t, func(t *testing.T) {
		var server slowServer
		r := (&doctor{dialer: server.dial}).examine(t.Context(), path)
		server.serving.Wait()
		most := server.most.Load()
		if n := r.count(severityError); n > 0 || most > connectionsAtOnce || most < accountsAtOnce {
			t.Errorf("%d errors and %d connections at once, want none and %d to %d", n, most, accountsAtOnce, connectionsAtOnce)
		}
	})
}

// An interrupted doctor prints what it has found, and that it was interrupted. It deletes the
// object that it was writing, and names it: the write may still be carried out. What the
// interruption made fail is no error.
func testDoctorInterruption(t *testing.T, e *everyVerdict) {
	ctx, interrupt := context.WithCancel(t.Context())
	backend := obstructed(t, "PUT", func(w http.ResponseWriter, r *http.Request) {
		interrupt()
		<-r.Context().Done()
	})
	path := writeConfig(t, testConfig(backend.URL, with("accounts.main.buckets", []any{"photos"}), with("users.none.allowed_buckets", []any{"photos"}), with("users.user.allowed_buckets", []any{"photos"})))
	r := (&doctor{write: true}).examine(ctx, path)
	e.note(r)
	r.want(t, path, "interrupted")
	r.want(t, "bucket photos", "bucket_ok")
	r.want(t, "bucket photos", "probe_left", probePrefix)
	for _, f := range r.findings() {
		if f.Severity == severityError && f.Verdict != "interrupted" {
			t.Errorf("%s %s: %s", f.Subject, f.Verdict, f.Text)
		}
		if f.Verdict != "probe_left" {
			continue
		}
		_, rest, _ := strings.Cut(f.Text, probePrefix)
		key, _, _ := strings.Cut(rest, " ")
		if !slices.ContainsFunc(backend.requests(), func(r seenRequest) bool { return r.method == "DELETE" && r.uri == "/photos/"+probePrefix+key }) {
			t.Errorf("%s was not deleted", key)
		}
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

// The second column begins below the second column, whatever the mark is.
func TestMarksTakeOneColumn(t *testing.T) {
	var out syncBuffer
	writeSteps(&out, []explainedStep{{severityOK, "a", "b"}, {severityWarning, "a", "b"}, {severityError, "a", "b"}}, true)
	if want := "✓  a  b\n!  a  b\n✗  a  b\n"; out.String() != want {
		t.Errorf("the steps are\n%swant\n%s", out.String(), want)
	}
}

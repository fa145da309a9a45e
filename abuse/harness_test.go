// Package abuse holds tests that send hostile bytes to the built gateway: malformed
// requests and answers, connections that break off, and clients and backends that stall.
//
// They know the gateway as its peers do, by its program, its configuration file, its
// port and its log, and nothing of the code. Each starts a process of its own in front
// of a backend of its own, and ends it by its id.
package abuse

// This file is what the tests share: the gateway as a process, a client that writes
// exact bytes, the checks of an answer, and the backends.

import (
	"bufio"
	"bytes"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"net/textproto"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// raceDetector is whether the tests, and the gateway, run under the race detector.
var raceDetector bool

// binary is the path of the program, which TestMain builds.
var binary string

func TestMain(m *testing.M) {
	status, err := buildAndRun(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		status = 1
	}
	os.Exit(status)
}

func buildAndRun(m *testing.M) (status int, err error) {
	dir, err := os.MkdirTemp("", "s3-proxy-abuse-")
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(dir)
	binary = filepath.Join(dir, "s3-proxy")
	arguments := []string{"build", "-buildvcs=false", "-o", binary}
	if raceDetector {
		arguments = append(arguments, "-race")
	}
	build := exec.Command("go", append(arguments, ".")...)
	build.Dir = ".."
	if output, err := build.CombinedOutput(); err != nil {
		return 0, fmt.Errorf("go build: %v\n%s", err, output)
	}
	return m.Run(), nil
}

// openSources makes the program's files known to go test, which otherwise would take a
// result from its cache after they changed: it sees what a test opens, not what go build
// does (see go help test).
var openSources = sync.OnceFunc(func() {
	sources, _ := filepath.Glob("../*.go")
	for _, name := range append(sources, "../go.mod", "../config.example.json") {
		os.Stat(name)
	}
})

// The keys of the users that every test configuration has, and the credentials of its
// account. None may ever be in a log.
const (
	adminKey    = "admin-key-0123456789abcdef" // role admin, every bucket
	userKey     = "user-key-0123456789abcdef"  // role user, bucket photos
	readOnlyKey = "ro-key-0123456789abcdefgh"  // role readonly, bucket photos
	noneKey     = "none-key-0123456789abcdef"  // role user, no bucket

	backendKeyID  = "BACKENDKEYID"
	backendSecret = "backend-secret-canary"
)

// testConfig is a configuration with the buckets photos and secret at endpoint, with
// changes, as with makes them.
func testConfig(endpoint string, changes ...func(map[string]any)) map[string]any {
	c := map[string]any{
		"server": map[string]any{"host": "127.0.0.1", "port": 0, "shutdown_timeout": "50ms"},
		"accounts": map[string]any{"main": map[string]any{
			"endpoint_url": endpoint, "region": "us-east-1",
			"access_key_id": backendKeyID, "secret_access_key": backendSecret,
			"buckets": []any{"photos", "secret"},
		}},
		"users": map[string]any{
			"admin": map[string]any{"api_key": adminKey, "role": "admin", "allowed_buckets": []any{"*"}},
			"user":  map[string]any{"api_key": userKey, "role": "user", "allowed_buckets": []any{"photos"}},
			"ro":    map[string]any{"api_key": readOnlyKey, "role": "readonly", "allowed_buckets": []any{"photos"}},
			"none":  map[string]any{"api_key": noneKey, "role": "user"},
		},
		"rate_limit": map[string]any{"requests": 0},
	}
	for _, change := range changes {
		change(c)
	}
	return c
}

// with returns a change for testConfig: the value at a path like
// "accounts.main.region". Steps that are not there are made.
func with(path string, value any) func(map[string]any) {
	return func(c map[string]any) {
		steps := strings.Split(path, ".")
		for _, step := range steps[:len(steps)-1] {
			next, ok := c[step].(map[string]any)
			if !ok {
				next = map[string]any{}
				c[step] = next
			}
			c = next
		}
		c[steps[len(steps)-1]] = value
	}
}

// A gateway is a running process of the program.
type gateway struct {
	t       testing.TB
	addr    string
	url     string // of addr, by HTTP
	process *os.Process
	logPath string
	stop    func() // ends the process; its log is then complete
}

// startGateway runs the program with a configuration until the test ends. Then no
// secret may be in its log, and the race detector may have found nothing. The
// environment variables env are added to those of the test.
func startGateway(t testing.TB, config map[string]any, env ...string) *gateway {
	t.Helper()
	openSources()
	dir := t.TempDir()
	g := &gateway{t: t, logPath: filepath.Join(dir, "log")}
	data, err := json.Marshal(config)
	if err != nil {
		t.Fatal(err)
	}
	configPath := filepath.Join(dir, "config.json")
	if err := os.WriteFile(configPath, data, 0o600); err != nil {
		t.Fatal(err)
	}
	// A file, not a pipe: what the program has written can be read at once.
	log, err := os.Create(g.logPath)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	command := exec.Command(binary, "-config", configPath, "-log-format", "json", "-log-level", "debug")
	command.Env = append(os.Environ(), "GORACE=atexit_sleep_ms=0") // and not a second at each end
	command.Env = append(command.Env, env...)
	command.Stderr = log
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	g.process = command.Process
	g.stop = sync.OnceFunc(func() {
		command.Process.Signal(syscall.SIGTERM) // then it writes what it has to log
		late := time.AfterFunc(15*time.Second, func() { command.Process.Kill() })
		defer late.Stop()
		command.Wait()
	})
	t.Cleanup(func() {
		g.stop()
		checkNoSecret(t, "the log", g.log())
		if strings.Contains(g.log(), "DATA RACE") {
			t.Errorf("the race detector found:\n%s", g.log())
		}
	})
	g.addr = g.listening()
	g.url = "http://" + g.addr
	return g
}

// startTLSGateway is startGateway with a certificate of its own, and a client that trusts
// it and speaks HTTP/2.
func startTLSGateway(t testing.TB, config map[string]any) (*gateway, *http.Client) {
	t.Helper()
	server := httptest.NewUnstartedServer(nil) // for the certificate that it makes
	server.EnableHTTP2 = true
	server.StartTLS()
	t.Cleanup(server.Close)
	certificate := server.TLS.Certificates[0]
	key, err := x509.MarshalPKCS8PrivateKey(certificate.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	with("server.tls_cert_file", writePEM(t, "CERTIFICATE", certificate.Certificate[0]))(config)
	with("server.tls_key_file", writePEM(t, "PRIVATE KEY", key))(config)
	g := startGateway(t, config)
	g.url = "https://" + g.addr
	return g, server.Client()
}

// writePEM writes data in a file of its own and returns its path.
func writePEM(t testing.TB, kind string, data []byte) (path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "data.pem")
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: data}), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// listening waits for the program to listen and returns its address.
func (g *gateway) listening() (addr string) {
	g.t.Helper()
	await(g.t, "the gateway listens", func() bool {
		for _, line := range g.records() {
			if line["msg"] == "listening" {
				addr, _ = line["addr"].(string)
			}
		}
		return addr != ""
	})
	return addr
}

// withAdmin is a change for testConfig: admin pages on a free port, for metric.
func withAdmin(c map[string]any) {
	with("server.admin", map[string]any{"host": "127.0.0.1", "port": 0})(c)
}

// admin returns the text of an admin page.
func (g *gateway) admin(path string) string {
	g.t.Helper()
	addr := ""
	for _, record := range g.records() {
		if record["msg"] == "admin pages" {
			addr, _ = record["addr"].(string)
		}
	}
	resp, err := http.Get("http://" + addr + path)
	if err != nil {
		g.t.Fatal(err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		g.t.Fatalf("%s: %d, %v", path, resp.StatusCode, err)
	}
	return string(data)
}

// metric returns the value of a metric that has no labels.
func (g *gateway) metric(name string) float64 {
	g.t.Helper()
	for line := range strings.Lines(g.admin("/metrics")) {
		if value, ok := strings.CutPrefix(line, name+" "); ok {
			n, err := strconv.ParseFloat(strings.TrimSpace(value), 64)
			if err != nil {
				g.t.Fatal(err)
			}
			return n
		}
	}
	g.t.Fatalf("there is no metric %s", name)
	return 0
}

// log is what the program has logged so far.
func (g *gateway) log() string {
	data, err := os.ReadFile(g.logPath)
	if err != nil {
		g.t.Error(err)
	}
	return string(data)
}

// records are the lines of the log so far, parsed. A line that is not complete yet is
// left out.
func (g *gateway) records() []map[string]any {
	var records []map[string]any
	for line := range strings.Lines(g.log()) {
		var record map[string]any
		if json.Unmarshal([]byte(line), &record) == nil {
			records = append(records, record)
		}
	}
	return records
}

// lines waits until the access log has n lines, and returns those that it has then. The
// program writes them a little later than the answer.
func (g *gateway) lines(n int) (lines []map[string]any) {
	g.t.Helper()
	await(g.t, fmt.Sprint(n, " lines of the access log"), func() bool {
		lines = nil
		for _, record := range g.records() {
			if record["msg"] == "request" {
				lines = append(lines, record)
			}
		}
		return len(lines) >= n
	})
	return lines
}

// awaitEnd waits until the request on a connection has ended, by its line in the access
// log.
func (g *gateway) awaitEnd(conn net.Conn) {
	g.t.Helper()
	await(g.t, "the end of the request", func() bool {
		return slices.ContainsFunc(g.lines(0), func(line map[string]any) bool { return line["client"] == conn.LocalAddr().String() })
	})
}

// do sends a request to the gateway and returns the answer with its body read.
// The target is a path with an optional query, as it goes out on the wire.
func (g *gateway) do(method, target, key, body string, header ...string) (*http.Response, string) {
	g.t.Helper()
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s HTTP/1.1\r\nHost: gateway.example\r\nConnection: close\r\n", method, target)
	if key != "" {
		fmt.Fprintf(&b, "X-Api-Key: %s\r\n", key)
	}
	for _, line := range header {
		b.WriteString(line + "\r\n")
	}
	if body != "" || method == "PUT" || method == "POST" {
		fmt.Fprintf(&b, "Content-Length: %d\r\n", len(body))
	}
	b.WriteString("\r\n" + body)
	conn := g.dial()
	defer conn.Close()
	go io.WriteString(conn, b.String()) // the gateway may answer, and close, before it has read it all
	resp, text := readAnswer(g.t, method, conn)
	io.Copy(io.Discard, conn) // it is closed when the request has ended
	return resp, text
}

// raw sends bytes to the gateway and reads one answer. The method tells whether
// it has a body.
func (g *gateway) raw(method, request string) (*http.Response, string) {
	g.t.Helper()
	conn := g.dial()
	defer conn.Close()
	go io.WriteString(conn, request) // the gateway may answer, and close, before it has read it all
	return readAnswer(g.t, method, conn)
}

// dial opens a connection to the gateway.
func (g *gateway) dial() net.Conn {
	g.t.Helper()
	conn, err := net.Dial("tcp", g.addr)
	if err != nil {
		g.t.Fatal(err)
	}
	conn.SetDeadline(time.Now().Add(20 * time.Second)) // so that a test that would hang fails
	return conn
}

// An answer is an answer of the gateway with its body read.
type answer struct {
	*http.Response
	text string
}

// answersUntilClose sends bytes on one connection, in one write, and returns every
// answer until the gateway closes it.
func (g *gateway) answersUntilClose(wire string) []answer {
	g.t.Helper()
	conn := g.dial()
	defer conn.Close()
	go io.WriteString(conn, wire)
	r := bufio.NewReader(conn)
	var answers []answer
	for {
		resp, err := http.ReadResponse(r, nil)
		if err != nil {
			if timeout, ok := errors.AsType[net.Error](err); ok && timeout.Timeout() {
				g.t.Errorf("the connection stayed open after %d answers, want it closed", len(answers))
			}
			return answers
		}
		body, _ := io.ReadAll(resp.Body)
		answers = append(answers, answer{resp, string(body)})
	}
}

// readAnswer reads one answer. One that breaks off is returned with what came of it,
// and the error in the header "Test-Error".
func readAnswer(t testing.TB, method string, conn io.Reader) (*http.Response, string) {
	t.Helper()
	resp, err := http.ReadResponse(bufio.NewReader(conn), &http.Request{Method: method})
	if err != nil {
		return &http.Response{Header: http.Header{"Test-Error": {err.Error()}}}, ""
	}
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		resp.Header.Set("Test-Error", err.Error())
	}
	return resp, string(data)
}

// await polls a condition until it holds.
func await(t testing.TB, what string, holds func() bool) {
	t.Helper()
	deadline := time.After(15 * time.Second)
	for !holds() {
		select {
		case <-deadline:
			t.Fatalf("still waiting for %s after 15 s", what)
		case <-time.After(2 * time.Millisecond):
		}
	}
}

// checkNoSecret fails the test if text holds a key, a credential or a signature.
func checkNoSecret(t testing.TB, where, text string) {
	t.Helper()
	for _, secret := range []string{adminKey, userKey, readOnlyKey, noneKey, backendSecret, backendKeyID, "Signature="} {
		if strings.Contains(text, secret) {
			t.Errorf("%s holds %q:\n%s", where, secret, text)
		}
	}
}

// wantError checks an error answer: status, code, JSON body, hardening headers.
func wantError(t testing.TB, resp *http.Response, body string, status int, code string) {
	t.Helper()
	checkHardened(t, resp)
	var e struct {
		Error     string
		Status    int
		Code      string
		RequestID string `json:"request_id"`
	}
	if err := json.Unmarshal([]byte(body), &e); err != nil {
		t.Errorf("answer %d with a body that is not JSON: %q", resp.StatusCode, body)
		return
	}
	if resp.StatusCode != status || e.Status != status || e.Code != code {
		t.Errorf("answer = %d %s, want %d %s", resp.StatusCode, strings.TrimSpace(body), status, code)
	}
	if e.RequestID == "" || e.RequestID != resp.Header.Get("X-Amz-Request-Id") {
		t.Errorf("request_id = %q, header %q, want the same", e.RequestID, resp.Header.Get("X-Amz-Request-Id"))
	}
}

// wantRefusal is wantError for answers that may have any of several codes, such as
// "400 InvalidArgument", and may be XML, as to a listing or an S3 tool, or have no
// body, as to a HEAD.
func wantRefusal(t testing.TB, method string, resp *http.Response, body string, want ...string) {
	t.Helper()
	checkHardened(t, resp)
	checkNoSecret(t, "the answer", body)
	code := ""
	switch {
	case method == "HEAD":
		if body != "" || resp.Header.Get("Content-Length") != "" {
			t.Errorf("HEAD: answer %d with a body or the length of one: %q", resp.StatusCode, body)
		}
	case resp.Header.Get("Content-Type") == "application/xml":
		var e struct {
			XMLName xml.Name `xml:"Error"`
			Code    string
		}
		if err := xml.Unmarshal([]byte(body), &e); err != nil {
			t.Errorf("answer %d, not S3's error document: %q", resp.StatusCode, body)
		}
		code = e.Code
	default:
		var e struct{ Code string }
		if err := json.Unmarshal([]byte(body), &e); err != nil {
			t.Errorf("answer %d, not a JSON error: %q", resp.StatusCode, body)
		}
		code = e.Code
	}
	for _, w := range want {
		status, name, _ := strings.Cut(w, " ")
		if status == strconv.Itoa(resp.StatusCode) && (method == "HEAD" || name == code) {
			return
		}
	}
	t.Errorf("%s: answer %d %q, want one of %q", method, resp.StatusCode, code, want)
}

// checkHardened fails the test if an answer lacks a header that protects browsers.
func checkHardened(t testing.TB, resp *http.Response) {
	t.Helper()
	for name, want := range map[string]string{
		"X-Content-Type-Options":    "nosniff",
		"X-Frame-Options":           "DENY",
		"Strict-Transport-Security": "max-age=31536000",
		"Content-Security-Policy":   "sandbox; default-src 'none'",
	} {
		if got := resp.Header.Values(name); len(got) != 1 || got[0] != want {
			t.Errorf("answer %d: header %s = %q, want %q", resp.StatusCode, name, got, want)
		}
	}
	if got := resp.Header.Values("X-Xss-Protection"); len(got) != 0 { // browsers that heed it have holes by it
		t.Errorf("answer %d: header X-XSS-Protection = %q, want none", resp.StatusCode, got)
	}
}

// payload is n bytes that follow from a seed.
func payload(seed uint64, n int) string {
	var key [32]byte
	key[0] = byte(seed)
	b := make([]byte, n)
	rand.NewChaCha8(key).Read(b)
	return string(b)
}

// A seenRequest is what a recording backend got.
type seenRequest struct {
	method, uri, host string
	header            http.Header
	body              string
	err               error // of reading the body; nil if it came whole
}

// A recorder is a backend that keeps every request it gets and answers with
// handler, or 200 if that is nil.
type recorder struct {
	*httptest.Server
	mu   sync.Mutex // guards seen
	seen []seenRequest
}

func startRecorder(t testing.TB, handler http.HandlerFunc) *recorder {
	t.Helper()
	rec := &recorder{}
	rec.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		rec.mu.Lock()
		rec.seen = append(rec.seen, seenRequest{r.Method, r.RequestURI, r.Host, maps.Clone(r.Header), string(body), err})
		rec.mu.Unlock()
		r.Body = io.NopCloser(bytes.NewReader(body))
		if handler != nil {
			handler(w, r)
		}
	}))
	t.Cleanup(rec.Close)
	return rec
}

func (r *recorder) requests() []seenRequest {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]seenRequest(nil), r.seen...)
}

// wantNone fails the test if the backend has got a request.
func (r *recorder) wantNone(t testing.TB) {
	t.Helper()
	if seen := r.requests(); len(seen) != 0 {
		t.Errorf("the backend got %d requests, want none; the first: %s %s", len(seen), seen[0].method, seen[0].uri)
	}
}

// startRawBackend accepts connections and gives each, with its number from 0,
// to serve; the connection is closed when serve returns.
func startRawBackend(t testing.TB, serve func(n int, conn net.Conn, r *bufio.Reader)) (endpoint string) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var open sync.WaitGroup
	t.Cleanup(func() { listener.Close(); open.Wait() })
	open.Go(func() {
		for n := 0; ; n++ {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			conn.SetDeadline(time.Now().Add(30 * time.Second)) // a test that would hang fails
			open.Go(func() {
				defer conn.Close()
				serve(n, conn, bufio.NewReader(conn))
			})
		}
	})
	return "http://" + listener.Addr().String()
}

// readHead reads the head of a request: the request line and the headers.
func readHead(r *bufio.Reader) (line string, header textproto.MIMEHeader, err error) {
	tp := textproto.NewReader(r)
	if line, err = tp.ReadLine(); err != nil {
		return "", nil, err
	}
	header, err = tp.ReadMIMEHeader()
	return line, header, err
}

// wantDenied checks a refusal in the format that its request gets: JSON,
// XML, or for a HEAD the status alone. Nothing of the backend is in it.
func wantDenied(t *testing.T, method string, resp *http.Response, body string, status int, code string) {
	t.Helper()
	checkNoSecret(t, "the answer", body)
	if failure := resp.Header.Get("Test-Error"); failure != "" {
		t.Errorf("no whole answer: %s", failure)
		return
	}
	if location := resp.Header.Get("Location"); location != "" {
		t.Errorf("the answer leads to %q, want no redirect", location)
	}
	switch {
	case method == "HEAD":
		checkHardened(t, resp)
		if resp.StatusCode != status || body != "" {
			t.Errorf("answer = %d %q, want %d without a body", resp.StatusCode, body, status)
		}
	case resp.Header.Get("Content-Type") == "application/xml":
		checkHardened(t, resp)
		var e struct {
			XMLName   xml.Name `xml:"Error"`
			Code      string
			RequestID string `xml:"RequestId"`
		}
		if err := xml.Unmarshal([]byte(body), &e); err != nil || resp.StatusCode != status || e.Code != code {
			t.Errorf("answer = %d %s, %v, want %d %s", resp.StatusCode, body, err, status, code)
		}
		if e.RequestID == "" || e.RequestID != resp.Header.Get("X-Amz-Request-Id") {
			t.Errorf("RequestId = %q, header %q, want the same", e.RequestID, resp.Header.Get("X-Amz-Request-Id"))
		}
	default:
		wantError(t, resp, body, status, code)
	}
}

// answerEmpty answers as S3 would, as far as the gateway looks: a list for
// a bucket, 204 for a DELETE, else an empty 200.
func answerEmpty(w http.ResponseWriter, r *http.Request) {
	switch {
	case r.Method == "DELETE":
		w.WriteHeader(http.StatusNoContent)
	case r.Method == "GET" && strings.Count(r.URL.Path, "/") == 1:
		io.WriteString(w, `<ListBucketResult><Name>b</Name><IsTruncated>false</IsTruncated></ListBucketResult>`)
	}
}

// bytesUntilClose sends a request on a connection that is closed after the answer,
// and returns every byte that came.
func (g *gateway) bytesUntilClose(request string) string {
	g.t.Helper()
	conn := g.dial()
	defer conn.Close()
	go io.WriteString(conn, request)
	data, err := io.ReadAll(conn)
	if err != nil {
		g.t.Errorf("after %d bytes: %v", len(data), err)
	}
	return string(data)
}

// requestText is a request of one connection as it goes out on the wire.
func requestText(method, target, key, body string, header ...string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s HTTP/1.1\r\nHost: gateway.example\r\nConnection: close\r\n", method, target)
	if key != "" {
		fmt.Fprintf(&b, "X-Api-Key: %s\r\n", key)
	}
	for _, line := range header {
		b.WriteString(line + "\r\n")
	}
	if method == "PUT" {
		fmt.Fprintf(&b, "Content-Length: %d\r\n", len(body))
	}
	return b.String() + "\r\n" + body
}

// refusalCode is the code of an error answer in either format.
func refusalCode(t *testing.T, resp *http.Response, body string) string {
	t.Helper()
	var e struct {
		Code    string `json:"code"`
		Message string `json:"error"`
	}
	var err error
	if resp.Header.Get("Content-Type") == "application/xml" {
		err = xml.Unmarshal([]byte(body), &e)
	} else {
		err = json.Unmarshal([]byte(body), &e)
	}
	if err != nil || e.Message == "" {
		t.Errorf("answer %d, %s: %q: %v, want an error document", resp.StatusCode, resp.Header.Get("Content-Type"), body, err)
	}
	return e.Code
}

// escape encodes a key for a path or a query, with every space as %20.
func escape(key string) string { return strings.ReplaceAll(url.QueryEscape(key), "+", "%20") }

// A zeroReader is an endless stream of zeros.
type zeroReader struct{}

func (zeroReader) Read(p []byte) (int, error) { clear(p); return len(p), nil }

package main

// What the scenario tests share: the whole gateway on a port of its own, before
// backends that record, that misbehave, or that are the embedded server.

import (
	"bufio"
	"bytes"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"net/textproto"
	"os"
	"os/exec"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// The keys of the users that every test configuration has. None may ever be in
// a log.
const (
	adminKey    = "admin-key-0123456789abcdef" // role admin, every bucket
	userKey     = "user-key-0123456789abcdef"  // role user, bucket photos
	readOnlyKey = "ro-key-0123456789abcdefgh"  // role readonly, bucket photos
	noneKey     = "none-key-0123456789abcdef"  // role user, no bucket
)

var testCredentials = credentials{AccessKeyID: "BACKENDKEYID", SecretAccessKey: "backend-secret-canary"}

// testConfig is a configuration with the buckets photos and secret at endpoint.
// Each change is made on the JSON before it is read: set(t, "server.idle_timeout", "1s").
func testConfig(endpoint string, changes ...func(map[string]any)) map[string]any {
	c := map[string]any{
		"server": map[string]any{"port": 0},
		"accounts": map[string]any{"main": map[string]any{
			"endpoint_url": endpoint, "region": "us-east-1",
			"access_key_id": testCredentials.AccessKeyID, "secret_access_key": testCredentials.SecretAccessKey,
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

// A testGateway is a gateway that listens, and what it has logged.
type testGateway struct {
	t    testing.TB
	addr string
	url  string
	log  *syncBuffer
	gw   *gateway
	http *http.Server
}

// startGateway serves a configuration until the test ends. Then no canary may
// be in the log.
func startGateway(t testing.TB, config map[string]any) *testGateway {
	t.Helper()
	data, err := json.Marshal(config)
	if err != nil {
		t.Fatal(err)
	}
	conf, err := parseConfig(data, func(string) (string, bool) { return "", false })
	if err != nil {
		t.Fatalf("parseConfig: %v", err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	g := &testGateway{t: t, addr: listener.Addr().String(), log: &syncBuffer{}}
	g.url = "http://" + g.addr
	log := slog.New(slog.NewJSONHandler(g.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	g.gw = newGateway(conf, newMetrics(), log)
	for _, u := range g.gw.accounts {
		u.backoff, u.budget.always = time.Millisecond, 1000
	}
	g.http = newServer(g.gw, log)
	go g.http.Serve(corkListener{listener})
	t.Cleanup(func() {
		g.http.Close()
		waitUntil(t, "ending the requests", func() bool { return g.gw.metrics.inFlight.Load() == 0 })
		for _, u := range g.gw.accounts {
			u.pool.closeIdle()
		}
		checkNoSecret(t, "the log", g.log.String())
		checkReasons(t, g.log.String())
	})
	return g
}

// settle waits until the requests that were answered are in the log and in the metrics.
func (g *testGateway) settle() {
	for end := time.Now().Add(time.Second); g.gw != nil && g.gw.metrics.inFlight.Load() > 0 && time.Now().Before(end); {
		time.Sleep(time.Millisecond)
	}
}

// lineOf returns the line of the access log about the request with an answer.
func (g *testGateway) lineOf(resp *http.Response) map[string]any {
	g.t.Helper()
	g.settle()
	text := g.log.String()
	at := strings.Index(text, `"msg":"request","request_id":"`+resp.Header.Get("X-Amz-Request-Id"))
	if at < 0 {
		g.t.Fatalf("no line of the request %q", resp.Header.Get("X-Amz-Request-Id"))
	}
	line, _, _ := strings.Cut(text[strings.LastIndex(text[:at], "\n")+1:], "\n")
	var fields map[string]any
	if err := json.Unmarshal([]byte(line), &fields); err != nil {
		g.t.Fatalf("a log line that is not JSON: %q", line)
	}
	return fields
}

// checkReasons fails the test if a line of the log is about an error and does not say why: it needs a
// code, and a reason unless a backend has answered the client's own request.
func checkReasons(t testing.TB, log string) {
	t.Helper()
	for line := range strings.Lines(log) {
		var l loggedRequest
		if json.Unmarshal([]byte(line), &l) != nil || l.Msg != "request" || l.Status < 400 || l.Status == statusClientGone {
			continue
		}
		if l.Code == "" || l.Reason == "" && l.UpstreamStatus == 0 || l.Reason != "" && refusalReason(l.Reason).text() == nil {
			t.Errorf("the log does not say why: %s", line)
		}
	}
}

// checkNoSecret fails the test if text holds one of the canaries.
func checkNoSecret(t testing.TB, where, text string) {
	t.Helper()
	for _, canary := range []string{adminKey, userKey, readOnlyKey, noneKey, testCredentials.SecretAccessKey, testCredentials.AccessKeyID, "Signature="} {
		if strings.Contains(text, canary) {
			t.Errorf("%s holds %q:\n%s", where, canary, text)
		}
	}
}

// do sends a request to the gateway and returns the answer with its body read.
// The target is a path with an optional query, as it goes out on the wire.
func (g *testGateway) do(method, target, key, body string, header ...string) (*http.Response, string) {
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
	io.Copy(io.Discard, conn) // it is closed when the request has ended, and the log has its line
	return resp, text
}

// raw sends bytes to the gateway and reads one answer. The method tells whether
// it has a body. An answer that breaks off is returned with what came of it,
// and the error in the header "Test-Error".
func (g *testGateway) raw(method, request string) (*http.Response, string) {
	g.t.Helper()
	conn := g.dial()
	defer conn.Close()
	go io.WriteString(conn, request) // the gateway may answer, and close, before it has read it all
	return readAnswer(g.t, method, conn)
}

func (g *testGateway) dial() net.Conn {
	g.t.Helper()
	conn, err := net.Dial("tcp", g.addr)
	if err != nil {
		g.t.Fatal(err)
	}
	conn.SetDeadline(time.Now().Add(20 * time.Second)) // so that a test that would hang fails
	return conn
}

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

// lines returns the access log lines so far, parsed. A line is written when the client
// has its answer, so the requests in flight are waited for, unless they take long.
func (g *testGateway) lines() []map[string]any {
	g.t.Helper()
	g.settle()
	var lines []map[string]any
	for line := range strings.Lines(g.log.String()) {
		var m map[string]any
		if err := json.Unmarshal([]byte(line), &m); err != nil {
			g.t.Fatalf("a log line that is not JSON: %q", line)
		}
		if m["msg"] == "request" {
			lines = append(lines, m)
		}
	}
	return lines
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

// A syncBuffer is a bytes.Buffer for several goroutines.
type syncBuffer struct {
	mu  sync.Mutex // guards buf
	buf bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
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

func startRecorder(t *testing.T, handler http.HandlerFunc) *recorder {
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

// wantNone fails the test if the backend has heard anything.
func (r *recorder) wantNone(t *testing.T) {
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

// startDemoBackend is the embedded server with the buckets photos and secret.
func startDemoBackend(t *testing.T) *httptest.Server {
	t.Helper()
	demo, err := newDemoServer(t.TempDir(), testCredentials, "photos", "secret")
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(demo)
	t.Cleanup(server.Close)
	return server
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

// wantRefusal is wantError for answers that may have any of several codes,
// and may be XML, as to a listing or an S3 tool, or have no body, as to a HEAD.
func wantRefusal(t *testing.T, method string, resp *http.Response, body string, want ...string) {
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

// bytesOf returns n bytes that follow from a seed.
func bytesOf(seed uint64, n int) string {
	var key [32]byte
	key[0] = byte(seed)
	b := make([]byte, n)
	rand.NewChaCha8(key).Read(b)
	return string(b)
}

// A wholeAnswer is an answer of the gateway with its body read.
type wholeAnswer struct {
	*http.Response
	text string
}

// answersUntilClose sends bytes on one connection, in one write, and returns every
// answer until the gateway closes it.
func (g *testGateway) answersUntilClose(wire string) []wholeAnswer {
	g.t.Helper()
	conn := g.dial()
	defer conn.Close()
	go io.WriteString(conn, wire)
	r := bufio.NewReader(conn)
	var answers []wholeAnswer
	for {
		resp, err := http.ReadResponse(r, nil)
		if err != nil {
			if timeout, ok := errors.AsType[net.Error](err); ok && timeout.Timeout() {
				g.t.Errorf("the connection stayed open after %d answers, want it closed", len(answers))
			}
			return answers
		}
		body, _ := io.ReadAll(resp.Body)
		answers = append(answers, wholeAnswer{resp, string(body)})
	}
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

func TestGatewayRoundTrip(t *testing.T) {
	g := startGateway(t, testConfig(startDemoBackend(t).URL))
	resp, body := g.do("PUT", "/photos/cat.txt", userKey, "meow", "Content-Type: text/x-cat", "x-amz-meta-name: Tom")
	if resp.StatusCode != 200 || body != "" {
		t.Fatalf("PUT = %d %q, want 200", resp.StatusCode, body)
	}
	checkHardened(t, resp)
	resp, body = g.do("GET", "/photos/cat.txt", readOnlyKey, "")
	if resp.StatusCode != 200 || body != "meow" {
		t.Fatalf("GET = %d %q, want 200 meow", resp.StatusCode, body)
	}
	checkHardened(t, resp)
	for name, want := range map[string]string{
		"Content-Type": "text/x-cat", "X-Amz-Meta-Name": "Tom", "Content-Length": "4",
		"Etag": `"4a4be40c96ac6314e91d93f38043a634"`, // echo -n meow | md5sum
	} {
		if got := resp.Header.Values(name); len(got) != 1 || got[0] != want {
			t.Errorf("GET: header %s = %q, want %q", name, got, want)
		}
	}
	resp, _ = g.do("HEAD", "/photos/cat.txt", readOnlyKey, "")
	if resp.StatusCode != 200 || resp.ContentLength != 4 {
		t.Errorf("HEAD = %d, Content-Length %d, want 200, 4", resp.StatusCode, resp.ContentLength)
	}
	resp, body = g.do("DELETE", "/photos/cat.txt", readOnlyKey, "")
	wantError(t, resp, body, 403, "AccessDenied")
	resp, _ = g.do("DELETE", "/photos/cat.txt", userKey, "")
	if resp.StatusCode != 204 {
		t.Errorf("DELETE = %d, want 204", resp.StatusCode)
	}
	resp, body = g.do("GET", "/photos/cat.txt", readOnlyKey, "")
	wantError(t, resp, body, 404, "NoSuchKey")
	if lines := g.lines(); len(lines) != 6 || lines[0]["operation"] != "PutObject" || lines[0]["bytes_in"] != 4.0 || lines[1]["bytes_out"] != 4.0 {
		t.Errorf("log = %v, want six lines, the first a PutObject of 4 bytes", lines)
	}
}

// bytesUntilClose sends a request on a connection that is closed after the answer,
// and returns every byte that came.
func (g *testGateway) bytesUntilClose(request string) string {
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

// alone reports whether the process runs no other test. If it runs others, alone runs the test in a
// process of its own: what is measured of a process is that of all tests in it, and what
// earlier ones have left may end, be freed or go on meanwhile.
func alone(t *testing.T) bool {
	t.Helper()
	const variable = "S3PROXY_TEST_ALONE"
	if os.Getenv(variable) == t.Name() {
		return true
	}
	self := exec.CommandContext(t.Context(), os.Args[0], "-test.v", "-test.timeout=2m", "-test.run=^"+t.Name()+"$")
	self.Env = append(os.Environ(), variable+"="+t.Name())
	output, err := self.CombinedOutput()
	if err != nil || !bytes.Contains(output, []byte("--- PASS: "+t.Name()+" ")) {
		t.Errorf("in a process of its own: %v\n%s", err, output)
	}
	return false
}

// memoryPeak returns by how many bytes the memory in use grows while f runs.
func memoryPeak(f func()) uint64 {
	defer debug.SetGCPercent(debug.SetGCPercent(5)) // garbage is not in use, of however large a heap
	inUse := func() uint64 {
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapInuse + m.StackInuse
	}
	runtime.GC()
	before := inUse()
	done := make(chan struct{})
	go func() { defer close(done); f() }()
	var peak uint64
	for {
		peak = max(peak, inUse())
		select {
		case <-done:
			return max(peak, before) - before
		case <-time.After(2 * time.Millisecond):
		}
	}
}

// A zeroReader is an endless stream of zeros.
type zeroReader struct{}

func (zeroReader) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// A readerFunc is a function as a reader.
type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

package main

// Abuse and faults of the service as a whole: leaks, browsers, listings, and
// whatever keeps a gateway from being there for everybody else.

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// serviceOperations is a request for each operation that reaches a backend.
var serviceOperations = []struct{ name, method, target, body string }{
	{"HeadBucket", "HEAD", "/photos", ""},
	{"ListObjects", "GET", "/photos", ""},
	{"ListObjects, one page", "GET", "/photos?max-keys=1", ""},
	{"ListObjectsV2", "GET", "/photos?list-type=2", ""},
	{"GetObject", "GET", "/photos/k", ""},
	{"HeadObject", "HEAD", "/photos/k", ""},
	{"PutObject", "PUT", "/photos/k", "meow"},
	{"PutObject, empty", "PUT", "/photos/k", ""},
	{"DeleteObject", "DELETE", "/photos/k", ""},
	{"DeleteObjectVersion", "DELETE", "/photos/k?versionId=1", ""},
}

// serviceBytes sends a request on a connection that is closed after the answer,
// and returns every byte that came.
func serviceBytes(g *testGateway, request string) string {
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

func serviceRequest(method, target, key, body string, header ...string) string {
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

func serviceAnswer(t *testing.T, method, data string) (*http.Response, string) {
	t.Helper()
	return readAnswer(t, method, strings.NewReader(data))
}

// serviceCode is the code of an error answer in either format.
func serviceCode(t *testing.T, resp *http.Response, body string) string {
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

// serviceRaceDetector is whether the tests run under the race detector, which
// makes them ten times as slow.
var serviceRaceDetector = func() bool {
	info, ok := debug.ReadBuildInfo()
	return ok && slices.Contains(info.Settings, debug.BuildSetting{Key: "-race", Value: "true"})
}()

// A serviceProgram is the program itself, as a process.
type serviceProgram struct {
	addr string
	pid  int
	log  *syncBuffer
	stop func() // ends it, and returns when its log is complete
}

// startServiceProgram builds the program and runs it with a configuration until
// the test ends.
func startServiceProgram(t *testing.T, config map[string]any, env ...string) *serviceProgram {
	t.Helper()
	return runServiceProgram(t, buildServiceProgram(t), config, env...)
}

// buildServiceProgram returns the path of the program, built.
func buildServiceProgram(t *testing.T) string {
	t.Helper()
	program := filepath.Join(t.TempDir(), "s3-proxy")
	build := exec.Command("go", "build", "-buildvcs=false", "-o", program, ".")
	if output, err := build.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, output)
	}
	return program
}

// runServiceProgram runs the program with a configuration until the test ends.
func runServiceProgram(t *testing.T, program string, config map[string]any, env ...string) *serviceProgram {
	t.Helper()
	path := filepath.Join(t.TempDir(), "config.json")
	data, err := json.Marshal(config)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	p := &serviceProgram{log: &syncBuffer{}}
	command := exec.Command(program, "-config", path, "-log-format", "json")
	command.Env = append(os.Environ(), env...)
	command.Stderr = p.log
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	p.pid = command.Process.Pid
	p.stop = sync.OnceFunc(func() {
		command.Process.Kill()
		command.Wait()
	})
	t.Cleanup(p.stop)
	await(t, "the program listens", func() bool {
		for line := range strings.Lines(p.log.String()) {
			var l struct{ Msg, Addr string }
			if json.Unmarshal([]byte(line), &l) == nil && l.Msg == "listening" {
				p.addr = l.Addr
			}
		}
		return p.addr != ""
	})
	return p
}

// A backend that refuses the gateway's own credentials or clock says so with its
// host, an access key and the string to sign. None of that is the client's
// business: it gets a 502 of ours, whatever it asked for. The answer to a HEAD
// has no body, so that a GET is asked for the reason of a 400, 401 or 403 there.
func TestAbuse090OwnFaults(t *testing.T) {
	refuse := func(status int, code string, zip bool) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			h := w.Header()
			names := []string{"Server", "X-Amz-Request-Id", "X-Amz-Id-2", "Www-Authenticate", "Set-Cookie"}
			if r.Method != "HEAD" { // where what is end-to-end passes, as with any other 403
				names = append(names, "X-Amz-Bucket-Region", "X-Backend", "Etag", "Content-Language")
			}
			for _, name := range names {
				h.Set(name, "canary-"+name)
			}
			h.Set("Location", "http://canary-location.example"+r.RequestURI)
			h.Set("Content-Type", "application/xml")
			doc := xmlHeader + "<Error><Code>" + code + "</Code><Message>canary-message for " + r.Host + "</Message><AWSAccessKeyId>" + testCredentials.AccessKeyID +
				"</AWSAccessKeyId><StringToSign>AWS4-HMAC-SHA256 canary-string-to-sign</StringToSign><SignatureProvided>canary-signature</SignatureProvided>" +
				"<CanonicalRequest>" + r.Header.Get("Authorization") + "</CanonicalRequest><Endpoint>canary-endpoint.example</Endpoint><Region>canary-region</Region><HostId>canary-host</HostId></Error>"
			if zip && strings.Contains(r.Header.Get("Accept-Encoding"), "gzip") {
				h.Set("Content-Encoding", "gzip")
				w.WriteHeader(status)
				z := gzip.NewWriter(w)
				io.WriteString(z, doc)
				z.Close()
				return
			}
			w.WriteHeader(status)
			io.WriteString(w, doc)
		}
	}
	for _, test := range []struct {
		status int
		code   string
		zip    bool // the backend compresses for a client that takes it
	}{
		{403, "SignatureDoesNotMatch", false},
		{403, "InvalidAccessKeyId", false},
		{403, "RequestTimeTooSkewed", false},
		{400, "AuthorizationHeaderMalformed", false},
		{400, "ExpiredToken", false},
		{301, "PermanentRedirect", false},
		{307, "TemporaryRedirect", false},
		{401, "AccessDenied", false},
		{401, "canary", false},
		{403, "SignatureDoesNotMatch", true},
	} {
		t.Run(fmt.Sprintf("%d %s zip=%t", test.status, test.code, test.zip), func(t *testing.T) {
			backend := startRecorder(t, refuse(test.status, test.code, test.zip))
			g := startGateway(t, testConfig(backend.URL))
			for _, op := range serviceOperations {
				data := serviceBytes(g, serviceRequest(op.method, op.target, adminKey, op.body, "Accept-Encoding: gzip"))
				for _, canary := range []string{"canary", "AWS4-HMAC", testCredentials.AccessKeyID, strings.TrimPrefix(backend.URL, "http://")} {
					if strings.Contains(strings.ToLower(data), strings.ToLower(canary)) {
						t.Errorf("%s: the client gets %q:\n%s", op.name, canary, data)
					}
				}
				resp, body := serviceAnswer(t, op.method, data)
				checkHardened(t, resp)
				switch {
				case op.method == "HEAD":
					if resp.StatusCode != 502 {
						t.Errorf("%s = %d, want 502", op.name, resp.StatusCode)
					}
				default:
					if code := serviceCode(t, resp, body); resp.StatusCode != 502 || code != "BadGateway" {
						t.Errorf("%s = %d %s, want 502 BadGateway", op.name, resp.StatusCode, code)
					}
				}
			}
			want := len(serviceOperations)
			if test.status >= 400 {
				want += 2 // each HEAD is asked again
			}
			if len(backend.requests()) != want {
				t.Errorf("the backend got %d requests, want %d", len(backend.requests()), want)
			}
		})
	}

	// The page after the first of a whole listing has its status out already.
	backend := startRecorder(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Query().Has("continuation-token") {
			refuse(403, "SignatureDoesNotMatch", false)(w, r)
			return
		}
		io.WriteString(w, `<ListBucketResult><IsTruncated>true</IsTruncated><NextContinuationToken>2</NextContinuationToken></ListBucketResult>`)
	})
	g := startGateway(t, testConfig(backend.URL))
	if resp, body := g.do("GET", "/photos", userKey, ""); resp.Header.Get("Test-Error") == "" || strings.Contains(body, "canary") {
		t.Errorf("a list whose second page is refused = %q, want it to break off, without canaries", body)
	}
	if lines := g.lines(); len(lines) != 1 || lines[0]["upstream_status"] != 403.0 || !strings.Contains(fmt.Sprint(lines[0]["cause"]), "SignatureDoesNotMatch") {
		t.Errorf("log = %v, want the backend's status and code in it", lines)
	}
}

// A redirect would take the signature elsewhere, or tell the client where the
// backend is: it is neither followed nor relayed.
func TestAbuse091Redirects(t *testing.T) {
	elsewhere := startRecorder(t, nil)
	for _, status := range []int{300, 301, 302, 303, 305, 307, 308} {
		backend := startRecorder(t, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Location", elsewhere.URL+r.RequestURI)
			w.WriteHeader(status)
		})
		g := startGateway(t, testConfig(backend.URL))
		for _, op := range serviceOperations {
			data := serviceBytes(g, serviceRequest(op.method, op.target, adminKey, op.body))
			if resp, _ := serviceAnswer(t, op.method, data); resp.StatusCode != 502 {
				t.Errorf("%s, redirected with %d = %d, want 502", op.name, status, resp.StatusCode)
			} else {
				checkHardened(t, resp)
			}
			if strings.Contains(data, "Location") || strings.Contains(data, elsewhere.URL) {
				t.Errorf("%s, redirected with %d: the client learns where to:\n%s", op.name, status, data)
			}
		}
	}
	elsewhere.wantNone(t)
}

// A proxy in the environment is not one of the configuration: whoever sets the
// variable would get every signed request. A process reads it once, so this
// takes one of its own; and no proxy is ever used for 127.0.0.1, but for 0.0.0.0,
// which is the same machine.
func TestAbuse091ProxyEnvironment(t *testing.T) {
	proxy, backend := startRecorder(t, nil), startRecorder(t, nil)
	var env []string
	for _, name := range []string{"HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"} {
		env = append(env, name+"="+proxy.URL)
	}
	env = append(env, "NO_PROXY=", "no_proxy=", "REQUEST_METHOD=")
	program := startServiceProgram(t, testConfig(strings.Replace(backend.URL, "127.0.0.1", "0.0.0.0", 1)), env...)
	g := &testGateway{t: t, addr: program.addr}
	for _, op := range serviceOperations {
		g.do(op.method, op.target, adminKey, op.body)
	}
	proxy.wantNone(t)
	if n := len(backend.requests()); n != len(serviceOperations) {
		t.Errorf("the backend got %d requests, want %d", n, len(serviceOperations))
	}
}

// serviceLogged starts a gateway with a log of the given format, at the level
// debug.
func serviceLogged(t *testing.T, format string, config map[string]any) *testGateway {
	t.Helper()
	data, err := json.Marshal(config)
	if err != nil {
		t.Fatal(err)
	}
	conf, err := parseConfig(data, os.LookupEnv)
	if err != nil {
		t.Fatal(err)
	}
	buffer := &syncBuffer{}
	log, err := newLogger(buffer, format, "debug")
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	g := &testGateway{t: t, addr: listener.Addr().String(), log: buffer, gw: newGateway(conf, newMetrics(), log)}
	for _, u := range g.gw.accounts {
		u.backoff = time.Millisecond
	}
	g.http = newServer(g.gw, log)
	go g.http.Serve(corkListener{listener})
	t.Cleanup(func() { g.http.Close() })
	return g
}

// The log is read by more people than may read the objects, so no secret is in
// it, at any level, whatever a client sends and however the answer ends; and no
// client writes lines of its own into it.
func TestAbuse092Log(t *testing.T) {
	const sigV4 = "AWS4-HMAC-SHA256 Credential=admin/20260102/us-east-1/s3/aws4_request,SignedHeaders=host,Signature=5ca1ab1e5ca1ab1e"
	const presigned = "X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=admin%2Fleak1&X-Amz-Date=20260102T030405Z&X-Amz-Expires=60&X-Amz-SignedHeaders=host&X-Amz-Signature=5ca1ab1e5ca1ab1e&X-Amz-Security-Token=leak2"
	secrets := []string{
		adminKey, userKey, readOnlyKey, noneKey, testCredentials.SecretAccessKey, testCredentials.AccessKeyID,
		"session-token-secret", "5ca1ab1e", "leak", "Signature=", "AWS4-HMAC",
	}
	headers := [][]string{
		nil,
		{"Authorization: " + sigV4},
		{"Authorization: Bearer leak3", "Proxy-Authorization: Basic leak4", "Cookie: s=leak5"},
		{"X-Api-Key: " + adminKey},
		{"X-Api-Key: leak6-0123456789abcdef"},
		{"X-Amz-Security-Token: leak7"},
		{"X-Amz-Server-Side-Encryption-Customer-Key: leak8", "X-Amz-Copy-Source-Server-Side-Encryption-Customer-Key: leak9"},
		{"X-Amz-Acl: leak10"}, {"X-Minio-Leak11: leak12"}, {"X-Amz-Content-Sha256: leak13"}, {"Content-Md5: leak14", "Content-Md5: leak15"},
		{"User-Agent: a\tb\"c=d \xe2\x80\xa8 level=ERROR msg=forged \x85\xff"}, {"User-Agent: folded", " level=ERROR msg=forged"},
		{"Referer: https://example.com/?token=leak16", "X-Forwarded-For: leak17", "Range: leak18", "Expect: leak19"},
		{"bad header leak20"},
	}
	targets := []string{
		"/photos/k", "/photos", "/", "/secret/k", "/nosuchbucket/k", "/photos/k?" + presigned, "/photos?" + presigned,
		"/photos/k?versionId=leak21", "/photos/k?leak22=leak23", "/photos/k?response-content-type=leak24%0d%0a", "/photos/k?%zz=leak25", "/photos/k?a;leak26",
		"/photos/leak27%zz", "/photos/../leak28", "/leak29_/k", "leak30", "http://leak31:leak32@example.com/photos/k?" + presigned, "/photos/k#leak33",
		"/photos/a%0Alevel=ERROR%20msg=forged", "/photos/a%0D%0A%7B%22msg%22:%22forged%22%7D", "/photos/%E2%80%A8%E2%80%A9%0B%0C%22%5C%1B[2J",
	}
	for _, format := range []string{"json", "text"} {
		t.Run(format, func(t *testing.T) {
			var status atomic.Int32
			backend := startRecorder(t, func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("X-Amz-Request-Id", "id\tid")
				w.WriteHeader(int(status.Load()))
				io.WriteString(w, "<Error><Code>SignatureDoesNotMatch</Code><StringToSign>"+r.Header.Get("Authorization")+"</StringToSign></Error>")
			})
			g := serviceLogged(t, format, testConfig(backend.URL, with("nested_keys", true), with("accounts.main.session_token", "session-token-secret")))
			requests := 0
			send := func(method, target, key string, header []string) {
				requests++
				conn := g.dial()
				defer conn.Close()
				fmt.Fprint(conn, serviceRequest(method, target, key, "meow", header...))
				io.Copy(io.Discard, conn)
			}
			for i, code := range []int32{200, 403, 503} {
				status.Store(code)
				for j, target := range targets {
					for k, header := range headers {
						send([]string{"GET", "PUT", "DELETE"}[(i+j+k)%3], target, []string{userKey, readOnlyKey, adminKey}[(j+k)%3], header)
					}
				}
			}
			// A handler that panics, and a backend that is gone.
			pool := g.gw.buckets["photos"].upstream.pool
			pool.closeIdle()
			inner := pool.dialer
			pool.dialer = func(context.Context, string, string) (net.Conn, error) {
				var nothing *http.Response
				return nil, fmt.Errorf("status %d\nforged", nothing.StatusCode)
			}
			send("GET", "/photos/k?"+presigned, userKey, []string{"Authorization: " + sigV4})
			pool.dialer = inner
			backend.CloseClientConnections()
			backend.Listener.Close()
			pool.closeIdle()
			send("GET", "/photos/k?"+presigned, userKey, []string{"Authorization: " + sigV4})
			send("PUT", "/photos/k", userKey, nil)

			await(t, "every request is in the log", func() bool {
				return strings.Count(g.log.String(), "connection refused") >= 2
			})
			log := g.log.String()
			if !strings.Contains(log, "panic") || !strings.Contains(log, "retry") {
				t.Error("neither a panic nor a retry is in the log; both were to be")
			}
			for _, secret := range secrets {
				for line := range strings.Lines(log) {
					if strings.Contains(line, secret) {
						// A key of an object may have any name; these were not in a path that is one.
						t.Errorf("the log holds %q: %s", secret, line)
						break
					}
				}
			}
			beginning := regexp.MustCompile(`^time=\S+ level=(DEBUG|INFO|WARN|ERROR) msg=(request|retry|panic|"http: .*"|\S+)`)
			for line := range strings.Lines(log) {
				line = strings.TrimSuffix(line, "\n")
				if strings.ContainsAny(line, "\r\v\f\x1b\u2028\u2029") {
					t.Errorf("a line with a line break or an escape of the client's: %q", line)
				}
				switch {
				case format == "text" && (!beginning.MatchString(line) || strings.Contains(line, " msg=forged") && !strings.Contains(line, `"`)):
					t.Errorf("not a line of ours: %q", line)
				case format == "json":
					var m map[string]any
					if err := json.Unmarshal([]byte(line), &m); err != nil || m["msg"] == "forged" {
						t.Errorf("not a line of ours: %q, %v", line, err)
					}
				}
			}
		})
	}
}

// Whatever net/http has to say of a backend that sends more than its answer,
// it says in the format of the log: a line that no parser reads is a line that
// nobody reads.
func TestAbuse092ProgramLog(t *testing.T) {
	endpoint := startRawBackend(t, func(n int, conn net.Conn, r *bufio.Reader) {
		if _, _, err := readHead(r); err == nil {
			io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nmeowHTTP/1.1 200 OK\r\nX-Surplus: 1\r\n\r\n")
			io.Copy(io.Discard, r)
		}
	})
	program := startServiceProgram(t, testConfig(endpoint))
	g := &testGateway{t: t, addr: program.addr}
	for range 3 {
		if resp, body := g.do("GET", "/photos/k", userKey, ""); resp.StatusCode != 200 || body != "meow" {
			t.Errorf("GET = %d %q, want 200 meow", resp.StatusCode, body)
		}
	}
	await(t, "the requests are in the log", func() bool { return strings.Count(program.log.String(), "GetObject") == 3 })
	program.stop()
	for line := range strings.Lines(program.log.String()) {
		var m map[string]any
		if err := json.Unmarshal([]byte(line), &m); err != nil {
			t.Errorf("a line of the log that is not JSON: %q", line)
		}
	}
}

// A serviceConn is a connection to a backend that panics, or gives an answer of
// its own and panics then, when a request for such a path is written to it.
type serviceConn struct {
	net.Conn
	answer io.Reader
}

func (c *serviceConn) Write(p []byte) (int, error) {
	head, _, _ := strings.Cut(string(p), " HTTP/1.1")
	fault := serviceReader(func([]byte) (int, error) { panic("a fault in the middle") })
	switch {
	case strings.HasSuffix(head, "/panic"):
		panic("a fault of ours")
	case strings.HasSuffix(head, "/nil"):
		var nothing map[string]int
		nothing["x"] = 1
	case strings.HasSuffix(head, "/body"):
		c.answer = io.MultiReader(strings.NewReader("HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\nmeow"), fault)
		return len(p), nil
	case strings.HasSuffix(head, "/chunks"):
		c.answer = io.MultiReader(strings.NewReader("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nmeow\r\n"), fault)
		return len(p), nil
	}
	return c.Conn.Write(p)
}

func (c *serviceConn) Read(p []byte) (int, error) {
	if c.answer != nil {
		return c.answer.Read(p)
	}
	return c.Conn.Read(p)
}

// What a backend says of itself, of its network and to browsers stays behind;
// what it says of the object goes through. The ids of ours take the place of
// the backend's, which the log has.
func TestAbuse094ResponseHeaders(t *testing.T) {
	dropped := http.Header{
		"Server": {"canary"}, "Via": {"1.1 canary"}, "Set-Cookie": {"canary=1"}, "Alt-Svc": {`h3="canary:443"`}, "Location": {"http://canary"},
		"X-Amz-Id-2": {"canary"}, "X-Amz-Request-Id": {"canary-id"}, "Www-Authenticate": {"Basic realm=canary"}, "Proxy-Authenticate": {"canary"},
		"Access-Control-Allow-Origin": {"https://canary.example"}, "Access-Control-Allow-Credentials": {"true; canary"}, "Access-Control-Expose-Headers": {"canary"},
		"Keep-Alive": {"timeout=5, canary"}, "Proxy-Connection": {"canary"}, "Upgrade": {"canary"}, "X-Canary": {"canary"}, "Connection": {"X-Canary"},
		"X-Ratelimit-Limit": {"canary"}, "X-Ratelimit-Remaining": {"canary"}, "X-Ratelimit-Reset": {"canary"},
		"Content-Security-Policy": {"default-src canary"}, "Content-Security-Policy-Report-Only": {"canary"}, "X-Content-Type-Options": {"canary"},
		"X-Frame-Options": {"ALLOW-FROM canary"}, "X-Xss-Protection": {"canary"}, "Strict-Transport-Security": {"canary"},
		"Date": {"Thu, 01 Jan 1970 00:00:00 GMT"},
	}
	passed := http.Header{
		"Etag": {`"e"`}, "Last-Modified": {"Fri, 02 Jan 2026 03:04:05 GMT"}, "Content-Type": {"image/x-cat"}, "Cache-Control": {"no-store"},
		"X-Amz-Version-Id": {"v1"}, "X-Amz-Meta-Name": {"Tom"}, "X-Amz-Checksum-Crc32": {"AAAAAA=="}, "Content-Disposition": {"attachment"},
		"Accept-Ranges": {"bytes"}, "Expires": {"0"}, "X-Amz-Storage-Class": {"STANDARD_IA"},
	}
	for _, status := range []int{200, 206, 304, 404, 412, 416, 500} {
		backend := startRecorder(t, func(w http.ResponseWriter, r *http.Request) {
			for _, set := range []http.Header{dropped, passed} {
				for name, values := range set {
					w.Header()[name] = values
				}
			}
			w.WriteHeader(status)
		})
		g := startGateway(t, testConfig(backend.URL))
		for _, method := range []string{"GET", "HEAD", "PUT", "DELETE"} {
			data := serviceBytes(g, serviceRequest(method, "/photos/k", adminKey, "", "Range: bytes=0-3"))
			if strings.Contains(data, "canary") || strings.Contains(data, "Jan 1970") {
				t.Errorf("%s, %d: the client gets\n%s", method, status, data)
			}
			resp, _ := serviceAnswer(t, method, data)
			checkHardened(t, resp)
			if (status == 206 || status == 304) && (method == "PUT" || method == "DELETE") {
				if resp.StatusCode != 502 {
					t.Errorf("%s = %d for a status that only a read can have, %d, want 502", method, resp.StatusCode, status)
				}
				continue
			}
			if resp.StatusCode != status || len(resp.Header.Values("X-Amz-Request-Id")) != 1 {
				t.Errorf("%s = %d with the request ids %q, want %d with one", method, resp.StatusCode, resp.Header.Values("X-Amz-Request-Id"), status)
			}
			for name, values := range passed {
				bodiless := method == "PUT" || method == "DELETE"
				if (status >= 400 || bodiless) && strings.HasPrefix(name, "Content-") || status == 304 && name == "Content-Type" {
					continue // the body is ours, or there is none (net/http sends no type then)
				}
				if got := resp.Header.Values(name); !slices.Equal(got, values) {
					t.Errorf("%s, %d: header %s = %q, want %q", method, status, name, got, values)
				}
			}
		}
		if line := g.lines()[0]; line["upstream_request_id"] != "canary-id" {
			t.Errorf("upstream_request_id in the log = %v, want the backend's", line["upstream_request_id"])
		}
	}
}

// Every refusal is a document that a parser reads, of the type it says, with the
// hardening headers, and what the client wrote into the request is in it as
// text. A browser that is led to such an answer must find nothing to run.
func TestAbuse095Refusals(t *testing.T) {
	const evil = `%22,%22x%22:%22%3Cscript%3Ealert(1)%3C%2Fscript%3E%E2%80%A8%26lt%3B%5D%5D%3E`
	slow := make(chan struct{})
	backend := startRecorder(t, func(w http.ResponseWriter, r *http.Request) {
		switch {
		case strings.Contains(r.RequestURI, "redirect"):
			w.WriteHeader(301)
		case strings.Contains(r.RequestURI, "slow"):
			<-slow
		case strings.Contains(r.RequestURI, "down"):
			w.WriteHeader(503)
		default:
			w.WriteHeader(404)
			io.WriteString(w, "<Error><Code>NoSuchKey</Code><Message>&lt;script&gt;</Message></Error>")
		}
	})
	defer close(slow)
	hasty := startGateway(t, testConfig(backend.URL, with("nested_keys", true),
		with("accounts.main.response_header_timeout", "200ms"), with("accounts.main.connect_timeout", "200ms")))
	g := startGateway(t, testConfig(backend.URL, with("nested_keys", true), with("max_file_size", 10),
		with("users.limited", map[string]any{"api_key": "limited-key-0123456789", "role": "user", "allowed_buckets": []any{"photos"}, "rate_limit": map[string]any{"requests": 1, "window_seconds": 3600}})))
	strict := startGateway(t, testConfig(backend.URL))
	g.do("GET", "/photos/k", "limited-key-0123456789", "")
	length := "Content-Length: 4\r\n\r\nmeow"
	for _, test := range []struct {
		name     string
		g        *testGateway
		method   string
		target   string
		key      string
		rest     string // of the head, and the body
		status   int
		code     string
		signCode string // for a client that signs, if it is another
		signed   int
	}{
		{"400, path", g, "GET", "/photos/%2e%2e/" + evil, userKey, "\r\n", 400, "InvalidURI", "", 400},
		{"400, bucket", g, "GET", "/" + evil + "/k", userKey, "\r\n", 400, "InvalidBucketName", "", 400},
		{"400, segments", strict, "GET", "/photos/a/" + evil, userKey, "\r\n", 400, "InvalidRequest", "", 400},
		{"400, query", g, "GET", "/photos/k?" + evil + "=1&" + evil + "=2", userKey, "\r\n", 400, "InvalidArgument", "", 400},
		{"400, header", g, "GET", "/photos/" + evil, userKey, "X-Minio-" + "Script: <script>\r\n\r\n", 400, "InvalidRequest", "", 400},
		{"401", g, "GET", "/photos/" + evil, "", "\r\n", 401, "Unauthorized", "AuthorizationHeaderMalformed", 400},
		{"401, wrong key", g, "GET", "/photos/" + evil, "<script>alert(1)</script>", "\r\n", 401, "Unauthorized", "", 401},
		{"403, bucket", g, "GET", "/secret/" + evil, userKey, "\r\n", 403, "AccessDenied", "", 403},
		{"403, role", g, "PUT", "/photos/" + evil, readOnlyKey, length, 403, "AccessDenied", "", 403},
		{"404, bucket", g, "GET", "/nosuch/" + evil, adminKey, "\r\n", 404, "NoSuchBucket", "", 404},
		{"404, key", g, "GET", "/photos/" + evil, userKey, "\r\n", 404, "NoSuchKey", "", 404},
		{"404, a key that XML can't hold", g, "GET", "/photos/%01%EF%BF%BE" + evil, userKey, "\r\n", 404, "NoSuchKey", "", 404},
		{"405", g, "PATCH", "/photos/" + evil, userKey, "\r\n", 405, "MethodNotAllowed", "", 405},
		{"411", g, "PUT", "/photos/" + evil, userKey, "\r\n", 411, "MissingContentLength", "", 411},
		{"413", g, "PUT", "/photos/" + evil, userKey, "Content-Length: 11\r\n\r\n<script>111", 413, "EntityTooLarge", "", 413},
		{"429", g, "GET", "/photos/" + evil, "limited-key-0123456789", "\r\n", 429, "TooManyRequests", "SlowDown", 503},
		{"501, query", g, "GET", "/photos/k?" + evil, userKey, "\r\n", 501, "NotImplemented", "", 501},
		{"501, query that is cut", g, "GET", "/photos/k?" + strings.Repeat("a", 63) + "%E2%80%A8" + evil, userKey, "\r\n", 501, "NotImplemented", "", 501},
		{"409, operation", g, "PUT", "/photos", adminKey, "\r\n", 409, "BucketAlreadyOwnedByYou", "", 409},
		{"501, operation", g, "DELETE", "/photos", adminKey, "\r\n", 501, "NotImplemented", "", 501},
		{"502", g, "GET", "/photos/redirect" + evil, userKey, "\r\n", 502, "BadGateway", "", 502},
		{"503", g, "GET", "/photos/down" + evil, userKey, "\r\n", 503, "ServiceUnavailable", "", 503},
		{"504", hasty, "GET", "/photos/slow" + evil, userKey, "\r\n", 504, "GatewayTimeout", "", 504},
		{"400, list", g, "GET", "/photos?list-type=" + evil, userKey, "\r\n", 400, "InvalidArgument", "", 400},
		{"501, list", g, "GET", "/photos?" + evil, userKey, "\r\n", 501, "NotImplemented", "", 501},
		{"403, list", g, "GET", "/secret?prefix=" + evil, userKey, "\r\n", 403, "AccessDenied", "", 403},
		{"401, list", g, "GET", "/photos?prefix=" + evil, "", "\r\n", 401, "Unauthorized", "AuthorizationHeaderMalformed", 400},
	} {
		for _, signs := range []bool{false, true} {
			head := fmt.Sprintf("%s %s HTTP/1.1\r\nHost: g\r\nConnection: close\r\n", test.method, test.target)
			if test.key != "" {
				head += "X-Api-Key: " + test.key + "\r\n"
			}
			wantType, status, code := "application/json", test.status, test.code
			if strings.HasSuffix(test.name, "list") {
				wantType = "application/xml"
			}
			if signs {
				head += "Authorization: AWS4-HMAC-SHA256 <script>\r\n"
				wantType, status = "application/xml", test.signed
				if test.signCode != "" {
					code = test.signCode
				}
			}
			data := serviceBytes(test.g, head+test.rest)
			resp, body := serviceAnswer(t, test.method, data)
			checkHardened(t, resp)
			if got := serviceCode(t, resp, body); resp.StatusCode != status || got != code || resp.Header.Get("Content-Type") != wantType {
				t.Errorf("%s, signs %t = %d %s %s, want %d %s %s", test.name, signs, resp.StatusCode, got, resp.Header.Get("Content-Type"), status, code, wantType)
			}
			for _, raw := range []string{"<script", "\u2028", `"x":`} {
				if strings.Contains(data, raw) {
					t.Errorf("%s, signs %t: the answer holds %q as it was sent:\n%s", test.name, signs, raw, data)
				}
			}
			if wantType == "application/json" {
				decoder := json.NewDecoder(strings.NewReader(body))
				decoder.DisallowUnknownFields()
				var e struct {
					Error, Code string
					Status      int
					RequestID   string `json:"request_id"`
				}
				if err := decoder.Decode(&e); err != nil || e.Status != status || decoder.More() {
					t.Errorf("%s: %s: %v, want error, status, code and request_id alone", test.name, body, err)
				}
			}
		}
		// The same with HEAD, whose answer has headers only.
		if test.method == "GET" && !strings.HasSuffix(test.name, "list") {
			head := fmt.Sprintf("HEAD %s HTTP/1.1\r\nHost: g\r\nConnection: close\r\nX-Api-Key: %s\r\n", test.target, test.key)
			data := serviceBytes(test.g, head+test.rest)
			resp, _ := serviceAnswer(t, "HEAD", data)
			checkHardened(t, resp)
			if resp.StatusCode != test.status || !strings.HasSuffix(data, "\r\n\r\n") {
				t.Errorf("HEAD, %s = %q, want %d and no body", test.name, data, test.status)
			}
		}
	}
}

// A page that somebody stored is shown by a browser in the gateway's origin. In
// a sandbox, and of the type that was stored, it can't act there.
func TestAbuse096StoredPages(t *testing.T) {
	g := startGateway(t, testConfig(startDemoBackend(t).URL))
	for name, contentType := range map[string]string{
		"page.html": "text/html", "picture.svg": "image/svg+xml", "page.xhtml": "application/xhtml+xml", "odd": "text/html; charset=utf-7", "none": "",
	} {
		const page = `<html><script>fetch('/photos')</script>`
		header := []string{"Content-Type: " + contentType}
		if contentType == "" {
			header = nil
		}
		if resp, body := g.do("PUT", "/photos/"+name, userKey, page, header...); resp.StatusCode != 200 {
			t.Fatalf("PUT = %d %s", resp.StatusCode, body)
		}
		for _, get := range []struct {
			method, query string
			header        []string
			status        int
		}{
			{"GET", "", nil, 200}, {"HEAD", "", nil, 200}, {"GET", "", []string{"Range: bytes=0-5"}, 206},
			{"GET", "?response-content-type=text/html", nil, 200}, {"GET", "", []string{"If-None-Match: *"}, 304},
		} {
			resp, _ := g.do(get.method, "/photos/"+name+get.query, readOnlyKey, "", get.header...)
			if resp.StatusCode != get.status {
				t.Errorf("%s %s %q = %d, want %d", get.method, name, get.header, resp.StatusCode, get.status)
			}
			checkHardened(t, resp)
			if contentType != "" && get.query == "" && get.status < 300 && resp.Header.Get("Content-Type") != contentType {
				t.Errorf("Content-Type = %q, want %q", resp.Header.Get("Content-Type"), contentType)
			}
		}
	}
	// Not even a backend's own headers open the sandbox.
	for _, lax := range []http.Header{
		{"Content-Security-Policy": {"sandbox allow-scripts allow-same-origin"}},
		{"Content-Security-Policy": {"default-src *", "script-src *"}, "X-Content-Type-Options": {"sniff"}},
		{"Connection": {"Content-Security-Policy, X-Content-Type-Options, X-Frame-Options"}},
	} {
		backend := startRecorder(t, func(w http.ResponseWriter, r *http.Request) {
			maps.Copy(w.Header(), lax)
			w.Header().Set("Content-Type", "text/html")
			io.WriteString(w, "<script>")
		})
		g := startGateway(t, testConfig(backend.URL))
		resp, _ := g.do("GET", "/photos/k", userKey, "")
		checkHardened(t, resp)
	}
}

// No page of another origin reads an answer: no header allows it, not even if a
// backend sends one; and a preflight is answered without asking anybody.
func TestAbuse097CORS(t *testing.T) {
	backend := startRecorder(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Access-Control-Allow-Origin", r.Header.Get("Origin"))
		w.Header().Set("Access-Control-Allow-Credentials", "true")
		io.WriteString(w, "meow")
	})
	g := startGateway(t, testConfig(backend.URL))
	for _, target := range []string{"/", "/photos", "/photos/k", "/nosuch/k", "*"} {
		for _, key := range []string{"", userKey} {
			data := serviceBytes(g, serviceRequest("OPTIONS", target, key, "", "Origin: https://evil.example", "Access-Control-Request-Method: PUT", "Access-Control-Request-Headers: x-api-key"))
			resp, body := serviceAnswer(t, "OPTIONS", data)
			checkHardened(t, resp)
			want := 403
			if target == "*" {
				want = 400
			}
			serviceCode(t, resp, body)
			if resp.StatusCode != want || strings.Contains(data, "Access-Control") || strings.Contains(data, "evil") {
				t.Errorf("OPTIONS %s = %s, want %d and no word of other origins", target, data, want)
			}
		}
	}
	backend.wantNone(t)
	for _, op := range serviceOperations {
		data := serviceBytes(g, serviceRequest(op.method, op.target, adminKey, op.body, "Origin: https://evil.example"))
		if strings.Contains(data, "Access-Control") || strings.Contains(data, "evil") {
			t.Errorf("%s = %s, want no word of other origins", op.name, data)
		}
	}
}

// serviceOddKeys are keys at which S3 servers and clients have stumbled.
var serviceOddKeys = []string{
	" leading", "trailing ", "a b", "a+b", "a%2Fb", "a%20b", "%", "100%", "&amp;", `&<>"'`, "]]>", "<![CDATA[x]]>", "<!--x-->", "</Key><Key>forged",
	"\x01", "a\x1fb\x7f", "\t", "a\nb", "a\r\nb", "a\rb", "\u0085", "\u2028", "\ufffe", "\uffff", "\ufffd", "\ufeffbom", "é", "e\u0301", "日本", "😀", "a//b", "dir/", "?a=b&c#d",
	`a\b`, "a;b", "a=b", "~", "(x)", "*", "$", ",", "@", ":",
}

// serviceReference is a numeric reference, which is how keys are written that
// XML has no way to hold.
var serviceReference = regexp.MustCompile(`&(#x[0-9a-fA-F]+|#[0-9]+|lt|gt|amp|quot|apos);`)

// serviceKeys reads the keys of a list as a lenient client does, which takes
// every numeric reference for what it says.
func serviceKeys(t *testing.T, body string) []string {
	t.Helper()
	keys := []string{}
	encoded := strings.Contains(body, "<EncodingType>url</EncodingType>")
	for _, match := range regexp.MustCompile(`(?s)<Key>(.*?)</Key>`).FindAllStringSubmatch(body, -1) {
		key := serviceReference.ReplaceAllStringFunc(match[1], func(ref string) string {
			switch name := ref[1 : len(ref)-1]; {
			case strings.HasPrefix(name, "#x"):
				n, _ := strconv.ParseInt(name[2:], 16, 32)
				return string(rune(n))
			case name[0] == '#':
				n, _ := strconv.Atoi(name[1:])
				return string(rune(n))
			default:
				return map[string]string{"lt": "<", "gt": ">", "amp": "&", "quot": `"`, "apos": "'"}[name]
			}
		})
		if encoded {
			plain, err := url.QueryUnescape(key)
			if err != nil {
				t.Errorf("the key %q is not encoded as encoding-type=url wants it", key)
			}
			key = plain
		}
		keys = append(keys, key)
	}
	return keys
}

// One odd key neither breaks a list nor comes out as another key, in the whole
// list or in pages of either version; and what it is listed as is what it is
// fetched by.
func TestAbuse098OddKeys(t *testing.T) {
	backend := startDemoBackend(t)
	g := startGateway(t, testConfig(backend.URL, with("nested_keys", true)))
	for _, key := range serviceOddKeys {
		if resp, body := g.do("PUT", "/photos/"+uriEncode(key, true), userKey, "body of "+key); resp.StatusCode != 200 {
			t.Fatalf("PUT %q = %d %s", key, resp.StatusCode, body)
		}
	}
	want := slices.Sorted(slices.Values(serviceOddKeys))
	for _, encoding := range []string{"", "encoding-type=url&"} {
		for _, query := range []string{"", "list-type=2&max-keys=7&", "max-keys=7&"} {
			var got []string
			position := ""
			for range 20 {
				resp, body := g.do("GET", "/photos?"+query+encoding+position, readOnlyKey, "")
				if resp.StatusCode != 200 || resp.Header.Get("Test-Error") != "" {
					t.Fatalf("GET ?%s%s%s = %d %s", query, encoding, position, resp.StatusCode, body)
				}
				page := serviceKeys(t, body)
				got = append(got, page...)
				if encoding != "" {
					readList(t, body) // for a strict parser too
				}
				if !strings.Contains(body, "<IsTruncated>true</IsTruncated>") {
					break
				}
				position = "marker=" + uriEncode(page[len(page)-1], true)
				if token := regexp.MustCompile(`<NextContinuationToken>(.*)</NextContinuationToken>`).FindStringSubmatch(body); token != nil {
					position = "continuation-token=" + uriEncode(token[1], true)
				}
			}
			if !slices.Equal(got, want) {
				t.Errorf("the keys of ?%s%s = %q, want %q", query, encoding, got, want)
			}
		}
	}
	for _, key := range want {
		resp, body := g.do("GET", "/photos/"+uriEncode(key, true), readOnlyKey, "")
		if resp.StatusCode != 200 || body != "body of "+key {
			t.Errorf("GET %q = %d %q, want its own body", key, resp.StatusCode, body)
		}
		for _, query := range []string{"prefix=", "list-type=2&prefix="} {
			_, body := g.do("GET", "/photos?"+query+uriEncode(key, true), readOnlyKey, "")
			if !slices.Contains(serviceKeys(t, body), key) {
				t.Errorf("GET ?%s%q = %s, want the key in it", query, key, body)
			}
		}
	}
}

// Servers differ in how they write a list. The keys are the same: those of a
// document that says it is encoded are decoded, others are not touched, so that
// "a%2Fb" stays a key of five characters.
func TestAbuse098BackendsDiffer(t *testing.T) {
	document := func(encoding, contents string) string {
		return xmlHeader + `<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Name>photos</Name><Prefix></Prefix>` +
			encoding + `<MaxKeys>1000</MaxKeys><IsTruncated>false</IsTruncated>` + contents + `</ListBucketResult>`
	}
	contents := func(keys ...string) string {
		var b strings.Builder
		for _, key := range keys {
			b.WriteString("<Contents><Key>" + key + "</Key><LastModified>2026-01-02T03:04:05Z</LastModified><Size>0</Size></Contents>")
		}
		return b.String()
	}
	const yes = "<EncodingType>url</EncodingType>"
	for _, test := range []struct {
		name string
		doc  string
		want []string
	}{
		{"encoded, as S3 does", document(yes, contents("a+b", "a%2Bb", "a%252Fb", "dir/x", "%01", "%26%3C%3E%22%27", "%5D%5D%3E", "%0D%0A", "%EF%BF%BE", "%F0%9F%98%80", "+leading")),
			[]string{"a b", "a+b", "a%2Fb", "dir/x", "\x01", `&<>"'`, "]]>", "\r\n", "\ufffe", "😀", " leading"}},
		{"encoded, as a path is", document(yes, contents("a%20b", "a%2Bb", "a%252Fb", "dir%2Fx", "%f0%9f%98%80")), []string{"a b", "a+b", "a%2Fb", "dir/x", "😀"}},
		{"the encoding named at the end", document("", contents("a%20b")+yes), []string{"a b"}},
		{"not encoded", document("", contents("a+b", "a%2Fb", "a%20b", "100%", "%zz", " leading", "&amp;&lt;&gt;&quot;&apos;", "]]&gt;", "&#13;&#10;", "&#x1F600;", "😀")),
			[]string{"a+b", "a%2Fb", "a%20b", "100%", "%zz", " leading", `&<>"'`, "]]>", "\r\n", "😀", "😀"}},
		{"sections of characters", document("", contents("<![CDATA[a&b<c>]]>", "<![CDATA[]]]]><![CDATA[>]]>")), []string{"a&b<c>", "]]>"}},
		{"white space between the elements", "\n" + strings.ReplaceAll(document("", contents(" a ")), "><", ">\n  <"), []string{" a "}},
		{"an empty encoding", document("<EncodingType></EncodingType>", contents("a%20b")), []string{"a%20b"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			backend := startRecorder(t, func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Query().Get("encoding-type") != "url" {
					t.Errorf("the backend is asked for %s, want encoding-type=url", r.RequestURI)
				}
				io.WriteString(w, strings.TrimPrefix(test.doc, "\n"))
			})
			g := startGateway(t, testConfig(backend.URL))
			for _, query := range []string{"", "?encoding-type=url", "?list-type=2", "?list-type=2&encoding-type=url", "?max-keys=1000", "?marker=&encoding-type=url"} {
				resp, body := g.do("GET", "/photos"+query, readOnlyKey, "")
				if got := serviceKeys(t, body); resp.StatusCode != 200 || !slices.Equal(got, test.want) {
					t.Errorf("GET %q = %d with the keys %q, want %q", query, resp.StatusCode, got, test.want)
				}
				if asked := strings.Contains(query, "encoding-type"); strings.Contains(body, yes) != asked {
					t.Errorf("GET %q = %s; EncodingType is to be there if it was asked for", query, body)
				}
			}
		})
	}
}

// MinIO, and many a proxy in front of a server, compresses lists for clients
// that take it, as Go's own and most browsers do. The gateway reads the list,
// so what it can read is what it has to ask for.
func TestAbuse098CompressedLists(t *testing.T) {
	backend := startRecorder(t, func(w http.ResponseWriter, r *http.Request) {
		if !strings.Contains(r.Header.Get("Accept-Encoding"), "gzip") {
			io.WriteString(w, serviceList)
			return
		}
		w.Header().Set("Content-Encoding", "gzip")
		z := gzip.NewWriter(w)
		io.WriteString(z, serviceList)
		z.Close()
	})
	g := startGateway(t, testConfig(backend.URL))
	for _, target := range []string{"/photos", "/photos?list-type=2", "/photos?max-keys=10"} {
		for _, header := range []string{"Accept-Encoding: gzip", "Accept-Encoding: gzip, deflate, br", "X-None: x"} {
			resp, body := g.do("GET", target, readOnlyKey, "", header)
			if got := serviceKeys(t, body); resp.StatusCode != 200 || resp.Header.Get("Content-Encoding") != "" || !slices.Equal(got, []string{"a", "b&c"}) {
				t.Errorf("GET %s, %s = %d %s, want the keys a and b&c", target, header, resp.StatusCode, body)
			}
		}
	}
}

// A prefix that no key can have, because it is not UTF-8, is refused, or at
// least does not make a document that no parser reads.
func TestAbuse098InvalidUTF8(t *testing.T) {
	g := startGateway(t, testConfig(startDemoBackend(t).URL))
	for _, target := range []string{
		"/photos?prefix=%ff", "/photos?delimiter=%ff", "/photos?list-type=2&prefix=%c0%af", "/photos?marker=%ed%a0%80",
		"/photos?list-type=2&start-after=%ff", "/?prefix=%ff",
	} {
		_, body := g.do("GET", target, readOnlyKey, "")
		var any struct{ XMLName xml.Name }
		if err := xml.Unmarshal([]byte(body), &any); err != nil {
			t.Errorf("GET %s = %q: %v, want XML", target, body, err)
		}
	}
}

const serviceList = xmlHeader + `<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Name>photos</Name><IsTruncated>false</IsTruncated><KeyCount>2</KeyCount>` +
	`<Contents><Key>a</Key></Contents><Contents><Key>b&amp;c</Key></Contents></ListBucketResult>`

// A list that was cut is a 502, wherever it was cut and however its length was
// told: a client that syncs by a shorter list deletes what is not in it.
func TestAbuse100CutLists(t *testing.T) {
	var cut atomic.Int64
	var framing atomic.Value
	backend := startRecorder(t, func(w http.ResponseWriter, r *http.Request) {
		n := int(cut.Load())
		switch framing.Load() {
		case "length of the whole":
			w.Header().Set("Content-Length", strconv.Itoa(len(serviceList)))
			io.WriteString(w, serviceList[:n])
			w.(http.Flusher).Flush()
			if n < len(serviceList) {
				panic(http.ErrAbortHandler)
			}
		case "length of the part":
			w.Header().Set("Content-Length", strconv.Itoa(n))
			io.WriteString(w, serviceList[:n])
		case "chunks, broken":
			w.(http.Flusher).Flush()
			io.WriteString(w, serviceList[:n])
			w.(http.Flusher).Flush()
			if n < len(serviceList) {
				panic(http.ErrAbortHandler)
			}
		case "chunks, ended":
			w.(http.Flusher).Flush()
			io.WriteString(w, serviceList[:n])
		case "the end of the connection":
			conn, _, err := w.(http.Hijacker).Hijack()
			if err != nil {
				t.Error(err)
				return
			}
			io.WriteString(conn, "HTTP/1.0 200 OK\r\nContent-Type: application/xml\r\n\r\n"+serviceList[:n])
			conn.Close()
		}
	})
	g := startGateway(t, testConfig(backend.URL))
	targets := []string{"/photos", "/photos?list-type=2", "/photos?max-keys=10"}
	for i, how := range []string{"length of the whole", "length of the part", "chunks, broken", "chunks, ended", "the end of the connection"} {
		framing.Store(how)
		for n := range len(serviceList) {
			cut.Store(int64(n))
			target := targets[(n+i)%len(targets)]
			resp, body := g.do("GET", target, readOnlyKey, "")
			if code := serviceCode(t, resp, body); resp.StatusCode != 502 || code != "BadGateway" {
				t.Fatalf("GET %s of a list cut after %d of %d bytes (%s) = %d %s, want 502", target, n, len(serviceList), how, resp.StatusCode, body)
			}
		}
		cut.Store(int64(len(serviceList)))
		resp, body := g.do("GET", targets[i%len(targets)], readOnlyKey, "")
		if how == "the end of the connection" { // which is no end, whatever came before it
			if code := serviceCode(t, resp, body); resp.StatusCode != 502 || code != "BadGateway" {
				t.Errorf("the whole list (%s) = %d %s, want 502", how, resp.StatusCode, body)
			}
			continue
		}
		if got := serviceKeys(t, body); resp.StatusCode != 200 || !slices.Equal(got, []string{"a", "b&c"}) {
			t.Errorf("the whole list (%s) = %d %s, want a and b&c", how, resp.StatusCode, body)
		}
	}
}

// A whole list whose next page does not come, or leads nowhere, breaks off: the
// document has no end, and the connection no proper one.
func TestAbuse100LaterPages(t *testing.T) {
	page := func(head, keys string) string {
		return `<ListBucketResult><Name>photos</Name>` + head + `<Contents><Key>` + keys + `</Key></Contents></ListBucketResult>`
	}
	more := func(token string) string {
		return "<IsTruncated>true</IsTruncated><NextContinuationToken>" + token + "</NextContinuationToken>"
	}
	write := func(text string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, text) }
	}
	status := func(code int, body string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(code); io.WriteString(w, body) }
	}
	for _, test := range []struct {
		name string
		next http.HandlerFunc // the second page
	}{
		{"500", status(500, "")},
		{"403", status(403, "<Error><Code>AccessDenied</Code></Error>")},
		{"404", status(404, "<Error><Code>NoSuchBucket</Code></Error>")},
		{"redirect", status(301, "")},
		{"204", status(204, "")},
		{"nothing", write("")},
		{"not XML", write("oops")},
		{"an error with status 200", write("<Error><Code>InternalError</Code></Error>")},
		{"cut", write(page("<IsTruncated>false</IsTruncated>", "b")[:60])},
		{"broken", func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Length", "1000")
			io.WriteString(w, page("", "b")[:60])
			w.(http.Flusher).Flush()
			panic(http.ErrAbortHandler)
		}},
		{"no answer", func(w http.ResponseWriter, r *http.Request) { panic(http.ErrAbortHandler) }},
		{"the same token again", write(page(more("2"), "b"))},
		{"truncated, no token", write(page("<IsTruncated>true</IsTruncated>", "b"))},
		{"truncated, an empty token", write(page(more(""), "b"))},
		{"a key that is not properly encoded", write(page("<IsTruncated>false</IsTruncated><EncodingType>url</EncodingType>", "%zz"))},
		{"too many elements", write(page("<IsTruncated>false</IsTruncated>", "b"+strings.Repeat("<a/>", 16*maxListMembers)))},
		{"nested tags", write(page("<IsTruncated>false</IsTruncated>", strings.Repeat("<a>", 1_000_000)))},
		{"silence", func(w http.ResponseWriter, r *http.Request) {
			w.(http.Flusher).Flush()
			<-r.Context().Done()
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			backend := startRecorder(t, func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Query().Has("continuation-token") {
					test.next(w, r)
					return
				}
				io.WriteString(w, page(more("2"), "a"))
			})
			g := startGateway(t, testConfig(backend.URL, with("server.idle_timeout", "1s")))
			resp, body := g.do("GET", "/photos", readOnlyKey, "")
			if resp.StatusCode != 200 || resp.Header.Get("Test-Error") == "" {
				t.Errorf("GET = %d %q, want a 200 that breaks off", resp.StatusCode, body)
			}
			var any struct{ XMLName xml.Name }
			if err := xml.Unmarshal([]byte(body), &any); err == nil || strings.Contains(body, "</ListBucketResult>") {
				t.Errorf("%q: want a document without its end", body)
			}
			if !strings.Contains(body, "<Key>a</Key>") {
				t.Errorf("%q: want the first page in it", body)
			}
			await(t, "the line in the log", func() bool { return len(g.lines()) == 1 })
			if line := g.lines()[0]; line["aborted"] != true || line["cause"] == nil {
				t.Errorf("log = %v, want aborted and a cause", line)
			}
			if n := len(backend.requests()); n > 7 { // three attempts, each of which net/http may have made twice
				t.Errorf("the backend got %d requests, want at most 7", n)
			}
		})
	}
}

// A page says whether there are more in one of the forms of an XML boolean, or
// by a token for the next. A list that stops there would be a shorter one.
func TestAbuse100MorePages(t *testing.T) {
	for _, more := range []string{
		"<IsTruncated>true</IsTruncated>", "<IsTruncated>1</IsTruncated>", "<IsTruncated> true </IsTruncated>", "<IsTruncated>True</IsTruncated>", "",
	} {
		backend := startRecorder(t, func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Query().Has("continuation-token") {
				io.WriteString(w, `<ListBucketResult><IsTruncated>false</IsTruncated><Contents><Key>b</Key></Contents></ListBucketResult>`)
				return
			}
			io.WriteString(w, `<ListBucketResult>`+more+`<NextContinuationToken>2</NextContinuationToken><Contents><Key>a</Key></Contents></ListBucketResult>`)
		})
		g := startGateway(t, testConfig(backend.URL))
		resp, body := g.do("GET", "/photos", readOnlyKey, "")
		whole := resp.StatusCode == 200 && resp.Header.Get("Test-Error") == ""
		if whole && !slices.Equal(serviceKeys(t, body), []string{"a", "b"}) {
			t.Errorf("a first page with %q and a token = %s, want both pages, or no end", more, body)
		}
	}
}

// A page beyond the bounds is a 502, and costs little more than its bytes.
func TestAbuse100PageBounds(t *testing.T) {
	const million = 1_000_000
	for _, test := range []struct{ name, begin, repeat string }{
		{"nested tags", "<ListBucketResult>", "<a>"},
		{"tags", "<ListBucketResult>", "<a></a>"},
		{"a name", "<", "a"},
	} {
		t.Run(test.name, func(t *testing.T) {
			thousand := strings.Repeat(test.repeat, 1000)
			backend := startRecorder(t, func(w http.ResponseWriter, r *http.Request) {
				io.WriteString(w, test.begin)
				for range million / 1000 {
					if _, err := io.WriteString(w, thousand); err != nil {
						return
					}
				}
			})
			g := startGateway(t, testConfig(backend.URL))
			var status int
			peak := servicePeak(func() {
				resp, _ := g.do("GET", "/photos", readOnlyKey, "")
				status = resp.StatusCode
			})
			if status != 502 {
				t.Errorf("GET = %d, want 502", status)
			}
			if peak > 64<<20 {
				t.Errorf("the memory in use grew by %d MB, want less than 64", peak>>20)
			}
			if n := len(g.log.String()); n > 64<<10 {
				t.Errorf("the log has %d bytes of it, want a few", n)
			}
		})
	}
}

// What a backend sends is in the log in part only: a line of it has an end.
func TestAbuse100CauseInLog(t *testing.T) {
	long := strings.Repeat("a", 60_000)
	for _, answer := range []string{
		"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 60026\r\n\r\n<ListBucketResult><" + long + "></b>",
		"HTTP/1.1 200 OK\r\n" + long + "\r\n\r\n",
		long + "\r\n\r\n",
	} {
		endpoint := startRawBackend(t, func(n int, conn net.Conn, r *bufio.Reader) {
			readHead(r)
			io.WriteString(conn, answer)
		})
		g := serviceLogged(t, "json", testConfig(endpoint))
		resp, body := g.do("GET", "/photos", readOnlyKey, "")
		if code := serviceCode(t, resp, body); resp.StatusCode != 502 || code != "BadGateway" {
			t.Errorf("GET = %d %s, want 502", resp.StatusCode, body)
		}
		await(t, "the line in the log", func() bool { return strings.Contains(g.log.String(), `"msg":"request"`) })
		for line := range strings.Lines(g.log.String()) {
			if len(line) > 16<<10 {
				t.Errorf("a line of the log has %d bytes, want a few hundred: %.200s", len(line), line)
			}
		}
	}
}

// servicePeak returns by how many bytes the memory in use grows while f runs.
func servicePeak(f func()) uint64 {
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

// Five hundred clients that send a byte of a header now and then hold a
// connection each until the time for a head is over, and nobody else up.
func TestAbuse103SlowHeaders(t *testing.T) {
	if s := newServer(nil, slog.New(slog.DiscardHandler)); s.ReadHeaderTimeout <= 0 || s.ReadHeaderTimeout > 10*time.Second || s.IdleTimeout <= 0 || s.MaxHeaderBytes <= 0 {
		t.Errorf("ReadHeaderTimeout %s, IdleTimeout %s, MaxHeaderBytes %d, want all of them set", s.ReadHeaderTimeout, s.IdleTimeout, s.MaxHeaderBytes)
	}
	backend := startRecorder(t, func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "meow") })
	g := startGateway(t, testConfig(backend.URL))
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := newServer(g.gw, g.gw.log)
	server.ReadHeaderTimeout = time.Second
	go server.Serve(listener)
	defer server.Close()
	g.addr = listener.Addr().String()

	const clients = 500
	conns := make([]net.Conn, clients)
	var closed sync.WaitGroup
	var early atomic.Int32
	for i := range conns {
		conns[i] = g.dial()
		io.WriteString(conns[i], "GET /photos/k HTTP/1.1\r\nHost: g\r\nX-Slow: ")
		closed.Go(func() {
			answer, _ := io.ReadAll(conns[i])
			if len(answer) > 0 && !bytes.HasPrefix(answer, []byte("HTTP/1.1 4")) {
				early.Add(1)
			}
		})
	}
	ended := make(chan struct{})
	go func() { closed.Wait(); close(ended) }()
	writing := time.NewTicker(50 * time.Millisecond)
	defer writing.Stop()
	for deadline := time.After(15 * time.Second); ; {
		select {
		case <-ended:
		case <-deadline:
			t.Fatal("connections without a whole head are still open after 15 s")
		case <-writing.C:
			for _, conn := range conns {
				conn.Write([]byte("x"))
			}
			start := time.Now()
			resp, body := g.do("GET", "/photos/k", userKey, "")
			if took := time.Since(start); resp.StatusCode != 200 || body != "meow" || took > 10*time.Second {
				t.Errorf("GET among %d slow clients = %d %q after %s, want 200 meow soon", clients, resp.StatusCode, body, took)
			}
			continue
		}
		break
	}
	if early.Load() > 0 {
		t.Errorf("%d connections without a whole head got an answer", early.Load())
	}
	for _, conn := range conns {
		conn.Close()
	}
}

// A client that stops in the middle of an upload, or stops reading a download,
// is cut off when it has made no progress for the idle time; and the backend's
// connection with it.
func TestAbuse104StalledClients(t *testing.T) {
	const idle = "700ms"
	t.Run("upload", func(t *testing.T) {
		demo := startDemoBackend(t)
		ended := make(chan error, 10)
		backend := startRawRelay(t, demo.Listener.Addr().String(), ended)
		g := startGateway(t, testConfig(backend, with("server.idle_timeout", idle)))
		g.do("PUT", "/photos/k", userKey, "old")
		for _, sent := range []int{0, 1, 1 << 20, 2<<20 - 1} {
			conn := g.dial()
			fmt.Fprintf(conn, "PUT /photos/k HTTP/1.1\r\nHost: g\r\nX-Api-Key: %s\r\nContent-Length: %d\r\n\r\n%s", userKey, 2<<20, strings.Repeat("x", sent))
			resp, body := readAnswer(t, "PUT", conn)
			wantError(t, resp, body, 400, "RequestTimeout")
			if rest, err := io.ReadAll(conn); len(rest) > 0 || errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("after the refusal: %q, %v, want the connection closed", rest, err)
			}
			conn.Close()
			select {
			case <-ended:
			case <-time.After(10 * time.Second):
				t.Error("the connection to the backend is still open")
			}
		}
		if _, body := g.do("GET", "/photos/k", userKey, ""); body != "old" {
			t.Errorf("the object = %.20q of %d bytes, want the old one", body, len(body))
		}
	})
	t.Run("download", func(t *testing.T) {
		freed := make(chan error, 1)
		endpoint := startRawBackend(t, func(n int, conn net.Conn, r *bufio.Reader) {
			if _, _, err := readHead(r); err != nil {
				return
			}
			fmt.Fprintf(conn, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n", 1<<30)
			zeros := make([]byte, 64<<10)
			for {
				if _, err := conn.Write(zeros); err != nil {
					freed <- err
					return
				}
			}
		})
		g := startGateway(t, testConfig(endpoint, with("server.idle_timeout", idle)))
		conn := g.dial()
		defer conn.Close()
		fmt.Fprintf(conn, "GET /photos/k HTTP/1.1\r\nHost: g\r\nX-Api-Key: %s\r\n\r\n", userKey)
		if _, err := io.CopyN(io.Discard, conn, 64<<10); err != nil {
			t.Fatal(err)
		}
		select {
		case err := <-freed:
			if errors.Is(err, os.ErrDeadlineExceeded) {
				t.Error("the connection to the backend was held until its own end")
			}
		case <-time.After(15 * time.Second):
			t.Fatal("the connection to the backend is still open")
		}
		if n, err := io.Copy(io.Discard, conn); err == nil && n+64<<10 >= 1<<30 {
			t.Errorf("the client got %d bytes, want a broken answer", n)
		}
		await(t, "the line in the log", func() bool { return len(g.lines()) == 1 })
		if line := g.lines()[0]; line["aborted"] != true {
			t.Errorf("log = %v, want aborted", line)
		}
	})
	// A request that needs no body may announce one; it is not waited for.
	t.Run("a body that nobody wants", func(t *testing.T) {
		g := startGateway(t, testConfig(startDemoBackend(t).URL, with("server.idle_timeout", idle)))
		g.do("PUT", "/photos/k", userKey, "meow")
		var clients sync.WaitGroup
		for _, request := range []string{
			"GET /", "GET /photos", "GET /photos?list-type=2", "HEAD /photos", "GET /photos/k", "HEAD /photos/k", "DELETE /photos/none",
			"GET /secret/k", "GET /photos/none", "GET /photos?policy", "PATCH /photos/k", "PUT /secret/k",
		} {
			clients.Go(func() {
				conn := g.dial() // fails after 20 s
				defer conn.Close()
				fmt.Fprintf(conn, "%s HTTP/1.1\r\nHost: g\r\nX-Api-Key: %s\r\nContent-Length: 5\r\n\r\nx", request, userKey)
				if _, err := io.Copy(io.Discard, conn); errors.Is(err, os.ErrDeadlineExceeded) {
					t.Errorf("%s, with 1 of 5 bytes of a body: the connection is still held after 20 s", request)
				}
			})
		}
		clients.Wait()
	})
}

// startRawRelay passes connections on to addr, and tells when one has ended.
func startRawRelay(t *testing.T, addr string, ended chan<- error) (endpoint string) {
	return startRawBackend(t, func(n int, conn net.Conn, r *bufio.Reader) {
		behind, err := net.Dial("tcp", addr)
		if err != nil {
			ended <- err
			return
		}
		go func() {
			io.Copy(conn, behind)
			conn.Close()
		}()
		_, err = io.Copy(behind, r)
		behind.Close()
		select {
		case ended <- err:
		default:
		}
	})
}

// A transfer that is slow but steady takes as long as it takes: every limit is
// on progress, none on the whole.
func TestAbuse105SlowAndSteady(t *testing.T) {
	const pieces = 30
	pace := func() { <-time.After(100 * time.Millisecond) }
	short := []func(map[string]any){
		with("server.idle_timeout", "2s"), with("accounts.main.connect_timeout", "1s"), with("accounts.main.response_header_timeout", "1s"),
	}
	piece := strings.Repeat("0123456789abcdef", 256)
	t.Run("upload", func(t *testing.T) {
		t.Parallel()
		backend := startDemoBackend(t)
		g := startGateway(t, testConfig(backend.URL, short...))
		conn := g.dial()
		defer conn.Close()
		fmt.Fprintf(conn, "PUT /photos/k HTTP/1.1\r\nHost: g\r\nX-Api-Key: %s\r\nContent-Length: %d\r\n\r\n", userKey, pieces*len(piece))
		for range pieces {
			io.WriteString(conn, piece)
			pace()
		}
		if resp, body := readAnswer(t, "PUT", conn); resp.StatusCode != 200 {
			t.Fatalf("PUT = %d %s, want 200", resp.StatusCode, body)
		}
		if _, body := g.do("GET", "/photos/k", userKey, ""); body != strings.Repeat(piece, pieces) {
			t.Errorf("what is stored has %d bytes, want the %d sent", len(body), pieces*len(piece))
		}
	})
	t.Run("download, slow backend", func(t *testing.T) {
		t.Parallel()
		backend := startRecorder(t, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Length", strconv.Itoa(pieces*len(piece)))
			for range pieces {
				io.WriteString(w, piece)
				w.(http.Flusher).Flush()
				pace()
			}
		})
		g := startGateway(t, testConfig(backend.URL, short...))
		if resp, body := g.do("GET", "/photos/k", userKey, ""); resp.StatusCode != 200 || body != strings.Repeat(piece, pieces) {
			t.Errorf("GET = %d with %d bytes, %s, want all %d", resp.StatusCode, len(body), resp.Header.Get("Test-Error"), pieces*len(piece))
		}
	})
	t.Run("download, slow client", func(t *testing.T) {
		t.Parallel()
		const size = 64 << 20
		backend := startRawBackend(t, func(n int, conn net.Conn, r *bufio.Reader) {
			if _, _, err := readHead(r); err != nil {
				return
			}
			fmt.Fprintf(conn, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n", size)
			io.CopyN(conn, serviceZeros{}, size)
		})
		g := startGateway(t, testConfig(backend, short...))
		conn := g.dial()
		defer conn.Close()
		fmt.Fprintf(conn, "GET /photos/k HTTP/1.1\r\nHost: g\r\nConnection: close\r\nX-Api-Key: %s\r\n\r\n", userKey)
		resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			t.Fatal(err)
		}
		var got int64
		for range pieces {
			n, err := io.CopyN(io.Discard, resp.Body, size/pieces)
			if got += n; err != nil {
				t.Fatalf("after %d bytes: %v", got, err)
			}
			pace()
		}
		rest, err := io.Copy(io.Discard, resp.Body)
		if got += rest; err != nil || got != size {
			t.Errorf("the client got %d bytes, %v, want %d", got, err, size)
		}
	})
	// An answer may come long after the one before it on the same connection.
	t.Run("a connection that rests", func(t *testing.T) {
		t.Parallel()
		backend := startDemoBackend(t)
		g := startGateway(t, testConfig(backend.URL, with("server.idle_timeout", "500ms")))
		conn := g.dial()
		defer conn.Close()
		reader := bufio.NewReader(conn)
		for range 2 {
			fmt.Fprintf(conn, "PUT /photos/k HTTP/1.1\r\nHost: g\r\nX-Api-Key: %s\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n", userKey)
			if resp, err := http.ReadResponse(reader, nil); err != nil || resp.StatusCode != 100 {
				t.Fatalf("PUT = %v, %v, want 100 Continue", resp, err)
			}
			io.WriteString(conn, "meow")
			resp, err := http.ReadResponse(reader, nil)
			if err != nil || resp.StatusCode != 200 {
				t.Fatalf("PUT = %v, %v, want 200", resp, err)
			}
			resp.Body.Close()
			<-time.After(1500 * time.Millisecond) // three times the idle time, which is for transfers
		}
	})
}

// serviceZeros is an endless stream.
type serviceZeros struct{}

func (serviceZeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// Every way in which a backend can be dead ends in a 502 or 504, or in a broken
// answer, within the account's time limits; and the other accounts don't feel it.
func TestAbuse106DeadBackends(t *testing.T) {
	var clients sync.WaitGroup
	start := time.Now()
	const object = "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\nConnection: close\r\n\r\n"
	rest := func(conn net.Conn) { io.Copy(io.Discard, conn) } // until the gateway leaves
	for _, test := range []struct {
		name   string
		scheme string
		serve  func(conn net.Conn, r *bufio.Reader)
		get    int // 0: an answer that breaks off
		put    int
	}{
		{"refuses", "http", nil, 502, 502},
		{"stalls TLS", "https", func(conn net.Conn, r *bufio.Reader) { rest(conn) }, 504, 504},
		{"breaks TLS", "https", func(conn net.Conn, r *bufio.Reader) { io.WriteString(conn, "SSH-2.0-x\r\n") }, 502, 502},
		{"says nothing", "http", func(conn net.Conn, r *bufio.Reader) { rest(conn) }, 504, 504},
		{"a part of a head, then nothing", "http", func(conn net.Conn, r *bufio.Reader) {
			readHead(r)
			io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Le")
			rest(conn)
		}, 504, 504},
		{"a head without end", "http", func(conn net.Conn, r *bufio.Reader) {
			readHead(r)
			io.WriteString(conn, "HTTP/1.1 200 OK\r\nX-A: ")
			for {
				if _, err := conn.Write([]byte("a")); err != nil {
					return
				}
				<-time.After(20 * time.Millisecond)
			}
		}, 504, 504},
		{"a head that is too large", "http", func(conn net.Conn, r *bufio.Reader) {
			readHead(r)
			io.WriteString(conn, "HTTP/1.1 200 OK\r\nX-A: "+strings.Repeat("a", 1<<20)+"\r\n\r\n")
			rest(conn)
		}, 502, 502},
		{"interim answers without end", "http", func(conn net.Conn, r *bufio.Reader) {
			readHead(r)
			for {
				if _, err := io.WriteString(conn, "HTTP/1.1 102 Processing\r\n\r\n"); err != nil {
					return
				}
				<-time.After(20 * time.Millisecond)
			}
		}, -1, -1},
		{"a head, then silence", "http", func(conn net.Conn, r *bufio.Reader) {
			readHead(r)
			io.WriteString(conn, object)
			rest(conn)
		}, 0, -1},
		{"a byte, then silence", "http", func(conn net.Conn, r *bufio.Reader) {
			readHead(r)
			io.WriteString(conn, object+"x")
			rest(conn)
		}, 0, -1},
		{"a head, then the end", "http", func(conn net.Conn, r *bufio.Reader) {
			readHead(r)
			io.WriteString(conn, object)
		}, 0, -1},
		{"resets at once", "http", func(conn net.Conn, r *bufio.Reader) {
			conn.(*net.TCPConn).SetLinger(0)
		}, 502, 502},
		{"resets after the request", "http", func(conn net.Conn, r *bufio.Reader) {
			readHead(r)
			conn.(*net.TCPConn).SetLinger(0)
		}, 502, 502},
		{"hangs up after the request", "http", func(conn net.Conn, r *bufio.Reader) { readHead(r) }, 502, 502},
		{"speaks something else", "http", func(conn net.Conn, r *bufio.Reader) {
			readHead(r)
			io.WriteString(conn, "+OK POP3 ready\r\n")
			rest(conn)
		}, 502, 502},
		{"switches protocols", "http", func(conn net.Conn, r *bufio.Reader) {
			readHead(r)
			io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n")
			rest(conn)
		}, 502, 502},
	} {
		healthy := startRecorder(t, func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "meow") })
		var endpoint string
		if test.serve == nil {
			listener, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			endpoint = "http://" + listener.Addr().String()
			listener.Close()
		} else {
			endpoint = startRawBackend(t, func(n int, conn net.Conn, r *bufio.Reader) { test.serve(conn, r) })
		}
		endpoint = test.scheme + strings.TrimPrefix(endpoint, "http")
		g := startGateway(t, testConfig(endpoint,
			with("server.idle_timeout", "1s"), with("accounts.main.connect_timeout", "700ms"), with("accounts.main.response_header_timeout", "1s"),
			with("accounts.healthy", map[string]any{"endpoint_url": healthy.URL, "access_key_id": "id", "secret_access_key": "secret", "buckets": []any{"healthy"}})))
		for _, method := range []string{"GET", "PUT", "HEAD", "DELETE"} {
			clients.Go(func() {
				resp, body := g.do(method, "/photos/k", adminKey, map[string]string{"PUT": "meow"}[method])
				want := test.put
				if method == "GET" || method == "HEAD" {
					want = test.get
				}
				switch {
				case method == "HEAD" && want == 0 || want == -1: // any answer, as long as there is one
					if resp.StatusCode == 0 && !strings.Contains(resp.Header.Get("Test-Error"), "EOF") {
						t.Errorf("%s: %s: %s", test.name, method, resp.Header.Get("Test-Error"))
					}
				case want == 0:
					if resp.StatusCode != 200 || resp.Header.Get("Test-Error") == "" {
						t.Errorf("%s: %s = %d %.100q, want a 200 that breaks off", test.name, method, resp.StatusCode, body)
					}
				case resp.StatusCode != want:
					t.Errorf("%s: %s = %d %s %s, want %d", test.name, method, resp.StatusCode, body, resp.Header.Get("Test-Error"), want)
				case method != "HEAD":
					wantError(t, resp, body, want, map[int]string{502: "BadGateway", 504: "GatewayTimeout"}[want])
					if strings.Contains(body, "127.0.0.1") {
						t.Errorf("%s: %s: the client learns of the backend: %s", test.name, method, body)
					}
				}
			})
		}
		for range 5 {
			clients.Go(func() {
				asked := time.Now()
				if resp, body := g.do("GET", "/healthy/k", adminKey, ""); resp.StatusCode != 200 || body != "meow" || time.Since(asked) > 10*time.Second {
					t.Errorf("%s: GET of another account = %d %q after %s, want 200 meow", test.name, resp.StatusCode, body, time.Since(asked))
				}
			})
		}
	}
	clients.Wait()
	if took := time.Since(start); took > 15*time.Second {
		t.Errorf("it took %s, want a few seconds", took)
	}
}

// serviceFiles is how many files and sockets the process has open, or 0 where
// that can't be told.
func serviceFiles() int {
	entries, _ := os.ReadDir("/proc/self/fd")
	return len(entries)
}

// Clients that vanish in the middle leave nothing behind: no goroutine, no
// socket on either side, and no object.
func TestAbuse107VanishingClients(t *testing.T) {
	const clients = 100
	var complete atomic.Int32
	begun := make(chan struct{}, clients)
	backend := startRecorder(t, nil)
	backend.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == "PUT" {
			buffer := make([]byte, 1000)
			io.ReadFull(r.Body, buffer)
			begun <- struct{}{}
			if _, err := io.Copy(io.Discard, r.Body); err == nil {
				complete.Add(1)
			}
			return
		}
		w.Header().Set("Content-Length", strconv.Itoa(1<<30))
		io.CopyN(w, serviceZeros{}, 1<<30)
	})
	g := startGateway(t, testConfig(backend.URL))
	g.do("HEAD", "/photos/k", userKey, "") // what stays open, is open now
	goroutines, files := runtime.NumGoroutine(), serviceFiles()

	var conns []net.Conn
	for i := range clients {
		conn := g.dial()
		conns = append(conns, conn)
		if i%2 == 0 {
			fmt.Fprintf(conn, "PUT /photos/k%d HTTP/1.1\r\nHost: g\r\nX-Api-Key: %s\r\nContent-Length: 1000000\r\n\r\n%s", i, userKey, strings.Repeat("x", 5000))
			<-begun
		} else {
			fmt.Fprintf(conn, "GET /photos/k%d HTTP/1.1\r\nHost: g\r\nX-Api-Key: %s\r\n\r\n", i, userKey)
			if _, err := io.CopyN(io.Discard, conn, 1000); err != nil {
				t.Fatal(err)
			}
		}
	}
	for i, conn := range conns {
		if i%3 == 0 {
			conn.(*net.TCPConn).SetLinger(0) // a reset, as of a machine that is gone
		}
		conn.Close()
	}
	await(t, "every request has ended", func() bool { return len(g.lines()) == clients+1 })
	await(t, "the goroutines are gone", func() bool { return runtime.NumGoroutine() <= goroutines+5 })
	await(t, "the files are closed", func() bool {
		runtime.GC() // the pipes of splice(2) are kept for others until then
		return serviceFiles() <= files+5
	})
	if complete.Load() != 0 {
		t.Errorf("the backend got %d whole uploads, want none", complete.Load())
	}
	for _, line := range g.lines()[1:] {
		if line["aborted"] != true && line["status"] != 400.0 { // an upload may have been refused, to nobody
			t.Errorf("log = %v, want aborted, or a body that is incomplete", line)
		}
	}
	if resp, _ := g.do("HEAD", "/photos/k", userKey, ""); resp.StatusCode != 200 {
		t.Errorf("HEAD afterwards = %d, want 200", resp.StatusCode)
	}
}

// Sixty-four uploads and then as many downloads, all under way at once, cost
// less than 64 MiB above what the program takes when it does nothing: memory
// grows with how many there are, not with how large they are.
func TestAbuse108Memory(t *testing.T) {
	const transfers = 64
	size := int64(100 << 20)
	if testing.Short() || serviceRaceDetector {
		size = 8 << 20
	}
	barriers := map[string]*sync.WaitGroup{"PUT": {}, "GET": {}}
	for _, barrier := range barriers {
		barrier.Add(transfers)
	}
	zeros := make([]byte, 256<<10)
	endpoint := startRawBackend(t, func(n int, conn net.Conn, r *bufio.Reader) {
		for {
			line, header, err := readHead(r)
			if err != nil {
				return
			}
			conn.SetDeadline(time.Now().Add(2 * time.Minute))
			switch barrier := barriers[line[:3]]; {
			case strings.HasPrefix(line, "PUT"):
				length, _ := strconv.ParseInt(header.Get("Content-Length"), 10, 64)
				if _, err := io.CopyN(io.Discard, r, length/2); err != nil {
					return
				}
				barrier.Done()
				barrier.Wait()
				if err := serviceDiscard(r, length-length/2); err != nil {
					return
				}
				io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
			case strings.HasPrefix(line, "GET"):
				fmt.Fprintf(conn, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n", size)
				if serviceWrite(conn, zeros, size/2) != nil {
					return
				}
				barrier.Done()
				barrier.Wait()
				if serviceWrite(conn, zeros, size-size/2) != nil {
					return
				}
			default:
				io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
			}
		}
	})
	program := startServiceProgram(t, testConfig(endpoint))
	g, addr, pid := &testGateway{t: t, addr: program.addr}, program.addr, program.pid
	for range 10 {
		g.do("HEAD", "/photos/k", userKey, "")
	}
	idle := serviceMemory(t, pid, "VmRSS")
	for _, method := range []string{"PUT", "GET"} {
		start := time.Now()
		var clients sync.WaitGroup
		for i := range transfers {
			clients.Go(func() {
				conn, err := net.Dial("tcp", addr)
				if err != nil {
					t.Error(err)
					return
				}
				defer conn.Close()
				conn.SetDeadline(time.Now().Add(2 * time.Minute))
				reader := bufio.NewReader(conn)
				fmt.Fprintf(conn, "%s /photos/k%d HTTP/1.1\r\nHost: g\r\nX-Api-Key: %s\r\n", method, i, userKey)
				if method == "PUT" {
					fmt.Fprintf(conn, "Content-Length: %d\r\n\r\n", size)
					err = serviceWrite(conn, zeros, size)
				} else {
					io.WriteString(conn, "\r\n")
				}
				if err != nil {
					t.Errorf("%s: %v", method, err)
					return
				}
				resp, err := http.ReadResponse(reader, &http.Request{Method: method})
				if err != nil || resp.StatusCode != 200 || method == "GET" && resp.ContentLength != size {
					t.Errorf("%s = %v, %v, want 200", method, resp, err)
					return
				}
				if method == "GET" {
					if err := serviceDiscard(reader, size); err != nil {
						t.Errorf("GET: %v", err)
					}
				}
			})
		}
		clients.Wait()
		peak := serviceMemory(t, pid, "VmHWM")
		t.Logf("%s: %d times %d MiB in %s: %d MiB idle, %d MiB at most", method, transfers, size>>20, time.Since(start), idle>>20, peak>>20)
		if peak-idle > 64<<20 {
			t.Errorf("%s: memory grew from %d MiB to %d MiB, want at most 64 MiB more", method, idle>>20, peak>>20)
		}
	}
}

// serviceMemory reads a field of a process's status, in bytes; 0 where there is
// no such thing.
func serviceMemory(t *testing.T, pid int, field string) int64 {
	t.Helper()
	data, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	match := regexp.MustCompile(`(?m)^` + field + `:\s+(\d+) kB$`).FindSubmatch(data)
	if match == nil {
		return 0
	}
	kilobytes, err := strconv.ParseInt(string(match[1]), 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return kilobytes << 10
}

func serviceWrite(w io.Writer, buffer []byte, size int64) error {
	for size > 0 {
		n, err := w.Write(buffer[:min(size, int64(len(buffer)))])
		if size -= int64(n); err != nil {
			return err
		}
	}
	return nil
}

func serviceDiscard(r io.Reader, size int64) error {
	buffer := make([]byte, 256<<10)
	for size > 0 {
		n, err := r.Read(buffer[:min(size, int64(len(buffer)))])
		if size -= int64(n); err != nil && size > 0 {
			return err
		}
	}
	return nil
}

// Of ten times as many parallel requests as the limit, as many pass as it says;
// the others are told when to come back, in the form their client understands.
func TestAbuse109LimiterRace(t *testing.T) {
	const limit = 20
	for _, signs := range []bool{false, true} {
		backend := startRecorder(t, func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "meow") })
		g := startGateway(t, testConfig(backend.URL, with("rate_limit.requests", limit), with("rate_limit.window_seconds", 3600)))
		var header []string
		wantStatus := 429
		if signs {
			header, wantStatus = []string{"Authorization: AWS4-HMAC-SHA256 x"}, 503
		}
		var mu sync.Mutex // guards passed and remaining
		passed, remaining := 0, map[string]int{}
		var clients sync.WaitGroup
		for range 10 * limit {
			clients.Go(func() {
				resp, body := g.do("GET", "/photos/k", userKey, "", header...)
				h := resp.Header
				reset, err := strconv.ParseInt(h.Get("X-Ratelimit-Reset"), 10, 64)
				if until := time.Until(time.Unix(reset, 0)); err != nil || until < 3500*time.Second || until > 3601*time.Second || h.Get("X-Ratelimit-Limit") != "20" {
					t.Errorf("X-RateLimit-Limit %q, -Reset %q, want 20, and an hour from now", h.Get("X-Ratelimit-Limit"), h.Get("X-Ratelimit-Reset"))
				}
				mu.Lock()
				defer mu.Unlock()
				if resp.StatusCode == 200 {
					passed++
					remaining[h.Get("X-Ratelimit-Remaining")]++
					return
				}
				after, err := strconv.Atoi(h.Get("Retry-After"))
				if err != nil || after < 3500 || after > 3600 || h.Get("X-Ratelimit-Remaining") != "0" {
					t.Errorf("Retry-After %q, X-RateLimit-Remaining %q, want about 3600, and 0", h.Get("Retry-After"), h.Get("X-Ratelimit-Remaining"))
				}
				wantCode := "TooManyRequests"
				if signs {
					wantCode = "SlowDown"
				}
				if code := serviceCode(t, resp, body); resp.StatusCode != wantStatus || code != wantCode || strings.HasPrefix(body, "<?xml") != signs {
					t.Errorf("answer = %d %s, want %d %s", resp.StatusCode, body, wantStatus, wantCode)
				}
				checkHardened(t, resp)
			})
		}
		clients.Wait()
		if passed != limit || len(backend.requests()) != limit {
			t.Errorf("%d requests passed, and the backend got %d, want %d", passed, len(backend.requests()), limit)
		}
		for i := range limit {
			if remaining[strconv.Itoa(i)] != 1 {
				t.Errorf("X-RateLimit-Remaining %d was said %d times, want once", i, remaining[strconv.Itoa(i)])
			}
		}
		// Another user has a limit of their own.
		if resp, _ := g.do("GET", "/photos/k", readOnlyKey, ""); resp.StatusCode != 200 {
			t.Errorf("GET by another user = %d, want 200", resp.StatusCode)
		}
	}
}

// Whoever is known is told where they stand with every answer, refusals too;
// strangers are told nothing, and cost nobody's allowance.
func TestAbuse109LimitHeaders(t *testing.T) {
	backend := startDemoBackend(t)
	g := startGateway(t, testConfig(backend.URL, with("rate_limit.requests", 1000), with("max_file_size", 10)))
	g.do("PUT", "/photos/k", userKey, "meow")
	for i, test := range []struct {
		method, target, body string
		status               int
	}{
		{"GET", "/", "", 200}, {"GET", "/photos", "", 200}, {"GET", "/photos?list-type=2", "", 200}, {"HEAD", "/photos", "", 200},
		{"GET", "/photos/k", "", 200}, {"HEAD", "/photos/k", "", 200}, {"PUT", "/photos/k", "x", 200}, {"DELETE", "/photos/none", "", 204},
		{"GET", "/photos/none", "", 404}, {"GET", "/secret/k", "", 403}, {"PUT", "/photos/k", "01234567890", 413},
		{"GET", "/photos/k?policy", "", 501}, {"DELETE", "/photos/k?versionId=1", "", 403},
	} {
		resp, _ := g.do(test.method, test.target, userKey, test.body)
		h := resp.Header
		if resp.StatusCode != test.status || h.Get("X-Ratelimit-Limit") != "1000" || h.Get("X-Ratelimit-Remaining") != strconv.Itoa(998-i) || h.Get("X-Ratelimit-Reset") == "" {
			t.Errorf("%s %s = %d, X-RateLimit-Limit %q, -Remaining %q, -Reset %q, want %d, 1000, %d, and an instant",
				test.method, test.target, resp.StatusCode, h.Get("X-Ratelimit-Limit"), h.Get("X-Ratelimit-Remaining"), h.Get("X-Ratelimit-Reset"), test.status, 998-i)
		}
	}
	for _, key := range []string{"", "wrong-key-0123456789"} {
		if resp, _ := g.do("GET", "/photos/k", key, ""); resp.StatusCode != 401 || resp.Header.Get("X-Ratelimit-Limit") != "" {
			t.Errorf("GET by a stranger = %d, X-RateLimit-Limit %q, want 401 without", resp.StatusCode, resp.Header.Get("X-Ratelimit-Limit"))
		}
	}
	if resp, _ := g.do("GET", "/", userKey, ""); resp.Header.Get("X-Ratelimit-Remaining") != "985" {
		t.Errorf("X-RateLimit-Remaining = %s, want 985: no stranger's request counts", resp.Header.Get("X-Ratelimit-Remaining"))
	}
}

// A wall clock that is set neither opens the limit nor locks anybody out: the
// limiter counts from an instant with a monotonic reading, by which Go compares.
func TestAbuse112ClockSteps(t *testing.T) {
	g := startGateway(t, testConfig(startRecorder(t, nil).URL, with("rate_limit.requests", 3)))
	l := g.gw.limiter
	if !strings.Contains(l.epoch.String(), " m=") {
		t.Errorf("the limiter's epoch %s has no monotonic reading", l.epoch)
	}
	for _, step := range []time.Duration{-time.Hour, time.Hour, -24 * time.Hour} {
		l := newLimiter(map[string]rateLimit{"u": {3, time.Minute}}, l.epoch)
		now := l.epoch.Add(time.Second)
		for i := range 3 {
			if d := l.allow("u", now); !d.admitted {
				t.Errorf("request %d = %+v, want it admitted", i, d)
			}
		}
		d := l.allow("u", now.Add(step))
		switch {
		case step > 0 && !d.admitted:
			t.Errorf("an hour later = %+v, want it admitted", d)
		case step < 0 && (d.admitted || d.retryAfter > time.Minute):
			t.Errorf("%s later = %+v, want it refused for no more than a window", step, d)
		}
		if step < 0 {
			if d := l.allow("u", now.Add(time.Minute)); !d.admitted || d.remaining != 2 {
				t.Errorf("a minute after a step of %s = %+v, want an empty window", step, d)
			}
		}
	}
}

// A clock that is wrong is the operator's fault, not the client's: 502, and the
// log says why.
func TestAbuse113SkewedClock(t *testing.T) {
	for _, skew := range []time.Duration{20 * time.Minute, -20 * time.Minute} {
		backend := startDemoBackend(t)
		backend.Config.Handler.(*demoServer).now = func() time.Time { return time.Now().Add(skew) }
		g := startGateway(t, testConfig(backend.URL))
		for _, op := range serviceOperations {
			resp, body := g.do(op.method, op.target, adminKey, op.body)
			if op.method == "HEAD" { // its answer has no code in it
				continue
			}
			if code := serviceCode(t, resp, body); resp.StatusCode != 502 || code != "BadGateway" || strings.Contains(body, "Skewed") {
				t.Errorf("%s = %d %s, want 502 BadGateway", op.name, resp.StatusCode, body)
			}
			lines := g.lines()
			if line := lines[len(lines)-1]; line["upstream_code"] != "RequestTimeTooSkewed" || line["upstream_status"] != 403.0 || line["level"] != "WARN" {
				t.Errorf("%s: log = %v, want a warning with the code RequestTimeTooSkewed", op.name, line)
			}
		}
	}
}

// A client that closes its half of the connection after the request is taken for
// one that has left (golang/go issue 18527): it gets a whole answer or none, and
// the backend's work ends with it.
func TestAbuse114HalfClose(t *testing.T) {
	asked, left := make(chan struct{}, 1), make(chan struct{}, 1)
	backend := startRecorder(t, func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/slow") {
			asked <- struct{}{}
			<-r.Context().Done()
			left <- struct{}{}
			return
		}
		io.WriteString(w, "meow")
	})
	g := startGateway(t, testConfig(backend.URL))
	ask := func(key string) string {
		conn := g.dial()
		defer conn.Close()
		fmt.Fprintf(conn, "GET /photos/%s HTTP/1.1\r\nHost: g\r\nX-Api-Key: %s\r\n\r\n", key, userKey)
		if key == "slow" {
			<-asked
		}
		conn.(*net.TCPConn).CloseWrite()
		data, err := io.ReadAll(conn)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("GET %s: the connection is still held", key)
		}
		return string(data)
	}
	if got := ask("slow"); got != "" {
		t.Errorf("GET of what takes long, half-closed = %q, want nothing", got)
	}
	select {
	case <-left:
	case <-time.After(10 * time.Second):
		t.Error("the backend still works for a client that has left")
	}
	await(t, "the line in the log", func() bool { return len(g.lines()) == 1 })
	if line := g.lines()[0]; line["status"] != float64(statusClientGone) {
		t.Errorf("log = %v, want status %d", line, statusClientGone)
	}
	for range 20 {
		if got := ask("fast"); got != "" {
			if resp, body := serviceAnswer(t, "GET", got); resp.StatusCode != 200 || body != "meow" || resp.Header.Get("Test-Error") != "" {
				t.Errorf("GET of what is there, half-closed = %q, want a whole answer or none", got)
			}
		}
	}
}

// serviceServe runs serve as the program does, until stop is called.
func serviceServe(t *testing.T, config map[string]any) (g *testGateway, stop context.CancelFunc, ended <-chan error) {
	t.Helper()
	data, err := json.Marshal(config)
	if err != nil {
		t.Fatal(err)
	}
	conf, err := parseConfig(data, os.LookupEnv)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	t.Cleanup(stop)
	log := &syncBuffer{}
	addr, end := make(chan net.Addr, 1), make(chan error, 1)
	go func() {
		end <- serve(ctx, conf, launch{log: slog.New(slog.NewJSONHandler(log, nil)), ready: func(a net.Addr) { addr <- a }})
	}()
	select {
	case a := <-addr:
		return &testGateway{t: t, addr: a.String(), log: log}, stop, end
	case err := <-end:
		t.Fatalf("serve = %v", err)
		return nil, nil, nil
	}
}

// startHalfway starts a backend that says when half of a transfer is through. The rest
// of a download waits for release; what arrived of an upload is told to stored.
func startHalfway(t *testing.T, half int64) (endpoint string, underWay, release chan struct{}, stored chan int64) {
	t.Helper()
	underWay, release = make(chan struct{}, 2), make(chan struct{})
	stored = make(chan int64, 1)
	endpoint = startRawBackend(t, func(n int, conn net.Conn, r *bufio.Reader) {
		line, _, err := readHead(r)
		switch {
		case err != nil:
		case strings.HasPrefix(line, "GET"):
			fmt.Fprintf(conn, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n", 2*half)
			io.CopyN(conn, serviceZeros{}, half)
			underWay <- struct{}{}
			<-release
			io.CopyN(conn, serviceZeros{}, half)
		default:
			n, _ := io.CopyN(io.Discard, r, half)
			underWay <- struct{}{}
			m, _ := io.CopyN(io.Discard, r, half)
			stored <- n + m
			io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
		}
	})
	return endpoint, underWay, release, stored
}

// A stop lets the transfers under way finish, and nobody else in.
func TestAbuse115GracefulStop(t *testing.T) {
	const half = 15 << 20
	endpoint, underWay, release, stored := startHalfway(t, half)
	g, stop, ended := serviceServe(t, testConfig(endpoint, with("server.shutdown_timeout", "30s")))
	var clients sync.WaitGroup
	clients.Go(func() {
		conn := g.dial()
		defer conn.Close()
		fmt.Fprintf(conn, "GET /photos/k HTTP/1.1\r\nHost: g\r\nX-Api-Key: %s\r\n\r\n", userKey)
		resp, body := readAnswer(t, "GET", conn)
		if resp.StatusCode != 200 || len(body) != 2*half || resp.Header.Get("Test-Error") != "" {
			t.Errorf("the download under way = %d with %d bytes, %s, want all", resp.StatusCode, len(body), resp.Header.Get("Test-Error"))
		}
	})
	clients.Go(func() {
		conn := g.dial()
		defer conn.Close()
		fmt.Fprintf(conn, "PUT /photos/k HTTP/1.1\r\nHost: g\r\nX-Api-Key: %s\r\nContent-Length: %d\r\n\r\n", userKey, 2*half)
		io.CopyN(conn, serviceZeros{}, half)
		<-release
		io.CopyN(conn, serviceZeros{}, half)
		if resp, body := readAnswer(t, "PUT", conn); resp.StatusCode != 200 {
			t.Errorf("the upload under way = %d %s, want 200", resp.StatusCode, body)
		}
	})
	<-underWay
	<-underWay
	stop()
	await(t, "new connections are refused", func() bool {
		conn, err := net.Dial("tcp", g.addr)
		if err == nil {
			conn.Close()
		}
		return err != nil
	})
	select {
	case err := <-ended:
		t.Fatalf("serve = %v before the transfers have ended", err)
	default:
	}
	close(release)
	clients.Wait()
	select {
	case err := <-ended:
		if err != nil {
			t.Errorf("serve = %v, want nil", err)
		}
	case <-time.After(20 * time.Second):
		t.Error("serve does not return")
	}
	if got := <-stored; got != 2*half {
		t.Errorf("the backend got %d bytes, want %d", got, 2*half)
	}
	if log := g.log.String(); !strings.Contains(log, "draining") || !strings.Contains(log, "stopped") {
		t.Errorf("log = %s, want draining and stopped in it", log)
	}
}

// After shutdown_timeout what is still under way is broken off, visibly: a cut
// download is no whole one, and a cut upload is not stored.
func TestAbuse115HardStop(t *testing.T) {
	underWay := make(chan struct{}, 2)
	upload := make(chan error, 1)
	endpoint := startRawBackend(t, func(n int, conn net.Conn, r *bufio.Reader) {
		line, _, err := readHead(r)
		switch {
		case err != nil:
		case strings.HasPrefix(line, "GET"):
			io.WriteString(conn, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")
			underWay <- struct{}{}
			io.Copy(io.Discard, r)
		default:
			io.CopyN(io.Discard, r, 1)
			underWay <- struct{}{}
			_, err := io.CopyN(io.Discard, r, 999_999)
			upload <- err
		}
	})
	g, stop, ended := serviceServe(t, testConfig(endpoint, with("server.shutdown_timeout", "200ms")))
	var clients sync.WaitGroup
	clients.Go(func() {
		conn := g.dial()
		defer conn.Close()
		fmt.Fprintf(conn, "GET /photos/k HTTP/1.1\r\nHost: g\r\nX-Api-Key: %s\r\n\r\n", userKey)
		if resp, body := readAnswer(t, "GET", conn); resp.Header.Get("Test-Error") == "" {
			t.Errorf("the download broken off = %d %q, want an error", resp.StatusCode, body)
		}
	})
	clients.Go(func() {
		conn := g.dial()
		defer conn.Close()
		fmt.Fprintf(conn, "PUT /photos/k HTTP/1.1\r\nHost: g\r\nX-Api-Key: %s\r\nContent-Length: 1000000\r\n\r\nx", userKey)
		if resp, body := readAnswer(t, "PUT", conn); resp.StatusCode/100 == 2 {
			t.Errorf("the upload broken off = %d %q, want no success", resp.StatusCode, body)
		}
	})
	<-underWay
	<-underWay
	stop()
	select {
	case err := <-ended:
		if err == nil {
			t.Error("serve = nil, want an error: requests were broken off")
		}
	case <-time.After(20 * time.Second):
		t.Error("serve does not return")
	}
	clients.Wait()
	select {
	case err := <-upload:
		if err == nil {
			t.Error("the backend got the whole upload")
		}
	case <-time.After(20 * time.Second):
		t.Error("the connection to the backend is still open")
	}
}

// A panic ends its own request: with a 500 if nothing was answered yet, else
// with a broken connection. The others go on, and so does the process.
func TestAbuse116Panic(t *testing.T) {
	release := make(chan struct{})
	backend := startRecorder(t, func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, "meow ")
		if strings.HasSuffix(r.URL.Path, "/slow") {
			w.(http.Flusher).Flush()
			<-release
		}
		io.WriteString(w, "purr")
	})
	g := startGateway(t, testConfig(backend.URL))
	pool := g.gw.buckets["photos"].upstream.pool
	inner := pool.dialer
	pool.dialer = func(ctx context.Context, network, addr string) (net.Conn, error) {
		conn, err := inner(ctx, network, addr)
		return &serviceConn{Conn: conn}, err
	}
	var slow sync.WaitGroup
	slow.Go(func() {
		if resp, body := g.do("GET", "/photos/slow", userKey, ""); resp.StatusCode != 200 || body != "meow purr" {
			t.Errorf("a download under way = %d %q, want 200 meow purr", resp.StatusCode, body)
		}
	})
	await(t, "the download is under way", func() bool { return len(backend.requests()) == 1 })

	for _, key := range []string{"panic", "nil"} {
		for _, method := range []string{"GET", "PUT", "DELETE"} {
			resp, body := g.do(method, "/photos/"+key, userKey, map[string]string{"PUT": "x"}[method])
			wantError(t, resp, body, 500, "InternalError")
			if strings.Contains(body, "fault") || strings.Contains(body, "nil map") {
				t.Errorf("the client reads %s", body)
			}
		}
		resp, _ := g.do("HEAD", "/photos/"+key, userKey, "")
		checkHardened(t, resp)
		if resp.StatusCode != 500 {
			t.Errorf("HEAD = %d, want 500", resp.StatusCode)
		}
	}
	for _, key := range []string{"body", "chunks"} {
		if resp, body := g.do("GET", "/photos/"+key, userKey, ""); resp.StatusCode != 200 && resp.StatusCode != 0 || resp.Header.Get("Test-Error") == "" {
			t.Errorf("GET /photos/%s = %d %q, want an answer that breaks off", key, resp.StatusCode, body)
		}
	}
	close(release)
	slow.Wait()
	if resp, body := g.do("GET", "/photos/k", userKey, ""); resp.StatusCode != 200 || body != "meow purr" {
		t.Errorf("GET afterwards = %d %q, want 200 meow purr", resp.StatusCode, body)
	}
	await(t, "every request is in the log", func() bool { return len(g.lines()) == 12 })
	if n := strings.Count(g.log.String(), `"msg":"panic"`); n != 10 {
		t.Errorf("%d panics in the log, want 10", n)
	}
}

// serviceReader is a function as a reader.
type serviceReader func([]byte) (int, error)

func (f serviceReader) Read(p []byte) (int, error) { return f(p) }

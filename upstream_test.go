package main

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// Which answers are asked for again, and how often: a read, after a status that
// may pass. Nothing else, and a write never: whether the backend has done it,
// nobody knows.
func TestRetriedStatuses(t *testing.T) {
	var status atomic.Int32
	backend := startRecorder(t, func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(int(status.Load())) })
	g := startGateway(t, testConfig(backend.URL))
	retried := []int{429, 500, 502, 503, 504}
	for _, code := range []int{200, 204, 206, 301, 304, 307, 400, 401, 403, 404, 405, 408, 409, 412, 416, 429, 500, 501, 502, 503, 504, 505, 507} {
		status.Store(int32(code))
		for _, request := range []struct{ method, target string }{
			{"GET", "/photos/k"}, {"HEAD", "/photos/k"}, {"HEAD", "/photos"}, {"GET", "/photos"}, {"GET", "/photos?list-type=2"},
			{"PUT", "/photos/k"}, {"DELETE", "/photos/k"}, {"DELETE", "/photos/k?versionId=1"},
		} {
			want := 1
			if (request.method == "GET" || request.method == "HEAD") && slices.Contains(retried, code) {
				want = 3
			}
			if request.method == "HEAD" && headRefusals[code] {
				want = 2 // and a GET, for the reason
			}
			before := len(backend.requests())
			g.do(request.method, request.target, adminKey, "")
			if got := len(backend.requests()) - before; got != want {
				t.Errorf("%s %s, answered with %d: the backend got %d requests, want %d", request.method, request.target, code, got, want)
			}
		}
	}
}

// A read that fails twice and then does not is a success; each attempt is the
// same request.
func TestRetrySucceeds(t *testing.T) {
	var n atomic.Int32
	backend := startRecorder(t, func(w http.ResponseWriter, r *http.Request) {
		if n.Add(1)%3 != 0 {
			w.WriteHeader(503)
			io.WriteString(w, "<Error><Code>SlowDown</Code></Error>")
			return
		}
		w.Header().Set("Etag", `"e"`)
		io.WriteString(w, "meow")
	})
	g := startGateway(t, testConfig(backend.URL))
	resp, body := g.do("GET", "/photos/cat?versionId=7", userKey, "", "Range: bytes=0-3", "If-Match: \"e\"")
	if resp.StatusCode != 200 || body != "meow" {
		t.Errorf("GET = %d %q, want 200 meow", resp.StatusCode, body)
	}
	for i, r := range backend.requests() {
		if r.method != "GET" || r.uri != "/photos/cat?versionId=7" || r.header.Get("Range") != "bytes=0-3" || r.header.Get("If-Match") != `"e"` {
			t.Errorf("attempt %d = %+v, want the request of the client", i+1, r)
		}
	}
	if lines := g.lines(); len(lines) != 1 || lines[0]["status"] != 200.0 {
		t.Errorf("log = %v, want one line with status 200", lines)
	}
}

// Connections that break before an answer: a read is tried three times, a write
// once.
func TestRetryBrokenConnections(t *testing.T) {
	for _, test := range []struct {
		method string
		broken int32 // connections
		want   int32 // requests
		status int
	}{
		{"GET", 0, 1, 200}, {"GET", 2, 3, 200}, {"HEAD", 2, 3, 200}, {"GET", 3, 3, 502},
		{"PUT", 1, 1, 502}, {"DELETE", 1, 1, 502},
	} {
		var requests atomic.Int32
		endpoint := startRawBackend(t, func(n int, conn net.Conn, r *bufio.Reader) {
			if _, _, err := readHead(r); err != nil {
				return
			}
			if requests.Add(1) > test.broken {
				io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
			}
		})
		g := startGateway(t, testConfig(endpoint))
		resp, _ := g.do(test.method, "/photos/k", userKey, "")
		if resp.StatusCode != test.status || requests.Load() != test.want {
			t.Errorf("%s with %d broken connections = %d after %d requests, want %d after %d",
				test.method, test.broken, resp.StatusCode, requests.Load(), test.status, test.want)
		}
	}
}

// A backend that says when to come back is waited for, up to maxRetryAfter;
// then the client is told what the backend said.
func TestRetryAfterIsHonoured(t *testing.T) {
	var after atomic.Value
	backend := startRecorder(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Retry-After", after.Load().(string))
		w.WriteHeader(503)
	})
	g := startGateway(t, testConfig(backend.URL))
	u := g.gw.buckets["photos"].upstream

	after.Store("1")
	start := time.Now()
	g.do("GET", "/photos/k", userKey, "")
	if n, took := len(backend.requests()), time.Since(start); n != 3 || took < 2*time.Second {
		t.Errorf("Retry-After 1: %d requests in %s, want 3 in at least 2 s", n, took)
	}
	for _, value := range []string{"11", "3600", "9999999999", time.Now().Add(time.Hour).UTC().Format(http.TimeFormat)} {
		after.Store(value)
		before := len(backend.requests())
		resp, body := g.do("GET", "/photos/k", userKey, "")
		wantError(t, resp, body, 503, "ServiceUnavailable")
		if n := len(backend.requests()) - before; n != 1 || resp.Header.Get("Retry-After") != value {
			t.Errorf("Retry-After %s: %d requests, and the client got Retry-After %q; want 1, and the backend's", value, n, resp.Header.Get("Retry-After"))
		}
	}
	for attempt := 1; attempt < maxAttempts; attempt++ {
		for range 1000 {
			if wait, ok := u.retryDelay(attempt, nil); !ok || wait < 0 || wait >= u.backoff<<attempt {
				t.Fatalf("retryDelay(%d) = %s, %t, want less than %s", attempt, wait, ok, u.backoff<<attempt)
			}
		}
	}
	resp := &http.Response{StatusCode: 503, Header: http.Header{"Retry-After": {"10"}}}
	if wait, ok := u.retryDelay(1, resp); !ok || wait < 10*time.Second {
		t.Errorf("retryDelay with Retry-After 10 = %s, %t, want 10s, true", wait, ok)
	}
}

func TestRetryAfter(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for _, test := range []struct {
		in   string
		want time.Duration
	}{
		{"", 0},
		{"0", 0},
		{"1", time.Second},
		{"120", 2 * time.Minute},
		{"2147483647", 2147483647 * time.Second},
		{"-1", 0},
		{"+5", 0},
		{"1.5", 0},
		{" 5", 0},
		{"soon", 0},
		{"Fri, 02 Jan 2026 03:04:15 GMT", 10 * time.Second},
		{"Fri, 02 Jan 2026 03:04:05 GMT", 0},
		{"Fri, 02 Jan 2026 03:03:05 GMT", 0},
		{"Friday, 02-Jan-26 03:04:06 GMT", time.Second}, // RFC 850
		{"Fri Jan  2 03:04:07 2026", 2 * time.Second},   // asctime
	} {
		if got := retryAfter(test.in, now); got != test.want {
			t.Errorf("retryAfter(%q) = %s, want %s", test.in, got, test.want)
		}
	}
	// More seconds than a number holds are very many, not none.
	for _, in := range []string{"2147483648", "9999999999", "99999999999999999999999"} {
		if got := retryAfter(in, now); got <= maxRetryAfter {
			t.Errorf("retryAfter(%q) = %s, want more than %s", in, got, maxRetryAfter)
		}
	}
}

// Who has left is not asked for again.
func TestRetryNotAfterTheClientLeft(t *testing.T) {
	asked := make(chan struct{}, maxAttempts)
	backend := startRecorder(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Retry-After", "9")
		w.WriteHeader(503)
		asked <- struct{}{}
	})
	g := startGateway(t, testConfig(backend.URL))
	conn := g.dial()
	fmt.Fprintf(conn, "GET /photos/k HTTP/1.1\r\nHost: g\r\nX-Api-Key: %s\r\n\r\n", userKey)
	<-asked
	start := time.Now()
	conn.Close()
	for deadline := time.After(8 * time.Second); len(g.lines()) == 0; {
		select {
		case <-deadline:
			t.Fatal("the gateway still waits, 8 s after the client has left")
		case <-time.After(5 * time.Millisecond):
		}
	}
	if line := g.lines()[0]; line["status"] != float64(statusClientGone) {
		t.Errorf("status in the log = %v after %s, want %d", line["status"], time.Since(start), statusClientGone)
	}
	if n := len(backend.requests()); n != 1 {
		t.Errorf("the backend got %d requests, want 1", n)
	}
}

// Where a request goes, and that it is signed for there: the host, the path,
// and the signature as the embedded server computes it from what it received.
func TestUpstreamAddress(t *testing.T) {
	const odd = "/photos/a%20b%2B%C3%A9~(1)%2F%25"
	for _, test := range []struct {
		name       string
		endpoint   string
		addressing string
		target     string
		host, uri  string
	}{
		{"path", "http://s3.example.test:9000", "path", odd, "s3.example.test:9000", "/photos/a%20b%2B%C3%A9~%281%29/%25"},
		{"path, a list", "http://s3.example.test:9000", "", "/photos?list-type=2", "s3.example.test:9000", "/photos?encoding-type=url&list-type=2"},
		{"the scheme's own port", "http://S3.example.test:80/", "", "/photos/k", "s3.example.test", "/photos/k"},
		{"virtual", "http://s3.example.test:9000", "virtual", odd, "photos.s3.example.test:9000", "/a%20b%2B%C3%A9~%281%29/%25"},
		{"virtual, a list", "http://s3.example.test", "virtual", "/photos?list-type=2", "photos.s3.example.test", "/?encoding-type=url&list-type=2"},
		{"base path", "http://s3.example.test:9000/base/v1", "path", odd, "s3.example.test:9000", "/base/v1/photos/a%20b%2B%C3%A9~%281%29/%25"},
		{"base path, a list", "http://s3.example.test:9000/base/v1/", "path", "/photos?list-type=2", "s3.example.test:9000", "/base/v1/photos?encoding-type=url&list-type=2"},
		{"virtual, base path", "http://s3.example.test:9000/base", "virtual", "/photos/k//l/", "photos.s3.example.test:9000", "/base/k//l/"},
		{"slashes at the ends of a key", "http://s3.example.test", "virtual", "/photos//k/", "photos.s3.example.test", "//k/"},
	} {
		t.Run(test.name, func(t *testing.T) {
			creds := credentials{testCredentials.AccessKeyID, testCredentials.SecretAccessKey, "session-token-canary"}
			demo, err := newDemoServer(t.TempDir(), creds, "photos")
			if err != nil {
				t.Fatal(err)
			}
			var refusal atomic.Value
			refusal.Store("no request")
			backend := startRecorder(t, func(w http.ResponseWriter, r *http.Request) {
				q := &demoRequest{Request: r}
				err := q.parse()
				if err == nil {
					err = demo.authenticate(q)
				}
				refusal.Store(fmt.Sprint(err))
				io.WriteString(w, `<ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>`)
			})
			g := startGateway(t, testConfig(test.endpoint, with("nested_keys", true),
				with("accounts.main.addressing", test.addressing), with("accounts.main.session_token", creds.SessionToken)))
			var dialed atomic.Value
			g.gw.buckets["photos"].upstream.pool.dialer = func(ctx context.Context, network, address string) (net.Conn, error) {
				dialed.Store(address)
				var d net.Dialer
				return d.DialContext(ctx, network, backend.Listener.Addr().String())
			}
			for _, method := range []string{"GET", "HEAD", "PUT", "DELETE"} {
				if method != "GET" && strings.Contains(test.target, "?") {
					continue
				}
				resp, body := g.do(method, test.target, userKey, "")
				seen := backend.requests()
				if len(seen) == 0 || resp.StatusCode != 200 {
					t.Fatalf("%s = %d %s, %d requests", method, resp.StatusCode, body, len(seen))
				}
				last := seen[len(seen)-1]
				if last.host != test.host || last.uri != test.uri || refusal.Load() != "<nil>" {
					t.Errorf("%s goes to %s %s, and the signature is answered with %v; want %s %s and <nil>", method, last.host, last.uri, refusal.Load(), test.host, test.uri)
				}
				wantDialed := test.host
				if !strings.Contains(wantDialed, ":") {
					wantDialed += ":80"
				}
				if dialed.Load() != wantDialed {
					t.Errorf("%s dials %v, want %s", method, dialed.Load(), wantDialed)
				}
			}
			if log := g.log.String(); strings.Contains(log, creds.SessionToken) {
				t.Errorf("the log holds the session token:\n%s", log)
			}
		})
	}
}

// With a base path the embedded server takes the first segment for a bucket;
// then what is stored under which key shows that path and signature agree.
func TestUpstreamBasePathStores(t *testing.T) {
	demo, err := newDemoServer(t.TempDir(), testCredentials, "base")
	if err != nil {
		t.Fatal(err)
	}
	backend := httptest.NewServer(demo)
	defer backend.Close()
	g := startGateway(t, testConfig(backend.URL+"/base"))
	if resp, body := g.do("PUT", "/photos/a+b%20c", userKey, "meow"); resp.StatusCode != 200 {
		t.Fatalf("PUT = %d %s, want 200", resp.StatusCode, body)
	}
	if body, err := askBackend(t, backend, "GET", "/base/photos/a+b c", ""); err != nil || body != "meow" {
		t.Errorf("the object photos/a+b c in base = %q, %v, want meow", body, err)
	}
	if resp, body := g.do("GET", "/photos/a+b%20c", userKey, ""); resp.StatusCode != 200 || body != "meow" {
		t.Errorf("GET = %d %q, want 200 meow", resp.StatusCode, body)
	}
}

// A backend that closes the connection when it has been waited for a while has closed
// it all the same: a read is tried again, and a write failed, but not for the time it
// took.
func TestRetryLateClose(t *testing.T) {
	for _, test := range []struct {
		name, method string
		closes       int32 // the number of the request that is not answered
		want         int32 // requests
		status       int
	}{
		{"new connection", "GET", 1, 2, 200},
		{"kept connection", "GET", 2, 3, 200},
		{"without a body", "HEAD", 2, 3, 200},
		{"write", "PUT", 1, 1, 502},
		{"write, kept connection", "PUT", 2, 2, 502},
	} {
		t.Run(test.name, func(t *testing.T) {
			var requests atomic.Int32
			late := make(chan struct{}, 1)
			endpoint := startRawBackend(t, func(_ int, conn net.Conn, r *bufio.Reader) {
				for {
					if _, _, err := readHead(r); err != nil {
						return
					}
					if requests.Add(1) == test.closes {
						select {
						case <-late:
						case <-t.Context().Done():
						}
						return
					}
					io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
				}
			})
			g := startGateway(t, testConfig(endpoint))
			g.noticeLate(late)
			for range test.closes - 1 {
				if resp, body := g.do(test.method, "/photos/k", userKey, ""); resp.StatusCode != 200 {
					t.Fatalf("%s before = %d %s, want 200", test.method, resp.StatusCode, body)
				}
			}
			resp, body := g.do(test.method, "/photos/k", userKey, "")
			if n := requests.Load(); resp.StatusCode != test.status || n != test.want {
				t.Errorf("%s = %d %s after %d requests, want %d after %d", test.method, resp.StatusCode, body, n, test.status, test.want)
			}
		})
	}
}

// noticeLate has a channel get a value when a read from a backend was given up, for the
// time it took.
func (g *testGateway) noticeLate(late chan<- struct{}) {
	p := g.gw.buckets["photos"].upstream.pool
	dial := p.dialer
	p.dialer = func(ctx context.Context, network, addr string) (net.Conn, error) {
		conn, err := dial(ctx, network, addr)
		if err != nil {
			return nil, err
		}
		return lateConn{conn, late}, nil
	}
}

type lateConn struct {
	net.Conn
	late chan<- struct{}
}

func (c lateConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		select {
		case c.late <- struct{}{}:
		default: // it is known
		}
	}
	return n, err
}

// A status of success that answers another request is no success: part of an answer of
// which no part was asked for, or "not modified" for what modifies.
func TestStatusThatAnswersAnotherRequestIsRefused(t *testing.T) {
	for _, op := range forwardedRows() {
		for _, status := range []int{http.StatusPartialContent, http.StatusNotModified} {
			if status == http.StatusNotModified && (op.method == "GET" || op.method == "HEAD") {
				continue
			}
			backend := startRecorder(t, func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("ETag", `"e"`)
				w.WriteHeader(status)
				if status != http.StatusNotModified {
					answerAsS3(w, r)
				}
			})
			g := startGateway(t, testConfig(backend.URL))
			resp, body := byKey(g, "", adminKey, specFor(op.name, "photos"))
			if resp.StatusCode != 502 {
				t.Errorf("%s answered with %d = %d %s, want 502", op.name, status, resp.StatusCode, body)
			}
		}
	}
}

// A part is a success where one is asked for.
func TestPartThatWasAskedForIsPassedOn(t *testing.T) {
	backend := startRecorder(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Range", "bytes 0-3/9")
		w.WriteHeader(http.StatusPartialContent)
		io.WriteString(w, "meow")
	})
	g := startGateway(t, testConfig(backend.URL))
	for _, method := range []string{"GET", "HEAD"} {
		for _, test := range []struct{ target, header string }{{"/photos/k", "Range: bytes=0-3"}, {"/photos/k?partNumber=1", "X-Id: 1"}} {
			if resp, body := g.do(method, test.target, userKey, "", test.header); resp.StatusCode != 206 {
				t.Errorf("%s %s with %s = %d %s, want 206", method, test.target, test.header, resp.StatusCode, body)
			}
		}
	}
}

// A clock that is wrong is the operator's error, not the client's: 502, and the
// log says why.
func TestSkewedClockIsBadGateway(t *testing.T) {
	for _, skew := range []time.Duration{20 * time.Minute, -20 * time.Minute} {
		backend := startDemoBackend(t)
		backend.Config.Handler.(*demoServer).now = func() time.Time { return time.Now().Add(skew) }
		g := startGateway(t, testConfig(backend.URL))
		for _, name := range []string{
			"HeadBucket", "ListObjects", "ListObjectsV2", "GetObject", "HeadObject", "PutObject", "DeleteObject", "DeleteObjectVersion",
		} {
			r := specFor(name, "photos")
			resp, body := g.do(r.method, r.target(), adminKey, r.body)
			if r.method == "HEAD" { // its answer has no code in it
				continue
			}
			if code := refusalCode(t, resp, body); resp.StatusCode != 502 || code != "BadGateway" || strings.Contains(body, "Skewed") {
				t.Errorf("%s = %d %s, want 502 BadGateway", name, resp.StatusCode, body)
			}
			lines := g.lines()
			if line := lines[len(lines)-1]; line["upstream_code"] != "RequestTimeTooSkewed" || line["upstream_status"] != 403.0 || line["level"] != "WARN" {
				t.Errorf("%s: log = %v, want a warning with the code RequestTimeTooSkewed", name, line)
			}
		}
	}
}

// Each is sent once, wherever the
// connection breaks.
func TestOtherWritesAreSentOnce(t *testing.T) {
	source := startRecorder(t, answerAsS3)
	part := bytesOf(86, 100_000)
	const list = "<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>e</ETag></Part></CompleteMultipartUpload>"
	for _, op := range []struct{ name, method, target, body, header string }{
		{"CompleteMultipartUpload", "POST", "/photos/k?uploadId=u", list, ""},
		{"CreateMultipartUpload", "POST", "/photos/k?uploads", "", ""},
		{"AbortMultipartUpload", "DELETE", "/photos/k?uploadId=u", "", ""},
		{"DeleteObjects", "POST", "/photos?delete", "<Delete><Object><Key>a</Key></Object></Delete>", ""},
		{"CopyObject", "PUT", "/photos/k", "", "x-amz-copy-source: pics/a"},
		{"UploadPartCopy", "PUT", "/photos/k?partNumber=1&uploadId=u", "", "x-amz-copy-source: pics/a"},
		{"CopyObject across", "PUT", "/photos/k", "", "x-amz-copy-source: faraway/a"},
		{"UploadPartCopy across", "PUT", "/photos/k?partNumber=1&uploadId=u", "", "x-amz-copy-source: faraway/a"},
		{"UploadPart", "PUT", "/photos/k?partNumber=1&uploadId=u", part, ""},
		{"PutObjectTagging", "PUT", "/photos/k?tagging", "<Tagging><TagSet></TagSet></Tagging>", ""},
	} {
		for _, stage := range []string{"before reading", "after the head", "after the body", "in the status line", "in the answer's head", "in the answer", "a 500", "a 503"} {
			for _, kept := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s/%s/kept=%t", op.name, stage, kept), func(t *testing.T) {
					t.Parallel()
					var writes, connections atomic.Int64
					endpoint := startRawBackend(t, func(_ int, conn net.Conn, r *bufio.Reader) {
						connections.Add(1)
						if kept { // a read first, whose connection the write then takes
							line, _, err := readHead(r)
							if err != nil {
								return
							}
							if !strings.HasPrefix(line, "GET ") {
								writes.Add(1)
								return
							}
							io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
						}
						if _, err := r.Peek(1); err != nil {
							return
						}
						writes.Add(1)
						if stage == "before reading" {
							return
						}
						_, header, err := readHead(r)
						if err != nil || stage == "after the head" {
							return
						}
						size, _ := strconv.ParseInt(header.Get("Content-Length"), 10, 64)
						io.CopyN(io.Discard, r, size)
						io.WriteString(conn, map[string]string{
							"in the status line": "HTTP/1.1 2", "in the answer's head": "HTTP/1.1 200 OK\r\nContent-Le",
							"in the answer": "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n<?xml version=\"1.0\"?><Comp",
							"a 500":         "HTTP/1.1 500 Oops\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
							"a 503":         "HTTP/1.1 503 Slow Down\r\nContent-Length: 0\r\nRetry-After: 0\r\nConnection: close\r\n\r\n",
						}[stage])
					})
					g := startGateway(t, twoAccounts(endpoint, source.URL))
					if kept {
						if resp, text := g.do("GET", "/photos/k", userKey, ""); resp.StatusCode != 200 || text != "ok" {
							t.Fatalf("GET = %d %q, want 200", resp.StatusCode, text)
						}
					}
					header := []string{"Idempotency-Key: 1", "X-Idempotency-Key: 2"}
					if op.header != "" {
						header = append(header, op.header)
					}
					resp, text := g.do(op.method, op.target, userKey, op.body, header...)
					if n := writes.Load(); n != 1 || connections.Load() != 1 {
						t.Errorf("the backend got it %d times on %d connections, want it once", n, connections.Load())
					}
					want := map[string]int{"a 500": 500, "a 503": 503}[stage]
					switch {
					case resp.StatusCode == cmp.Or(want, 502):
					case stage == "in the answer" && (resp.StatusCode == 0 || resp.StatusCode == 200 && resp.Header.Get("Test-Error") != ""):
					case stage == "in the answer" && resp.StatusCode == 200 && strings.Contains(op.name, "across"): // its head said all
					default:
						t.Errorf("answer %d %q, Test-Error %q, want %d", resp.StatusCode, text, resp.Header.Get("Test-Error"), cmp.Or(want, 502))
					}
				})
			}
		}
	}
}

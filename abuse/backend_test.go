package abuse

// What a backend answers with: refusals of the gateway's own credentials, redirects,
// headers about itself, lists that break off, and silence. None of it reaches the client
// as it is, and no account feels the trouble of another.

import (
	"bufio"
	"compress/gzip"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// objectRequests is a request for each operation that reaches a backend.
var objectRequests = []struct{ name, method, target, body string }{
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

// A backend that refuses the gateway's own credentials or clock says so with its
// host, an access key and the string to sign. None of that is the client's
// business: it gets a 502 of ours, whatever it asked for. The answer to a HEAD
// has no body, so that a GET is asked for the reason of a 400, 401 or 403 there.
func TestRefusalOfTheGatewaysCredentialsIsBadGateway(t *testing.T) {
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
			doc := xml.Header + "<Error><Code>" + code + "</Code><Message>canary-message for " + r.Host + "</Message><AWSAccessKeyId>" + backendKeyID +
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
			for _, op := range objectRequests {
				data := g.bytesUntilClose(requestText(op.method, op.target, adminKey, op.body, "Accept-Encoding: gzip"))
				for _, canary := range []string{"canary", "AWS4-HMAC", backendKeyID, strings.TrimPrefix(backend.URL, "http://")} {
					if strings.Contains(strings.ToLower(data), strings.ToLower(canary)) {
						t.Errorf("%s: the client gets %q:\n%s", op.name, canary, data)
					}
				}
				resp, body := readAnswer(t, op.method, strings.NewReader(data))
				checkHardened(t, resp)
				switch {
				case op.method == "HEAD":
					if resp.StatusCode != 502 {
						t.Errorf("%s = %d, want 502", op.name, resp.StatusCode)
					}
				default:
					if code := refusalCode(t, resp, body); resp.StatusCode != 502 || code != "BadGateway" {
						t.Errorf("%s = %d %s, want 502 BadGateway", op.name, resp.StatusCode, code)
					}
				}
			}
			want := len(objectRequests)
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
	if lines := g.lines(1); len(lines) != 1 || lines[0]["upstream_status"] != 403.0 || !strings.Contains(fmt.Sprint(lines[0]["cause"]), "SignatureDoesNotMatch") {
		t.Errorf("log = %v, want the backend's status and code in it", lines)
	}
}

// A redirect would take the signature elsewhere, or tell the client where the
// backend is: it is neither followed nor relayed.
func TestRedirectIsNeitherFollowedNorPassedOn(t *testing.T) {
	elsewhere := startRecorder(t, nil)
	for _, status := range []int{300, 301, 302, 303, 305, 307, 308} {
		backend := startRecorder(t, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Location", elsewhere.URL+r.RequestURI)
			w.WriteHeader(status)
		})
		g := startGateway(t, testConfig(backend.URL))
		for _, op := range objectRequests {
			data := g.bytesUntilClose(requestText(op.method, op.target, adminKey, op.body))
			if resp, _ := readAnswer(t, op.method, strings.NewReader(data)); resp.StatusCode != 502 {
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
func TestProxyOfTheEnvironmentIsNotUsed(t *testing.T) {
	proxy, backend := startRecorder(t, nil), startRecorder(t, nil)
	var env []string
	for _, name := range []string{"HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"} {
		env = append(env, name+"="+proxy.URL)
	}
	env = append(env, "NO_PROXY=", "no_proxy=", "REQUEST_METHOD=")
	g := startGateway(t, testConfig(strings.Replace(backend.URL, "127.0.0.1", "0.0.0.0", 1)), env...)
	for _, op := range objectRequests {
		g.do(op.method, op.target, adminKey, op.body)
	}
	proxy.wantNone(t)
	if n := len(backend.requests()); n != len(objectRequests) {
		t.Errorf("the backend got %d requests, want %d", n, len(objectRequests))
	}
}

// Whatever net/http has to say of a backend that sends more than its answer,
// it says in the format of the log: a line that no parser reads is a line that
// nobody reads.
func TestSurplusOfABackendIsLoggedAsJSON(t *testing.T) {
	endpoint := startRawBackend(t, func(n int, conn net.Conn, r *bufio.Reader) {
		if _, _, err := readHead(r); err == nil {
			io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nmeowHTTP/1.1 200 OK\r\nX-Surplus: 1\r\n\r\n")
			io.Copy(io.Discard, r)
		}
	})
	g := startGateway(t, testConfig(endpoint))
	for range 3 {
		if resp, body := g.do("GET", "/photos/k", userKey, ""); resp.StatusCode != 200 || body != "meow" {
			t.Errorf("GET = %d %q, want 200 meow", resp.StatusCode, body)
		}
	}
	await(t, "the requests are in the log", func() bool { return strings.Count(g.log(), "GetObject") == 3 })
	g.stop()
	for line := range strings.Lines(g.log()) {
		var m map[string]any
		if err := json.Unmarshal([]byte(line), &m); err != nil {
			t.Errorf("a line of the log that is not JSON: %q", line)
		}
	}
}

// What a backend says of itself, of its network and to browsers stays behind;
// what it says of the object goes through. The ids of ours take the place of
// the backend's, which the log has.
func TestHeadersAboutTheBackendAreDropped(t *testing.T) {
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
			data := g.bytesUntilClose(requestText(method, "/photos/k", adminKey, "", "Range: bytes=0-3"))
			if strings.Contains(data, "canary") || strings.Contains(data, "Jan 1970") {
				t.Errorf("%s, %d: the client gets\n%s", method, status, data)
			}
			resp, _ := readAnswer(t, method, strings.NewReader(data))
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
		if line := g.lines(1)[0]; line["upstream_request_id"] != "canary-id" {
			t.Errorf("upstream_request_id in the log = %v, want the backend's", line["upstream_request_id"])
		}
	}
}

// Every way in which a backend can be dead ends in a 502 or 504, or in a broken
// answer, within the account's time limits; and the other accounts don't feel it.
func TestDeadBackendFailsInTimeAndAlone(t *testing.T) {
	var clients sync.WaitGroup
	start := time.Now()
	const (
		object = "HTTP/1.1 200 OK\r\nContent-Length: 100000\r\nConnection: close\r\n\r\n"
		small  = "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\nConnection: close\r\n\r\n" // read before it is sent
	)
	rest := func(conn net.Conn) { io.Copy(io.Discard, conn) } // until the gateway leaves
	says := func(text string) func(net.Conn, *bufio.Reader) {
		return func(conn net.Conn, r *bufio.Reader) {
			readHead(r)
			io.WriteString(conn, text)
			rest(conn)
		}
	}
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
		{"a part of a head, then nothing", "http", says("HTTP/1.1 200 OK\r\nContent-Le"), 504, 504},
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
		{"a head that is too large", "http", says("HTTP/1.1 200 OK\r\nX-A: " + strings.Repeat("a", 1<<20) + "\r\n\r\n"), 502, 502},
		{"interim answers without end", "http", func(conn net.Conn, r *bufio.Reader) {
			readHead(r)
			for {
				if _, err := io.WriteString(conn, "HTTP/1.1 102 Processing\r\n\r\n"); err != nil {
					return
				}
				<-time.After(20 * time.Millisecond)
			}
		}, -1, -1},
		{"a head, then silence", "http", says(object), 0, -1},
		{"a byte, then silence", "http", says(object + "x"), 0, -1},
		{"a head, then the end", "http", func(conn net.Conn, r *bufio.Reader) {
			readHead(r)
			io.WriteString(conn, object)
		}, 0, -1},
		{"a small head, then silence", "http", says(small), -1, -1},
		{"a part of a small object, then the end", "http", func(conn net.Conn, r *bufio.Reader) {
			if line, _, _ := readHead(r); strings.HasPrefix(line, "HEAD") {
				return
			}
			io.WriteString(conn, small+"x")
		}, 502, -1},
		{"resets at once", "http", func(conn net.Conn, r *bufio.Reader) {
			conn.(*net.TCPConn).SetLinger(0)
		}, 502, 502},
		{"resets after the request", "http", func(conn net.Conn, r *bufio.Reader) {
			readHead(r)
			conn.(*net.TCPConn).SetLinger(0)
		}, 502, 502},
		{"hangs up after the request", "http", func(conn net.Conn, r *bufio.Reader) { readHead(r) }, 502, 502},
		{"speaks something else", "http", says("+OK POP3 ready\r\n"), 502, 502},
		{"switches protocols", "http", says("HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n"), 502, 502},
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

package main

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// Load balancers ask at the address where the requests go, and have no key.
func TestHealthOnTheMainListener(t *testing.T) {
	backend := startRecorder(t, nil)
	p := startReloadable(t, 0, testConfig(backend.URL))
	for _, test := range []struct {
		method, target string
		status         int
		want           string
	}{
		{"GET", "/-/healthy", 200, "healthy\n"},
		{"HEAD", "/-/healthy", 200, ""},
		{"GET", "/-/ready", 200, "ready\n"},
		{"HEAD", "/-/ready", 200, ""},
		{"GET", "/-/ready?deep=1", 200, "ready\n"}, // a stranger must not make us ask backends
	} {
		resp, body := p.do(test.method, test.target, "", "")
		if resp.StatusCode != test.status || body != test.want {
			t.Errorf("%s %s = %d %q, want %d %q", test.method, test.target, resp.StatusCode, body, test.status, test.want)
		}
		checkHardened(t, resp)
		if got := resp.Header.Get("Cache-Control"); got != "no-store" {
			t.Errorf("%s %s: Cache-Control = %q, want no-store", test.method, test.target, got)
		}
		for name, values := range resp.Header {
			if text := name + fmt.Sprint(values); strings.Contains(text, "main") || strings.Contains(text, "photos") {
				t.Errorf("%s %s: a header of the configuration: %s", test.method, test.target, text)
			}
		}
	}
	// Everything else is for users.
	for _, request := range [][2]string{
		{"POST", "/-/healthy"}, {"PUT", "/-/ready"}, {"DELETE", "/-/ready"}, {"GET", "/-/healthy/"}, {"GET", "/-/healthy/x"}, {"GET", "/-//ready"},
		{"GET", "/%2D/ready"}, {"GET", "/-%2Fready"}, {"GET", "/-/reload"}, {"POST", "/-/reload"}, {"GET", "/-/ready%2F"}, {"GET", "/metrics"}, {"GET", "/x/../-/ready"},
	} {
		if resp, body := p.do(request[0], request[1], "", ""); resp.StatusCode < 400 || resp.StatusCode >= 500 || strings.HasPrefix(body, "ready") {
			t.Errorf("%s %s = %d %q, want it refused", request[0], request[1], resp.StatusCode, body)
		}
	}
	backend.wantNone(t)
	if n := len(p.entries("request")); n == 0 {
		t.Error("what was refused is not in the log")
	}
	for _, line := range p.entries("request") {
		if line["status"] == 200.0 {
			t.Errorf("a question for health is in the log: %v", line)
		}
	}
}

// With server.domain a host names the bucket, and the path is a key.
func TestHealthHidesNoObject(t *testing.T) {
	backend := startRecorder(t, func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "an object") })
	p := startReloadable(t, 0, testConfig(backend.URL, with("server.domain", "s3.example"), with("nested_keys", true)))
	for host, want := range map[string]string{"photos.s3.example": "an object", "s3.example": "ready\n", "10.0.0.1:8080": "ready\n"} {
		conn := p.dial()
		fmt.Fprintf(conn, "GET /-/ready HTTP/1.1\r\nHost: %s\r\nX-Api-Key: %s\r\nConnection: close\r\n\r\n", host, userKey)
		answer, _ := io.ReadAll(conn)
		conn.Close()
		if !strings.HasSuffix(string(answer), want) {
			t.Errorf("GET /-/ready of %s = %q, want %q", host, answer, want)
		}
	}
	if seen := backend.requests(); len(seen) != 1 || seen[0].uri != "/photos/-/ready" {
		t.Errorf("the backend got %v, want one GET of /photos/-/ready", seen)
	}
}

// Between "not ready" and the end of accepting, a load balancer has time to notice:
// requests that come meanwhile are answered.
func TestShutdownDelay(t *testing.T) {
	backend := startRecorder(t, nil)
	p := startReloadable(t, 0, testConfig(backend.URL, with("server.shutdown_delay", "2s")))
	begin := time.Now()
	p.stop()
	await(t, "the program is not ready", func() bool {
		resp, body := p.do("GET", "/-/ready", "", "")
		return resp.StatusCode == 503 && body == "draining\n"
	})
	if resp, _ := p.do("HEAD", "/-/ready", "", ""); resp.StatusCode != 503 {
		t.Errorf("HEAD /-/ready = %d, want 503", resp.StatusCode)
	}
	if resp, _ := p.do("GET", "/-/healthy", "", ""); resp.StatusCode != 200 {
		t.Errorf("GET /-/healthy = %d, want 200: it is no reason to kill the process", resp.StatusCode)
	}
	if resp, _ := p.do("GET", "/photos/k", userKey, ""); resp.StatusCode != 200 {
		t.Errorf("GET while not ready = %d, want 200", resp.StatusCode)
	}
	if err := p.wait(); err != nil {
		t.Errorf("serve = %v", err)
	}
	if took := time.Since(begin); took < 2*time.Second {
		t.Errorf("the program ended after %s, want at least the delay", took)
	}
}

// The manifest asks where every gateway answers.
func TestManifestHasTheHealthPages(t *testing.T) {
	text, err := os.ReadFile("deploy/kubernetes.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for _, page := range []string{healthyPage, readyPage} {
		if !strings.Contains(string(text), "path: "+page) {
			t.Errorf("deploy/kubernetes.yaml does not ask for %s", page)
		}
	}
}

// None of the pages reads a body, and nobody has to have a key for them: a client that
// announces one and sends nothing must not hold a connection.
func TestPageDoesNotWaitForABody(t *testing.T) {
	backend := startRecorder(t, nil)
	p := startReloadable(t, 0, testConfig(backend.URL, withAdmin))
	for _, addr := range []string{p.addr, strings.TrimPrefix(p.admin, "http://")} {
		for _, method := range []string{"GET", "HEAD"} {
			for _, page := range []string{healthyPage, readyPage} {
				for _, body := range []string{"Content-Length: 1", "Content-Length: 200000", "Transfer-Encoding: chunked", "Transfer-Encoding: chunked\r\nContent-Length: 5"} {
					conn, err := net.Dial("tcp", addr)
					if err != nil {
						t.Fatal(err)
					}
					conn.SetDeadline(time.Now().Add(5 * time.Second))
					fmt.Fprintf(conn, "%s %s HTTP/1.1\r\nHost: localhost\r\n%s\r\n\r\n", method, page, body)
					answer, err := io.ReadAll(conn)
					conn.Close()
					if !strings.HasPrefix(string(answer), "HTTP/1.1 200 ") || err != nil {
						t.Errorf("%s %s with %q = %.40q, then %v; want an answer and the end of the connection", method, page, body, answer, err)
					}
				}
			}
		}
	}
}

// A client of HTTP/2 that opens no window takes no answer. It must not hold a stream by
// asking for the pages.
func TestPageIsNotKeptForAClientThatTakesNothing(t *testing.T) {
	g := startTLS(t, testConfig(startRecorder(t, nil).URL, with("server.idle_timeout", "1s")), nil)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &service{}
	s.current.Store(g.gw)
	server := newServer(healthFront{service: s, draining: &atomic.Bool{}}, g.gw.log)
	go g.tls.serve(server, listener)
	t.Cleanup(func() { server.Close() })
	g.addr = listener.Addr().String()
	c := dialHTTP2(t, g)
	c.frame(frameSettings, 0, 0, "\x00\x04\x00\x00\x00\x00") // SETTINGS_INITIAL_WINDOW_SIZE
	c.headers(flagEndStream, ":method", "GET", ":scheme", "https", ":authority", "gateway.example", ":path", readyPage)
	if got := c.answer(); got != "reset" {
		t.Errorf("answer %q, want a reset stream", got)
	}
}

package main

// The operator's listener: what it says, to whom, and that it is nowhere else.

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func TestAdminPages(t *testing.T) {
	p := startReloadable(t, 0, testConfig(startRecorder(t, nil).URL, withAdmin, with("rate_limit.redis_url", "redis://:backend-secret-canary@127.0.0.1:1")))
	for _, test := range []struct {
		method, path string
		header       []string
		status       int
		want         string // in the body
	}{
		{"GET", "/-/healthy", nil, 200, "healthy"},
		{"HEAD", "/-/healthy", nil, 200, ""},
		{"POST", "/-/healthy", nil, 405, ""},
		{"GET", "/-/ready", nil, 200, "ready"},
		{"GET", "/-/ready?deep=1", nil, 200, `"main":"ok"`},
		{"POST", "/-/ready", nil, 405, ""},
		{"GET", "/metrics", nil, 200, "# TYPE s3proxy_build_info gauge"},
		{"GET", "/metrics", []string{"Accept-Encoding: gzip"}, 200, "\x1f\x8b"},
		{"POST", "/metrics", nil, 405, ""},
		{"GET", "/debug/pprof/", nil, 200, "goroutine"},
		{"GET", "/debug/pprof/heap?debug=1", nil, 200, "heap profile"},
		{"GET", "/debug/pprof/goroutine?debug=2", nil, 200, "goroutine 1"},
		{"GET", "/debug/pprof/symbol", nil, 200, "num_symbols"},
		{"GET", "/debug/pprof/cmdline", nil, 404, ""}, // the command line is nobody's business
		{"GET", "/debug/pprof/nonsense", nil, 404, ""},
		{"GET", "/debug/vars", nil, 404, ""},

		{"GET", "/-/reload", nil, 405, ""},
		{"HEAD", "/-/reload", nil, 405, ""},
		{"PUT", "/-/reload", nil, 405, ""},
		{"OPTIONS", "/-/reload", nil, 405, ""}, // so no page may ask for more
		{"POST", "/-/reload", nil, 200, "applied"},
		{"POST", "/-/reload/", nil, 404, ""},
		// As the browsers say it: https://www.w3.org/TR/fetch-metadata/
		{"POST", "/-/reload", []string{"Sec-Fetch-Site: none"}, 200, "applied"},
		{"POST", "/-/reload", []string{"Sec-Fetch-Site: cross-site"}, 403, ""},
		{"POST", "/-/reload", []string{"Sec-Fetch-Site: same-site"}, 403, ""},
		{"POST", "/-/reload", []string{"Sec-Fetch-Site: same-origin"}, 403, ""},
		{"POST", "/-/reload", []string{"Origin: https://evil.example"}, 403, ""},
		{"POST", "/-/reload", []string{"Origin: null"}, 403, ""},

		{"GET", "/-/ready?deep=1", []string{"Sec-Fetch-Site: cross-site"}, 403, ""},
		{"GET", "/-/ready?deep=1", []string{"Sec-Fetch-Site: same-site"}, 403, ""},
		{"GET", "/-/ready?deep=1", []string{"Origin: https://evil.example"}, 403, ""},
		{"GET", "/-/ready?deep=1", []string{"Sec-Fetch-Site: same-origin"}, 200, "ok"}, // the status page has the link
		{"GET", "/-/ready", []string{"Sec-Fetch-Site: cross-site"}, 200, "ready"},
		{"GET", "/debug/pprof/trace?seconds=1", []string{"Sec-Fetch-Site: cross-site"}, 403, ""},
		{"GET", "/debug/pprof/profile?seconds=1", []string{"Origin: null"}, 403, ""},
		{"GET", "/debug/pprof/heap", []string{"Sec-Fetch-Site: cross-site"}, 403, ""},
		{"GET", "/debug/pprof/", []string{"Sec-Fetch-Site: none"}, 200, "goroutine"},

		{"GET", "/photos/k", []string{"X-Api-Key: " + adminKey}, 404, ""}, // objects are in front
		{"GET", "/-/", nil, 404, ""},
		{"GET", "/-/presign", nil, 404, ""},
		{"GET", "/-/healthy/x", nil, 404, ""},
		{"GET", "/config.json", nil, 404, ""},
	} {
		resp, body := p.page(test.method, test.path, test.header...)
		if resp.StatusCode != test.status || !strings.Contains(body, test.want) {
			t.Errorf("%s %s %q = %d %.200q, want %d with %q", test.method, test.path, test.header, resp.StatusCode, body, test.status, test.want)
		}
		checkHardened(t, resp)
		if got := resp.Header.Get("Cache-Control"); got != "no-store" {
			t.Errorf("%s %s: Cache-Control = %q, want no-store", test.method, test.path, got)
		}
	}
	if n := len(p.entries(configTaken)); n != 2 {
		t.Errorf("%d configurations were taken, want 2", n)
	}
}

// However many ask, a backend is asked once at a time.
func TestDeepReadinessAsksOnceAtATime(t *testing.T) {
	var asking, most atomic.Int32
	arrived, answer := make(chan bool), make(chan bool)
	backend := startRecorder(t, func(w http.ResponseWriter, r *http.Request) {
		n := asking.Add(1)
		most.Store(max(most.Load(), n))
		arrived <- true
		<-answer
		asking.Add(-1)
	})
	p := startReloadable(t, 0, testConfig(backend.URL, withAdmin))
	var all sync.WaitGroup
	const requests = 4
	for range requests {
		all.Go(func() { p.page("GET", "/-/ready?deep=1") })
	}
	for range requests {
		<-arrived
		answer <- true
	}
	all.Wait()
	if most.Load() != 1 {
		t.Errorf("the backend was asked %d times at once, want 1", most.Load())
	}
}

// There is no operator's listener unless it is configured, and its pages are on no
// other, but for two that say nothing of the configuration: see health.go.
func TestAdminIsApart(t *testing.T) {
	for _, changes := range [][]func(map[string]any){nil, {withAdmin}} {
		backend := startRecorder(t, nil)
		p := startReloadable(t, 0, testConfig(backend.URL, changes...))
		if (p.admin != "") != (changes != nil) {
			t.Errorf("the operator's listener is at %q", p.admin)
		}
		for _, path := range []string{"/-/healthy", "/-/ready", "/-/reload", "/-/metrics", "/debug/pprof/", "/debug/pprof/heap", "/debug/pprof"} {
			for _, method := range []string{"GET", "POST"} {
				if method == "GET" && (path == healthyPage || path == readyPage) {
					continue
				}
				for _, key := range []string{"", adminKey} {
					resp, body := p.do(method, path, key, "")
					if resp.StatusCode < 400 || resp.StatusCode >= 500 {
						t.Errorf("%s %s in front = %d %s, want it refused", method, path, resp.StatusCode, body)
					}
				}
			}
		}
		if resp, _ := p.do("GET", "/metrics", "", ""); resp.StatusCode < 400 { // a bucket's name
			t.Errorf("GET /metrics in front = %d, want it refused", resp.StatusCode)
		}
		if len(p.entries(configTaken)) != 0 {
			t.Error("a configuration was taken")
		}
		backend.wantNone(t)
	}
}

// A program that ends is alive, and not ready.
func TestAdminDraining(t *testing.T) {
	release := make(chan struct{})
	backend := startRecorder(t, func(w http.ResponseWriter, r *http.Request) { <-release })
	p := startReloadable(t, 0, testConfig(backend.URL, withAdmin))
	var client sync.WaitGroup
	client.Go(func() {
		if resp, _ := p.do("GET", "/photos/k", userKey, ""); resp.StatusCode != 200 {
			t.Errorf("GET under way = %d, want 200", resp.StatusCode)
		}
	})
	await(t, "the request is under way", func() bool { return len(backend.requests()) == 1 })
	p.stop()
	await(t, "the program is not ready", func() bool {
		resp, _ := p.page("GET", "/-/ready")
		return resp.StatusCode == 503
	})
	for path, want := range map[string]int{"/-/ready?deep=1": 503, "/-/healthy": 200, "/metrics": 200} {
		if resp, body := p.page("GET", path); resp.StatusCode != want {
			t.Errorf("%s = %d %.100s while draining, want %d", path, resp.StatusCode, body, want)
		}
	}
	p.wantSample("s3proxy_requests_in_flight", 1)
	close(release)
	client.Wait()
	if err := p.wait(); err != nil {
		t.Errorf("serve = %v, want nil", err)
	}
	if conn, err := net.Dial("tcp", strings.TrimPrefix(p.admin, "http://")); err == nil {
		conn.Close()
		t.Error("the operator's listener is open at the end")
	}
}

// deepAnswer is what /-/ready?deep=1 says.
func deepAnswer(t *testing.T, status int, body string) map[string]string {
	t.Helper()
	var answer struct {
		Ready    bool
		Accounts map[string]string
	}
	if err := json.Unmarshal([]byte(body), &answer); err != nil || answer.Ready != (status == 200) {
		t.Errorf("/-/ready?deep=1 = %d %s: %v", status, body, err)
	}
	return answer.Accounts
}

// Each account is asked for a bucket of its own, signed as a request would be.
func TestAdminDeep(t *testing.T) {
	answer := func(status int) string {
		return startRecorder(t, func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(status) }).URL
	}
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed.Close()
	demo := startDemoBackend(t)
	wrongSecret := anotherAccount(demo.URL, map[string]any{"name": "wrong", "bucket": "photos"})
	wrongSecret["secret_access_key"] = "not-the-secret"
	p := startReloadable(t, 0, testConfig(demo.URL, withAdmin,
		with("accounts.renamed", anotherAccount(demo.URL, map[string]any{"name": "renamed", "bucket": "secret"})),
		with("accounts.missing", anotherAccount(demo.URL, "missing")),
		with("accounts.wrong", wrongSecret),
		with("accounts.elsewhere", anotherAccount(answer(301), "elsewhere")),
		with("accounts.odd", anotherAccount(answer(499), "odd")),
		with("accounts.closed", anotherAccount("http://"+closed.Addr().String(), "closed")),
		with("accounts.garbage", anotherAccount(startRawBackend(t, func(_ int, conn net.Conn, r *bufio.Reader) {
			readHead(r)
			io.WriteString(conn, "SECRET-GARBAGE\r\n\r\n")
		}), "garbage")),
	))
	resp, body := p.page("GET", "/-/ready?deep=1")
	const noAnswer = "no answer; the log has the details"
	want := map[string]string{"main": "ok", "renamed": "ok", "missing": "status 404", "wrong": "status 403", "elsewhere": "status 301", "odd": "status 499",
		"closed": noAnswer, "garbage": noAnswer}
	got := deepAnswer(t, resp.StatusCode, body)
	if resp.StatusCode != 503 || resp.Header.Get("Content-Type") != "application/json" || len(got) != len(want) {
		t.Errorf("/-/ready?deep=1 = %d %s %s, want 503 with %d accounts", resp.StatusCode, resp.Header.Get("Content-Type"), body, len(want))
	}
	for name, want := range want {
		if got[name] != want {
			t.Errorf("account %s: %q, want %q", name, got[name], want)
		}
	}
	for _, account := range []string{"closed", "garbage"} {
		if !slices.ContainsFunc(p.entries("an account is not ready"), func(line map[string]any) bool { return line["account"] == account && line["cause"] != "" }) {
			t.Errorf("the log has no cause for %s", account)
		}
	}
	p.take(testConfig(demo.URL, withAdmin))
	if resp, body := p.page("GET", "/-/ready?deep=1"); resp.StatusCode != 200 || len(deepAnswer(t, resp.StatusCode, body)) != 1 {
		t.Errorf("with one good account = %d %s, want 200", resp.StatusCode, body)
	}
	if lines := p.lines(); len(lines) != 0 {
		t.Errorf("the access log has %v, want no request", lines)
	}
}

// Backends that say nothing are all waited for at once, for as long as deepTimeout.
func TestAdminDeepIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // fails if a goroutine is left
		changes := []func(map[string]any){}
		for i := range 20 {
			changes = append(changes, with(fmt.Sprintf("accounts.silent-%d", i), anotherAccount("http://localhost:1", fmt.Sprintf("silent-%d", i))))
		}
		s, _, log := testService(t, testConfig("http://localhost:1", changes...))
		g := s.current.Load()
		var asked atomic.Int64
		for _, u := range g.accounts {
			u.pool.dialer = func(ctx context.Context, network, addr string) (net.Conn, error) {
				conn, backend := net.Pipe()
				go func() {
					defer backend.Close()
					readHead(bufio.NewReader(backend))
					asked.Add(1)
					io.Copy(io.Discard, backend) // until the gateway gives up
				}()
				return conn, nil
			}
		}
		pages := newAdmin(s, new(atomic.Bool), s.reload)
		started, w := time.Now(), httptest.NewRecorder()
		pages.ServeHTTP(w, httptest.NewRequest("GET", "http://127.0.0.1/-/ready?deep=1", nil))
		if took := time.Since(started); took > deepTimeout {
			t.Errorf("it took %s, want %s at most", took, deepTimeout)
		}
		got := deepAnswer(t, w.Code, w.Body.String())
		for name, answer := range got {
			if answer != "no answer in time" {
				t.Errorf("account %s: %q", name, answer)
			}
		}
		if len(got) != 21 || w.Code != 503 || asked.Load() < 21 {
			t.Errorf("%d accounts, status %d, %d requests, want 21, 503, 21", len(got), w.Code, asked.Load())
		}
		// Who leaves is not waited for either.
		ctx, leave := context.WithTimeout(t.Context(), time.Second)
		defer leave()
		started = time.Now()
		pages.ServeHTTP(httptest.NewRecorder(), httptest.NewRequestWithContext(ctx, "GET", "http://127.0.0.1/-/ready?deep=1", nil))
		if took := time.Since(started); took > 1100*time.Millisecond {
			t.Errorf("it took %s after the client had left, want none", took-time.Second)
		}
		if text := log.String(); strings.Contains(text, "not ready") {
			t.Errorf("the log says of those who do not answer in time: %s", text)
		}
		g.retire(nil)
	})
}

// The counts of a day: each request once, under names of the configuration and of the
// table, whatever strangers send.
func TestAdminMetrics(t *testing.T) {
	var attempts atomic.Int64
	backend := startRecorder(t, func(w http.ResponseWriter, r *http.Request) {
		switch {
		case strings.HasSuffix(r.URL.Path, "/retry") && attempts.Add(1) == 1:
			w.WriteHeader(503)
		case strings.HasSuffix(r.URL.Path, "/none"):
			w.WriteHeader(404)
		case strings.HasSuffix(r.URL.Path, "/cut"):
			w.Header().Set("Content-Length", "100000") // more than is read before it is sent
			io.WriteString(w, "12345")
			w.(http.Flusher).Flush()
			panic(http.ErrAbortHandler)
		default:
			io.WriteString(w, "meow")
		}
	})
	backend.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelInfo)
	p := startReloadable(t, 0, testConfig(backend.URL, withAdmin, with("users.ro.rate_limit", map[string]any{"requests": 2, "window_seconds": 3600})))
	for _, r := range []struct {
		method, target, key, body string
		status                    int
	}{
		{"GET", "/photos/k", userKey, "", 200},
		{"GET", "/photos/k", userKey, "", 200},
		{"PUT", "/photos/k", userKey, "1234567", 200},
		{"GET", "/photos/none", userKey, "", 404},
		{"GET", "/photos/retry", adminKey, "", 200},
		{"GET", "/photos/cut", adminKey, "", 200},
		{"GET", "/secret/k", userKey, "", 403},
		{"GET", "/photos/k", readOnlyKey, "", 200},
		{"DELETE", "/photos/k", readOnlyKey, "", 403},
		{"GET", "/photos/k", readOnlyKey, "", 429},
		{"GET", "/photos/k", "stranger-0123456789", "", 401},
		{"GET", "/strangers-bucket/k", "stranger-0123456789", "", 401},
		{"GET", "/strangers-bucket/k", adminKey, "", 404},
		{"BREW", "/photos/k", userKey, "", 405},
		{"GET", "/photos/k?strangers-query", userKey, "", 501},
	} {
		if resp, body := p.do(r.method, r.target, r.key, r.body); resp.StatusCode != r.status {
			t.Errorf("%s %s = %d %s, want %d", r.method, r.target, resp.StatusCode, body, r.status)
		}
	}
	await(t, "all requests have ended", func() bool {
		n, _ := p.sample("s3proxy_requests_in_flight")
		open, _ := p.sample("s3proxy_client_connections")
		return n == 0 && open == 0 && len(p.lines()) == 15
	})
	for sample, want := range map[string]float64{
		`s3proxy_requests_total{user="user",bucket="photos",account="main",operation="GetObject",code="200"}`:  2,
		`s3proxy_requests_total{user="user",bucket="photos",account="main",operation="GetObject",code="404"}`:  1,
		`s3proxy_requests_total{user="user",bucket="photos",account="main",operation="PutObject",code="200"}`:  1,
		`s3proxy_requests_total{user="user",bucket="secret",account="main",operation="GetObject",code="403"}`:  1,
		`s3proxy_requests_total{user="admin",bucket="photos",account="main",operation="GetObject",code="200"}`: 2, // and the one cut off
		`s3proxy_requests_total{user="ro",bucket="photos",account="main",operation="DeleteObject",code="403"}`: 1,
		`s3proxy_requests_total{user="ro",bucket="photos",account="main",operation="other",code="429"}`:        1,
		`s3proxy_requests_total{user="other",bucket="photos",account="main",operation="other",code="401"}`:     1,
		`s3proxy_requests_total{user="other",bucket="other",account="other",operation="other",code="401"}`:     1,
		`s3proxy_requests_total{user="admin",bucket="other",account="other",operation="GetObject",code="404"}`: 1,
		`s3proxy_ratelimit_refused_total{user="ro"}`:                                                           1,
		`s3proxy_received_bytes_total{user="user",bucket="photos"}`:                                            7,
		`s3proxy_received_bytes_total{user="admin",bucket="photos"}`:                                           0,
		`s3proxy_sent_bytes_total{user="admin",bucket="photos"}`:                                               9, // and what was sent of the one cut off
		`s3proxy_upstream_first_byte_seconds_count{account="main",operation="GetObject"}`:                      6, // and none for who was refused
		`s3proxy_upstream_first_byte_seconds_count{account="main",operation="PutObject"}`:                      1,
		`s3proxy_upstream_first_byte_seconds_count{account="main",operation="DeleteObject"}`:                   0,
		`s3proxy_request_duration_seconds_count{account="main",operation="DeleteObject"}`:                      1,
		`s3proxy_request_duration_seconds_count{account="other",operation="GetObject"}`:                        1,
		`s3proxy_upstream_retries_total{account="main",reason="status_503"}`:                                   1,
		`s3proxy_upstream_retries_total{account="main",reason="connection"}`:                                   0,
		`s3proxy_upstream_connections_opened_total{account="main"}`:                                            2, // after the one that was cut
		`s3proxy_upstream_connections_reused_total{account="main"}`:                                            6,
		`s3proxy_config_last_reload_successful`:                                                                1,
	} {
		p.wantSample(sample, want)
	}
	_, text := p.page("GET", "/metrics")
	families := parseExposition(t, text)
	if strings.Contains(text, "stranger") {
		t.Error("what strangers send is in the metrics")
	}
	for _, absent := range []string{"s3proxy_ratelimit_store_up", "s3proxy_credentials_expiry_timestamp_seconds", "s3proxy_log_dropped_lines_total"} {
		if _, there := families[absent]; there {
			t.Errorf("%s is there, of which there is none", absent)
		}
	}
	sent := 0
	for _, line := range p.lines() {
		if line["user"] == "user" && line["bucket"] == "photos" {
			sent += int(line["bytes_out"].(float64))
		}
	}
	p.wantSample(`s3proxy_sent_bytes_total{user="user",bucket="photos"}`, float64(sent)) // with the errors' documents
	idle := p.dial()
	defer idle.Close()
	await(t, "a connection is counted", func() bool { n, _ := p.sample("s3proxy_client_connections"); return n == 1 })
}

// A page of another site can have its own name resolve to the operator's listener,
// and read what that answers. It can't have it asked for by an address, nor by a
// name that is not its own.
func TestAdminPagesCheckTheHost(t *testing.T) {
	p := startReloadable(t, 0, testConfig(startRecorder(t, nil).URL, withAdmin, with("server.admin.allowed_hosts", []any{"S3-Proxy.internal"})))
	ask := func(method, path, host string) int {
		conn, err := net.Dial("tcp", strings.TrimPrefix(p.admin, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		conn.SetDeadline(time.Now().Add(20 * time.Second))
		version := "1.1"
		if host == "" {
			version = "1.0"
		} else {
			host = "Host: " + host + "\r\n"
		}
		fmt.Fprintf(conn, "%s %s HTTP/%s\r\n%sConnection: close\r\nContent-Length: 0\r\n\r\n", method, path, version, host)
		resp, _ := readAnswer(t, method, conn)
		checkHardened(t, resp)
		return resp.StatusCode
	}
	pages := []string{"GET /", "GET /-/status", "GET /metrics", "GET /debug/pprof/", "GET /debug/pprof/heap?debug=1", "GET /-/healthy", "GET /-/ready?deep=1", "POST /-/reload", "GET /nosuch"}
	for _, host := range []string{
		"evil.example", "evil.example:9090", "127.0.0.1.evil.example", "localhost.evil.example", "evil.localhost.example", "0x7f.1", "2130706433", "127.1", "s3-proxy.internal.evil.example",
		"internal", "evil.example.", "xlocalhost", "[evil.example]", "*",
	} {
		for _, page := range pages {
			method, path, _ := strings.Cut(page, " ")
			if status := ask(method, path, host); status != 421 && status != 400 {
				t.Errorf("%s at %s = %d, want 421", page, host, status)
			}
		}
	}
	for _, host := range []string{
		"127.0.0.1", "127.0.0.1:9090", "10.1.2.3:80", "[::1]", "[::1]:9090", "localhost", "LOCALHOST:9090", "localhost.", "s3-proxy.internal", "S3-PROXY.internal:9090", "",
	} {
		if status := ask("GET", "/metrics", host); status != 200 {
			t.Errorf("GET /metrics at %q = %d, want 200", host, status)
		}
	}
	conf := parsed(t, withAdmin, with("server.admin.host", "Admin.example"))
	if !conf.mayNameAdmin("admin.example:9090") || conf.mayNameAdmin("example:9090") {
		t.Errorf("the pages of %s answer to another name, or not to that", conf.admin)
	}
	wantErrors(t, configText(t, with("server.admin.allowed_hosts", []any{"ok.example", "a b", "", "a:1", "*"})),
		"server.admin.allowed_hosts[1]", "server.admin.allowed_hosts[2]", "server.admin.allowed_hosts[3]", "server.admin.allowed_hosts[4]")
}

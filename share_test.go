package main

// What a user may take of the gateway at once, end to end: requests, bytes per second
// and connections.

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// A request more than max_in_flight is refused in the client's format, and told when to
// come again; other users are not.
func TestShareInFlight(t *testing.T) {
	release := make(chan struct{})
	backend := startRecorder(t, func(w http.ResponseWriter, r *http.Request) { <-release })
	p := startReloadable(t, 0, testConfig(backend.URL, withAdmin, with("users.user.max_in_flight", 2)))
	var clients sync.WaitGroup
	for _, method := range []string{"GET", "PUT"} {
		clients.Go(func() {
			if resp, body := p.do(method, "/photos/slow", userKey, ""); resp.StatusCode != 200 {
				t.Errorf("%s within the limit = %d %s, want 200", method, resp.StatusCode, body)
			}
		})
	}
	await(t, "two requests are under way", func() bool { return len(backend.requests()) == 2 })
	for _, test := range []struct {
		name, method, target string
		header               string
		xml                  bool
	}{
		{"object", "GET", "/photos/k", "X-Other: x", false},
		{"upload", "PUT", "/photos/k", "X-Other: x", false},
		{"listing", "GET", "/photos", "X-Other: x", true},
		{"signs", "GET", "/photos/k", "Authorization: AWS4-HMAC-SHA256 x", true},
		{"without right", "GET", "/secret/k", "X-Other: x", false},
	} {
		resp, body := p.do(test.method, test.target, userKey, "", test.header)
		if code := refusalCode(t, resp, body); resp.StatusCode != 503 || code != "SlowDown" || resp.Header.Get("Retry-After") != "1" || strings.HasPrefix(body, "<?xml") != test.xml {
			t.Errorf("%s: %d, Retry-After %q, %s, want 503 SlowDown, 1, as XML: %t", test.name, resp.StatusCode, resp.Header.Get("Retry-After"), body, test.xml)
		}
		checkHardened(t, resp)
	}
	if n := len(backend.requests()); n != 2 {
		t.Errorf("the backend got %d requests, want 2", n)
	}
	// Who has the room is asked by name, so strangers take none of it.
	for key, want := range map[string]int{"stranger-0123456789": 401, userKey: 503} {
		if resp, _ := p.do("GET", "/photos/k", key, ""); resp.StatusCode != want {
			t.Errorf("GET with %.4s… = %d, want %d", key, resp.StatusCode, want)
		}
	}
	clients.Go(func() {
		if resp, body := p.do("GET", "/photos/k", readOnlyKey, ""); resp.StatusCode != 200 {
			t.Errorf("another user = %d %s, want 200", resp.StatusCode, body)
		}
	})
	await(t, "the other user's request is under way", func() bool { return len(backend.requests()) == 3 })
	// A reload finds those who are under way.
	p.take(testConfig(backend.URL, withAdmin, with("users.user.max_in_flight", 1)))
	if resp, _ := p.do("GET", "/photos/k", userKey, ""); resp.StatusCode != 503 {
		t.Errorf("GET beyond a lower limit = %d, want 503", resp.StatusCode)
	}
	p.take(testConfig(backend.URL, withAdmin, with("max_in_flight", 3)))
	clients.Go(func() {
		if resp, body := p.do("GET", "/photos/k", userKey, ""); resp.StatusCode != 200 {
			t.Errorf("GET within a higher limit = %d %s, want 200", resp.StatusCode, body)
		}
	})
	await(t, "the third request is under way", func() bool { return len(backend.requests()) == 4 })
	if resp, _ := p.do("GET", "/photos/k", userKey, ""); resp.StatusCode != 503 {
		t.Errorf("GET beyond the higher limit = %d, want 503", resp.StatusCode)
	}
	close(release)
	clients.Wait()
	p.take(testConfig(backend.URL, withAdmin, with("max_in_flight", 1)))
	for range 5 {
		if resp, body := p.do("GET", "/photos/k", userKey, ""); resp.StatusCode != 200 {
			t.Errorf("GET when all have ended = %d %s, want 200", resp.StatusCode, body)
		}
	}
}

// A request leaves its place free however it ends.
func TestShareInFlightIsFreed(t *testing.T) {
	arrived, release := make(chan struct{}, 10), make(chan struct{})
	endpoint := startRawBackend(t, func(_ int, conn net.Conn, r *bufio.Reader) {
		line, _, _ := readHead(r)
		arrived <- struct{}{}
		switch {
		case strings.Contains(line, "/cut"):
			io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\nmeow")
		case strings.Contains(line, "/broken"):
		case strings.Contains(line, "/endless"):
			io.WriteString(conn, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
			for {
				if _, err := fmt.Fprintf(conn, "10000\r\n%s\r\n", strings.Repeat("x", 1<<16)); err != nil {
					return
				}
			}
		default:
			<-release
		}
	})
	g := startGateway(t, testConfig(endpoint, with("users.user.max_in_flight", 1), with("server.idle_timeout", "10s")))
	var faulty atomic.Bool
	pool := g.gw.buckets["photos"].upstream.pool
	dial := pool.dialer
	pool.dialer = func(ctx context.Context, network, addr string) (net.Conn, error) {
		if faulty.Load() {
			panic("a fault of our own")
		}
		return dial(ctx, network, addr)
	}
	free := func(after string) {
		t.Helper()
		await(t, "the place is free after "+after, func() bool { return g.gw.loads["user"].inFlight.count.Load() == 0 })
	}
	for _, test := range []struct{ name, method, target, body string }{
		{"a refusal", "GET", "/secret/k", ""},
		{"a fault of the client", "GET", "/photos/k?acl&acl", ""},
		{"an unknown operation", "GET", "/photos/k?policy", ""},
		{"an answer that is cut", "GET", "/photos/cut", ""},
		{"a backend that breaks off", "PUT", "/photos/broken", "meow"},
		{"a page", "GET", "/-/presign", ""},
		{"a list of buckets", "GET", "/", ""},
	} {
		if resp, body := g.do(test.method, test.target, userKey, test.body); resp.StatusCode == 503 {
			t.Errorf("%s: %d %s, want another", test.name, resp.StatusCode, body)
		}
		free(test.name)
	}
	for len(arrived) > 0 {
		<-arrived
	}
	for _, test := range []struct{ name, request string }{
		{"a client that leaves before the answer", "GET /photos/wait HTTP/1.1\r\nHost: g\r\nX-Api-Key: " + userKey + "\r\n\r\n"},
		{"a client that leaves within the answer", "GET /photos/endless HTTP/1.1\r\nHost: g\r\nX-Api-Key: " + userKey + "\r\n\r\n"},
		{"a client that leaves within its upload", "PUT /photos/wait HTTP/1.1\r\nHost: g\r\nX-Api-Key: " + userKey + "\r\nContent-Length: 1000000\r\n\r\n" + strings.Repeat("x", 100000)},
	} {
		conn := g.dial()
		io.WriteString(conn, test.request)
		<-arrived
		if n := g.gw.loads["user"].inFlight.count.Load(); n != 1 {
			t.Errorf("%s: %d requests under way, want 1", test.name, n)
		}
		conn.Close()
		free(test.name)
	}
	close(release)

	faulty.Store(true)
	if resp, body := g.do("GET", "/photos/k", userKey, ""); resp.StatusCode != 500 {
		t.Errorf("GET with a panic = %d %s, want 500", resp.StatusCode, body)
	}
	free("a panic")
}

// shareBackend stores uploads and answers with as many bytes as the query says. In
// received is how much of uploads has come.
func shareBackend(t *testing.T) (endpoint string, received *atomic.Int64) {
	received = new(atomic.Int64)
	endpoint = startRawBackend(t, func(_ int, conn net.Conn, r *bufio.Reader) {
		for {
			line, header, err := readHead(r)
			if err != nil {
				return
			}
			if strings.HasPrefix(line, "PUT") {
				var size int64
				fmt.Sscan(header.Get("Content-Length"), &size)
				n, err := io.CopyN(countsWritten{received}, r, size)
				if n != size || err != nil {
					return
				}
				io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
				continue
			}
			var size int64
			fmt.Sscanf(line, "GET /photos/%d", &size)
			fmt.Fprintf(conn, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n", size)
			if _, err := io.CopyN(conn, zeroReader{}, size); err != nil {
				return
			}
		}
	})
	return endpoint, received
}

// countsWritten counts what is written to it.
type countsWritten struct{ n *atomic.Int64 }

func (w countsWritten) Write(p []byte) (int, error) {
	w.n.Add(int64(len(p)))
	return len(p), nil
}

// transfer moves size bytes one way, and says how long it took.
func (g *testGateway) transfer(method, key string, size int64) time.Duration {
	g.t.Helper()
	conn := g.dial()
	defer conn.Close()
	started := time.Now()
	switch method {
	case "GET":
		fmt.Fprintf(conn, "GET /photos/%d HTTP/1.1\r\nHost: g\r\nX-Api-Key: %s\r\n\r\n", size, key)
	case "PUT":
		fmt.Fprintf(conn, "PUT /photos/k HTTP/1.1\r\nHost: g\r\nX-Api-Key: %s\r\nContent-Length: %d\r\n\r\n", key, size)
		go io.CopyN(conn, zeroReader{}, size)
	}
	resp, body := readAnswer(g.t, method, conn)
	if resp.StatusCode != 200 || method == "GET" && int64(len(body)) != size || resp.Header.Get("Test-Error") != "" {
		g.t.Errorf("%s of %d bytes = %d with %d bytes, %s, want all", method, size, resp.StatusCode, len(body), resp.Header.Get("Test-Error"))
	}
	return time.Since(started)
}

// A user has bytes_per_second each way, for all transfers together; another user has
// as much.
func TestShareBandwidth(t *testing.T) {
	const rate = 400 << 10
	endpoint, _ := shareBackend(t)
	g := startGateway(t, testConfig(endpoint, with("bytes_per_second", rate), with("users.admin.bytes_per_second", 0)))
	// The first turn of each transfer, and what is made up for, are not waited for.
	least := func(size int64, transfers int) time.Duration {
		return time.Duration(float64(size-int64(transfers)*rate/40)/rate*float64(time.Second)) - maxAhead - maxBehind
	}
	const most = 10 * time.Second // on a machine that is busy
	for _, test := range []struct {
		name      string
		methods   []string // at once, by one user
		size      int64    // of each
		transfers int      // of them, that share a way
	}{
		{"each way", []string{"GET", "PUT"}, 160 << 10, 1},
		{"small ones", []string{"GET", "GET", "GET", "GET", "PUT", "PUT", "PUT", "PUT"}, 30 << 10, 4},
	} {
		started := time.Now()
		var all sync.WaitGroup
		for _, key := range []string{userKey, readOnlyKey} {
			for _, method := range test.methods {
				if method == "PUT" && key == readOnlyKey {
					continue
				}
				all.Go(func() { g.transfer(method, key, test.size) })
			}
		}
		all.Go(func() { // of whom nothing is asked
			if took := g.transfer("GET", adminKey, 8<<20); took > most {
				t.Errorf("%s: the unlimited transfer took %s", test.name, took)
			}
		})
		all.Wait()
		if took, least := time.Since(started), least(int64(test.transfers)*test.size, test.transfers); took < least || took > most {
			t.Errorf("%s: it took %s, want %s to %s", test.name, took, least, most)
		}
	}
}

// A transfer that waits for its own bandwidth for longer than idle_timeout makes
// progress enough, over each protocol.
func TestShareBandwidthIsProgress(t *testing.T) {
	const rate = 8 << 10                        // a turn is 4 KiB: 500 ms
	const download, upload = 10 << 10, 16 << 10 // 0.7 s, and as long again
	const least = 400 * time.Millisecond
	endpoint, _ := shareBackend(t)
	config := testConfig(endpoint, with("bytes_per_second", rate), with("server.idle_timeout", "300ms"))
	plain, secure := startGateway(t, config), startTLS(t, config, nil)
	var all sync.WaitGroup
	for method, size := range map[string]int64{"GET": download, "PUT": upload} {
		all.Go(func() {
			if took := plain.transfer(method, userKey, size); took < least {
				t.Errorf("%s took %s, want %s at least", method, took, least)
			}
		})
	}
	for major, key := range map[int]string{1: userKey, 2: adminKey} {
		transport := secure.client(major)
		transfer := func(req *http.Request, size int64) {
			started := time.Now()
			resp, err := transport.RoundTrip(req)
			if err != nil {
				t.Errorf("HTTP/%d %s: %v", major, req.Method, err)
				return
			}
			defer resp.Body.Close()
			n, err := io.Copy(io.Discard, resp.Body)
			if took := time.Since(started); resp.StatusCode != 200 || err != nil || n != size || took < least {
				t.Errorf("HTTP/%d %s = %d with %d bytes, %v, after %s, want all after %s at least", major, req.Method, resp.StatusCode, n, err, took, least)
			}
		}
		downloaded := make(chan struct{})
		get := secure.request("GET", fmt.Sprintf("/photos/%d", download), key, nil, 0)
		// Of an HTTP/2 stream that has come to its end, no deadline is looked at.
		lastByte := readerFunc(func(p []byte) (int, error) {
			<-downloaded
			return copy(p, "x"), io.EOF
		})
		put := secure.request("PUT", "/photos/k", key, io.MultiReader(io.LimitReader(zeroReader{}, upload-1), lastByte), upload)
		all.Go(func() {
			defer close(downloaded)
			transfer(get, download)
		})
		all.Go(func() { transfer(put, 0) })
	}
	all.Wait()
}

// A new rate is that of transfers under way, too.
func TestShareBandwidthReload(t *testing.T) {
	const size = 4 << 20
	endpoint, received := shareBackend(t)
	slow := testConfig(endpoint, withAdmin, with("users.user.bytes_per_second", 64<<10)) // a minute
	p := startReloadable(t, 0, slow)
	var all sync.WaitGroup
	for _, method := range []string{"GET", "PUT"} {
		all.Go(func() {
			if took := p.transfer(method, userKey, size); took > 15*time.Second {
				t.Errorf("%s took %s, want no minute", method, took)
			}
		})
	}
	await(t, "the upload is under way", func() bool { return received.Load() > 0 })
	p.take(testConfig(endpoint, withAdmin))
	all.Wait()

	// And the other way: from no limit to one.
	p.take(slow)
	if took, least := p.transfer("GET", userKey, 16<<10), 50*time.Millisecond; took < least {
		t.Errorf("GET took %s, want %s at least", took, least)
	}
}

// Connections beyond max_connections wait until one is closed; they are not refused.
func TestShareConnections(t *testing.T) {
	p := startReloadable(t, 0, testConfig(startRecorder(t, nil).URL, withAdmin, with("server.max_connections", 2)))
	const request = "GET /photos/k HTTP/1.1\r\nHost: g\r\nX-Api-Key: " + userKey + "\r\n\r\n"
	open := func() (net.Conn, *bufio.Reader) {
		conn := p.dial()
		t.Cleanup(func() { conn.Close() })
		io.WriteString(conn, request)
		return conn, bufio.NewReader(conn)
	}
	answered := func(r *bufio.Reader) {
		t.Helper()
		if resp, body := readAnswer(t, "GET", r); resp.StatusCode != 200 {
			t.Errorf("GET = %d %s, want 200", resp.StatusCode, body)
		}
	}
	first, firstAnswer := open()
	answered(firstAnswer)
	_, secondAnswer := open()
	answered(secondAnswer)
	third, thirdAnswer := open()
	third.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
	if _, err := thirdAnswer.Peek(1); err == nil || !strings.Contains(err.Error(), "timeout") {
		t.Errorf("the third connection: %v, want no answer", err)
	}
	p.wantSample("s3proxy_client_connections", 2)
	io.WriteString(first, request) // those that are open go on
	answered(firstAnswer)
	first.Close()
	third.SetReadDeadline(time.Now().Add(20 * time.Second))
	answered(thirdAnswer)
	if resp, _ := p.page("GET", "/-/ready"); resp.StatusCode != 200 {
		t.Errorf("/-/ready = %d: the operator's connections count", resp.StatusCode)
	}
}

// A request has its place until the last byte of its answer is written, though a small
// answer is kept until all else is done.
func TestShareInFlightUntilWritten(t *testing.T) {
	const size = 30_000
	endpoint, _ := shareBackend(t)
	g := startGateway(t, testConfig(endpoint, with("users.user.max_in_flight", 1)))
	writing, release := make(chan struct{}, 1), make(chan struct{})
	conn := g.dialHooked(func(conn *net.TCPConn, p []byte) (int, error) {
		writing <- struct{}{}
		<-release
		return conn.Write(p)
	})
	defer conn.Close()
	fmt.Fprintf(conn, "GET /photos/%d HTTP/1.1\r\nHost: g\r\nX-Api-Key: %s\r\n\r\n", size, userKey)
	<-writing
	if n := g.gw.metrics.inFlight.Load(); n != 1 {
		t.Errorf("the metrics count %d requests under way, want 1", n)
	}
	resp, body := g.do("GET", "/photos/1", userKey, "")
	wantError(t, resp, body, 503, "SlowDown")
	close(release)
	if resp, body := readAnswer(t, "GET", conn); resp.StatusCode != 200 || len(body) != size {
		t.Errorf("the answer that was waited for = %d with %d bytes, want 200 with %d", resp.StatusCode, len(body), size)
	}
	await(t, "no request is under way", func() bool { return g.gw.loads["user"].inFlight.count.Load() == 0 && g.gw.metrics.inFlight.Load() == 0 })
	if resp, body := g.do("GET", "/photos/1", userKey, ""); resp.StatusCode != 200 {
		t.Errorf("GET = %d %s, want 200", resp.StatusCode, body)
	}
}

// A small answer comes at the user's rate, too, and not at once when it is over.
func TestShareBandwidthSmallAnswer(t *testing.T) {
	const rate, size = 1000, 30_000 // half a minute
	endpoint, _ := shareBackend(t)
	g := startGateway(t, testConfig(endpoint, with("users.user.bytes_per_second", rate)))
	conn := g.dial()
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(5 * time.Second))
	fmt.Fprintf(conn, "GET /photos/%d HTTP/1.1\r\nHost: g\r\nX-Api-Key: %s\r\n\r\n", size, userKey)
	if _, err := io.ReadFull(conn, make([]byte, 1)); err != nil {
		t.Errorf("the first byte: %v", err)
	}
	if lines := g.lines(); len(lines) != 0 {
		t.Errorf("the request has ended before the first byte came: %v", lines[0])
	}
}

// A backend's answer to an upload that waits for its bandwidth is not waited for.
func TestShareBandwidthEarlyAnswer(t *testing.T) {
	const rate, size = 100, 100_000 // a turn is 4 KiB: 40 s
	endpoint := startRawBackend(t, func(_ int, conn net.Conn, r *bufio.Reader) {
		readHead(r)
		io.CopyN(io.Discard, r, smallestChunk) // the first turn
		const document = "<Error><Code>QuotaExceeded</Code></Error>"
		fmt.Fprintf(conn, "HTTP/1.1 403 Forbidden\r\nContent-Length: %d\r\n\r\n%s", len(document), document)
		io.Copy(io.Discard, r)
	})
	g := startGateway(t, testConfig(endpoint, with("users.user.bytes_per_second", rate)))
	conn := g.dial()
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(5 * time.Second))
	fmt.Fprintf(conn, "PUT /photos/k HTTP/1.1\r\nHost: g\r\nX-Api-Key: %s\r\nContent-Length: %d\r\n\r\n", userKey, size)
	go io.CopyN(conn, zeroReader{}, size)
	resp, body := readAnswer(t, "PUT", conn)
	wantError(t, resp, body, 403, "QuotaExceeded")
}

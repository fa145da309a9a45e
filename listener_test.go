package main

import (
	"bufio"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// The heads of requests are found wherever reads begin and end, and whatever bodies
// hold.
func TestFollowerFindsHeads(t *testing.T) {
	const fake = "GET / HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n"
	none, length, encoding := requestHead{known: true}, requestHead{known: true, length: true}, requestHead{known: true, encoding: true}
	doubted := func(head requestHead, reason string) requestHead { head.doubt = reason; return head }
	both := doubted(requestHead{known: true, length: true, encoding: true}, twoFramings)
	for _, test := range []struct {
		wire string
		want []requestHead
	}{
		{"GET / HTTP/1.1\r\nHost: h\r\n\r\n", []requestHead{none}},
		{"GET / HTTP/1.1\nHost: h\n\nGET / HTTP/1.1\n\n", []requestHead{doubted(none, bareLF), doubted(none, bareLF)}},
		{"GET / HTTP/1.1\r\nHost: h\r\n\n", []requestHead{doubted(none, bareLF)}},
		{"PUT / HTTP/1.1\r\nContent-Length: 1\r\n\r\n\nGET / HTTP/1.1\r\n\r\n", []requestHead{length, none}},
		{"PUT / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\naGET / HTTP/1.1\r\n\r\n", []requestHead{doubted(length, twoLengths), doubted(none, twoLengths)}},
		{"GET / HTTP/1.1\r\n\r\n\nGET / HTTP/1.1\r\n\r\n", []requestHead{none, doubted(none, bareLF)}},
		{"GET / HTTP/1.1\r\n\r\n\r\r\nGET / HTTP/1.1\r\n\r\n", []requestHead{none, doubted(none, strayCR)}},
		{"PUT / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nA: b\n\r\nGET / HTTP/1.1\r\n\r\n", []requestHead{encoding, doubted(none, bareLF)}},
		{"PUT / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nA:\r\n\tb\r\n\r\nGET / HTTP/1.1\r\n\r\n", []requestHead{encoding, doubted(none, foldedLine)}},
		{"PUT / HTTP/1.1\r\ncontent-LENGTH: 4\r\n\r\nmeow", []requestHead{length}},
		{fmt.Sprintf("PUT / HTTP/1.1\r\nContent-Length: %d\r\n\r\n%sGET / HTTP/1.1\r\n\r\n", len(fake), fake), []requestHead{length, none}},
		{fmt.Sprintf("PUT / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n%x;x=y\r\n%s\r\n0\r\nTrailer: x\r\n\r\nGET / HTTP/1.1\r\n\r\n", len(fake), fake), []requestHead{encoding, none}},
		{"PUT / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\nGET / HTTP/1.1\r\n\r\n", []requestHead{both, doubted(none, twoFramings)}},
		{"\r\nGET / HTTP/1.1\r\nX-Content-Length: 4\r\nA: Content-Length: 4\r\n Content-Length: 4\r\n\r\n", []requestHead{doubted(none, foldedLine)}},
		{"GET /" + strings.Repeat("x", 1000) + " HTTP/1.1\r\nX: " + strings.Repeat("y", 1000) + "Content-Length: 5\r\n\r\n", []requestHead{none}},
	} {
		for size := 1; size <= len(test.wire); size++ {
			var f follower
			for b := range slices.Chunk([]byte(test.wire), size) {
				f.follow(b)
			}
			var got []requestHead
			for head := f.next(); head.known; head = f.next() {
				got = append(got, head)
			}
			if !slices.Equal(got, test.want) {
				t.Fatalf("%q in reads of %d bytes: heads %v, want %v", test.wire, size, got, test.want)
			}
		}
	}
}

// What can't be followed is not guessed at.
func TestFollowerThatIsLostKnowsNothing(t *testing.T) {
	for _, wire := range []string{
		"PUT / HTTP/1.1\r\nContent-Length: x\r\n\r\n", "PUT / HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
		"PUT / HTTP/1.1\r\nContent-Length: " + strings.Repeat("0", maxFollowedLine) + "5\r\n\r\n",
		"GET / HTTP/1.1\r\n\r\nPUT / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", "PUT / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nabc",
		strings.Repeat("GET / HTTP/1.1\r\n\r\n", maxFollowedHeads+1),
	} {
		var f follower
		f.follow([]byte(wire + "\r\nGET / HTTP/1.1\r\n\r\n"))
		for before := strings.Count(wire, "\r\n\r\n"); before > 0 && !strings.Contains(wire, "Content-Length"); before-- {
			if head := f.next(); !head.known || head.doubt != "" {
				t.Errorf("%.60q: a head before the loss is %v, want it known", wire, head)
			}
		}
		if head := f.next(); head != (requestHead{doubt: unknownHead}) {
			t.Errorf("%.60q: head %v, want none, and a doubt", wire, head)
		}
	}
}

// What a follower knows of a request is what net/http finds, up to the request after
// which the connection ends.
func FuzzFollower(f *testing.F) {
	f.Add("GET / HTTP/1.1\r\nHost: h\r\n\r\nPUT / HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\n\r\nmeow", 7)
	f.Add("PUT / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nmeow\r\n0\r\nA: b\r\n\r\nGET / HTTP/1.1\r\nHost: h\r\n\r\n", 1)
	f.Add("POST / HTTP/1.1\nHost: h\nContent-Length: 4\n x\n\n0\n\n\r\nGET / HTTP/1.1\n\n", 3)
	f.Fuzz(func(t *testing.T, wire string, size int) {
		var follow follower
		for b := range slices.Chunk([]byte(wire), max(1, size)) {
			follow.follow(b)
		}
		r := bufio.NewReader(strings.NewReader(wire))
		for {
			req, err := http.ReadRequest(r)
			if err != nil || req.ProtoMajor != 1 || req.ProtoMinor != 1 || req.Method == "PRI" {
				return
			}
			_, length := req.Header["Content-Length"]
			head := follow.next()
			if chunked := len(req.TransferEncoding) > 0; head.known && (head.encoding != chunked || !chunked && head.length != length) {
				t.Fatalf("%q: head %+v, want %t, %t", wire, head, length, chunked)
			}
			if _, err := io.Copy(io.Discard, req.Body); err != nil {
				return
			}
			if req.Method == "POST" { // net/http's server forgives a line break after a form
				for b, _ := r.Peek(1); len(b) > 0 && (b[0] == '\r' || b[0] == '\n'); b, _ = r.Peek(1) {
					r.Discard(1)
				}
			}
		}
	})
}

// framed sends requests that are framed in one way or another, on one connection, and
// returns the status of each answer, and whether the connection was closed after them.
func framed(t *testing.T, conn net.Conn, requests ...string) (statuses []int, closed bool) {
	t.Helper()
	r := bufio.NewReader(conn)
	for _, request := range requests {
		io.WriteString(conn, request)
		resp, err := http.ReadResponse(r, nil)
		if err != nil {
			return statuses, true
		}
		io.Copy(io.Discard, resp.Body)
		statuses = append(statuses, resp.StatusCode)
	}
	io.WriteString(conn, "GET /photos/k HTTP/1.1\r\nHost: h\r\nX-Api-Key: "+userKey+"\r\n\r\n")
	_, err := http.ReadResponse(r, nil)
	return statuses, err != nil
}

// A request with a Content-Length and a Transfer-Encoding is refused, and the last on its
// connection, whatever its body is framed in besides, with TLS and without (RFC 9112
// section 6.1).
func TestLengthBesideChunksIsRefused(t *testing.T) {
	backend := startRecorder(t, nil)
	plain, g := startGateway(t, testConfig(backend.URL)), startTLS(t, testConfig(backend.URL), nil)
	const put = "PUT /photos/k HTTP/1.1\r\nHost: h\r\nX-Api-Key: " + userKey + "\r\n"
	const aws = "X-Amz-Content-Sha256: " + streamingTrailer + "\r\nX-Amz-Trailer: x-amz-checksum-crc32\r\nX-Amz-Decoded-Content-Length: 4\r\n"
	payload := trailerStream("meow", "x-amz-checksum-crc32", crc32Of("meow"))
	chunks := fmt.Sprintf("%x\r\n%s\r\n0\r\n\r\n", len(payload), payload)
	get := "GET /photos/k HTTP/1.1\r\nHost: h\r\nX-Api-Key: " + userKey + "\r\n\r\n"
	for _, test := range []struct {
		name, request string
		status        int
		closed        bool
		forwarded     int
	}{
		{"length", put + "Content-Length: 4\r\n\r\nmeow", 200, false, 1},
		{"aws-chunked in chunks", put + aws + "Transfer-Encoding: chunked\r\n\r\n" + chunks, 200, false, 1},
		{"aws-chunked in chunks, with a length", put + aws + "Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n" + chunks, 400, true, 0},
		{"the length first", put + "Content-Length: 3\r\n" + aws + "Transfer-Encoding: chunked\r\n\r\n" + chunks, 400, true, 0},
		{"chunks", put + "Transfer-Encoding: chunked\r\n\r\n4\r\nmeow\r\n0\r\n\r\n", 411, true, 0},
		{"chunks, with a length", put + "Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n4\r\nmeow\r\n0\r\n\r\n", 400, true, 0},
		{"a read with both", strings.TrimSuffix(get, "\r\n") + "Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n", 400, true, 0},
		{"HTTP/1.0 with both", strings.Replace(put, "1.1", "1.0", 1) + "Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\nmeow", 400, true, 0},
		{"HTTP/1.0 with both, aws-chunked", strings.Replace(put, "1.1", "1.0", 1) + aws + fmt.Sprintf("Connection: keep-alive\r\nTransfer-Encoding: chunked\r\nContent-Length: %d\r\n\r\n%s", len(payload), payload), 400, true, 0},
		{"HTTP/1.0 with a length", strings.Replace(put, "1.1", "1.0", 1) + "Connection: keep-alive\r\nContent-Length: 4\r\n\r\nmeow", 200, true, 1},
	} {
		for _, secure := range []bool{false, true} {
			for _, before := range []string{"", get} {
				conn := plain.dial()
				if secure {
					conn = tls.Client(g.dial(), &tls.Config{RootCAs: g.ca.pool(), ServerName: "gateway.example"})
				}
				requests := []string{test.request}
				if before != "" {
					requests = []string{before, test.request}
				}
				seen := len(backend.requests())
				statuses, closed := framed(t, conn, requests...)
				conn.Close()
				if len(statuses) != len(requests) || statuses[len(statuses)-1] != test.status || closed != test.closed {
					t.Errorf("%s, TLS %t, after %.4q: answers %v, closed %t, want %d, %t", test.name, secure, before, statuses, closed, test.status, test.closed)
				}
				want := test.forwarded + len(requests) - 1
				if !test.closed {
					want++ // the request after it
				}
				if n := len(backend.requests()) - seen; n != want {
					t.Errorf("%s, TLS %t: the backend got %d requests, want %d", test.name, secure, n, want)
				}
			}
		}
	}
}

// net/http itself answers an Expect that it does not know. It must not wait for the body
// for as long as the client likes.
func TestRefusedExpectationDoesNotHoldItsConnection(t *testing.T) {
	backend := startRecorder(t, nil)
	plain, g := startGateway(t, testConfig(backend.URL)), startTLS(t, testConfig(backend.URL), nil)
	for _, secure := range []bool{false, true} {
		conn := plain.dial()
		if secure {
			conn = tls.Client(g.dial(), &tls.Config{RootCAs: g.ca.pool(), ServerName: "gateway.example"})
		}
		conn.SetDeadline(time.Now().Add(5 * refusedBodyTimeout))
		io.WriteString(conn, "PUT /photos/k HTTP/1.1\r\nHost: h\r\nExpect: the-unexpected\r\nContent-Length: 1000\r\n\r\n")
		answer, err := io.ReadAll(conn)
		conn.Close()
		if !strings.HasPrefix(string(answer), "HTTP/1.1 417 ") || err != nil {
			t.Errorf("TLS %t: answer %.40q, then %v; want 417 and the end of the connection", secure, answer, err)
		}
	}
}

// The follower and net/http must agree on what is refused: else a body that is sent
// slowly is cut, or one that never comes is waited for.
func TestFollowerKnowsExpectations(t *testing.T) {
	for lines, want := range map[string]bool{
		"":                                      false,
		"Expect: 100-continue\r\n":              false,
		"expect:100-Continue\r\n":               false,
		"Expect: a, 100-continue\r\n":           false,
		"Expect: a\r\nExpect: 100-continue\r\n": false,
		"Expect: a\r\n":                         true,
		"EXPECT: x100-continue\r\n":             true,
		"Expect: 100-continued\r\n":             true,
		"Expect: 100-continue;a=b\r\n":          true,
		// What is followed of the line ends behind "continue".
		"Expect: " + strings.Repeat(" ", maxFollowedLine-len("Expect: 100-continue")) + "100-continued\r\n": true,
	} {
		head := "PUT /photos/k HTTP/1.1\r\nHost: h\r\n" + lines + "Content-Length: 4\r\n\r\n"
		r, err := http.ReadRequest(bufio.NewReader(strings.NewReader(head)))
		if err != nil {
			t.Fatal(err)
		}
		expects := strings.Join(r.Header["Expect"], ",")
		if got := expects != "" && !hasContinue(expects); got != want {
			t.Errorf("%q: net/http reads %q, which is refused: %t, want %t", lines, expects, got, want)
		}
		for _, size := range []int{1, 7, len(head)} {
			var f follower
			for rest := head; rest != ""; rest = rest[min(size, len(rest)):] {
				f.follow([]byte(rest[:min(size, len(rest))]))
			}
			if got := f.refused.Load(); got != want {
				t.Errorf("%q in pieces of %d: refused = %t, want %t", lines, size, got, want)
			}
		}
	}
}

// A head of HTTP/2 has as long as one of HTTP/1.1, wherever it stops; one that is whole
// may be answered at leisure.
func TestHTTP2HeadThatDoesNotEndIsCutOff(t *testing.T) {
	backend := startRecorder(t, nil)
	g := startTLS(t, testConfig(backend.URL), nil)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := newServer(g.gw, g.gw.log)
	server.ReadHeaderTimeout = 300 * time.Millisecond
	go g.tls.serve(server, listener)
	t.Cleanup(func() { server.Close() })
	g.addr = listener.Addr().String()
	fields := []string{":method", "GET", ":scheme", "https", ":authority", "gateway.example", ":path", "/photos/k", "x-api-key", userKey}

	for name, send := range map[string]func(c *rawHTTP2){
		"HEADERS without END_HEADERS": func(c *rawHTTP2) { c.frame(frameHeaders, flagEndStream, 1, "\x82") },
		"CONTINUATION without END_HEADERS": func(c *rawHTTP2) {
			c.frame(frameHeaders, flagEndStream, 1, "\x82")
			c.frame(9, 0, 1, "\x87")
		},
		"half a HEADERS": func(c *rawHTTP2) { io.WriteString(c.conn, "\x00\x00\x50\x01\x05\x00\x00\x00\x01\x82") },
		"another after one that was answered": func(c *rawHTTP2) {
			c.headers(flagEndStream, fields...)
			if got := c.answer(); got != "200" {
				t.Errorf("answer %q, want 200", got)
			}
			c.frame(frameHeaders, flagEndStream, 3, "\x82")
		},
	} {
		c := dialHTTP2(t, g)
		send(c)
		start := time.Now()
		if _, err := io.Copy(io.Discard, c.conn); err != nil && strings.Contains(err.Error(), "timeout") || time.Since(start) > 10*time.Second {
			t.Errorf("%s: the connection was open after %s: %v", name, time.Since(start), err)
		}
	}

	// A whole head is no longer timed, nor is a connection that is idle.
	c := dialHTTP2(t, g)
	c.frame(frameHeaders, flagEndStream, 1, "\x82") // :method GET
	block := ""
	for i := 2; i < len(fields); i += 2 {
		block += "\x00" + string(rune(len(fields[i]))) + fields[i] + string(rune(len(fields[i+1]))) + fields[i+1]
	}
	c.frame(9, flagEndHeaders, 1, block)
	if got := c.answer(); got != "200" {
		t.Errorf("a head in two frames: answer %q, want 200", got)
	}
	c.conn.SetReadDeadline(time.Now().Add(3 * server.ReadHeaderTimeout))
	if _, err := io.Copy(io.Discard, c.conn); err == nil {
		t.Error("a connection without an open head was closed")
	}
}

func BenchmarkFollower(b *testing.B) {
	head := []byte("PUT /photos/some/key HTTP/1.1\r\nHost: localhost:8080\r\nUser-Agent: aws-sdk-go-v2/1.30 ua/2.1 os/linux lang/go#1.26 md/GOOS#linux api/s3#1.60\r\n" +
		"Content-Length: 4096\r\nAccept-Encoding: identity\r\nAmz-Sdk-Invocation-Id: 6f3e2f3e-1f3e-4f3e-8f3e-2f3e2f3e2f3e\r\nAmz-Sdk-Request: attempt=1; max=3\r\n" +
		"Authorization: AWS4-HMAC-SHA256 Credential=alice/20260102/us-east-1/s3/aws4_request, SignedHeaders=host;x-amz-content-sha256;x-amz-date, Signature=" + strings.Repeat("0", 64) + "\r\n" +
		"X-Amz-Content-Sha256: UNSIGNED-PAYLOAD\r\nX-Amz-Date: 20260102T030405Z\r\n\r\n")
	body := make([]byte, 4096)
	var f follower
	b.ReportAllocs()
	for b.Loop() {
		f.follow(head)
		f.follow(body)
		if !f.next().known {
			b.Fatal("lost")
		}
	}
}

func TestLimitConnections(t *testing.T) {
	listen := func(limit int) net.Listener {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		return limitConnections(l, limit)
	}

	t.Run("accept waits", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			l := listen(2)
			var accepted [3]net.Conn
			for i := range accepted {
				client, err := net.Dial("tcp", l.Addr().String())
				if err != nil {
					t.Fatal(err)
				}
				defer client.Close()
				if i < 2 {
					accepted[i], _ = l.Accept()
				}
			}
			third := make(chan net.Conn)
			go func() {
				conn, _ := l.Accept()
				third <- conn
			}()
			synctest.Wait()
			select {
			case <-third:
				t.Error("a third connection was accepted, want two at once")
			default:
			}
			accepted[0].Close()
			accepted[0].Close() // gives one place back, not two
			accepted[2] = <-third
			go func() {
				_, err := l.Accept()
				if !errors.Is(err, net.ErrClosed) {
					t.Errorf("Accept = %v, want net.ErrClosed", err)
				}
				close(third)
			}()
			synctest.Wait()
			l.Close()
			<-third
			accepted[1].Close()
			accepted[2].Close()
			if _, err := l.Accept(); !errors.Is(err, net.ErrClosed) {
				t.Errorf("Accept of a closed listener with room = %v, want net.ErrClosed", err)
			}
		})
	})

	t.Run("the connection can what a TCP connection can", func(t *testing.T) {
		l := listen(1)
		defer l.Close()
		client, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer client.Close()
		conn, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if _, ok := conn.(io.ReaderFrom); !ok {
			t.Error("no ReadFrom, so no splice")
		}
		if _, ok := conn.(interface{ CloseWrite() error }); !ok {
			t.Error("no CloseWrite")
		}
	})

	t.Run("without a limit", func(t *testing.T) {
		l := listen(0)
		defer l.Close()
		if _, ok := l.(*net.TCPListener); !ok {
			t.Errorf("a %T, want the listener itself", l)
		}
	})

	// Clients come, are answered or not, and leave: all places are given back, or the
	// later ones would wait for ever.
	for _, secure := range []bool{false, true} {
		t.Run(map[bool]string{false: "a server", true: "a server with TLS"}[secure], func(t *testing.T) {
			const limit, clients = 2, 12
			server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path == "/abort" {
					panic(http.ErrAbortHandler)
				}
			}))
			server.Listener.Close()
			l := listen(limit).(*limitedListener)
			server.Listener = l
			scheme := "http"
			if server.EnableHTTP2 = true; secure {
				scheme = "https"
				server.StartTLS()
			} else {
				server.Start()
			}
			var wg sync.WaitGroup
			for i := range clients {
				wg.Go(func() {
					transport := &http.Transport{
						ForceAttemptHTTP2: i%2 == 0,
						TLSClientConfig:   &tls.Config{InsecureSkipVerify: true}, // the certificate is httptest's
					}
					defer transport.CloseIdleConnections()
					path := "/"
					if i%3 == 0 {
						path = "/abort"
					}
					client := &http.Client{Transport: transport, Timeout: 30 * time.Second}
					resp, err := client.Get(scheme + "://" + l.Addr().String() + path)
					if err == nil {
						resp.Body.Close()
					}
					if (err == nil) != (path == "/") || errors.Is(err, os.ErrDeadlineExceeded) {
						t.Errorf("GET %s: %v", path, err)
					}
				})
			}
			wg.Wait()
			server.Close() // waits for its connections to be closed
			if n := len(l.places); n != 0 {
				t.Errorf("%d of %d places are taken after all have left", n, limit)
			}
		})
	}
}

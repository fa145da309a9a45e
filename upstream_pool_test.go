package main

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// Each connection is closed when it was idle for idleConnTimeout, whatever the others do.
func TestIdleConnectionsCloseInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPool(&account{scheme: "http", connectTimeout: time.Second}, newMetrics().account("main"))
		var peers sync.WaitGroup
		for i := range 5 {
			ours, backend := net.Pipe()
			p.put(&backendConn{Conn: ours, raw: ours, host: "h"})
			peers.Go(func() {
				start := time.Now()
				if _, err := backend.Read(make([]byte, 1)); err != io.EOF {
					t.Errorf("connection %d ended with %v, want EOF", i, err)
				}
				if idle := time.Since(start); idle != idleConnTimeout {
					t.Errorf("connection %d was closed after %s, want %s", i, idle, idleConnTimeout)
				}
			})
			time.Sleep(7 * time.Second)
		}
		peers.Wait()
	})
}

// What a backend refuses costs no connection.
func TestConnectionIsKept(t *testing.T) {
	var connections atomic.Int32
	backend := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.URL.Query().Has("list-type"):
			io.WriteString(w, "<ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>\n")
		case r.Method == "GET" || r.Method == "HEAD":
			w.WriteHeader(http.StatusNotFound)
			io.WriteString(w, "<Error><Code>NoSuchKey</Code></Error>\n\n")
		case r.Method == "DELETE":
			w.WriteHeader(http.StatusNoContent)
		}
	}))
	backend.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			connections.Add(1)
		}
	}
	backend.Start()
	defer backend.Close()
	g := startGateway(t, testConfig(backend.URL))
	for range 3 {
		g.do("GET", "/photos/k", userKey, "")
		g.do("HEAD", "/photos/k", userKey, "")
		g.do("PUT", "/photos/k", userKey, "x")
		g.do("DELETE", "/photos/k", userKey, "")
		g.do("GET", "/photos", userKey, "")
		g.do("GET", "/photos?list-type=2", userKey, "")
	}
	if n := connections.Load(); n != 1 {
		t.Errorf("18 requests took %d connections, want 1", n)
	}
}

// What comes back to a pool that is retired is closed, not kept.
func TestPoolRetired(t *testing.T) {
	here, there := net.Pipe()
	defer there.Close()
	p := newPool(&account{scheme: "http"}, &accountMetrics{})
	p.retire()
	p.put(&backendConn{Conn: here, raw: here, host: "h", reader: bufio.NewReader(here)})
	there.SetReadDeadline(time.Now().Add(5 * time.Second))
	if _, err := there.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("Read at the backend = %v, want EOF: the connection is closed", err)
	}
	if c := p.pop("h"); c != nil {
		t.Error("a retired pool has a connection")
	}
}

// What follows an answer is nobody's answer: a connection with bytes on it, or one
// whose backend announced a body that can't be there, is not used again.
func TestBytesAfterAnAnswerAreNotTheNextAnswer(t *testing.T) {
	const poison = "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison"
	for _, test := range []struct{ method, answer string }{
		{"HEAD", "HTTP/1.1 200 OK\r\nContent-Length: 44\r\n\r\n"},
		{"HEAD", "HTTP/1.1 404 Not Found\r\nContent-Length: 44\r\n\r\n"},
		{"DELETE", "HTTP/1.1 204 No Content\r\n\r\n"},
		{"DELETE", "HTTP/1.1 204 No Content\r\nContent-Length: 44\r\n\r\n"},
		{"DELETE", "HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n"},
		{"GET", "HTTP/1.1 304 Not Modified\r\nContent-Length: 44\r\n\r\n"},
		{"GET", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"},
		{"PUT", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"},
	} {
		for _, when := range []string{"with the answer", "before the next request"} {
			t.Run(fmt.Sprintf("%s %.30q %s", test.method, test.answer, when), func(t *testing.T) {
				late, sent := make(chan struct{}), make(chan struct{})
				endpoint := startRawBackend(t, func(n int, conn net.Conn, r *bufio.Reader) {
					if _, _, err := readHead(r); err != nil {
						return
					}
					switch {
					case n > 0:
						io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nmeow")
					case when == "with the answer":
						io.WriteString(conn, test.answer+poison)
						close(sent)
					default:
						io.WriteString(conn, test.answer)
						<-late
						io.WriteString(conn, poison)
						close(sent)
					}
					r.ReadByte() // until the gateway goes
				})
				g := startGateway(t, testConfig(endpoint))
				g.do(test.method, "/photos/k", userKey, "")
				close(late)
				<-sent
				if resp, body := g.do("GET", "/photos/k", userKey, ""); resp.StatusCode != 200 || body != "meow" {
					t.Errorf("the next answer = %d %q, want 200 meow", resp.StatusCode, body)
				}
			})
		}
	}
}

// A connection without a request is closed without a reset, which servers log as an
// error.
func TestIdleConnectionsAreClosedWithoutReset(t *testing.T) {
	ended := make(chan error, 1)
	endpoint := startRawBackend(t, func(_ int, conn net.Conn, r *bufio.Reader) {
		if _, header, err := readHead(r); err != nil || header.Get("Content-Length") != "4" {
			return
		}
		io.CopyN(io.Discard, r, 4)
		io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
		_, err := r.ReadByte()
		ended <- err
	})
	g := startGateway(t, testConfig(endpoint))
	if resp, body := g.do("PUT", "/photos/k", userKey, "meow"); resp.StatusCode != 200 {
		t.Fatalf("PUT = %d %s", resp.StatusCode, body)
	}
	g.gw.buckets["photos"].upstream.pool.closeIdle()
	if err := <-ended; err != io.EOF {
		t.Errorf("the backend's connection ended with %v, want EOF", err)
	}
}

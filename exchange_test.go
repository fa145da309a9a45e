package main

// A request that panics ends alone.

import (
	"context"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
)

// A panickingConn is a connection to a backend that panics, or gives an answer of
// its own and panics then, when a request for such a path is written to it.
type panickingConn struct {
	net.Conn
	answer io.Reader
}

func (c *panickingConn) Write(p []byte) (int, error) {
	head, _, _ := strings.Cut(string(p), " HTTP/1.1")
	fault := readerFunc(func([]byte) (int, error) { panic("a fault in the middle") })
	switch {
	case strings.HasSuffix(head, "/panic"):
		panic("a fault of ours")
	case strings.HasSuffix(head, "/nil"):
		var nothing map[string]int
		//lint:ignore SA5000 it panics
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

func (c *panickingConn) Read(p []byte) (int, error) {
	if c.answer != nil {
		return c.answer.Read(p)
	}
	return c.Conn.Read(p)
}

// A panic ends its own request: with a 500 if nothing was answered yet, else
// with a broken connection. The others go on, and so does the process.
func TestPanicEndsItsOwnRequest(t *testing.T) {
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
		return &panickingConn{Conn: conn}, err
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

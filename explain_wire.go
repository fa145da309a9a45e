package main

// The way of a request that is asked about: over a connection in memory, through the server that
// listens for clients. So what net/http or the follower of the connection (listener.go) would
// refuse is refused by them, and not by a copy of their rules.

import (
	"bufio"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
)

// A wireAnswer is what the server answers.
type wireAnswer struct {
	status int
	text   string // of the body
}

// sendInMemory sends a request, as its bytes, to a handler, and returns the answer. It returns
// when the handler has, if the request came so far. The handler must not read the body, which is
// not sent.
func sendInMemory(h http.Handler, method, wire string) (wireAnswer, error) {
	client, inner := net.Pipe()
	conn := &memoryConn{Conn: inner}
	entered, left := false, make(chan struct{})
	server := newServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		entered = true
		defer close(left)
		conn.ended.Store(r.ContentLength != 0)
		h.ServeHTTP(w, r)
	}), slog.New(slog.DiscardHandler))
	connections := make(memoryListener, 1)
	connections <- conn
	go server.Serve(corkListener{connections})
	defer server.Close()
	defer client.Close()
	go io.WriteString(client, wire) // fails if the server refuses the request before its end
	answered, err := readFinal(bufio.NewReader(client), method)
	go io.Copy(io.Discard, client) // whatever follows, the handler must not wait
	if entered {                   // which it was before the first byte of its answer
		<-left
	}
	return answered, err
}

// readFinal reads an answer, and drops interim ones (100 Continue).
func readFinal(in *bufio.Reader, method string) (wireAnswer, error) {
	for {
		resp, err := http.ReadResponse(in, &http.Request{Method: method})
		if err != nil {
			return wireAnswer{}, err
		}
		if resp.StatusCode < 200 {
			continue
		}
		text, err := io.ReadAll(resp.Body)
		return wireAnswer{resp.StatusCode, strings.TrimSpace(string(text))}, err
	}
}

// A memoryListener has the connections that are sent to it.
type memoryListener chan net.Conn

// Accept, Close and Addr implement net.Listener.
func (l memoryListener) Accept() (net.Conn, error) {
	if conn, open := <-l; open {
		return conn, nil
	}
	return nil, net.ErrClosed
}
func (l memoryListener) Close() error   { close(l); return nil }
func (l memoryListener) Addr() net.Addr { return &net.UnixAddr{Name: "memory", Net: "unix"} }

// A memoryConn is an end of a pipe as a tcpConn.
type memoryConn struct {
	net.Conn
	ended atomic.Bool // the client sends no more: net/http waits for a body before it answers
}

// Read implements net.Conn.
func (c *memoryConn) Read(p []byte) (int, error) {
	if c.ended.Load() {
		return 0, io.EOF
	}
	return c.Conn.Read(p)
}

// ReadFrom implements io.ReaderFrom.
func (c *memoryConn) ReadFrom(r io.Reader) (int64, error) {
	return io.Copy(struct{ io.Writer }{c.Conn}, r)
}

// CloseWrite closes both directions: a pipe has no half of it, and nothing more is sent.
func (c *memoryConn) CloseWrite() error { return c.Close() }

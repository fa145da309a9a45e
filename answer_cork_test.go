package main

import (
	"bufio"
	"errors"
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

// What is written to a corked connection comes after what goes round the cork.
func TestCork(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	client, err := net.Dial("tcp", listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	conn, err := corkListener{listener}.Accept()
	if err != nil {
		t.Fatal(err)
	}
	c := conn.(*corkConn)
	io.WriteString(c, "1")
	c.cork(make([]byte, 4))
	io.WriteString(c, "34")
	io.WriteString(c, "567") // more than the buffer has room for
	io.WriteString(c.tcpConn, "2")
	if err := c.uncork(); err != nil {
		t.Fatal(err)
	}
	io.WriteString(c, "8")
	c.Close()
	if got, err := io.ReadAll(client); string(got) != "12345678" || err != nil {
		t.Errorf("read %q, %v, want 12345678", got, err)
	}
}

// Answers of all sizes about those of net/http's buffers and of ours, one after
// the other on one connection.
func TestCorkSizes(t *testing.T) {
	for _, framing := range []string{"length", "chunks"} {
		t.Run(framing, func(t *testing.T) {
			backend := startRecorder(t, func(w http.ResponseWriter, r *http.Request) {
				var size int
				fmt.Sscan(strings.TrimPrefix(r.URL.Path, "/photos/"), &size)
				if framing == "length" {
					w.Header().Set("Content-Length", fmt.Sprint(size))
				} else {
					w.(http.Flusher).Flush()
				}
				w.Write(pattern(size))
			})
			g := startGateway(t, testConfig(backend.URL))
			conn := g.dial()
			defer conn.Close()
			reader := bufio.NewReader(conn)
			for _, size := range []int{0, 1, 2047, 2048, 2049, 3500, 4095, 4096, 4097, 8192, maxCorked - 1, maxCorked, maxCorked + 1, 64 << 10, minSplice, 200_000} {
				fmt.Fprintf(conn, "GET /photos/%d HTTP/1.1\r\nHost: g\r\nX-Api-Key: %s\r\n\r\n", size, userKey)
				resp, err := http.ReadResponse(reader, nil)
				if err != nil {
					t.Fatal(err)
				}
				body, err := io.ReadAll(resp.Body)
				if resp.StatusCode != 200 || string(body) != string(pattern(size)) || err != nil {
					t.Errorf("%d bytes: answer %d with %d bytes, %v", size, resp.StatusCode, len(body), err)
				}
			}
		})
	}
}

// pattern returns bytes no part of which could be taken for another.
func pattern(size int) []byte {
	var b []byte
	for i := 0; len(b) < size; i += 8 {
		b = fmt.Appendf(b, "%07x ", i)
	}
	return b[:size]
}

// What is missing of an answer that was kept can't be made up for: nothing follows it
// on the connection, where it would be taken for the rest.
func TestCorkBroken(t *testing.T) {
	const size = 20_000
	backend := startRecorder(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", fmt.Sprint(size))
		w.Write(pattern(size))
	})
	g := startGateway(t, testConfig(backend.URL))
	var writes, kept atomic.Int64
	conn := g.dialHooked(func(conn *net.TCPConn, p []byte) (int, error) {
		if writes.Add(1) > 1 {
			return conn.Write(p)
		}
		kept.Store(int64(len(p)))
		n, _ := conn.Write(p[:len(p)/2])
		return n, os.ErrDeadlineExceeded // as of a client that takes no more
	})
	defer conn.Close()
	const request = "GET /photos/k HTTP/1.1\r\nHost: g\r\nX-Api-Key: " + userKey + "\r\n"
	io.WriteString(conn, request+"\r\n"+request+"Connection: close\r\n\r\n")
	got, err := io.ReadAll(conn) // may be a reset, which takes what was not read with it
	if errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error("the connection stays open")
	}
	if kept.Load() < size {
		t.Errorf("the first write has %d bytes, want the whole answer: it was not kept", kept.Load())
	}
	if n := writes.Load(); n != 1 || len(got) > int(kept.Load())/2 {
		t.Errorf("%d writes, and %d bytes came, want 1 and half an answer", n, len(got))
	}
}

// A hookedListener accepts TCP connections that write as a function does.
type hookedListener struct {
	net.Listener
	write func(conn *net.TCPConn, p []byte) (int, error)
}

func (l hookedListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &hookedConn{conn.(*net.TCPConn), l.write}, nil
}

type hookedConn struct {
	*net.TCPConn
	write func(conn *net.TCPConn, p []byte) (int, error)
}

func (c *hookedConn) Write(p []byte) (int, error) { return c.write(c.TCPConn, p) }

// dialHooked returns a connection to the gateway, which writes to it as a function does.
func (g *testGateway) dialHooked(write func(conn *net.TCPConn, p []byte) (int, error)) net.Conn {
	g.t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		g.t.Fatal(err)
	}
	go g.http.Serve(corkListener{hookedListener{listener, write}})
	conn, err := net.Dial("tcp", listener.Addr().String())
	if err != nil {
		g.t.Fatal(err)
	}
	conn.SetDeadline(time.Now().Add(20 * time.Second)) // so that a test that would hang fails
	return conn
}

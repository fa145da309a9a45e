package main

// The life of the program: heads that do not end are cut off, and at its own end transfers
// in flight finish or are broken off visibly.

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// startServe runs serve as the program does, until stop is called.
func startServe(t *testing.T, config map[string]any) (g *testGateway, stop context.CancelFunc, ended <-chan error) {
	t.Helper()
	data, err := json.Marshal(config)
	if err != nil {
		t.Fatal(err)
	}
	conf, err := parseConfig(data, os.LookupEnv)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	t.Cleanup(stop)
	log := &syncBuffer{}
	addr, end := make(chan net.Addr, 1), make(chan error, 1)
	go func() {
		end <- serve(ctx, conf, launch{log: slog.New(slog.NewJSONHandler(log, nil)), ready: func(a, _ net.Addr) { addr <- a }})
	}()
	select {
	case a := <-addr:
		return &testGateway{t: t, addr: a.String(), log: log}, stop, end
	case err := <-end:
		t.Fatalf("serve = %v", err)
		return nil, nil, nil
	}
}

// startHalfway starts a backend that says when half of a transfer is through. The rest
// of a download waits for release; what arrived of an upload is told to stored.
func startHalfway(t *testing.T, half int64) (endpoint string, underWay, release chan struct{}, stored chan int64) {
	t.Helper()
	underWay, release = make(chan struct{}, 2), make(chan struct{})
	stored = make(chan int64, 1)
	endpoint = startRawBackend(t, func(n int, conn net.Conn, r *bufio.Reader) {
		line, _, err := readHead(r)
		switch {
		case err != nil:
		case strings.HasPrefix(line, "GET"):
			fmt.Fprintf(conn, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n", 2*half)
			io.CopyN(conn, zeroReader{}, half)
			underWay <- struct{}{}
			<-release
			io.CopyN(conn, zeroReader{}, half)
		default:
			n, _ := io.CopyN(io.Discard, r, half)
			underWay <- struct{}{}
			m, _ := io.CopyN(io.Discard, r, half)
			stored <- n + m
			io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
		}
	})
	return endpoint, underWay, release, stored
}

// transferHalves starts a download and an upload through a backend of startHalfway. It returns when
// half of each is through; the clients are done when they have got all.
func (g *testGateway) transferHalves(half int, underWay, release <-chan struct{}) (clients *sync.WaitGroup) {
	g.t.Helper()
	clients = new(sync.WaitGroup)
	clients.Go(func() {
		conn := g.dial()
		defer conn.Close()
		fmt.Fprintf(conn, "GET /photos/k HTTP/1.1\r\nHost: g\r\nX-Api-Key: %s\r\n\r\n", userKey)
		resp, body := readAnswer(g.t, "GET", conn)
		if resp.StatusCode != 200 || len(body) != 2*half || resp.Header.Get("Test-Error") != "" {
			g.t.Errorf("the download under way = %d with %d bytes, %s, want all", resp.StatusCode, len(body), resp.Header.Get("Test-Error"))
		}
	})
	clients.Go(func() {
		conn := g.dial()
		defer conn.Close()
		fmt.Fprintf(conn, "PUT /photos/k HTTP/1.1\r\nHost: g\r\nX-Api-Key: %s\r\nContent-Length: %d\r\n\r\n", userKey, 2*half)
		io.CopyN(conn, zeroReader{}, int64(half))
		<-release
		io.CopyN(conn, zeroReader{}, int64(half))
		if resp, body := readAnswer(g.t, "PUT", conn); resp.StatusCode != 200 {
			g.t.Errorf("the upload under way = %d %s, want 200", resp.StatusCode, body)
		}
	})
	<-underWay
	<-underWay
	return clients
}

// A stop lets the transfers under way finish, and nobody else in.
func TestStopLetsTransfersFinish(t *testing.T) {
	const half = 15 << 20
	endpoint, underWay, release, stored := startHalfway(t, half)
	g, stop, ended := startServe(t, testConfig(endpoint, with("server.shutdown_timeout", "30s")))
	clients := g.transferHalves(half, underWay, release)
	stop()
	await(t, "new connections are refused", func() bool {
		conn, err := net.Dial("tcp", g.addr)
		if err == nil {
			conn.Close()
		}
		return err != nil
	})
	select {
	case err := <-ended:
		t.Fatalf("serve = %v before the transfers have ended", err)
	default:
	}
	close(release)
	clients.Wait()
	select {
	case err := <-ended:
		if err != nil {
			t.Errorf("serve = %v, want nil", err)
		}
	case <-time.After(20 * time.Second):
		t.Error("serve does not return")
	}
	if got := <-stored; got != 2*half {
		t.Errorf("the backend got %d bytes, want %d", got, 2*half)
	}
	if log := g.log.String(); !strings.Contains(log, "draining") || !strings.Contains(log, "stopped") {
		t.Errorf("log = %s, want draining and stopped in it", log)
	}
}

// After shutdown_timeout what is still under way is broken off, visibly: a cut
// download is no whole one, and a cut upload is not stored.
func TestStopBreaksOffTransfersAfterTheTimeout(t *testing.T) {
	underWay := make(chan struct{}, 2)
	upload := make(chan error, 1)
	endpoint := startRawBackend(t, func(n int, conn net.Conn, r *bufio.Reader) {
		line, _, err := readHead(r)
		switch {
		case err != nil:
		case strings.HasPrefix(line, "GET"):
			io.WriteString(conn, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")
			underWay <- struct{}{}
			io.Copy(io.Discard, r)
		default:
			io.CopyN(io.Discard, r, 1)
			underWay <- struct{}{}
			_, err := io.CopyN(io.Discard, r, 999_999)
			upload <- err
		}
	})
	g, stop, ended := startServe(t, testConfig(endpoint, with("server.shutdown_timeout", "200ms")))
	var clients sync.WaitGroup
	clients.Go(func() {
		conn := g.dial()
		defer conn.Close()
		fmt.Fprintf(conn, "GET /photos/k HTTP/1.1\r\nHost: g\r\nX-Api-Key: %s\r\n\r\n", userKey)
		if resp, body := readAnswer(t, "GET", conn); resp.Header.Get("Test-Error") == "" {
			t.Errorf("the download broken off = %d %q, want an error", resp.StatusCode, body)
		}
	})
	clients.Go(func() {
		conn := g.dial()
		defer conn.Close()
		fmt.Fprintf(conn, "PUT /photos/k HTTP/1.1\r\nHost: g\r\nX-Api-Key: %s\r\nContent-Length: 1000000\r\n\r\nx", userKey)
		if resp, body := readAnswer(t, "PUT", conn); resp.StatusCode/100 == 2 {
			t.Errorf("the upload broken off = %d %q, want no success", resp.StatusCode, body)
		}
	})
	<-underWay
	<-underWay
	stop()
	select {
	case err := <-ended:
		if err == nil {
			t.Error("serve = nil, want an error: requests were broken off")
		}
	case <-time.After(20 * time.Second):
		t.Error("serve does not return")
	}
	clients.Wait()
	select {
	case err := <-upload:
		if err == nil {
			t.Error("the backend got the whole upload")
		}
	case <-time.After(20 * time.Second):
		t.Error("the connection to the backend is still open")
	}
}

// Five hundred clients that send a byte of a header now and then hold a
// connection each until the time for a head is over, and nobody else up.
func TestSlowHeadersAreCutOff(t *testing.T) {
	if s := newServer(nil, slog.New(slog.DiscardHandler)); s.ReadHeaderTimeout <= 0 || s.ReadHeaderTimeout > 10*time.Second || s.IdleTimeout <= 0 || s.MaxHeaderBytes <= 0 {
		t.Errorf("ReadHeaderTimeout %s, IdleTimeout %s, MaxHeaderBytes %d, want all of them set", s.ReadHeaderTimeout, s.IdleTimeout, s.MaxHeaderBytes)
	}
	backend := startRecorder(t, func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "meow") })
	g := startGateway(t, testConfig(backend.URL))
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := newServer(g.gw, g.gw.log)
	server.ReadHeaderTimeout = time.Second
	go server.Serve(listener)
	defer server.Close()
	g.addr = listener.Addr().String()

	const clients = 500
	conns := make([]net.Conn, clients)
	var closed sync.WaitGroup
	var early atomic.Int32
	for i := range conns {
		conns[i] = g.dial()
		io.WriteString(conns[i], "GET /photos/k HTTP/1.1\r\nHost: g\r\nX-Slow: ")
		closed.Go(func() {
			answer, _ := io.ReadAll(conns[i])
			if len(answer) > 0 && !bytes.HasPrefix(answer, []byte("HTTP/1.1 4")) {
				early.Add(1)
			}
		})
	}
	ended := make(chan struct{})
	go func() { closed.Wait(); close(ended) }()
	writing := time.NewTicker(50 * time.Millisecond)
	defer writing.Stop()
	for deadline := time.After(15 * time.Second); ; {
		select {
		case <-ended:
		case <-deadline:
			t.Fatal("connections without a whole head are still open after 15 s")
		case <-writing.C:
			for _, conn := range conns {
				conn.Write([]byte("x"))
			}
			start := time.Now()
			resp, body := g.do("GET", "/photos/k", userKey, "")
			if took := time.Since(start); resp.StatusCode != 200 || body != "meow" || took > 10*time.Second {
				t.Errorf("GET among %d slow clients = %d %q after %s, want 200 meow soon", clients, resp.StatusCode, body, took)
			}
			continue
		}
		break
	}
	if early.Load() > 0 {
		t.Errorf("%d connections without a whole head got an answer", early.Load())
	}
	for _, conn := range conns {
		conn.Close()
	}
}

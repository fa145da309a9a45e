package abuse

// Clients that stall, vanish, or close half of their connection, and transfers that are
// slow but steady.

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// A client that stops in the middle of an upload, or stops reading a download,
// is cut off when it has made no progress for the idle time; and the backend's
// connection with it.
func TestStalledClientIsCutOff(t *testing.T) {
	const idle = "700ms"
	t.Run("upload", func(t *testing.T) {
		demo := startStore(t)
		ended := make(chan error, 10)
		backend := startRelay(t, demo.Listener.Addr().String(), ended)
		g := startGateway(t, testConfig(backend, with("server.idle_timeout", idle)))
		g.do("PUT", "/photos/k", userKey, "old")
		for _, sent := range []int{0, 1, 1 << 20, 2<<20 - 1} {
			conn := g.dial()
			fmt.Fprintf(conn, "PUT /photos/k HTTP/1.1\r\nHost: g\r\nX-Api-Key: %s\r\nContent-Length: %d\r\n\r\n%s", userKey, 2<<20, strings.Repeat("x", sent))
			resp, body := readAnswer(t, "PUT", conn)
			wantError(t, resp, body, 400, "RequestTimeout")
			if rest, err := io.ReadAll(conn); len(rest) > 0 || errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("after the refusal: %q, %v, want the connection closed", rest, err)
			}
			conn.Close()
			select {
			case <-ended:
			case <-time.After(10 * time.Second):
				t.Error("the connection to the backend is still open")
			}
		}
		if _, body := g.do("GET", "/photos/k", userKey, ""); body != "old" {
			t.Errorf("the object = %.20q of %d bytes, want the old one", body, len(body))
		}
	})
	t.Run("download", func(t *testing.T) {
		freed := make(chan error, 1)
		endpoint := startRawBackend(t, func(n int, conn net.Conn, r *bufio.Reader) {
			if _, _, err := readHead(r); err != nil {
				return
			}
			fmt.Fprintf(conn, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n", 1<<30)
			zeros := make([]byte, 64<<10)
			for {
				if _, err := conn.Write(zeros); err != nil {
					freed <- err
					return
				}
			}
		})
		g := startGateway(t, testConfig(endpoint, with("server.idle_timeout", idle)))
		conn := g.dial()
		defer conn.Close()
		fmt.Fprintf(conn, "GET /photos/k HTTP/1.1\r\nHost: g\r\nX-Api-Key: %s\r\n\r\n", userKey)
		if _, err := io.CopyN(io.Discard, conn, 64<<10); err != nil {
			t.Fatal(err)
		}
		select {
		case err := <-freed:
			if errors.Is(err, os.ErrDeadlineExceeded) {
				t.Error("the connection to the backend was held until its own end")
			}
		case <-time.After(15 * time.Second):
			t.Fatal("the connection to the backend is still open")
		}
		if n, err := io.Copy(io.Discard, conn); err == nil && n+64<<10 >= 1<<30 {
			t.Errorf("the client got %d bytes, want a broken answer", n)
		}
		if line := g.lines(1)[0]; line["aborted"] != true {
			t.Errorf("log = %v, want aborted", line)
		}
	})
	// A request that needs no body may announce one; it is not waited for.
	t.Run("a body that nobody wants", func(t *testing.T) {
		g := startGateway(t, testConfig(startStore(t).URL, with("server.idle_timeout", idle)))
		g.do("PUT", "/photos/k", userKey, "meow")
		var clients sync.WaitGroup
		for _, request := range []string{
			"GET /", "GET /photos", "GET /photos?list-type=2", "HEAD /photos", "GET /photos/k", "HEAD /photos/k", "DELETE /photos/none",
			"GET /secret/k", "GET /photos/none", "GET /photos?policy", "PATCH /photos/k", "PUT /secret/k",
		} {
			clients.Go(func() {
				conn := g.dial() // fails after 20 s
				defer conn.Close()
				fmt.Fprintf(conn, "%s HTTP/1.1\r\nHost: g\r\nX-Api-Key: %s\r\nContent-Length: 5\r\n\r\nx", request, userKey)
				if _, err := io.Copy(io.Discard, conn); errors.Is(err, os.ErrDeadlineExceeded) {
					t.Errorf("%s, with 1 of 5 bytes of a body: the connection is still held after 20 s", request)
				}
			})
		}
		clients.Wait()
	})
}

// startRelay passes connections on to addr, and tells when one has ended.
func startRelay(t *testing.T, addr string, ended chan<- error) (endpoint string) {
	return startRawBackend(t, func(n int, conn net.Conn, r *bufio.Reader) {
		behind, err := net.Dial("tcp", addr)
		if err != nil {
			ended <- err
			return
		}
		go func() {
			io.Copy(conn, behind)
			conn.Close()
		}()
		_, err = io.Copy(behind, r)
		behind.Close()
		select {
		case ended <- err:
		default:
		}
	})
}

// A transfer that is slow but steady takes as long as it takes: every limit is
// on progress, none on the whole.
func TestSlowAndSteadyTransferCompletes(t *testing.T) {
	const pieces = 30
	pace := func() { <-time.After(100 * time.Millisecond) }
	short := []func(map[string]any){
		with("server.idle_timeout", "2s"), with("accounts.main.connect_timeout", "1s"), with("accounts.main.response_header_timeout", "1s"),
	}
	piece := strings.Repeat("0123456789abcdef", 256)
	t.Run("upload", func(t *testing.T) {
		t.Parallel()
		backend := startStore(t)
		g := startGateway(t, testConfig(backend.URL, short...))
		conn := g.dial()
		defer conn.Close()
		fmt.Fprintf(conn, "PUT /photos/k HTTP/1.1\r\nHost: g\r\nX-Api-Key: %s\r\nContent-Length: %d\r\n\r\n", userKey, pieces*len(piece))
		for range pieces {
			io.WriteString(conn, piece)
			pace()
		}
		if resp, body := readAnswer(t, "PUT", conn); resp.StatusCode != 200 {
			t.Fatalf("PUT = %d %s, want 200", resp.StatusCode, body)
		}
		if _, body := g.do("GET", "/photos/k", userKey, ""); body != strings.Repeat(piece, pieces) {
			t.Errorf("what is stored has %d bytes, want the %d sent", len(body), pieces*len(piece))
		}
	})
	t.Run("download, slow backend", func(t *testing.T) {
		t.Parallel()
		backend := startRecorder(t, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Length", strconv.Itoa(pieces*len(piece)))
			for range pieces {
				io.WriteString(w, piece)
				w.(http.Flusher).Flush()
				pace()
			}
		})
		g := startGateway(t, testConfig(backend.URL, short...))
		if resp, body := g.do("GET", "/photos/k", userKey, ""); resp.StatusCode != 200 || body != strings.Repeat(piece, pieces) {
			t.Errorf("GET = %d with %d bytes, %s, want all %d", resp.StatusCode, len(body), resp.Header.Get("Test-Error"), pieces*len(piece))
		}
	})
	t.Run("download, slow client", func(t *testing.T) {
		t.Parallel()
		const size = 64 << 20
		backend := startRawBackend(t, func(n int, conn net.Conn, r *bufio.Reader) {
			if _, _, err := readHead(r); err != nil {
				return
			}
			fmt.Fprintf(conn, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n", size)
			io.CopyN(conn, zeroReader{}, size)
		})
		g := startGateway(t, testConfig(backend, short...))
		conn := g.dial()
		defer conn.Close()
		fmt.Fprintf(conn, "GET /photos/k HTTP/1.1\r\nHost: g\r\nConnection: close\r\nX-Api-Key: %s\r\n\r\n", userKey)
		resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			t.Fatal(err)
		}
		var got int64
		for range pieces {
			n, err := io.CopyN(io.Discard, resp.Body, size/pieces)
			if got += n; err != nil {
				t.Fatalf("after %d bytes: %v", got, err)
			}
			pace()
		}
		rest, err := io.Copy(io.Discard, resp.Body)
		if got += rest; err != nil || got != size {
			t.Errorf("the client got %d bytes, %v, want %d", got, err, size)
		}
	})
	// An answer may come long after the one before it on the same connection.
	t.Run("a connection that rests", func(t *testing.T) {
		t.Parallel()
		backend := startStore(t)
		g := startGateway(t, testConfig(backend.URL, with("server.idle_timeout", "500ms")))
		conn := g.dial()
		defer conn.Close()
		reader := bufio.NewReader(conn)
		for range 2 {
			fmt.Fprintf(conn, "PUT /photos/k HTTP/1.1\r\nHost: g\r\nX-Api-Key: %s\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n", userKey)
			if resp, err := http.ReadResponse(reader, nil); err != nil || resp.StatusCode != 100 {
				t.Fatalf("PUT = %v, %v, want 100 Continue", resp, err)
			}
			io.WriteString(conn, "meow")
			resp, err := http.ReadResponse(reader, nil)
			if err != nil || resp.StatusCode != 200 {
				t.Fatalf("PUT = %v, %v, want 200", resp, err)
			}
			resp.Body.Close()
			<-time.After(1500 * time.Millisecond) // three times the idle time, which is for transfers
		}
	})
}

// Clients that vanish in the middle leave nothing behind: no goroutine, no
// socket on either side, and no object.
func TestVanishedClientsLeaveNothing(t *testing.T) {
	const clients = 100
	var complete atomic.Int32
	begun := make(chan struct{}, clients)
	backend := startRecorder(t, nil)
	backend.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == "PUT" {
			buffer := make([]byte, 1000)
			io.ReadFull(r.Body, buffer)
			begun <- struct{}{}
			if _, err := io.Copy(io.Discard, r.Body); err == nil {
				complete.Add(1)
			}
			return
		}
		w.Header().Set("Content-Length", strconv.Itoa(1<<30))
		io.CopyN(w, zeroReader{}, 1<<30)
	})
	g := startGateway(t, testConfig(backend.URL, withAdmin))
	g.do("HEAD", "/photos/k", userKey, "") // what stays open, is open now
	goroutines, files := g.metric("go_goroutines"), openFiles(g.process.Pid)

	var conns []net.Conn
	for i := range clients {
		conn := g.dial()
		conns = append(conns, conn)
		if i%2 == 0 {
			fmt.Fprintf(conn, "PUT /photos/k%d HTTP/1.1\r\nHost: g\r\nX-Api-Key: %s\r\nContent-Length: 1000000\r\n\r\n%s", i, userKey, strings.Repeat("x", 5000))
			<-begun
		} else {
			fmt.Fprintf(conn, "GET /photos/k%d HTTP/1.1\r\nHost: g\r\nX-Api-Key: %s\r\n\r\n", i, userKey)
			if _, err := io.CopyN(io.Discard, conn, 1000); err != nil {
				t.Fatal(err)
			}
		}
	}
	for i, conn := range conns {
		if i%3 == 0 {
			conn.(*net.TCPConn).SetLinger(0) // a reset, as of a machine that is gone
		}
		conn.Close()
	}
	lines := g.lines(clients + 1)
	await(t, "the goroutines are gone", func() bool { return g.metric("go_goroutines") <= goroutines+5 })
	await(t, "the files are closed", func() bool {
		g.admin("/debug/pprof/heap?gc=1") // the pipes of splice(2) are kept for others until then
		return openFiles(g.process.Pid) <= files+5
	})
	if complete.Load() != 0 {
		t.Errorf("the backend got %d whole uploads, want none", complete.Load())
	}
	for _, line := range lines[1:] {
		if line["aborted"] != true && line["status"] != 400.0 { // an upload may have been refused, to nobody
			t.Errorf("log = %v, want aborted, or a body that is incomplete", line)
		}
	}
	if resp, _ := g.do("HEAD", "/photos/k", userKey, ""); resp.StatusCode != 200 {
		t.Errorf("HEAD afterwards = %d, want 200", resp.StatusCode)
	}
}

// openFiles is how many files and sockets a process has open, or 0 where that can't be
// told.
func openFiles(pid int) int {
	entries, _ := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	return len(entries)
}

// A client that closes its half of the connection after the request is taken for
// one that has left (golang/go issue 18527): it gets a whole answer or none, and
// the backend's work ends with it.
func TestHalfClosedClientGetsAWholeAnswerOrNone(t *testing.T) {
	asked, left := make(chan struct{}, 1), make(chan struct{}, 1)
	backend := startRecorder(t, func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/slow") {
			asked <- struct{}{}
			<-r.Context().Done()
			left <- struct{}{}
			return
		}
		io.WriteString(w, "meow")
	})
	g := startGateway(t, testConfig(backend.URL))
	ask := func(key string) string {
		conn := g.dial()
		defer conn.Close()
		fmt.Fprintf(conn, "GET /photos/%s HTTP/1.1\r\nHost: g\r\nX-Api-Key: %s\r\n\r\n", key, userKey)
		if key == "slow" {
			<-asked
		}
		conn.(*net.TCPConn).CloseWrite()
		data, err := io.ReadAll(conn)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("GET %s: the connection is still held", key)
		}
		return string(data)
	}
	if got := ask("slow"); got != "" {
		t.Errorf("GET of what takes long, half-closed = %q, want nothing", got)
	}
	select {
	case <-left:
	case <-time.After(10 * time.Second):
		t.Error("the backend still works for a client that has left")
	}
	if line := g.lines(1)[0]; line["status"] != 499.0 {
		t.Errorf("log = %v, want status %d", line, 499)
	}
	for range 20 {
		if got := ask("fast"); got != "" {
			if resp, body := readAnswer(t, "GET", strings.NewReader(got)); resp.StatusCode != 200 || body != "meow" || resp.Header.Get("Test-Error") != "" {
				t.Errorf("GET of what is there, half-closed = %q, want a whole answer or none", got)
			}
		}
	}
}

package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// A backend that answers an upload before it has read it, and then reads no more,
// is heard, and the connection is not used again.
func TestEarlyAnswer(t *testing.T) {
	var connections atomic.Int32
	endpoint := startRawBackend(t, func(n int, conn net.Conn, r *bufio.Reader) {
		connections.Add(1)
		if _, _, err := readHead(r); err != nil {
			return
		}
		const document = "<Error><Code>QuotaExceeded</Code></Error>"
		fmt.Fprintf(conn, "HTTP/1.1 403 Forbidden\r\nContent-Length: %d\r\n\r\n%s", len(document), document)
		io.Copy(io.Discard, io.LimitReader(r, 1)) // and no more, until the gateway goes
		buffer := make([]byte, 1)
		for {
			if _, err := conn.Read(buffer); err != nil {
				return
			}
			select {
			case <-t.Context().Done():
				return
			case <-time.After(50 * time.Millisecond): // a byte now and then
			}
		}
	})
	g := startGateway(t, testConfig(endpoint))
	for i := range 2 {
		conn := g.dial()
		fmt.Fprintf(conn, "PUT /photos/k HTTP/1.1\r\nHost: g\r\nX-Api-Key: %s\r\nContent-Length: 100000000\r\n\r\n", userKey)
		go func() { // as long as anybody takes it
			for {
				if _, err := conn.Write(make([]byte, 64<<10)); err != nil {
					return
				}
			}
		}()
		resp, body := readAnswer(t, "PUT", conn)
		wantError(t, resp, body, 403, "QuotaExceeded")
		conn.Close()
		if n := int(connections.Load()); n != i+1 {
			t.Errorf("after %d answers there were %d connections", i+1, n)
		}
	}
}

// An answer is spliced, and whole, around the sizes where the way changes.
func TestSplice(t *testing.T) {
	content := make([]byte, 3*minSplice+17)
	for i := range content {
		content[i] = byte(i * 7 >> 3)
	}
	backend := startRecorder(t, func(w http.ResponseWriter, r *http.Request) {
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(content))
	})
	g := startGateway(t, testConfig(backend.URL))
	for _, size := range []int{1, minSplice - 1, minSplice, minSplice + 1, 2 * minSplice, len(content)} {
		resp, body := g.do("GET", "/photos/k", userKey, "", fmt.Sprintf("Range: bytes=0-%d", size-1))
		if resp.StatusCode != 206 || body != string(content[:size]) {
			t.Errorf("%d bytes = %d, %d bytes, equal: %t", size, resp.StatusCode, len(body), body == string(content[:size]))
		}
	}
	for i, line := range g.lines() {
		if line["bytes_out"] == 0.0 || line["aborted"] == true {
			t.Errorf("line %d: %v", i, line)
		}
	}
}

// A head can't be made of what would be two.
func TestAppendHead(t *testing.T) {
	for _, h := range []http.Header{
		{"X-A": {"b\r\nX-Evil: 1"}}, {"X-A": {"b\nc"}}, {"X-A": {"\x00"}}, {"X-A\r\nX-Evil": {"1"}}, {"X A": {"1"}}, {"": {"1"}}, {"X:A": {"1"}},
	} {
		req, err := http.NewRequest("GET", "http://h/", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header = h
		if head, err := appendHead(nil, req, 0, false); err == nil {
			t.Errorf("appendHead(%q) = %q, want an error", h, head)
		}
	}
}

// A body that has ended leaves its connection alone, which may be at work for
// somebody else.
func TestAnswerBodyAfterItsEnd(t *testing.T) {
	here, there := net.Pipe()
	defer there.Close()
	p := newPool(&account{scheme: "http"}, &accountMetrics{})
	defer p.closeIdle()
	c := &backendConn{Conn: here, raw: here, host: "h", reader: bufio.NewReader(here)}
	body := &answerBody{ReadCloser: http.NoBody, conn: c, pool: p, idle: time.Nanosecond, sent: true, keep: true}
	body.release(true)
	if again, err := p.get(t.Context(), "h"); err != nil || again != c {
		t.Fatalf("get = %p, %v, want the connection that was put", again, err)
	}
	if n, err := body.Read(make([]byte, 1)); n != 0 || err != io.EOF {
		t.Errorf("Read = %d, %v, want 0, EOF", n, err)
	}
	body.interrupt()
	body.Close()
	go there.Write([]byte("x"))
	if _, err := c.Read(make([]byte, 1)); err != nil {
		t.Errorf("the next answer: %v: the old body has set a deadline, or closed it", err)
	}
}

// A client that leaves is noticed, and its backend's connection broken off, whatever
// of an answer has come, unless it is all of it.
func TestClientLeavesAfterFirstBytes(t *testing.T) {
	for _, first := range []string{
		"", "H", "HTTP/1.1 ", "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n", "HTTP/1.1 102 Processing\r\n\r\n",
		"HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nmeo",
	} {
		begun, ended := make(chan struct{}), make(chan error, 1)
		endpoint := startRawBackend(t, func(_ int, conn net.Conn, r *bufio.Reader) {
			readHead(r)
			io.WriteString(conn, first)
			close(begun)
			conn.SetReadDeadline(time.Now().Add(5 * time.Second))
			_, err := io.Copy(io.Discard, r)
			ended <- err
		})
		g := startGateway(t, testConfig(endpoint))
		conn := g.dial()
		fmt.Fprintf(conn, "GET /photos/k HTTP/1.1\r\nHost: g\r\nX-Api-Key: %s\r\n\r\n", userKey)
		<-begun
		conn.Close()
		if err := <-ended; errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("after %q the backend's connection is open, 5 s after the client has left", first)
		}
	}
}

// Interim answers are no answers: an upload goes on while they come, and what follows
// them is the answer, to any request.
func TestInterimAnswersAreSkipped(t *testing.T) {
	const size = 3 * smallUpload
	const success = "HTTP/1.1 200 OK\r\nEtag: \"e\"\r\nContent-Length: 0\r\n\r\n"
	for _, test := range []struct{ before, after string }{ // the body
		{"HTTP/1.1 100 Continue\r\n\r\n", ""},
		{"HTTP/1.1 102 Processing\r\n\r\n", "HTTP/1.1 102 Processing\r\n\r\n"},
		{"HTTP/1.1 103 Early Hints\r\nLink: </x>; rel=preload\r\n\r\n", ""},
		{"HTTP/1.1 199 What\r\nContent-Length: 5\r\n\r\n", "HTTP/1.1 100 Continue\r\n\r\n"},
		{strings.Repeat("HTTP/1.1 100 Continue\r\n\r\n", maxInterim), ""},
		{"HTTP/1.1 100 Continue\r\n\r\n", strings.Repeat("HTTP/1.1 102 Processing\r\n\r\n", maxInterim-1)},
	} {
		seen, stored := make(chan struct{}), make(chan string, 1)
		endpoint := startRawBackend(t, func(_ int, conn net.Conn, r *bufio.Reader) {
			for {
				_, header, err := readHead(r)
				if err != nil {
					return
				}
				io.WriteString(conn, test.before)
				var length int64
				if fmt.Sscan(header.Get("Content-Length"), &length); length == size {
					close(seen)
				}
				body := make([]byte, length)
				if _, err := io.ReadFull(r, body); err != nil {
					return
				}
				if length > 0 {
					stored <- string(body)
				}
				io.WriteString(conn, test.after+success)
			}
		})
		g := startGateway(t, testConfig(endpoint))
		conn := g.dial()
		body := string(pattern(size))
		fmt.Fprintf(conn, "PUT /photos/k HTTP/1.1\r\nHost: g\r\nX-Api-Key: %s\r\nContent-Length: %d\r\n\r\n%s", userKey, size, body[:size-1])
		<-seen // the interim answers came while the upload was in flight
		io.WriteString(conn, body[size-1:])
		resp, text := readAnswer(t, "PUT", conn)
		if resp.StatusCode != 200 || resp.Header.Get("Etag") != `"e"` {
			t.Errorf("after %q: PUT = %d %s, want 200", test, resp.StatusCode, text)
			continue
		}
		if got := <-stored; got != body {
			t.Errorf("after %q: the backend got %d bytes that are not the upload", test, len(got))
		}
		for _, method := range []string{"GET", "HEAD", "DELETE"} {
			if resp, text := g.do(method, "/photos/k", userKey, ""); resp.StatusCode != 200 {
				t.Errorf("after %q: %s = %d %s, want 200", test, method, resp.StatusCode, text)
			}
		}
		if resp, text := g.do("PUT", "/photos/k", userKey, "small"); resp.StatusCode != 200 || <-stored != "small" {
			t.Errorf("after %q: small PUT = %d %s, want 200", test, resp.StatusCode, text)
		}
	}
}

// A backend that sends nothing but interim answers is not waited for for ever, and
// does not get the rest of an upload.
func TestInterimAnswersAreBounded(t *testing.T) {
	endpoint := startRawBackend(t, func(_ int, conn net.Conn, r *bufio.Reader) {
		go io.Copy(io.Discard, r)
		for {
			if _, err := io.WriteString(conn, "HTTP/1.1 102 Processing\r\n\r\n"); err != nil {
				return
			}
		}
	})
	g := startGateway(t, testConfig(endpoint))
	for _, method := range []string{"GET", "PUT", "DELETE"} {
		resp, body := g.do(method, "/photos/k", userKey, "")
		wantError(t, resp, body, 502, "BadGateway")
	}
	resp, body := g.do("PUT", "/photos/k", userKey, strings.Repeat("x", 2*smallUpload))
	wantError(t, resp, body, 502, "BadGateway")
}

// startEarlyBackend answers the head of each upload at once, and sends on ended how
// its connection ended.
func startEarlyBackend(t *testing.T, answer string) (endpoint string, ended chan error) {
	ended = make(chan error, 8)
	return startRawBackend(t, func(_ int, conn net.Conn, r *bufio.Reader) {
		if _, _, err := readHead(r); err != nil {
			return
		}
		_, err := io.WriteString(conn, answer)
		if err == nil { // else it was reset already, which a read would not say once more
			_, err = io.Copy(io.Discard, r)
		}
		ended <- err
	}), ended
}

// A success that comes before the last byte of an upload is sent is a lie: nothing was
// stored that the client could rely on.
func TestSuccessBeforeTheWholeUploadIsRefused(t *testing.T) {
	const size = 3 * smallUpload
	for _, answer := range []string{
		"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", "HTTP/1.1 204 No Content\r\n\r\n", "HTTP/1.1 304 Not Modified\r\n\r\n",
		"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n", "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n",
	} {
		endpoint, ended := startEarlyBackend(t, answer)
		g := startGateway(t, testConfig(endpoint))
		conn := g.dial()
		fmt.Fprintf(conn, "PUT /photos/k HTTP/1.1\r\nHost: g\r\nX-Api-Key: %s\r\nContent-Length: %d\r\n\r\n%s", userKey, size, pattern(size-1))
		resp, body := readAnswer(t, "PUT", conn)
		wantError(t, resp, body, 502, "BadGateway")
		if err := <-ended; !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("after %q the backend's connection ended with %v, want a reset", answer, err)
		}
		if lines := g.lines(); len(lines) != 1 || lines[0]["cause"] != errEarlySuccess.Error() {
			t.Errorf("after %q: log = %v, want the cause %q", answer, lines, errEarlySuccess)
		}
	}
}

// A body that our own check refuses is refused, whatever the backend says about it.
func TestEarlySuccessDoesNotHideAWrongDigest(t *testing.T) {
	const size = 3 * smallUpload
	endpoint, ended := startEarlyBackend(t, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
	g := startGateway(t, testConfig(endpoint))
	for range 3 { // which of the two is first is not ours to choose
		resp, body := g.raw("PUT", fmt.Sprintf("PUT /photos/k HTTP/1.1\r\nHost: g\r\nX-Api-Key: %s\r\nX-Amz-Content-Sha256: %s\r\nContent-Length: %d\r\n\r\n%s",
			userKey, emptyPayload, size, pattern(size)))
		if resp.StatusCode != 502 {
			wantError(t, resp, body, 400, "XAmzContentSHA256Mismatch")
		}
		if err := <-ended; !errors.Is(err, syscall.ECONNRESET) && !errors.Is(err, syscall.EPIPE) {
			t.Errorf("the backend's connection ended with %v, want a reset", err)
		}
	}
}

// An error that comes early is the backend's to give, and the connection is reset: an
// upload that ends there must not look complete.
func TestEarlyErrorIsPassedOnAndResets(t *testing.T) {
	const size = 3 * smallUpload
	endpoint, ended := startEarlyBackend(t, "HTTP/1.1 403 Forbidden\r\nContent-Length: 41\r\n\r\n<Error><Code>QuotaExceeded</Code></Error>")
	g := startGateway(t, testConfig(endpoint))
	conn := g.dial()
	fmt.Fprintf(conn, "PUT /photos/k HTTP/1.1\r\nHost: g\r\nX-Api-Key: %s\r\nContent-Length: %d\r\n\r\n%s", userKey, size, pattern(size-1))
	resp, body := readAnswer(t, "PUT", conn)
	wantError(t, resp, body, 403, "QuotaExceeded")
	if err := <-ended; !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("the backend's connection ended with %v, want a reset", err)
	}
}

// An upload that the gateway broke off, because the backend answered early, did not fail by the
// client, whatever comes of the answer.
func TestEarlyAnswerThatIsNotHTTPIsNotTheClientsError(t *testing.T) {
	const size = 3 * smallUpload
	for _, answer := range []string{
		"\x16\x03\x01 garbage\r\n\r\n", "HTTP/1.1 999 Odd\r\n\r\n", "HTTP/1.1 403 Forbidden\r\nno colon\r\n\r\n",
		"HTTP/1.1 100 Continue\r\n\r\ngarbage that is longer than a status\r\n\r\n",
	} {
		endpoint, ended := startEarlyBackend(t, answer)
		plain, secure := startGateway(t, testConfig(endpoint)), startTLS(t, testConfig(endpoint), nil)
		conn := plain.dial()
		fmt.Fprintf(conn, "PUT /photos/k HTTP/1.1\r\nHost: g\r\nX-Api-Key: %s\r\nContent-Length: %d\r\n\r\n%s", userKey, size, pattern(size-1))
		resp, body := readAnswer(t, "PUT", conn)
		wantError(t, resp, body, 502, "BadGateway")
		<-ended

		rest, _ := io.Pipe() // the last byte is never sent
		upload := struct {
			io.Reader
			io.Closer // else net/http waits for the last byte before it is done with the answer
		}{io.MultiReader(bytes.NewReader(pattern(size-1)), rest), rest}
		resp, body, err := answerOf(t, secure.client(2), secure.request("PUT", "/photos/k", userKey, upload, size))
		if err != nil {
			t.Errorf("after %q the client's answer ends in %v", answer, err)
		}
		wantError(t, resp, body, 502, "BadGateway")
		<-ended
	}
}

// A 204 that announces a body is the last on its connection, before the body is there.
func TestBodyAnnouncedWithNoContentEndsTheConnection(t *testing.T) {
	var connections atomic.Int32
	endpoint := startRawBackend(t, func(_ int, conn net.Conn, r *bufio.Reader) {
		connections.Add(1)
		for {
			if _, _, err := readHead(r); err != nil {
				return
			}
			io.WriteString(conn, "HTTP/1.1 204 No Content\r\nContent-Length: 44\r\n\r\n")
		}
	})
	g := startGateway(t, testConfig(endpoint))
	for range 3 {
		if resp, body := g.do("DELETE", "/photos/k", userKey, ""); resp.StatusCode != 204 {
			t.Errorf("DELETE = %d %s, want 204", resp.StatusCode, body)
		}
	}
	if n := connections.Load(); n != 3 {
		t.Errorf("three answers took %d connections, want 3", n)
	}
}

package main

// HTTP/1.1 to one service, on connections that are kept. A request is written
// and its answer's head read by the goroutine that asks, where http.Transport
// hands both to goroutines of the connection and back; nobody reads a client's
// body but the one who forwards it; and a connection can be told apart from
// what is spoken on it: reset, when an upload must not be taken for whole, and
// spliced, when Linux may move a body's bytes without showing them to us.

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"strconv"
	"sync"
	"time"
)

const (
	maxIdleConns       = 256 // per host
	idleConnTimeout    = 30 * time.Second
	maxResponseHeaders = 64 << 10 // bytes; S3's own limit on metadata is 2 KiB
	maxInterim         = 8        // answers with a status 1xx before the final one
)

// A backendConn is a connection to a backend, for one request at a time.
type backendConn struct {
	net.Conn // what HTTP is spoken on: raw, or TLS on it
	raw      net.Conn
	records  *recordConn // what TLS is spoken on; nil: no TLS
	host     string
	input    meteredReader
	reader   *bufio.Reader
	writes   *pulse
	reads    *pulse
	unwatch  func() bool // see watch; nil: not watched
	interim  int         // interim answers to the request in flight
	reused   bool        // it has carried an answer before
	since    time.Time   // idle since
}

// A meteredReader reads from a backend. It fails when the head of an answer is too
// large.
type meteredReader struct {
	source io.Reader
	left   int   // bytes
	failed error // of the source, but for its end
}

// Read implements io.Reader.
func (m *meteredReader) Read(p []byte) (int, error) {
	if m.left <= 0 {
		return 0, errHeadTooLarge
	}
	n, err := m.source.Read(p)
	m.left -= n
	if m.failed = err; err == io.EOF {
		m.failed = nil // nor the deadline that passed before
	}
	return n, err
}

// arm makes every end of the connection a reset, until Close. A backend that sees a
// connection closed in the middle of an upload may take what it has for the whole
// object, whatever length was declared (github.com/versity/versitygw/issues/2414), and
// a kernel closes the connections of a process that was killed. Armed once, when the
// connection is opened, that costs nothing with each upload.
func (c *backendConn) arm() { c.setLinger(0) }

// setLinger sets SO_LINGER, in seconds: 0 has a close discard what was not sent yet and
// reset the connection, -1 is the system's default.
func (c *backendConn) setLinger(seconds int) {
	if tcp, ok := c.raw.(*net.TCPConn); ok {
		tcp.SetLinger(seconds)
	}
}

// abort resets the connection. TLS is not closed before: its close_notify would say
// that what was sent is all.
func (c *backendConn) abort() {
	c.arm()
	c.raw.Close()
}

// Close closes a connection on which no upload is unfinished, without a reset.
func (c *backendConn) Close() error {
	c.setLinger(-1)
	return c.Conn.Close()
}

// watch has the connection reset when ctx is done, which is when the client leaves,
// until end.
func (c *backendConn) watch(ctx context.Context) {
	if c.unwatch == nil {
		c.unwatch = context.AfterFunc(ctx, c.abort)
	}
}

// end ends watch, and reports whether the connection was left alone.
func (c *backendConn) end() bool {
	unwatch := c.unwatch
	c.unwatch = nil
	return unwatch == nil || unwatch()
}

// stalled reports whether a pulse has given the backend up. It may have done so in the
// moment in which the last byte came; then it would not watch the next request.
func (c *backendConn) stalled() bool { return c.reads.stalled() != nil || c.writes.stalled() != nil }

// hears reports whether n bytes are here within d. What kept them from coming, whoever
// reads them will find out again.
func (c *backendConn) hears(n int64, d time.Duration) bool {
	if n < 0 || n > int64(c.reader.Size()) {
		return false
	}
	if int64(c.reader.Buffered()) < n {
		c.SetReadDeadline(time.Now().Add(d))
	}
	_, err := c.reader.Peek(int(n))
	return err == nil
}

// hasHead reports whether the head of the answer that counts is here whole.
func (c *backendConn) hasHead() bool {
	b, _ := c.reader.Peek(c.reader.Buffered())
	return len(b) > len("HTTP/1.1 ") && b[len("HTTP/1.1 ")] != '1' && bytes.Contains(b, []byte("\r\n\r\n"))
}

// quiet reports whether nothing was heard from the backend since its last answer:
// neither that it closed the connection, nor bytes that would be taken for the
// next answer.
func (c *backendConn) quiet() bool {
	switch {
	case c.reader.Buffered() > 0 || time.Since(c.since) >= idleConnTimeout:
		return false
	case c.records != nil:
		return c.records.silent(c.Conn)
	}
	return silent(c.raw)
}

// appendHead appends the head of a request. A field that would not end where it
// should is an error.
func appendHead(b []byte, req *http.Request, length int64, hasBody bool) ([]byte, error) {
	b = append(b, req.Method...)
	b = append(b, ' ')
	b = append(b, req.URL.RequestURI()...)
	b = append(b, " HTTP/1.1\r\nHost: "...)
	b = append(b, req.Host...)
	b = append(b, "\r\n"...)
	for name, values := range req.Header {
		for _, value := range values {
			if !isToken(name) || !isHeaderText(value) {
				return nil, fmt.Errorf("a header that can't be sent: %q", shortened(name, 64))
			}
			b = append(b, name...)
			b = append(b, ": "...)
			b = append(b, value...)
			b = append(b, "\r\n"...)
		}
	}
	if hasBody || req.Method == http.MethodPut || req.Method == http.MethodPost {
		b = append(b, "Content-Length: "...)
		b = strconv.AppendInt(b, length, 10)
		b = append(b, "\r\n"...)
	}
	return append(b, "\r\n"...), nil
}

// readHead reads the head of the final answer.
func (c *backendConn) readHead(req *http.Request) (*http.Response, error) {
	if err := c.skipInterim(); err != nil {
		return nil, err
	}
	c.input.left = maxResponseHeaders
	resp, err := http.ReadResponse(c.reader, req)
	if err != nil {
		return nil, c.readError(err)
	}
	c.input.left = math.MaxInt
	if resp.StatusCode < 200 || resp.StatusCode > 599 {
		return nil, fmt.Errorf("the backend answered with status %d", resp.StatusCode)
	}
	return resp, nil
}

// readError is the error of a read of a head. net/http calls a line malformed that
// did not come to its end in time.
func (c *backendConn) readError(err error) error {
	return noEOF(cmp.Or(c.input.failed, headError(err)))
}

// skipInterim reads the interim answers (100, 102, 103: RFC 9110 section 15.2) that
// come before the final one, and returns when the final one begins. There may be
// maxInterim of them for each request.
func (c *backendConn) skipInterim() error {
	for ; c.interim <= maxInterim; c.interim++ {
		start, err := c.reader.Peek(len("HTTP/1.1 101"))
		switch {
		case err == io.EOF && len(start) > 0: // whatever it is, it is all there will be
			return nil
		case err != nil:
			return c.readError(err)
		}
		if status := string(start[len("HTTP/1.1 "):]); status[0] != '1' || status == "101" {
			return nil
		}
		c.input.left = maxResponseHeaders
		if _, err := http.ReadResponse(c.reader, nil); err != nil {
			return c.readError(err)
		}
	}
	return errors.New("the backend sends nothing but interim answers")
}

// A earlyAnswer hears a final answer begin while an upload goes on. A nil listener
// hears nothing.
type earlyAnswer struct {
	done chan struct{} // closed when the answer has begun, or none will
	err  error         // why none will; valid once done is closed

	mu    sync.Mutex // guards ended
	ended bool       // all of the upload was read
	early bool       // the answer had begun before that; valid once done is closed
}

// listen starts listening. If a backend answers before it has everything, it has
// made up its mind, and neither it nor the client is waited for any more. Interim
// answers decide nothing.
func (c *backendConn) listen(interrupt func()) *earlyAnswer {
	l := &earlyAnswer{done: make(chan struct{})}
	c.SetReadDeadline(time.Time{}) // of the answer before
	go func() {
		defer close(l.done)
		l.err = c.skipInterim()
		l.mu.Lock()
		defer l.mu.Unlock()
		c.SetWriteDeadline(time.Now().Add(lastWord))
		if l.early = l.err == nil && !l.ended; l.early && interrupt != nil {
			interrupt()
		}
	}()
	return l
}

// end notes that all of the upload was read, and only its last bytes are still to
// be written: an answer is no surprise from here on.
func (l *earlyAnswer) end() {
	if l != nil {
		l.mu.Lock()
		l.ended = true
		l.mu.Unlock()
	}
}

// An answerBody is the body of an answer; at its end the connection goes back.
type answerBody struct {
	io.ReadCloser // as http.ReadResponse makes it
	conn          *backendConn
	pool          *pool
	idle          time.Duration // how long the backend may send nothing
	sent          bool          // the request was sent whole
	keep          bool          // the connection may be used again, if it was
	left          int64         // bytes that can be had from the connection directly; -1: none can

	mu    sync.Mutex // held while the connection is given up or its deadline is set; guards the rest
	ended bool       // written by the reader only, which reads it without mu
}

// Read implements io.Reader.
func (b *answerBody) Read(p []byte) (int, error) {
	if b.ended { // the connection is somebody else's
		return 0, io.EOF
	}
	b.conn.reads.begin(b.idle)
	n, err := b.ReadCloser.Read(p)
	b.conn.reads.end()
	if b.left > 0 {
		b.left -= int64(n)
	}
	if err == io.EOF {
		b.release(true)
	}
	return n, whyLate(err, b.conn.reads)
}

// interrupt makes a Read that waits for the backend return. It may be called by
// another goroutine than the reader's. Once the body has ended it does nothing: the
// connection may be at work for another request.
func (b *answerBody) interrupt() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.ended {
		b.conn.SetReadDeadline(time.Now())
	}
}

// Close implements io.Closer. What is left of a body is not read.
func (b *answerBody) Close() error {
	b.release(false)
	return nil
}

// release gives the connection back, or closes it. Where the request or the answer
// was left unfinished it is reset.
func (b *answerBody) release(whole bool) {
	if b.ended {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.ended = true
	switch alone := b.conn.end(); {
	case !alone || !whole || !b.sent:
		b.conn.abort()
	case b.keep && b.conn.reader.Buffered() == 0 && !b.conn.stalled():
		b.pool.put(b.conn)
	default:
		b.conn.Close()
	}
}

// empty reports whether there is no body: RFC 9112 section 6.3, rule 1.
func (b *answerBody) empty() bool { return b.ReadCloser == http.NoBody }

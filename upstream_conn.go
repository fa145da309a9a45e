package main

// A connection to a backend, which speaks HTTP/1.1. It knows nothing of S3.
//
// There are two reasons not to use http.Transport. It passes each request and each answer
// through two goroutines of the connection, which costs about 11 µs more CPU for a GET of 4 KiB
// and about 16 µs for a PUT; here the goroutine of the request does both. And it hides the
// socket, which is needed to reset it, so that no backend takes half an upload for the whole,
// and to splice from it.

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
	net.Conn // carries HTTP: raw, or TLS on it
	raw      net.Conn
	records  *recordConn // carries TLS; nil: no TLS
	host     string
	input    meteredReader
	reader   *bufio.Reader
	writes   *pulse
	reads    *pulse
	unwatch  func() bool // see watch; nil: not watched
	interim  int         // interim answers to the request in flight
	reused   bool        // it has carried an answer
	since    time.Time   // idle since
}

// A meteredReader reads from a backend, and fails if the head of an answer is too large.
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
		m.failed = nil // an earlier deadline
	}
	return n, err
}

// arm makes every end of the connection a reset, until Close. A backend whose connection is
// closed in the middle of an upload may take what it has for the whole object, whatever
// length was declared (github.com/versity/versitygw/issues/2414), and the kernel closes the
// connections of a process that was killed. The connection is armed once, when it is opened,
// so uploads pay nothing for it.
func (c *backendConn) arm() { c.setLinger(0) }

// setLinger sets SO_LINGER, in seconds. With 0 a close discards what was not sent and resets
// the connection; -1 is the default of the system.
func (c *backendConn) setLinger(seconds int) {
	if tcp, ok := c.raw.(*net.TCPConn); ok {
		tcp.SetLinger(seconds)
	}
}

// abort resets the connection. It does not close TLS first: a close_notify would say that
// everything was sent.
func (c *backendConn) abort() {
	c.arm()
	c.raw.Close()
}

// Close closes a connection without a reset. No upload may be unfinished on it.
func (c *backendConn) Close() error {
	c.setLinger(-1)
	return c.Conn.Close()
}

// watch resets the connection when ctx is done, which is when the client leaves, until end
// is called.
func (c *backendConn) watch(ctx context.Context) {
	if c.unwatch == nil {
		c.unwatch = context.AfterFunc(ctx, c.abort)
	}
}

// end ends watch. It reports whether the connection was not reset.
func (c *backendConn) end() bool {
	unwatch := c.unwatch
	c.unwatch = nil
	return unwatch == nil || unwatch()
}

// stalled reports whether a pulse has cut the backend off. It may have done so just when the
// last byte came, and then it would not watch the next request.
func (c *backendConn) stalled() bool { return c.reads.stalled() != nil || c.writes.stalled() != nil }

// lives reports whether the connection is open, after an error of a splice that may have been the
// other side's. Over TLS, where nothing is spliced, it reports false.
func (c *backendConn) lives() bool { return c.records == nil && stillOpen(c.raw) }

// arrivesWithin reports whether n bytes arrive within d. Errors are dropped; the next read
// returns them.
func (c *backendConn) arrivesWithin(n int64, d time.Duration) bool {
	if n < 0 || n > int64(c.reader.Size()) {
		return false
	}
	if int64(c.reader.Buffered()) < n {
		c.SetReadDeadline(time.Now().Add(d))
	}
	_, err := c.reader.Peek(int(n))
	return err == nil
}

// hasHead reports whether the whole head of the final answer has arrived.
func (c *backendConn) hasHead() bool {
	b, _ := c.reader.Peek(c.reader.Buffered())
	return len(b) > len("HTTP/1.1 ") && b[len("HTTP/1.1 ")] != '1' && bytes.Contains(b, []byte("\r\n\r\n"))
}

// quiet reports whether the backend was silent since its last answer: it neither closed the
// connection nor sent bytes, which would be read as the next answer.
func (c *backendConn) quiet() bool {
	switch {
	case c.reader.Buffered() > 0 || time.Since(c.since) >= idleConnTimeout:
		return false
	case c.records != nil:
		return c.records.silent(c.Conn)
	}
	return silent(c.raw)
}

// appendHead appends the head of a request. A field with a line break is an error.
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

// readError returns the error of a read of a head. If a line does not end in time, net/http
// calls it malformed.
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
		case err == io.EOF && len(start) > 0: // there is no more
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

// An earlyAnswer listens for a final answer that begins during an upload. Without it, a backend
// that refuses a large upload at once would be sent all of it, and a backend that resets the
// connection after its answer would destroy the answer. With it, 4 to 9 MiB of a refused
// upload of 1 GiB are sent over loopback. It costs a goroutine for each upload above smallUpload.
// A nil earlyAnswer listens to nothing.
type earlyAnswer struct {
	done chan struct{} // closed when the answer has begun, or none will
	err  error         // why none will; valid once done is closed

	mu    sync.Mutex // guards ended
	ended bool       // all of the upload was read
	early bool       // the answer had begun before that; valid once done is closed
}

// listen starts to listen. If a backend answers before it has the whole upload, the upload
// ends: neither the backend nor the client is waited for. Interim answers do not count.
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

// end notes that the whole upload was read and only its last bytes are unwritten. From here on
// an answer is not early.
func (l *earlyAnswer) end() {
	if l != nil {
		l.mu.Lock()
		l.ended = true
		l.mu.Unlock()
	}
}

// An answerBody is the body of an answer. At its end it gives the connection back.
type answerBody struct {
	io.ReadCloser // of http.ReadResponse
	conn          *backendConn
	pool          *pool
	idle          time.Duration // how long the backend may send nothing
	sent          bool          // the request was sent whole
	keep          bool          // the connection may be used again, if it was
	left          int64         // bytes that can be read from the connection directly; -1: none
	broken        bool          // the backend broke off

	mu    sync.Mutex // guards the rest; held while the connection is released or its deadline is set
	ended bool       // written by the reader only, which reads it without mu
}

// Read implements io.Reader.
func (b *answerBody) Read(p []byte) (int, error) {
	if b.ended { // the connection may serve another request
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
		return n, err
	}
	err = whyLate(err, b.conn.reads)
	b.broken = err != nil && !errors.Is(err, errNoProgress)
	return n, err
}

// readWhole reads a body whose length is known, to its end.
func (b *answerBody) readWhole(buffer []byte) ([]byte, error) {
	n, err := io.ReadFull(b, buffer[:b.left])
	if err != nil {
		return nil, noEOF(err)
	}
	b.Read(buffer[n:]) // its end, which gives the connection back to the pool
	return buffer[:n], nil
}

// interrupt makes a Read that waits for the backend return. Any goroutine may call it. After
// the end of the body it does nothing: the connection may serve another request.
func (b *answerBody) interrupt() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.ended {
		b.conn.SetReadDeadline(time.Now())
	}
}

// Close implements io.Closer. It does not read the rest of the body.
func (b *answerBody) Close() error {
	b.release(false)
	return nil
}

// release gives the connection back, or closes it. It resets the connection if the request or
// the answer is unfinished.
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

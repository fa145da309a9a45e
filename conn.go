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
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"
)

const (
	maxIdleConns       = 256 // per host
	idleConnTimeout    = 30 * time.Second
	maxResponseHeaders = 64 << 10 // bytes; S3's own limit on metadata is 2 KiB
	maxInformational   = 8        // answers with a status 1xx before the one that counts
)

// A pool keeps connections to the hosts of one service.
type pool struct {
	scheme         string
	connectTimeout time.Duration
	dialer         func(ctx context.Context, network, addr string) (net.Conn, error)
	tls            *tls.Config // but for the server's name
	counts         *accountMetrics

	mu      sync.Mutex // guards the rest
	idle    map[string][]*backendConn
	retired bool        // what comes back is closed
	sweeper *time.Timer // set while there are idle connections
}

func newPool(a *account, counts *accountMetrics) *pool {
	dialer := &net.Dialer{Timeout: a.connectTimeout, KeepAlive: 30 * time.Second}
	return &pool{
		scheme:         a.scheme,
		connectTimeout: a.connectTimeout,
		dialer:         dialer.DialContext,
		tls:            &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: a.roots, ClientSessionCache: tls.NewLRUClientSessionCache(64)},
		counts:         counts,
		idle:           map[string][]*backendConn{},
	}
}

// get returns a connection to host: the one used last, if the backend has not
// closed it or said anything since, or a new one.
func (p *pool) get(ctx context.Context, host string) (*backendConn, error) {
	for {
		c := p.pop(host)
		if c == nil {
			return p.dial(ctx, host)
		}
		if c.quiet() {
			c.reused = true
			p.counts.reused.Add(1)
			return c, nil
		}
		c.Close()
	}
}

func (p *pool) pop(host string) *backendConn {
	p.mu.Lock()
	defer p.mu.Unlock()
	idle := p.idle[host]
	if len(idle) == 0 {
		return nil
	}
	c := idle[len(idle)-1]
	idle[len(idle)-1] = nil
	p.idle[host] = idle[:len(idle)-1]
	return c
}

// put keeps a connection whose answer was read to its end. Its deadlines may stay:
// whoever uses it next sets them.
func (p *pool) put(c *backendConn) {
	c.since = time.Now()
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.retired || len(p.idle[c.host]) >= maxIdleConns {
		c.Close()
		return
	}
	p.idle[c.host] = append(p.idle[c.host], c)
	if p.sweeper == nil {
		p.sweeper = time.AfterFunc(idleConnTimeout, p.sweep)
	}
}

// sweep closes what was not used for idleConnTimeout; the oldest come first.
func (p *pool) sweep() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.sweeper = nil
	for host, idle := range p.idle {
		for len(idle) > 0 && time.Since(idle[0].since) >= idleConnTimeout {
			idle[0].Close()
			idle = idle[1:]
		}
		if p.idle[host] = idle; len(idle) == 0 {
			delete(p.idle, host)
		}
	}
	if len(p.idle) > 0 {
		p.sweeper = time.AfterFunc(idleConnTimeout, p.sweep)
	}
}

// retire closes what nobody uses, and what is used when it comes back.
func (p *pool) retire() {
	p.mu.Lock()
	p.retired = true
	p.mu.Unlock()
	p.closeIdle()
}

// closeIdle closes the connections that nobody uses.
func (p *pool) closeIdle() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for host, idle := range p.idle {
		for _, c := range idle {
			c.Close()
		}
		delete(p.idle, host)
	}
}

// dial opens a connection. The handshake has the same time again.
func (p *pool) dial(ctx context.Context, host string) (*backendConn, error) {
	addr := host
	if _, _, err := net.SplitHostPort(host); err != nil {
		addr = net.JoinHostPort(strings.Trim(host, "[]"), map[string]string{"http": "80", "https": "443"}[p.scheme])
	}
	raw, err := p.dialer(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	c := &backendConn{Conn: raw, raw: raw, host: host}
	if p.scheme == "https" {
		config := p.tls.Clone()
		config.ServerName, _, _ = net.SplitHostPort(addr)
		secure := tls.Client(raw, config)
		handshake, cancel := context.WithTimeout(ctx, p.connectTimeout)
		defer cancel()
		if err := secure.HandshakeContext(handshake); err != nil {
			raw.Close()
			return nil, handshakeError(err)
		}
		c.Conn = secure
	}
	p.counts.opened.Add(1)
	c.input = meteredReader{source: c.Conn, left: math.MaxInt}
	c.reader = bufio.NewReaderSize(&c.input, 16<<10)
	return c, nil
}

// A backendConn is a connection to a backend, for one request at a time.
type backendConn struct {
	net.Conn // what HTTP is spoken on: raw, or TLS on it
	raw      net.Conn
	host     string
	input    meteredReader
	reader   *bufio.Reader
	unwatch  func() bool // see watch; nil: not watched
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

// abort resets the connection. Closing it would tell some servers that the object
// has ended, whatever length was declared
// (github.com/versity/versitygw/issues/2414); over TLS it would even say goodbye.
func (c *backendConn) abort() {
	if tcp, ok := c.raw.(*net.TCPConn); ok {
		tcp.SetLinger(0)
	}
	c.raw.Close()
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
	return c.reader.Buffered() == 0 && time.Since(c.since) < idleConnTimeout && silent(c.raw)
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

// isToken is RFC 9110 section 5.6.2.
func isToken(s string) bool {
	for i := range len(s) {
		c := s[i]
		if c <= ' ' || c >= 0x7f || strings.IndexByte("\"(),/:;<=>?@[\\]{}", c) >= 0 {
			return false
		}
	}
	return s != ""
}

// readHead reads the head of the answer that counts.
func (c *backendConn) readHead(req *http.Request) (*http.Response, error) {
	c.input.left = maxResponseHeaders
	for range maxInformational {
		resp, err := http.ReadResponse(c.reader, req)
		if err != nil {
			// net/http calls a line malformed that did not come to its end in time.
			return nil, noEOF(cmp.Or(c.input.failed, headError(err)))
		}
		if resp.StatusCode >= 100 && resp.StatusCode < 200 && resp.StatusCode != http.StatusSwitchingProtocols {
			continue
		}
		c.input.left = math.MaxInt
		if resp.StatusCode < 200 || resp.StatusCode > 599 {
			return nil, fmt.Errorf("the backend answered with status %d", resp.StatusCode)
		}
		return resp, nil
	}
	return nil, errors.New("the backend sends nothing but informational answers")
}

// A listener hears the first byte of an answer while an upload goes on. A nil
// listener hears nothing.
type listener struct {
	done chan struct{} // closed when the first byte is there, or none will be
	byte bool          // it is there; valid once done is closed

	mu    sync.Mutex // guards ended
	ended bool       // all of the upload was read
	early bool       // the first byte was there before that; valid once done is closed
}

// lastWord is how long a backend that takes no more of an upload is given: it may
// have said why.
const lastWord = time.Second

// listen starts listening. If a backend answers before it has everything, it has
// made up its mind, and neither it nor the client is waited for any more.
func (c *backendConn) listen(interrupt func()) *listener {
	l := &listener{done: make(chan struct{})}
	c.SetReadDeadline(time.Time{}) // of the answer before
	go func() {
		defer close(l.done)
		_, err := c.reader.Peek(1)
		l.byte = err == nil
		l.mu.Lock()
		defer l.mu.Unlock()
		c.SetWriteDeadline(time.Now().Add(lastWord))
		if l.early = l.byte && !l.ended; l.early && interrupt != nil {
			interrupt()
		}
	}()
	return l
}

// end notes that all of the upload was read, and only its last bytes are still to
// be written: an answer is no surprise from here on.
func (l *listener) end() {
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
	pace          pace          // of the read deadline
	keep          bool          // the connection may be used again
	left          int64         // bytes that can be had from the connection directly; -1: none can
	ended         bool
}

// Read implements io.Reader.
func (b *answerBody) Read(p []byte) (int, error) {
	if b.ended { // the connection is somebody else's
		return 0, io.EOF
	}
	if b.conn.reader.Buffered() == 0 {
		b.progress()
	}
	n, err := b.ReadCloser.Read(p)
	if b.left > 0 {
		b.left -= int64(n)
	}
	if err == io.EOF {
		b.release(true)
	}
	return n, noProgress(err)
}

// progress moves the read deadline on, as exchange.progress does for the client.
func (b *answerBody) progress() {
	if now, due := b.pace.due(b.idle); due {
		b.conn.SetReadDeadline(now.Add(b.idle)) // before the client's: it is to hear of it
	}
}

// Close implements io.Closer. What is left of a body is not read.
func (b *answerBody) Close() error {
	b.release(false)
	return nil
}

// release gives the connection back, or closes it.
func (b *answerBody) release(whole bool) {
	if b.ended {
		return
	}
	b.ended = true
	if b.conn.end() && whole && b.keep && b.conn.reader.Buffered() == 0 {
		b.pool.put(b.conn)
	} else {
		b.conn.Close()
	}
}

// noProgress is err, or errNoProgress for a deadline that has passed.
func noProgress(err error) error {
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return errNoProgress
	}
	return err
}

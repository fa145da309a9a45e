package main

// Connections of clients, and what net/http hides of the bytes that it reads from them.
//
// net/http drops the Content-Length of a request that comes in chunks, and the
// Transfer-Encoding of one in HTTP/1.0, so a handler can't see that a request had both
// (RFC 9112 section 6.1). It accepts LF for CRLF, folded headers and a Content-Length that is
// repeated, which others read in another way or refuse. It also waits without a limit for the
// end of an HTTP/2 head. So a follower reads along. This file knows nothing of S3.

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// A requestHead is what the head of a request says of its body. The zero value is that of a
// request on a connection that is not followed.
type requestHead struct {
	known    bool // length and encoding are valid
	length   bool // it has a Content-Length
	encoding bool // it has a Transfer-Encoding

	// doubt is why another parser may see another request, or another end of it; "": none.
	doubt string
}

// Reasons for a doubt. RFC 9112 lets a server accept the first four, and net/http does. But a
// proxy before the gateway, or a filter, may have read them in another way: sections 2.2, 5.2,
// 6.1 and 6.3. The doubt stays: what follows on the connection may be a part of the body to others.
const (
	bareLF      = "a line ends in LF without CR"
	foldedLine  = "a header is folded into several lines"
	twoLengths  = "Content-Length is given twice"
	twoFramings = "it has a Content-Length and a Transfer-Encoding"
	strayCR     = "a CR precedes it"
	unknownHead = "the requests before it can't be told apart"
)

// A follower follows the requests on a connection. It may be used by several
// goroutines at once: net/http reads ahead while a handler runs. The zero value is
// ready to use.
type follower struct {
	mu    sync.Mutex // guards the rest
	lost  bool       // it is no longer known where requests begin
	doubt string     // about all heads from here on
	heads []requestHead
	now   requestHead // of the request that net/http serves
	at    requestPart
	line  []byte // the start of a line whose end has not arrived
	cr    bool   // what has arrived of that line ends in CR
	head  requestHead
	size  int64 // its Content-Length
	left  int64 // bytes of a body, a chunk or a frame that have not arrived

	expects, continues bool // the head has an Expect header; it has 100-continue
	restEnds           time.Time
	refused            atomic.Bool // restEnds is set, and may be read without mu

	frame  [frameHead]byte // HTTP/2
	have   int             // bytes of frame
	blocks int             // heads that have begun
	open   bool            // the last of them has not ended
}

// A requestPart is where in a request a connection is.
type requestPart int

const (
	inRequestLine requestPart = iota
	inHeaderLines
	inBody
	inChunkSize
	inChunk
	afterChunk
	inTrailers
	inPreface
	inFrames
)

// afterBytes are the parts after those that are a number of bytes.
var afterBytes = [...]requestPart{inBody: inRequestLine, inChunk: afterChunk, inPreface: inFrames}

// refusedBodyTimeout bounds the body of a request that net/http itself refuses, with 417 for
// an unknown Expect. net/http reads the body before it closes the connection, without a
// deadline.
const refusedBodyTimeout = time.Second

// boundRest sets the read deadline of a connection on which no further request is
// answered.
func (f *follower) boundRest(conn net.Conn) {
	if f.refused.Load() {
		conn.SetReadDeadline(f.restEnds)
	}
}

const (
	maxFollowedLine  = 128 // bytes of a line that are looked at
	maxFollowedHeads = 256 // requests that were read before they were served
)

// next goes on to the head of the request that net/http serves next, and returns it.
func (f *follower) next() requestHead {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.heads) == 0 {
		f.now = requestHead{doubt: unknownHead}
		return f.now
	}
	f.now = f.heads[0]
	f.heads = f.heads[:copy(f.heads, f.heads[1:])]
	return f.now
}

// current returns what the last next did.
func (f *follower) current() requestHead {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.now
}

// follow notes what was read. It returns how many HTTP/2 heads have begun, and whether
// the last of them has not ended.
func (f *follower) follow(b []byte) (blocks int, open bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for len(b) > 0 && !f.lost {
		switch f.at {
		case inBody, inChunk, inPreface:
			n := min(f.left, int64(len(b)))
			b = b[n:]
			if f.left -= n; f.left == 0 {
				f.at = afterBytes[f.at]
			}
		case inFrames:
			b = f.followFrame(b)
		default:
			b = f.followLine(b)
		}
	}
	return f.blocks, f.open
}

// followLine reads up to the end of a line, and returns the rest.
func (f *follower) followLine(b []byte) []byte {
	end := bytes.IndexByte(b, '\n')
	line := b[:max(end, 0)]
	if end < 0 {
		line = b
	}
	if len(line) > 0 {
		f.cr = line[len(line)-1] == '\r'
	}
	if len(f.line) > 0 || end < 0 {
		f.line = append(f.line, line[:min(len(line), maxFollowedLine-min(len(f.line), maxFollowedLine))]...)
		line = f.line
	}
	if end < 0 {
		return nil
	}
	if !f.cr {
		f.doubts(bareLF)
	}
	if n := len(line); n > 0 && line[n-1] == '\r' {
		line = line[:n-1]
	}
	f.endLine(line)
	f.line, f.cr = f.line[:0], false
	return b[end+1:]
}

// doubts notes the first reason for a doubt.
func (f *follower) doubts(reason string) { f.doubt = cmp.Or(f.doubt, reason) }

// readHeader notes what a header line says of the body.
func (f *follower) readHeader(line []byte) {
	if line[0] == ' ' || line[0] == '\t' {
		f.doubts(foldedLine)
	} else if value, ok := valueOf(line, "Content-Length:"); ok {
		if f.head.length {
			f.doubts(twoLengths)
		}
		size, err := strconv.ParseUint(string(bytes.TrimSpace(value)), 10, 63)
		cut := len(line) >= maxFollowedLine
		f.head.length, f.size, f.lost = true, int64(size), f.lost || err != nil || cut
	} else if _, ok := valueOf(line, "Transfer-Encoding:"); ok {
		f.head.encoding = true
	} else if value, ok := valueOf(line, "Expect:"); ok {
		f.expects = true
		f.continues = f.continues || len(line) < maxFollowedLine && hasContinue(string(value)) // a longer line may be cut
	}
}

// readChunkSize reads the line before a chunk: RFC 9112 section 7.1.
func (f *follower) readChunkSize(line []byte) {
	digits, _, _ := bytes.Cut(line, []byte(";"))
	size, err := strconv.ParseUint(string(bytes.TrimSpace(digits)), 16, 63)
	switch f.left = int64(size); {
	case err != nil:
		f.lost = true
	case size == 0:
		f.at = inTrailers
	default:
		f.at = inChunk
	}
}

// endLine reads a line. Only its first maxFollowedLine bytes need to be there.
func (f *follower) endLine(line []byte) {
	switch f.at {
	case inRequestLine:
		switch {
		case string(line) == "PRI * HTTP/2.0": // RFC 9113 section 3.4
			f.at, f.left = inPreface, int64(len("\r\nSM\r\n\r\n"))
		case len(line) > 0:
			if line[0] == '\r' { // net/http ignores some after a POST
				f.doubts(strayCR)
			}
			f.at, f.head, f.size = inHeaderLines, requestHead{known: true}, 0
			f.expects, f.continues = false, false
		}
	case inHeaderLines:
		if len(line) == 0 {
			f.endHead()
			return
		}
		f.readHeader(line)
	case inChunkSize:
		f.readChunkSize(line)
	case afterChunk:
		f.at, f.lost = inChunkSize, len(line) > 0
	case inTrailers:
		switch {
		case len(line) == 0:
			f.at = inRequestLine
		case line[0] == ' ' || line[0] == '\t':
			f.doubts(foldedLine)
		}
	}
}

// hasContinue reports whether an Expect header has the one expectation that net/http knows.
func hasContinue(value string) bool {
	for option := range strings.SplitSeq(value, ",") {
		if strings.EqualFold(strings.Trim(option, " \t"), "100-continue") {
			return true
		}
	}
	return false
}

// valueOf returns the value of a header line that begins with a name and its colon.
func valueOf(line []byte, name string) ([]byte, bool) {
	if len(line) < len(name) || line[len(name)-1] != ':' || !strings.EqualFold(string(line[:len(name)]), name) {
		return nil, false
	}
	return line[len(name):], true
}

// endHead notes the end of a head, where the body begins.
func (f *follower) endHead() {
	if f.expects && !f.continues && !f.refused.Load() {
		f.restEnds = time.Now().Add(refusedBodyTimeout)
		f.refused.Store(true)
	}
	if f.head.length && f.head.encoding {
		f.doubts(twoFramings)
	}
	f.head.doubt = f.doubt
	if f.heads = append(f.heads, f.head); len(f.heads) > maxFollowedHeads {
		f.lost = true
	}
	switch f.left = f.size; {
	case f.head.encoding:
		f.at = inChunkSize
	case f.size > 0:
		f.at = inBody
	default:
		f.at = inRequestLine
	}
}

// Of HTTP/2's frames: RFC 9113 sections 4.1 and 6.
const (
	frameHead         = 9 // bytes: 3 of length, 1 of type, 1 of flags, 4 of stream
	headersFrame      = 1
	continuationFrame = 9
	endHeaders        = 4
)

// followFrame reads up to the end of a frame, and returns the rest.
func (f *follower) followFrame(b []byte) []byte {
	if f.have < frameHead {
		n := copy(f.frame[f.have:], b)
		b = b[n:]
		if f.have += n; f.have < frameHead {
			return b
		}
		f.left = int64(binary.BigEndian.Uint32(f.frame[:]) >> 8)
		if f.frame[3] == headersFrame {
			f.blocks++
			f.open = true
		}
	}
	n := min(f.left, int64(len(b)))
	if f.left -= n; f.left == 0 {
		f.have = 0
		if kind := f.frame[3]; (kind == headersFrame || kind == continuationFrame) && f.frame[4]&endHeaders != 0 {
			f.open = false
		}
	}
	return b[n:]
}

// A tlsListener accepts connections that speak HTTP over TLS. It does the handshake itself:
// net/http would hide what is read.
type tlsListener struct {
	net.Listener
	config  *tls.Config
	timeout time.Duration // of a handshake, and of the head of a request
	log     *log.Logger
}

// Accept implements net.Listener. The handshake is done with the first Read.
func (l tlsListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	c := &tlsClientConn{listener: l}
	if tcp, ok := conn.(tcpConn); ok {
		c.watched = watchConn(tcp)
		conn = c.watched
	}
	c.halfCloser = tls.Server(conn, l.config)
	return c, nil
}

// A halfCloser has the methods of a *tls.Conn that net/http uses, and hides its type. Then
// net/http recognizes HTTP/2 by its preface, as it does without TLS.
type halfCloser interface {
	net.Conn
	CloseWrite() error
}

// A tlsClientConn is a connection with a client that speaks TLS.
type tlsClientConn struct {
	halfCloser
	follower
	listener tlsListener
	watched  *watchedConn // below TLS; nil: not watched
	shaken   bool
	block    int  // number of the HTTP/2 head that the read deadline is for
	timed    bool // it is for one
}

// Read implements net.Conn. A whole HTTP/2 head must arrive within the listener's timeout,
// like one of HTTP/1.1, or nothing more is read.
func (c *tlsClientConn) Read(p []byte) (int, error) {
	if !c.shaken {
		if err := c.handshake(); err != nil {
			return 0, err
		}
		c.shaken = true
	}
	c.boundRest(c.halfCloser)
	n, err := c.halfCloser.Read(p)
	switch block, open := c.follow(p[:n]); {
	case open && (!c.timed || block != c.block):
		c.block, c.timed = block, true
		c.SetReadDeadline(time.Now().Add(c.listener.timeout))
	case !open && c.timed:
		c.timed = false
		c.SetReadDeadline(time.Time{})
	}
	return n, err
}

// handshake does as net/http would. Its time is that of the first request's head.
func (c *tlsClientConn) handshake() error {
	conn := c.halfCloser.(*tls.Conn)
	conn.SetDeadline(time.Now().Add(c.listener.timeout))
	err := conn.Handshake()
	if err == nil {
		conn.SetWriteDeadline(time.Time{})
		return conn.SetReadDeadline(time.Now().Add(c.listener.timeout))
	}
	reason := handshakeError(err).Error()
	if recordError, ok := errors.AsType[tls.RecordHeaderError](err); ok && recordError.Conn != nil && looksLikeHTTP(recordError.RecordHeader) {
		io.WriteString(recordError.Conn, "HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n")
		reason = "client sent an HTTP request to an HTTPS server"
	}
	c.listener.log.Printf("http: TLS handshake error from %s: %s", c.RemoteAddr(), reason)
	c.Close()
	return io.EOF
}

// looksLikeHTTP reports whether what should be a TLS record begins as a request does.
func looksLikeHTTP(start [5]byte) bool {
	switch string(start[:]) {
	case "GET /", "HEAD ", "POST ", "PUT /", "DELET", "OPTIO":
		return true
	}
	return false
}

type connKey struct{}

// withConn is http.Server.ConnContext. It stores the connection in the context of a request.
func withConn(ctx context.Context, conn net.Conn) context.Context {
	switch conn.(type) {
	case *corkConn, *tlsClientConn:
		return context.WithValue(ctx, connKey{}, conn)
	}
	return ctx
}

// A followedConn is a connection with a follower.
type followedConn interface {
	next() requestHead
	current() requestHead
}

// followRequests returns a handler that takes note of each request, so that headOf knows which of
// the heads on the connection is its own, whoever answers the requests before it.
func followRequests(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if conn, ok := r.Context().Value(connKey{}).(followedConn); ok && r.ProtoMajor == 1 {
			conn.next()
		}
		h.ServeHTTP(w, r)
	})
}

// headOf returns the framing of a request as it was received.
func headOf(r *http.Request) requestHead {
	conn, ok := r.Context().Value(connKey{}).(followedConn)
	if !ok || r.ProtoMajor != 1 {
		return requestHead{}
	}
	return conn.current()
}

// A limitedListener bounds the number of open connections. At the bound it accepts none, and
// further connections wait in the accept queue. To accept and close them would look like a
// broken server, and clients would try again at once. Idle connections count too.
type limitedListener struct {
	net.Listener
	places chan struct{} // holds one for each connection
	closed chan struct{}
	once   sync.Once
}

// limitConnections returns a listener for at most limit connections of a TCP
// listener. A limit of 0 is none.
func limitConnections(l net.Listener, limit int) net.Listener {
	if limit == 0 {
		return l
	}
	return &limitedListener{Listener: l, places: make(chan struct{}, limit), closed: make(chan struct{})}
}

// Accept implements net.Listener.
func (l *limitedListener) Accept() (net.Conn, error) {
	select {
	case l.places <- struct{}{}:
	case <-l.closed:
		return nil, net.ErrClosed
	}
	conn, err := l.Listener.Accept()
	if err != nil {
		<-l.places
		return nil, err
	}
	return &limitedConn{TCPConn: conn.(*net.TCPConn), places: l.places}, nil
}

// Close implements net.Listener. It ends an Accept that waits for a place, too.
func (l *limitedListener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return l.Listener.Close()
}

// A limitedConn gives its place back when it is closed. Otherwise it is a *net.TCPConn, of
// which net/http uses ReadFrom, to splice, and CloseWrite.
type limitedConn struct {
	*net.TCPConn
	places chan struct{}
	closed atomic.Bool
}

// Close implements net.Conn.
func (c *limitedConn) Close() error {
	err := c.TCPConn.Close()
	if !c.closed.Swap(true) { // net/http closes some connections twice
		<-c.places
	}
	return err
}

package main

// Where requests end on a connection, and which of them a backend gets, for any bytes that a client
// may send. The judge is a strict reading of RFC 9112, which takes nothing that two parsers could
// read in two ways.

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"math"
	"net"
	"net/http"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// A strictRequest is a request whose head is beyond doubt.
type strictRequest struct {
	method, target string
	minor          int                 // of the version
	header         map[string][]string // by names in lower case
	body           string
	whole          bool // its body has ended, as its framing says
}

var (
	strictRequestLine = regexp.MustCompile("^([!#$%&'*+.^_`|~0-9A-Za-z-]+) ([^\\x00-\\x20\\x7f]+) HTTP/1\\.([0-9])$")
	strictField       = regexp.MustCompile("^([!#$%&'*+.^_`|~0-9A-Za-z-]+):([^\\x00-\\x08\\x0a-\\x1f\\x7f]*)$")
	strictChunk       = regexp.MustCompile("^([0-9A-Fa-f]{1,15})[ \t]*(;[^\\x00-\\x08\\x0a-\\x1f\\x7f]*)?$")
	strictLength      = regexp.MustCompile("^[0-9]{1,18}$")
)

// strictRequests returns the requests that are on a connection: up to the first that can be
// doubted, and to the one after which the connection is closed.
func strictRequests(wire string) []strictRequest {
	var requests []strictRequest
	for {
		for strings.HasPrefix(wire, "\r\n") { // RFC 9112 section 2.2
			wire = wire[2:]
		}
		r, rest, ok := strictHead(wire)
		if !ok {
			return requests
		}
		wire = r.readBody(rest)
		requests = append(requests, r)
		options := r.connection()
		if !r.whole || slices.Contains(options, "close") || r.minor == 0 && !slices.Contains(options, "keep-alive") {
			return requests
		}
	}
}

// strictHead reads a head, and returns what follows it.
func strictHead(wire string) (r strictRequest, rest string, ok bool) {
	head, rest, ended := strings.Cut(wire, "\r\n\r\n")
	start, lines, _ := strings.Cut(head, "\r\n")
	m := strictRequestLine.FindStringSubmatch(start)
	if !ended || m == nil {
		return r, "", false
	}
	r = strictRequest{method: m[1], target: m[2], header: map[string][]string{}}
	r.minor, _ = strconv.Atoi(m[3])
	if lines != "" && !r.addFields(strings.Split(lines, "\r\n")) {
		return r, "", false
	}
	hosts, lengths, encodings := r.header["host"], r.header["content-length"], r.header["transfer-encoding"]
	switch {
	case len(hosts) > 1, len(hosts) == 0 && r.minor > 0: // section 3.2
		return r, "", false
	case len(lengths) > 1, len(lengths) == 1 && !strictLength.MatchString(lengths[0]): // section 6.2
		return r, "", false
	case len(encodings) > 1, len(encodings) == 1 && (!strings.EqualFold(encodings[0], "chunked") || len(lengths) > 0 || r.minor == 0): // section 6.1
		return r, "", false
	}
	return r, rest, true
}

// addFields adds field lines: section 5. A folded one is not of that form.
func (r *strictRequest) addFields(lines []string) bool {
	for _, line := range lines {
		m := strictField.FindStringSubmatch(line)
		if m == nil {
			return false
		}
		name := strings.ToLower(m[1])
		r.header[name] = append(r.header[name], strings.Trim(m[2], " \t"))
	}
	return true
}

// readBody reads the body, and returns what follows it.
func (r *strictRequest) readBody(wire string) (rest string) {
	if len(r.header["transfer-encoding"]) > 0 {
		return r.readChunks(wire)
	}
	size := 0
	if lengths := r.header["content-length"]; len(lengths) > 0 {
		size, _ = strconv.Atoi(lengths[0])
	}
	r.whole = size <= len(wire)
	size = min(size, len(wire))
	r.body = wire[:size]
	return wire[size:]
}

// readChunks reads a body in chunks, and its trailers: section 7.1.
func (r *strictRequest) readChunks(wire string) (rest string) {
	for {
		line, data, ended := strings.Cut(wire, "\r\n")
		m := strictChunk.FindStringSubmatch(line)
		if !ended || m == nil {
			return ""
		}
		size, _ := strconv.ParseInt(m[1], 16, 64)
		if size == 0 {
			wire = data
			break
		}
		if int64(len(data)) < size+2 || data[size:size+2] != "\r\n" {
			return ""
		}
		r.body += data[:size]
		wire = data[size+2:]
	}
	for {
		line, next, ended := strings.Cut(wire, "\r\n")
		switch {
		case !ended:
			return ""
		case line == "":
			r.whole = true
			return next
		case !strictField.MatchString(line):
			return ""
		}
		wire = next
	}
}

// connection returns the options of the Connection header, in lower case.
func (r *strictRequest) connection() (options []string) {
	for _, value := range r.header["connection"] {
		for option := range strings.SplitSeq(value, ",") {
			options = append(options, strings.ToLower(strings.Trim(option, " \t")))
		}
	}
	return options
}

// path is the path of the target, unescaped.
func (r *strictRequest) path() string {
	path, _, _ := strings.Cut(r.target, "?")
	if _, rest, absolute := strings.Cut(path, "://"); absolute && path[0] != '/' {
		_, path, _ = strings.Cut(rest, "/")
		path = "/" + path
	}
	path, _ = url.PathUnescape(path)
	return path
}

// isAllowed reports whether the request has the key of a user who may do this to /photos.
func (r *strictRequest) isAllowed() bool {
	keys := r.header["x-api-key"]
	return len(keys) == 1 && (keys[0] == userKey || keys[0] == readOnlyKey && (r.method == "GET" || r.method == "HEAD")) &&
		strings.HasPrefix(r.path(), "/photos")
}

// Requests that are read strictly have the framing of RFC 9112's own examples and texts.
func TestStrictReading(t *testing.T) {
	const get, put = "GET / HTTP/1.1\r\nHost: h\r\n", "PUT / HTTP/1.1\r\nHost: h\r\n"
	for _, test := range []struct {
		wire   string
		whole  int
		bodies string // of all, joined by "|"
	}{
		{get + "\r\n" + get + "\r\n", 2, "|"},
		{"\r\n" + put + "Content-Length: 5\r\n\r\nhello" + get + "\r\n", 2, "hello|"},
		{put + "Transfer-Encoding: chunked\r\n\r\n4;a=\"b\"\r\nWiki\r\n5\r\npedia\r\n0\r\nA: b\r\n\r\n" + get + "\r\n", 2, "Wikipedia|"},
		{get + "Connection: keep-alive, close\r\n\r\n" + get + "\r\n", 1, ""},
		{"GET / HTTP/1.0\r\n\r\n" + get + "\r\n", 1, ""},
		{"GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n" + get + "\r\n", 2, "|"},
		{put + "Content-Length: 6\r\n\r\nhello", 0, "hello"},
		{put + "Transfer-Encoding: chunked\r\n\r\n5\nhello\r\n0\r\n\r\n" + get + "\r\n", 0, ""},
		{get + "Transfer-Encoding: chunked\r\n\r\n0\r\nA: b\n\n" + get + "\r\n", 0, ""},
		{"GET / HTTP/1.1\r\n\r\n", 0, ""},
		{get + "Host: h\r\n\r\n", 0, ""},
		{strings.ReplaceAll(get, "\r\n", "\n") + "\n", 0, ""},
		{get + "A: b\r\n c\r\n\r\n", 0, ""},
		{get + "A : b\r\n\r\n", 0, ""},
		{put + "Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello", 0, ""},
		{put + "Content-Length: 5, 5\r\n\r\nhello", 0, ""},
		{put + "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 0, ""},
		{put + "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 0, ""},
		{"PUT / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 0, ""},
	} {
		whole, bodies := 0, []string{}
		for _, r := range strictRequests(test.wire) {
			if bodies = append(bodies, r.body); r.whole {
				whole++
			}
		}
		if whole != test.whole || strings.Join(bodies, "|") != test.bodies {
			t.Errorf("%q: %d whole requests with the bodies %q, want %d, %q", test.wire, whole, bodies, test.whole, test.bodies)
		}
	}
}

// A pipedBackend answers every request with an empty success, over connections in memory, so that
// everything that was sent to it is known when the requests have ended.
type pipedBackend struct {
	open     sync.WaitGroup
	mu       sync.Mutex // guards requests
	requests []strictRequest
	broken   []string // heads that are not beyond doubt
}

func (b *pipedBackend) dial(context.Context, string, string) (net.Conn, error) {
	gateway, backend := net.Pipe()
	b.open.Go(func() {
		defer backend.Close()
		for r := bufio.NewReader(backend); b.serve(r, backend); {
		}
	})
	return gateway, nil
}

// serve reads a request and answers it.
func (b *pipedBackend) serve(r *bufio.Reader, conn net.Conn) bool {
	head := ""
	for !strings.HasSuffix(head, "\r\n\r\n") {
		line, err := r.ReadString('\n')
		if head += line; err != nil {
			if head != "" {
				b.note(strictRequest{}, head)
			}
			return false
		}
	}
	request, _, ok := strictHead(head)
	if !ok || len(request.header["transfer-encoding"]) > 0 {
		b.note(strictRequest{}, head)
		return false
	}
	size, _ := strconv.ParseInt(cmp.Or(strings.Join(request.header["content-length"], ""), "0"), 10, 64)
	var body bytes.Buffer
	n, _ := io.CopyN(&body, r, size)
	request.body, request.whole = body.String(), n == size
	b.note(request, "")
	_, err := io.WriteString(conn, "HTTP/1.1 200 OK\r\nETag: \"e\"\r\nContent-Length: 0\r\n\r\n")
	return request.whole && err == nil
}

func (b *pipedBackend) note(r strictRequest, broken string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if broken != "" {
		b.broken = append(b.broken, broken)
		return
	}
	b.requests = append(b.requests, r)
}

// A feed is a listener whose connections tell when the server has read everything and waits for
// more. There is one connection at a time.
type feed struct {
	net.Listener
	handlers *atomic.Int64 // that run
	next     chan *feedConn
}

// A feedConn is the server's end of a connection.
type feedConn struct {
	tcpConn
	handlers *atomic.Int64
	left     int // bytes that were not read yet
	piece    int // largest read
	hungry   chan struct{}
	told     sync.Once
}

func (f feed) Accept() (net.Conn, error) {
	conn, err := f.Listener.Accept()
	if err != nil {
		return nil, err
	}
	c := <-f.next
	c.tcpConn, c.handlers = conn.(tcpConn), f.handlers
	return c, nil
}

// Read implements net.Conn. While a handler runs, net/http reads one byte to see the client leave;
// that is no sign of hunger.
func (c *feedConn) Read(p []byte) (int, error) {
	if c.left == 0 && (len(p) > 1 || c.handlers.Load() == 0) {
		c.told.Do(func() { close(c.hungry) })
	}
	n, err := c.tcpConn.Read(p[:min(len(p), c.piece)])
	c.left -= n
	return n, err
}

// A framingGateway is the front of the program, as serve wires it, before a pipedBackend.
type framingGateway struct {
	addr    string
	feed    feed
	service *service
	backend *pipedBackend
	log     *syncBuffer
}

func startFraming(t testing.TB) *framingGateway {
	t.Helper()
	data, err := json.Marshal(testConfig("http://backend.example"))
	if err != nil {
		t.Fatal(err)
	}
	conf, err := parseConfig(data, os.LookupEnv)
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	g := &framingGateway{addr: listener.Addr().String(), backend: &pipedBackend{}, log: &syncBuffer{}}
	p := &program{launch: launch{log: slog.New(slog.NewJSONHandler(g.log, nil))}, failed: make(chan error, 1), ended: make(chan error, 1)}
	if err := p.prepare(t.Context(), conf); err != nil {
		t.Fatal(err)
	}
	g.service = p.service
	for _, u := range p.service.current.Load().accounts {
		u.pool.dialer = g.backend.dial
	}
	g.feed = feed{limitConnections(listener, 100), new(atomic.Int64), make(chan *feedConn, 1)}
	server := p.serveFront(g.feed)
	handler := server.Handler
	server.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		g.feed.handlers.Add(1)
		defer g.feed.handlers.Add(-1)
		handler.ServeHTTP(w, r)
	})
	t.Cleanup(func() { server.Close() })
	return g
}

// send sends bytes on a connection, in pieces of a size as the server reads them, and returns what
// the backend got and what was logged. The client says that nothing follows when the server has read it all.
func (g *framingGateway) send(t *testing.T, wire string, piece int) (requests []strictRequest, broken []string, logged string) {
	t.Helper()
	c := &feedConn{left: len(wire), piece: piece, hungry: make(chan struct{})}
	g.feed.next <- c
	conn, err := net.Dial("tcp", g.addr)
	if err != nil {
		t.Fatal(err)
	}
	conn.SetDeadline(time.Now().Add(20 * time.Second))
	ended := make(chan struct{})
	var writer sync.WaitGroup
	writer.Go(func() {
		io.WriteString(conn, wire)
		select {
		case <-c.hungry:
		case <-ended:
		}
		conn.(*net.TCPConn).CloseWrite()
	})
	if _, err := io.Copy(io.Discard, conn); err != nil && strings.Contains(err.Error(), "timeout") {
		t.Errorf("the connection is still open after %q", wire)
	}
	close(ended)
	writer.Wait()
	conn.(*net.TCPConn).SetLinger(0) // leaves no port behind in TIME_WAIT
	conn.Close()
	for _, u := range g.service.current.Load().accounts {
		u.pool.closeIdle()
	}
	g.backend.open.Wait()
	g.backend.mu.Lock()
	defer g.backend.mu.Unlock()
	requests, broken = g.backend.requests, g.backend.broken
	g.backend.requests, g.backend.broken = nil, nil
	g.log.mu.Lock()
	defer g.log.mu.Unlock()
	logged = g.log.buf.String()
	g.log.buf.Reset()
	return requests, broken, logged
}

// words are what an input of FuzzFraming is made of: the byte 0x80 is the first of them, and so on.
// A byte below 0x80 is itself, and so is one after 0xff.
var words = []string{
	"GET /photos/k HTTP/1.1\r\nHost: h\r\nX-Api-Key: " + userKey + "\r\n",
	"PUT /photos/k HTTP/1.1\r\nHost: h\r\nX-Api-Key: " + userKey + "\r\n",
	"GET /photos/next HTTP/1.1\r\nHost: h\r\nX-Api-Key: " + readOnlyKey + "\r\n\r\n",
	"DELETE /photos/smuggled HTTP/1.1\r\nHost: h\r\nX-Api-Key: " + userKey + "\r\n\r\n",
	"GET /-/healthy HTTP/1.1\r\nHost: h\r\n", "X-Amz-Content-Sha256: STREAMING-UNSIGNED-PAYLOAD-TRAILER\r\nX-Amz-Trailer: x-amz-checksum-crc32\r\nX-Amz-Decoded-Content-Length: 4\r\n",
	trailerStream("meow", "x-amz-checksum-crc32", crc32Of("meow")), fmt.Sprintf("%x", len(trailerStream("meow", "x-amz-checksum-crc32", crc32Of("meow")))),
	"X-Api-Key: " + userKey + "\r\n", "Host: h\r\n", "Transfer-Encoding: chunked\r\n", "Transfer-Encoding:", "Content-Length: 5\r\n", "Content-Length: 0\r\n", "Content-Length:",
	"Connection: close\r\n", "Connection: keep-alive\r\n", "Connection: x-amz-meta-a\r\n", "X-Amz-Meta-A: 1\r\n", "Connection:", "Expect: 100-continue\r\n", "Upgrade: websocket\r\n",
	"Trailer: X-Api-Key\r\n", "TE: trailers\r\n", "Keep-Alive: timeout=5\r\n", "Proxy-Connection: keep-alive\r\n",
	"5\r\nhello\r\n", "5;a=b\r\nhello\r\n", "5\nhello\r\n", "0\r\n\r\n", "0\r\n", "0\n\n", "hello", "A: b\r\n", "A: b\n", "A:\r\n b\r\n", "\r\n\r\n", "\r\n",
	"GET ", "PUT ", "POST ", "HEAD ", "DELETE ", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "/photos/", "http://h", " HTTP/1.1\r\n", " HTTP/1.0\r\n", "chunked", "identity", "gzip, ", "close", "keep-alive",
	"?partNumber=1&uploadId=u", "?tagging", "?delete",
}

const (
	firstWord = 0x80
	itself    = 0xff
)

// spelled returns the bytes that are sent for an input.
func spelled(input []byte) string {
	var wire strings.Builder
	for i := 0; i < len(input); i++ {
		switch c := input[i]; {
		case c == itself && i+1 < len(input):
			i++
			wire.WriteByte(input[i])
		case c >= firstWord && int(c-firstWord) < len(words):
			wire.WriteString(words[c-firstWord])
		default:
			wire.WriteByte(c)
		}
	}
	return wire.String()
}

// inWords returns an input for bytes to be sent.
func inWords(wire string) []byte {
	var input []byte
	for wire != "" {
		best := -1
		for i, word := range words {
			if strings.HasPrefix(wire, word) && (best < 0 || len(word) > len(words[best])) {
				best = i
			}
		}
		switch {
		case best >= 0:
			input = append(input, byte(firstWord+best))
			wire = wire[len(words[best]):]
			continue
		case wire[0] >= firstWord:
			input = append(input, itself)
		}
		input = append(input, wire[0])
		wire = wire[1:]
	}
	return input
}

// Whatever a client sends on a connection, a backend gets only requests that are there beyond doubt,
// in their order, each from a user who may, with its body or a part that can't be taken for it, and
// without what is meant for this connection alone.
func FuzzFraming(f *testing.F) {
	const get, put, next = "GET /photos/k HTTP/1.1\r\nHost: h\r\nX-Api-Key: " + userKey + "\r\n", "PUT /photos/k HTTP/1.1\r\nHost: h\r\nX-Api-Key: " + userKey + "\r\n",
		"GET /photos/next HTTP/1.1\r\nHost: h\r\nX-Api-Key: " + readOnlyKey + "\r\n\r\n"
	const smuggled = "DELETE /photos/smuggled HTTP/1.1\r\nHost: h\r\nX-Api-Key: " + userKey + "\r\n\r\n"
	const chunked, length = "Transfer-Encoding: chunked\r\n", "Content-Length: 5\r\n"
	const aws = "X-Amz-Content-Sha256: STREAMING-UNSIGNED-PAYLOAD-TRAILER\r\nX-Amz-Trailer: x-amz-checksum-crc32\r\nX-Amz-Decoded-Content-Length: 4\r\n"
	stream := trailerStream("meow", "x-amz-checksum-crc32", crc32Of("meow"))
	for _, wire := range []string{
		get + "\r\n" + next, put + length + "\r\nhello" + next, put + aws + chunked + "\r\n" + fmt.Sprintf("%x\r\n%s\r\n0\r\n\r\n", len(stream), stream) + next,
		get + chunked + "\r\n5\r\nhello\r\n0\r\nA: b\r\n\r\n" + next, get + "Connection: close\r\n\r\n" + smuggled, put + length + "\r\nhel",
		get + "Connection: x-amz-meta-a\r\nX-Amz-Meta-A: 1\r\n\r\n" + next, get + "Connection: keep-alive, TE\r\nTE: trailers\r\nKeep-Alive: timeout=5\r\n\r\n" + next,
		get + length + chunked + "\r\n0\r\n\r\n" + smuggled, put + length + length + "\r\nhello" + smuggled, get + "A: b\r\n c\r\n\r\n" + smuggled,
		strings.ReplaceAll(get, "\r\n", "\n") + "\n" + smuggled, get + "A: b\n\r\n" + smuggled, get + "\n" + smuggled,
		get + chunked + "\r\n5\nhello\r\n0\r\n\r\n" + smuggled, get + chunked + "\r\n0\r\nA: b\n\n" + smuggled, get + chunked + "\r\n0\r\nA:\r\n b\r\n\r\n" + smuggled,
		"GET /-/healthy HTTP/1.1\r\nHost: h\r\n\r\n" + get + length + chunked + "\r\n0\r\n\r\n" + smuggled,
		strings.Replace(get, "1.1", "1.0", 1) + "Connection: keep-alive\r\n" + chunked + "\r\n0\r\n\r\n" + smuggled,
		get + "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n" + smuggled, put + "Expect: 100-continue\r\n" + length + "\r\nhello" + next,
		"POST /photos/k HTTP/1.1\r\nHost: h\r\nX-Api-Key: " + userKey + "\r\nContent-Length: 0\r\n\r\n\n\r" + next,
		"POST /photos/k HTTP/1.1\r\nHost: h\r\nX-Api-Key: " + userKey + "\r\nContent-Length: 0\r\n\r\n\r\r\n" + next,
		"GET http://h/photos/%6b?versionId=v HTTP/1.1\r\nHost: h\r\nX-Api-Key: " + userKey + "\r\n\r\n" + next,
		"GET /photos/k HTTP/1.1\r\nHost: h\r\n" + chunked + "\r\n0\r\nX-Api-Key: " + userKey + "\r\n\r\n" + next,
	} {
		f.Add(inWords(wire), math.MaxInt)
		f.Add(inWords(wire), 1)
	}
	g := startFraming(f)
	f.Fuzz(func(t *testing.T, input []byte, piece int) {
		wire := spelled(input)
		piece = max(1, piece)
		requests, broken, logged := g.send(t, wire, piece)
		if strings.Contains(logged, "panic") {
			t.Fatalf("%q: a panic:\n%s", wire, logged)
		}
		if len(broken) > 0 {
			t.Fatalf("%q: the backend got %q, which can be doubted", wire, broken)
		}
		expected := strictRequests(wire)
		wantNoDoubt(t, wire, piece, len(expected))
		for _, got := range requests {
			i := slices.IndexFunc(expected, func(r strictRequest) bool {
				return r.method == got.method && r.path() == got.path() && r.isAllowed()
			})
			if i < 0 {
				t.Fatalf("%q: the backend got %s %s, which nobody who may has sent beyond doubt", wire, got.method, got.target)
			}
			if problem := got.differsFrom(expected[i]); problem != "" {
				t.Fatalf("%q: the backend got %s %s with %s", wire, got.method, got.target, problem)
			}
			expected = expected[i+1:]
		}
	})
}

// wantNoDoubt fails the test if a follower doubts one of the first n requests.
func wantNoDoubt(t *testing.T, wire string, piece, n int) {
	t.Helper()
	var f follower
	for b := range slices.Chunk([]byte(wire), piece) {
		f.follow(b)
	}
	for i := range n {
		if head := f.next(); (!head.known || head.doubt != "") && strings.Count(wire, "HTTP/1.") < maxFollowedHeads {
			t.Fatalf("%q: the follower doubts request %d: %+v", wire, i, head)
		}
	}
}

// differsFrom returns what is wrong with a request that a backend got for the client's, or "".
func (r *strictRequest) differsFrom(client strictRequest) string {
	isFramed := len(client.header["x-amz-content-sha256"]) > 0 // in aws-chunked
	switch {
	case r.method != "PUT" && r.method != "POST" && r.body != "":
		return "a body"
	case r.method == "PUT" && r.whole && !client.whole:
		return "the whole of a body that did not arrive whole"
	case r.method == "PUT" && r.whole && !isFramed && r.body != client.body, !r.whole && !isFramed && !strings.HasPrefix(client.body, r.body):
		return "another body"
	}
	for _, name := range append(client.connection(), "connection", "keep-alive", "te", "trailer", "upgrade", "proxy-connection", "transfer-encoding", "expect", "x-api-key") {
		if len(r.header[name]) > 0 {
			return "the header " + name
		}
	}
	return ""
}

package main

// Fault proxies: each stands before a backend, passes bytes on, and breaks what a network and
// a backend can break. It knows as much of HTTP/1.1 as it needs to break it at a place.

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/textproto"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// The faults. Those of a request happen before its answer, those of an answer to it.
const (
	faultRefuse       = "connection reset at once"
	faultResetRequest = "reset after the request's head"
	faultResetBody    = "reset within the request's body"
	faultLost         = "reset before the answer"
	faultSlow         = "late answer"
	faultStall        = "no answer"
	faultSlowDown     = "SlowDown"
	faultTooMany      = "429"
	faultInternal     = "InternalError"
	faultEarly        = "error before the body is read"
	faultGarbage      = "garbage in place of an answer"
	faultInterim      = "interim answers"
	faultHead         = "reset within the answer's head"
	faultCut          = "reset within the answer's body"
	faultShort        = "answer's body cut by a close"
	faultStallBody    = "stall within the answer's body"
	faultChunks       = "truncated chunks"
	faultSurplus      = "surplus bytes after the answer"
	faultClose        = "silent close after the answer"
	faultRange        = "another range than was asked for"
	faultOutage       = "outage"
)

// faults with how often they are chosen. Most faults that are met in practice cut an answer.
var faults = []choice[struct{}]{
	{name: faultRefuse, weight: 4}, {name: faultResetRequest, weight: 4}, {name: faultResetBody, weight: 4},
	{name: faultLost, weight: 4}, {name: faultSlow, weight: 4}, {name: faultStall, weight: 1},
	{name: faultSlowDown, weight: 4}, {name: faultTooMany, weight: 2}, {name: faultInternal, weight: 2},
	{name: faultEarly, weight: 4}, {name: faultGarbage, weight: 3}, {name: faultInterim, weight: 4},
	{name: faultHead, weight: 4}, {name: faultCut, weight: 14}, {name: faultShort, weight: 14},
	{name: faultStallBody, weight: 1}, {name: faultChunks, weight: 6}, {name: faultSurplus, weight: 6},
	{name: faultClose, weight: 6}, {name: faultRange, weight: 3},
}

// planted is what garbage and surplus bytes hold. A client that ever sees it has got an
// answer that was not for it.
const planted = "planted by a fault"

// A faultProxy stands before a backend.
type faultProxy struct {
	ledger  *ledger
	backend string // address
	address string
	ratio   atomic.Int64 // of requests that meet a fault, in a thousand
	stall   time.Duration

	mu       sync.Mutex // guards the rest
	random   *rand.Rand
	listener net.Listener // nil: an outage
	conns    map[net.Conn]bool
}

// startFaultProxy stands before a backend, on a port of its own.
func startFaultProxy(l *ledger, backend string, seed uint64, stall time.Duration) (*faultProxy, error) {
	p := &faultProxy{ledger: l, backend: backend, stall: stall, random: rand.New(rand.NewPCG(seed, 1)), conns: map[net.Conn]bool{}, address: "127.0.0.1:0"}
	return p, p.open()
}

// open accepts connections, on the port of before if there was one.
func (p *faultProxy) open() error {
	listener, err := net.Listen("tcp", p.address)
	if err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.listener, p.address = listener, listener.Addr().String()
	go func() {
		for {
			c, err := listener.Accept()
			if err != nil {
				return
			}
			go p.serve(c)
		}
	}()
	return nil
}

// shut refuses connections, and resets those that are open.
func (p *faultProxy) shut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.listener.Close()
	for c := range p.conns {
		reset(c)
	}
	p.ledger.count("fault "+faultOutage, 1)
}

// fault decides what happens to a request.
func (p *faultProxy) fault() (name string, n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.random.Int64N(1000) >= p.ratio.Load() {
		return "", 0
	}
	return choose(p.random, faults).name, p.random.IntN(1 << 30)
}

// liesAboutRange is how many of a thousand requests for the rest of a download get another
// range. There are few such requests, so this is chosen apart from the other faults.
const liesAboutRange = 200

// chance is true for so many calls of a thousand, unless the faults have ended.
func (p *faultProxy) chance(perMille int) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.ratio.Load() > 0 && p.random.IntN(1000) < perMille
}

// reset closes a connection so that its peer sees an error.
func reset(c net.Conn) {
	if t, ok := c.(*net.TCPConn); ok {
		t.SetLinger(0)
	}
	c.Close()
}

// errEnd ends a connection that a fault has finished with.
var errEnd = errors.New("the connection ends")

// A relay is a connection of the gateway and the one to the backend that belongs to it.
type relay struct {
	*faultProxy
	front, back             net.Conn
	frontReader, backReader *bufio.Reader
}

func (p *faultProxy) serve(front net.Conn) {
	defer reset(front)
	p.mu.Lock()
	p.conns[front] = true
	p.mu.Unlock()
	defer func() {
		p.mu.Lock()
		delete(p.conns, front)
		p.mu.Unlock()
	}()
	back, err := net.Dial("tcp", p.backend)
	if err != nil {
		return
	}
	defer reset(back)
	r := &relay{p, front, back, bufio.NewReader(front), bufio.NewReader(back)}
	for {
		if err := r.request(); err != nil {
			if err == io.EOF {
				front.Close()
			}
			return
		}
	}
}

// A message is the head of a request or an answer.
type message struct {
	head   []byte // as received, with the empty line
	line   string // the first one
	header http.Header
	length int64 // of the body; -1: chunked
}

// readMessage reads a head.
func readMessage(r *bufio.Reader) (*message, error) {
	var head bytes.Buffer
	for {
		line, err := r.ReadBytes('\n')
		if err != nil {
			if head.Len() > 0 || len(line) > 0 {
				err = unexpected(err)
			}
			return nil, err
		}
		head.Write(line)
		if len(bytes.TrimRight(line, "\r\n")) == 0 {
			break
		}
	}
	m := &message{head: head.Bytes()}
	first, rest, _ := strings.Cut(head.String(), "\r\n")
	fields, err := textproto.NewReader(bufio.NewReader(strings.NewReader(rest))).ReadMIMEHeader()
	if err != nil {
		return nil, err
	}
	m.line, m.header = first, http.Header(fields)
	if m.header.Get("Transfer-Encoding") != "" {
		m.length = -1
	} else if s := m.header.Get("Content-Length"); s != "" {
		m.length, err = strconv.ParseInt(s, 10, 64)
	}
	return m, err
}

// request relays one request and its answer.
func (r *relay) request() error {
	m, err := readMessage(r.frontReader)
	if err != nil {
		return err
	}
	method, rest, _ := strings.Cut(m.line, " ")
	target, _, _ := strings.Cut(rest, " ")
	if !r.ledger.arrived(method, target, m.header) {
		return errEnd
	}
	fault, n := r.fault()
	// The clients send no If-Match with a Range, so a request with both continues a download.
	switch resumes := m.header.Get("Range") != "" && m.header.Get("If-Match") != ""; {
	case resumes && r.chance(liesAboutRange):
		fault = faultRange
	case !resumes && fault == faultRange:
		fault = faultCut
	}
	if fault == faultResetBody && m.length == 0 {
		fault = faultResetRequest
	}
	if fault != "" {
		r.ledger.injected(traceOf(m.header), fault)
	}
	if err := r.sendRequest(m, fault, n); err != nil {
		return err
	}
	answer, err := readMessage(r.backReader)
	if err != nil {
		return err
	}
	if method == http.MethodHead || strings.Contains(answer.line, " 204 ") || strings.Contains(answer.line, " 304 ") {
		answer.length = 0
	}
	return r.answer(answer, fault, n)
}

// sendRequest passes a request on. A fault may answer it in the backend's place, or not at all.
func (r *relay) sendRequest(m *message, fault string, n int) error {
	switch fault {
	case faultRefuse, faultResetRequest:
		return errEnd
	case faultGarbage:
		io.WriteString(r.front, "\x16\x03\x01 "+planted+"\r\n\r\n")
		return r.finish()
	case faultEarly, faultSlowDown, faultTooMany, faultInternal:
		r.refuse(fault, n)
		return r.finish()
	case faultRange:
		return r.lie(m, n)
	}
	if _, err := r.back.Write(m.head); err != nil {
		return err
	}
	if fault == faultResetBody {
		io.CopyN(r.back, r.frontReader, int64(n)%m.length)
		return errEnd
	}
	_, err := io.CopyN(r.back, r.frontReader, m.length)
	return err
}

// finish waits for the gateway to close the connection, after an answer that leaves it in
// doubt, so that the answer is not lost in a reset.
func (r *relay) finish() error {
	r.front.SetReadDeadline(time.Now().Add(r.stall))
	io.Copy(io.Discard, r.frontReader)
	return errEnd
}

// lie answers a request for the rest of an object with as many bytes from another place of it.
func (r *relay) lie(m *message, n int) error {
	var first, last int64
	fmt.Sscanf(m.header.Get("Range"), "bytes=%d-%d", &first, &last)
	length := last - first + 1
	status, span := "206 Partial Content", fmt.Sprintf("Content-Range: bytes %d-%d/%d\r\n", first+1, last+1, last+2)
	if n%2 == 0 {
		status, span = "200 OK", ""
	}
	fmt.Fprintf(r.front, "HTTP/1.1 %s\r\n%sContent-Length: %d\r\nETag: %s\r\n\r\n", status, span, length, m.header.Get("If-Match"))
	io.CopyN(r.front, newContent(uint64(n), length).reader(), length)
	return r.finish()
}

// refuse answers with an error, without the body being read.
func (r *relay) refuse(fault string, n int) {
	status, code, more := "503 Slow Down", "SlowDown", ""
	switch fault {
	case faultTooMany:
		status, code, more = "429 Too Many Requests", "TooManyRequests", "Retry-After: 1\r\n"
	case faultInternal:
		status, code = "500 Internal Server Error", "InternalError"
	case faultEarly:
		status, code = "400 Bad Request", "InvalidRequest"
	case faultSlowDown:
		if n%2 == 0 {
			more = "Retry-After: 0\r\n"
		}
	}
	body := "<Error><Code>" + code + "</Code><Message>the proxy says so</Message></Error>"
	fmt.Fprintf(r.front, "HTTP/1.1 %s\r\nContent-Type: application/xml\r\n%sConnection: close\r\nContent-Length: %d\r\n\r\n%s", status, more, len(body), body)
}

// answer passes an answer on, with a fault or without.
func (r *relay) answer(m *message, fault string, n int) error {
	switch fault {
	case faultLost:
		return errEnd
	case faultStall:
		return r.finish()
	case faultSlow:
		time.Sleep(time.Duration(n % int(r.stall/2)))
	case faultInterim:
		io.WriteString(r.front, "HTTP/1.1 103 Early Hints\r\nLink: </x>; rel=preload\r\n\r\nHTTP/1.1 102 Processing\r\n\r\n")
	case faultHead:
		r.front.Write(m.head[:n%len(m.head)])
		return errEnd
	case faultChunks:
		return r.truncatedChunks(m, n)
	case faultCut, faultShort, faultStallBody:
		return r.cut(m, fault, n)
	}
	// The last bytes of an answer and surplus bytes leave in one write. What comes later, when the
	// next request is sent already, nobody could tell from its answer.
	out := bufio.NewWriterSize(r.front, 16<<10)
	out.Write(m.head)
	if err := r.body(out, m); err != nil {
		return err
	}
	if fault == faultSurplus {
		fmt.Fprintf(out, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\nETag: \"planted\"\r\n\r\n%s", len(planted), planted)
	}
	if err := out.Flush(); err != nil {
		return err
	}
	if fault == faultClose {
		r.front.Close()
		return errEnd
	}
	return nil
}

// body passes the body of an answer on.
func (r *relay) body(out *bufio.Writer, m *message) error {
	if m.length >= 0 {
		_, err := io.CopyN(onlyWriter{out}, r.backReader, m.length)
		return err
	}
	for {
		line, err := r.backReader.ReadString('\n')
		if err != nil {
			return err
		}
		out.WriteString(line)
		size, err := strconv.ParseInt(strings.TrimSpace(line), 16, 64)
		if err != nil {
			return err
		}
		if _, err := io.CopyN(onlyWriter{out}, r.backReader, size+2); err != nil || size == 0 {
			return err
		}
	}
}

// An onlyWriter keeps io.Copy from using ReadFrom, which would empty the buffer first.
type onlyWriter struct{ io.Writer }

// cut passes on a part of an answer's body. A body of chunks is cut within its first ones.
func (r *relay) cut(m *message, fault string, n int) error {
	r.front.Write(m.head)
	if m.length > 0 {
		io.CopyN(r.front, r.backReader, int64(n)%m.length)
	} else if m.length < 0 {
		io.CopyN(r.front, r.backReader, int64(n%200))
	}
	switch fault {
	case faultShort:
		r.front.Close()
	case faultStallBody:
		return r.finish()
	}
	return errEnd
}

// truncatedChunks sends an answer as chunks, of which the last is missing.
func (r *relay) truncatedChunks(m *message, n int) error {
	if m.length <= 0 {
		return r.cut(m, faultCut, n)
	}
	var head bytes.Buffer
	head.WriteString(m.line + "\r\n")
	for name, values := range m.header {
		if name != "Content-Length" {
			fmt.Fprintf(&head, "%s: %s\r\n", name, values[0])
		}
	}
	size := m.length - int64(n)%m.length // of the only chunk: some of the body, or all
	fmt.Fprintf(&head, "Transfer-Encoding: chunked\r\n\r\n%x\r\n", size)
	r.front.Write(head.Bytes())
	io.CopyN(r.front, r.backReader, size)
	if n%2 == 0 {
		io.WriteString(r.front, "\r\n")
	}
	r.front.Close()
	return errEnd
}

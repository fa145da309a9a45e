//go:build linux

package main

// The clients: each sends one request after the other on a connection of its own,
// and checks each answer. They take little CPU themselves, for the proxy has to
// share the machine with them.

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http/httputil"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

const (
	patience   = 30 * time.Second // for an answer, after which the run fails
	pieceSize  = 256 << 10        // bytes of a large body that are read or written at once
	smallBody  = 64 << 10         // bytes; a body up to this goes with its head in one write
	maxMessage = 300              // bytes of an answer that is an error, in the message about it
)

// A request is what clients send over and over.
type request struct {
	name  string // for messages
	start []byte // its head, and its body if that is small
	rest  int64  // bytes of the body that follow
	want  int64  // bytes of the answer; -1: any number but 0
	fails bool   // the answer is to be 502 or 503
}

// newRequest makes the request of the user who has this key. An upload is body zeros.
func newRequest(method, target, key string, body, want int64) request {
	r := request{name: method + " " + target, rest: body, want: want}
	r.start = fmt.Appendf(nil, "%s %s HTTP/1.1\r\nHost: bench\r\nX-Api-Key: %s\r\nUser-Agent: bench\r\n", method, target, key)
	if method == "PUT" {
		r.start = fmt.Appendf(r.start, "Content-Type: application/octet-stream\r\nContent-Length: %d\r\n", body)
	}
	r.start = append(r.start, "\r\n"...)
	if body <= smallBody {
		r.start = append(r.start, make([]byte, body)...)
		r.rest = 0
	}
	return r
}

// failing returns the same request, to which the gateway is to answer that the backend fails.
func (r request) failing() request {
	r.fails = true
	return r
}

// A load is a number of clients whose connections are open.
type load []*client

// newLoad opens connections, one after the other, and sends each request once: what a
// proxy sets up once is there after it.
func newLoad(addr string, requests []request, conns int) (load, error) {
	l, err := connect(addr, requests, conns)
	if err != nil {
		return nil, err
	}
	for _, c := range l {
		for range (len(requests) + conns - 1) / conns {
			if _, err := c.run(time.Now()); err != nil {
				l.close()
				return nil, err
			}
		}
	}
	return l, nil
}

// connect opens connections. Client i begins with request i and goes on with i+conns, so
// that together they go through all.
func connect(addr string, requests []request, conns int) (load, error) {
	var l load
	for i := range conns {
		conn, err := net.Dial("tcp", addr)
		if err != nil {
			l.close()
			return nil, err
		}
		c := &client{conn: conn, reader: bufio.NewReaderSize(conn, 16<<10), requests: requests, next: i % len(requests), step: conns}
		l = append(l, c)
		if slices.ContainsFunc(requests, func(r request) bool { return max(r.rest, r.want) > smallBody }) {
			c.piece = make([]byte, pieceSize)
		}
	}
	return l, nil
}

// pace makes the clients send a request each time that every has passed, one after the
// other and not all at once.
func (l load) pace(every time.Duration) {
	for i, c := range l {
		c.every, c.first = every, every*time.Duration(i)/time.Duration(len(l))
	}
}

// run sends requests for a while, at least one on each connection, and returns how
// long each took. Without a client it only lets the time pass.
func (l load) run(duration time.Duration) ([]time.Duration, error) {
	if len(l) == 0 {
		time.Sleep(duration)
	}
	deadline := time.Now().Add(duration)
	var mu sync.Mutex // guards latencies and failure
	var latencies []time.Duration
	var failure error
	var running sync.WaitGroup
	for _, c := range l {
		running.Go(func() {
			took, err := c.run(deadline)
			mu.Lock()
			defer mu.Unlock()
			latencies = append(latencies, took...)
			if err != nil && failure == nil {
				failure = err
			}
		})
	}
	running.Wait()
	return latencies, failure
}

func (l load) close() {
	for _, c := range l {
		c.conn.Close()
	}
}

// A client is used by one goroutine at a time.
type client struct {
	conn     net.Conn
	reader   *bufio.Reader
	requests []request
	next     int
	step     int
	every    time.Duration // from one request to the next; 0: as soon as there is an answer
	first    time.Duration // before the first one
	piece    []byte        // zeros to send, and room for what is read; nil if all bodies are small
}

// run sends requests until a deadline, at least one. A request that was due before the
// answer to the previous one counts from then: it had to wait. One for which the client
// slept counts from its waking up, for timers may be late by more than an answer takes.
func (c *client) run(deadline time.Time) (latencies []time.Duration, err error) {
	c.conn.SetDeadline(deadline.Add(patience))
	for due := time.Now().Add(c.first); ; {
		r := c.requests[c.next]
		c.next = (c.next + c.step) % len(c.requests)
		started := time.Now()
		if c.every > 0 {
			if started = due; time.Until(due) > 0 {
				time.Sleep(time.Until(due))
				started = time.Now()
			}
			due = due.Add(c.every)
		}
		if err := c.do(r); err != nil {
			return nil, fmt.Errorf("%s: %w", r.name, err)
		}
		now := time.Now()
		latencies = append(latencies, now.Sub(started))
		if !now.Before(deadline) || c.every > 0 && !due.Before(deadline) {
			return latencies, nil
		}
	}
}

// do sends one request and reads the answer.
func (c *client) do(r request) error {
	if err := c.send(r); err != nil {
		return err
	}
	a, err := readHead(c.reader)
	if err != nil {
		return err
	}
	if r.fails != (a.status == 502 || a.status == 503) || !r.fails && a.status != 200 {
		message, _ := c.reader.Peek(min(c.reader.Buffered(), maxMessage))
		return fmt.Errorf("answer %d: %s", a.status, message)
	}
	n, err := c.discard(a)
	switch {
	case err != nil:
		return err
	case n != r.want && r.want >= 0, n == 0 && r.want < 0:
		return fmt.Errorf("answer of %d bytes, want %d", n, r.want)
	}
	return nil
}

func (c *client) send(r request) error {
	if _, err := c.conn.Write(r.start); err != nil {
		return err
	}
	for left := r.rest; left > 0; {
		n, err := c.conn.Write(c.piece[:min(pieceSize, left)])
		if err != nil {
			return err
		}
		left -= int64(n)
	}
	return nil
}

// An answer is what there is to know from its head.
type answer struct {
	status int
	length int64 // of the body; -1 if it is chunked
}

// readHead reads the head of an answer: RFC 9112 sections 4 and 5, as far as
// servers that are under our control go.
func readHead(r *bufio.Reader) (answer, error) {
	line, err := r.ReadSlice('\n')
	if err != nil {
		return answer{}, noEOF(err)
	}
	var a answer
	if len(line) < len("HTTP/1.1 200") || !bytes.HasPrefix(line, []byte("HTTP/1.")) {
		return a, fmt.Errorf("not the start of an answer: %q", line)
	}
	if a.status, err = strconv.Atoi(string(line[9:12])); err != nil {
		return a, fmt.Errorf("not the start of an answer: %q", line)
	}
	framed := false
	for {
		if line, err = r.ReadSlice('\n'); err != nil {
			return a, noEOF(err)
		}
		name, value, _ := bytes.Cut(bytes.TrimRight(line, "\r\n"), []byte(":"))
		switch {
		case len(name) == 0:
			if !framed {
				return a, errors.New("answer without a length")
			}
			return a, nil
		case bytes.EqualFold(name, []byte("Content-Length")):
			if a.length, err = strconv.ParseInt(strings.TrimSpace(string(value)), 10, 64); err != nil {
				return a, err
			}
			framed = true
		case bytes.EqualFold(name, []byte("Transfer-Encoding")):
			a.length, framed = -1, true
		}
	}
}

// discard reads the body of an answer, and returns its length.
func (c *client) discard(a answer) (int64, error) {
	if a.length < 0 {
		n, err := io.Copy(io.Discard, httputil.NewChunkedReader(c.reader))
		if err != nil {
			return n, err
		}
		for { // trailers, and the empty line after them
			line, err := c.reader.ReadSlice('\n')
			if err != nil || len(bytes.TrimSpace(line)) == 0 {
				return n, noEOF(err)
			}
		}
	}
	if c.piece == nil {
		n, err := c.reader.Discard(int(a.length))
		return int64(n), noEOF(err)
	}
	for left := a.length; left > 0; {
		n, err := c.reader.Read(c.piece[:min(pieceSize, left)])
		if left -= int64(n); err != nil && left > 0 {
			return a.length - left, noEOF(err)
		}
	}
	return a.length, nil
}

// noEOF is for where an end is too early.
func noEOF(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}

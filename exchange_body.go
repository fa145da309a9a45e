package main

// The client's body, as everything behind the gateway's edge reads it.

import (
	"context"
	"errors"
	"io"
	"net/http"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

// A requestBody is the client's body: counted, and cut off when the client
// sends nothing for the idle time. It remembers how it ended, because what a
// transport says of a failed upload does not tell whose fault it was.
type requestBody struct {
	x        *exchange
	body     io.ReadCloser
	in       flow
	reads    *pulse          // of the client; nil: not watched
	ctx      context.Context // of the request; done when interrupt is called, if the body is limited
	stop     context.CancelFunc
	received atomic.Int64
	done     atomic.Bool
	err      atomic.Pointer[error]

	mu          sync.Mutex // guards the rest
	reading     bool       // a Read waits for the client, or is about to
	interrupted bool       // no Read may wait any more
}

// Read implements io.Reader.
func (b *requestBody) Read(p []byte) (int, error) {
	if err := b.in.wait(b.ctx, 0); err != nil {
		return 0, err
	}
	var n int
	err := os.ErrDeadlineExceeded // as of a Read that is interrupted
	if b.mayRead() {
		b.reads.begin(b.x.idle)
		n, err = b.body.Read(p[:min(len(p), b.in.chunk())])
		b.reads.end()
		b.hasRead()
	}
	b.in.take(n)
	b.received.Add(int64(n))
	if err == io.EOF && b.isMalformed() {
		err = io.ErrUnexpectedEOF
	}
	switch {
	case err == io.EOF:
		b.done.Store(true)
	case err != nil && !errors.Is(err, http.ErrBodyReadAfterClose):
		b.err.Store(&err)
	}
	return n, err
}

// isMalformed reports whether a body that has ended is not as long as its
// Content-Length: RFC 9113 section 8.1.1. net/http sees to it in HTTP/1.1, but in
// HTTP/2 not if the request ended with its headers, or the header is no number or
// given twice.
func (b *requestBody) isMalformed() bool {
	lengths := b.x.r.Header["Content-Length"]
	if b.x.r.ProtoMajor == 1 || len(lengths) == 0 {
		return false
	}
	return len(lengths) > 1 || lengths[0] != strconv.FormatInt(b.received.Load(), 10)
}

// interrupt makes a Read that waits for the client return, and later ones fail.
func (b *requestBody) interrupt() {
	b.stop()
	b.mu.Lock()
	defer b.mu.Unlock()
	b.interrupted = true
	// Only for a Read that waits: from the end of the body on, net/http reads from the
	// connection to see the client leave, and takes a deadline that has passed for that.
	if b.reading && !b.done.Load() {
		b.x.control.SetReadDeadline(time.Now())
	}
}

// wasInterrupted reports whether interrupt was called.
func (b *requestBody) wasInterrupted() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.interrupted
}

// mayRead reports whether a Read may begin. Then hasRead must follow it.
func (b *requestBody) mayRead() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.reading = !b.interrupted
	return b.reading
}

func (b *requestBody) hasRead() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.reading = false
}

// failure is the client's error for a body that did not arrive whole, or nil.
func (b *requestBody) failure() *apiError {
	err := b.err.Load()
	if err == nil {
		return nil
	}
	e := newError("IncompleteBody", "")
	if errors.Is(*err, os.ErrDeadlineExceeded) {
		e = newError("RequestTimeout", "")
	}
	if e.cause = b.reads.stalled(); e.cause == nil {
		e.cause = *err
	}
	return e
}

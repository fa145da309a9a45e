package main

// The client's body, for whatever reads it: an upload, a document, or the rest of one. It
// knows nothing of what the body is for.

import (
	"context"
	"errors"
	"io"
	"net/http"
	"os"
	"strconv"
	"sync"
	"time"
)

// drainTimeout bounds how long a client may take to send the rest of an unread body, and
// maxDrain how many bytes of it are read.
const (
	drainTimeout = 5 * time.Second
	maxDrain     = 256 << 10
)

// A requestBody is the client's body. It counts bytes, and fails when the client sends
// nothing for the idle time. It remembers its error, because the error of a failed upload
// does not tell which side failed. It belongs to the goroutine of its request, except for
// interrupt and wasInterrupted.
type requestBody struct {
	r       *http.Request
	body    io.ReadCloser
	control *http.ResponseController
	idle    time.Duration
	in      flow            // the user's bandwidth
	reads   *pulse          // of the client; nil: not watched
	ctx     context.Context // of the request; done when interrupt is called, if the body is limited
	stop    context.CancelFunc

	received int64 // bytes
	err      error // that ended the body early

	mu          sync.Mutex // guards the rest
	reading     bool       // a Read waits for the client, or is about to
	done        bool       // the end was read
	interrupted bool       // no Read may wait from now on
}

func newRequestBody(r *http.Request, control *http.ResponseController, idle time.Duration) requestBody {
	return requestBody{r: r, body: r.Body, control: control, idle: idle, ctx: r.Context(), stop: func() {}}
}

// Read implements io.Reader.
func (b *requestBody) Read(p []byte) (int, error) {
	if err := b.in.wait(b.ctx, 0); err != nil {
		return 0, err
	}
	var n int
	err := os.ErrDeadlineExceeded // as of a Read that is interrupted
	if b.mayRead() {
		b.reads.begin(b.idle)
		n, err = b.body.Read(p[:min(len(p), b.in.chunk())])
		b.reads.end()
		b.received += int64(n)
		if err == io.EOF && b.isMalformed() {
			err = io.ErrUnexpectedEOF
		}
		b.hasRead(err)
	}
	b.in.take(n)
	if err != nil && err != io.EOF && !errors.Is(err, http.ErrBodyReadAfterClose) {
		b.err = err
	}
	return n, err
}

// isMalformed reports whether a body that has ended is not as long as its
// Content-Length: RFC 9113 section 8.1.1. net/http checks that in HTTP/1.1. In HTTP/2 it
// does not if the request ended with its headers, or if the header is not a number or is
// given twice.
func (b *requestBody) isMalformed() bool {
	lengths := b.r.Header["Content-Length"]
	if b.r.ProtoMajor == 1 || len(lengths) == 0 {
		return false
	}
	return len(lengths) > 1 || lengths[0] != strconv.FormatInt(b.received, 10)
}

// interrupt makes a Read that waits for the client return, and makes later ones fail.
func (b *requestBody) interrupt() {
	b.stop()
	b.mu.Lock()
	defer b.mu.Unlock()
	b.interrupted = true
	// Only for a Read that waits: after the end of the body net/http reads from the
	// connection to see the client leave, and a deadline would look as if it had.
	if b.reading && !b.done {
		b.control.SetReadDeadline(time.Now())
	}
}

// wasInterrupted reports whether interrupt was called.
func (b *requestBody) wasInterrupted() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.interrupted
}

// mayRead reports whether a Read may begin. If so, hasRead must follow.
func (b *requestBody) mayRead() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.reading = !b.interrupted
	return b.reading
}

func (b *requestBody) hasRead(err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.reading = false
	b.done = b.done || err == io.EOF
}

// failure returns the error for a body that did not arrive whole, or nil.
func (b *requestBody) failure() *apiError {
	if b.err == nil {
		return nil
	}
	e := newError(reasonBodyCut, "IncompleteBody", "")
	if errors.Is(b.err, os.ErrDeadlineExceeded) {
		e = newError(reasonBodyTimeout, "RequestTimeout", "")
	}
	if e.cause = b.reads.stalled(); e.cause == nil {
		e.cause = b.err
	}
	return e
}

// giveUp ends the reading of the body, before the answer. It reads a small rest to its
// end, so that the connection can be kept. net/http does the same, but waits for it
// without a limit. A client that waits for "100 Continue" is not asked for its body.
func (b *requestBody) giveUp() {
	if b.r.ContentLength == 0 || b.r.ProtoMajor != 1 || b.done {
		return
	}
	if b.err != nil || b.r.Header.Get("Expect") != "" {
		b.control.SetReadDeadline(time.Now())
		return
	}
	// Less than idle, in which the answer, which waits for this, must be written.
	b.control.SetReadDeadline(time.Now().Add(min(drainTimeout, b.idle/2)))
	if b.r.ContentLength > maxDrain {
		return
	}
	if _, err := io.CopyN(io.Discard, b.body, maxDrain); err == io.EOF {
		b.hasRead(io.EOF)
		b.control.SetReadDeadline(time.Time{})
	}
}

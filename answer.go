package main

// Bytes on their way to the client: a head, bytes that are copied or spliced from a
// backend, and small bodies that leave in one write with their head. An answer counts
// what was sent, and fails when the client takes nothing for the idle time. It knows
// nothing of what is answered, or why.

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"
)

// An answer is the http.ResponseWriter of an exchange.
type answer struct {
	http.ResponseWriter
	control *http.ResponseController
	to      *http.Request // the request that is answered
	rest    *requestBody  // its body, given up when the answer begins

	idle   time.Duration // how long the client may make no progress
	conn   *watchedConn  // of the client; nil: not watched
	stream *pulse        // of what is written to an HTTP/2 stream; nil: conn watches it
	out    flow          // the user's bandwidth

	status     int       // 0: no header was written yet
	sent       int64     // bytes of the body
	unsent     error     // the first error by which the client did not get the whole answer
	corked     *corkConn // not nil: the answer is kept, in corkBuffer, until the request ends
	corkBuffer []byte
}

func newAnswer(w http.ResponseWriter, to *http.Request, rest *requestBody, idle time.Duration) answer {
	return answer{
		ResponseWriter: w,
		control:        http.NewResponseController(w),
		to:             to,
		rest:           rest,
		idle:           idle,
		conn:           watchedConnOf(to),
	}
}

// watchClient begins to watch for a client that makes no progress. In HTTP/1.1 the
// connection watches its writes. In HTTP/2, where one connection carries many requests,
// each stream is watched.
func (a *answer) watchClient() {
	if a.conn != nil && a.conn.idle.Load() != int64(a.idle) {
		a.conn.idle.Store(int64(a.idle))
	}
	if a.to.ProtoMajor == 1 {
		if a.conn != nil {
			a.rest.reads = a.conn.reads
		}
		return
	}
	a.stream = streamPulse("the client took nothing for", a.conn, a.control.SetWriteDeadline)
	a.rest.reads = streamPulse("the client sent nothing for", nil, a.control.SetReadDeadline)
}

// unwatchClient ends the watch of a stream, before net/http reuses it.
func (a *answer) unwatchClient() {
	if a.stream != nil {
		a.stream.stop()
		a.rest.reads.stop()
	}
}

// closeAfter closes an HTTP/1.1 connection after the answer. In HTTP/2, where the end of a
// stream is never in doubt, that would end the other streams too.
func (a *answer) closeAfter() {
	if a.to.ProtoMajor == 1 {
		a.Header().Set("Connection", "close")
	}
}

// WriteHeader implements http.ResponseWriter.
func (a *answer) WriteHeader(status int) {
	if a.needsLength(status) { // a bug: whatever begins an answer checks this first
		a.unsent = errNoLength
		panic(http.ErrAbortHandler)
	}
	if h := a.Header(); h["Content-Type"] == nil {
		h["Content-Type"] = nil // or net/http would guess one from the body
	}
	a.status = status
	a.rest.giveUp()
	a.ResponseWriter.WriteHeader(status)
}

// needsLength reports whether the answer needs a length and has none: to an HTTP/1.0
// client the end of the connection would be the end of the answer.
func (a *answer) needsLength(status int) bool {
	if a.to.ProtoAtLeast(1, 1) || a.to.Method == http.MethodHead || status == http.StatusNoContent || status == http.StatusNotModified {
		return false
	}
	_, sized := a.Header()["Content-Length"]
	return !sized
}

// errNoLength is the cause of a connection that is broken because an answer to HTTP/1.0
// has no length.
var errNoLength = errors.New("an answer without a length to an HTTP/1.0 client")

// maxStreamPiece is how much is written to an HTTP/2 stream in one call, in bytes: a
// client that takes so much within the idle time makes progress.
const maxStreamPiece = 16 << 10

// Write implements http.ResponseWriter. It fails if the client takes nothing for the idle
// time.
func (a *answer) Write(p []byte) (written int, err error) {
	if a.status == 0 {
		a.WriteHeader(http.StatusOK)
	}
	for err == nil && written < len(p) {
		var n int
		part := p[written:]
		part = part[:min(len(part), a.out.chunk())]
		if a.stream != nil {
			part = part[:min(len(part), maxStreamPiece)]
		}
		if err = a.out.wait(a.to.Context(), len(part)); err == nil {
			a.stream.begin(a.idle)
			n, err = a.ResponseWriter.Write(part)
			a.stream.end()
		}
		written += n
		a.sent += int64(n)
	}
	return written, a.note(err)
}

// flush sends what net/http has buffered.
func (a *answer) flush() error {
	a.stream.begin(a.idle)
	err := a.control.Flush()
	a.stream.end()
	return a.note(err)
}

// note remembers the error of a write to the client, and returns it with its cause.
func (a *answer) note(err error) error {
	if err == nil {
		return nil
	}
	if a.unsent == nil {
		a.unsent = a.clientStalled()
	}
	if a.unsent == nil {
		a.unsent = fmt.Errorf("the client left before it had everything: %w", err)
	}
	return a.unsent
}

// clientStalled returns the stall of a client that took nothing, or nil.
func (a *answer) clientStalled() error {
	if err := a.stream.stalled(); err != nil || a.conn == nil {
		return err
	}
	return a.conn.writes.stalled()
}

// streamPulse watches one direction of an HTTP/2 stream. The stream makes progress when a
// call ends. While the connection as a whole is blocked but moving, its streams only wait for
// their turn, and count as moving too. A nil conn is never blocked.
func streamPulse(what string, conn *watchedConn, setDeadline func(time.Time) error) *pulse {
	var seen uint64
	return &pulse{what: what,
		look: func() (count uint64, waiting bool) {
			if conn != nil {
				count, seen = conn.writes.blocked(seen)
			}
			return count, true
		},
		cut: func() { setDeadline(longAgo) },
	}
}

// finish sends what is buffered of a complete answer, so that the log can say whether it
// was sent.
func (a *answer) finish() {
	switch {
	case a.corked != nil:
		a.control.Flush()
		a.note(a.uncork())
	case a.sent > 0 && (a.to.ProtoMajor == 1 || a.sent > http2Held):
		a.flush()
	case a.sent > 0: // net/http sends it when the handler has returned, on a stream of its own
		a.control.SetWriteDeadline(time.Now().Add(a.idle))
	}
}

// http2Held is how much of an answer net/http buffers until the handler returns, in bytes.
// To flush less would cost one more frame.
const http2Held = 4 << 10

// Unwrap lets http.ResponseController reach the connection.
func (a *answer) Unwrap() http.ResponseWriter { return a.ResponseWriter }

// sendBody writes a backend's body, after the head. One that is spliced needs no buffer, however
// long it waits for its backend or client.
func (a *answer) sendBody(body *answerBody) error {
	if err := a.splice(body); err != nil || body.ended {
		return err
	}
	size := body.left
	if size < 0 || size > maxCorked {
		size = largeBuffer
	}
	buffer := borrow(size)
	err := a.copy(body, buffer)
	if err == nil { // after an error HTTP/2 may still be sending it
		giveBack(buffer)
	}
	return err
}

// copy streams a large body as it comes. It reads a small one to its end first.
func (a *answer) copy(body *answerBody, buffer []byte) error {
	if 0 < body.left && body.left <= maxCorked && a.sent == 0 {
		whole, err := body.readWhole(buffer)
		if err != nil {
			return err
		}
		return a.writeWhole(whole)
	}
	var to io.Writer = onlyWriter{a}
	if body.left < 0 { // perhaps events, or spaces by which a backend shows that it is alive
		to = flushWriter{a}
	}
	_, err := io.CopyBuffer(to, onlyReader{body}, buffer)
	return err
}

// onlyWriter and onlyReader hide ReadFrom and WriteTo, with which io.CopyBuffer would
// bypass the buffer and the deadlines.
type (
	onlyWriter struct{ io.Writer }
	onlyReader struct{ io.Reader }
)

// A flushWriter flushes after each Write.
type flushWriter struct{ a *answer }

// Write implements io.Writer.
func (w flushWriter) Write(p []byte) (int, error) {
	n, err := w.a.Write(p)
	if err == nil {
		err = w.a.flush()
	}
	return n, err
}

// writeDocument answers 200 with a whole document. After an error the memory of doc must
// not be used again.
func (a *answer) writeDocument(contentType string, doc []byte) error {
	h := a.Header()
	h["Content-Type"] = []string{contentType}
	h["Content-Length"] = []string{strconv.Itoa(len(doc))}
	a.WriteHeader(http.StatusOK)
	_, err := a.Write(doc)
	return err
}

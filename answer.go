package main

// Answers whose length is not known when they begin. HTTP/1.1 sends them in chunks and
// HTTP/2 in frames, so that an answer that breaks off can be told from one that ends.
// HTTP/1.0 has nothing but the end of the connection: such a client gets an answer that
// has a length, or an error.

import (
	"errors"
	"io"
	"net/http"
	"strconv"
)

// maxUnsized bounds the answers that are read whole because an HTTP/1.0 client must be
// told their length, in bytes.
const maxUnsized = 256 << 10

// isHTTP10 reports whether the client speaks HTTP/1.0.
func (x *exchange) isHTTP10() bool { return !x.r.ProtoAtLeast(1, 1) }

// needsLength reports whether a length is missing without which an HTTP/1.0 client would
// take the end of the connection for the end of the answer.
func (x *exchange) needsLength(status int) bool {
	if !x.isHTTP10() || x.r.Method == http.MethodHead || status == http.StatusNoContent || status == http.StatusNotModified {
		return false
	}
	_, sized := x.Header()["Content-Length"]
	return !sized
}

// errUnsized refuses an answer to an HTTP/1.0 client.
func errUnsized() *apiError {
	return newError("HTTPVersionNotSupported", "the length of this answer is not known before its end, and HTTP/1.0 can't tell an end from a break: use HTTP/1.1, or ask for a list in pages")
}

// respondWhole answers an HTTP/1.0 client with a body that came without a length, once
// it is here.
func (x *exchange) respondWhole(resp *http.Response) *apiError {
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxUnsized+1))
	if err != nil {
		return x.transportError(noEOF(err))
	}
	if len(body) > maxUnsized {
		return errUnsized()
	}
	h := x.Header()
	returnHeader(h, resp.Header)
	h["Content-Length"] = []string{strconv.Itoa(len(body))}
	x.WriteHeader(resp.StatusCode)
	x.Write(body)
	return nil
}

// errNoLength is the cause of a broken connection where an answer without a length was
// about to begin on HTTP/1.0.
var errNoLength = errors.New("an answer without a length to an HTTP/1.0 client")

// respond streams a backend's answer to the client. If either of them breaks
// off, so does the answer.
func (x *exchange) respond(resp *http.Response) {
	returnHeader(x.Header(), resp.Header)
	x.WriteHeader(resp.StatusCode)
	if x.r.Method == http.MethodHead {
		return
	}
	body := resp.Body.(*answerBody)
	size := body.left
	if size < 0 || size > maxCorked {
		size = largeBuffer
	}
	buffer := borrow(size)
	if err := x.copy(body, buffer); err != nil {
		x.abort(err) // and the buffer is not used again: HTTP/2 may still be about to send it
	}
	giveBack(buffer)
}

// copy streams a body as it comes, or sends one that is small when it is here.
func (x *exchange) copy(body *answerBody, buffer []byte) error {
	if 0 < body.left && body.left <= maxCorked {
		n, err := io.ReadFull(onlyReader{body}, buffer[:body.left])
		if err != nil {
			return noEOF(err)
		}
		body.Read(buffer[n:]) // its end: the connection goes back
		return x.writeWhole(buffer[:n])
	}
	if err := x.splice(body); err != nil || body.ended {
		return err
	}
	var to io.Writer = onlyWriter{x}
	if body.left < 0 { // events, perhaps, or a backend's way of saying that it is still there
		to = flushWriter{x}
	}
	_, err := io.CopyBuffer(to, onlyReader{body}, buffer)
	return err
}

// onlyWriter and onlyReader hide the methods with which io.CopyBuffer would go
// round the buffer, and round the deadlines.
type (
	onlyWriter struct{ io.Writer }
	onlyReader struct{ io.Reader }
)

// A flushWriter sends on at once what it is given.
type flushWriter struct{ x *exchange }

// Write implements io.Writer.
func (w flushWriter) Write(p []byte) (int, error) {
	n, err := w.x.Write(p)
	if err == nil {
		err = w.x.flush()
	}
	return n, err
}

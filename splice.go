package main

// Large bodies that nobody has to look at, from one TCP connection to another.
// net/http's ResponseWriter hands a reader that is a *net.TCPConn, or a part of
// one, down to the client's connection, whose ReadFrom is splice(2) on Linux: the
// bytes move within the kernel. Elsewhere, and over TLS, it copies.

import (
	"io"
	"net"
	"time"
)

const (
	minSplice = 128 << 10 // bytes; below, a copy costs less than setting up
	maxSlice  = 8 << 20   // bytes between two looks at the deadlines
	minSlice  = 16 << 10
)

// splice moves as much of a body as can be moved so; what is left, the caller
// copies. A slice that is not through in time is an error, so slices are small
// where a peer is slow: then even little is progress.
func (x *exchange) splice(body *answerBody) error {
	from, ok := body.conn.raw.(*net.TCPConn)
	to, direct := x.ResponseWriter.(io.ReaderFrom)
	if !ok || !direct || body.conn.Conn != body.conn.raw || body.left < minSplice {
		return nil
	}
	if err := x.copyBuffered(body); err != nil {
		return err
	}
	for slice := int64(minSplice); body.left > 0; {
		piece := min(slice, body.left, int64(x.out.chunk()))
		if err := x.out.wait(x.r.Context(), int(piece), x.idle/4, x.progress); err != nil {
			return err
		}
		x.progress()
		body.progress()
		started := time.Now()
		part := &io.LimitedReader{R: from, N: piece}
		n, err := to.ReadFrom(part)
		body.left -= n
		x.sent += n
		if err == nil && part.N > 0 {
			err = io.ErrUnexpectedEOF
		}
		if err != nil {
			return noProgress(err)
		}
		switch took := time.Since(started); {
		case took < x.idle/64:
			slice = min(2*slice, maxSlice)
		case took > x.idle/16:
			slice = max(slice/4, minSlice)
		}
	}
	body.release(true)
	return nil
}

// copyBuffered writes what of a body was read with its head.
func (x *exchange) copyBuffered(body *answerBody) error {
	n := min(int64(body.conn.reader.Buffered()), body.left)
	start, err := body.conn.reader.Peek(int(n))
	if err != nil {
		return err
	}
	if _, err := x.Write(start); err != nil {
		return err
	}
	body.conn.reader.Discard(int(n))
	body.left -= n
	return nil
}

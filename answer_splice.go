package main

// Large bodies that nobody has to look at, from one TCP connection to another.
// net/http's ResponseWriter hands a reader that is a *net.TCPConn, or a part of
// one, down to the client's connection, whose ReadFrom is splice(2) on Linux: the
// bytes move within the kernel. Elsewhere, and over TLS, it copies.

import (
	"io"
	"net"
)

const (
	minSplice = 128 << 10 // bytes; below, a copy costs less than setting up
	maxSlice  = 8 << 20   // bytes; after each it is noted how many were moved
)

// splice moves as much of a body as can be moved so; what is left, the caller
// copies. How long a slice takes is no matter, for the kernel tells what moves; where
// it does not, nothing is spliced.
func (x *exchange) splice(body *answerBody) error {
	from, ok := body.conn.raw.(*net.TCPConn)
	to, direct := x.ResponseWriter.(io.ReaderFrom)
	if !ok || !direct || x.conn == nil || body.conn.Conn != body.conn.raw || body.left < minSplice || !body.conn.reads.counts() {
		return nil
	}
	if err := x.copyBuffered(body); err != nil {
		return err
	}
	for body.left > 0 {
		size := min(maxSlice, body.left, int64(x.out.chunk()))
		if err := x.out.wait(x.r.Context(), int(size)); err != nil {
			return err
		}
		part := &io.LimitedReader{R: from, N: size}
		body.conn.reads.beginFor(x.conn.writes, body.idle)
		n, err := to.ReadFrom(part)
		body.conn.reads.end()
		body.left -= n
		x.sent += n
		if err == nil && part.N > 0 {
			err = io.ErrUnexpectedEOF
		}
		if err != nil {
			return x.spliceError(body, err)
		}
	}
	body.release(true)
	return nil
}

// spliceError names the side that kept a splice from going on.
func (x *exchange) spliceError(body *answerBody, err error) error {
	switch {
	case body.conn.reads.stalled() != nil:
		return body.conn.reads.stalled()
	case err == io.ErrUnexpectedEOF:
		return err
	case x.clientStalled() != nil || x.r.Context().Err() != nil:
		return x.note(err)
	}
	return err
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

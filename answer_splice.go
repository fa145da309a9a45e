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
func (a *answer) splice(body *answerBody) error {
	from, ok := body.conn.raw.(*net.TCPConn)
	to, direct := a.ResponseWriter.(io.ReaderFrom)
	if !ok || !direct || a.conn == nil || body.conn.Conn != body.conn.raw || body.left < minSplice || !body.conn.reads.counts() {
		return nil
	}
	if err := a.copyBuffered(body); err != nil {
		return err
	}
	for body.left > 0 {
		size := min(maxSlice, body.left, int64(a.out.chunk()))
		if err := a.out.wait(a.to.Context(), int(size)); err != nil {
			return err
		}
		part := &io.LimitedReader{R: from, N: size}
		body.conn.reads.beginFor(a.conn.writes, body.idle)
		n, err := to.ReadFrom(part)
		body.conn.reads.end()
		body.left -= n
		a.sent += n
		if err == nil && part.N > 0 {
			err = io.ErrUnexpectedEOF
		}
		if err != nil {
			return a.spliceError(body, err)
		}
	}
	body.release(true)
	return nil
}

// spliceError names the side that kept a splice from going on.
func (a *answer) spliceError(body *answerBody, err error) error {
	switch {
	case body.conn.reads.stalled() != nil:
		return body.conn.reads.stalled()
	case err == io.ErrUnexpectedEOF:
		return err
	case a.clientStalled() != nil || a.to.Context().Err() != nil:
		return a.note(err)
	}
	return err
}

// copyBuffered writes what of a body was read with its head.
func (a *answer) copyBuffered(body *answerBody) error {
	n := min(int64(body.conn.reader.Buffered()), body.left)
	start, err := body.conn.reader.Peek(int(n))
	if err != nil {
		return err
	}
	if _, err := a.Write(start); err != nil {
		return err
	}
	body.conn.reader.Discard(int(n))
	body.left -= n
	return nil
}

package main

// Small answers in one write. net/http keeps 4 KiB of an answer back and writes
// the head and what fits when that is full, then the rest: two system calls, and
// two packets, for an object of 4 KiB. So the client's connection can be told to
// keep what is written until the answer is complete.

import (
	"io"
	"net"
)

// maxCorked is the size of a body, in bytes, up to which it is worth it.
const maxCorked = 32 << 10

// A corkListener accepts TCP connections that can be corked.
type corkListener struct{ net.Listener }

// Accept implements net.Listener.
func (l corkListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if tcp, ok := conn.(tcpConn); ok {
		return &corkConn{watchedConn: watchConn(tcp)}, nil
	}
	return conn, err
}

// A tcpConn has what net/http asks a TCP connection for besides: to splice, and to
// end what it sends.
type tcpConn interface {
	net.Conn
	io.ReaderFrom
	CloseWrite() error
}

// A corkConn is corked by one goroutine that writes.
type corkConn struct {
	*watchedConn
	follower
	kept []byte // what was written since cork; nil: not corked
}

// Read implements net.Conn.
func (c *corkConn) Read(p []byte) (int, error) {
	c.boundRest(c.tcpConn)
	n, err := c.watchedConn.Read(p)
	c.follow(p[:n])
	return n, err
}

// cork keeps what is written from here on, in buffer while it has room.
func (c *corkConn) cork(buffer []byte) { c.kept = buffer[:0] }

// Write implements net.Conn.
func (c *corkConn) Write(p []byte) (int, error) {
	if c.kept == nil {
		return c.watchedConn.Write(p)
	}
	c.kept = append(c.kept, p...)
	return len(p), nil
}

// uncork writes what was kept.
func (c *corkConn) uncork() error {
	kept := c.kept
	c.kept = nil
	_, err := c.watchedConn.Write(kept)
	return err
}

// writeWhole writes an answer's body, of which nothing was written yet, to be sent
// when the request ends. Through TLS nothing is corked: there the goroutine that
// reads may write as well.
func (x *exchange) writeWhole(body []byte) error {
	if c, ok := x.r.Context().Value(connKey{}).(*corkConn); ok && len(body) <= maxCorked && x.out.unlimited() {
		x.corked = c
		x.corkBuffer = borrow(roomForHead + int64(len(body)))
		c.cork(x.corkBuffer)
	}
	_, err := x.Write(body)
	return err
}

// uncork sends what writeWhole kept. net/http believes that all of it was sent; after
// an error nothing may follow on the connection.
func (x *exchange) uncork() error {
	err := x.corked.uncork()
	giveBack(x.corkBuffer)
	x.corked, x.corkBuffer = nil, nil
	return err
}

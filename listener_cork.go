package main

// A client connection that can be corked, so that a head and a small body leave in one
// segment. The cork is a buffer, not TCP_CORK. This file knows nothing of requests.

import (
	"io"
	"net"
)

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

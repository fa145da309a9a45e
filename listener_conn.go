package main

// Connections of clients that are cut off when they take nothing, or send nothing.

import (
	"io"

	"net/http"
	"os"
	"sync/atomic"
	"time"
)

// A watchedConn is the TCP connection of a client, below TLS if there is any. A client
// that takes nothing for the idle time is cut off, whoever writes: the answer to a
// request, TLS, HTTP/2, or a splice.
type watchedConn struct {
	tcpConn
	idle   atomic.Int64 // how long the client may make no progress, in ns
	writes *pulse
	reads  *pulse // of bodies; between requests there are other limits
}

// defaultIdle is how long a client may make no progress before its first request, in
// a TLS handshake.
const defaultIdle = time.Minute

func watchConn(conn tcpConn) *watchedConn {
	c := &watchedConn{
		tcpConn: conn,
		writes:  writePulse(conn, "the client took nothing for", false),
		reads:   readPulse(conn, "the client sent nothing for", false),
	}
	c.idle.Store(int64(defaultIdle))
	return c
}

// watchedConnOf returns the connection of a request, or nil if it is not watched.
func watchedConnOf(r *http.Request) *watchedConn {
	switch c := r.Context().Value(connKey{}).(type) {
	case *corkConn:
		return c.watchedConn
	case *tlsClientConn:
		return c.watched
	}
	return nil
}

// Write implements net.Conn.
func (c *watchedConn) Write(p []byte) (written int, err error) {
	for {
		if c.writes.stalled() != nil { // TLS would say goodbye, with a deadline of its own
			return written, os.ErrDeadlineExceeded
		}
		c.writes.begin(time.Duration(c.idle.Load()))
		n, err := c.tcpConn.Write(piece(p[written:]))
		c.writes.end()
		if written += n; err != nil || written == len(p) {
			return written, err
		}
	}
}

// ReadFrom implements io.ReaderFrom.
func (c *watchedConn) ReadFrom(r io.Reader) (int64, error) {
	c.writes.begin(time.Duration(c.idle.Load()))
	defer c.writes.end()
	return c.tcpConn.ReadFrom(r)
}

// Close implements net.Conn.
func (c *watchedConn) Close() error {
	c.writes.stop()
	c.reads.stop()
	return c.tcpConn.Close()
}

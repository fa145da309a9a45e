package main

// A connection to a backend, and two things that http.Transport can't do with
// it: break it so that nobody takes the break for an end, and tell whether an
// answer was there before its question.

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http/httptrace"
	"sync/atomic"
)

// errEarlyAnswer is for an answer that was there before its question.
var errEarlyAnswer = errors.New("the backend sent more than its last answer")

// A backendConn counts its reads. If a backend sends more than an answer's
// length, the transport may have the rest in its buffer when it hands the
// connection to the next request, and take it for that one's answer. Then nothing
// was read from the socket since.
type backendConn struct {
	net.Conn
	reads atomic.Int64
}

// Read implements io.Reader.
func (c *backendConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.reads.Add(1)
	return n, err
}

// abort resets the connection. A transport would close it, which some servers
// take for the end of the object, whatever length was declared
// (github.com/versity/versitygw/issues/2414); over TLS it would even say goodbye.
func (c *backendConn) abort() {
	if tcp, ok := c.Conn.(*net.TCPConn); ok {
		tcp.SetLinger(0)
	}
	c.Conn.Close()
}

// dialBackend dials backendConns.
func dialBackend(d *net.Dialer) func(context.Context, string, string) (net.Conn, error) {
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		conn, err := d.DialContext(ctx, network, addr)
		if err != nil {
			return nil, err
		}
		return &backendConn{Conn: conn}, nil
	}
}

// A flight is a request on its connection.
type flight struct {
	conn  atomic.Pointer[backendConn]
	reads atomic.Int64          // of the connection, when the request got it
	early atomic.Bool           // the first byte of the answer was read before that
	cause atomic.Pointer[error] // why it was ended, if it was
}

func (f *flight) trace() *httptrace.ClientTrace {
	return &httptrace.ClientTrace{
		GotConn: func(info httptrace.GotConnInfo) {
			conn := info.Conn
			if encrypted, ok := conn.(*tls.Conn); ok {
				conn = encrypted.NetConn()
			}
			if backend, ok := conn.(*backendConn); ok {
				f.reads.Store(backend.reads.Load())
				f.conn.Store(backend)
			}
		},
		GotFirstResponseByte: func() {
			backend := f.conn.Load()
			f.early.Store(backend != nil && backend.reads.Load() == f.reads.Load())
		},
	}
}

// end notes why the request is given up. An upload is reset before the transport
// hears of it.
func (f *flight) end(cause error, upload bool) {
	f.cause.CompareAndSwap(nil, &cause)
	if upload {
		f.abort()
	}
}

// abort resets the connection, if the request has got one.
func (f *flight) abort() {
	if conn := f.conn.Load(); conn != nil {
		conn.abort()
	}
}

package main

// Silence inside TLS. Before a connection is used again, nothing may wait on it: it would be
// read as the answer to the next request. With TLS, bytes may wait in crypto/tls, decrypted
// or not, where the socket does not show them. And bytes on the socket may be session tickets
// or new keys rather than an answer (RFC 8446 section 4.6). This file knows nothing of HTTP.

import (
	"encoding/binary"
	"errors"
	"net"
	"os"
	"time"
)

// recordHeader is the size of the header of a TLS record in bytes; its last two are
// the length of the rest: RFC 8446 section 5.1.
const recordHeader = 5

// A recordConn is the TCP connection below TLS with a backend. It knows where records end.
type recordConn struct {
	net.Conn
	probing bool // a Read does not wait
	header  [recordHeader]byte
	have    int // bytes of header
	left    int // bytes of the record that have not arrived
	probe   [1]byte
}

// Read implements net.Conn.
func (c *recordConn) Read(p []byte) (n int, err error) {
	if c.probing {
		if n, err = receive(c.Conn, p); n > 0 {
			c.SetWriteDeadline(time.Now().Add(lastWord)) // new keys may have to be answered
		}
	} else {
		n, err = c.Conn.Read(p)
	}
	c.follow(p[:n])
	return n, err
}

// follow looks for the ends of records.
func (c *recordConn) follow(b []byte) {
	for len(b) > 0 {
		if c.left > 0 {
			n := min(c.left, len(b))
			c.left -= n
			b = b[n:]
			continue
		}
		n := copy(c.header[c.have:], b)
		b = b[n:]
		if c.have += n; c.have == recordHeader {
			c.have, c.left = 0, int(binary.BigEndian.Uint16(c.header[3:]))
		}
	}
}

// silent reports whether a read from secure, which is TLS on c, would wait: all records that
// have arrived are whole and have no data. It reads records without data.
func (c *recordConn) silent(secure net.Conn) bool {
	c.probing = true
	_, err := secure.Read(c.probe[:])
	c.probing = false
	return errors.Is(err, os.ErrDeadlineExceeded) && c.have == 0 && c.left == 0
}

// lastWord is how long a backend that accepts no more of an upload may take to say why.
const lastWord = time.Second

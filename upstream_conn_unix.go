//go:build unix

package main

// How Unix shows whether an idle connection is silent, without reading from it. It knows nothing
// of TLS and HTTP.

import (
	"io"
	"net"
	"os"
	"syscall"
)

// silent reports whether a read from the connection would wait: the other side has neither
// closed it nor sent anything. A Read would consume the byte, or fail without a look after a
// deadline.
func silent(conn net.Conn) bool {
	tcp, ok := conn.(*net.TCPConn)
	if !ok {
		return true
	}
	_, err := receiveNow(tcp, make([]byte, 1), syscall.MSG_PEEK)
	return err == syscall.EAGAIN
}

// stillOpen reports whether the other side has neither closed the connection nor reset it.
func stillOpen(conn net.Conn) bool {
	tcp, ok := conn.(*net.TCPConn)
	if !ok {
		return false
	}
	n, err := receiveNow(tcp, make([]byte, 1), syscall.MSG_PEEK)
	return n > 0 || err == syscall.EAGAIN
}

// receive reads what has arrived. If nothing has, it returns os.ErrDeadlineExceeded, after
// which crypto/tls can read on.
func receive(conn net.Conn, p []byte) (int, error) {
	tcp, ok := conn.(*net.TCPConn)
	if !ok {
		return 0, os.ErrDeadlineExceeded
	}
	n, err := receiveNow(tcp, p, 0)
	switch {
	case err == syscall.EAGAIN:
		return 0, os.ErrDeadlineExceeded
	case err == nil && n == 0:
		return 0, io.EOF
	}
	return max(n, 0), err
}

// receiveNow is recv(2), which does not wait.
func receiveNow(tcp *net.TCPConn, p []byte, flags int) (n int, err error) {
	raw, err := tcp.SyscallConn()
	if err != nil {
		return 0, err
	}
	closed := raw.Control(func(fd uintptr) {
		n, _, err = syscall.Recvfrom(int(fd), p, flags|syscall.MSG_DONTWAIT)
	})
	if closed != nil {
		return 0, closed
	}
	return n, err
}

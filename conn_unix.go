//go:build unix

package main

import (
	"net"
	"syscall"
)

// silent reports whether a read from the connection would wait: that the other
// side has neither closed it nor sent anything. A read with a deadline in the
// past would not look, and one in the future would take the byte.
func silent(conn net.Conn) bool {
	tcp, ok := conn.(*net.TCPConn)
	if !ok {
		return true
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		return false
	}
	waiting := false
	err = raw.Read(func(fd uintptr) bool {
		_, _, err := syscall.Recvfrom(int(fd), make([]byte, 1), syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
		waiting = err == syscall.EAGAIN
		return true
	})
	return err == nil && waiting
}

//go:build unix

package main

import (
	"net"
	"syscall"
)

// silent reports whether a read from the connection would wait: that the other
// side has neither closed it nor sent anything. A read of our own would take the
// byte, or not look at all when a deadline has passed.
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
	err = raw.Control(func(fd uintptr) {
		_, _, err := syscall.Recvfrom(int(fd), make([]byte, 1), syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
		waiting = err == syscall.EAGAIN
	})
	return err == nil && waiting
}

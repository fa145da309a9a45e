//go:build linux && (amd64 || arm64 || loong64 || riscv64)

package main

// What Linux counts of a connection, whether write, TLS or splice moved the bytes.
// These are the architectures with getsockopt(2) as a system call of its own and the
// generic numbers of ioctl(2).

import (
	"encoding/binary"
	"syscall"
	"unsafe"
)

// countsBytes reports whether the kernel tells what moves while a call blocks.
const countsBytes = true

// Offsets in struct tcp_info of linux/tcp.h, since Linux 4.1.
const (
	bytesAckedOffset    = 120
	bytesReceivedOffset = 128
	tcpInfoSize         = 136
)

// tcpInfo returns the bytes that the peer has acknowledged, and those that it sent;
// 0 if they are not known.
func (s socket) tcpInfo() (acked, received uint64) {
	if s.raw == nil {
		return 0, 0
	}
	s.raw.Control(func(fd uintptr) {
		var info [tcpInfoSize]byte
		size := uint32(len(info))
		_, _, errno := syscall.Syscall6(syscall.SYS_GETSOCKOPT, fd, syscall.IPPROTO_TCP, syscall.TCP_INFO,
			uintptr(unsafe.Pointer(&info)), uintptr(unsafe.Pointer(&size)), 0)
		if errno == 0 && size == tcpInfoSize {
			acked = binary.NativeEndian.Uint64(info[bytesAckedOffset:])
			received = binary.NativeEndian.Uint64(info[bytesReceivedOffset:])
		}
	})
	return acked, received
}

// queued returns how many of the bytes that were written the peer has not
// acknowledged: SIOCOUTQ of tcp(7), which is TIOCOUTQ. It is 0 if that is not known.
func (s socket) queued() int {
	var n int32
	if s.raw != nil {
		s.raw.Control(func(fd uintptr) {
			syscall.Syscall(syscall.SYS_IOCTL, fd, syscall.TIOCOUTQ, uintptr(unsafe.Pointer(&n)))
		})
	}
	return int(n)
}

// acknowledged returns a count that changes when the peer acknowledges bytes, and
// whether there are any that it has not.
func (s socket) acknowledged() (count uint64, waiting bool) {
	queued := s.queued()
	acked, _ := s.tcpInfo()
	if acked == 0 { // nothing yet, or not counted: then less in the queue is progress
		acked = ^uint64(queued)
	}
	return acked, queued > 0
}

// received returns a count that changes when the peer sends bytes.
func (s socket) received() uint64 {
	_, received := s.tcpInfo()
	return received
}

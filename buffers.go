package main

// Memory for what is on its way, used again and again: it grows with how many
// transfers there are, not with how large they are, and small ones take small
// buffers.

import (
	"sync"
)

const (
	smallBuffer = 8 << 10  // bytes; a head, or a small object with one
	largeBuffer = 64 << 10 // bytes
)

var (
	smallBuffers = sync.Pool{New: func() any { return new([smallBuffer]byte) }}
	largeBuffers = sync.Pool{New: func() any { return new([largeBuffer]byte) }}
)

// borrow returns a buffer of smallBuffer bytes if that is enough for n, else one of
// largeBuffer.
func borrow(n int64) []byte {
	if n <= smallBuffer {
		return smallBuffers.Get().(*[smallBuffer]byte)[:]
	}
	return largeBuffers.Get().(*[largeBuffer]byte)[:]
}

// giveBack ends the use of a buffer, at whatever length. One that has grown since is
// another, and left to the collector.
func giveBack(b []byte) {
	switch cap(b) {
	case smallBuffer:
		smallBuffers.Put((*[smallBuffer]byte)(b[:smallBuffer]))
	case largeBuffer:
		largeBuffers.Put((*[largeBuffer]byte)(b[:largeBuffer]))
	}
}

// roomForHead is what most heads of requests fit into.
const roomForHead = 4 << 10

package main

// Memory for documents: lists of keys or parts, configurations, and whatever else is held
// whole. Objects are streamed, but documents add up. All documents in memory share one
// budget. It is charged for bytes that have arrived, not for bytes that a head announces.
// No request waits for it: over the budget a request is refused with 503 SlowDown, after
// which S3 clients try again.

import (
	"errors"
	"hash"
	"io"
	"sync"
	"time"
)

// documentMemory is the budget of a process in bytes. It has room for several of S3's
// largest documents (a completion of 10,000 parts) or thousands of usual ones. It is half
// of the 64 MiB that 64 slow clients may cost; the other half is the garbage collector's.
const documentMemory = 32 << 20

// A memory is a budget. It may be used by several goroutines at once.
type memory struct {
	mu    sync.Mutex // guards used, and the used of every share
	limit int64      // bytes
	used  int64      // bytes
}

// A memoryShare is what one user holds of a budget. The limit of a share is what the
// budget has left: one user alone gets half, two get a third each, and there is always
// some left for another. It must not be copied.
type memoryShare struct {
	of   *memory
	used int64 // bytes
}

// reserve takes n bytes, or gives them back if n is negative. It reports whether the
// budget had them.
func (s *memoryShare) reserve(n int64) bool {
	s.of.mu.Lock()
	defer s.of.mu.Unlock()
	if n > 0 && s.used+n > s.of.limit-(s.of.used+n) {
		return false
	}
	s.used += n
	s.of.used += n
	return true
}

// A holding is what one request holds of a share. The methods of a nil holding, and
// of one without a share, count nothing.
type holding struct {
	share     *memoryShare
	allowance int64 // bytes that are not charged
	held      int64 // bytes
}

// reserve takes n bytes more. The error is a SlowDown for the client.
func (h *holding) reserve(n int) error {
	if h == nil || h.share == nil || n == 0 {
		return nil
	}
	after := h.held + int64(n)
	if !h.share.reserve(max(after, h.allowance) - max(h.held, h.allowance)) {
		return outOfMemory()
	}
	h.held = after
	return nil
}

// release gives back n bytes.
func (h *holding) release(n int) { h.reserve(-n) }

// free gives back all.
func (h *holding) free() {
	if h != nil {
		h.release(int(h.held))
	}
}

// append is the built-in append, counted.
func (h *holding) append(to, more []byte) ([]byte, error) {
	if size := len(to) + len(more); size > cap(to) {
		grown := max(size, 2*cap(to), 512)
		if err := h.reserve(grown - cap(to)); err != nil {
			return to, err
		}
		to = append(make([]byte, 0, grown), to...)
	}
	return append(to, more...), nil
}

func outOfMemory() *apiError {
	e := slowDown(reasonMemory, "too many documents are in memory; try again", time.Second)
	e.cause = errors.New("the memory for documents is used up")
	return e
}

func isOutOfMemory(err error) bool {
	var e *apiError
	return errors.As(err, &e) && e.reason == reasonMemory
}

// A heldDocument is written, and then read once. Each part of its memory is given back once
// it was read, so nothing is left of it while the backend works on it.
type heldDocument struct {
	memory holding
	blocks [][]byte // of buffers.go; the first one is small, as most documents are
	size   int64    // bytes not yet read
	read   int      // bytes of blocks[0]
}

// Write implements io.Writer. An error is a SlowDown for the client.
func (d *heldDocument) Write(p []byte) (int, error) {
	written := 0
	for written < len(p) {
		last := len(d.blocks) - 1
		if last < 0 || len(d.blocks[last]) == cap(d.blocks[last]) {
			if err := d.grow(); err != nil {
				return written, err
			}
			continue
		}
		block := d.blocks[last]
		n := min(len(p)-written, cap(block)-len(block))
		d.blocks[last] = append(block, p[written:written+n]...)
		written += n
	}
	d.size += int64(written)
	return written, nil
}

func (d *heldDocument) grow() error {
	size := largeBuffer
	if len(d.blocks) == 0 {
		size = smallBuffer
	}
	if err := d.memory.reserve(size); err != nil {
		return err
	}
	d.blocks = append(d.blocks, borrow(int64(size))[:0])
	return nil
}

// Read implements io.Reader.
func (d *heldDocument) Read(p []byte) (int, error) {
	if len(d.blocks) == 0 {
		return 0, io.EOF
	}
	n := copy(p, d.blocks[0][d.read:])
	d.read += n
	d.size -= int64(n)
	if d.read == len(d.blocks[0]) {
		d.drop()
	}
	return n, nil
}

// drop gives back the first block.
func (d *heldDocument) drop() {
	d.memory.release(cap(d.blocks[0]))
	giveBack(d.blocks[0])
	d.blocks, d.read = d.blocks[1:], 0
}

// free gives back what was not read.
func (d *heldDocument) free() {
	for len(d.blocks) > 0 {
		d.drop()
	}
	d.blocks, d.size = nil, 0
	d.memory.free()
}

// sum writes the document, of which nothing was read yet, to hashes.
func (d *heldDocument) sum(hashes ...hash.Hash) {
	for _, block := range d.blocks {
		for _, h := range hashes {
			h.Write(block)
		}
	}
}

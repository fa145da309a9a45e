package main

// Deadlines that follow bytes. A transfer is broken off when a peer makes no
// progress for the idle time, never for taking long.
//
// A deadline that is set before a call can't follow the bytes that move while the call
// blocks. Linux wakes a blocked writer only when a third of its send buffer is free, which
// may be megabytes, and crypto/tls returns a record only when it has all of it. Nor can a
// transfer continue after such a deadline: after a write that timed out, neither net/http
// nor crypto/tls nor a splice goes on. So no deadline is set while bytes move. Instead a
// pulse looks at a blocked call at intervals, asks the kernel what the peer has
// acknowledged or sent, and breaks the call off if that has not changed for the idle time.

import (
	"context"
	"errors"
	"net"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// A stall is the error of a transfer whose peer made no progress in time. Its text
// names the peer.
type stall struct {
	text    string
	backend bool // the peer is a backend
}

func (s *stall) Error() string { return s.text }

// Is implements the interface of errors.Is: a backend's stall is errNoProgress.
func (s *stall) Is(other error) bool { return s.backend && other == errNoProgress }

// newStall returns a stall such as "the client took nothing for 60s".
func newStall(backend bool, what string, d time.Duration) *stall {
	return &stall{what + " " + strconv.FormatFloat(d.Seconds(), 'f', -1, 64) + "s", backend}
}

// A pulse watches the calls that wait for one peer in one direction. begin and end
// enclose each call and cost two atomic operations; a timer runs only while there
// are calls. A nil pulse watches nothing. It may be used by several goroutines at
// once.
type pulse struct {
	what    string // "the client took nothing for"
	backend bool   // the peer is a backend

	// look returns a count that changes when the peer makes progress, and false if the
	// call does not wait for the peer.
	look func() (count uint64, waiting bool)
	cut  func() // makes the call return, and later ones fail

	idle  atomic.Int64  // how long the peer may make no progress, in ns
	calls atomic.Uint64 // upper half: calls that began; lower half: calls in progress
	armed atomic.Bool   // the timer is set, or the call was cut
	stuck atomic.Pointer[stall]
	onto  atomic.Pointer[pulse] // of writes, see beginFor

	mu      sync.Mutex  // guards the rest
	timer   *time.Timer // nil: never set
	stopped bool
	seen    uint64 // calls at the last tick
	count   uint64 // of look, at since
	since   time.Time
}

// ticksPerIdle is how often a pulse looks in the idle time: a peer is cut off
// within the idle time and an eighth of it.
const ticksPerIdle = 8

const callBegins = 1<<32 + 1

// begin notes that a call begins.
func (p *pulse) begin(idle time.Duration) {
	if p == nil {
		return
	}
	changed := p.idle.Load() != int64(idle)
	if changed {
		p.idle.Store(int64(idle))
	}
	p.calls.Add(callBegins)
	if changed || !p.armed.Load() && p.armed.CompareAndSwap(false, true) {
		p.armed.Store(true)
		p.arm(idle / ticksPerIdle)
	}
}

// beginFor is begin for a splice, which reads from one peer and writes to another, whose
// pulse is to. The splice waits for the first only while the other has acknowledged
// everything.
func (p *pulse) beginFor(to *pulse, idle time.Duration) {
	if p != nil {
		p.onto.Store(to)
		p.begin(idle)
	}
}

// end notes that a call has ended.
func (p *pulse) end() {
	if p != nil {
		p.calls.Add(^uint64(0))
	}
}

// counts reports whether progress within a call is known.
func (p *pulse) counts() bool {
	if p == nil || !countsBytes {
		return false
	}
	count, _ := p.look()
	return count > 0
}

// stalled returns the stall, if a call was cut off, or nil.
func (p *pulse) stalled() error {
	if p != nil {
		if s := p.stuck.Load(); s != nil {
			return s
		}
	}
	return nil
}

// stop ends the watch. cut is not called after it.
func (p *pulse) stop() {
	if p == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.stopped = true
	if p.timer != nil {
		p.timer.Stop()
	}
}

func (p *pulse) arm(d time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.stopped || p.stuck.Load() != nil:
	case p.timer == nil:
		p.timer = time.AfterFunc(d, p.tick)
	default:
		p.timer.Reset(d)
	}
}

// tick looks at the call in progress. If there was no call since the last tick, the timer
// stops until begin.
func (p *pulse) tick() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.stopped {
		return
	}
	idle := time.Duration(p.idle.Load())
	calls := p.calls.Load()
	same := calls == p.seen
	p.seen = calls
	if uint32(calls) == 0 {
		if same {
			p.armed.Store(false)
			if p.calls.Load() == calls || !p.armed.CompareAndSwap(false, true) {
				return
			}
		}
		p.timer.Reset(idle / ticksPerIdle)
		return
	}
	now := time.Now()
	count, waiting := p.look()
	if to := p.onto.Load(); to != nil {
		if _, behind := to.look(); behind {
			waiting = false
		}
	}
	if !same || !waiting || count != p.count {
		p.count, p.since = count, now
	}
	left := idle - now.Sub(p.since)
	if left <= 0 {
		p.stuck.Store(newStall(p.backend, p.what, idle))
		p.cut()
		return
	}
	p.timer.Reset(min(idle/ticksPerIdle, left))
}

// blocked returns a count that changes when the peer of a blocked call makes progress. It
// is 0, with the count of calls, while no call is blocked for long.
func (p *pulse) blocked(seen uint64) (count, calls uint64) {
	if p == nil {
		return 0, 0
	}
	if calls = p.calls.Load(); uint32(calls) == 0 || calls != seen {
		return 0, calls
	}
	count, _ = p.look()
	return count, calls
}

// A socket is what the kernel tells of a TCP connection.
type socket struct{ raw syscall.RawConn } // nil: nothing

func newSocket(conn net.Conn) socket {
	if c, ok := conn.(syscall.Conn); ok {
		if raw, err := c.SyscallConn(); err == nil {
			return socket{raw}
		}
	}
	return socket{}
}

// writePulse watches writes to a connection, by any layer above it. A call waits for the
// peer while the peer has not acknowledged everything. So a splice that waits for its
// source does not count against the peer.
func writePulse(conn net.Conn, what string, backend bool) *pulse {
	s := newSocket(conn)
	return &pulse{what: what, backend: backend,
		look: s.acknowledged,
		cut:  func() { conn.SetWriteDeadline(longAgo) },
	}
}

// readPulse watches reads from a connection, by any layer above it.
func readPulse(conn net.Conn, what string, backend bool) *pulse {
	s := newSocket(conn)
	return &pulse{what: what, backend: backend,
		look: func() (uint64, bool) { return s.received(), true },
		cut:  func() { conn.SetReadDeadline(longAgo) },
	}
}

// maxPiece is how much is written in one call, in bytes, where the progress within a
// call is not known.
const maxPiece = 64 << 10

// piece returns the start of b that is written in one call.
func piece(b []byte) []byte {
	if countsBytes {
		return b
	}
	return b[:min(len(b), maxPiece)]
}

// longAgo is a deadline that has passed.
var longAgo = time.Unix(1, 0)

// A drain bounds the time of a peer to answer: patience, from the moment at which it has
// acknowledged all that was written to it. Before that it is cut off only if it makes no
// progress.
type drain struct {
	conn           net.Conn
	written        *pulse // of the connection
	idle, patience time.Duration
	began, since   time.Time
	count          uint64

	mu    sync.Mutex // guards the rest
	timer *time.Timer
	ended bool
}

// shortestDrain is the time until the first look at what is not acknowledged. The
// interval doubles each time, so patience begins late by at most the time that the peer
// took to acknowledge the bytes.
const shortestDrain = 5 * time.Millisecond

// answerWithin sets the read deadline of a connection to which everything was written.
// After stop it no longer touches the deadline.
func (p *pulse) answerWithin(conn net.Conn, idle, patience time.Duration) (stop func()) {
	now := time.Now()
	if p == nil {
		conn.SetReadDeadline(now.Add(patience))
		return func() {}
	}
	count, waiting := p.look()
	if !waiting || !countsBytes {
		conn.SetReadDeadline(now.Add(patience))
		return func() {}
	}
	conn.SetReadDeadline(time.Time{})
	d := &drain{conn: conn, written: p, idle: idle, patience: patience, began: now, since: now, count: count}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.timer = time.AfterFunc(shortestDrain, d.tick)
	return d.stop
}

func (d *drain) tick() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.ended {
		return
	}
	now := time.Now()
	count, waiting := d.written.look()
	if !waiting {
		d.conn.SetReadDeadline(now.Add(d.patience))
		return
	}
	if count != d.count {
		d.count, d.since = count, now
	}
	left := d.idle - now.Sub(d.since)
	if left <= 0 {
		d.written.stuck.Store(newStall(d.written.backend, d.written.what, d.idle))
		d.conn.SetReadDeadline(longAgo)
		return
	}
	d.timer.Reset(min(max(now.Sub(d.began), shortestDrain), d.idle/ticksPerIdle, left))
}

func (d *drain) stop() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.ended = true
	d.timer.Stop()
}

// whyLate returns the stall that made a deadline pass, or err if there is none.
func whyLate(err error, pulses ...*pulse) error {
	if errors.Is(err, os.ErrDeadlineExceeded) {
		for _, p := range pulses {
			if s := p.stalled(); s != nil {
				return s
			}
		}
	}
	return err
}

// errNoProgress ends a request whose backend makes no progress for the idle time.
var errNoProgress = errors.New("the backend made no progress in time")

// sleep returns after d, or when changed, which may be nil, is closed. It returns an error
// only if ctx is done.
func sleep(ctx context.Context, d time.Duration, changed <-chan struct{}) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-changed:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

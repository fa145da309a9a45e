package main

// Limits on how much at once: a user's requests under way, a user's bytes per
// second in each direction, and the connections of the whole process.
//
// A bandwidth keeps one instant, the one at which everything taken so far has
// passed at the rate. A transfer takes its bytes by moving the instant on. It may
// be a little ahead of the clock; then it sleeps until the instant it found.
//
//	1,000,000 bytes per second, chunks of 25,000: each moves the instant on by 25 ms
//	at  0 ms the instant is  0: not ahead, moves a chunk
//	at  0 ms the instant is 25: 25 ms ahead, moves a chunk
//	at  0 ms the instant is 50: 50 ms ahead, sleeps until 50 ms, moves a chunk
//	at 50 ms the instant is 75: 25 ms ahead, moves a chunk
//
// So nothing ticks, and there is no queue: transfers that wait have found
// different instants, and wake one after the other.

import (
	"context"
	"fmt"
	"math"
	"sync"
	"sync/atomic"
	"time"
)

// An inFlight counts one user's requests under way. It outlives a reload of the
// configuration, the limit need not. The zero value counts none. It may be used
// by several goroutines at once.
type inFlight struct{ count atomic.Int64 }

// enter counts a request and returns true, unless limit of them are under way.
// A limit of 0 is none; what enters is counted all the same, for the limit may
// come while it is under way. Each true is followed by one leave.
func (f *inFlight) enter(limit int64) bool {
	for {
		count := f.count.Load()
		if limit > 0 && count >= limit {
			return false
		}
		// To add first and look then would refuse a request for one that is
		// being refused at the same time.
		if f.count.CompareAndSwap(count, count+1) {
			return true
		}
	}
}

// leave ends what enter began.
func (f *inFlight) leave() { f.count.Add(-1) }

const (
	maxAhead      = 40 * time.Millisecond // how far a user may run ahead of the rate; so a sleep is longer than that
	maxBehind     = 10 * time.Millisecond // how much is made up for when a timer was late
	smallestChunk = 4 << 10               // bytes; net/http's own buffers hold back no more
	largestChunk  = 1 << 20               // bytes
)

// A bandwidth is what a user has in one direction, for all transfers together. In
// any interval no more passes than the rate allows in the interval, in maxAhead and
// in maxBehind, and one turn of each transfer. A nil bandwidth and the zero value
// have no limit. It may be used by several goroutines at once.
type bandwidth struct {
	rate atomic.Int64 // bytes per second; 0 is no limit

	mu      sync.Mutex    // guards the rest
	passed  time.Time     // when what was taken so far has passed
	waiting int64         // transfers that sleep
	changed chan struct{} // closed when the rate changes; nil while nobody has slept
}

// set changes the rate, in bytes per second; 0 is no limit. Whoever waits goes on
// at once, and what was taken is forgotten: at worst one chunk of each transfer
// passes early, once.
func (b *bandwidth) set(rate int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.rate.Swap(rate) == rate {
		return
	}
	b.passed = time.Time{}
	if b.changed != nil {
		close(b.changed)
		b.changed = nil
	}
}

// book moves the instant on by n bytes and returns how far ahead of now it was
// before. It requires that mu is held.
func (b *bandwidth) book(n int) (ahead time.Duration) {
	rate := b.rate.Load()
	if rate == 0 { // since a moment ago
		return 0
	}
	now := time.Now()
	if earliest := now.Add(-maxBehind); b.passed.Before(earliest) {
		b.passed = earliest
	}
	ahead = b.passed.Sub(now)
	b.passed = b.passed.Add(time.Duration(float64(n) / float64(rate) * float64(time.Second)))
	return ahead
}

// turn is how many bytes a transfer may move before another has its turn: what
// passes in 25 ms, divided among those who want to. It requires that mu is held.
func (b *bandwidth) turn() int {
	return int(min(max(b.rate.Load()/40/(b.waiting+1), smallestChunk), largestChunk))
}

// A flow is one transfer's use of a bandwidth. It belongs to one goroutine.
type flow struct {
	*bandwidth
	left int // bytes of its turn
}

func (f *flow) unlimited() bool { return f.bandwidth == nil || f.rate.Load() == 0 }

// chunk is how many bytes are to be moved at once at most, so that a slow rate
// is smooth.
func (f *flow) chunk() int {
	if f.unlimited() {
		return math.MaxInt
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.turn()
}

// take notes that n bytes were moved. It is for a reader, which does not know
// before how many there will be, and waits for 0: to take them before, and have
// others wait for what a slow peer does not send, would waste the rate.
func (f *flow) take(n int) {
	if !f.unlimited() {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.book(n)
		f.left -= n
	}
}

// wait takes n bytes that are to be moved, and returns when they may be. If ctx is
// done before, it gives them back and returns the context's error. No deadline may be
// set meanwhile: that of an HTTP/2 stream ends it, though nobody reads or writes
// (net/http's onWriteTimeout).
func (f *flow) wait(ctx context.Context, n int) error {
	if f.unlimited() {
		return nil
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	ahead := f.book(n)
	if f.left > 0 {
		f.left -= n
		return nil
	}
	if ahead > maxAhead || ahead > 0 && f.waiting > 0 {
		if f.changed == nil {
			f.changed = make(chan struct{})
		}
		changed := f.changed
		f.waiting++
		f.mu.Unlock()
		err := sleep(ctx, ahead, changed)
		f.mu.Lock()
		f.waiting--
		if err != nil {
			f.book(-n) // or clients that give up and come again would wait for their own ghosts
			return err
		}
	}
	f.left = f.turn() - n
	return nil
}

// A share is what a user may take of the gateway at once. 0 is no limit.
type share struct {
	inFlight       int64 // requests
	bytesPerSecond int64 // each way
}

// String says it in words, to go behind others.
func (s share) String() string {
	text := ""
	if s.inFlight > 0 {
		text += fmt.Sprintf(", %d at once", s.inFlight)
	}
	if s.bytesPerSecond > 0 {
		text += fmt.Sprintf(", %d bytes per second", s.bytesPerSecond)
	}
	return text
}

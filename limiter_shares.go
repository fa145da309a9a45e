package main

// Limits on how much at once: a user's requests in flight, and a user's bytes per second in each
// direction. They know nothing of HTTP.
//
// A bandwidth keeps one instant: that at which all bytes booked so far have passed at the rate.
// A transfer books its bytes by moving the instant on. If the instant that it found is too far
// ahead of the clock, the transfer sleeps until then.
//
//	1,000,000 bytes per second, chunks of 25,000: each moves the instant on by 25 ms
//	at  0 ms the instant is  0: not ahead, moves a chunk
//	at  0 ms the instant is 25: 25 ms ahead, moves a chunk
//	at  0 ms the instant is 50: 50 ms ahead, sleeps until 50 ms, moves a chunk
//	at 50 ms the instant is 75: 25 ms ahead, moves a chunk
//
// So there is no timer that ticks and no queue: waiting transfers have found different instants,
// and wake one after the other.

import (
	"context"
	"fmt"
	"math"
	"sync"
	"sync/atomic"
	"time"
)

// An inFlight counts one user's requests in flight. It outlives a reload of the configuration,
// with or without a new limit. The zero value is ready to use. It may be used by several
// goroutines at once.
type inFlight struct{ count atomic.Int64 }

// enter counts a request and returns true, unless limit of them are in flight. A limit of 0 is
// none; the request still counts, because a reload may set a limit while it is in flight. Each
// true is followed by one leave.
func (f *inFlight) enter(limit int64) bool {
	for {
		count := f.count.Load()
		if limit > 0 && count >= limit {
			return false
		}
		// To add first and compare then could refuse a request because of another that
		// is refused at the same time.
		if f.count.CompareAndSwap(count, count+1) {
			return true
		}
	}
}

// leave ends what enter began.
func (f *inFlight) leave() { f.count.Add(-1) }

const (
	maxAhead      = 40 * time.Millisecond // how far a user may be ahead of the rate; no sleep is shorter
	maxBehind     = 10 * time.Millisecond // how much of a late timer is made up for
	smallestChunk = 4 << 10               // bytes; the size of net/http's buffers
	largestChunk  = 1 << 20               // bytes
)

// A bandwidth is the rate of all of a user's transfers in one direction. In any interval no more
// passes than the rate allows in the interval plus maxAhead plus maxBehind, and one turn of each
// transfer. A nil bandwidth and the zero value have no limit. It may be used by several
// goroutines at once.
type bandwidth struct {
	rate atomic.Int64 // bytes per second; 0 is no limit

	mu      sync.Mutex    // guards the rest
	passed  time.Time     // when the bytes booked so far have passed
	waiting int64         // transfers that sleep
	changed chan struct{} // closed when the rate changes; nil while nobody has slept
}

// set changes the rate, in bytes per second; 0 is no limit. Waiting transfers continue at once,
// and what was booked is forgotten: at worst one chunk of each transfer passes early, once.
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
	if rate == 0 { // it was changed meanwhile
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

// turn returns how many bytes a transfer may move before another one: what passes in 25 ms,
// divided by the number of transfers that wait. It requires that mu is held.
func (b *bandwidth) turn() int {
	return int(min(max(b.rate.Load()/40/(b.waiting+1), smallestChunk), largestChunk))
}

// A flow is one transfer's use of a bandwidth. It belongs to one goroutine.
type flow struct {
	*bandwidth
	left int // bytes of its turn
}

func (f *flow) unlimited() bool { return f.bandwidth == nil || f.rate.Load() == 0 }

// chunk returns how many bytes may be moved at once, so that a slow rate is smooth.
func (f *flow) chunk() int {
	if f.unlimited() {
		return math.MaxInt
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.turn()
}

// take books n bytes that were moved. It is for a reader, which does not know the number before,
// and waits for 0 bytes. To book them before, while a slow peer does not send them, would waste
// the rate.
func (f *flow) take(n int) {
	if !f.unlimited() {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.book(n)
		f.left -= n
	}
}

// wait books n bytes and returns when they may be moved. If ctx is done before, it gives them
// back and returns the context's error. No deadline may be set meanwhile: that of an HTTP/2
// stream would end the stream (net/http's onWriteTimeout).
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
			f.book(-n) // or clients that try again would wait for their own earlier attempts
			return err
		}
	}
	f.left = f.turn() - n
	return nil
}

// A share is what a user may use of the gateway at once. 0 is no limit.
type share struct {
	inFlight       int64 // requests
	bytesPerSecond int64 // each way
}

// String describes the share, to follow other text.
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

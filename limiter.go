package main

// An exact sliding window: in any interval of the window's length, a name has no more
// admitted requests than the limit. The window is a ring of the instants of the last
// admitted requests. A new request is admitted if the ring has room after the instants that
// have left the window are dropped. The limiter knows nothing of users or requests.
//
//	limit 3, window 60 s          10   20   50
//	at 65: refused, room in 5 s   [10] [20] [50]
//	at 71: admitted               [71] [20] [50]     10 has left
//
// Two counters and a weighted mean (the usual "sliding window") would need less
// memory and admit bursts of up to twice the limit across a boundary.

import (
	"fmt"
	"sort"
	"sync"
	"time"
)

// A rateLimit admits a number of requests in any interval of the window's length. Zero
// requests means no limit.
type rateLimit struct {
	requests int
	window   time.Duration
}

// String describes the limit.
func (l rateLimit) String() string {
	if l.requests == 0 {
		return "no limit"
	}
	return fmt.Sprintf("%d requests in %s", l.requests, l.window)
}

// firstRing is the first size of a ring: many users never need much of their limit.
const firstRing = 16

// A limiter holds a window for every name it was made with. It may be used by
// several goroutines at once.
type limiter struct {
	epoch   time.Time // instants are stored as their distance from it
	windows map[string]*window
}

// newLimiter returns a limiter for these names. Another name, and one whose limit is zero, is
// never refused. So memory is bounded by the configuration.
func newLimiter(limits map[string]rateLimit, epoch time.Time) *limiter {
	l := &limiter{epoch: epoch, windows: make(map[string]*window, len(limits))}
	for name, limit := range limits {
		if limit.requests > 0 {
			l.windows[name] = &window{limit: limit}
		}
	}
	return l
}

// successor returns a limiter for these names that shares the windows of old. The windows keep
// their limits until apply is called.
func (old *limiter) successor(limits map[string]rateLimit) *limiter {
	l := newLimiter(limits, old.epoch)
	for name := range l.windows {
		if w := old.windows[name]; w != nil {
			l.windows[name] = w
		}
	}
	return l
}

// apply gives the windows these limits.
func (l *limiter) apply(limits map[string]rateLimit) {
	for name, w := range l.windows {
		w.change(limits[name])
	}
}

// A decision is the limiter's answer, with what the client is told. For a name without a
// limit only admitted is set.
type decision struct {
	admitted   bool
	limit      int           // requests in a window
	remaining  int           // requests that would be admitted now
	reset      time.Time     // when the oldest request leaves the window
	retryAfter time.Duration // until the next one would be admitted; 0 if admitted
	busy       bool          // refused because the shared limiter could not decide in time
}

// allow decides on a request of name at the instant now. A refused request does
// not count. A clock that steps back stands still for the limiter: it neither admits requests
// twice nor locks anybody out.
func (l *limiter) allow(name string, now time.Time) decision {
	w := l.windows[name]
	if w == nil {
		return decision{admitted: true}
	}
	at := now.Sub(l.epoch) // by the monotonic clock, if now has one

	w.mu.Lock()
	defer w.mu.Unlock()
	admitted := w.admit(at)
	oldest := w.ring[w.first]
	d := decision{
		admitted:  admitted,
		limit:     w.limit.requests,
		remaining: w.limit.requests - w.count,
		reset:     l.epoch.Add(oldest + w.limit.window),
	}
	if !admitted {
		d.retryAfter = oldest + w.limit.window - w.newest
	}
	return d
}

// used returns how many requests of name are in its window at the instant now, and how many may be,
// without counting one. For a name without a limit both are 0.
func (l *limiter) used(name string, now time.Time) (requests int, limit rateLimit) {
	w := l.windows[name]
	if w == nil {
		return 0, rateLimit{}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	at := max(w.newest, now.Sub(l.epoch))
	left, _ := sort.Find(w.count, func(i int) int { // the instants are in order
		if at-w.ring[(w.first+i)%len(w.ring)] >= w.limit.window {
			return 1
		}
		return 0
	})
	return w.count - left, w.limit
}

// A window is a ring of count instants at which requests were admitted, the oldest at index
// first.
type window struct {
	mu     sync.Mutex // guards the rest; one for each window, so that users don't wait for each other
	limit  rateLimit
	ring   []time.Duration // grows up to limit.requests
	first  int
	count  int
	newest time.Duration // the latest instant seen
}

// admit requires that mu is held. An instant leaves the window exactly the window's length
// after it: at 60 s a request of 0 s no longer counts.
func (w *window) admit(at time.Duration) bool {
	if w.ring == nil {
		w.ring = make([]time.Duration, min(firstRing, w.limit.requests))
		w.newest = at
	}
	w.newest = max(w.newest, at)
	for w.count > 0 && w.newest-w.ring[w.first] >= w.limit.window {
		w.first = (w.first + 1) % len(w.ring)
		w.count--
	}
	if w.count == w.limit.requests {
		return false
	}
	if w.count == len(w.ring) {
		w.grow()
	}
	w.ring[(w.first+w.count)%len(w.ring)] = w.newest
	w.count++
	return true
}

// grow doubles the ring, which is full. It requires that mu is held.
func (w *window) grow() {
	ring := make([]time.Duration, min(2*len(w.ring), w.limit.requests))
	n := copy(ring, w.ring[w.first:])
	copy(ring[n:], w.ring[:w.first])
	w.ring, w.first = ring, 0
}

// change sets another limit. It keeps the latest instants that fit.
func (w *window) change(limit rateLimit) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.limit == limit {
		return
	}
	ring, first, count, newest := w.ring, w.first, w.count, w.newest
	w.limit, w.ring, w.first, w.count = limit, nil, 0, 0
	for i := max(0, count-limit.requests); i < count; i++ {
		w.admit(ring[(first+i)%len(ring)])
	}
	w.newest = newest
}

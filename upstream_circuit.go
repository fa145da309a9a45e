package main

// An account that does not answer is refused fast, so that it holds no requests that wait for it
// in vain, and is probed by one request at a time. It knows nothing of what failed.

import (
	"fmt"
	"sync"
	"time"
)

const (
	circuitFailures = 10          // in a row, by connection or time-out, before an account is refused
	firstRefusal    = time.Second // before the first probe; twice that after each that fails
	longestRefusal  = 10 * time.Second
)

// A circuit counts the failures of an account's requests. It may be used by several goroutines at
// once.
type circuit struct {
	mu sync.Mutex // guards the rest

	// changed, if not nil, is called when the account is refused from now on, or no longer. It
	// must not use the circuit.
	changed func(open bool)

	failures int // in a row
	refusal  time.Duration
	until    time.Time // no request before; zero: the circuit is closed
	probing  bool      // a request is on its way to find out
}

// A circuitError refuses a request without asking the backend.
type circuitError struct{ retryAfter time.Duration }

func (e *circuitError) Error() string {
	return fmt.Sprintf("the backend did not answer %d requests in a row, and is asked again in %s", circuitFailures, e.retryAfter.Round(time.Millisecond))
}

// An outcome is what a request says about its backend.
type outcome int

const (
	unknownOutcome outcome = iota // the client left, or its body failed
	answeredOutcome
	failedOutcome // by connection or time-out
)

// enter returns nil if a request may be sent; then leave must follow. It reports whether the
// request is a probe, which leave is told.
func (c *circuit) enter(now time.Time) (probe bool, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.until.IsZero():
		return false, nil
	case now.Before(c.until):
		return false, &circuitError{c.until.Sub(now)}
	case c.probing:
		return false, &circuitError{firstRefusal}
	}
	c.probing = true
	return true, nil
}

// leave counts the outcome of a request. A request that was sent before the circuit opened may
// still close it, and does not keep it open longer.
func (c *circuit) leave(probe bool, o outcome, now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if probe {
		c.probing = false
	}
	switch open := !c.until.IsZero(); {
	case o == answeredOutcome:
		c.failures, c.refusal, c.until = 0, 0, time.Time{}
		if open {
			c.report(false)
		}
	case o == unknownOutcome || open && !probe:
	default:
		if c.failures++; c.failures < circuitFailures {
			return
		}
		c.refusal = min(max(2*c.refusal, firstRefusal), longestRefusal)
		if c.until = now.Add(c.refusal); !open {
			c.report(true)
		}
	}
}

// isOpen reports whether the account is refused, but for probes.
func (c *circuit) isOpen() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return !c.until.IsZero()
}

// silence ends the reports of changes.
func (c *circuit) silence() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.changed = nil
}

// report requires that mu is held.
func (c *circuit) report(open bool) {
	if c.changed != nil {
		c.changed(open)
	}
}

package main

// Turns at the shared limiter's store, and what its answers say about its health.
// There are more requests than connections when clients send many at once. That is
// their doing, not the store's, so waiting for a turn is timed apart from the store,
// and says nothing about it.

import (
	"errors"
	"fmt"
	"hash/maphash"
	"net"
	"sync/atomic"
	"time"
)

// redisQueues bound what goes on at once. A channel holds a token for each; senders
// get their turn in the order in which they came.
type redisQueues struct {
	conns chan struct{} // connections in use
	dials chan struct{} // connections that are being opened
	keys  [64]chan struct{}
	seed  maphash.Seed
}

func newRedisQueues() redisQueues {
	q := redisQueues{
		conns: make(chan struct{}, maxRedisConns),
		dials: make(chan struct{}, maxRedisDials),
		seed:  maphash.MakeSeed(),
	}
	for i := range q.keys {
		q.keys[i] = make(chan struct{}, maxRedisTurns)
	}
	return q
}

// turns is the queue of a key. A few keys may share one: clients do not choose which,
// for keys are of users that the configuration names.
func (q *redisQueues) turns(key string) chan struct{} {
	return q.keys[maphash.String(q.seed, key)%uint64(len(q.keys))]
}

func leave(queue chan struct{}) { <-queue }

// A redisCall is one eval.
type redisCall struct {
	ends   time.Time     // of its wait for a turn; then, of its turn
	grace  time.Duration // for each dial and command; redisDeadline but in tests
	outage *redisOutage  // the first after it began
}

// begin returns a call that begins now.
func (s *redisStore) begin() *redisCall {
	s.mu.Lock()
	defer s.mu.Unlock()
	return &redisCall{ends: time.Now().Add(redisPatience), grace: redisDeadline, outage: s.outage}
}

// deadline is when a dial or a command that begins now has to be answered.
func (c *redisCall) deadline(now time.Time) time.Time {
	if d := now.Add(c.grace); d.Before(c.ends) {
		return d
	}
	return c.ends
}

// wait waits for a place in a queue. It ends at once, with an error about the store,
// when the store fails another call meanwhile; with errRedisBusy when the call's time
// is over.
func (s *redisStore) wait(call *redisCall, queue chan struct{}) error {
	select {
	case queue <- struct{}{}:
		return nil
	default:
	}
	timer := time.NewTimer(time.Until(call.ends))
	defer timer.Stop()
	select {
	case queue <- struct{}{}:
		if call.outage.seen() { // both at once
			leave(queue)
			return call.outage.failure()
		}
		return nil
	case <-call.outage.over:
		return call.outage.failure()
	case <-s.closed:
		return errRedisClosed
	case <-timer.C:
		return errRedisBusy
	}
}

// A redisOutage is a failure of the store, from the view of the calls that wait.
type redisOutage struct {
	over  chan struct{} // closed when it has come
	cause error         // valid from then on
}

func newRedisOutage() *redisOutage { return &redisOutage{over: make(chan struct{})} }

func (o *redisOutage) seen() bool {
	select {
	case <-o.over:
		return true
	default:
		return false
	}
}

func (o *redisOutage) failure() error {
	return fmt.Errorf("the store failed another call: %w", o.cause)
}

// fail tells the calls that began before this one failed. Those that begin from now on
// find out by themselves.
func (s *redisStore) fail(call *redisCall, cause error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.outage == call.outage { // of several at once, the first tells
		s.outage.cause = cause
		close(s.outage.over)
		s.outage = newRedisOutage()
	}
}

// A redisNode is what is known of a server: when it answered last, whomever.
type redisNode struct {
	made time.Time
	last atomic.Int64 // nanoseconds after made
}

// node returns the node of an address. Addresses come from the nodes themselves, so
// their number is bounded.
func (s *redisStore) node(addr string) *redisNode {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := s.nodes[addr]
	if n == nil {
		if len(s.nodes) >= maxRedisNodes {
			clear(s.nodes)
		}
		n = &redisNode{made: time.Now()}
		s.nodes[addr] = n
	}
	return n
}

func (n *redisNode) answer(now time.Time) { n.last.Store(int64(now.Sub(n.made))) }

// lastAnswer is when the node answered last, or was first heard of.
func (n *redisNode) lastAnswer() time.Time { return n.made.Add(time.Duration(n.last.Load())) }

func (n *redisNode) answeredSince(t time.Time) bool { return n.lastAnswer().After(t) }

func isTimeout(err error) bool {
	var timeout net.Error
	return errors.As(err, &timeout) && timeout.Timeout()
}

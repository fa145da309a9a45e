package main

// Turns at the shared limiter's store, and what its replies tell about its health. When clients
// send many requests at once there are more calls than connections. That tells nothing about
// the store, so the wait for a turn has a limit of its own. This file knows nothing of scripts.

import (
	"errors"
	"fmt"
	"hash/maphash"
	"net"
	"sync/atomic"
	"time"
)

// redisQueues bound what happens at once. A channel holds a token for each; senders get their
// turns in the order in which they came.
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

// turns returns the queue of a key. Some keys may share one. Clients can't choose which, because
// the keys are the users of the configuration.
func (q *redisQueues) turns(key string) chan struct{} {
	return q.keys[maphash.String(q.seed, key)%uint64(len(q.keys))]
}

func leave(queue chan struct{}) { <-queue }

// A redisCall is one eval.
type redisCall struct {
	ends   time.Time     // end of the wait for a turn, and then of the turn
	grace  time.Duration // for each dial and command; redisDeadline, except in tests
	outage *redisOutage  // the first after it began
}

// begin returns a call that begins now.
func (s *redisStore) begin() *redisCall {
	s.mu.Lock()
	defer s.mu.Unlock()
	return &redisCall{ends: time.Now().Add(redisPatience), grace: redisDeadline, outage: s.outage}
}

// deadline returns when a dial or a command that begins now must be answered.
func (c *redisCall) deadline(now time.Time) time.Time {
	if d := now.Add(c.grace); d.Before(c.ends) {
		return d
	}
	return c.ends
}

// wait waits for a place in a queue. It returns at once with an error about the store if the
// store fails another call meanwhile, and with errRedisBusy when the call's time is over.
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
		if call.outage.seen() { // both happened
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

// A redisOutage is a failure of the store, for the calls that wait.
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

// fail ends the waiting calls that began before this one failed. Later calls ask the store
// themselves.
func (s *redisStore) fail(call *redisCall, cause error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.outage == call.outage { // the first of several failures
		s.outage.cause = cause
		close(s.outage.over)
		s.outage = newRedisOutage()
	}
}

// A redisNode is what is known of a server: when it last answered any call.
type redisNode struct {
	made time.Time
	last atomic.Int64 // nanoseconds after made
}

// node returns the node of an address. Addresses come from the nodes, so their number is
// bounded.
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

// lastAnswer returns when the node last answered, or when it was first named.
func (n *redisNode) lastAnswer() time.Time { return n.made.Add(time.Duration(n.last.Load())) }

func (n *redisNode) answeredSince(t time.Time) bool { return n.lastAnswer().After(t) }

func isTimeout(err error) bool {
	var timeout net.Error
	return errors.As(err, &timeout) && timeout.Timeout()
}

package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// A windowServer is a store that admits so many requests in all, and takes its time:
// like Redis it runs one command after the other. It is made in a synctest bubble.
type windowServer struct {
	perCommand time.Duration // while other commands wait
	roundTrip  time.Duration // of the network
	dialTime   time.Duration // while other dials go on
	turn       chan struct{} // held while a command runs
	left       map[string]int
	open, most atomic.Int64 // connections
	dials      atomic.Int64
	dialing    atomic.Int64
	mostDials  atomic.Int64
	served     sync.WaitGroup // connections
}

func newWindowServer(limit int, names ...string) *windowServer {
	w := &windowServer{turn: make(chan struct{}, 1), left: map[string]int{}}
	for _, name := range names {
		w.left[windowKey(name)] = limit
	}
	return w
}

func (w *windowServer) dial(context.Context, string, string) (net.Conn, error) {
	w.dials.Add(1)
	storeMax(&w.mostDials, w.dialing.Add(1))
	time.Sleep(w.dialTime)
	w.dialing.Add(-1)
	client, server := net.Pipe()
	storeMax(&w.most, w.open.Add(1))
	w.served.Go(func() { w.serve(server) })
	return client, nil
}

func storeMax(v *atomic.Int64, n int64) {
	for old := v.Load(); n > old && !v.CompareAndSwap(old, n); old = v.Load() {
	}
}

func (w *windowServer) serve(conn net.Conn) {
	defer w.open.Add(-1)
	defer conn.Close()
	r := bufio.NewReader(conn)
	for {
		command, err := readCommand(r)
		if err != nil {
			return
		}
		time.Sleep(w.roundTrip)
		w.turn <- struct{}{}
		time.Sleep(w.perCommand)
		reply := "*4\r\n:0\r\n:0\r\n:60000000\r\n:60000000\r\n"
		if key := command[3]; w.left[key] > 0 {
			w.left[key]--
			reply = fmt.Sprintf("*4\r\n:1\r\n:%d\r\n:60000000\r\n:0\r\n", w.left[key])
		}
		<-w.turn
		if _, err := io.WriteString(conn, reply); err != nil {
			return
		}
	}
}

// flood asks each limiter n times at once for name, and returns how many were admitted
// and how many were told to retry because the store had no time for them.
func flood(n int, name string, limiters ...*sharedLimiter) (admitted, busy int64) {
	var yes, later atomic.Int64
	var calls sync.WaitGroup
	for range n {
		for _, s := range limiters {
			calls.Go(func() {
				switch d := s.allow(name, time.Now()); {
				case d.admitted:
					yes.Add(1)
				case d.busy:
					later.Add(1)
				}
			})
		}
	}
	calls.Wait()
	return yes.Load(), later.Load()
}

// newFloodLimiters returns limiters before the same store, of 50 requests in 60 s for
// each name.
func newFloodLimiters(t *testing.T, n int, w *windowServer, names ...string) []*sharedLimiter {
	limits := map[string]rateLimit{}
	for _, name := range names {
		limits[name] = rateLimit{50, time.Minute}
	}
	var limiters []*sharedLimiter
	for range n {
		store := newRedisStore(redisServer{addr: "seed:1"})
		store.dialer = w.dial
		t.Cleanup(func() {
			store.close()
			w.served.Wait() // the clock of a bubble stands still when its test has returned
		})
		limiters = append(limiters, newSharedLimiter(store, newLimiter(limits, time.Now()), limits, slog.New(slog.DiscardHandler)))
	}
	return limiters
}

// Clients that ask for more at once than the connections to a healthy store can carry
// wait for their turn. They must not make the gateway believe that the store is gone:
// then each gateway would admit the limit by itself.
func TestFloodDoesNotMakeTheStoreLookDown(t *testing.T) {
	for _, test := range []struct {
		name                          string
		perCommand, roundTrip, dialed time.Duration
	}{
		{"one command at a time", time.Millisecond, 0, 0},
		{"far away", 50 * time.Microsecond, 5 * time.Millisecond, 5 * time.Millisecond},
		{"farther away", 10 * time.Microsecond, 20 * time.Millisecond, 20 * time.Millisecond},
		{"busy and far away", 500 * time.Microsecond, 5 * time.Millisecond, 10 * time.Millisecond},
		{"at once", 0, 0, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWindowServer(50, "u")
				w.perCommand, w.roundTrip, w.dialTime = test.perCommand, test.roundTrip, test.dialed
				limiters := newFloodLimiters(t, 2, w, "u")
				begin := time.Now()
				admitted, busy := flood(400, "u", limiters...)
				if admitted != 50 || busy != 0 {
					t.Errorf("%d admitted, %d told to retry, want 50 and none", admitted, busy)
				}
				for _, s := range limiters {
					if !s.healthy() || s.failures.Load() != 0 {
						t.Errorf("healthy = %t, failures = %d, want true and none", s.healthy(), s.failures.Load())
					}
				}
				if took := time.Since(begin); took > redisPatience {
					t.Errorf("took %s, want at most %s", took, redisPatience)
				}
				if n, dials := w.most.Load(), w.mostDials.Load(); n > 2*maxRedisConns || dials > 2*maxRedisDials {
					t.Errorf("%d connections, %d dialed at once, want at most %d and %d", n, dials, 2*maxRedisConns, 2*maxRedisDials)
				}
				for _, s := range limiters {
					s.store.close()
				}
			})
		})
	}
}

// More calls than a healthy store can answer in redisPatience are told to retry:
// they are neither let through, nor decided by each gateway alone.
func TestFloodBeyondPatienceIsRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWindowServer(50, "u")
		// As slow as it may be: the commands of all connections of the other gateway,
		// one after the other, take less than redisDeadline.
		w.perCommand = redisDeadline / (2*maxRedisConns + 8)
		limiters := newFloodLimiters(t, 2, w, "u")
		begin := time.Now()
		admitted, busy := flood(2500, "u", limiters...)
		if admitted != 50 || busy == 0 {
			t.Errorf("%d admitted, %d told to retry, want 50 and most of 5000", admitted, busy)
		}
		if took := time.Since(begin); took > 2*redisPatience {
			t.Errorf("took %s, want at most %s", took, 2*redisPatience)
		}
		for _, s := range limiters {
			if !s.healthy() || s.failures.Load() != 0 {
				t.Errorf("healthy = %t, failures = %d, want true and none", s.healthy(), s.failures.Load())
			}
			s.store.close()
		}
	})
}

// A user who floods the store must not use up the patience of another one.
func TestFloodOfOneUserLeavesTurnsToOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		names := []string{"loud", "quiet", "silent"}
		w := newWindowServer(50, names...)
		w.roundTrip = 20 * time.Millisecond
		s := newFloodLimiters(t, 1, w, names...)[0]
		quiet := "quiet"
		if s.store.queues.turns(windowKey(quiet)) == s.store.queues.turns(windowKey("loud")) {
			quiet = "silent" // two keys in 64 share a queue
		}
		var loud sync.WaitGroup
		loud.Go(func() { flood(1000, "loud", s) })
		time.Sleep(100 * time.Millisecond)
		begin := time.Now()
		if d := s.allow(quiet, begin); !d.admitted {
			t.Errorf("allow = %+v, want admitted", d)
		}
		if took := time.Since(begin); took > 2*w.roundTrip {
			t.Errorf("took %s, want one round trip of %s, at most two", took, w.roundTrip)
		}
		loud.Wait()
		s.store.close()
	})
}

// Calls that wait for a turn are told at once when the store fails one that has it:
// nobody is held up for longer than that one.
func TestWaitingCallsHearOfAnOutage(t *testing.T) {
	for _, test := range []struct {
		name   string
		dialer func(w *windowServer) func(context.Context, string, string) (net.Conn, error)
		want   time.Duration
	}{
		{"silence", func(w *windowServer) func(context.Context, string, string) (net.Conn, error) {
			w.roundTrip = time.Hour
			return w.dial
		}, redisDeadline},
		{"no connection", func(*windowServer) func(context.Context, string, string) (net.Conn, error) {
			return func(ctx context.Context, _, _ string) (net.Conn, error) {
				<-ctx.Done()
				return nil, os.ErrDeadlineExceeded
			}
		}, redisDeadline},
		{"refused", func(*windowServer) func(context.Context, string, string) (net.Conn, error) {
			return func(context.Context, string, string) (net.Conn, error) {
				return nil, errors.New("connection refused")
			}
		}, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWindowServer(50, "u")
				s := newFloodLimiters(t, 1, w, "u")[0]
				s.store.dialer = test.dialer(w)
				begin := time.Now()
				admitted, busy := flood(400, "u", s)
				if took := time.Since(begin); admitted != 50 || busy != 0 || took != test.want {
					t.Errorf("%d admitted, %d told to retry in %s, want 50, none and %s", admitted, busy, took, test.want)
				}
				if s.healthy() {
					t.Error("the store is still asked")
				}
				s.store.close()
				time.Sleep(2 * time.Hour) // the fake's commands end
			})
		})
	}
}

// One command that is not answered while others are is not proof that the store is
// down, but it is not waited for for ever either.
func TestOneUnansweredCommandIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fake, store := newFakeRedis(t, func(_ string, command []string) string {
			if strings.Contains(command[3], "stuck") {
				return ""
			}
			return "*1\r\n:1\r\n"
		})
		done := make(chan struct{})
		var others sync.WaitGroup
		others.Go(func() {
			for {
				select {
				case <-done:
					return
				case <-time.After(redisDeadline / 5):
					if _, err := evalOne(store, "fine"); err != nil {
						t.Errorf("eval: %v", err)
					}
				}
			}
		})
		begin := time.Now()
		_, err := evalOne(store, "stuck")
		if took := time.Since(begin); !errors.Is(err, os.ErrDeadlineExceeded) || took != redisPatience {
			t.Errorf("eval: %v after %s, want a time-out after %s", err, took, redisPatience)
		}
		close(done)
		others.Wait()
		store.close()
		_ = fake
	})
}

// A reply that is here when the deadline passes is read: it was this process that had
// no time, and clients could have caused that.
func TestReplyThatWaitedForUsIsRead(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	answered := make(chan struct{})
	go func() {
		conn, err := listener.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		readCommand(bufio.NewReader(conn))
		io.WriteString(conn, "+OK\r\n")
		close(answered)
		io.Copy(io.Discard, conn)
	}()
	defer listener.Close()
	store := newRedisStore(redisServer{addr: listener.Addr().String()})
	defer store.close()
	call := store.begin()
	call.ends = time.Now().Add(10 * time.Second)
	c, err := store.get(call, listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Write(appendCommand(nil, []string{"PING"})); err != nil {
		t.Fatal(err)
	}
	<-answered
	for silent(c.raw) {
		time.Sleep(time.Millisecond)
	}
	c.limited.N = maxReplySize
	c.SetReadDeadline(time.Now().Add(-time.Second))
	if reply, err := readReply(c.reader, maxReplyDepth); err != nil || reply.text != "OK" {
		t.Errorf("readReply = %+v, %v, want OK", reply, err)
	}
}

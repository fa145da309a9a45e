package main

import (
	"errors"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// A fakePeer is what a pulse looks at.
type fakePeer struct {
	mu      sync.Mutex
	count   uint64
	waiting bool
	cut     time.Time
}

func (f *fakePeer) pulse() *pulse {
	return &pulse{what: "nobody took anything for",
		look: func() (uint64, bool) {
			f.mu.Lock()
			defer f.mu.Unlock()
			return f.count, f.waiting
		},
		cut: func() {
			f.mu.Lock()
			defer f.mu.Unlock()
			f.cut = time.Now()
		},
	}
}

func (f *fakePeer) set(change func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change()
}

func TestPulse(t *testing.T) {
	const idle = time.Second
	for _, test := range []struct {
		name string
		act  func(f *fakePeer, p *pulse)
		cut  time.Duration // at the earliest; 0: never
	}{
		{"a call that blocks", func(f *fakePeer, p *pulse) { p.begin(idle) }, idle},
		{"a call with less time than the one before", func(f *fakePeer, p *pulse) {
			p.begin(100 * idle)
			p.end()
			p.begin(idle)
		}, idle},
		{"a call that ends in time", func(f *fakePeer, p *pulse) {
			p.begin(idle)
			time.Sleep(idle * 9 / 10)
			p.end()
		}, 0},
		{"one call after the other", func(f *fakePeer, p *pulse) {
			for range 10 {
				p.begin(idle)
				time.Sleep(idle * 9 / 10)
				p.end()
			}
		}, 0},
		{"a second call that blocks, after a pause", func(f *fakePeer, p *pulse) {
			p.begin(idle)
			p.end()
			time.Sleep(5 * idle)
			p.begin(idle)
		}, 6 * idle},
		{"bytes that move now and then", func(f *fakePeer, p *pulse) {
			p.begin(idle)
			for range 10 {
				time.Sleep(idle * 8 / 10)
				f.set(func() { f.count++ })
			}
			p.end()
		}, 0},
		{"bytes that stop", func(f *fakePeer, p *pulse) {
			p.begin(idle)
			for range 3 {
				time.Sleep(idle / 2)
				f.set(func() { f.count++ })
			}
		}, 5 * idle / 2},
		{"a peer that is not waited for", func(f *fakePeer, p *pulse) {
			f.set(func() { f.waiting = false })
			p.begin(idle)
		}, 0},
		{"a peer that is waited for later", func(f *fakePeer, p *pulse) {
			f.set(func() { f.waiting = false })
			p.begin(idle)
			time.Sleep(5 * idle)
			f.set(func() { f.waiting = true })
		}, 6*idle - idle/ticksPerIdle},
		{"a splice whose other side is behind", func(f *fakePeer, p *pulse) {
			other := &fakePeer{waiting: true}
			p.beginFor(other.pulse(), idle)
			time.Sleep(5 * idle)
			other.set(func() { other.waiting = false })
		}, 6*idle - idle/ticksPerIdle},
		{"a pulse that was stopped", func(f *fakePeer, p *pulse) {
			p.begin(idle)
			time.Sleep(idle / 2)
			p.stop()
		}, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := &fakePeer{waiting: true}
				p := f.pulse()
				began := time.Now()
				test.act(f, p)
				time.Sleep(20 * idle)
				p.stop()
				took := f.cut.Sub(began)
				switch {
				case test.cut == 0 && !f.cut.IsZero():
					t.Errorf("cut off after %s, want never", took)
				case test.cut > 0 && (took < test.cut || took > test.cut+idle/4):
					t.Errorf("cut off after %s, want %s to %s", took, test.cut, test.cut+idle/4)
				}
				if err := p.stalled(); (err != nil) != (test.cut > 0) || err != nil && err.Error() != "nobody took anything for 1s" {
					t.Errorf("stalled() = %v", err)
				}
			})
		})
	}
}

// A deadlineConn notes the last read deadline.
type deadlineConn struct {
	net.Conn
	last time.Time
}

func (c *deadlineConn) SetReadDeadline(t time.Time) error { c.last = t; return nil }

// The patience for an answer begins when everything was acknowledged; a peer that takes
// nothing before that is cut off after the idle time.
func TestAnswerWithin(t *testing.T) {
	if !countsBytes {
		t.Skip("the kernel does not tell what is acknowledged")
	}
	const idle, patience = time.Second, 3 * time.Second
	synctest.Test(t, func(t *testing.T) {
		f := &fakePeer{waiting: true}
		conn := &deadlineConn{}
		began := time.Now()
		stop := f.pulse().answerWithin(conn, idle, patience)
		for range 10 {
			time.Sleep(idle * 8 / 10)
			f.set(func() { f.count++ })
		}
		synctest.Wait()
		if !conn.last.IsZero() {
			t.Error("a deadline is set while bytes move")
		}
		f.set(func() { f.waiting = false })
		time.Sleep(idle)
		stop()
		if after := conn.last.Sub(began); after < 8*idle+patience || after > 8*idle+patience+idle/4 {
			t.Errorf("the deadline is after %s, want %s", after, 8*idle+patience)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		p := (&fakePeer{waiting: true}).pulse()
		conn := &deadlineConn{}
		stop := p.answerWithin(conn, idle, patience)
		time.Sleep(2 * idle)
		stop()
		if !conn.last.Equal(longAgo) || p.stalled() == nil {
			t.Errorf("deadline %s, stall %v, want a connection that was cut off", conn.last, p.stalled())
		}
	})
}

func TestStall(t *testing.T) {
	for _, test := range []struct {
		err     *stall
		text    string
		backend bool
	}{
		{newStall(true, "the backend sent nothing for", time.Minute), "the backend sent nothing for 60s", true},
		{newStall(false, "the client took nothing for", 300*time.Millisecond), "the client took nothing for 0.3s", false},
	} {
		if test.err.Error() != test.text || errors.Is(test.err, errNoProgress) != test.backend {
			t.Errorf("%q, of a backend: %t, want %q, %t", test.err, errors.Is(test.err, errNoProgress), test.text, test.backend)
		}
	}
}

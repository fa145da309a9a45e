package main

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"math"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func TestInFlight(t *testing.T) {
	var f inFlight
	for _, step := range []struct {
		what  string
		limit int64 // of an enter; -1: a leave
		want  bool
	}{
		{"the first of two", 2, true},
		{"the second", 2, true},
		{"one too many", 2, false},
		{"the refused one does not count", 3, true},
		{"the limit was lowered", 2, false},
		{"one leaves", -1, true},
		{"there are still two", 2, false},
		{"another leaves", -1, true},
		{"a place is free", 2, true},
		{"without a limit", 0, true},
		{"what came without a limit counts", 3, false},
	} {
		if step.limit < 0 {
			f.leave()
		} else if got := f.enter(step.limit); got != step.want {
			t.Errorf("%s: enter(%d) = %v, want %v", step.what, step.limit, got, step.want)
		}
	}
}

// No more than the limit are in at once, and nobody is refused while there is
// room: as many goroutines as there are places are never refused.
func TestInFlightConcurrent(t *testing.T) {
	const limit = 4
	for _, test := range []struct {
		name       string
		goroutines int
	}{{"as many as places", limit}, {"more", 4 * limit}} {
		t.Run(test.name, func(t *testing.T) {
			var f inFlight
			var in, refused atomic.Int64
			var wg sync.WaitGroup
			for range test.goroutines {
				wg.Go(func() {
					for range 2000 {
						if !f.enter(limit) {
							refused.Add(1)
							continue
						}
						if n := in.Add(1); n > limit {
							t.Errorf("%d are in, want at most %d", n, limit)
						}
						in.Add(-1)
						f.leave()
					}
				})
			}
			wg.Wait()
			if n := refused.Load(); test.goroutines == limit && n > 0 {
				t.Errorf("%d were refused with a place free for each", n)
			}
			if n := f.count.Load(); n != 0 {
				t.Errorf("%d are in at the end, want 0", n)
			}
		})
	}
}

// A tally is what was moved, and when.
type tally struct {
	mu    sync.Mutex
	moves []move
}

type move struct {
	at    time.Time
	bytes int
	by    int
}

func (y *tally) add(by, n int) {
	y.mu.Lock()
	defer y.mu.Unlock()
	y.moves = append(y.moves, move{time.Now(), n, by})
}

// most is the largest number of bytes in any interval of the length.
func (y *tally) most(length time.Duration) (most int) {
	slices.SortStableFunc(y.moves, func(a, b move) int { return a.at.Compare(b.at) })
	first, sum := 0, 0
	for _, m := range y.moves {
		for sum += m.bytes; m.at.Sub(y.moves[first].at) > length; first++ {
			sum -= y.moves[first].bytes
		}
		most = max(most, sum)
	}
	return most
}

func (y *tally) by(transfer int) (sum int) {
	y.mu.Lock()
	defer y.mu.Unlock()
	for _, m := range y.moves {
		if m.by == transfer {
			sum += m.bytes
		}
	}
	return sum
}

// write moves size bytes as a writer does, in pieces of at most buffer.
func write(ctx context.Context, b *bandwidth, y *tally, by, size, buffer int) error {
	f := flow{bandwidth: b}
	for size > 0 {
		n := min(size, buffer, f.chunk())
		if err := f.wait(ctx, n); err != nil {
			return err
		}
		y.add(by, n)
		size -= n
	}
	return nil
}

// read moves size bytes as a reader does, which gets packet bytes at a time,
// however many it asks for.
func read(ctx context.Context, b *bandwidth, y *tally, by, size, packet int) error {
	f := flow{bandwidth: b}
	for size > 0 {
		if err := f.wait(ctx, 0); err != nil {
			return err
		}
		n := min(size, packet, f.chunk())
		f.take(n)
		y.add(by, n)
		size -= n
	}
	return nil
}

// The rate holds in the whole and in any 100 ms, whether one transfer or many
// share it, and they have like shares.
func TestBandwidthSmooth(t *testing.T) {
	type transfer func(ctx context.Context, b *bandwidth, y *tally, by, size, buffer int) error
	const seconds = 10
	for _, test := range []struct {
		name      string
		transfer  transfer
		rate      int64
		transfers int
		buffer    int
	}{
		{"a slow writer", write, 1 << 10, 1, 64 << 10},
		{"a writer", write, 1 << 20, 1, 64 << 10},
		{"16 writers", write, 1 << 20, 16, 64 << 10},
		{"a fast writer", write, 1 << 30, 1, 64 << 10},
		{"16 fast writers", write, 1 << 30, 16, 8 << 20},
		{"a reader of packets", read, 1 << 20, 1, 1448},
		{"16 readers of packets", read, 1 << 20, 16, 1448},
		{"a reader", read, 1 << 20, 1, 64 << 10},
		{"16 readers", read, 1 << 20, 16, 64 << 10},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var b bandwidth
				var y tally
				b.set(test.rate)
				chunk := (&flow{bandwidth: &b}).chunk()
				size := int(test.rate) * seconds / test.transfers
				started := time.Now()
				var wg sync.WaitGroup
				for i := range test.transfers {
					wg.Go(func() {
						if err := test.transfer(t.Context(), &b, &y, i, size, test.buffer); err != nil {
							t.Error(err)
						}
					})
				}
				// Half of the time is over: have all moved half? Whoever came first has had
				// the burst for itself.
				headStart := int(float64(test.rate) * (maxAhead + maxBehind).Seconds())
				time.Sleep(seconds * time.Second / 2)
				synctest.Wait()
				for i := range test.transfers {
					if got, slack := y.by(i), headStart+2*chunk+size/20; got < size/2-slack || got > size/2+slack {
						t.Errorf("transfer %d has moved %d bytes after half of the time, want %d ± %d", i, got, size/2, slack)
					}
				}
				wg.Wait()

				took := time.Since(started).Seconds()
				if least := seconds - float64(chunk)/float64(test.rate) - 0.05; took < least-seconds*0.02 || took > seconds*1.02 {
					t.Errorf("took %.3f s, want between %.3f and %d s", took, least, seconds)
				}
				// A writer takes its bytes before they are moved, a reader after: so readers
				// may all begin with a chunk.
				want := int(float64(test.rate)*0.1) + headStart + chunk
				if strings.Contains(test.name, "readers") {
					want += chunk * (test.transfers - 1)
				}
				if most := y.most(100 * time.Millisecond); most > want {
					t.Errorf("%d bytes in 100 ms, want at most %d", most, want)
				}
			})
		})
	}
}

// A transfer sleeps once for many pieces, not once for each; and when there are
// many, once in a turn.
func TestBandwidthSleepsSeldom(t *testing.T) {
	const seconds, rate, packet = 5, 20 << 20, 1448
	for _, test := range []struct{ transfers, most int }{
		{1, int(seconds * time.Second / maxAhead)},
		{16, 16 * seconds * 41}, // turns of 25 ms, and some at the start
	} {
		synctest.Test(t, func(t *testing.T) {
			var b bandwidth
			b.set(rate)
			var sleeps atomic.Int64
			var wg sync.WaitGroup
			for range test.transfers {
				wg.Go(func() {
					f := flow{bandwidth: &b}
					for range seconds * rate / packet / test.transfers {
						before := time.Now()
						f.wait(t.Context(), 0)
						f.take(packet)
						if time.Since(before) > 0 {
							sleeps.Add(1)
						}
					}
				})
			}
			wg.Wait()
			if n := int(sleeps.Load()); n > test.most || n == 0 {
				t.Errorf("%d transfers slept %d times in %d s, want at most %d", test.transfers, n, seconds, test.most)
			}
		})
	}
}

// What was not used before does not make a burst later.
func TestBandwidthSavesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b bandwidth
		var y tally
		b.set(1 << 20)
		write(t.Context(), &b, &y, 0, 1<<20, 64<<10)
		time.Sleep(time.Minute)
		write(t.Context(), &b, &y, 0, 1<<20, 64<<10)
		want := int(float64(1<<20)*(0.1+(maxAhead+maxBehind).Seconds())) + (&flow{bandwidth: &b}).chunk()
		if most := y.most(100 * time.Millisecond); most > want {
			t.Errorf("%d bytes in 100 ms, want at most %d", most, want)
		}
	})
}

// A peer that is slow itself does not hold what others could use: 15 that send a
// packet now and then, and one that takes what it can get.
func TestBandwidthSlowPeers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b bandwidth
		var y tally
		b.set(1 << 20)
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		for range 15 {
			wg.Go(func() {
				f := flow{bandwidth: &b}
				for f.wait(ctx, 0) == nil && ctx.Err() == nil {
					time.Sleep(300 * time.Millisecond) // in the read
					f.take(1448)
				}
			})
		}
		started := time.Now()
		read(ctx, &b, &y, 0, 9<<20, 64<<10)
		// The others need 15×1448/0.3 = 72,400 bytes per second at most.
		if took := time.Since(started).Seconds(); took > 9*1.1 {
			t.Errorf("9 MiB took %.1f s, want 9 to 9.9 s", took)
		}
		cancel()
		wg.Wait()
	})
}

func TestBandwidthUnlimited(t *testing.T) {
	var zero bandwidth
	for _, b := range []*bandwidth{nil, &zero} {
		f := flow{bandwidth: b}
		done, cancel := context.WithCancel(t.Context())
		cancel()
		if err := f.wait(done, math.MaxInt); err != nil || f.chunk() != math.MaxInt {
			t.Errorf("wait = %v, chunk() = %d, want no limit", err, f.chunk())
		}
		f.take(math.MaxInt)
	}
}

// A turn is waited for as long as the rate says, in one sleep.
func TestBandwidthSleep(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b bandwidth
		b.set(1 << 10)
		f := flow{bandwidth: &b}
		started := time.Now()
		for range 3 {
			n := f.chunk()
			if n != 4<<10 {
				t.Errorf("chunk() = %d, want 4 KiB", n)
			}
			if err := f.wait(t.Context(), n); err != nil {
				t.Error(err)
			}
		}
		if took := time.Since(started).Seconds(); took < 7.9 || took > 8 {
			t.Errorf("the third chunk came after %.2f s, want 8 s, the time of two", took)
		}
	})
}

// A client that is gone is not slept for, and nobody waits for what it took.
func TestBandwidthCancel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b bandwidth
		b.set(smallestChunk)
		f := flow{bandwidth: &b}
		f.wait(t.Context(), smallestChunk)
		started := time.Now()
		for range 100 {
			ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
			if err := f.wait(ctx, smallestChunk); !errors.Is(err, context.DeadlineExceeded) {
				t.Fatalf("wait = %v, want the context's error", err)
			}
			cancel()
		}
		if took := time.Since(started); took != 100*time.Millisecond {
			t.Errorf("100 that wait for 1 ms each took %s", took)
		}
		f.wait(t.Context(), smallestChunk)
		if took := time.Since(started).Seconds(); took < 0.95 || took > 1 {
			t.Errorf("who came after them went on after %.3f s, want 1 s", took)
		}
		if b.waiting != 0 {
			t.Errorf("%d are waiting, want 0", b.waiting)
		}
	})
}

// A new rate holds at once, for those who sleep too.
func TestBandwidthSet(t *testing.T) {
	for _, test := range []struct {
		name     string
		from, to int64
		want     float64 // seconds for 1 MB after the change
	}{
		{"up", 1000, 1000000, 1},
		{"down", 1000000, 100000, 10},
		{"the same", 100000, 100000, 10},
		{"off", 1000, 0, 0},
		{"on", 0, 1000000, 1},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var b bandwidth
				var y tally
				b.set(test.from)
				if test.from > 0 { // two that run, and sleep for seconds where the rate is slow
					for range 2 {
						go write(t.Context(), &b, &y, 1, 5*smallestChunk, smallestChunk)
					}
				}
				synctest.Wait()
				time.Sleep(time.Second)
				sleepers, before := b.waiting, y.by(1)
				b.set(test.to)
				changed := time.Now()
				synctest.Wait()
				if sleepers > 0 && test.from != test.to && y.by(1) == before {
					t.Error("those who sleep did not go on at once")
				}
				if err := write(t.Context(), &b, &y, 0, 1000000, 64<<10); err != nil {
					t.Error(err)
				}
				if took := time.Since(changed).Seconds(); math.Abs(took-test.want) > 0.1+test.want*0.05 {
					t.Errorf("took %.3f s after the change, want %.3f s", took, test.want)
				}
			})
		})
	}
}

func TestLimitConnections(t *testing.T) {
	listen := func(limit int) net.Listener {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		return limitConnections(l, limit)
	}

	t.Run("accept waits", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			l := listen(2)
			var accepted [3]net.Conn
			for i := range accepted {
				client, err := net.Dial("tcp", l.Addr().String())
				if err != nil {
					t.Fatal(err)
				}
				defer client.Close()
				if i < 2 {
					accepted[i], _ = l.Accept()
				}
			}
			third := make(chan net.Conn)
			go func() {
				conn, _ := l.Accept()
				third <- conn
			}()
			synctest.Wait()
			select {
			case <-third:
				t.Error("a third connection was accepted, want two at once")
			default:
			}
			accepted[0].Close()
			accepted[0].Close() // gives one place back, not two
			accepted[2] = <-third
			go func() {
				_, err := l.Accept()
				if !errors.Is(err, net.ErrClosed) {
					t.Errorf("Accept = %v, want net.ErrClosed", err)
				}
				close(third)
			}()
			synctest.Wait()
			l.Close()
			<-third
			accepted[1].Close()
			accepted[2].Close()
			if _, err := l.Accept(); !errors.Is(err, net.ErrClosed) {
				t.Errorf("Accept of a closed listener with room = %v, want net.ErrClosed", err)
			}
		})
	})

	t.Run("the connection can what a TCP connection can", func(t *testing.T) {
		l := listen(1)
		defer l.Close()
		client, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer client.Close()
		conn, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if _, ok := conn.(io.ReaderFrom); !ok {
			t.Error("no ReadFrom, so no splice")
		}
		if _, ok := conn.(interface{ CloseWrite() error }); !ok {
			t.Error("no CloseWrite")
		}
	})

	t.Run("without a limit", func(t *testing.T) {
		l := listen(0)
		defer l.Close()
		if _, ok := l.(*net.TCPListener); !ok {
			t.Errorf("a %T, want the listener itself", l)
		}
	})

	// Clients come, are answered or not, and leave: all places are given back, or the
	// later ones would wait for ever.
	for _, secure := range []bool{false, true} {
		t.Run(map[bool]string{false: "a server", true: "a server with TLS"}[secure], func(t *testing.T) {
			const limit, clients = 2, 12
			server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path == "/abort" {
					panic(http.ErrAbortHandler)
				}
			}))
			server.Listener.Close()
			l := listen(limit).(*limitedListener)
			server.Listener = l
			scheme := "http"
			if server.EnableHTTP2 = true; secure {
				scheme = "https"
				server.StartTLS()
			} else {
				server.Start()
			}
			var wg sync.WaitGroup
			for i := range clients {
				wg.Go(func() {
					transport := &http.Transport{
						ForceAttemptHTTP2: i%2 == 0,
						TLSClientConfig:   &tls.Config{InsecureSkipVerify: true}, // the certificate is httptest's
					}
					defer transport.CloseIdleConnections()
					path := "/"
					if i%3 == 0 {
						path = "/abort"
					}
					client := &http.Client{Transport: transport, Timeout: 30 * time.Second}
					resp, err := client.Get(scheme + "://" + l.Addr().String() + path)
					if err == nil {
						resp.Body.Close()
					}
					if (err == nil) != (path == "/") || errors.Is(err, os.ErrDeadlineExceeded) {
						t.Errorf("GET %s: %v", path, err)
					}
				})
			}
			wg.Wait()
			server.Close() // waits for its connections to be closed
			if n := len(l.places); n != 0 {
				t.Errorf("%d of %d places are taken after all have left", n, limit)
			}
		})
	}
}

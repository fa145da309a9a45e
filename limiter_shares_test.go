package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
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

// A request more than max_in_flight is refused in the client's format, and told when to
// come again; other users are not.
func TestShareInFlight(t *testing.T) {
	release := make(chan struct{})
	backend := startRecorder(t, func(w http.ResponseWriter, r *http.Request) { <-release })
	p := startReloadable(t, 0, testConfig(backend.URL, withAdmin, with("users.user.max_in_flight", 2)))
	var clients sync.WaitGroup
	for _, method := range []string{"GET", "PUT"} {
		clients.Go(func() {
			if resp, body := p.do(method, "/photos/slow", userKey, ""); resp.StatusCode != 200 {
				t.Errorf("%s within the limit = %d %s, want 200", method, resp.StatusCode, body)
			}
		})
	}
	await(t, "two requests are under way", func() bool { return len(backend.requests()) == 2 })
	for _, test := range []struct {
		name, method, target string
		header               string
		xml                  bool
	}{
		{"object", "GET", "/photos/k", "X-Other: x", false},
		{"upload", "PUT", "/photos/k", "X-Other: x", false},
		{"listing", "GET", "/photos", "X-Other: x", true},
		{"signs", "GET", "/photos/k", "Authorization: AWS4-HMAC-SHA256 x", true},
		{"without right", "GET", "/secret/k", "X-Other: x", false},
	} {
		resp, body := p.do(test.method, test.target, userKey, "", test.header)
		if code := refusalCode(t, resp, body); resp.StatusCode != 503 || code != "SlowDown" || resp.Header.Get("Retry-After") != "1" || strings.HasPrefix(body, "<?xml") != test.xml {
			t.Errorf("%s: %d, Retry-After %q, %s, want 503 SlowDown, 1, as XML: %t", test.name, resp.StatusCode, resp.Header.Get("Retry-After"), body, test.xml)
		}
		checkHardened(t, resp)
	}
	if n := len(backend.requests()); n != 2 {
		t.Errorf("the backend got %d requests, want 2", n)
	}
	// Who has the room is asked by name, so strangers take none of it.
	for key, want := range map[string]int{"stranger-0123456789": 401, userKey: 503} {
		if resp, _ := p.do("GET", "/photos/k", key, ""); resp.StatusCode != want {
			t.Errorf("GET with %.4s… = %d, want %d", key, resp.StatusCode, want)
		}
	}
	clients.Go(func() {
		if resp, body := p.do("GET", "/photos/k", readOnlyKey, ""); resp.StatusCode != 200 {
			t.Errorf("another user = %d %s, want 200", resp.StatusCode, body)
		}
	})
	await(t, "the other user's request is under way", func() bool { return len(backend.requests()) == 3 })
	// A reload finds those who are under way.
	p.take(testConfig(backend.URL, withAdmin, with("users.user.max_in_flight", 1)))
	if resp, _ := p.do("GET", "/photos/k", userKey, ""); resp.StatusCode != 503 {
		t.Errorf("GET beyond a lower limit = %d, want 503", resp.StatusCode)
	}
	p.take(testConfig(backend.URL, withAdmin, with("max_in_flight", 3)))
	clients.Go(func() {
		if resp, body := p.do("GET", "/photos/k", userKey, ""); resp.StatusCode != 200 {
			t.Errorf("GET within a higher limit = %d %s, want 200", resp.StatusCode, body)
		}
	})
	await(t, "the third request is under way", func() bool { return len(backend.requests()) == 4 })
	if resp, _ := p.do("GET", "/photos/k", userKey, ""); resp.StatusCode != 503 {
		t.Errorf("GET beyond the higher limit = %d, want 503", resp.StatusCode)
	}
	close(release)
	clients.Wait()
	p.take(testConfig(backend.URL, withAdmin, with("max_in_flight", 1)))
	for range 5 {
		if resp, body := p.do("GET", "/photos/k", userKey, ""); resp.StatusCode != 200 {
			t.Errorf("GET when all have ended = %d %s, want 200", resp.StatusCode, body)
		}
	}
}

// A request leaves its place free however it ends.
func TestShareInFlightIsFreed(t *testing.T) {
	arrived, release := make(chan struct{}, 10), make(chan struct{})
	endpoint := startRawBackend(t, func(_ int, conn net.Conn, r *bufio.Reader) {
		line, _, _ := readHead(r)
		arrived <- struct{}{}
		switch {
		case strings.Contains(line, "/cut"):
			io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\nmeow")
		case strings.Contains(line, "/broken"):
		case strings.Contains(line, "/endless"):
			io.WriteString(conn, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
			for {
				if _, err := fmt.Fprintf(conn, "10000\r\n%s\r\n", strings.Repeat("x", 1<<16)); err != nil {
					return
				}
			}
		default:
			<-release
		}
	})
	g := startGateway(t, testConfig(endpoint, with("users.user.max_in_flight", 1), with("server.idle_timeout", "10s")))
	var faulty atomic.Bool
	pool := g.gw.buckets["photos"].upstream.pool
	dial := pool.dialer
	pool.dialer = func(ctx context.Context, network, addr string) (net.Conn, error) {
		if faulty.Load() {
			panic("a fault of our own")
		}
		return dial(ctx, network, addr)
	}
	free := func(after string) {
		t.Helper()
		await(t, "the place is free after "+after, func() bool { return g.gw.loads["user"].inFlight.count.Load() == 0 })
	}
	for _, test := range []struct{ name, method, target, body string }{
		{"a refusal", "GET", "/secret/k", ""},
		{"a fault of the client", "GET", "/photos/k?acl&acl", ""},
		{"an unknown operation", "GET", "/photos/k?policy", ""},
		{"an answer that is cut", "GET", "/photos/cut", ""},
		{"a backend that breaks off", "PUT", "/photos/broken", "meow"},
		{"a page", "GET", "/-/presign", ""},
		{"a list of buckets", "GET", "/", ""},
	} {
		if resp, body := g.do(test.method, test.target, userKey, test.body); resp.StatusCode == 503 {
			t.Errorf("%s: %d %s, want another", test.name, resp.StatusCode, body)
		}
		free(test.name)
	}
	for len(arrived) > 0 {
		<-arrived
	}
	for _, test := range []struct{ name, request string }{
		{"a client that leaves before the answer", "GET /photos/wait HTTP/1.1\r\nHost: g\r\nX-Api-Key: " + userKey + "\r\n\r\n"},
		{"a client that leaves within the answer", "GET /photos/endless HTTP/1.1\r\nHost: g\r\nX-Api-Key: " + userKey + "\r\n\r\n"},
		{"a client that leaves within its upload", "PUT /photos/wait HTTP/1.1\r\nHost: g\r\nX-Api-Key: " + userKey + "\r\nContent-Length: 1000000\r\n\r\n" + strings.Repeat("x", 100000)},
	} {
		conn := g.dial()
		io.WriteString(conn, test.request)
		<-arrived
		if n := g.gw.loads["user"].inFlight.count.Load(); n != 1 {
			t.Errorf("%s: %d requests under way, want 1", test.name, n)
		}
		conn.Close()
		free(test.name)
	}
	close(release)

	faulty.Store(true)
	if resp, body := g.do("GET", "/photos/k", userKey, ""); resp.StatusCode != 500 {
		t.Errorf("GET with a panic = %d %s, want 500", resp.StatusCode, body)
	}
	free("a panic")
}

// shareBackend stores uploads and answers with as many bytes as the query says. In
// received is how much of uploads has come.
func shareBackend(t *testing.T) (endpoint string, received *atomic.Int64) {
	received = new(atomic.Int64)
	endpoint = startRawBackend(t, func(_ int, conn net.Conn, r *bufio.Reader) {
		for {
			line, header, err := readHead(r)
			if err != nil {
				return
			}
			if strings.HasPrefix(line, "PUT") {
				var size int64
				fmt.Sscan(header.Get("Content-Length"), &size)
				n, err := io.CopyN(countsWritten{received}, r, size)
				if n != size || err != nil {
					return
				}
				io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
				continue
			}
			var size int64
			fmt.Sscanf(line, "GET /photos/%d", &size)
			fmt.Fprintf(conn, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n", size)
			if _, err := io.CopyN(conn, zeroReader{}, size); err != nil {
				return
			}
		}
	})
	return endpoint, received
}

// countsWritten counts what is written to it.
type countsWritten struct{ n *atomic.Int64 }

func (w countsWritten) Write(p []byte) (int, error) {
	w.n.Add(int64(len(p)))
	return len(p), nil
}

// transfer moves size bytes one way, and says how long it took.
func (g *testGateway) transfer(method, key string, size int64) time.Duration {
	g.t.Helper()
	conn := g.dial()
	defer conn.Close()
	started := time.Now()
	switch method {
	case "GET":
		fmt.Fprintf(conn, "GET /photos/%d HTTP/1.1\r\nHost: g\r\nX-Api-Key: %s\r\n\r\n", size, key)
	case "PUT":
		fmt.Fprintf(conn, "PUT /photos/k HTTP/1.1\r\nHost: g\r\nX-Api-Key: %s\r\nContent-Length: %d\r\n\r\n", key, size)
		go io.CopyN(conn, zeroReader{}, size)
	}
	resp, body := readAnswer(g.t, method, conn)
	if resp.StatusCode != 200 || method == "GET" && int64(len(body)) != size || resp.Header.Get("Test-Error") != "" {
		g.t.Errorf("%s of %d bytes = %d with %d bytes, %s, want all", method, size, resp.StatusCode, len(body), resp.Header.Get("Test-Error"))
	}
	return time.Since(started)
}

// A user has bytes_per_second each way, for all transfers together; another user has
// as much.
func TestShareBandwidth(t *testing.T) {
	const rate = 400 << 10
	endpoint, _ := shareBackend(t)
	g := startGateway(t, testConfig(endpoint, with("bytes_per_second", rate), with("users.admin.bytes_per_second", 0)))
	// The first turn of each transfer, and what is made up for, are not waited for.
	least := func(size int64, transfers int) time.Duration {
		return time.Duration(float64(size-int64(transfers)*rate/40)/rate*float64(time.Second)) - maxAhead - maxBehind
	}
	const most = 10 * time.Second // on a machine that is busy
	for _, test := range []struct {
		name      string
		methods   []string // at once, by one user
		size      int64    // of each
		transfers int      // of them, that share a way
	}{
		{"each way", []string{"GET", "PUT"}, 160 << 10, 1},
		{"small ones", []string{"GET", "GET", "GET", "GET", "PUT", "PUT", "PUT", "PUT"}, 30 << 10, 4},
	} {
		started := time.Now()
		var all sync.WaitGroup
		for _, key := range []string{userKey, readOnlyKey} {
			for _, method := range test.methods {
				if method == "PUT" && key == readOnlyKey {
					continue
				}
				all.Go(func() { g.transfer(method, key, test.size) })
			}
		}
		all.Go(func() { // of whom nothing is asked
			if took := g.transfer("GET", adminKey, 8<<20); took > most {
				t.Errorf("%s: the unlimited transfer took %s", test.name, took)
			}
		})
		all.Wait()
		if took, least := time.Since(started), least(int64(test.transfers)*test.size, test.transfers); took < least || took > most {
			t.Errorf("%s: it took %s, want %s to %s", test.name, took, least, most)
		}
	}
}

// A transfer that waits for its own bandwidth for longer than idle_timeout makes
// progress enough, over each protocol.
func TestShareBandwidthIsProgress(t *testing.T) {
	const rate = 8 << 10                        // a turn is 4 KiB: 500 ms
	const download, upload = 10 << 10, 16 << 10 // 0.7 s, and as long again
	const least = 400 * time.Millisecond
	endpoint, _ := shareBackend(t)
	config := testConfig(endpoint, with("bytes_per_second", rate), with("server.idle_timeout", "300ms"))
	plain, secure := startGateway(t, config), startTLS(t, config, nil)
	var all sync.WaitGroup
	for method, size := range map[string]int64{"GET": download, "PUT": upload} {
		all.Go(func() {
			if took := plain.transfer(method, userKey, size); took < least {
				t.Errorf("%s took %s, want %s at least", method, took, least)
			}
		})
	}
	for major, key := range map[int]string{1: userKey, 2: adminKey} {
		transport := secure.client(major)
		transfer := func(req *http.Request, size int64) {
			started := time.Now()
			resp, err := transport.RoundTrip(req)
			if err != nil {
				t.Errorf("HTTP/%d %s: %v", major, req.Method, err)
				return
			}
			defer resp.Body.Close()
			n, err := io.Copy(io.Discard, resp.Body)
			if took := time.Since(started); resp.StatusCode != 200 || err != nil || n != size || took < least {
				t.Errorf("HTTP/%d %s = %d with %d bytes, %v, after %s, want all after %s at least", major, req.Method, resp.StatusCode, n, err, took, least)
			}
		}
		downloaded := make(chan struct{})
		get := secure.request("GET", fmt.Sprintf("/photos/%d", download), key, nil, 0)
		// Of an HTTP/2 stream that has come to its end, no deadline is looked at.
		lastByte := readerFunc(func(p []byte) (int, error) {
			<-downloaded
			return copy(p, "x"), io.EOF
		})
		put := secure.request("PUT", "/photos/k", key, io.MultiReader(io.LimitReader(zeroReader{}, upload-1), lastByte), upload)
		all.Go(func() {
			defer close(downloaded)
			transfer(get, download)
		})
		all.Go(func() { transfer(put, 0) })
	}
	all.Wait()
}

// A new rate is that of transfers under way, too.
func TestShareBandwidthReload(t *testing.T) {
	const size = 4 << 20
	endpoint, received := shareBackend(t)
	slow := testConfig(endpoint, withAdmin, with("users.user.bytes_per_second", 64<<10)) // a minute
	p := startReloadable(t, 0, slow)
	var all sync.WaitGroup
	for _, method := range []string{"GET", "PUT"} {
		all.Go(func() {
			if took := p.transfer(method, userKey, size); took > 15*time.Second {
				t.Errorf("%s took %s, want no minute", method, took)
			}
		})
	}
	await(t, "the upload is under way", func() bool { return received.Load() > 0 })
	p.take(testConfig(endpoint, withAdmin))
	all.Wait()

	// And the other way: from no limit to one.
	p.take(slow)
	if took, least := p.transfer("GET", userKey, 16<<10), 50*time.Millisecond; took < least {
		t.Errorf("GET took %s, want %s at least", took, least)
	}
}

// Connections beyond max_connections wait until one is closed; they are not refused.
func TestShareConnections(t *testing.T) {
	p := startReloadable(t, 0, testConfig(startRecorder(t, nil).URL, withAdmin, with("server.max_connections", 2)))
	const request = "GET /photos/k HTTP/1.1\r\nHost: g\r\nX-Api-Key: " + userKey + "\r\n\r\n"
	open := func() (net.Conn, *bufio.Reader) {
		conn := p.dial()
		t.Cleanup(func() { conn.Close() })
		io.WriteString(conn, request)
		return conn, bufio.NewReader(conn)
	}
	answered := func(r *bufio.Reader) {
		t.Helper()
		if resp, body := readAnswer(t, "GET", r); resp.StatusCode != 200 {
			t.Errorf("GET = %d %s, want 200", resp.StatusCode, body)
		}
	}
	first, firstAnswer := open()
	answered(firstAnswer)
	_, secondAnswer := open()
	answered(secondAnswer)
	third, thirdAnswer := open()
	third.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
	if _, err := thirdAnswer.Peek(1); err == nil || !strings.Contains(err.Error(), "timeout") {
		t.Errorf("the third connection: %v, want no answer", err)
	}
	p.wantSample("s3proxy_client_connections", 2)
	io.WriteString(first, request) // those that are open go on
	answered(firstAnswer)
	first.Close()
	third.SetReadDeadline(time.Now().Add(20 * time.Second))
	answered(thirdAnswer)
	if resp, _ := p.page("GET", "/-/ready"); resp.StatusCode != 200 {
		t.Errorf("/-/ready = %d: the operator's connections count", resp.StatusCode)
	}
}

// A request has its place until the last byte of its answer is written, though a small
// answer is kept until all else is done.
func TestShareInFlightUntilWritten(t *testing.T) {
	const size = 30_000
	endpoint, _ := shareBackend(t)
	g := startGateway(t, testConfig(endpoint, with("users.user.max_in_flight", 1)))
	writing, release := make(chan struct{}, 1), make(chan struct{})
	conn := g.dialHooked(func(conn *net.TCPConn, p []byte) (int, error) {
		writing <- struct{}{}
		<-release
		return conn.Write(p)
	})
	defer conn.Close()
	fmt.Fprintf(conn, "GET /photos/%d HTTP/1.1\r\nHost: g\r\nX-Api-Key: %s\r\n\r\n", size, userKey)
	<-writing
	if n := g.gw.metrics.inFlight.Load(); n != 1 {
		t.Errorf("the metrics count %d requests under way, want 1", n)
	}
	resp, body := g.do("GET", "/photos/1", userKey, "")
	wantError(t, resp, body, 503, "SlowDown")
	close(release)
	if resp, body := readAnswer(t, "GET", conn); resp.StatusCode != 200 || len(body) != size {
		t.Errorf("the answer that was waited for = %d with %d bytes, want 200 with %d", resp.StatusCode, len(body), size)
	}
	await(t, "no request is under way", func() bool { return g.gw.loads["user"].inFlight.count.Load() == 0 && g.gw.metrics.inFlight.Load() == 0 })
	if resp, body := g.do("GET", "/photos/1", userKey, ""); resp.StatusCode != 200 {
		t.Errorf("GET = %d %s, want 200", resp.StatusCode, body)
	}
}

// A small answer comes at the user's rate, too, and not at once when it is over.
func TestShareBandwidthSmallAnswer(t *testing.T) {
	const rate, size = 1000, 30_000 // half a minute
	endpoint, _ := shareBackend(t)
	g := startGateway(t, testConfig(endpoint, with("users.user.bytes_per_second", rate)))
	conn := g.dial()
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(5 * time.Second))
	fmt.Fprintf(conn, "GET /photos/%d HTTP/1.1\r\nHost: g\r\nX-Api-Key: %s\r\n\r\n", size, userKey)
	if _, err := io.ReadFull(conn, make([]byte, 1)); err != nil {
		t.Errorf("the first byte: %v", err)
	}
	if lines := g.lines(); len(lines) != 0 {
		t.Errorf("the request has ended before the first byte came: %v", lines[0])
	}
}

// A backend's answer to an upload that waits for its bandwidth is not waited for.
func TestShareBandwidthEarlyAnswer(t *testing.T) {
	const rate, size = 100, 100_000 // a turn is 4 KiB: 40 s
	endpoint := startRawBackend(t, func(_ int, conn net.Conn, r *bufio.Reader) {
		readHead(r)
		io.CopyN(io.Discard, r, smallestChunk) // the first turn
		const document = "<Error><Code>QuotaExceeded</Code></Error>"
		fmt.Fprintf(conn, "HTTP/1.1 403 Forbidden\r\nContent-Length: %d\r\n\r\n%s", len(document), document)
		io.Copy(io.Discard, r)
	})
	g := startGateway(t, testConfig(endpoint, with("users.user.bytes_per_second", rate)))
	conn := g.dial()
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(5 * time.Second))
	fmt.Fprintf(conn, "PUT /photos/k HTTP/1.1\r\nHost: g\r\nX-Api-Key: %s\r\nContent-Length: %d\r\n\r\n", userKey, size)
	go io.CopyN(conn, zeroReader{}, size)
	resp, body := readAnswer(t, "PUT", conn)
	wantError(t, resp, body, 403, "QuotaExceeded")
}

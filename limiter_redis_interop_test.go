//go:build interop

// The shared limiter before a real redis-server, or a Valkey of that name. Unlike
// the other interop tests this one is of the package main: it gives the script
// instants of its own.
package main

import (
	"bytes"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// startRedis starts a server that keeps nothing on the disk, waits until it
// answers, and returns the process. It ends with the test.
func startRedis(t *testing.T, server redisServer, more ...string) *exec.Cmd {
	t.Helper()
	program, err := exec.LookPath("redis-server")
	if err != nil {
		t.Fatalf("%v: run interop/install", err)
	}
	host, port, _ := net.SplitHostPort(server.addr)
	output := new(bytes.Buffer)
	args := []string{"--bind", host, "--port", port, "--requirepass", server.password,
		"--save", "", "--appendonly", "no", "--dir", t.TempDir()}
	cmd := exec.Command(program, append(args, more...)...)
	cmd.Stdout = output
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
	awaitOutput(t, "redis-server", output, func() bool {
		conn, err := net.Dial("tcp", server.addr)
		if err == nil {
			conn.Close()
		}
		return err == nil
	})
	return cmd
}

// awaitOutput is await that prints the output of a program if ok stays false.
func awaitOutput(t *testing.T, what string, output fmt.Stringer, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain for %s\n%s", what, output)
		}
	}
}

// newRedisServer returns a server on a free port, which nobody has started.
func newRedisServer(t *testing.T) redisServer {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	server, err := parseRedisURL("redis://:interop%2Fpassword@" + l.Addr().String() + "/1")
	if err != nil {
		t.Fatal(err)
	}
	return server
}

// newInteropStore returns a store that ends with the test.
func newInteropStore(t *testing.T, server redisServer) *redisStore {
	store := newRedisStore(server)
	t.Cleanup(store.close)
	return store
}

// redisInt runs a line of Lua on a key that returns an integer.
func redisInt(t *testing.T, store *redisStore, key, lua string, args ...string) int64 {
	t.Helper()
	var result [1]int64
	if err := store.eval(newRedisScript("return {"+lua+"}"), key, args, result[:]); err != nil {
		t.Fatalf("%s: %v", lua, err)
	}
	return result[0]
}

// clockedScript is windowScript with the instant, in microseconds, as a third
// argument.
var clockedScript = func() *redisScript {
	text := strings.Replace(windowScript.text, "redis.call('TIME')", "{0, ARGV[3]}", 1)
	if text == windowScript.text {
		panic("the script does not ask for the time any more")
	}
	return newRedisScript(text)
}()

// On random instants, some of them going back, some in the same microsecond, the
// script decides as the definition of a sliding window does.
func TestInteropRedisScriptModel(t *testing.T) {
	server := newRedisServer(t)
	startRedis(t, server)
	store := newInteropStore(t, server)
	for seed := range uint64(30) {
		random := rand.New(rand.NewPCG(seed, 2))
		// So long that no key expires by the clock of the server meanwhile.
		rule := rateLimit{1 + random.IntN(40), time.Duration(600+random.IntN(3000)) * time.Second}
		epoch := time.Now().Truncate(time.Microsecond)
		model := &slidingLog{limit: rule, newest: epoch.Add(-24 * time.Hour)}
		key := fmt.Sprintf("model:%d", seed)
		now := epoch
		for i := range 300 {
			switch random.IntN(20) {
			case 0: // a pause in which everything may leave
				now = now.Add(time.Duration(random.Int64N(int64(3 * rule.window))))
			case 1: // a clock set back, by less than a window from the latest
				now = later(now, model.newest).Add(-time.Duration(random.Int64N(int64(rule.window))))
			case 2: // the boundary itself
				now = now.Add(rule.window)
			case 3: // the same microsecond
			default:
				now = now.Add(time.Duration(random.Int64N(int64(rule.window) / int64(rule.requests))))
			}
			now = now.Truncate(time.Microsecond)
			args := []string{strconv.Itoa(rule.requests), strconv.FormatInt(rule.window.Microseconds(), 10), strconv.FormatInt(now.UnixMicro(), 10)}
			var r [4]int64
			if err := store.eval(clockedScript, key, args, r[:]); err != nil {
				t.Fatal(err)
			}
			d := model.allow(now)
			at := model.newest
			// A refused request leaves nothing in the store, not even its time.
			model.newest = model.admitted[len(model.admitted)-1]
			want := [4]int64{0, int64(d.remaining), d.reset.Sub(at).Microseconds(), d.retryAfter.Microseconds()}
			if d.admitted {
				want[0] = 1
			}
			if r != want {
				t.Fatalf("seed %d, %+v, request %d: the script returns %d, want %d", seed, rule, i, r, want)
			}
		}
	}
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// What a key may hold from before: of a clock that was wrong, of a higher limit,
// more than can leave one by one.
func TestInteropRedisScriptState(t *testing.T) {
	server := newRedisServer(t)
	startRedis(t, server)
	store := newInteropStore(t, server)
	const minute = 60_000_000
	for _, test := range []struct {
		name         string
		count, after string // of the instants, and in microseconds after now the i-th, in Lua
		limit        int
		want         [4]int64 // admitted, remaining; reset and retry in seconds
		length       int64    // of the list, behind it
	}{
		{"none", "0", "0", 3, [4]int64{1, 2, 60, 0}, 1},
		{"all have left", "3", "-60000000", 3, [4]int64{1, 2, 60, 0}, 1},
		{"one is about to leave", "3", "-50000000", 3, [4]int64{0, 0, 10, 10}, 3},
		{"a clock that stepped back", "2", "20000000", 3, [4]int64{1, 0, 60, 0}, 3},
		{"a clock that was an hour ahead", "3", "3600000000", 3, [4]int64{1, 2, 60, 0}, 1},
		{"a limit that was lowered", "10", "-60000000 + 5000000 * i", 3, [4]int64{0, 0, 5, 40}, 10},
		{"a million leave at once", "1000000", "-61000000 + i", 1000000, [4]int64{1, 999999, 60, 0}, 1},
		{"half a million leave at once", "1000000", "i <= 500000 and -61000000 or -1000000", 1000000, [4]int64{1, 499999, 59, 0}, 500001},
	} {
		key := windowKey(test.name)
		fill := newRedisScript(`
			local time = redis.call('TIME')
			for i = 1, ` + test.count + ` do
				redis.call('RPUSH', KEYS[1], string.format('%.0f', time[1] * 1000000 + time[2] + (` + test.after + `)))
			end
			return {1}`)
		begin := time.Now()
		if err := redisLogin(t, server).eval(false, "EVAL", fill.text, key, nil, make([]int64, 1)); err != nil {
			t.Fatal(err)
		}
		var r [4]int64
		if err := store.eval(windowScript, key, []string{strconv.Itoa(test.limit), strconv.Itoa(minute)}, r[:]); err != nil {
			t.Errorf("%s: %v", test.name, err)
			continue
		}
		elapsed := time.Since(begin).Microseconds() // since before the instants were made
		for i, want := range test.want {
			early := int64(0)
			if i >= 2 {
				want *= 1_000_000
				early = elapsed
			}
			if r[i] > want || r[i] < want-early {
				t.Errorf("%s: the script returns %d, want %d, reset and retry in seconds, at most %d µs less", test.name, r, test.want, elapsed)
				break
			}
		}
		if n := redisInt(t, store, key, "redis.call('LLEN', KEYS[1])"); n != test.length {
			t.Errorf("%s: %d instants are kept, want %d", test.name, n, test.length)
		}
	}
}

// redisLogin returns a connection with time for what takes longer than a decision.
func redisLogin(t *testing.T, server redisServer) *redisConn {
	t.Helper()
	conn, err := net.Dial("tcp", server.addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	c := newRedisConn(conn, conn, &redisNode{made: time.Now()}, server.addr)
	c.call = &redisCall{ends: time.Now().Add(20 * time.Second), grace: 20 * time.Second}
	if err := c.login(server); err != nil {
		t.Fatal(err)
	}
	return c
}

// Refused requests leave nothing behind, the key goes with the window, and it is
// a key like any other for who looks at the memory of the server.
func TestInteropRedisKey(t *testing.T) {
	server := newRedisServer(t)
	startRedis(t, server)
	store := newInteropStore(t, server)
	limits := map[string]rateLimit{"u": {5, 300 * time.Millisecond}}
	s := newSharedLimiter(store, newLimiter(limits, time.Now()), limits, slog.New(slog.DiscardHandler))
	for range 50 {
		s.allow("u", time.Now())
	}
	if n := redisInt(t, store, windowKey("u"), "redis.call('LLEN', KEYS[1])"); n > 5 {
		t.Errorf("%d instants are kept, the limit is 5", n)
	}
	if ms := redisInt(t, store, windowKey("u"), "redis.call('PTTL', KEYS[1])"); ms < 1 || ms > 302 {
		t.Errorf("the key expires in %d ms, the window is 300", ms)
	}
	awaitOutput(t, "the key to expire", new(bytes.Buffer), func() bool {
		return redisInt(t, store, windowKey("u"), "redis.call('EXISTS', KEYS[1])") == 0
	})
	if s.failures.Load() != 0 {
		t.Errorf("%d of %d decisions failed", s.failures.Load(), s.calls.Load())
	}
}

// A connection that the server has closed meanwhile is no failure of the server.
func TestInteropRedisIdleClosed(t *testing.T) {
	server := newRedisServer(t)
	startRedis(t, server)
	limits := map[string]rateLimit{"u": {10, time.Hour}}
	s := newSharedLimiter(newInteropStore(t, server), newLimiter(limits, time.Now()), limits, slog.New(slog.DiscardHandler))
	admin := redisLogin(t, server)
	for i := range 3 {
		if d := s.allow("u", time.Now()); d.remaining != 9-i || s.failures.Load() != 0 {
			t.Errorf("allow = %+v, %d failures, want %d remaining and none", d, s.failures.Load(), 9-i)
		}
		if reply, err := admin.do("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"); err != nil || reply.number != 1 {
			t.Fatalf("%d connections closed, %v, want 1", reply.number, err)
		}
	}
}

// undisturbed runs a test that counts what the store admits, again if it returns
// false: a store that nobody stopped has not answered within redisDeadline, for the
// machine stood still that long, and gateways have decided without it.
func undisturbed(t *testing.T, test func(t *testing.T) bool) {
	for range 5 {
		ok := false
		t.Run("try", func(t *testing.T) { ok = test(t) })
		if ok || t.Failed() {
			return
		}
	}
	t.Fatal("the store was too slow each time")
}

// Of many requests at once to two gateways exactly the limit is admitted.
func TestInteropRedisExactly(t *testing.T) { undisturbed(t, testRedisExactly) }

func testRedisExactly(t *testing.T) bool {
	server := newRedisServer(t)
	startRedis(t, server)
	limits := map[string]rateLimit{"u": {500, time.Minute}, "v": {1, time.Minute}}
	admitted := map[string]*atomic.Int64{"u": {}, "v": {}}
	var gateways []*sharedLimiter
	for range 2 {
		gateways = append(gateways, newSharedLimiter(newInteropStore(t, server), newLimiter(limits, time.Now()), limits, slog.New(slog.DiscardHandler)))
	}
	var calls sync.WaitGroup
	for _, s := range gateways {
		for range 16 {
			calls.Go(func() {
				for range 60 {
					for name, n := range admitted {
						if s.allow(name, time.Now()).admitted {
							n.Add(1)
						}
					}
				}
			})
		}
	}
	calls.Wait()
	for _, s := range gateways {
		if s.failures.Load() != 0 {
			return false
		}
	}
	for name, n := range admitted {
		if got, want := n.Load(), int64(limits[name].requests); got != want {
			t.Errorf("%s: %d admitted, want %d", name, got, want)
		}
	}
	return true
}

// More requests at once than there are connections wait for their turn: the store is
// not treated as gone, so not every gateway admits the limit by itself.
func TestInteropRedisFlood(t *testing.T) {
	server := newRedisServer(t)
	startRedis(t, server)
	limits := map[string]rateLimit{"u": {50, time.Hour}}
	var gateways []*sharedLimiter
	for range 2 {
		gateways = append(gateways, newSharedLimiter(newInteropStore(t, server), newLimiter(limits, time.Now()), limits, slog.New(slog.DiscardHandler)))
	}
	for range 5 {
		flood(400, "u", gateways...)
	}
	for _, s := range gateways {
		if n := s.failures.Load(); n > 0 || !s.healthy() {
			t.Errorf("%d failures, healthy = %t, want none and true", n, s.healthy())
		}
	}
	if n := redisInt(t, gateways[0].store, windowKey("u"), "redis.call('LLEN', KEYS[1])"); n != 50 {
		t.Errorf("%d admitted, want 50", n)
	}
}

// The server is killed and started again under load. Every decision is made, in
// time; the limit holds for each gateway meanwhile, and for both when the server
// is back.
func TestInteropRedisRestart(t *testing.T) { undisturbed(t, testRedisRestart) }

func testRedisRestart(t *testing.T) bool {
	server := newRedisServer(t)
	redis := startRedis(t, server)
	limits := map[string]rateLimit{"u": {50, time.Hour}}
	var admitted atomic.Int64
	var slowest atomic.Int64
	logs := [2]*syncBuffer{new(syncBuffer), new(syncBuffer)}
	var gateways []*sharedLimiter
	var load sync.WaitGroup
	end := make(chan struct{})
	home := sync.OnceFunc(func() { close(end); load.Wait() })
	t.Cleanup(home)
	for i := range 2 {
		s := newSharedLimiter(newInteropStore(t, server), newLimiter(limits, time.Now()), limits, slog.New(slog.NewTextHandler(logs[i], nil)))
		gateways = append(gateways, s)
		for range 4 {
			load.Go(func() {
				pace := time.NewTicker(time.Millisecond) // a loop that spins would measure the scheduler
				defer pace.Stop()
				for {
					select {
					case <-end:
						return
					case <-pace.C:
					}
					begin := time.Now()
					d := s.allow("u", begin)
					took := int64(time.Since(begin))
					for old := slowest.Load(); took > old && !slowest.CompareAndSwap(old, took); old = slowest.Load() {
					}
					if d.admitted {
						admitted.Add(1)
					}
					if d.limit != 50 {
						t.Errorf("no decision: %+v", d)
						return
					}
				}
			})
		}
	}
	each := func(ok func(s *sharedLimiter) bool) func() bool {
		return func() bool { return ok(gateways[0]) && ok(gateways[1]) }
	}
	calls := func(n uint64) func(s *sharedLimiter) bool {
		return func(s *sharedLimiter) bool { return s.calls.Load() > n }
	}
	awaitOutput(t, "the shared limit to be used up", logs[0], func() bool { return admitted.Load() >= 50 })
	awaitOutput(t, "some refusals", logs[0], each(calls(200)))
	before := admitted.Load()
	if !each(func(s *sharedLimiter) bool { return s.failures.Load() == 0 })() {
		return false
	}
	if before != 50 {
		t.Errorf("%d admitted before, want 50", before)
	}
	redis.Process.Kill()
	redis.Wait()
	awaitOutput(t, "the store to be lost", logs[0], each(func(s *sharedLimiter) bool { return !s.healthy() }))
	// The places that the other gateway has used are free here: 50 for both.
	awaitOutput(t, "the local limits to be used up", logs[0], func() bool { return admitted.Load() == 100 })
	startRedis(t, server)
	awaitOutput(t, "the store to be used again", logs[0], each((*sharedLimiter).healthy))
	asked := [2]uint64{gateways[0].calls.Load(), gateways[1].calls.Load()}
	awaitOutput(t, "some decisions", logs[0], func() bool { return calls(asked[0]+200)(gateways[0]) && calls(asked[1]+200)(gateways[1]) })
	home()
	for _, log := range logs {
		if strings.Count(log.String(), "level=WARN") > 1 {
			return false
		}
	}
	if n := admitted.Load(); n != 150 { // an empty server: a new window, one for both
		t.Errorf("%d admitted in all, want 50 by the store, 50 by both gateways and 50 by the new store", n)
	}
	t.Logf("the slowest decision took %s", time.Duration(slowest.Load()))
	if took := time.Duration(slowest.Load()); took > 2*redisDeadline {
		t.Errorf("one decision took %s", took)
	}
	for i, log := range logs {
		if text := log.String(); strings.Count(text, "\n") != 2 || strings.Contains(text, "password") {
			t.Errorf("gateway %d: want one line for the loss and one for the return, no password:\n%s", i, text)
		}
	}
	return true
}

// Two nodes of a cluster have half of the keys each. Whichever is asked, limits
// hold, also while a user's slot moves from one to the other.
func TestInteropRedisCluster(t *testing.T) {
	var servers [2]redisServer
	var nodes [2]*redisConn
	var ids, buses [2]string
	do := func(node int, command string) string {
		t.Helper()
		reply, err := nodes[node].do(strings.Fields(command)...)
		if err != nil {
			t.Fatalf("%s: %v", command, err)
		}
		return reply.text
	}
	for i := range servers {
		servers[i] = newRedisServer(t)
		servers[i].db = 0 // a cluster has no other
		_, buses[i], _ = net.SplitHostPort(newRedisServer(t).addr)
		startRedis(t, servers[i], "--cluster-enabled", "yes", "--cluster-port", buses[i])
		nodes[i] = redisLogin(t, servers[i])
		ids[i] = do(i, "CLUSTER MYID")
	}
	do(0, "CLUSTER ADDSLOTSRANGE 0 8191")
	do(1, "CLUSTER ADDSLOTSRANGE 8192 16383")
	host, port, _ := net.SplitHostPort(servers[1].addr)
	do(0, "CLUSTER MEET "+host+" "+port+" "+buses[1])
	awaitOutput(t, "the cluster", new(bytes.Buffer), func() bool {
		return strings.Contains(do(0, "CLUSTER INFO"), "cluster_state:ok") && strings.Contains(do(1, "CLUSTER INFO"), "cluster_state:ok")
	})

	limits := map[string]rateLimit{}
	for i := range 40 {
		limits[fmt.Sprintf("user-%d", i)] = rateLimit{3, time.Hour}
	}
	log := new(bytes.Buffer)
	var gateways [2]*sharedLimiter // each knows one of the nodes
	for i, server := range servers {
		gateways[i] = newSharedLimiter(newInteropStore(t, server), newLimiter(limits, time.Now()), limits, slog.New(slog.NewTextHandler(log, nil)))
	}
	admitted := func(name string, requests int) (n int) {
		for i := range requests {
			if gateways[i%2].allow(name, time.Now()).admitted {
				n++
			}
		}
		return n
	}
	for name := range limits {
		if got := admitted(name, 8); got != 3 {
			t.Errorf("%s: %d of 8 admitted, want 3", name, got)
		}
	}
	for i, s := range gateways {
		if n := len(s.store.routes); n == 0 || n == len(limits) {
			t.Errorf("gateway %d was sent on for %d of %d users", i, n, len(limits))
		}
	}

	// A slot of the second node goes to the first.
	var name, slot string
	for i := 0; slot == ""; i++ {
		name = fmt.Sprintf("mover-%d", i)
		reply, err := nodes[0].do("CLUSTER", "KEYSLOT", windowKey(name))
		if err != nil {
			t.Fatal(err)
		}
		if reply.number >= 8192 {
			slot = strconv.FormatInt(reply.number, 10)
		}
	}
	limits[name] = rateLimit{4, time.Hour}
	do(0, "CLUSTER SETSLOT "+slot+" IMPORTING "+ids[1])
	do(1, "CLUSTER SETSLOT "+slot+" MIGRATING "+ids[0])
	if got := admitted(name, 2); got != 2 { // ASK: the key is not on the second node any more
		t.Errorf("%s: %d of 2 admitted while the slot moves", name, got)
	}
	do(0, "CLUSTER SETSLOT "+slot+" NODE "+ids[0])
	do(1, "CLUSTER SETSLOT "+slot+" NODE "+ids[0])
	if got := admitted(name, 6); got != 2 { // MOVED
		t.Errorf("%s: %d of 6 admitted after the slot has moved, want 2", name, got)
	}
	for _, s := range gateways {
		if s.failures.Load() != 0 {
			t.Errorf("%d of %d decisions failed:\n%s", s.failures.Load(), s.calls.Load(), log)
		}
	}
}

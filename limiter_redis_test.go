package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func TestParseRedisURL(t *testing.T) {
	for _, test := range []struct {
		url  string
		want redisServer
	}{
		{"redis://localhost", redisServer{addr: "localhost:6379"}},
		{"redis://localhost:7000/", redisServer{addr: "localhost:7000"}},
		{"redis://:pass-word@host:6379/3", redisServer{addr: "host:6379", password: "pass-word", db: 3}},
		{"rediss://bob:pass%2Fw%40rd@[::1]:6380/0", redisServer{addr: "[::1]:6380", tls: true, user: "bob", password: "pass/w@rd"}},
	} {
		if got, err := parseRedisURL(test.url); err != nil || got != test.want {
			t.Errorf("parseRedisURL(%q) = %#v, %v, want %#v", test.url, got, err, test.want)
		}
	}
	for _, url := range []string{
		"", "localhost:6379", "http://:hunter2@h", "redis:hunter2", "redis://:hunter2@", "redis://:hunter2@:6379",
		"redis://:hunter2@h:0", "redis://:hunter2@h:65536", "redis://:hunter2@h:x", "redis://:hunter2@h/-1", "redis://:hunter2@h/a",
		"redis://:hunter2@h/0/1", "redis://:hunter2@h?db=1", "redis://:hunter2@h#1", "redis://hunter2@h", "redis://:hun/ter2@h",
		"redis://:hun#ter2@h", "redis://:hun%ter2@h", "redis://:hunter2@h/99999999999",
	} {
		_, err := parseRedisURL(url)
		if err == nil {
			t.Errorf("parseRedisURL(%q) is accepted", url)
		} else if strings.Contains(err.Error(), "hunter2") || strings.Contains(err.Error(), "ter2") {
			t.Errorf("parseRedisURL(%q) shows the password: %v", url, err)
		}
	}
	server, _ := parseRedisURL("redis://:hunter2@host")
	if text := fmt.Sprintf("%v %+v %s", server, server, server); strings.Contains(text, "hunter2") {
		t.Errorf("a server prints as %s", text)
	}
}

// A fakeRedis answers commands with raw bytes. It is reached by pipes, of which
// the clock of synctest knows.
type fakeRedis struct {
	t      *testing.T
	answer func(addr string, command []string) string // requires mu; "" is silence

	mu       sync.Mutex // guards the rest
	dials    []string   // the address of each
	open     int        // connections
	commands []string   // "addr NAME", in their order
}

// hangUp, at the end of an answer, closes the connection.
const hangUp = "\x00"

// newFakeRedis returns a fake and a store whose server it is, as node "seed:1". The
// store is closed with the test.
func newFakeRedis(t *testing.T, answer func(addr string, command []string) string) (*fakeRedis, *redisStore) {
	f := &fakeRedis{t: t, answer: answer}
	s := newRedisStore(redisServer{addr: "seed:1"})
	s.dialer = f.dial
	t.Cleanup(func() {
		if !s.isClosed() {
			s.close()
		}
	})
	return f, s
}

func (f *fakeRedis) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	client, server := net.Pipe()
	f.mu.Lock()
	defer f.mu.Unlock()
	f.dials = append(f.dials, addr)
	f.open++
	go f.serve(server, addr)
	return client, nil
}

func (f *fakeRedis) serve(conn net.Conn, addr string) {
	defer func() {
		conn.Close()
		f.mu.Lock()
		defer f.mu.Unlock()
		f.open--
	}()
	r := bufio.NewReader(conn)
	for {
		command, err := readCommand(r)
		if err != nil {
			return
		}
		f.mu.Lock()
		f.commands = append(f.commands, addr+" "+command[0])
		answer := f.answer(addr, command)
		f.mu.Unlock()
		text, end := strings.CutSuffix(answer, hangUp)
		if _, err := io.WriteString(conn, text); err != nil || end {
			return
		}
	}
}

// readCommand reads an array of bulk strings.
func readCommand(r *bufio.Reader) (command []string, err error) {
	var n int
	if _, err := fmt.Fscanf(r, "*%d\r\n", &n); err != nil {
		return nil, err
	}
	for range n {
		var size int
		if _, err := fmt.Fscanf(r, "$%d\r\n", &size); err != nil {
			return nil, err
		}
		b := make([]byte, size+2)
		if _, err := io.ReadFull(r, b); err != nil {
			return nil, err
		}
		command = append(command, string(b[:size]))
	}
	return command, nil
}

// set changes what the fake answers.
func (f *fakeRedis) set(answer func(addr string, command []string) string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.answer = answer
}

// seen returns what came to the fake so far.
func (f *fakeRedis) seen() (dials, commands []string, open int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.dials), slices.Clone(f.commands), f.open
}

// always answers every command alike.
func always(text string) func(string, []string) string {
	return func(string, []string) string { return text }
}

var testScript = newRedisScript("return {1}")

// evalOne runs testScript, which returns one integer.
func evalOne(s *redisStore, key string) (int64, error) {
	var result [1]int64
	err := s.eval(testScript, key, nil, result[:])
	return result[0], err
}

// Whatever the server says or leaves unsaid, a call ends within the deadline, its
// connection is closed, and the next call gets its own answer on another one.
func TestRedisOddReplies(t *testing.T) {
	for _, test := range []struct{ name, reply, want string }{
		{"silence", "", "i/o timeout"},
		{"half a reply", "*1\r\n:", "i/o timeout"},
		{"half a reply and the end", "*1\r\n:" + hangUp, "unexpected EOF"},
		{"the end", hangUp, "unexpected EOF"},
		{"HTTP", "HTTP/1.1 400 Bad Request\r\n\r\n", errRedisReply.Error()},
		{"huge bulk string announced", "$536870912\r\n", errRedisReply.Error()},
		{"huge array announced", "*4096\r\n", "i/o timeout"},
		{"huge line", "+" + strings.Repeat("x", 2*maxReplySize), errRedisReply.Error()},
		{"huge error", "-ERR " + strings.Repeat("x", 2*maxReplySize) + "\r\n", errRedisReply.Error()},
		{"endless array", "*4096\r\n" + strings.Repeat(":1\r\n", 4096), errRedisReply.Error()},
		{"deep array", strings.Repeat("*1\r\n", 900), errRedisReply.Error()},
		{"two replies", "*1\r\n:1\r\n*1\r\n:1\r\n", errRedisReply.Error()},
		{"a string", "+OK\r\n", errRedisScript.Error()},
		{"a null", "*-1\r\n", errRedisScript.Error()},
		{"too many", "*2\r\n:1\r\n:2\r\n", errRedisScript.Error()},
		{"not an integer", "*1\r\n$1\r\n1\r\n", errRedisScript.Error()},
		{"loading", "-LOADING Redis is loading the dataset in memory\r\n", "LOADING"},
		{"read only", "-READONLY You can't write against a read only replica.\r\n", "READONLY"},
		{"no password", "-NOAUTH Authentication required.\r\n", "NOAUTH"},
		{"another type", "-WRONGTYPE Operation against a key holding the wrong kind of value\r\n", "WRONGTYPE"},
		{"moved nowhere", "-MOVED\r\n", errRedisReply.Error()},
		{"moved to no port", "-MOVED 1 host\r\n", errRedisReply.Error()},
		{"moved to port 0", "-MOVED 1 host:0\r\n", errRedisReply.Error()},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				fake, store := newFakeRedis(t, always(test.reply))
				begin := time.Now()
				_, err := evalOne(store, "k")
				if err == nil || !strings.Contains(err.Error(), test.want) {
					t.Errorf("eval: %v, want %q", err, test.want)
				}
				if took := time.Since(begin); took > redisDeadline {
					t.Errorf("eval took %s", took)
				}
				fake.set(always("*1\r\n:7\r\n"))
				if got, err := evalOne(store, "k"); got != 7 || err != nil {
					t.Errorf("the next eval = %d, %v, want 7", got, err)
				}
				synctest.Wait()
				want := 2
				if strings.HasPrefix(test.name, "moved") { // odd, but all of a reply
					want = 1
				}
				if dials, _, open := fake.seen(); len(dials) != want || open != 1 {
					t.Errorf("%d connections, %d still open, want %d and 1", len(dials), open, want)
				}
			})
		})
	}
}

// A reply in many pieces is one reply, and its connection is used again.
func TestRedisPieces(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fake, store := newFakeRedis(t, nil)
		store.dialer = func(ctx context.Context, network, addr string) (net.Conn, error) {
			conn, err := fake.dial(ctx, network, addr)
			return oneByteConn{conn}, err
		}
		for i := range 5 {
			fake.set(always(fmt.Sprintf("*1\r\n:%d\r\n", i)))
			if got, err := evalOne(store, "k"); got != int64(i) || err != nil {
				t.Errorf("eval = %d, %v, want %d", got, err, i)
			}
		}
		if dials, _, _ := fake.seen(); len(dials) != 1 {
			t.Errorf("%d connections, want 1", len(dials))
		}
	})
}

type oneByteConn struct{ net.Conn }

func (c oneByteConn) Read(b []byte) (int, error) { return c.Conn.Read(b[:min(len(b), 1)]) }

// The answer that comes after its caller has gone must not be anybody else's.
func TestRedisLateReply(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		late := make(chan struct{})
		serve := func(conn net.Conn, reply string, wait <-chan struct{}) {
			defer conn.Close()
			r := bufio.NewReader(conn)
			for {
				if _, err := readCommand(r); err != nil {
					return
				}
				<-wait
				io.WriteString(conn, reply)
			}
		}
		ready := make(chan struct{})
		close(ready)
		dials := 0
		store := newRedisStore(redisServer{addr: "seed:1"})
		defer store.close()
		store.dialer = func(context.Context, string, string) (net.Conn, error) {
			client, server := net.Pipe()
			if dials++; dials == 1 {
				go serve(server, "*1\r\n:1\r\n", late)
			} else {
				go serve(server, "*1\r\n:2\r\n", ready)
			}
			return client, nil
		}
		if got, err := evalOne(store, "first"); err == nil {
			t.Errorf("the first eval = %d, want a time-out", got)
		}
		close(late)
		synctest.Wait()
		for range 3 {
			if got, err := evalOne(store, "second"); got != 2 || err != nil {
				t.Errorf("the second eval = %d, %v, want 2", got, err)
			}
		}
		if dials != 2 {
			t.Errorf("%d connections, want 2", dials)
		}
	})
}

func TestRedisRedirects(t *testing.T) {
	// Each node says no to a script it was never sent whole.
	nodes := func(answers map[string]string) func(addr string, command []string) string {
		known := map[string]bool{}
		return func(addr string, command []string) string {
			if command[0] == "ASKING" {
				return "+OK\r\n"
			}
			if answer, ok := answers[addr]; ok {
				return answer
			}
			if known[addr] = known[addr] || command[0] == "EVAL"; !known[addr] {
				return "-NOSCRIPT No matching script. Please use EVAL.\r\n"
			}
			return "*1\r\n:7\r\n"
		}
	}
	for _, test := range []struct {
		name     string
		answers  map[string]string
		commands string // of two calls
	}{
		{"no script", nil, "seed:1 EVALSHA, seed:1 EVAL, seed:1 EVALSHA"},
		{"moved", map[string]string{"seed:1": "-MOVED 3999 127.0.0.1:6381\r\n"},
			"seed:1 EVALSHA, 127.0.0.1:6381 EVALSHA, 127.0.0.1:6381 EVAL, 127.0.0.1:6381 EVALSHA"},
		{"moved to another port", map[string]string{"seed:1": "-MOVED 3999 :2\r\n"},
			"seed:1 EVALSHA, seed:2 EVALSHA, seed:2 EVAL, seed:2 EVALSHA"},
		{"moved to IPv6", map[string]string{"seed:1": "-MOVED 3999 ::1:2\r\n"},
			"seed:1 EVALSHA, [::1]:2 EVALSHA, [::1]:2 EVAL, [::1]:2 EVALSHA"},
		{"ask", map[string]string{"seed:1": "-ASK 3999 n:2\r\n"},
			"seed:1 EVALSHA, n:2 ASKING, n:2 EVALSHA, n:2 ASKING, n:2 EVAL, seed:1 EVALSHA, n:2 ASKING, n:2 EVALSHA"},
		{"moved, ask", map[string]string{"seed:1": "-MOVED 3999 n:2\r\n", "n:2": "-ASK 3999 n:3\r\n"},
			"seed:1 EVALSHA, n:2 EVALSHA, n:3 ASKING, n:3 EVALSHA, n:3 ASKING, n:3 EVAL, n:2 EVALSHA, n:3 ASKING, n:3 EVALSHA"},
	} {
		t.Run(test.name, func(t *testing.T) {
			fake, store := newFakeRedis(t, nodes(test.answers))
			for range 2 {
				if got, err := evalOne(store, "k"); got != 7 || err != nil {
					t.Errorf("eval = %d, %v, want 7", got, err)
				}
			}
			store.close()
			dials, commands, _ := fake.seen()
			if got := strings.Join(commands, ", "); got != test.commands {
				t.Errorf("commands\n%s, want\n%s", got, test.commands)
			}
			if nodes := slices.Compact(slices.Sorted(slices.Values(dials))); len(nodes) != len(dials) {
				t.Errorf("connections to %q, want one for each", dials)
			}
		})
	}
	t.Run("circle", func(t *testing.T) {
		fake, store := newFakeRedis(t, func(addr string, _ []string) string {
			return "-MOVED 1 " + map[string]string{"seed:1": "n:2", "n:2": "seed:1"}[addr] + "\r\n"
		})
		_, err := evalOne(store, "k")
		if _, commands, _ := fake.seen(); err == nil || len(commands) != maxRedirects+1 {
			t.Errorf("eval: %v after %d commands, want an error after %d", err, len(commands), maxRedirects+1)
		}
	})
}

func TestRedisRoutesBounded(t *testing.T) {
	store := newRedisStore(redisServer{addr: "seed:1"})
	for i := range 3 * maxRoutes {
		key := strconv.Itoa(i)
		store.learn(key, "n:2")
		if store.route(key) != "n:2" || len(store.routes) > maxRoutes {
			t.Fatalf("after %d keys the route is %q, and there are %d", i, store.route(key), len(store.routes))
		}
	}
}

func TestRedisLogin(t *testing.T) {
	for _, test := range []struct{ url, want string }{
		{"redis://seed:1", ""},
		{"redis://:hunter2@seed:1/", "AUTH hunter2"},
		{"redis://bob:hunter2@seed:1/5", "AUTH bob hunter2, SELECT 5"},
	} {
		server, err := parseRedisURL(test.url)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		_, store := newFakeRedis(t, func(_ string, command []string) string {
			if command[0] == "EVALSHA" {
				return "*1\r\n:1\r\n"
			}
			got = append(got, strings.Join(command, " "))
			return "+OK\r\n"
		})
		store.server = server
		for range 2 { // on the same connection
			if _, err := evalOne(store, "k"); err != nil {
				t.Errorf("%s: eval: %v", test.url, err)
			}
		}
		if got := strings.Join(got, ", "); got != test.want {
			t.Errorf("%s: login by %q, want %q", test.url, got, test.want)
		}
	}
	// As a server does that does not know AUTH.
	_, store := newFakeRedis(t, func(_ string, command []string) string {
		return "-ERR unknown command 'AUTH', with args beginning with: '" + command[1] + "'\r\n"
	})
	store.server.password = "hunter2"
	if _, err := evalOne(store, "k"); err == nil || strings.Contains(err.Error(), "hunter2") || !strings.Contains(err.Error(), "password") {
		t.Errorf("eval: %v, want that the password is refused, and not what it is", err)
	}
}

// Of many calls to a server that hangs each fails in time, with a bounded number
// of connections, all of which are closed.
func TestRedisPoolBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fake, store := newFakeRedis(t, always(""))
		begin := time.Now()
		var calls sync.WaitGroup
		for i := range 5 * maxRedisConns {
			calls.Go(func() {
				if got, err := evalOne(store, strconv.Itoa(i)); err == nil {
					t.Errorf("eval = %d, want an error", got)
				}
			})
		}
		synctest.Wait()
		if _, _, open := fake.seen(); open != maxRedisConns {
			t.Errorf("%d connections at once, want %d", open, maxRedisConns)
		}
		calls.Wait()
		synctest.Wait()
		_, _, open := fake.seen()
		if took := time.Since(begin); took != redisDeadline || open != 0 {
			t.Errorf("after %s %d connections are open, want %s and none", took, open, redisDeadline)
		}
	})
}

// Connections are kept, but not for long, and not more than a bound, whatever
// node they are to.
func TestRedisIdle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fake, store := newFakeRedis(t, always("*1\r\n:1\r\n"))
		eval := func(key string, dials, open int) {
			t.Helper()
			if _, err := evalOne(store, key); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
			if seen, _, now := fake.seen(); len(seen) != dials || now != open {
				t.Fatalf("%d dials, %d open, want %d and %d", len(seen), now, dials, open)
			}
		}
		eval("k", 1, 1)
		time.Sleep(redisIdleTimeout - 1)
		eval("k", 1, 1)
		time.Sleep(redisIdleTimeout)
		eval("k", 2, 1)
		for i := range 2 * maxRedisConns {
			node := fmt.Sprintf("n%d:1", i)
			store.learn(node, node)
			eval(node, 3+i, min(2+i, maxRedisConns))
		}
		time.Sleep(redisIdleTimeout)
		eval("k", 3+2*maxRedisConns, 1)
		store.close()
		synctest.Wait()
		_, err := evalOne(store, "k")
		if _, _, open := fake.seen(); err != errRedisClosed || open != 0 {
			t.Errorf("after close: %v, %d connections open, want %v and none", err, open, errRedisClosed)
		}
	})
}

// redisOn serves the fake on a real listener, until the test ends.
func redisOn(t *testing.T, listener net.Listener, fake *fakeRedis) {
	t.Cleanup(func() { listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			fake.mu.Lock()
			fake.open++
			fake.mu.Unlock()
			go fake.serve(conn, "")
		}
	}()
}

// The certificate is that of httptest, for example.com and 127.0.0.1.
func TestRedisTLS(t *testing.T) {
	web := httptest.NewTLSServer(nil)
	defer web.Close()
	listener, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: web.TLS.Certificates})
	if err != nil {
		t.Fatal(err)
	}
	redisOn(t, listener, &fakeRedis{t: t, answer: always("*1\r\n:7\r\n")})
	roots := x509.NewCertPool()
	roots.AddCert(web.Certificate())
	for _, test := range []struct {
		name  string
		roots *x509.CertPool
		host  string
		want  string
	}{
		{"the system does not know the issuer", nil, "127.0.0.1", "certificate"},
		{"another name", roots, "localhost", "certificate"},
		{"the right one", roots, "127.0.0.1", ""},
	} {
		_, port, _ := net.SplitHostPort(listener.Addr().String())
		server, err := parseRedisURL("rediss://:password@" + test.host + ":" + port)
		if err != nil {
			t.Fatal(err)
		}
		server.password = ""
		store := newRedisStore(server)
		store.dialer = func(ctx context.Context, network, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, listener.Addr().String())
		}
		store.tls.RootCAs = test.roots
		call := store.begin()
		call.grace = 10 * time.Second // a handshake under -race may take its time
		call.ends = call.ends.Add(call.grace)
		c, err := store.get(call, server.addr)
		if err == nil {
			_, err = c.do("PING")
			store.put(c, true)
		}
		store.close()
		if (err == nil) != (test.want == "") || err != nil && !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v, want %q", test.name, err, test.want)
		}
	}
}

// The program may end while a reload closes the same store.
func TestRedisClosedTwice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fake, store := newFakeRedis(t, always("*1\r\n:7\r\n"))
		if _, err := evalOne(store, "k"); err != nil {
			t.Fatal(err)
		}
		store.close()
		store.close()
		synctest.Wait()
		if _, _, open := fake.seen(); open != 0 {
			t.Errorf("%d connections are open, want none", open)
		}
		if _, err := evalOne(store, "k"); !errors.Is(err, errRedisClosed) {
			t.Errorf("eval = %v, want %v", err, errRedisClosed)
		}
	})
}

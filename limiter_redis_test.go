package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http/httptest"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
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

// The examples of https://redis.io/docs/latest/develop/reference/protocol-spec/.
func TestReadReply(t *testing.T) {
	bulk := func(s string) redisReply { return redisReply{kind: '$', text: s} }
	integer := func(n int64) redisReply { return redisReply{kind: ':', number: n} }
	array := func(list ...redisReply) redisReply { return redisReply{kind: '*', list: list} }
	null := redisReply{kind: '_'}
	for _, test := range []struct {
		text string
		want redisReply
	}{
		{"+OK\r\n", redisReply{kind: '+', text: "OK"}},
		{"-ERR unknown command 'asdf'\r\n", redisReply{kind: '-', text: "ERR unknown command 'asdf'"}},
		{":0\r\n", integer(0)},
		{":1000\r\n", integer(1000)},
		{":-9223372036854775808\r\n", integer(-1 << 63)},
		{"$5\r\nhello\r\n", bulk("hello")},
		{"$0\r\n\r\n", bulk("")},
		{"$4\r\n\r\n:1\r\n", bulk("\r\n:1")},
		{"$-1\r\n", null},
		{"*0\r\n", array()},
		{"*-1\r\n", null},
		{"*2\r\n$5\r\nhello\r\n$5\r\nworld\r\n", array(bulk("hello"), bulk("world"))},
		{"*5\r\n:1\r\n:2\r\n:3\r\n:4\r\n$5\r\nhello\r\n", array(integer(1), integer(2), integer(3), integer(4), bulk("hello"))},
		{"*2\r\n*3\r\n:1\r\n:2\r\n:3\r\n*2\r\n+Hello\r\n-World\r\n",
			array(array(integer(1), integer(2), integer(3)), array(redisReply{kind: '+', text: "Hello"}, redisReply{kind: '-', text: "World"}))},
		{"*3\r\n$5\r\nhello\r\n$-1\r\n$5\r\nworld\r\n", array(bulk("hello"), null, bulk("world"))},
	} {
		got, err := readReply(bufio.NewReader(strings.NewReader(test.text)), maxReplyDepth)
		if err != nil || !reflect.DeepEqual(got, test.want) {
			t.Errorf("readReply(%q) = %+v, %v, want %+v", test.text, got, err, test.want)
		}
	}
	for _, text := range []string{
		"\r\n", "\n", "OK\r\n", "+OK\n", "+O\rK\r\n", "HTTP/1.1 400 Bad Request\r\n", ":\r\n", ":1.5\r\n", ":9223372036854775808\r\n",
		"$-2\r\n", "$4097\r\n", "$99999999999999999999\r\n", "$5\r\nhelloworld\r\n", "$x\r\n", "*-2\r\n", "*2147483647\r\n",
		"%1\r\n+a\r\n:1\r\n", "_\r\n", strings.Repeat("*1\r\n", maxReplyDepth+1) + ":1\r\n",
	} {
		if got, err := readReply(bufio.NewReader(strings.NewReader(text)), maxReplyDepth); !errors.Is(err, errRedisReply) {
			t.Errorf("readReply(%q) = %+v, %v, want %v", text, got, err, errRedisReply)
		}
	}
}

// The example of the same page, "Sending commands to a Redis server".
func TestAppendCommand(t *testing.T) {
	if got, want := string(appendCommand(nil, []string{"LLEN", "mylist"})), "*2\r\n$4\r\nLLEN\r\n$6\r\nmylist\r\n"; got != want {
		t.Errorf("appendCommand = %q, want %q", got, want)
	}
}

// encode writes a reply as a server would.
func (r redisReply) encode() string {
	switch r.kind {
	case ':':
		return fmt.Sprintf(":%d\r\n", r.number)
	case '$':
		return fmt.Sprintf("$%d\r\n%s\r\n", len(r.text), r.text)
	case '*':
		text := fmt.Sprintf("*%d\r\n", len(r.list))
		for _, element := range r.list {
			text += element.encode()
		}
		return text
	case '_':
		return "$-1\r\n"
	}
	return string(r.kind) + r.text + "\r\n"
}

// What is read and written again is read as the same, to its last byte, and no
// beginning of it is a reply.
func FuzzRESP(f *testing.F) {
	for _, seed := range []string{"+OK\r\n", "-MOVED 3999 127.0.0.1:6381\r\n", ":1000\r\n", "$5\r\nhello\r\n", "$-1\r\n",
		"*4\r\n:1\r\n:99\r\n:60000000\r\n:0\r\n", "*2\r\n*3\r\n:1\r\n:2\r\n:3\r\n*2\r\n+Hello\r\n-World\r\n", "*4096\r\n", "$4096\r\nx"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		reply, err := readReply(bufio.NewReaderSize(bytes.NewReader(text[:min(len(text), maxReplySize)]), maxReplySize), maxReplyDepth)
		if err != nil {
			return
		}
		encoded := reply.encode()
		r := bufio.NewReader(strings.NewReader(encoded))
		if again, err := readReply(r, maxReplyDepth); err != nil || !reflect.DeepEqual(again, reply) {
			t.Fatalf("%q is read as %+v, written as %q and read as %+v, %v", text, reply, encoded, again, err)
		}
		if _, err := r.ReadByte(); err != io.EOF {
			t.Fatalf("of %q something is left over", encoded)
		}
		for i := range len(encoded) {
			if part, err := readReply(bufio.NewReader(strings.NewReader(encoded[:i])), maxReplyDepth); err != io.ErrUnexpectedEOF {
				t.Fatalf("%q, a part of %q, is read as %+v, %v", encoded[:i], encoded, part, err)
			}
		}
	})
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

// hangUp, as an answer, closes the connection; behind bytes, after them.
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

// newSharedTest returns a shared limiter of 3 requests in 60 s for u, and its log.
func newSharedTest(store *redisStore) (*sharedLimiter, *bytes.Buffer) {
	limits := map[string]rateLimit{"u": {3, time.Minute}, "free": {0, time.Minute}}
	log := new(bytes.Buffer)
	return newSharedLimiter(store, newLimiter(limits, time.Now()), limits, slog.New(slog.NewTextHandler(log, nil))), log
}

func TestSharedLimiterDecision(t *testing.T) {
	now := time.Now()
	for _, test := range []struct {
		reply string
		want  decision
	}{
		{"*4\r\n:1\r\n:2\r\n:60000000\r\n:0\r\n", decision{true, 3, 2, now.Add(time.Minute), 0, false}},
		{"*4\r\n:0\r\n:0\r\n:1500000\r\n:1500001\r\n", decision{false, 3, 0, now.Add(1500 * time.Millisecond), 1500001 * time.Microsecond, false}},
	} {
		var commands [][]string
		_, store := newFakeRedis(t, func(_ string, command []string) string {
			commands = append(commands, command)
			return test.reply
		})
		s, log := newSharedTest(store)
		if got := s.allow("u", now); got != test.want || !s.healthy() || log.Len() > 0 {
			t.Errorf("%q: allow = %+v, want %+v; log %q", test.reply, got, test.want, log)
		}
		for _, name := range []string{"free", "stranger", ""} {
			if got := s.allow(name, now); got != (decision{admitted: true}) {
				t.Errorf("allow(%q) = %+v, want admitted without a limit", name, got)
			}
		}
		want := [][]string{{"EVALSHA", windowScript.sha, "1", "s3proxy:limit:{u}", "3", "60000000"}}
		if !reflect.DeepEqual(commands, want) || s.calls.Load() != 1 || s.failures.Load() != 0 {
			t.Errorf("commands %q, want %q", commands, want)
		}
	}
	// Numbers that no window has.
	for _, numbers := range [][4]int64{{2, 0, 1, 0}, {-1, 0, 1, 0}, {1, 3, 1, 0}, {1, -1, 1, 0}, {1, 0, 0, 0}, {1, 0, 60000001, 0}, {0, 0, 1, -1}, {0, 0, 1, 1 << 62}} {
		synctest.Test(t, func(t *testing.T) {
			_, store := newFakeRedis(t, always(fmt.Sprintf("*4\r\n:%d\r\n:%d\r\n:%d\r\n:%d\r\n", numbers[0], numbers[1], numbers[2], numbers[3])))
			s, _ := newSharedTest(store)
			now := time.Now()
			want := decision{true, 3, 2, now.Add(time.Minute), 0, false} // the local limiter's
			if got := s.allow("u", now); !reflect.DeepEqual(got, want) || s.healthy() {
				t.Errorf("%d: allow = %+v, healthy = %t, want %+v and false", numbers, got, s.healthy(), want)
			}
			store.close()
		})
	}
}

// The store goes and comes back: only the calls that saw it go are late, limits
// hold all the while, and there is one line for each.
func TestSharedLimiterOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const admit, refuse = "*4\r\n:1\r\n:1\r\n:60000000\r\n:0\r\n", "*4\r\n:0\r\n:0\r\n:60000000\r\n:60000000\r\n"
		fake, store := newFakeRedis(t, always(admit))
		defer store.close()
		s, log := newSharedTest(store)
		want := func(what string, admitted, healthy bool, took time.Duration, lines int) {
			t.Helper()
			begin := time.Now()
			if got := s.allow("u", begin).admitted; got != admitted {
				t.Errorf("%s: admitted = %t, want %t", what, got, admitted)
			}
			if d := time.Since(begin); d != took {
				t.Errorf("%s: took %s, want %s", what, d, took)
			}
			if s.healthy() != healthy || strings.Count(log.String(), "\n") != lines {
				t.Errorf("%s: healthy = %t, want %t; want %d lines in the log:\n%s", what, s.healthy(), healthy, lines, log)
			}
		}
		want("the store admits", true, true, 0, 0)
		want("the store admits", true, true, 0, 0)

		fake.set(always(""))
		var calls sync.WaitGroup
		var admitted atomic.Int64
		for range 10 { // they fail together; two of the three places are taken here, too
			calls.Go(func() {
				if s.allow("u", time.Now()).admitted {
					admitted.Add(1)
				}
			})
		}
		calls.Wait()
		if n := admitted.Load(); n != 1 {
			t.Errorf("%d admitted when the store goes, want the one that it left over", n)
		}
		for range 100 {
			want("the store is gone", false, false, 0, 1)
		}
		if calls, failures := s.calls.Load(), s.failures.Load(); calls != 12 || failures != 10 {
			t.Errorf("%d calls, %d failures, want 12 and 10", calls, failures)
		}

		_, before, _ := fake.seen()
		time.Sleep(time.Minute) // the local window is free again
		synctest.Wait()
		_, after, open := fake.seen()
		if n := len(after) - len(before); n < 50 || n > 65 || open > 1 {
			t.Errorf("%d probes in a minute and %d connections, want about one probe a second and at most its connection", n, open)
		}
		for i := range 5 {
			want("the store is still gone", i < 3, false, 0, 1)
		}

		// A probe asks for a millisecond.
		const probed = "*4\r\n:1\r\n:0\r\n:1000\r\n:0\r\n"
		back := func(reply string) func(string, []string) string {
			return func(_ string, command []string) string {
				if strings.HasSuffix(command[3], "{u}:probe") {
					return probed
				}
				return reply
			}
		}
		fake.set(back(refuse))
		time.Sleep(time.Minute) // the local window would admit
		want("the store refuses", false, true, 0, 2)

		// A store that comes, and goes with the next request, is asked no more than
		// a store that is gone.
		_, before, _ = fake.seen()
		fake.set(back("-WRONGTYPE\r\n"))
		for range 6000 {
			time.Sleep(10 * time.Millisecond)
			s.allow("u", time.Now())
		}
		if _, after, _ = fake.seen(); len(after)-len(before) > 2*65 {
			t.Errorf("%d commands in a minute, want at most two a second", len(after)-len(before))
		}
	})
}

// What is known of the store survives a reload of the limits, and its probe ends
// with it.
func TestSharedLimiterReload(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fake, store := newFakeRedis(t, always(hangUp))
		s, log := newSharedTest(store)
		s.allow("u", time.Now())
		limits := map[string]rateLimit{"u": {1, time.Minute}}
		again := s.with(newLimiter(limits, time.Now()), limits)
		if got := again.allow("u", time.Now()); again.healthy() || again.failures.Load() != 1 || got.limit != 1 {
			t.Errorf("after a reload: healthy = %t, failures = %d, %+v", again.healthy(), again.failures.Load(), got)
		}
		fake.set(always("*4\r\n:1\r\n:0\r\n:1000\r\n:0\r\n"))
		time.Sleep(firstProbe)
		synctest.Wait()
		if !again.healthy() || !s.healthy() {
			t.Error("the store is back, and not made use of")
		}
		store.close() // a request may still have the limiter of before
		for range 2 {
			if d := again.allow("u", time.Now()); d.limit != 1 || !again.healthy() {
				t.Errorf("after close: allow = %+v, healthy = %t", d, again.healthy())
			}
		}
		if strings.Count(log.String(), "\n") != 2 {
			t.Errorf("want two lines in the log:\n%s", log)
		}
	})
	synctest.Test(t, func(t *testing.T) { // fails if a goroutine is left
		_, store := newFakeRedis(t, always(hangUp))
		s, _ := newSharedTest(store)
		s.allow("u", time.Now())
		store.close()
	})
}

// No secret of the store's URL is in the log, whatever goes wrong.
func TestSharedLimiterLog(t *testing.T) {
	for _, reply := range []string{"-WRONGPASS invalid username-password pair\r\n", "-ERR unknown command 'AUTH', with args beginning with: 'bob' 'hunter2'\r\n", "", hangUp, "?\r\n"} {
		synctest.Test(t, func(t *testing.T) {
			_, store := newFakeRedis(t, always(reply))
			defer store.close()
			store.server.user, store.server.password = "bob", "hunter2"
			s, log := newSharedTest(store)
			s.allow("u", time.Now())
			if text := log.String(); strings.Count(text, "\n") != 1 || strings.Contains(text, "hunter2") || !strings.Contains(text, "seed:1") {
				t.Errorf("%q: log %s", reply, text)
			}
		})
	}
}

// The program may end while a reload lets go of the same store.
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

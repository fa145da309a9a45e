package main

// A client for Redis, and for servers with its protocol, such as Valkey. It does one thing: it
// runs a Lua script on one key, in a bounded time. The protocol is
// RESP2, https://redis.io/docs/latest/develop/reference/protocol-spec/, with one
// command on a connection at a time:
//
//	→ *3\r\n$7\r\nEVALSHA\r\n…        an array of bulk strings
//	← *4\r\n:1\r\n:99\r\n…            an array of integers
//
// After any error the connection is closed: the reply that is still due would be read as the
// reply to the next command.
//
// An error of eval is evidence about the store: it refused a connection, broke one, sent an
// invalid reply, or answered no call in time. More calls than connections are no evidence,
// because clients decide how many there are. Such calls wait for a turn, and the deadline of
// the store does not run meanwhile. A call without a turn within redisPatience fails with
// errRedisBusy, and a call that waits while the store fails another fails with that error.

import (
	"bufio"
	"context"
	"crypto/sha1"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"
)

const (
	redisDeadline    = 50 * time.Millisecond // for the store to answer a dial or a command
	redisPatience    = time.Second           // for a turn, and then for the reply, while the store answers others
	redisIdleTimeout = 30 * time.Second      // less than the limits of servers and firewalls
	maxRedisConns    = 64                    // in use at once; as many may be idle
	maxRedisTurns    = maxRedisConns / 2     // of them, for one key, so that a flood leaves some to others
	maxRedisDials    = 4                     // at once: many TLS handshakes would slow the store down
	maxRedisNodes    = 1024                  // whose last answer is remembered
	maxRedirects     = 4
	maxRoutes        = 16384   // keys whose node is remembered; a cluster has as many slots
	maxReplySize     = 4 << 10 // bytes
	maxReplyDepth    = 4       // arrays in arrays
)

var (
	errRedisClosed = errors.New("the client is closed")
	errRedisBusy   = errors.New("there were more calls than the store could answer in time")
	errRedisReply  = errors.New("the reply is not RESP2, or too large")
	errRedisScript = errors.New("the script returned an unexpected reply")
	errRedisLogin  = errors.New("the server refuses the user or the password")
)

// A redisServer is the address of the store, and how to log in.
type redisServer struct {
	addr     string // host:port
	tls      bool
	user     string // "" is the default user
	password string // "": no AUTH is sent
	db       int
}

// String returns the address without secrets.
func (r redisServer) String() string { return r.addr }

// parseRedisURL parses redis://[[user]:password@]host[:port][/db], and rediss://
// for TLS. The port is 6379 unless given, the db 0. No error quotes the URL.
func parseRedisURL(s string) (redisServer, error) {
	u, err := url.Parse(s)
	if err != nil || !isServerURL(u, "redis", "rediss") || u.RawQuery != "" || u.ForceQuery || u.Fragment != "" {
		return redisServer{}, errors.New("must be an address like redis://:password@host:6379/0, or rediss:// for TLS; percent-encode what is not a letter or digit in a password")
	}
	server := redisServer{tls: u.Scheme == "rediss", user: u.User.Username()}
	server.password, _ = u.User.Password()
	if server.user != "" && server.password == "" {
		return redisServer{}, errors.New("has a user but no password; a password alone is written :password@host")
	}
	port := u.Port()
	if port == "" {
		port = "6379"
	}
	if !validPort(port) {
		return redisServer{}, errors.New("the port is not between 1 and 65535")
	}
	server.addr = net.JoinHostPort(u.Hostname(), port)
	if path := strings.TrimPrefix(u.Path, "/"); path != "" {
		db, err := strconv.ParseUint(path, 10, 31)
		if err != nil {
			return redisServer{}, errors.New("what follows the host is the number of a database, like /0")
		}
		server.db = int(db)
	}
	return server, nil
}

// A redisScript is a Lua script, and its name at the server.
type redisScript struct{ text, sha string }

func newRedisScript(text string) *redisScript {
	sum := sha1.Sum([]byte(text))
	return &redisScript{text, hex.EncodeToString(sum[:])}
}

// A redisStore runs scripts on a server, or on the cluster it belongs to. It may
// be used by several goroutines at once.
type redisStore struct {
	server redisServer
	dialer func(ctx context.Context, network, addr string) (net.Conn, error)
	tls    *tls.Config // without the server's name; nil without TLS
	queues redisQueues
	closed chan struct{} // closed by close
	once   sync.Once     // of close

	mu     sync.Mutex            // guards the rest
	outage *redisOutage          // the next one
	idle   []*redisConn          // to any node, the most recently used last
	routes map[string]string     // the node of a key, if it is not server.addr
	nodes  map[string]*redisNode // by address
}

// newRedisStore returns a store. Nothing is dialed before the first eval.
func newRedisStore(server redisServer) *redisStore {
	s := &redisStore{
		server: server,
		dialer: new(net.Dialer).DialContext,
		queues: newRedisQueues(),
		closed: make(chan struct{}),
		outage: newRedisOutage(),
		routes: map[string]string{},
		nodes:  map[string]*redisNode{},
	}
	if server.tls { // a resumed session saves time, of which there is little
		s.tls = &tls.Config{MinVersion: tls.VersionTLS12, ClientSessionCache: tls.NewLRUClientSessionCache(64)}
	}
	return s
}

// close ends the store, once. Calls in flight are answered; later ones fail with
// errRedisClosed.
func (s *redisStore) close() {
	s.once.Do(func() { close(s.closed) })
	s.forget()
}

func (s *redisStore) isClosed() bool {
	select {
	case <-s.closed:
		return true
	default:
		return false
	}
}

// eval runs a script on a key, and stores the integers of its reply in results. It returns
// within twice redisPatience. It returns an error as soon as the store leaves it unanswered for
// redisDeadline and answers no other call either. A script that failed may have been run.
//
// In a cluster a node without the key names the node that has it: with MOVED permanently, and
// with ASK for this time, while the key is being moved
// (https://redis.io/docs/latest/operate/oss_and_stack/reference/cluster-spec/).
func (s *redisStore) eval(script *redisScript, key string, args []string, results []int64) error {
	if s.isClosed() {
		return errRedisClosed
	}
	call := s.begin()
	turns := s.queues.turns(key)
	if err := s.wait(call, turns); err != nil {
		return err
	}
	defer leave(turns)
	if err := s.wait(call, s.queues.conns); err != nil {
		return err
	}
	defer leave(s.queues.conns)
	call.ends = time.Now().Add(redisPatience) // it has its turn: from here on the store's time counts
	err := s.follow(call, script, key, args, results)
	if err != nil && err != errRedisClosed && err != errRedisBusy {
		s.fail(call, err) // before the next call has its turn
	}
	return err
}

// follow runs a script where the nodes of the cluster say that the key is.
func (s *redisStore) follow(call *redisCall, script *redisScript, key string, args []string, results []int64) error {
	addr, asking := s.route(key), false
	for range maxRedirects + 1 {
		err := s.evalAt(call, addr, asking, script, key, args, results)
		var refusal redisError
		if !errors.As(err, &refusal) || !refusal.redirects() {
			return err
		}
		if addr, err = refusal.target(addr); err != nil {
			return err
		}
		if asking = refusal.code == "ASK"; !asking {
			s.learn(key, addr)
		}
	}
	return errors.New("the nodes of the cluster refer to each other in a circle")
}

func (s *redisStore) evalAt(call *redisCall, addr string, asking bool, script *redisScript, key string, args []string, results []int64) error {
	c, err := s.get(call, addr)
	if err != nil {
		return err
	}
	err = c.eval(asking, "EVALSHA", script.sha, key, args, results)
	var refusal redisError
	if errors.As(err, &refusal) && refusal.code == "NOSCRIPT" { // EVAL loads it
		err = c.eval(asking, "EVAL", script.text, key, args, results)
	}
	s.put(c, err == nil || errors.As(err, &refusal) && refusal.redirects())
	return err
}

// route returns the node to ask for a key.
func (s *redisStore) route(key string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if addr := s.routes[key]; addr != "" {
		return addr
	}
	return s.server.addr
}

func (s *redisStore) learn(key, addr string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.routes) >= maxRoutes {
		clear(s.routes) // each is learned again by a redirect
	}
	s.routes[key] = addr
}

// forget closes the idle connections and drops the routes: after a failure
// neither can be trusted.
func (s *redisStore) forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.idle {
		c.Close()
	}
	s.idle = nil
	clear(s.routes)
}

// get returns an idle connection to a node, or a new one. The caller gives it back with put. A
// dial that times out tells nothing about a node that answers others; then the call waits
// again.
func (s *redisStore) get(call *redisCall, addr string) (*redisConn, error) {
	if c := s.takeIdle(call, addr); c != nil {
		return c, nil
	}
	for {
		if err := s.wait(call, s.queues.dials); err != nil {
			return nil, err
		}
		if c := s.takeIdle(call, addr); c != nil { // one has become idle
			leave(s.queues.dials)
			return c, nil
		}
		node, begin := s.node(addr), time.Now()
		c, err := s.dial(call, node, addr)
		leave(s.queues.dials)
		switch {
		case err == nil || !isTimeout(err) || !node.answeredSince(begin):
			return c, err
		case !time.Now().Before(call.ends):
			return nil, errRedisBusy
		}
	}
}

// takeIdle returns an idle connection to a node, or nil.
func (s *redisStore) takeIdle(call *redisCall, addr string) *redisConn {
	for c := s.pop(addr); c != nil; c = s.pop(addr) {
		if time.Since(c.since) < redisIdleTimeout && silent(c.raw) {
			c.call = call
			return c
		}
		c.Close()
	}
	return nil
}

func (s *redisStore) pop(addr string) *redisConn {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := len(s.idle) - 1; i >= 0; i-- {
		if c := s.idle[i]; c.addr == addr {
			s.idle = append(s.idle[:i], s.idle[i+1:]...)
			return c
		}
	}
	return nil
}

// put ends the use of a connection. It keeps the connection if no reply is due on it. It closes
// connections that were idle for too long, and the oldest above maxRedisConns.
func (s *redisStore) put(c *redisConn, keep bool) {
	c.call, c.since = nil, time.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	if !keep || s.isClosed() {
		c.Close()
		return
	}
	s.idle = append(s.idle, c)
	for len(s.idle) > maxRedisConns || c.since.Sub(s.idle[0].since) >= redisIdleTimeout {
		s.idle[0].Close()
		s.idle = append(s.idle[:0], s.idle[1:]...)
	}
}

// dial opens a connection and logs in.
func (s *redisStore) dial(call *redisCall, node *redisNode, addr string) (*redisConn, error) {
	ctx, cancel := context.WithDeadline(context.Background(), call.deadline(time.Now()))
	defer cancel()
	raw, err := s.dialer(ctx, "tcp", addr)
	if err != nil && addr != s.server.addr {
		err = redirectError{err}
	}
	if err != nil {
		return nil, err
	}
	conn := raw
	if s.tls != nil {
		tlsConfig := s.tls.Clone()
		tlsConfig.ServerName, _, _ = net.SplitHostPort(addr)
		secure := tls.Client(raw, tlsConfig)
		if err := secure.HandshakeContext(ctx); err != nil {
			raw.Close()
			return nil, handshakeError(err)
		}
		conn = secure
	}
	c := newRedisConn(conn, raw, node, addr)
	c.call = call
	if err := c.login(s.server); err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

// A redisConn is a connection to a node, for one command at a time.
type redisConn struct {
	net.Conn
	raw     net.Conn // what Conn is, or speaks TLS on
	addr    string
	node    *redisNode
	call    *redisCall       // that uses it; nil: none
	limited io.LimitedReader // to the rest of maxReplySize
	reader  *bufio.Reader
	command []byte
	since   time.Time // idle since
}

func newRedisConn(conn, raw net.Conn, node *redisNode, addr string) *redisConn {
	c := &redisConn{Conn: conn, raw: raw, node: node, addr: addr}
	c.limited.R = c
	c.reader = bufio.NewReaderSize(&c.limited, maxReplySize)
	return c
}

// Close ends the connection without the goodbye of TLS, which might have to wait.
func (c *redisConn) Close() error { return c.raw.Close() }

// Read implements io.Reader. It fails when the node has answered nobody for
// redisDeadline, or when the call has no time left.
func (c *redisConn) Read(p []byte) (int, error) {
	for {
		n, err := c.Conn.Read(p)
		if n > 0 || !errors.Is(err, os.ErrDeadlineExceeded) || !c.extend(time.Now()) {
			return n, err
		}
	}
}

// extend moves on a read deadline that has passed, and reports whether there is a
// reason to: an answer to another call meanwhile, or a reply that is here, which this
// process had no time to read.
func (c *redisConn) extend(now time.Time) bool {
	until := c.node.lastAnswer().Add(redisDeadline)
	if !silent(c.raw) {
		until = now.Add(redisDeadline)
	}
	if until.After(c.call.ends) {
		until = c.call.ends
	}
	if !until.After(now) {
		return false
	}
	c.SetReadDeadline(until)
	return true
}

// login sends AUTH and SELECT, if they are needed. A server that does not know AUTH quotes its
// arguments, so nothing but the code of a refusal is passed on.
func (c *redisConn) login(server redisServer) error {
	if server.password != "" {
		auth := []string{"AUTH", server.password}
		if server.user != "" {
			auth = []string{"AUTH", server.user, server.password}
		}
		if _, err := c.do(auth...); err != nil {
			var refusal redisError
			if errors.As(err, &refusal) {
				return fmt.Errorf("%w: %w", errRedisLogin, refusal)
			}
			return err
		}
	}
	if server.db != 0 {
		if _, err := c.do("SELECT", strconv.Itoa(server.db)); err != nil {
			return err
		}
	}
	return nil
}

// eval sends EVALSHA with a script's hash, or EVAL with its text. ASKING holds for one command.
func (c *redisConn) eval(asking bool, command, script, key string, args []string, results []int64) error {
	if asking {
		if _, err := c.do("ASKING"); err != nil {
			return err
		}
	}
	reply, err := c.do(append([]string{command, script, "1", key}, args...)...)
	if err != nil {
		return err
	}
	if len(reply.list) != len(results) {
		return errRedisScript
	}
	for i, item := range reply.list {
		if item.kind != ':' {
			return errRedisScript
		}
		results[i] = item.number
	}
	return nil
}

// do sends a command and reads its reply. An error reply is a redisError. After
// any other error the connection is of no use.
func (c *redisConn) do(args ...string) (redisReply, error) {
	c.SetDeadline(c.call.deadline(time.Now()))
	c.command = appendCommand(c.command[:0], args)
	if _, err := c.Write(c.command); err != nil {
		return redisReply{}, err
	}
	c.limited.N = maxReplySize
	reply, err := readReply(c.reader, maxReplyDepth)
	switch {
	case c.limited.N == 0 || err == nil && c.reader.Buffered() > 0: // more than was asked for
		return redisReply{}, errRedisReply
	case err != nil:
		return redisReply{}, err
	}
	c.node.answer(time.Now())
	if reply.kind == '-' {
		return redisReply{}, newRedisError(reply.text)
	}
	return reply, nil
}

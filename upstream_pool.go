package main

// The idle connections to an account's S3 service. A connection is kept while the backend is
// silent, and closed after idleConnTimeout. If there is none, a new one is dialed. The pool knows
// nothing of requests.

import (
	"bufio"
	"context"
	"crypto/tls"
	"math"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// A pool keeps connections to the hosts of one service.
type pool struct {
	scheme         string
	connectTimeout time.Duration
	dialer         func(ctx context.Context, network, addr string) (net.Conn, error)
	tls            *tls.Config // without the server's name
	counts         *accountMetrics
	certificateEnd atomic.Int64 // when the certificate expires that the backend showed last, in seconds since 1970; 0: none

	mu      sync.Mutex // guards the rest
	idle    map[string][]*backendConn
	retired bool        // returned connections are closed
	sweeper *time.Timer // set while there are idle connections
}

func newPool(a *account, counts *accountMetrics) *pool {
	dialer := &net.Dialer{Timeout: a.connectTimeout, KeepAlive: 30 * time.Second}
	return &pool{
		scheme:         a.scheme,
		connectTimeout: a.connectTimeout,
		dialer:         dialer.DialContext,
		tls:            &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: a.roots, ClientSessionCache: tls.NewLRUClientSessionCache(64)},
		counts:         counts,
		idle:           map[string][]*backendConn{},
	}
}

// get returns a connection to host: the one that was used last, if the backend has been silent
// since, or a new one.
func (p *pool) get(ctx context.Context, host string) (*backendConn, error) {
	for {
		c := p.pop(host)
		if c == nil {
			return p.dial(ctx, host)
		}
		if c.quiet() {
			c.reused = true
			p.counts.reused.Add(1)
			return c, nil
		}
		c.Close()
	}
}

func (p *pool) pop(host string) *backendConn {
	p.mu.Lock()
	defer p.mu.Unlock()
	idle := p.idle[host]
	if len(idle) == 0 {
		return nil
	}
	c := idle[len(idle)-1]
	idle[len(idle)-1] = nil
	p.idle[host] = idle[:len(idle)-1]
	return c
}

// put keeps a connection whose answer was read to its end. Its deadlines may stay; the next
// request sets them.
func (p *pool) put(c *backendConn) {
	c.since = time.Now()
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.retired || len(p.idle[c.host]) >= maxIdleConns {
		c.Close()
		return
	}
	p.idle[c.host] = append(p.idle[c.host], c)
	if p.sweeper == nil {
		p.sweeper = time.AfterFunc(idleConnTimeout, p.sweep)
	}
}

// sweep closes the connections that were idle for idleConnTimeout, and comes again when the
// next one will have been. The oldest are first.
func (p *pool) sweep() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.sweeper = nil
	next := time.Duration(0)
	for host, idle := range p.idle {
		for len(idle) > 0 && time.Since(idle[0].since) >= idleConnTimeout {
			idle[0].Close()
			idle = idle[1:]
		}
		if p.idle[host] = idle; len(idle) == 0 {
			delete(p.idle, host)
			continue
		}
		if left := idleConnTimeout - time.Since(idle[0].since); next == 0 || left < next {
			next = left
		}
	}
	if len(p.idle) > 0 {
		p.sweeper = time.AfterFunc(next, p.sweep)
	}
}

// retire closes the idle connections, and the others when they come back.
func (p *pool) retire() {
	p.mu.Lock()
	p.retired = true
	p.mu.Unlock()
	p.closeIdle()
}

// idleConns returns how many connections are idle.
func (p *pool) idleConns() (count int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, idle := range p.idle {
		count += len(idle)
	}
	return count
}

// closeIdle closes the idle connections.
func (p *pool) closeIdle() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for host, idle := range p.idle {
		for _, c := range idle {
			c.Close()
		}
		delete(p.idle, host)
	}
}

// dial opens a connection. TCP and TLS each have connect_timeout.
func (p *pool) dial(ctx context.Context, host string) (*backendConn, error) {
	addr := host
	if _, _, err := net.SplitHostPort(host); err != nil {
		addr = net.JoinHostPort(strings.Trim(host, "[]"), map[string]string{"http": "80", "https": "443"}[p.scheme])
	}
	raw, err := p.dialer(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	c := &backendConn{Conn: raw, raw: raw, host: host,
		writes: writePulse(raw, "the backend took nothing for", true),
		reads:  readPulse(raw, "the backend sent nothing for", true)}
	if p.scheme == "https" {
		tlsConfig := p.tls.Clone()
		tlsConfig.ServerName, _, _ = net.SplitHostPort(addr)
		c.records = &recordConn{Conn: raw}
		secure := tls.Client(c.records, tlsConfig)
		handshake, cancel := context.WithTimeout(ctx, p.connectTimeout)
		defer cancel()
		if err := secure.HandshakeContext(handshake); err != nil {
			raw.Close()
			return nil, handshakeError(err)
		}
		p.certificateEnd.Store(secure.ConnectionState().PeerCertificates[0].NotAfter.Unix())
		c.Conn = secure
	}
	c.arm()
	p.counts.opened.Add(1)
	c.input = meteredReader{source: c.Conn, left: math.MaxInt}
	c.reader = bufio.NewReaderSize(&c.input, 16<<10)
	return c, nil
}

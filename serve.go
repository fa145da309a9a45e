package main

// The running program: its listeners, its signals and its end. Everything that a
// configuration can switch on is wired here. It knows nothing of requests.

import (
	"context"
	"errors"
	"fmt"
	stdlog "log"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"runtime/debug"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

const (
	readHeaderTimeout = 10 * time.Second      // for the head of a request, and for a TLS handshake
	keepAliveTimeout  = 120 * time.Second     // between requests; load balancers use 60 s and must be the first to close
	maxHeaderBytes    = 32 << 10              // S3 allows 2 KiB of metadata and keys of 1 KiB
	firstRequest      = time.Second           // for connections that were accepted last to send a request
	untilHandler      = 10 * time.Millisecond // from the first bytes of a request to its handler
	lastLines         = 2 * time.Second       // for handlers that were broken off to write their line of the log
	pollInterval      = time.Millisecond      // at which pollUntil looks
	watchCertificates = 10 * time.Second      // interval at which their files are looked at
)

// A launch is what serve needs besides a configuration.
type launch struct {
	configSource
	log   *slog.Logger
	out   *logWriter    // reopened on SIGHUP; nil: the log is not a file
	watch time.Duration // interval at which the configuration is watched; 0: never
	// ready is called once the program listens, with the addresses of the front and of the admin
	// pages. That of the admin pages is nil if there are none; ready may be nil too.
	ready func(front, admin net.Addr)
}

// A program is one run of the gateway, from its listeners to the end of its drain.
type program struct {
	launch
	service      *service
	certificates *serverTLS // nil: no TLS
	connections  atomic.Int64
	silent       sync.Map // connections (net.Conn) that have not sent a request yet
	draining     atomic.Bool
	failed       chan error // of the admin pages
	ended        chan error // of the front, when it accepts no more connections
}

// serve listens and answers until ctx is done and the requests in flight are answered.
func serve(ctx context.Context, conf *config, l launch) error {
	p := &program{launch: l, failed: make(chan error, 1), ended: make(chan error, 1)}
	hangup := make(chan os.Signal, 1) // from here on SIGHUP ends nothing
	signal.Notify(hangup, syscall.SIGHUP)
	defer signal.Stop(hangup)
	for _, warning := range conf.warnings {
		l.log.Warn(warning)
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	if err := p.prepare(ctx, conf); err != nil {
		return err
	}
	defer func() { p.service.current.Load().retire(nil) }()
	front, admin, err := listenAll(conf)
	if err != nil {
		return err
	}
	if admin != nil {
		defer p.serveAdmin(admin).Close()
	}
	front = limitConnections(front, conf.maxConnections)
	defer front.Close()
	server := p.serveFront(front)
	go p.follow(ctx, hangup)
	l.log.Info("listening", "addr", front.Addr().String(), "version", buildVersion(),
		"accounts", len(conf.accounts), "buckets", len(conf.buckets), "users", len(conf.users))
	if l.ready != nil {
		l.ready(front.Addr(), addressOf(admin))
	}
	select {
	case err := <-p.failed:
		return err
	case err := <-p.ended:
		return err
	case <-ctx.Done():
	}
	return p.drain(server, front)
}

// addressOf returns the address of a listener, or nil if there is none.
func addressOf(l net.Listener) net.Addr {
	if l == nil {
		return nil
	}
	return l.Addr()
}

// prepare makes what the listeners serve: the certificates, and the service with the
// first credentials of every account.
func (p *program) prepare(ctx context.Context, conf *config) (err error) {
	if conf.certFile != "" {
		if p.certificates, err = newServerTLS(conf.certFile, conf.keyFile, conf.clientCA, p.log); err != nil {
			return err
		}
	}
	m := newMetrics()
	if p.service, err = newService(ctx, conf, p.configSource, p.log, m); err != nil {
		return err
	}
	p.service.around = surroundings{version: buildVersion(), certificates: p.certificates, connections: p.connections.Load}
	if p.out != nil {
		p.service.around.dropped = p.out.dropped
	}
	p.register(m)
	return nil
}

// listenAll opens the listeners, or uses those that a service manager hands over. The admin one
// is nil if it is not configured.
func listenAll(conf *config) (front, admin net.Listener, err error) {
	sockets, err := inheritSockets(os.Getenv)
	if err != nil {
		return nil, nil, err
	}
	defer sockets.close()
	if conf.admin != "" {
		if admin, err = sockets.listen("server.admin", conf.admin); err != nil {
			return nil, nil, err
		}
	}
	if front, err = sockets.listen("server", conf.listen); err == nil {
		if err = sockets.finish(); err == nil {
			return front, admin, nil
		}
		front.Close()
	}
	if admin != nil {
		admin.Close()
	}
	return nil, nil, err
}

// serveFront serves S3 clients, over TLS if there is a certificate.
func (p *program) serveFront(ln net.Listener) *http.Server {
	server := newServer(healthFront{p.service, &p.draining}, p.log)
	server.ConnState = p.countConnections
	go func() {
		if p.certificates != nil {
			p.ended <- p.certificates.serve(server, ln)
		} else {
			p.ended <- server.Serve(corkListener{ln})
		}
	}()
	return server
}

// drain ends the program. From now on it reports that it is not ready. After
// server.shutdown_delay it accepts no connections, and it ends when the requests in
// flight are answered, or after server.shutdown_timeout more.
func (p *program) drain(server *http.Server, front net.Listener) error {
	p.draining.Store(true)
	conf := p.service.current.Load().config
	timeout := conf.shutdownTimeout
	p.log.Info("draining", "shutdown_delay", conf.shutdownDelay.String(), "shutdown_timeout", timeout.String())
	select { // time for load balancers to see that the gateway is not ready
	case err := <-p.failed:
		return err
	case err := <-p.ended:
		return err
	case <-time.After(conf.shutdownDelay):
	}
	// From Shutdown on net/http drops the first request of a connection. So those that were
	// accepted have a moment to send it.
	front.Close()
	<-p.ended
	pollUntil(firstRequest, p.nobodySilent)
	time.Sleep(untilHandler)
	patience, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	if err := server.Shutdown(patience); err != nil {
		server.Close() // their clients see a broken connection, not the end of an answer
		pollUntil(lastLines, func() bool { return p.service.metrics.inFlight.Load() == 0 })
		return fmt.Errorf("requests were still in flight after %s and were broken off", timeout)
	}
	p.log.Info("stopped")
	return nil
}

// follow reloads on SIGHUP and when a watched file changes, until ctx is done.
func (p *program) follow(ctx context.Context, hangup <-chan os.Signal) {
	if p.certificates != nil {
		go p.certificates.watch(ctx, watchCertificates)
	}
	if p.watch > 0 {
		go p.service.watch(ctx, p.watch)
	}
	for {
		select {
		case <-ctx.Done():
			return
		case <-hangup:
		}
		if p.out != nil {
			if err := p.out.reopen(); err != nil {
				p.log.Error("could not reopen the log file; still writing to the previous one", localCauseAttr(err))
			}
		}
		p.reload()
	}
}

// reload reads the certificates and the configuration again. What can't be applied
// stays as it was. The error has been logged.
func (p *program) reload() error {
	var failed error
	if p.certificates != nil {
		if err := p.certificates.reload(); err != nil {
			p.log.Error("could not reload the TLS files; keeping the previous certificate", localCauseAttr(err))
			failed = fmt.Errorf("the TLS files could not be reloaded, and the previous certificate is in use: %w", err)
		}
	}
	if err := p.service.reload(); err != nil {
		return errors.Join(failed, fmt.Errorf("the configuration could not be reloaded, and the previous one is in use: %w", err))
	}
	return failed
}

// serveAdmin serves the operator's pages.
func (p *program) serveAdmin(l net.Listener) *http.Server {
	pages := newServer(newAdmin(p.service, &p.draining, p.reload), p.log)
	go func() { p.failed <- pages.Serve(l) }()
	p.log.Info("admin pages", "addr", l.Addr().String())
	return pages
}

// register adds the metrics that are counted here.
func (p *program) register(m *metrics) {
	p.service.register(m)
	m.setFunc("s3proxy_client_connections", func() float64 { return float64(p.connections.Load()) })
	if p.certificates != nil {
		m.setFunc("s3proxy_certificate_expiry_timestamp_seconds", func() float64 { return float64(p.certificates.expires().Unix()) })
	}
	if p.out != nil {
		m.setFunc("s3proxy_log_dropped_lines_total", func() float64 { return float64(p.out.dropped()) })
	}
}

// countConnections is http.Server.ConnState.
func (p *program) countConnections(conn net.Conn, state http.ConnState) {
	switch state {
	case http.StateNew:
		p.connections.Add(1)
		p.silent.Store(conn, nil)
	case http.StateActive:
		p.silent.Delete(conn)
	case http.StateClosed, http.StateHijacked:
		p.connections.Add(-1)
		p.silent.Delete(conn)
	}
}

// nobodySilent reports whether every connection has sent a request.
func (p *program) nobodySilent() bool {
	for range p.silent.Range {
		return false
	}
	return true
}

// pollUntil waits until a condition holds, at most for the timeout. It polls, as Shutdown of
// net/http does: a program ends once, and nothing on the way of a request has to tell it.
func pollUntil(timeout time.Duration, condition func() bool) {
	for begun := time.Now(); !condition() && time.Since(begun) < timeout; {
		time.Sleep(pollInterval)
	}
}

// newServer sets the limits that come before a handler. There is no ReadTimeout
// and no WriteTimeout: they would cut large transfers that make progress. A pulse
// (progress.go) breaks a call off when its peer makes none.
func newServer(h http.Handler, log *slog.Logger) *http.Server {
	return &http.Server{
		Handler:                      followRequests(h),
		ConnContext:                  withConn,
		ReadHeaderTimeout:            readHeaderTimeout,
		IdleTimeout:                  keepAliveTimeout,
		MaxHeaderBytes:               maxHeaderBytes,
		DisableGeneralOptionsHandler: true,
		ErrorLog:                     stdlog.New(serverLog{log}, "", 0),
	}
}

// buildVersion is the module's version, or the commit it was built from.
func buildVersion() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	for _, s := range info.Settings {
		if revision := s.Value[:min(len(s.Value), 12)]; s.Key == "vcs.revision" && !strings.Contains(info.Main.Version, revision) {
			return info.Main.Version + " " + revision
		}
	}
	return info.Main.Version
}

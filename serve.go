package main

// The running program: its listeners, its signals, and its end. Everything that a
// configuration can switch on is wired here.

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
	"sync/atomic"
	"syscall"
	"time"
)

const (
	readHeaderTimeout = 10 * time.Second  // for the whole head of a request, and for a TLS handshake
	keepAliveTimeout  = 120 * time.Second // between requests; load balancers use 60 s and must be the first to close
	maxHeaderBytes    = 32 << 10          // S3 takes 2 KiB of metadata and keys of 1 KiB
	watchCertificates = 10 * time.Second  // between two looks at their files
)

// A launch is what serve needs besides a configuration.
type launch struct {
	configSource
	log   *slog.Logger
	out   *logWriter     // where the log goes; nil: not to one that is opened again
	watch time.Duration  // how often it is looked at for changes; 0: never
	ready func(net.Addr) // if not nil, told the address
}

// A program is what runs between start and end.
type program struct {
	launch
	service      *service
	certificates *serverTLS // nil: no TLS
	connections  atomic.Int64
	draining     atomic.Bool
	failed       chan error // of a listener
}

// serve listens and answers until ctx is done and the requests under way are
// answered.
func serve(ctx context.Context, conf *config, l launch) error {
	p := &program{launch: l, failed: make(chan error, 2)}
	hangup := make(chan os.Signal, 1) // from here on SIGHUP ends nothing
	signal.Notify(hangup, syscall.SIGHUP)
	defer signal.Stop(hangup)
	for _, warning := range conf.warnings {
		l.log.Warn(warning)
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	var err error
	if conf.certFile != "" {
		if p.certificates, err = newServerTLS(conf.certFile, conf.keyFile, conf.clientCA, l.log); err != nil {
			return err
		}
	}
	m := newMetrics()
	if p.service, err = newService(ctx, conf, l.configSource, l.log, m); err != nil {
		return err
	}
	defer func() { p.service.current.Load().retire(nil) }()
	p.register(m)
	if conf.admin != "" {
		pages, err := p.serveAdmin(conf.admin)
		if err != nil {
			return err
		}
		defer pages.Close()
	}
	listener, err := net.Listen("tcp", conf.listen)
	if err != nil {
		return listenError("server", conf.listen, err)
	}
	defer listener.Close()
	listener = limitConnections(listener, conf.maxConnections)
	go p.follow(ctx, hangup)
	server := newServer(healthFront{p.service, &p.draining}, l.log)
	server.ConnState = p.countConnections
	go func() {
		if p.certificates != nil {
			p.failed <- p.certificates.serve(server, listener)
		} else {
			p.failed <- server.Serve(corkListener{listener})
		}
	}()
	l.log.Info("listening", "addr", listener.Addr().String(), "version", buildVersion(),
		"accounts", len(conf.accounts), "buckets", len(conf.buckets), "users", len(conf.users))
	if l.ready != nil {
		l.ready(listener.Addr())
	}
	select {
	case err := <-p.failed:
		return err
	case <-ctx.Done():
	}
	return p.drain(server)
}

// drain ends the program: it is not ready from now on, accepts nothing after
// server.shutdown_delay, and ends when the requests in flight are answered, at the
// latest after server.shutdown_timeout more.
func (p *program) drain(server *http.Server) error {
	p.draining.Store(true)
	conf := p.service.current.Load().config
	timeout := conf.shutdownTimeout
	p.log.Info("draining", "shutdown_delay", conf.shutdownDelay.String(), "shutdown_timeout", timeout.String())
	select { // load balancers see that the gateway is not ready, and send no more
	case err := <-p.failed:
		return err
	case <-time.After(conf.shutdownDelay):
	}
	patience, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	if err := server.Shutdown(patience); err != nil {
		server.Close() // whoever is still at it sees a broken connection, not an end
		return fmt.Errorf("requests were still under way after %s and were broken off", timeout)
	}
	p.log.Info("stopped")
	return nil
}

// follow does what signals and files ask for, until ctx is done.
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
				p.log.Error("the log file was not opened again; the log goes where it went before", localCauseAttr(err))
			}
		}
		p.reload()
	}
}

// reload reads anew what was read at the start. What is refused is as before; the
// error says why, and has been logged.
func (p *program) reload() error {
	var refused error
	if p.certificates != nil {
		if refused = p.certificates.reload(); refused != nil {
			p.log.Error("the TLS files are not taken over; the certificate of before stays in use", localCauseAttr(refused))
		}
	}
	return errors.Join(refused, p.service.reload())
}

// serveAdmin opens the operator's listener.
func (p *program) serveAdmin(addr string) (*http.Server, error) {
	listener, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, listenError("server.admin", addr, err)
	}
	pages := newServer(newAdmin(p.service, &p.draining, p.reload), p.log)
	go func() { p.failed <- pages.Serve(listener) }()
	p.log.Info("admin pages", "addr", listener.Addr().String())
	return pages, nil
}

// register gives the metrics what is counted here.
func (p *program) register(m *metrics) {
	p.service.register(m)
	m.setFunc("s3proxy_client_connections", func() float64 { return float64(p.connections.Load()) })
	if p.out != nil {
		m.setFunc("s3proxy_log_dropped_lines_total", func() float64 { return float64(p.out.dropped()) })
	}
}

// countConnections is http.Server.ConnState.
func (p *program) countConnections(_ net.Conn, state http.ConnState) {
	switch state {
	case http.StateNew:
		p.connections.Add(1)
	case http.StateClosed, http.StateHijacked:
		p.connections.Add(-1)
	}
}

// newServer sets the limits that come before a handler. There is no ReadTimeout
// and no WriteTimeout: they would cut large transfers, however well they go. The
// exchange moves deadlines on as long as there is progress.
func newServer(h http.Handler, log *slog.Logger) *http.Server {
	return &http.Server{
		Handler:                      h,
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

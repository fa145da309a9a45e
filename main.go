// S3-proxy is one front door for S3 buckets that live in different accounts and
// services. A client knows one URL and one key; the gateway works out who is
// asking, whether they may, and which account owns the bucket, signs the request
// for that account (AWS Signature Version 4) and streams it through.
//
// Usage:
//
//	s3-proxy -config config.json    serve
//	s3-proxy -config FILE -check    check a configuration and stop
//	s3-proxy -demo                  try it: the gateway before an embedded S3 server
//	s3-proxy -version
//
// A session, with the configuration
//
//	{
//	  "accounts": { "minio": { "endpoint_url": "http://localhost:9000", "region": "us-east-1",
//	                           "access_key_id": "minioadmin", "secret_access_key": "${MINIO_SECRET}",
//	                           "buckets": ["photos"] } },
//	  "users":    { "alice": { "api_key": "Zm9sbG93IHRoZSB3aGl0ZSByYWJiaXQ",
//	                           "role": "user", "allowed_buckets": ["photos"] } }
//	}
//
// looks like this:
//
//	$ MINIO_SECRET=… s3-proxy -config config.json &
//	$ export KEY='x-api-key: Zm9sbG93IHRoZSB3aGl0ZSByYWJiaXQ'
//	$ curl -H "$KEY" -T cat.jpg http://localhost:8080/photos/cat.jpg
//	$ curl -H "$KEY" http://localhost:8080/photos
//	$ curl -H "$KEY" -r 0-99 http://localhost:8080/photos/cat.jpg
//
// S3 tools need no header: the access key id is the user's name, the secret is
// the API key.
//
//	$ export AWS_ACCESS_KEY_ID=alice AWS_SECRET_ACCESS_KEY=Zm9sbG93IHRoZSB3aGl0ZSByYWJiaXQ
//	$ aws --endpoint-url http://localhost:8080 s3 cp cat.jpg s3://photos/
//
// Every setting, every answer and the limits of what is promised are in
// README.md. To read the code, follow a request: main.go, config.go,
// handlers.go, path.go, auth.go, signature.go, limiter.go, operations.go,
// headers.go, payload.go, upstream.go, sigv4.go, listing.go and xml.go, in this
// order.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"runtime/debug"
	"sync/atomic"
	"syscall"
	"time"
)

const usage = `usage:
  s3-proxy -config config.json     serve
  s3-proxy -config FILE -check     check a configuration and stop
  s3-proxy -demo [-demo-dir DIR]   try it: the gateway before an embedded S3 server
  s3-proxy -version

flags:
`

const (
	readHeaderTimeout = 10 * time.Second  // for the whole head of a request, and for a TLS handshake
	keepAliveTimeout  = 120 * time.Second // between requests; load balancers use 60 s and must be the first to close
	logPatience       = time.Second       // for the last lines of the log, at the end
	watchCertificates = 10 * time.Second
	maxHeaderBytes    = 32 << 10 // S3 takes 2 KiB of metadata and keys of 1 KiB
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	// A log whose reader is gone must not end the transfers.
	signal.Ignore(syscall.SIGPIPE)
	switch err := run(ctx, os.Args[1:], os.Stdout, os.Stderr); {
	case errors.Is(err, flag.ErrHelp):
	case err != nil:
		fmt.Fprintf(os.Stderr, "s3-proxy: %v\n", err)
		os.Exit(1)
	}
}

// run is the program: it returns when ctx is done and the requests under way
// are answered, or with the error that kept it from starting.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	flags := flag.NewFlagSet("s3-proxy", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.Usage = func() { fmt.Fprint(stderr, usage); flags.PrintDefaults() }
	configPath := flags.String("config", "config.json", "the configuration `file`")
	check := flags.Bool("check", false, "check the configuration, print what is wrong with it, and stop")
	demo := flags.Bool("demo", false, "serve an embedded S3 server, with the users of config.example.json")
	demoDir := flags.String("demo-dir", "", "where -demo keeps its objects (default: a temporary `folder`, removed at the end)")
	logFile := flags.String("log-file", "", "append the log to this `file`, opened anew on SIGHUP (default: standard error)")
	watch := flags.Duration("watch", 0, "look at the configuration this often, such as 5s, and take it when it has changed")
	logFormat := flags.String("log-format", "auto", "text, json, or auto: text on a terminal, json otherwise")
	logLevel := flags.String("log-level", "info", "debug, info, warn or error")
	version := flags.Bool("version", false, "print the version and stop")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() > 0 {
		return fmt.Errorf("unexpected argument %q; see s3-proxy -help", flags.Arg(0))
	}
	if *version {
		fmt.Fprintln(stdout, "s3-proxy", buildVersion())
		return nil
	}
	out := newLogWriter(stderr)
	if *logFile != "" {
		var err error
		if out, err = openLogFile(*logFile); err != nil {
			return fmt.Errorf("-log-file: %w", err)
		}
	}
	defer out.close(logPatience)
	if *logFormat == "auto" {
		*logFormat = "json"
		if *logFile == "" && isTerminal(stderr) {
			*logFormat = "text"
		}
	}
	log, err := newLogger(out, *logFormat, *logLevel)
	if err != nil {
		return err
	}
	out.report = func(lines int64) { log.Error("log lines were dropped", "lines", lines) }
	slog.SetDefault(log) // for the words that net/http has for itself
	if *demo {
		return runDemo(ctx, *demoDir, stdout, log)
	}
	conf, err := loadConfig(*configPath)
	if err != nil {
		if errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("%w; config.example.json shows how one looks, and -demo needs none", err)
		}
		return fmt.Errorf("%s has faults:\n%w", *configPath, err)
	}
	if *check {
		conf.describe(stdout)
		return nil
	}
	return serve(ctx, conf, launch{log: log, out: out, path: *configPath, watch: *watch})
}

// A launch is what serve needs besides a configuration.
type launch struct {
	log   *slog.Logger
	out   *logWriter     // where the log goes; nil: not to one that is opened again
	path  string         // of the configuration; "": it can't be read again
	watch time.Duration  // how often it is looked at for changes; 0: never
	ready func(net.Addr) // if not nil, told the address
}

// serve listens and answers until ctx is done.
func serve(ctx context.Context, conf *config, l launch) error {
	log := l.log
	for _, warning := range conf.warnings {
		log.Warn(warning)
	}
	listener, err := net.Listen("tcp", conf.listen)
	if err != nil {
		return err
	}
	defer listener.Close()
	listener = corkListener{limitConnections(listener, conf.maxConnections)}
	m := newMetrics()
	s, err := newService(l.path, conf, m, log)
	if err != nil {
		return err
	}
	defer func() { s.current.Load().retire(nil) }()
	var certificates *serverTLS
	if conf.certFile != "" {
		if certificates, err = newServerTLS(conf.certFile, conf.keyFile, conf.clientCA, log); err != nil {
			return err
		}
		go certificates.watch(ctx, watchCertificates)
	}
	reload := func() error {
		if certificates != nil {
			if err := certificates.reload(); err != nil {
				log.Error("the TLS files are not taken over; the certificate of before stays in use", "cause", err.Error())
			}
		}
		return s.reload()
	}
	go onHangup(ctx, func() {
		if l.out != nil {
			if err := l.out.reopen(); err != nil {
				log.Error("the log file was not opened again; the log goes where it went before", "cause", err.Error())
			}
		}
		reload()
	})
	if l.watch > 0 {
		go s.watch(ctx, l.watch)
	}
	server := newServer(s, log)
	var connections atomic.Int64
	server.ConnState = countConnections(&connections)
	s.register(m)
	m.setFunc("s3proxy_client_connections", func() float64 { return float64(connections.Load()) })
	if l.out != nil {
		m.setFunc("s3proxy_log_dropped_lines_total", func() float64 { return float64(l.out.dropped()) })
	}
	var draining atomic.Bool
	failed := make(chan error, 2)
	if conf.admin != "" {
		admin, err := net.Listen("tcp", conf.admin)
		if err != nil {
			return fmt.Errorf("server.admin: %w", err)
		}
		pages := newServer(newAdmin(s, &draining, reload), log)
		defer pages.Close()
		go func() { failed <- pages.Serve(admin) }()
		log.Info("admin pages", "addr", admin.Addr().String())
	}
	go func() {
		if certificates != nil {
			failed <- certificates.serve(server, listener)
		} else {
			failed <- server.Serve(listener)
		}
	}()
	log.Info("listening", "addr", listener.Addr().String(), "version", buildVersion(),
		"accounts", len(conf.accounts), "buckets", len(conf.buckets), "users", len(conf.users))
	if l.ready != nil {
		l.ready(listener.Addr())
	}
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
	}
	draining.Store(true)
	timeout := s.current.Load().config.shutdownTimeout
	log.Info("draining", "shutdown_timeout", timeout.String())
	patience, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	if err := server.Shutdown(patience); err != nil {
		server.Close() // whoever is still at it sees a broken connection, not an end
		return fmt.Errorf("requests were still under way after %s and were broken off", timeout)
	}
	log.Info("stopped")
	return nil
}

// onHangup calls do for each SIGHUP until ctx is done.
func onHangup(ctx context.Context, do func()) {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGHUP)
	defer signal.Stop(signals)
	for {
		select {
		case <-ctx.Done():
			return
		case <-signals:
			do()
		}
	}
}

// countConnections returns an http.Server.ConnState that counts those that are open.
func countConnections(n *atomic.Int64) func(net.Conn, http.ConnState) {
	return func(_ net.Conn, state http.ConnState) {
		switch state {
		case http.StateNew:
			n.Add(1)
		case http.StateClosed, http.StateHijacked:
			n.Add(-1)
		}
	}
}

// newServer sets the limits that come before a handler. There is no ReadTimeout
// and no WriteTimeout: they would cut large transfers, however well they go. The
// exchange moves deadlines on as long as there is progress.
func newServer(h http.Handler, log *slog.Logger) *http.Server {
	return &http.Server{
		Handler:                      h,
		ConnContext:                  withCork,
		ReadHeaderTimeout:            readHeaderTimeout,
		IdleTimeout:                  keepAliveTimeout,
		MaxHeaderBytes:               maxHeaderBytes,
		DisableGeneralOptionsHandler: true,
		ErrorLog:                     slog.NewLogLogger(log.Handler(), slog.LevelWarn),
	}
}

func newLogger(w io.Writer, format, level string) (*slog.Logger, error) {
	var options slog.HandlerOptions
	var min slog.Level
	if err := min.UnmarshalText([]byte(level)); err != nil {
		return nil, fmt.Errorf("-log-level: want debug, info, warn or error, have %q", level)
	}
	options.Level = min
	switch format {
	case "text":
		return slog.New(slog.NewTextHandler(w, &options)), nil
	case "json":
		return slog.New(slog.NewJSONHandler(w, &options)), nil
	}
	return nil, fmt.Errorf("-log-format: want text, json or auto, have %q", format)
}

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}

// buildVersion is the module's version, or the commit it was built from.
func buildVersion() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" {
			return info.Main.Version + " " + shortened(s.Value, 12)
		}
	}
	return info.Main.Version
}

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
// README.md. To read the code, follow a request: main.go, serve.go, config.go,
// config_check.go, gateway.go, handlers.go, exchange.go, path.go, auth.go, auth_signature.go,
// limiter.go, operations.go, headers.go, exchange_body.go, upload.go, upload_chunked.go,
// upstream.go, upstream_conn.go, sigv4.go, handlers_list.go, xml_scan.go and xml.go, in this order.
// What an operator switches on has files of its own: tls.go, credentials.go and
// providers.go, reload.go, admin.go, metrics.go and process.go, throttle.go,
// sharedlimit.go, redis.go and resp.go, logfile.go.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
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

// logPatience is for the last lines of the log, at the end.
const logPatience = time.Second

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
	seen := fingerprint(*configPath)
	conf, err := loadConfig(*configPath, (*configFile).checkTLS, func(f *configFile) error {
		if *check {
			return f.checkProfiles(ctx)
		}
		return nil
	})
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
	return serve(ctx, conf, launch{configSource: configSource{*configPath, seen}, log: log, out: out, watch: *watch})
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

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
//	s3-proxy doctor [-config FILE] [-write] [-json]
//	                                check a configuration, and ask its backends, Redis and this machine
//	s3-proxy explain -user U METHOD PATH [-H 'name: value']… | REQUEST_ID -log FILE
//	                                say what becomes of a request, or became of one in the log, and why
//	s3-proxy key [-hash]            make an API key, or print the SHA-256 of one
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
// If something does not work, the doctor asks every backend, and says what to do:
//
//	$ s3-proxy doctor -config config.json
//	✓  config.json     config_ok     1 account, 1 bucket, 1 user
//	✗  accounts.minio  secret_wrong  the backend knows the access key id, and not the signature; …
//
// README.md is the first page of the documentation, docs/ has the rest. To read the
// code, open docs/code.md: it follows one GET from the client's socket to the backend
// and back. The names of the files group them, with the entrance first:
//
//	main command serve listener tls log                   start
//	config                                                configuration
//	gateway exchange answer path query headers cors       one request
//	errors text progress memory buffers                   what requests share
//	auth limiter key                                      who, and how much
//	operations handlers                                   the S3 operations
//	upload                                                checks of uploads, aws-chunked
//	upstream sigv4 credentials                            the backend
//	xml                                                   documents
//	admin status metrics doctor explain                   what the operator sees
//	demo                                                  the embedded S3 server
//
// Files form layers: no file uses another that uses it, except those that arrows_test.go
// names.
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
	"strings"
	"syscall"
	"time"
)

const usage = `usage:
  s3-proxy -config config.json     serve
  s3-proxy -config FILE -check     check a configuration and stop
  s3-proxy -demo [-demo-dir DIR]   try it: the gateway before an embedded S3 server
  s3-proxy -version
`

// commands are the subcommands.
var commands = []*subcommand{&doctorCommand, &explainCommand, &keyCommand}

// logPatience is how long the program waits, at its end, for the last lines of the log.
const logPatience = time.Second

func main() {
	// A log whose reader is gone must not end the transfers.
	signal.Ignore(syscall.SIGPIPE)
	switch err := run(context.Background(), os.Args[1:], os.Stdout, os.Stderr); {
	case errors.Is(err, flag.ErrHelp):
	case err != nil:
		if err != errReported {
			fmt.Fprintf(os.Stderr, "s3-proxy: %s\n", visibleLines(err.Error()))
		}
		os.Exit(exitStatus(err))
	}
}

// visibleLines returns a text of several lines for a terminal, which nothing in it can make act: a
// configuration may have any characters.
func visibleLines(text string) string {
	var b []byte
	for line := range strings.Lines(text) {
		line, ended := strings.CutSuffix(line, "\n")
		if b = appendVisible(b, line, false); ended {
			b = append(b, '\n')
		}
	}
	return string(b)
}

// exitStatus returns 2 for a wrong command line, and 1 for any other error.
func exitStatus(err error) int {
	if _, wrong := errors.AsType[usageError](err); wrong {
		return 2
	}
	return 1
}

// printUsage prints the usage of the program and of its commands.
func printUsage(w io.Writer) {
	fmt.Fprint(w, usage)
	for _, c := range commands {
		fmt.Fprintf(w, "  s3-proxy %s %s\n%35s%s\n", c.name, c.arguments, "", c.summary)
	}
	fmt.Fprint(w, "\nflags:\n")
}

// runCommand runs the command that the first argument names.
func runCommand(ctx context.Context, args []string, std streams) error {
	for _, c := range commands {
		if c.name == args[0] {
			return c.start(ctx, args[1:], std)
		}
	}
	return usageError{fmt.Errorf("unexpected argument %q, which is not a command; see s3-proxy -help", args[0])}
}

// run is the program. It returns when ctx is done and the requests in flight are
// answered, or with the error that kept it from starting.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	if len(args) > 0 && !strings.HasPrefix(args[0], "-") {
		return runCommand(ctx, args, streams{os.Stdin, stdout, stderr})
	}
	o, err := parseFlags(args, stderr)
	if err != nil {
		return err
	}
	if o.version {
		fmt.Fprintln(stdout, "s3-proxy", buildVersion())
		return nil
	}
	out, log, err := o.openLog(stderr)
	if err != nil {
		return err
	}
	defer out.close(logPatience)
	if o.demo {
		ctx, stop := untilSignal(ctx)
		defer stop()
		return runDemo(ctx, o.demoDir, stdout, log)
	}
	source := configSource{o.config, fingerprint(o.config)}
	conf, err := o.load(ctx)
	if err != nil {
		return err
	}
	if o.check {
		conf.describe(stdout)
		return nil
	}
	ctx, stop := untilSignal(ctx)
	defer stop()
	return serve(ctx, conf, launch{configSource: source, log: log, out: out, watch: o.watch})
}

// options are what the command line asks for.
type options struct {
	config    string // path of the configuration
	check     bool
	demo      bool
	demoDir   string // "": a temporary folder
	logFile   string // "": standard error
	logFormat string
	logLevel  string
	version   bool
	watch     time.Duration // 0: the file is not watched
}

// parseFlags reads the command line. It returns flag.ErrHelp for -help.
func parseFlags(args []string, stderr io.Writer) (options, error) {
	var o options
	flags := flag.NewFlagSet("s3-proxy", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.Usage = func() { printUsage(stderr); flags.PrintDefaults() }
	flags.StringVar(&o.config, "config", "config.json", "the configuration `file`")
	flags.BoolVar(&o.check, "check", false, "check the configuration, print every error in it, and stop")
	flags.BoolVar(&o.demo, "demo", false, "serve an embedded S3 server, with the users of config.example.json, and print what to try")
	flags.StringVar(&o.demoDir, "demo-dir", "", "the `folder` in which -demo keeps its objects (default: a temporary one, removed at the end)")
	flags.StringVar(&o.logFile, "log-file", "", "append the log to this `file` and reopen it on SIGHUP (default: standard error)")
	flags.DurationVar(&o.watch, "watch", 0, "look at the configuration at this interval, such as 5s, and reload it when it has changed")
	flags.StringVar(&o.logFormat, "log-format", "auto", "short, text, json, or auto: short on a terminal and with -demo, json otherwise")
	flags.StringVar(&o.logLevel, "log-level", "info", "debug, info, warn or error")
	flags.BoolVar(&o.version, "version", false, "print the version and stop")
	if err := parseAll(flags, args); err != nil {
		return o, err
	}
	given := map[string]bool{}
	flags.Visit(func(f *flag.Flag) { given[f.Name] = true })
	return o, o.checkFlags(given)
}

// shortestWatch is the shortest interval of -watch.
const shortestWatch = 10 * time.Millisecond

// checkFlags refuses flags that mean nothing, or nothing together.
func (o options) checkFlags(given map[string]bool) error {
	switch {
	case o.demo && (given["config"] || o.check || given["watch"]):
		return usageError{errors.New("-demo has a configuration of its own: it goes without -config, -check and -watch")}
	case given["demo-dir"] && !o.demo:
		return usageError{errors.New("-demo-dir goes with -demo")}
	case o.watch != 0 && o.watch < shortestWatch:
		return usageError{fmt.Errorf("-watch must be at least %s, such as 5s, or 0 not to watch the file", shortestWatch)}
	}
	return nil
}

// load reads the configuration. With -check it also reads the credentials that the
// accounts' profiles name.
func (o options) load(ctx context.Context) (*config, error) {
	checks := []func(*configFile) error{(*configFile).checkTLS}
	if o.check {
		checks = append(checks, func(f *configFile) error { return f.checkProfiles(ctx) })
	}
	conf, err := loadConfig(o.config, checks...)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return nil, fmt.Errorf("%w; config.example.json shows what one looks like, and -demo needs none", err)
	case err != nil:
		return nil, fmt.Errorf("%s has errors:\n%w", o.config, err)
	}
	return conf, nil
}

// openLog opens the log and makes it slog's default, which net/http writes to.
func (o options) openLog(stderr io.Writer) (*logWriter, *slog.Logger, error) {
	out := newLogWriter(stderr)
	if o.logFile != "" {
		var err error
		if out, err = openLogFile(o.logFile); err != nil {
			return nil, nil, fmt.Errorf("-log-file: %w", err)
		}
	}
	onTerminal := o.logFile == "" && isTerminal(stderr)
	format := o.logFormat
	switch {
	case format != "auto":
	case onTerminal || o.demo:
		format = "short"
	default:
		format = "json"
	}
	log, err := newLogger(out, format, o.logLevel, colours(onTerminal && showsColours(os.Getenv)))
	if err != nil {
		out.close(0)
		return nil, nil, err
	}
	out.report = func(lines int64) { log.Error("log lines were dropped", "lines", lines) }
	slog.SetDefault(log)
	return out, log, nil
}

// newLogger returns a logger. Only the short format has colours.
func newLogger(w io.Writer, format, level string, on colours) (*slog.Logger, error) {
	var least slog.Level
	if err := least.UnmarshalText([]byte(level)); err != nil {
		return nil, usageError{fmt.Errorf("-log-level must be debug, info, warn or error, not %q", level)}
	}
	handlerOptions := &slog.HandlerOptions{Level: least}
	switch format {
	case "short":
		return slog.New(newShortHandler(w, least, on)), nil
	case "text":
		return slog.New(slog.NewTextHandler(w, handlerOptions)), nil
	case "json":
		return slog.New(slog.NewJSONHandler(w, handlerOptions)), nil
	}
	return nil, usageError{fmt.Errorf("-log-format must be short, text, json or auto, not %q", format)}
}

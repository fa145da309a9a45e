package main

// s3-proxy doctor: what is wrong with a configuration, and with what it names. It finds
// everything that -check does, and then asks: each account, the limiter's store, this
// machine. All of them are asked at once, by the code that the gateway itself asks with.
//
// doctor_report.go has what can be found. docs/doctor.md explains each verdict.

import (
	"context"
	"errors"
	"flag"
	"io"
	"net"
	"os"
	"strings"
	"sync"
)

var doctorCommand = subcommand{
	name:      "doctor",
	arguments: "[-config FILE] [-write] [-json]",
	summary:   "check a configuration, and ask its backends, Redis and this machine",
	orderly:   true,
	run:       runDoctor,
}

func runDoctor(ctx context.Context, flags *flag.FlagSet, args []string, std streams) error {
	path := flags.String("config", "config.json", "the configuration `file`")
	write := flags.Bool("write", false, "write a probe object to each bucket, read it and delete it")
	asJSON := flags.Bool("json", false, "print one JSON document, not a table")
	if err := parseAll(flags, args); err != nil {
		return err
	}
	d := &doctor{write: *write}
	if isTerminal(std.err) {
		d.progressTo = std.err
	}
	r := d.examine(ctx, *path)
	if *asJSON {
		if err := r.writeJSON(std.out, *path); err != nil {
			return err
		}
	} else {
		r.writeTable(std.out, isUTF8Locale(os.Getenv))
	}
	switch {
	case ctx.Err() != nil:
		return errors.New("interrupted")
	case r.count(severityError) > 0:
		return errReported
	}
	return nil
}

const (
	accountsAtOnce = 64 // that are asked

	// connectionsAtOnce bounds the connections of all accounts together: a shell may allow 256
	// descriptors.
	connectionsAtOnce = 128
)

// A doctor examines a configuration and what it names. A test may set dialer.
type doctor struct {
	write      bool
	progressTo io.Writer // nil: no progress is shown
	dialer     func(ctx context.Context, network, addr string) (net.Conn, error)
}

// examine returns what it has found. It takes as long as the slowest of what it asks, which
// all have limits. If ctx ends before, it returns what is known then.
func (d *doctor) examine(ctx context.Context, path string) *report {
	r := &report{secrets: func() []string { return nil }, interrupted: func() bool { return ctx.Err() != nil }}
	file := r.chapter("configuration")
	conf, err := loadConfig(path)
	if err != nil {
		file.misconfigured(path, err)
		return r
	}
	file.configured(path, conf)
	r.secrets = func() []string { return secretsOf(conf) }
	examinations := d.examinations(r, conf)
	if d.progressTo != nil {
		defer r.showProgress(d.progressTo)()
	}
	var asked sync.WaitGroup
	for _, examine := range examinations {
		asked.Go(func() { examine(ctx) })
	}
	asked.Wait()
	if ctx.Err() != nil {
		file.keep(path, "interrupted", "the doctor was interrupted: what has no line here was not looked at to its end")
	}
	return r
}

// examinations adds the chapters of a report, in their order, and returns what fills them.
func (d *doctor) examinations(r *report, conf *config) (all []func(context.Context)) {
	all = append(all, (&localDoctor{chapter: r.chapter("this machine"), conf: conf}).examine)
	turns := make(chan struct{}, min(accountsAtOnce, len(conf.accounts)))
	for _, a := range conf.accounts {
		examined := addAccount(r, conf, a, d.write)
		examined.atOnce = min(bucketsAtOnce, connectionsAtOnce/cap(turns))
		if d.dialer != nil {
			examined.upstream.pool.dialer = d.dialer
		}
		all = append(all, func(ctx context.Context) {
			turns <- struct{}{}
			defer leave(turns)
			if ctx.Err() == nil {
				examined.examine(ctx)
			}
		})
	}
	if conf.redis != nil {
		all = append(all, (&redisDoctor{r.chapter("Redis"), newRedisStore(*conf.redis)}).examine)
	}
	return all
}

// misconfigured adds the errors of a configuration, one by one.
func (s *chapter) misconfigured(path string, err error) {
	if several, ok := err.(interface{ Unwrap() []error }); ok {
		for _, one := range several.Unwrap() {
			s.misconfigured(path, one)
		}
		return
	}
	subject, text := path, err.Error()
	if fault, ok := errors.AsType[configError](err); ok {
		subject, text = fault.path, fault.problem
	}
	s.add(subject, "config_error", "%s", text)
}

// configured adds what is in a configuration without errors.
func (s *chapter) configured(path string, conf *config) {
	s.add(path, "config_ok", "%s", conf.extent())
	for _, warning := range conf.warnings {
		setting, text, _ := strings.Cut(warning, ": ")
		s.add(setting, "config_warning", "%s", text)
	}
}

// secretsOf returns what no report may hold, as it is now: credentials may be fetched
// meanwhile.
func secretsOf(conf *config) (secrets []string) {
	for _, a := range conf.accounts {
		keys := a.source.get()
		secrets = append(secrets, keys.AccessKeyID, keys.SecretAccessKey, keys.SessionToken)
	}
	for _, u := range conf.users {
		for _, key := range u.keys {
			secrets = append(secrets, key.secret) // "" is a piece of nothing
		}
	}
	if conf.redis != nil {
		secrets = append(secrets, conf.redis.password)
	}
	return secrets
}

package main

// s3-proxy explain: what the gateway would do with a request, step by step, and which setting
// refuses it; or what became of a request that is in the log.
//
// explain_request.go takes a request through the gateway's own steps, which explain_wire.go sends
// to its server. explain_change.go looks for the settings that refuse it, and explain_log.go reads
// a line of the log.

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
)

var explainCommand = subcommand{
	name:      "explain",
	arguments: "-user U METHOD PATH [-H 'name: value']… | REQUEST_ID -log FILE",
	summary:   "say what becomes of a request, or became of one in the log, and why",
	run:       runExplain,
}

// A headerList collects the values of -H.
type headerList []string

// String and Set implement flag.Value.
func (l *headerList) String() string     { return "" }
func (l *headerList) Set(s string) error { *l = append(*l, s); return nil }

func runExplain(_ context.Context, flags *flag.FlagSet, args []string, std streams) error {
	var q question
	path := flags.String("config", "config.json", "the configuration `file`")
	flags.StringVar(&q.user, "user", "", "the `name` of the user who asks")
	flags.Var((*headerList)(&q.headers), "H", "a `header` of the request, as \"name: value\"; may be given several times")
	logFile := flags.String("log", "", "a log in JSON: a `file`, or - for standard input")
	words, err := parseMixed(flags, args)
	if err != nil {
		return err
	}
	switch {
	case *logFile != "" && len(words) == 1:
		return explainLogged(std, *logFile, words[0])
	case *logFile != "":
		return usageError{errors.New("-log goes with one REQUEST_ID; see s3-proxy explain -help")}
	case len(words) != 2:
		return usageError{errors.New("explain needs METHOD and PATH, such as GET /bucket/key, or a REQUEST_ID and -log FILE; see s3-proxy explain -help")}
	}
	q.method, q.path = words[0], words[1]
	conf, err := loadConfig(*path)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return usageError{err}
	case err != nil:
		return usageError{fmt.Errorf("%s has errors:\n%w", *path, err)} // status 1 would say that the request is refused
	}
	steps, passes, err := explain(q, conf)
	if err != nil {
		return err
	}
	writeSteps(std.out, steps, isUTF8Locale(os.Getenv))
	if !passes {
		return errReported
	}
	return nil
}

// explain returns what becomes of a request, and whether it passes.
func explain(q question, conf *config) (steps []explainedStep, passes bool, err error) {
	asker := configuredUser(conf, q.user)
	if asker == nil {
		return nil, false, usageError{fmt.Errorf("-user: there is no user %q; the configuration has %s", q.user, namesOf(conf))}
	}
	conf = q.narrowed(conf, asker)
	v, err := q.ask(conf)
	switch _, wrong := errors.AsType[usageError](err); {
	case wrong:
		return nil, false, err
	case err != nil:
		return []explainedStep{{severityError, "request", err.Error()}}, false, nil
	case v.passes():
		return v.steps(), true, nil
	}
	return append(v.steps(), changeStep(q, conf)), false, nil
}

// parseMixed reads flags that may stand between, before and after the other words, which it
// returns.
func parseMixed(flags *flag.FlagSet, args []string) (words []string, err error) {
	for {
		if err := parseSome(flags, args); err != nil {
			return nil, err
		}
		if flags.NArg() == 0 {
			return words, nil
		}
		words = append(words, flags.Arg(0))
		args = flags.Args()[1:]
	}
}

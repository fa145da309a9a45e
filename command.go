package main

// Subcommands: what they have in common. main.go has the table of them.

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
)

// A subcommand is a command of the program. Its arguments are for the usage text. run adds
// its flags and parses them with parseAll; it returns errReported for a failure that it has
// printed itself.
type subcommand struct {
	name, arguments, summary string
	orderly                  bool // a signal ends its context, and not the program at once
	run                      func(ctx context.Context, flags *flag.FlagSet, args []string, std streams) error
}

// streams are the standard streams of a command.
type streams struct {
	in       io.Reader
	out, err io.Writer
}

// A usageError is an error of the command line. The program ends with status 2, as those
// of Go's flag package do.
type usageError struct{ error }

// Unwrap is for errors.As and errors.Is.
func (e usageError) Unwrap() error { return e.error }

// errReported ends the program with status 1 and no further words.
var errReported = errors.New("the errors are printed above")

// start runs the command. It returns flag.ErrHelp for -help.
func (c *subcommand) start(ctx context.Context, args []string, std streams) error {
	flags := flag.NewFlagSet("s3-proxy "+c.name, flag.ContinueOnError)
	flags.SetOutput(std.err)
	flags.Usage = func() {
		fmt.Fprintf(std.err, "usage:\n  s3-proxy %s %s   %s\n\nflags:\n", c.name, c.arguments, c.summary)
		flags.PrintDefaults()
	}
	if c.orderly {
		var stop func()
		ctx, stop = untilSignal(ctx)
		defer stop()
	}
	return c.run(ctx, flags, args, std)
}

// parseSome reads flags, up to the first argument that is none. It returns flag.ErrHelp for -help.
func parseSome(flags *flag.FlagSet, args []string) error {
	help, out := flags.Usage, flags.Output()
	flags.Usage = func() {}
	flags.SetOutput(io.Discard) // package flag would print the whole usage for each slip
	err := flags.Parse(args)
	flags.Usage = help
	flags.SetOutput(out)
	switch {
	case errors.Is(err, flag.ErrHelp):
		help()
		return err
	case err != nil:
		return usageError{fmt.Errorf("%w; see %s -help", err, flags.Name())}
	}
	return nil
}

// parseAll reads flags, and refuses what is left.
func parseAll(flags *flag.FlagSet, args []string) error {
	if err := parseSome(flags, args); err != nil {
		return err
	}
	if flags.NArg() > 0 {
		return usageError{fmt.Errorf("unexpected argument %q; see %s -help", flags.Arg(0), flags.Name())}
	}
	return nil
}

// untilSignal returns a context that ends with the first SIGINT or SIGTERM. The second one ends the
// program at once.
func untilSignal(ctx context.Context) (context.Context, func()) {
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop)
	return ctx, stop
}

// isTerminal reports whether a stream is a terminal.
func isTerminal(stream any) bool {
	f, ok := stream.(*os.File)
	if !ok {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}

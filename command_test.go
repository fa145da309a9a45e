package main

import (
	"errors"
	"flag"
	"io"
	"strings"
	"testing"
)

func TestWrongCommandLineEndsWithStatus2(t *testing.T) {
	for _, test := range []struct {
		args string
		want string
	}{
		{"docter", `unexpected argument "docter"`},
		{"key -nonsense", "-nonsense"},
		{"key hash", `unexpected argument "hash"; see s3-proxy key -help`},
		{"-check key", `unexpected argument "key"`},
		{"-nonsense", "-nonsense"},
	} {
		err := run(t.Context(), strings.Fields(test.args), io.Discard, io.Discard)
		if err == nil || !strings.Contains(err.Error(), test.want) || exitStatus(err) != 2 {
			t.Errorf("run(%s) = %v with status %d, want 2 and an error with %q", test.args, err, exitStatus(err), test.want)
		}
	}
	if got := exitStatus(errors.New("no such file")); got != 1 {
		t.Errorf("the status of another error = %d, want 1", got)
	}
}

// The usage of the program names every command, and each explains itself.
func TestEveryCommandHasItsUsage(t *testing.T) {
	var help syncBuffer
	if err := run(t.Context(), []string{"-help"}, &help, &help); !errors.Is(err, flag.ErrHelp) {
		t.Errorf("run(-help) = %v, want flag.ErrHelp", err)
	}
	manual, _, _ := strings.Cut(readDoc(t, "main.go"), "\npackage main")
	for _, c := range commands {
		line := "s3-proxy " + c.name + " " + c.arguments
		for where, text := range map[string]string{"-help": help.String(), "the package comment": manual} {
			if !strings.Contains(text, line) {
				t.Errorf("%s does not have %q", where, line)
			}
		}
		var own syncBuffer
		if err := run(t.Context(), []string{c.name, "-help"}, &own, &own); !errors.Is(err, flag.ErrHelp) || !strings.Contains(own.String(), line) {
			t.Errorf("%s -help = %v, %q, want its usage", c.name, err, own.String())
		}
	}
}

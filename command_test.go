package main

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
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
		{"-nonsense", "not defined: -nonsense; see s3-proxy -help"},
		{"-watch 5", "-watch"},
		{"-watch -5s", "-watch must be at least 10ms"},
		{"-watch 1ns", "-watch must be at least 10ms"},
		{"-log-level loud -check", "-log-level must be"},
		{"-log-format xml -check", "-log-format must be"},
		{"-demo -config x.json", "it goes without -config"},
		{"-demo -check", "it goes without -config, -check"},
		{"explain -config " + filepath.Join(t.TempDir(), "absent.json") + " -user eve GET /", "no such file"},
		{"explain -config " + writeConfig(t, testConfig("ftp://x")) + " -user eve GET /", "has errors"},
		{"-demo-dir x -check", "-demo-dir goes with -demo"},
	} {
		var said syncBuffer
		err := run(t.Context(), strings.Fields(test.args), &said, &said)
		if said.String() != "" {
			t.Errorf("run(%s) prints %q beside its error", test.args, said.String())
		}
		if err == nil || !strings.Contains(err.Error(), test.want) || exitStatus(err) != 2 {
			t.Errorf("run(%s) = %v with status %d, want 2 and an error with %q", test.args, err, exitStatus(err), test.want)
		}
	}
	if got := exitStatus(errors.New("no such file")); got != 1 {
		t.Errorf("the status of another error = %d, want 1", got)
	}
}

// The first signal lets a command end in order. The second one ends the program, as does the first
// before and after it.
func TestSecondSignalEndsTheProgram(t *testing.T) {
	if dir := os.Getenv("UNTIL_SIGNAL"); dir != "" { // in a process of its own
		ctx, stop := untilSignal(context.Background())
		defer stop()
		fmt.Println("ready")
		<-ctx.Done()
		fmt.Println("ending")
		select {}
	}
	self := exec.Command(os.Args[0], "-test.run=^TestSecondSignalEndsTheProgram$")
	self.Env = append(os.Environ(), "UNTIL_SIGNAL=1")
	out, err := self.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := self.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	for _, want := range []string{"ready", "ending"} {
		if !lines.Scan() || lines.Text() != want {
			self.Process.Kill()
			t.Fatalf("the process says %q, want %q", lines.Text(), want)
		}
		self.Process.Signal(syscall.SIGINT)
	}
	ended := make(chan error, 1)
	go func() { ended <- self.Wait() }()
	again := time.NewTicker(10 * time.Millisecond) // it may have said so before its handler is gone
	defer again.Stop()
	for status := error(nil); status == nil; {
		select {
		case status = <-ended:
		case <-again.C:
			self.Process.Signal(syscall.SIGINT)
		}
	}
	if status := self.ProcessState; status.Sys().(syscall.WaitStatus).Signal() != syscall.SIGINT {
		t.Errorf("after the second signal: %v, want an end by it", status)
	}
}

func TestKeyThatCouldNotBeWrittenIsAnError(t *testing.T) {
	full := errors.New("no space left on device")
	for _, args := range []string{"", "-hash"} {
		err := keyCommand.start(t.Context(), strings.Fields(args), streams{strings.NewReader(userKey), failingOutput{full}, failingOutput{nil}})
		if !errors.Is(err, full) {
			t.Errorf("key %s = %v, want the error of its output", args, err)
		}
	}
}

// A failingOutput fails, unless its error is nil.
type failingOutput struct{ err error }

func (w failingOutput) Write(p []byte) (int, error) { return len(p), w.err }

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

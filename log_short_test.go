package main

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"strings"
	"sync"
	"testing"
	"testing/slogtest"
	"time"
)

// shortTime is when the records of these tests are made.
var shortTime = time.Date(2026, 11, 5, 23, 9, 51, 0, time.Local)

// shortLog returns what the short format writes for a record.
func shortLog(t testing.TB, on colours, level slog.Level, msg string, attrs ...slog.Attr) string {
	t.Helper()
	out := &logOutput{}
	r := slog.NewRecord(shortTime, level, msg, 0)
	r.AddAttrs(attrs...)
	if err := newShortHandler(out, slog.LevelDebug, on).Handle(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	writes := out.seen()
	if len(writes) != 1 {
		t.Fatalf("%q: %d writes, want one", msg, len(writes))
	}
	return writes[0]
}

func TestShortLogOfOtherLines(t *testing.T) {
	for _, test := range []struct {
		level slog.Level
		msg   string
		attrs []slog.Attr
		want  string
	}{
		{slog.LevelInfo, "listening", []slog.Attr{slog.String("addr", "127.0.0.1:8080"), slog.Int("accounts", 1)},
			"23:09:51 INFO  listening addr=127.0.0.1:8080 accounts=1\n"},
		{slog.LevelWarn, "draining", nil, "23:09:51 WARN  draining\n"},
		{slog.LevelError, "panic", []slog.Attr{slog.Any("panic", errors.New("a b"))}, "23:09:51 ERROR panic panic=\"a b\"\n"},
		{slog.LevelDebug, "d", []slog.Attr{slog.String("empty", ""), slog.String("quote", `"`), slog.Duration("took", time.Second)}, "23:09:51 DEBUG d empty=\"\" quote=\"\\\"\" took=1s\n"},
		{slog.LevelInfo + 1, "e", []slog.Attr{slog.Any("list", []string{"a", "b"}), slog.Any("nothing", nil)}, "23:09:51 INFO+1 e list=\"[a b]\" nothing=<nil>\n"},
		{slog.LevelInfo, "moved", []slog.Attr{slog.Time("at", time.Date(2026, 11, 5, 1, 2, 3, 0, time.UTC))}, "23:09:51 INFO  moved at=2026-11-05T01:02:03Z\n"},
		// What a peer sends to net/http's own log.
		{slog.LevelInfo, "bad \x1b[2J\r\n23:09:51 INFO  forged", []slog.Attr{slog.String("a", "\u202etxt.\x1b[0m"), slog.String("b", "\xff")},
			`23:09:51 INFO  bad \x1b[2J\r\n23:09:51 INFO  forged a="\u202etxt.\x1b[0m" b="\xff"` + "\n"},
		// A value of several lines, such as the errors of a configuration.
		{slog.LevelError, "reload failed", []slog.Attr{slog.String("cause", "server.port: x\nusers.a: \x1b\ty"), slog.String("file", "c.json")},
			"23:09:51 ERROR reload failed file=c.json\n                    cause:\n                    server.port: x\n                    users.a: \\x1b    y\n"},
		// Without what makes it the line of a request.
		{slog.LevelInfo, "request", []slog.Attr{slog.String("a", "b")}, "23:09:51 INFO  request a=b\n"},
	} {
		if got := shortLog(t, false, test.level, test.msg, test.attrs...); got != test.want {
			t.Errorf("%s\n got %q\nwant %q", test.msg, got, test.want)
		}
	}
}

func TestShortLogWithAttrsAndGroups(t *testing.T) {
	var out bytes.Buffer
	log := slog.New(newShortHandler(&out, slog.LevelInfo, false))
	withAccount := log.With("account", "main one")
	withAccount.WithGroup("g").With("a", 1).Info("one", "b", 2, slog.Group("h", "c", 3))
	withAccount.Info("two", slog.Group("", "inline", 1), slog.Group("empty"))
	log.Debug("not shown")
	log.With("method", "GET").Info("request", "method", "GET", "status", 200)
	got := out.String()
	for _, want := range []string{
		" INFO  one account=\"main one\" g.a=1 g.b=2 g.h.c=3\n",
		" INFO  two account=\"main one\" inline=1\n",
		" INFO  request method=GET method=GET status=200\n", // with attributes that are not those of a request
	} {
		if _, rest, found := strings.Cut(got, want); found {
			got = rest
		} else {
			t.Errorf("the log does not go on with %q: %q", want, got)
		}
	}
	if got != "" {
		t.Errorf("more in the log: %q", got)
	}
}

// The rules of slog for every handler.
func TestShortLogObeysSlog(t *testing.T) {
	var out bytes.Buffer
	err := slogtest.TestHandler(newShortHandler(&out, slog.LevelDebug, false), func() (all []map[string]any) {
		for line := range strings.Lines(out.String()) {
			all = append(all, parseShort(t, strings.TrimSuffix(line, "\n")))
		}
		return all
	})
	if err != nil {
		t.Error(err)
	}
}

// parseShort reads a line whose message is one word and whose values have no spaces.
func parseShort(t *testing.T, line string) map[string]any {
	t.Helper()
	m := map[string]any{}
	if _, err := time.Parse(time.TimeOnly, strings.Fields(line)[0]); err == nil {
		m[slog.TimeKey], line = strings.Fields(line)[0], line[len("23:09:51 "):]
	}
	fields := strings.Fields(line)
	m[slog.LevelKey], m[slog.MessageKey] = fields[0], fields[1]
	for _, pair := range fields[2:] {
		path, value, found := strings.Cut(pair, "=")
		if !found {
			t.Fatalf("%q in %q is no pair", pair, line)
		}
		at := m
		steps := strings.Split(path, ".")
		for _, step := range steps[:len(steps)-1] {
			if at[step] == nil {
				at[step] = map[string]any{}
			}
			at = at[step].(map[string]any)
		}
		at[steps[len(steps)-1]] = value
	}
	return m
}

// Lines of many goroutines, of handlers that share an output, are whole.
func TestShortLogConcurrent(t *testing.T) {
	var out bytes.Buffer // which is not safe for concurrent use
	log := slog.New(newShortHandler(&out, slog.LevelInfo, false))
	var writers sync.WaitGroup
	want := map[string]int{}
	for i := range 8 {
		text := strings.Repeat(fmt.Sprint(i), 100)
		want["INFO  "+text+" n="+fmt.Sprint(i)] = 50
		writers.Go(func() {
			of := log.With("n", i)
			for range 50 {
				of.Info(text)
			}
		})
	}
	writers.Wait()
	got := map[string]int{}
	for line := range strings.Lines(out.String()) {
		got[strings.TrimSuffix(line[len("23:09:51 "):], "\n")]++
	}
	if !maps.Equal(got, want) {
		t.Errorf("lines = %v, want %v", got, want)
	}
}

func TestShortLogColours(t *testing.T) {
	for _, test := range []struct {
		level slog.Level
		msg   string
		attrs []slog.Attr
		want  string
	}{
		{slog.LevelInfo, "a", nil, "\x1b[2m23:09:51\x1b[0m INFO  a\n"},
		{slog.LevelWarn, "a", nil, "\x1b[2m23:09:51\x1b[0m \x1b[33mWARN\x1b[0m  a\n"},
		{slog.LevelError, "a", nil, "\x1b[2m23:09:51\x1b[0m \x1b[1;31mERROR\x1b[0m a\n"},
	} {
		if got := shortLog(t, true, test.level, test.msg, test.attrs...); got != test.want {
			t.Errorf("got %q, want %q", got, test.want)
		}
	}
	for status, want := range map[int]string{200: "\x1b[32m200\x1b[0m", 304: "\x1b[36m304\x1b[0m", 404: "\x1b[33m404\x1b[0m", 0: "  -"} {
		if got := shortLog(t, true, slog.LevelInfo, "request", slog.String("method", "GET"), slog.Int("status", status)); !strings.Contains(got, " "+want+" GET") {
			t.Errorf("status %d: %q, want %q in it", status, got, want)
		}
	}
	if got, want := shortLog(t, true, slog.LevelWarn, "request", slog.String("method", "GET"), slog.Int("status", 502), slog.String("reason", "backend_dns")),
		"\x1b[1;31m502\x1b[0m GET "; !strings.Contains(got, want) || !strings.Contains(got, " \x1b[1;31mbackend_dns\x1b[0m ") {
		t.Errorf("a failure: %q, want %q and a coloured reason in it", got, want)
	}
}

// Colours are for a terminal that wants them.
func TestShowsColours(t *testing.T) {
	for _, test := range []struct {
		noColor, term string
		want          bool
	}{
		{"", "xterm-256color", true}, {"", "", true}, {"1", "xterm", false}, {"0", "xterm", false}, {"", "dumb", false},
	} {
		env := map[string]string{"NO_COLOR": test.noColor, "TERM": test.term}
		if got := showsColours(func(key string) string { return env[key] }); got != test.want {
			t.Errorf("NO_COLOR=%q TERM=%q: %t, want %t", test.noColor, test.term, got, test.want)
		}
	}
}

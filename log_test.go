package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// A logOutput records what each Write brings. take, if not nil, says how many
// bytes of it are taken, and the error.
type logOutput struct {
	mu     sync.Mutex // guards the rest
	writes []string
	take   func(p []byte) (int, error)
}

func (o *logOutput) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	n, err := len(p), error(nil)
	if o.take != nil {
		n, err = o.take(p)
	}
	if n > 0 {
		o.writes = append(o.writes, string(p[:n]))
	}
	return n, err
}

func (o *logOutput) setTake(take func([]byte) (int, error)) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.take = take
}

func (o *logOutput) seen() []string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return slices.Clone(o.writes)
}

// A lone line goes out without time passing; the lines that follow it go out
// together, logPause later.
func TestLogWriterGathers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		out := &logOutput{}
		w := newLogWriter(out)
		defer w.close(time.Second)
		start := time.Now()
		io.WriteString(w, "1\n")
		synctest.Wait()
		if got := out.seen(); !slices.Equal(got, []string{"1\n"}) || time.Since(start) != 0 {
			t.Fatalf("written at once: %q after %s, want the line after no time", got, time.Since(start))
		}
		io.WriteString(w, "2\n")
		io.WriteString(w, "3\n")
		time.Sleep(logPause) // of the bubble's clock
		synctest.Wait()
		if got := out.seen(); !slices.Equal(got, []string{"1\n", "2\n3\n"}) {
			t.Errorf("written after the pause: %q, want lines 2 and 3 in one write", got)
		}
	})
}

// A buffer that fills fast is not left to wait.
func TestLogWriterHalfFull(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		out := &logOutput{}
		w := newLogWriter(out)
		defer w.close(time.Second)
		start := time.Now()
		line := bytes.Repeat([]byte("x"), logBufferSize/4)
		line[len(line)-1] = '\n'
		for range 12 {
			w.Write(line)
			synctest.Wait()
		}
		if n := len(strings.Join(out.seen(), "")); n < 8*len(line) || time.Since(start) != 0 || w.dropped() != 0 {
			t.Errorf("%d bytes written after %s and %d lines dropped, want most of %d at once and none dropped", n, time.Since(start), w.dropped(), 12*len(line))
		}
	})
}

// With an output that takes nothing, a Write does not wait, the buffer does not
// grow, and close gives up when it may.
func TestLogWriterBlockedOutput(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		reader, writer := io.Pipe()
		w := newLogWriter(writer)
		line := []byte(strings.Repeat("x", 1023) + "\n")
		w.Write(line) // the one that is stuck
		synctest.Wait()
		start := time.Now()
		for range logBufferSize/len(line) + 5 {
			if n, err := w.Write(line); n != len(line) || err != nil {
				t.Fatalf("Write = %d, %v, want %d, nil", n, err, len(line))
			}
		}
		if w.dropped() != 5 || time.Since(start) != 0 {
			t.Errorf("%d lines dropped in %s, want the 5 for which there is no room, in no time", w.dropped(), time.Since(start))
		}
		w.close(3 * time.Second)
		if took := time.Since(start); took != 3*time.Second {
			t.Errorf("close took %s, want its timeout of 3s", took)
		}
		reader.Close()
		synctest.Wait()
		if want := int64(5 + 1 + logBufferSize/len(line)); w.dropped() != want {
			t.Errorf("%d lines dropped after the pipe was closed, want all %d", w.dropped(), want)
		}
	})
}

// When an output that had failed works again, the log says once how much is missing
// from it.
func TestLogWriterReportsDrops(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		full := errors.New("no space left on device")
		out := &logOutput{take: func([]byte) (int, error) { return 0, full }}
		w := newLogWriter(out)
		log := slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
			if a.Key == slog.TimeKey {
				return slog.Attr{}
			}
			return a
		}}))
		w.report = func(lines int64) { log.Warn("lines dropped", "lines", lines) }
		for i := range 5 {
			log.Info("lost", "i", i)
			time.Sleep(2 * logPause)
		}
		out.setTake(nil)
		for i := range 3 {
			log.Info("kept", "i", i)
			time.Sleep(2 * logPause)
		}
		w.close(time.Second)
		want := "level=INFO msg=kept i=0\nlevel=WARN msg=\"lines dropped\" lines=5\nlevel=INFO msg=kept i=1\nlevel=INFO msg=kept i=2\n"
		if got := strings.Join(out.seen(), ""); got != want || w.dropped() != 5 {
			t.Errorf("log = %q and %d dropped, want %q and 5", got, w.dropped(), want)
		}
	})
}

// An output that takes a part of a line and then fails does not glue the rest of
// the log to it.
func TestLogWriterTornLine(t *testing.T) {
	for _, test := range []struct {
		name  string
		taken int // bytes of "one\ntwo\n", before the disk is full
		want  string
		lost  int64
	}{
		{"nothing", 0, "three\n", 2},
		{"part of the first", 2, "on\nthree\n", 2},
		{"all but a line break", 3, "one\nthree\n", 2},
		{"one line", 4, "one\nthree\n", 1},
		{"part of the second", 6, "one\ntw\nthree\n", 1},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				out := &logOutput{}
				w := newLogWriter(out)
				io.WriteString(w, "zero\n") // so that the next two go together
				synctest.Wait()
				out.setTake(func(p []byte) (int, error) { return test.taken, io.ErrShortWrite })
				io.WriteString(w, "one\n")
				io.WriteString(w, "two\n")
				time.Sleep(2 * logPause)
				out.setTake(nil)
				io.WriteString(w, "three\n")
				w.close(time.Second)
				if got := strings.Join(out.seen(), ""); got != "zero\n"+test.want || w.dropped() != test.lost {
					t.Errorf("log = %q and %d dropped, want %q and %d", got, w.dropped(), "zero\n"+test.want, test.lost)
				}
			})
		})
	}
}

// What has gathered is written at the end; what comes after it is not.
func TestLogWriterClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		out := &logOutput{}
		w := newLogWriter(out)
		for i := range 100 {
			fmt.Fprintf(w, "%d\n", i)
		}
		start := time.Now()
		w.close(time.Hour)
		if n := strings.Count(strings.Join(out.seen(), ""), "\n"); n != 100 || time.Since(start) != 0 {
			t.Errorf("%d lines written %s after close, want 100 in no time", n, time.Since(start))
		}
		io.WriteString(w, "late\n")
		w.close(time.Hour) // does no harm
		if w.dropped() != 1 || strings.Contains(strings.Join(out.seen(), ""), "late") {
			t.Errorf("a line after close: %d dropped, want 1", w.dropped())
		}
	})
}

// Lines of many goroutines arrive whole, and each of them is written or counted.
func TestLogWriterParallel(t *testing.T) {
	const goroutines, lines = 8, 1000
	var out bytes.Buffer // the writing goroutine's, until close
	w := newLogWriter(&out)
	padding := strings.Repeat("x", 300)
	var all sync.WaitGroup
	for g := range goroutines {
		all.Go(func() {
			for i := range lines {
				fmt.Fprintf(w, "%d %d %s\n", g, i, padding)
			}
		})
	}
	all.Wait()
	w.close(10 * time.Second)
	written := int64(0)
	last := [goroutines]int{}
	for line := range strings.Lines(out.String()) {
		var g, i int
		var rest string
		if _, err := fmt.Sscanf(line, "%d %d %s\n", &g, &i, &rest); err != nil || rest != padding || i < last[g] {
			t.Fatalf("a line that was not written so: %q (%v)", line, err)
		}
		last[g] = i
		written++
	}
	if written+w.dropped() != goroutines*lines {
		t.Errorf("%d lines written and %d dropped, want %d together", written, w.dropped(), goroutines*lines)
	}
}

// The way of logrotate: move the file away, then ask for a new one.
func TestLogFileReopen(t *testing.T) {
	path := filepath.Join(t.TempDir(), "access.log")
	if err := os.WriteFile(path, []byte("before\n"), 0o640); err != nil {
		t.Fatal(err)
	}
	w, err := openLogFile(path)
	if err != nil {
		t.Fatal(err)
	}
	io.WriteString(w, "1\n")
	awaitFile(t, path, "before\n1\n")
	if err := os.Rename(path, path+".1"); err != nil {
		t.Fatal(err)
	}
	io.WriteString(w, "2\n")
	awaitFile(t, path+".1", "before\n1\n2\n")
	for range 3 { // whoever asks too often does no harm
		if err := w.reopen(); err != nil {
			t.Fatal(err)
		}
	}
	io.WriteString(w, "3\n")
	awaitFile(t, path, "3\n")

	// A path that can't be opened leaves things as they are.
	if err := os.Rename(path, path+".2"); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(path, 0o750); err != nil {
		t.Fatal(err)
	}
	if err := w.reopen(); err == nil {
		t.Error("reopen of a folder = nil, want an error")
	}
	io.WriteString(w, "4\n")
	w.close(10 * time.Second)
	awaitFile(t, path+".2", "3\n4\n")
	if w.dropped() != 0 {
		t.Errorf("%d lines dropped, want none", w.dropped())
	}
}

// awaitFile waits until a file has the content.
func awaitFile(t *testing.T, path, want string) {
	t.Helper()
	await(t, fmt.Sprintf("%q in %s", want, filepath.Base(path)), func() bool {
		data, err := os.ReadFile(path)
		return err == nil && string(data) == want
	})
}

// A disk that is full: Linux has one.
func TestLogFileFullDisk(t *testing.T) {
	if _, err := os.Stat("/dev/full"); err != nil {
		t.Skip("no /dev/full here")
	}
	w, err := openLogFile("/dev/full")
	if err != nil {
		t.Fatal(err)
	}
	for range 100 {
		io.WriteString(w, "line\n")
	}
	w.close(10 * time.Second)
	if w.dropped() != 100 {
		t.Errorf("%d lines dropped, want 100", w.dropped())
	}
}

func TestOpenLogFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "new.log")
	w, err := openLogFile(path)
	if err != nil {
		t.Fatal(err)
	}
	w.close(10 * time.Second)
	if info, err := os.Stat(path); err != nil || info.Mode().Perm()&0o037 != 0 {
		t.Errorf("a new log file has mode %v (%v), want none of group's write and others' bits", info.Mode(), err)
	}
	if _, err := openLogFile(filepath.Join(path, "below-a-file")); err == nil {
		t.Error("openLogFile below a file = nil, want an error")
	}
}

func BenchmarkLogWriter(b *testing.B) {
	line := []byte(strings.Repeat("x", 499) + "\n")
	w := newLogWriter(io.Discard)
	defer w.close(time.Second)
	b.SetBytes(int64(len(line)))
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			w.Write(line)
		}
	})
	b.ReportMetric(float64(w.dropped())/float64(b.N), "dropped/op")
}

// The whole cost of an access log line: slog's and the writer's.
func BenchmarkAccessLine(b *testing.B) {
	for _, format := range []string{"json", "text", "short"} {
		b.Run("format="+format, func(b *testing.B) {
			w := newLogWriter(io.Discard)
			defer w.close(time.Second)
			log, err := newLogger(w, format, "info", false)
			if err != nil {
				b.Fatal(err)
			}
			b.ReportAllocs()
			for b.Loop() {
				attrs := make([]slog.Attr, 0, 20)
				attrs = append(attrs,
					slog.String("request_id", "0123456789ABCDEF"), slog.String("user", "alice"),
					slog.String("method", "GET"), slog.String("operation", "GetObject"),
					slog.String("bucket", "photos"), slog.String("key", "2026/11/cat.jpg"),
					slog.Int("status", 200), slog.Int64("bytes_in", 0), slog.Int64("bytes_out", 1<<20),
					slog.Float64("duration_ms", 12.345), slog.Int("upstream_status", 200), slog.Float64("upstream_ms", 3.21),
					slog.String("client", "192.0.2.17:51234"), slog.String("user_agent", "aws-cli/2.15.0 Python/3.11.6 Linux/6.1 exe/x86_64.debian.12"),
					slog.String("upstream_request_id", "17A5C8E1F2B3D4A6"),
				)
				log.LogAttrs(b.Context(), slog.LevelInfo, "request", attrs...)
			}
		})
	}
}

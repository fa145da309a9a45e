package main

// The output of the log, for which no request waits. A line is copied into a buffer, and one
// goroutine writes what has gathered. While it writes, lines gather in a second buffer. If
// the output is too slow, or fails, whole lines are dropped and counted: a full disk must
// not delay a transfer.
//
//	request ──► gathering ──► (swap) ──► write(2)
//	request ──►     │
//	                └─ full: dropped
//
// A process that is killed loses at most the lines of the last logPause.

import (
	"bytes"
	"io"
	"os"
	"sync"
	"time"
)

const (
	logBufferSize = 1 << 20               // bytes in each of two buffers; about 2000 access log lines
	logPause      = 20 * time.Millisecond // between two writes, so that lines gather
)

// A logWriter is an io.Writer for log lines. Its methods may be called by several
// goroutines at once.
type logWriter struct {
	// report, if not nil, is called with the number of dropped lines once lines are
	// written again. It may log, because no lock is held. It is set before the first Write.
	report func(lines int64)

	path string        // of the file; "" for an output that was given
	wake chan struct{} // holds one: there is something to do
	rush chan struct{} // holds one: it should not wait for logPause
	done chan struct{} // closed when the goroutine has ended

	mu        sync.Mutex // guards the rest, and is never held while something is written
	gathering []byte     // whole lines
	lost      int64      // lines
	next      *os.File   // replaces the output; nil: none
	closed    bool
}

// newLogWriter returns a logWriter that writes to out, such as os.Stderr, and
// does not close it.
func newLogWriter(out io.Writer) *logWriter {
	return startLogWriter(out, "")
}

// openLogFile returns a logWriter that appends to the file at path. It creates the file if
// necessary, readable for the group, because collectors of logs read it so, and not for
// others, because it has the names of objects.
func openLogFile(path string) (*logWriter, error) {
	file, err := appendTo(path)
	if err != nil {
		return nil, err
	}
	return startLogWriter(file, path), nil
}

func appendTo(path string) (*os.File, error) {
	return os.OpenFile(path, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o640)
}

func startLogWriter(out io.Writer, path string) *logWriter {
	w := &logWriter{
		path:      path,
		wake:      make(chan struct{}, 1),
		rush:      make(chan struct{}, 1),
		done:      make(chan struct{}),
		gathering: make([]byte, 0, logBufferSize),
	}
	go w.run(out)
	return w
}

// Write takes one line, with its line break. It implements io.Writer, but never
// waits and never fails: a line that finds no room is dropped.
func (w *logWriter) Write(line []byte) (int, error) {
	w.mu.Lock()
	before := len(w.gathering)
	after := before + len(line)
	if w.closed || after > logBufferSize {
		w.lost++
		w.mu.Unlock()
		return len(line), nil
	}
	w.gathering = append(w.gathering, line...)
	w.mu.Unlock()
	if before == 0 {
		signalOnce(w.wake)
	}
	if before < logBufferSize/2 && after >= logBufferSize/2 {
		signalOnce(w.rush)
	}
	return len(line), nil
}

func signalOnce(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default: // it has been woken already
	}
}

// reopen opens the path again, after logrotate has moved the file. After an error the old
// file stays in use. Without a path it does nothing.
func (w *logWriter) reopen() error {
	if w.path == "" {
		return nil
	}
	file, err := appendTo(w.path)
	if err != nil {
		return err
	}
	w.mu.Lock()
	unused := w.next
	if w.next = file; w.closed {
		unused, w.next = file, nil
	}
	w.mu.Unlock()
	if unused != nil {
		unused.Close()
	}
	signalOnce(w.wake)
	signalOnce(w.rush)
	return nil
}

// dropped returns the number of lines that were dropped so far.
func (w *logWriter) dropped() int64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.lost
}

// close writes what has gathered, and waits at most timeout for that. Later lines are
// dropped.
func (w *logWriter) close(timeout time.Duration) {
	w.mu.Lock()
	w.closed = true
	w.mu.Unlock()
	signalOnce(w.wake)
	signalOnce(w.rush)
	select {
	case <-w.done:
	case <-time.After(timeout):
	}
}

// run writes until close. A single line is written at once; lines that follow within
// logPause are written together.
func (w *logWriter) run(out io.Writer) {
	defer close(w.done)
	spare := make([]byte, 0, logBufferSize)
	torn := false               // the output ends within a line
	var counted, reported int64 // lost lines: counted so far, and reported so far
	for {
		<-w.wake
		lines, next, closed := w.take(spare)
		if next != nil {
			w.closeOutput(out)
			out, torn = next, false
		}
		torn = w.writeLines(out, lines, torn)
		spare = lines[:0]
		if closed {
			w.closeOutput(out)
			return
		}
		lost := w.dropped()
		if lost == counted && lost > reported && w.report != nil {
			w.report(lost - reported)
			reported = lost
		}
		counted = lost
		select {
		case <-time.After(logPause):
		case <-w.rush:
		}
	}
}

// take swaps the buffers.
func (w *logWriter) take(spare []byte) (lines []byte, next *os.File, closed bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	lines, w.gathering = w.gathering, spare
	next, w.next = w.next, nil
	return lines, next, w.closed
}

func (w *logWriter) closeOutput(out io.Writer) {
	if file, ok := out.(*os.File); ok && w.path != "" {
		file.Close()
	}
}

// writeLines writes lines, or drops what can't be written, without a second attempt. After a
// line that was cut it begins a new one.
func (w *logWriter) writeLines(out io.Writer, lines []byte, torn bool) (tornNow bool) {
	if len(lines) == 0 {
		return torn
	}
	if torn {
		if _, err := out.Write([]byte("\n")); err != nil {
			w.drop(lines)
			return true
		}
	}
	n, err := out.Write(lines)
	if err == nil && n == len(lines) {
		return false
	}
	w.drop(lines[n:])
	return n > 0 && lines[n-1] != '\n'
}

// drop counts the lines that end in rest.
func (w *logWriter) drop(rest []byte) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.lost += int64(bytes.Count(rest, []byte("\n")))
}

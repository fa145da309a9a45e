package main

// The log in the short format, for a person at a terminal. A request is a line of columns
// (log_request.go). Any other line keeps all its attributes, and may be longer:
//
//	23:09:50 INFO  listening addr=127.0.0.1:8080 accounts=1 buckets=2 users=3
//
// The time is the local one. Programs read JSON: this format leaves out what JSON has, and may
// change.

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"
	"time"
)

// largestPooledLine bounds the buffers that are kept, in bytes.
const largestPooledLine = 16 << 10

// A shortHandler is a slog.Handler. Each record is one Write.
type shortHandler struct {
	least  slog.Level
	on     colours
	mu     *sync.Mutex // held while w is written to; shared with what WithAttrs and WithGroup return
	w      io.Writer
	groups string // before each key, such as "a.b."
	given  string // attributes of WithAttrs, as they are written
}

func newShortHandler(w io.Writer, least slog.Level, on colours) *shortHandler {
	return &shortHandler{least: least, on: on, mu: new(sync.Mutex), w: w}
}

// Enabled implements slog.Handler.
func (h *shortHandler) Enabled(_ context.Context, level slog.Level) bool { return level >= h.least }

// WithAttrs implements slog.Handler.
func (h *shortHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	with := *h
	b := []byte(h.given)
	for _, a := range attrs {
		b = appendPair(b, h.groups, a, nil)
	}
	with.given = string(b)
	return &with
}

// WithGroup implements slog.Handler.
func (h *shortHandler) WithGroup(group string) slog.Handler {
	if group == "" {
		return h
	}
	with := *h
	with.groups += group + "."
	return &with
}

// shortLines are buffers of a line.
var shortLines = sync.Pool{New: func() any { return new([]byte) }}

// Handle implements slog.Handler.
func (h *shortHandler) Handle(_ context.Context, r slog.Record) error {
	pooled := shortLines.Get().(*[]byte)
	b := (*pooled)[:0]
	if !r.Time.IsZero() {
		b = r.Time.Local().AppendFormat(h.on.begin(b, faint), time.TimeOnly)
		b = append(h.on.end(b, faint), ' ')
	}
	var q requestLine
	if h.groups == "" && h.given == "" && q.read(&r) {
		b = q.append(b, h.on, r.Level)
		if r.Level >= slog.LevelWarn {
			b = q.appendDetails(b)
		}
	} else {
		b = h.appendOther(b, &r)
	}
	b = append(b, '\n')
	h.mu.Lock()
	_, err := h.w.Write(b)
	h.mu.Unlock()
	if cap(b) <= largestPooledLine {
		*pooled = b
		shortLines.Put(pooled)
	}
	return err
}

// appendOther appends level, message and attributes. Values of several lines, such as the errors
// of a configuration, follow on lines of their own.
func (h *shortHandler) appendOther(b []byte, r *slog.Record) []byte {
	of := noColour
	switch {
	case r.Level >= slog.LevelError:
		of = boldRed
	case r.Level >= slog.LevelWarn:
		of = yellow
	}
	level := r.Level.String()
	b = h.on.end(append(h.on.begin(b, of), level...), of)
	b = appendSpaces(b, max(1, len("ERROR ")-len(level)))
	b = appendVisible(b, r.Message, false)
	b = append(b, h.given...)
	var blocks []byte
	r.Attrs(func(a slog.Attr) bool {
		b = appendPair(b, h.groups, a, &blocks)
		return true
	})
	return append(b, blocks...)
}

// appendPair appends " key=value". A value of several lines goes to blocks, unless that is nil.
func appendPair(b []byte, prefix string, a slog.Attr, blocks *[]byte) []byte {
	a.Value = a.Value.Resolve()
	if a.Equal(slog.Attr{}) {
		return b
	}
	if a.Value.Kind() == slog.KindGroup {
		if a.Key != "" {
			prefix += a.Key + "."
		}
		for _, inner := range a.Value.Group() {
			b = appendPair(b, prefix, inner, blocks)
		}
		return b
	}
	value := valueText(a.Value)
	if blocks != nil && strings.Contains(value, "\n") {
		*blocks = appendBlock(*blocks, prefix+a.Key+":\n"+value)
		return b
	}
	b = appendVisible(append(b, ' '), prefix+a.Key, false)
	b = append(b, '=')
	if value != "" && isClear(value) {
		return append(b, value...)
	}
	b = appendVisible(append(b, '"'), value, true)
	return append(b, '"')
}

func valueText(v slog.Value) string {
	switch v.Kind() {
	case slog.KindTime:
		return v.Time().Format(time.RFC3339)
	case slog.KindAny:
		return fmt.Sprintf("%+v", v.Any())
	}
	return v.String()
}

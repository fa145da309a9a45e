package main

// What is remembered of an exchange when it has ended: its line in the access log, and what it
// adds to the metrics and to the status page. The fields of the line are documented in docs/metrics-and-logs.md.

import (
	"cmp"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"time"
)

// record writes the line of the access log. Fields that come from the client are bounded in
// length here, and quoted by the log's handler. The query, the headers and a path that
// could not be parsed are left out: they may hold secrets.
func (x *exchange) record(aborted bool, cause slog.Attr) {
	level := slog.LevelInfo
	if x.status >= 500 || aborted && x.status != statusClientGone {
		level = slog.LevelWarn
	}
	// As LogAttrs does it, but without the search for the caller.
	if h := x.log.Handler(); h.Enabled(x.r.Context(), level) {
		r := slog.NewRecord(time.Now(), level, "request", 0)
		r.AddAttrs(x.appendAttrs(make([]slog.Attr, 0, 24), aborted, cause)...)
		h.Handle(x.r.Context(), r)
	}
}

// appendAttrs appends the fields of the access log line.
func (x *exchange) appendAttrs(attrs []slog.Attr, aborted bool, cause slog.Attr) []slog.Attr {
	attrs = append(attrs,
		slog.String("request_id", x.id),
		slog.String("user", x.userName()),
		slog.String("method", shortened(x.r.Method, 16)),
		slog.String("operation", x.operationName()),
		slog.String("bucket", x.withoutCredentials(x.target.bucket)),
		slog.String("key", x.withoutCredentials(x.target.key)),
		slog.Int("status", x.status),
		slog.Int64("bytes_in", x.body.received),
		slog.Int64("bytes_out", x.sent),
		slog.Float64("duration_ms", milliseconds(time.Since(x.start))),
		slog.Int("upstream_status", x.backend.status),
		slog.Float64("upstream_ms", milliseconds(x.backend.duration)),
		slog.String("client", x.r.RemoteAddr),
		slog.String("user_agent", shortened(x.withoutCredentials(shortened(x.r.UserAgent(), longestAgent)), 256)),
	)
	attrs = appendGiven(attrs, "key_id", x.keyID)
	if x.claimed != nil {
		attrs = append(attrs, slog.String("claimed_user", x.claimed.name))
	}
	attrs = appendGiven(attrs, "trace_id", traceID(x.r.Header))
	if x.backend.upstream != nil {
		attrs = append(attrs, slog.String("account", x.backend.upstream.account.name))
	}
	attrs = appendGiven(attrs, "upstream_request_id", x.backend.requestID)
	attrs = x.appendRefusal(attrs)
	if x.resumed > 0 {
		attrs = append(attrs, slog.Int("resumed", x.resumed))
	}
	if aborted {
		attrs = append(attrs, slog.Bool("aborted", true))
	}
	if cause.Key != "" {
		attrs = append(attrs, cause)
	}
	return attrs
}

// longestAgent is how much of a User-Agent is looked at, in bytes: more than is logged, so that a
// credential is not cut in two, and less than would take noticeable time.
const longestAgent = 2048

// appendGiven appends a field that is there only if it has a value.
func appendGiven(attrs []slog.Attr, name, value string) []slog.Attr {
	if value == "" {
		return attrs
	}
	return append(attrs, slog.String(name, value))
}

// appendRefusal appends why the request failed, and what the backend said of it.
func (x *exchange) appendRefusal(attrs []slog.Attr) []slog.Attr {
	attrs = appendGiven(attrs, "reason", string(x.reason()))
	e := x.refusal
	if e == nil {
		return attrs
	}
	attrs = append(attrs, slog.String("code", e.Code))
	if e.reason != "" && !e.reason.isBackends() && e.Message != s3Errors[e.Code].message {
		attrs = append(attrs, slog.String("message", plainText(x.withoutCredentials(cmp.Or(e.logged, e.Message)))))
	}
	if x.backend.repeats(e.upstream.code) {
		return attrs
	}
	attrs = appendGiven(attrs, "upstream_code", e.upstream.code)
	attrs = appendGiven(attrs, "upstream_message", x.withoutCredentials(e.upstream.message))
	return appendGiven(attrs, "expected_region", e.upstream.region)
}

// reason returns why the request failed, or "" if it did not, if the client left, or if the
// backend's error is an answer to the client.
func (x *exchange) reason() refusalReason {
	if x.status == statusClientGone {
		return ""
	}
	return x.why
}

// traceID returns the trace id of a traceparent header, or "" if there is none that is valid.
// https://www.w3.org/TR/trace-context/#traceparent-header
func traceID(h http.Header) string {
	const idEnd = len("00-0af7651916cd43dd8448eb211c80319c")
	values := h["Traceparent"]
	if len(values) != 1 || len(values[0]) < len("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01") {
		return ""
	}
	parent := values[0]
	id := parent[3:idEnd]
	if parent[2] != '-' || parent[idEnd] != '-' || parent[:2] == "ff" || strings.Trim(id, "0") == "" || strings.Trim(parent[:2]+id, "0123456789abcdef") != "" {
		return ""
	}
	return id
}

// whatWentWrong returns the causes of an error and of an answer that was not sent whole,
// or nil.
func (x *exchange) whatWentWrong() error {
	switch {
	case x.unsent == nil || x.cause == x.unsent:
		return x.cause
	case x.cause == nil:
		return x.unsent
	}
	return fmt.Errorf("%w; then %w", x.cause, x.unsent)
}

// count adds the request to the metrics, whose labels are names of the configuration, of the
// operation table and of reasons only, and to what the status page shows.
func (x *exchange) count(cause slog.Attr) {
	now := time.Now()
	s := sample{
		user:           x.userName(),
		operation:      x.operationName(),
		code:           x.status,
		reason:         x.reason(),
		duration:       now.Sub(x.start),
		received:       x.body.received,
		sent:           x.sent,
		requestID:      x.id,
		keyID:          x.keyID,
		upstreamStatus: x.backend.status,
		backend:        x.backendOutcome(),
	}
	if b := x.g.buckets[x.target.bucket]; b != nil {
		s.bucket, s.account = b.name, b.account.name
	}
	if u := x.backend.upstream; u != nil { // of a copy, perhaps the source's; as in the log
		s.account = u.account.name
	}
	if x.backend.status != 0 {
		s.firstByte = x.backend.duration
	}
	if s.reason != "" {
		if cause.Key != "" {
			s.cause = cause.Value.String()
		}
		if x.refusal != nil {
			s.errorCode = x.refusal.Code
		}
	}
	x.g.metrics.observe(s)
	if s.backend == failedOutcome {
		x.g.metrics.failed(x.backend.upstream.account.name, x.why, now)
	}
	x.remember(&s, now)
}

// backendOutcome returns what the last request to a backend says of its account. If the client
// left, it says nothing.
func (x *exchange) backendOutcome() outcome {
	switch {
	case x.backend.upstream == nil, x.status == statusClientGone:
		return unknownOutcome
	case x.why.isTrouble():
		return failedOutcome
	case x.backend.status == 0:
		return unknownOutcome
	}
	return answeredOutcome
}

// remember adds the request to what the status page shows.
func (x *exchange) remember(s *sample, now time.Time) {
	if x.user != nil {
		x.g.loads[x.user.name].history.observe(s, now)
	} else {
		x.g.recent.strangers.observe(s, now)
	}
	if u := x.backend.upstream; u != nil {
		u.history.observe(s, now)
	}
	if u := x.source.upstream; u != nil && x.status != statusClientGone {
		u.history.observe(&sample{backend: answeredOutcome, firstByte: x.source.duration}, now)
	}
	x.g.recent.errors.observe(s, now)
}

func (x *exchange) operationName() string {
	if x.op == nil {
		return ""
	}
	return x.op.name
}

func milliseconds(d time.Duration) float64 {
	return float64(d.Microseconds()) / 1000
}

package main

// One request and its answer: the edge of the gateway. An exchange is the
// http.ResponseWriter that handlers get; it counts, keeps slow peers moving,
// writes errors in the client's format and the access log line.

import (
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"runtime/debug"
	"strconv"
	"strings"
	"time"
)

// drainTimeout bounds how long a client may take to send the rest of a small
// body that nobody wants, and maxDrain what is small, in bytes.
const (
	drainTimeout = 5 * time.Second
	maxDrain     = 256 << 10
)

// statusClientGone is what the log says when the client left before an answer.
// The number is nginx's; it is never sent.
const statusClientGone = 499

// maxCause bounds what the log repeats of a backend's words, in bytes.
const maxCause = 1024

// An exchange belongs to the goroutine of its request, but for its body, which
// the upstream's goroutine reads.
type exchange struct {
	http.ResponseWriter
	r       *http.Request
	g       *gateway
	control *http.ResponseController
	log     *slog.Logger
	idle    time.Duration // how long a peer may make no progress
	id      string        // request id
	head    requestHead   // of the request, as it came
	start   time.Time

	target     target
	parsed     bool   // target is known
	path       string // as received, escaped
	user       *user
	claim      *claim // of a client that signs, verified; nil for one with x-api-key
	op         *operation
	query      []parameter  // as received; once classified, what the backend gets
	conn       *watchedConn // of the client; nil: nothing is known of it
	stream     *pulse       // of what is written to an HTTP/2 stream; nil: conn watches it
	unsent     error        // the first that kept the client from getting all of the answer
	out        flow         // of the answer's body
	batch      *batch       // of a DeleteObjects
	answered   holding      // of an answer that the gateway reads
	corked     *corkConn    // not nil: the answer is kept until the end, in corkBuffer
	corkBuffer []byte
	body       requestBody
	load       *userLoad // once the request counts there

	status           int // 0: no header was written yet
	sent             int64
	asked            *outgoing // sent last, and to whom; nil before the first
	sentTo           *upstream
	upstreamStatus   int
	upstreamID       string
	upstreamCode     string
	upstreamDuration time.Duration // until the first byte of the answer
	cause            error         // what the client was not told
}

func newExchange(w http.ResponseWriter, r *http.Request, g *gateway) *exchange {
	x := &exchange{
		ResponseWriter: w,
		r:              r,
		g:              g,
		control:        http.NewResponseController(w),
		log:            g.log,
		idle:           g.config.idleTimeout,
		id:             requestID(),
		head:           headOf(r),
		start:          time.Now(),
	}
	x.conn = watchedConnOf(r)
	g.metrics.inFlight.Add(1)
	x.body = requestBody{x: x, body: r.Body, ctx: r.Context(), stop: func() {}}
	x.watchClient()
	h := w.Header()
	g.config.harden(h)
	h["x-amz-request-id"] = []string{x.id}
	return x
}

// requestID returns 16 digits, as S3's request ids have them.
func requestID() string {
	const digits = "0123456789ABCDEF"
	var id [16]byte
	for i, n := 0, rand.Uint64(); i < len(id); i, n = i+1, n>>4 {
		id[i] = digits[n&15]
	}
	return string(id[:])
}

// end is deferred around a request: a panic becomes a 500, or if the answer has
// begun, a broken connection; then the line is logged.
func (x *exchange) end() {
	aborted := false
	switch p := recover(); {
	case p == nil:
	case p == http.ErrAbortHandler:
		aborted = true
	default:
		x.log.Error("panic", "request_id", x.id, "panic", panicWords(p), "stack", string(debug.Stack()))
		if aborted = x.status != 0 || x.left(); !aborted {
			aborted = x.failInternally()
		}
	}
	if !aborted {
		x.finish()
	}
	aborted = aborted || x.unsent != nil
	x.unwatchClient()
	x.leave()
	x.record(aborted)
	x.count()
	x.g.metrics.inFlight.Add(-1)
	if aborted {
		panic(http.ErrAbortHandler)
	}
}

// finish sends what is held back of an answer that is complete, so that the log says
// whether it could be sent.
func (x *exchange) finish() {
	switch {
	case x.corked != nil:
		x.control.Flush()
		x.note(x.uncork())
	case x.sent > 0 && (x.r.ProtoMajor == 1 || x.sent > http2Held):
		x.flush()
	case x.sent > 0: // net/http sends it when the handler has returned, on a stream of its own
		x.control.SetWriteDeadline(time.Now().Add(x.idle))
	}
}

// http2Held is how much of an answer net/http keeps back until the handler returns,
// in bytes. To flush so little would cost a frame more.
const http2Held = 4 << 10

// failInternally answers with a 500, and reports whether the client has left meanwhile.
func (x *exchange) failInternally() (aborted bool) {
	defer func() { aborted = recover() != nil }()
	x.fail(newError("InternalError", ""))
	return false
}

// leave ends the request for its user's max_in_flight. The client may send the next
// one as soon as it has the answer, so this comes before the log line.
func (x *exchange) leave() {
	x.body.stop()
	x.answered.free()
	if x.load != nil {
		x.load.inFlight.leave()
	}
}

// abort ends an answer that can't be completed in a way no client can take for
// its end: what was written goes out, then the connection or stream breaks.
func (x *exchange) abort(cause error) {
	if x.cause = cause; x.left() {
		x.cause = x.note(cause)
	}
	x.flush()
	panic(http.ErrAbortHandler)
}

// closeAfter has HTTP/1.1 close the connection after the answer. In HTTP/2, where the
// end of a stream is never in doubt, that would be the end of the others.
func (x *exchange) closeAfter() {
	if x.r.ProtoMajor == 1 {
		x.Header().Set("Connection", "close")
	}
}

// WriteHeader implements http.ResponseWriter.
func (x *exchange) WriteHeader(status int) {
	if x.needsLength(status) { // what begins an answer sees to that, so this is never true
		x.cause = errNoLength
		panic(http.ErrAbortHandler)
	}
	if h := x.Header(); h["Content-Type"] == nil {
		h["Content-Type"] = nil // or net/http would guess one from the body
	}
	x.status = status
	x.stopBody()
	x.ResponseWriter.WriteHeader(status)
}

// maxStreamPiece is how much is written to an HTTP/2 stream in one call, in bytes: a
// client that takes so much within the idle time makes progress.
const maxStreamPiece = 16 << 10

// Write implements http.ResponseWriter. It fails when the client takes nothing
// for the idle time.
func (x *exchange) Write(p []byte) (written int, err error) {
	if x.status == 0 {
		x.WriteHeader(http.StatusOK)
	}
	for err == nil && written < len(p) {
		var n int
		part := p[written:]
		part = part[:min(len(part), x.out.chunk())]
		if x.stream != nil {
			part = part[:min(len(part), maxStreamPiece)]
		}
		if err = x.out.wait(x.r.Context(), len(part)); err == nil {
			x.stream.begin(x.idle)
			n, err = x.ResponseWriter.Write(part)
			x.stream.end()
		}
		written += n
		x.sent += int64(n)
	}
	return written, x.note(err)
}

// flush sends what net/http holds back.
func (x *exchange) flush() error {
	x.stream.begin(x.idle)
	err := x.control.Flush()
	x.stream.end()
	return x.note(err)
}

// note remembers the error of a write to the client, and returns it with its cause.
func (x *exchange) note(err error) error {
	if err == nil {
		return nil
	}
	if x.unsent == nil {
		x.unsent = x.clientStalled()
	}
	if x.unsent == nil {
		x.unsent = fmt.Errorf("the client left before it had everything: %w", err)
	}
	return x.unsent
}

// clientStalled returns the stall of a client that took nothing, or nil.
func (x *exchange) clientStalled() error {
	if err := x.stream.stalled(); err != nil || x.conn == nil {
		return err
	}
	return x.conn.writes.stalled()
}

// watchClient has a client cut off that makes no progress. In HTTP/1.1 its connection
// sees to what is written; in HTTP/2, where one connection carries many requests, each
// stream is watched.
func (x *exchange) watchClient() {
	if x.conn != nil && x.conn.idle.Load() != int64(x.idle) {
		x.conn.idle.Store(int64(x.idle))
	}
	if x.r.ProtoMajor == 1 {
		if x.conn != nil {
			x.body.reads = x.conn.reads
		}
		return
	}
	x.stream = streamPulse("the client took nothing for", x.conn, x.control.SetWriteDeadline)
	x.body.reads = streamPulse("the client sent nothing for", nil, x.control.SetReadDeadline)
}

// unwatchClient ends the watch of the streams, before net/http takes them back.
func (x *exchange) unwatchClient() {
	if x.stream != nil {
		x.stream.stop()
		x.body.reads.stop()
	}
}

// streamPulse watches one direction of an HTTP/2 stream. The stream makes progress when
// a call ends; and while the whole connection is blocked by a client that takes bytes
// of it, for then the streams wait for their turn. A nil conn is never blocked.
func streamPulse(what string, conn *watchedConn, setDeadline func(time.Time) error) *pulse {
	var seen uint64
	return &pulse{what: what,
		look: func() (count uint64, waiting bool) {
			if conn != nil {
				count, seen = conn.writes.blocked(seen)
			}
			return count, true
		},
		cut: func() { setDeadline(longAgo) },
	}
}

// Unwrap lets http.ResponseController reach the connection.
func (x *exchange) Unwrap() http.ResponseWriter { return x.ResponseWriter }

// wantsXML reports whether errors go out as S3's XML: for a client that signs,
// as every S3 tool does, and for listings, whose answer is XML as well.
func (x *exchange) wantsXML() bool {
	return x.signs() || x.parsed && x.r.Method == http.MethodGet &&
		(x.target.level() == bucketLevel || x.target.level() == serviceLevel)
}

// signs reports whether the client is an S3 tool. It says nothing of whether
// the signature is good, or looked at.
func (x *exchange) signs() bool {
	return strings.HasPrefix(x.r.Header.Get("Authorization"), signatureAlgorithm) ||
		strings.Contains(x.r.URL.RawQuery, "X-Amz-Credential=") || strings.Contains(x.r.URL.RawQuery, "AWSAccessKeyId=")
}

// fail answers with an error: the one place where one is written.
func (x *exchange) fail(e *apiError) {
	x.cause, x.upstreamCode = e.cause, e.upstreamCode
	x.answered.free()
	if x.left() {
		x.status = statusClientGone
		panic(http.ErrAbortHandler)
	}
	x.complete(e)
	h := x.Header()
	if e.header != nil {
		returnErrorHeader(h, e.header)
	}
	var body []byte
	if x.wantsXML() {
		h["Content-Type"] = []string{"application/xml"}
		body = appendErrorXML(nil, e, x.resource(), x.id)
	} else {
		h["Content-Type"] = []string{"application/json"}
		body = appendErrorJSON(e, x.id)
	}
	h["Content-Length"] = []string{strconv.Itoa(len(body))}
	if x.r.Method == http.MethodHead { // no body, and so no length of one
		delete(h, "Content-Length")
		delete(h, "Content-Type")
	}
	x.WriteHeader(e.Status)
	if x.r.Method != http.MethodHead {
		x.Write(body)
	}
}

// complete adds to an error what the request tells of it: clients that create an object
// only if there is none look for the condition, and not every backend names it.
func (x *exchange) complete(e *apiError) {
	if e.Code == "PreconditionFailed" && e.condition == "" {
		e.condition = conditionOf(x.r.Header)
	}
}

// left reports whether the client has gone without an answer. An interrupted body may
// have ended the context, too.
func (x *exchange) left() bool {
	return x.r.Context().Err() != nil && x.body.failure() == nil && !x.body.wasInterrupted()
}

func appendErrorJSON(e *apiError, requestID string) []byte {
	body, err := json.Marshal(struct {
		Error     string `json:"error"`
		Status    int    `json:"status"`
		Code      string `json:"code"`
		Condition string `json:"condition,omitempty"`
		RequestID string `json:"request_id"`
	}{e.Message, e.Status, e.Code, e.condition, requestID})
	if err != nil {
		panic(err) // strings and a number
	}
	return append(body, '\n')
}

// resource is the path as errors name it, escaped: a key may hold what no XML can.
func (x *exchange) resource() string {
	switch x.target.level() {
	case objectLevel:
		return "/" + x.target.bucket + "/" + uriEncode(x.target.key, false)
	case bucketLevel:
		return "/" + x.target.bucket
	}
	return "/"
}

// stopBody gives up on what is left of the request's body, before the answer.
// Of a small rest, the end is looked for, so that the connection can be kept, as
// net/http does; but that would wait for it as long as the client likes. A client
// that waits for "100 Continue" is not to be asked for its body now.
func (x *exchange) stopBody() {
	if x.r.ContentLength == 0 || x.r.ProtoMajor != 1 || x.body.done.Load() {
		return
	}
	if x.body.err.Load() != nil || x.r.Header.Get("Expect") != "" {
		x.control.SetReadDeadline(time.Now())
		return
	}
	// Less than the time that the answer, which waits for this, has to be written.
	x.control.SetReadDeadline(time.Now().Add(min(drainTimeout, x.idle/2)))
	if x.r.ContentLength > maxDrain {
		return
	}
	if _, err := io.CopyN(io.Discard, x.body.body, maxDrain); err == io.EOF {
		x.body.done.Store(true)
		x.control.SetReadDeadline(time.Time{})
	}
}

// record writes the access log line. Fields that come from the client are
// quoted by the handler and bounded in length here; the query, the headers and
// a path that could not be parsed are not in it, for they may hold secrets.
func (x *exchange) record(aborted bool) {
	level := slog.LevelInfo
	if x.status >= 500 || aborted && x.status != statusClientGone {
		level = slog.LevelWarn
	}
	attrs := make([]slog.Attr, 0, 20)
	attrs = append(attrs,
		slog.String("request_id", x.id),
		slog.String("user", x.userName()),
		slog.String("method", shortened(x.r.Method, 16)),
		slog.String("operation", x.operationName()),
		slog.String("bucket", x.withoutCredentials(x.target.bucket)),
		slog.String("key", x.withoutCredentials(x.target.key)),
		slog.Int("status", x.status),
		slog.Int64("bytes_in", x.body.received.Load()),
		slog.Int64("bytes_out", x.sent),
		slog.Float64("duration_ms", milliseconds(time.Since(x.start))),
		slog.Int("upstream_status", x.upstreamStatus),
		slog.Float64("upstream_ms", milliseconds(x.upstreamDuration)),
		slog.String("client", x.r.RemoteAddr),
		slog.String("user_agent", shortened(x.withoutCredentials(x.r.UserAgent()), 256)),
	)
	if x.upstreamID != "" {
		attrs = append(attrs, slog.String("upstream_request_id", x.upstreamID))
	}
	if x.upstreamCode != "" && !x.repeats(x.upstreamCode) {
		attrs = append(attrs, slog.String("upstream_code", x.upstreamCode))
	}
	if aborted {
		attrs = append(attrs, slog.Bool("aborted", true))
	}
	if cause := x.whatWentWrong(); cause != nil {
		attrs = append(attrs, causeAttr(cause))
	}
	// As LogAttrs does it, but for the search of the caller.
	if h := x.log.Handler(); h.Enabled(x.r.Context(), level) {
		r := slog.NewRecord(time.Now(), level, "request", 0)
		r.AddAttrs(attrs...)
		h.Handle(x.r.Context(), r)
	}
}

// whatWentWrong is the cause of an error, or of an answer that was not sent whole, or of
// both; nil if all went well.
func (x *exchange) whatWentWrong() error {
	switch {
	case x.unsent == nil || x.cause == x.unsent:
		return x.cause
	case x.cause == nil:
		return x.unsent
	}
	return fmt.Errorf("%w; then %w", x.cause, x.unsent)
}

// count adds the request to the metrics, whose labels are names of the configuration
// and of the operation table only.
func (x *exchange) count() {
	s := sample{
		user:      x.userName(),
		operation: x.operationName(),
		code:      x.status,
		duration:  time.Since(x.start),
		received:  x.body.received.Load(),
		sent:      x.sent,
	}
	if a := x.g.config.buckets[x.target.bucket]; a != nil {
		s.bucket, s.account = x.target.bucket, a.name
	}
	if x.upstreamStatus != 0 {
		s.firstByte = x.upstreamDuration
	}
	x.g.metrics.observe(s)
}

func (x *exchange) userName() string {
	if x.user == nil {
		return ""
	}
	return x.user.name
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

package main

// One request and its answer: the edge of the gateway. An exchange is the
// http.ResponseWriter that handlers get. It writes errors in the client's format, and the
// line of the access log. It knows nothing of what an operation does.

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"runtime/debug"
	"strconv"
	"time"
)

// statusClientGone is the status in the log of a request whose client left before an answer.
// The number is nginx's; it is never sent.
const statusClientGone = 499

// An exchange is one request and its answer. It belongs to the goroutine of its request.
type exchange struct {
	request
	answer
	backend backendCall
	source  backendCall // that succeeded, of a copy between accounts whose target was asked then
	g       *gateway
	log     *slog.Logger
	id      string // request id
	start   time.Time

	op       *operation
	load     *userLoad            // nil until the request is counted as in flight
	busy     []*inFlight          // of the accounts that it was sent to
	answered holding              // memory of an answer that the gateway reads
	check    func(*element) error // checks the answer's document against the request; nil: nothing to check
	resumed  int                  // how often a broken answer was asked for again, or continued
	refusal  *apiError            // the answer, if it is an error
	why      refusalReason        // the refusal's, or that of an answer which the backend broke off
	cause    error                // for the log, not for the client
}

func newExchange(w http.ResponseWriter, r *http.Request, g *gateway) *exchange {
	x := &exchange{g: g, log: g.log, id: requestID(), start: time.Now()}
	g.metrics.inFlight.Add(1)
	x.request = request{r: r, head: headOf(r), auth: g.auth}
	x.answer = newAnswer(w, r, &x.body, g.config.idleTimeout)
	x.body = newRequestBody(r, x.control, x.idle)
	x.watchClient()
	h := w.Header()
	harden(h, g.config.hsts)
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

// end is deferred around a request. It turns a panic into a 500, or into a broken
// connection if the answer has begun, and writes the line of the log.
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
	cause := causeAttr(x.whatWentWrong())
	x.record(aborted, cause)
	x.count(cause)
	x.g.metrics.inFlight.Add(-1)
	if aborted {
		panic(http.ErrAbortHandler)
	}
}

// failInternally answers with a 500. It reports whether that was not possible either.
func (x *exchange) failInternally() (aborted bool) {
	defer func() { aborted = recover() != nil }()
	x.fail(newError(reasonInternal, "InternalError", ""))
	return false
}

// leave gives back what the request holds: memory, and its places among the requests in
// flight of its user and accounts. It comes before the line of the log, because a client may
// send the next request as soon as it has the answer.
func (x *exchange) leave() {
	x.body.stop()
	x.answered.free()
	if x.load != nil {
		x.load.inFlight.leave()
	}
	for _, n := range x.busy {
		n.leave()
	}
}

// abort ends an answer that can't be completed, so that no client takes it for complete:
// it sends what was written, and then breaks the connection or the stream.
func (x *exchange) abort(cause error) {
	x.cause = cause
	if x.left() {
		x.cause = x.note(cause)
	}
	if x.unsent == nil {
		x.why = troubleOf(cause)
	}
	x.flush()
	panic(http.ErrAbortHandler)
}

// fail answers with an error. No other function does, except heartbeat.fail after a slow
// answer has begun.
func (x *exchange) fail(e *apiError) {
	x.refuse(e)
	x.answered.free()
	if x.left() {
		x.status = statusClientGone
		panic(http.ErrAbortHandler)
	}
	x.complete(e)
	h := x.Header()
	if e.header != nil {
		returnHeaderWithoutBody(h, e.header)
	}
	body := x.errorDocument(e)
	h["Content-Length"] = []string{strconv.Itoa(len(body))}
	if x.r.Method == http.MethodHead { // RFC 9110 section 9.3.2: no body
		delete(h, "Content-Length")
		delete(h, "Content-Type")
	}
	x.WriteHeader(e.Status)
	if x.r.Method != http.MethodHead {
		x.Write(body)
	}
}

// refuse notes the error that the client gets.
func (x *exchange) refuse(e *apiError) { x.refusal, x.why, x.cause = e, e.reason, e.cause }

// complete adds the condition that failed to an error, from the request: clients that
// create an object only if there is none look for it, and not every backend names it.
func (x *exchange) complete(e *apiError) {
	if e.Code == "PreconditionFailed" && e.condition == "" {
		e.condition = conditionOf(x.r.Header)
	}
}

// errorDocument sets the type of an error's document for the client, and returns it.
func (x *exchange) errorDocument(e *apiError) []byte {
	h := x.Header()
	switch {
	case x.wantsPage(e):
		return pageInto(h)
	case x.wantsXML():
		h["Content-Type"] = []string{"application/xml"}
		return append([]byte(xmlHeader), errorXML(e, x.resource(), x.id)...)
	}
	h["Content-Type"] = []string{"application/json"}
	return appendErrorJSON(e, x.id)
}

func appendErrorJSON(e *apiError, id string) []byte {
	body, err := json.Marshal(struct {
		Error     string `json:"error"`
		Status    int    `json:"status"`
		Code      string `json:"code"`
		Condition string `json:"condition,omitempty"`
		RequestID string `json:"request_id"`
	}{e.Message, e.Status, e.Code, e.condition, id})
	if err != nil {
		panic(err) // strings and a number
	}
	return append(body, '\n')
}

// documentShare is the user's share of the memory for documents.
func (x *exchange) documentShare() *memoryShare {
	if x.load == nil {
		return nil
	}
	return &x.load.documents
}

// transportError returns the error for a request without a whole answer: the client's, if its
// body failed, SlowDown, if the account is refused, or the backend's.
func (x *exchange) transportError(err error) *apiError {
	var checked *apiError
	if errors.As(err, &checked) { // a check of the body failed
		return checked
	}
	if isEarly(err) {
		return badGateway(err)
	}
	if failure := x.body.failure(); failure != nil {
		return failure
	}
	if refused, ok := errors.AsType[*circuitError](err); ok {
		e := slowDown(reasonBackendDown, "the storage service does not answer; try again later", refused.retryAfter)
		e.cause = err
		return e
	}
	var timeout net.Error
	if errors.Is(err, errNoProgress) || errors.Is(err, context.DeadlineExceeded) || errors.As(err, &timeout) && timeout.Timeout() {
		e := newError(reasonBackendTimeout, "GatewayTimeout", "")
		e.cause = err
		return e
	}
	return badGateway(err)
}
